"""A running reference for tests: its commands, its API, its database."""

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
import numpy as np
import psutil

from reference_impl import inspection, state
from reference_impl.auth import Tokens

CLUSTERS = {
    name: os.environ[name] for name in ("FLASHCROWD_KAFKA_BOOTSTRAP", "FLASHCROWD_ELASTICSEARCH_URL") if name in os.environ
}
"""With these variables (`scripts/services up` prints them) every stack uses that Kafka and OpenSearch, under names of its own."""
ROOT = Path(__file__).resolve().parent.parent.parent
USERS = 60
CELEBRITY = 0
THRESHOLD = 5


def edges() -> tuple[np.ndarray, np.ndarray]:
    """(followee, follower): users 1..30 follow the celebrity; each user u follows u+1 and u+2 (modulo the rest)."""
    pairs = {(CELEBRITY, user) for user in range(1, 31)}
    pairs |= {(1 + (user + step) % 39, user) for user in range(1, 40) for step in (0, 1)}
    ordered = np.array(sorted(pair for pair in pairs if pair[0] != pair[1]), dtype=np.int64)
    return ordered[:, 0], ordered[:, 1]


def eventually(condition, within_s=30.0, what="the condition"):
    """Wait until ``condition()`` is true; return what it returned."""
    deadline = time.monotonic() + within_s
    while True:
        if result := condition():
            return result
        assert time.monotonic() < deadline, f"{what} did not come true within {within_s} s"
        time.sleep(0.05)


@dataclass
class Stack:
    state_dir: Path
    variables: dict[str, str] = field(default_factory=dict)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30))

    def __post_init__(self):
        # Half of the default: the embedded broker takes half of a session to let a member join, and all of it to give up a dead one.
        self.variables = {"FLASHCROWD_SESSION_TIMEOUT_S": "3"} | self.variables
        if CLUSTERS:
            self.variables |= CLUSTERS | {"FLASHCROWD_NAME_PREFIX": f"test-{uuid.uuid4().hex[:8]}-"}

    def command(self, *arguments, code=0, **variables):
        """Run ``python -m reference_impl``; return the finished process, whose exit code has to be ``code``."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("FLASHCROWD_")}
        environment["FLASHCROWD_SUPERVISED"] = "0"  # most tests that kill something want it to stay dead
        environment |= self.variables | variables | {"FLASHCROWD_STATE_DIR": str(self.state_dir)}
        done = subprocess.run(
            [sys.executable, "-m", "reference_impl", *map(str, arguments)],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done

    @property
    def state(self):
        return json.loads((self.state_dir / "state.json").read_text())

    def bearer(self, user):
        """The header of a user who is logged in."""
        tokens = Tokens(self.state["settings"]["token_secret"], lifetime_s=3600)
        return {"Authorization": f"Bearer {tokens.issue(user)}"}

    def view(self, url, method="GET", headers=None):
        """What user 1 gets to see of a media file."""
        return httpx.request(method, url, headers=self.bearer(1) | (headers or {}), timeout=60)

    def process(self, name):
        pid = next(child["pid"] for child in self.state["processes"] if child["name"] == name)
        return psutil.Process(pid)

    def kill(self, *names):
        """Kill processes; return once they are dead."""
        processes = [self.process(name) for name in names]
        for process in processes:
            process.kill()
        eventually(lambda: all(map(gone, processes)), what="the death")

    def status(self, code=0):
        """What the command ``status`` shows, without starting it; ``code``: the exit code that it would have."""
        report = inspection.report(state.read(self.state_dir))
        assert code == (0 if report["up"] else 1), report
        return report

    def sql(self, query, *arguments):
        """The rows of a query."""
        return asyncio.run(self._fetch(query, arguments))

    async def _fetch(self, query, arguments):
        connection = await asyncpg.connect(self.state["database_url"])
        try:
            return [tuple(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    def request(self, method, path, user=None, headers=None, **options):
        """Send a request as ``user``; return the answer."""
        headers = ({} if user is None else self.bearer(user)) | (headers or {})
        return self.client.request(method, self.state["api_url"] + path, headers=headers, **options)

    def ask(self, method, path, user, code, **options):
        """The decoded body (None if it is empty) of an answer whose status has to be ``code``."""
        answer = self.request(method, path, user, **options)
        assert answer.status_code == code, (answer.status_code, answer.text)
        return answer.json() if answer.content else None

    def publish(self, author, title="a title"):
        return self.ask("POST", "/v1/posts", author, 201, json={"title": title, "content": "text"})["id"]

    def feed(self, user, limit=100):
        return [post["id"] for post in self.ask("GET", f"/v1/feed?limit={limit}", user, 200)["posts"]]

    def likes(self, post):
        return self.ask("GET", f"/v1/posts/{post}", 1, 200)["likes"]

    def milestones(self, name):
        """(started_at, reached_at, weight) of every sample so far."""
        lines = [line for path in self.state_dir.glob("milestones-*.csv") for line in path.read_text().splitlines()]
        fields = [line.split(",") for line in lines]
        return [(float(f[1]), float(f[2]), int(f[3])) for f in fields if f[0] == name]

    def descendants(self):
        """Every process that belongs to this reference."""
        found = []
        for child in self.state["processes"]:
            process = psutil.Process(child["pid"])
            found += [process, *process.children(recursive=True)]
        return found


def gone(process):
    """Whether the process has ended (a zombie has)."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
