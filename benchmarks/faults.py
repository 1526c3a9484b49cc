"""Faults under load, and the table of what they cost: accepted, applied, lost, doubled, time to recover.

    python -m benchmarks.faults                        # every fault, about six minutes
    python -m benchmarks.faults --only "kill kafka" --only "stall kafka"
    python -m benchmarks.faults --hold 3 --json faults.json

Starts a reference of its own (embedded servers, the broker's log in the object store) and stops it. Exit code 1 if anything was
lost or doubled, or something did not recover by itself. tests/reference_impl/test_faults.py does the same, shorter.

With the variables that `scripts/services up` prints, broker and search engine are Apache Kafka and OpenSearch. They have no
supervisor of ours: the same command, which starts again what has died, is in its place.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx
import psutil

from benchmarks.faulty_load import Count, Load, count, headers_of, wait_until
from reference_impl import inspection, lifecycle, processes, state
from reference_impl.settings import ENV_PREFIX
from reference_impl.state import State
from reference_impl.uploads import nginx
from reference_impl.uploads.nginx import NGINX

Result = TypeVar("Result")
USERS, POSTS_PER_USER, FOLLOWEES = 100, 3, 5
RECOVERS_WITHIN_S, SETTLES_WITHIN_S = 120.0, 120.0
WORKERS = (
    "fanout_dispatcher", "fanout_worker_1", "interaction_worker_1", "notification_worker_1", "cdc", "indexer_1",
    "upload_reconciler",
)  # fmt: skip


PATIENT = {"produce_timeout_s": 20.0, "topic_partitions": 2, "fetch_wait_s": 0.5}
"""A log in the store takes a request for each partition and batch; on a busy machine five seconds are not enough for many."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is done to processes, by their names in the state file, and for how long; 0: until the supervisor mends it."""

    name: str
    processes: tuple[str, ...]
    signal: int = signal.SIGKILL
    held: bool = False
    """Stopped for ``--hold`` seconds: connections stay open, and nothing answers."""
    goes_on: tuple[str, ...] = ()
    """Operations of which none may be refused meanwhile."""


EDGE = (processes.EDGE, *([NGINX] if nginx.is_installed() else []))
WITHOUT_UPLOADS = ("feed.open", "interactions.like", "interactions.comment", "feed.publish")
FAULTS = (
    Fault("kill all workers", WORKERS, goes_on=(*WITHOUT_UPLOADS, "search.query")),
    Fault("kill api", ("api",)),
    Fault("kill kafka", ("kafka",), goes_on=("feed.open", "search.query")),
    Fault("kill postgres", ("postgres",)),
    Fault("kill store", ("store",), goes_on=("feed.open", "search.query")),
    Fault("kill redis", ("redis",), goes_on=(*WITHOUT_UPLOADS, "search.query")),
    Fault("kill search_engine", ("search_engine",), goes_on=WITHOUT_UPLOADS),
    Fault("stall kafka", ("kafka",), signal.SIGSTOP, held=True, goes_on=("feed.open", "search.query")),
    Fault("stall redis", ("redis",), signal.SIGSTOP, held=True, goes_on=(*WITHOUT_UPLOADS, "search.query")),
    Fault("stall search_engine", ("search_engine",), signal.SIGSTOP, held=True, goes_on=WITHOUT_UPLOADS),
    *(Fault(f"kill {name}", (name,), goes_on=(*WITHOUT_UPLOADS, "search.query")) for name in (*WORKERS, "push_gateway", *EDGE)),
)


@dataclasses.dataclass
class Outcome:
    """A row of the table."""

    fault: str
    accepted: int
    count: Count
    refused: dict[str, int]
    recovery_s: float | None
    """From the end of the fault (a kill: at once) until all are at work and a new comment is applied; None: it was not."""
    seen: list[str]
    """What health and metrics said meanwhile: servers that do not answer, processes that were started again."""

    @property
    def good(self) -> bool:
        """Recovered without a hand, and nothing lost or doubled."""
        return self.recovery_s is not None and self.count.clean


def health(current: State) -> dict[str, str]:
    """Server → what the API says of it; without an answer of the API itself ``{"api": "no answer"}``."""
    try:
        answer = httpx.get(current.api_url + "/healthz", timeout=8)
        return dict(answer.json()["dependencies"])
    except (httpx.HTTPError, ValueError, KeyError):
        return {"api": "no answer"}


def restarts(current: State) -> dict[str, float]:
    """Process → times that the supervisor has started it again."""
    supervisor = next(child for child in current.processes if child.role == processes.SUPERVISOR)
    with urllib.request.urlopen(supervisor.metrics_url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    prefix = 'flashcrowd_supervisor_restarts_total{process="'
    found = (line.removeprefix(prefix).split('"} ') for line in lines if line.startswith(prefix))
    return {name: float(value) for name, value in found}


DEPENDENCIES = {name: name for name in ("kafka", "store", "redis", "search_engine")} | {"postgres": "database"}
"""Process → what the API's health calls it."""


def all_well(state_dir: Path, victims: Sequence[str] = ()) -> bool:
    """Whether every process is at work, and the victims among the servers answer."""
    current = state.read(state_dir)
    assert current is not None
    return (
        all(processes.alive(child) for child in current.processes)
        and all(lifecycle.ready(child, current.instance_id) for child in current.processes if child.metrics_url)
        and {health(current).get(DEPENDENCIES.get(name, name), "ok") for name in victims} <= {"ok"}
    )


def comment_is_applied(current: State, within_s: float) -> bool:
    """Whether a comment of now gets to the database."""
    text = uuid.uuid4().hex
    headers = headers_of(current, 1) | {"Idempotency-Key": text}
    url, deadline = f"{current.api_url}/v1/posts/1/comments", time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if httpx.post(url, json={"text": text}, headers=headers, timeout=8).status_code == 202:
                break
        except httpx.HTTPError:
            pass
        time.sleep(0.2)

    async def there() -> bool:
        connection = await asyncpg.connect(current.database_url, timeout=5)
        try:
            return bool(await connection.fetchval("SELECT count(*) FROM comments WHERE text = $1", text))
        finally:
            await connection.close()

    return wait_until(lambda: asked(there()), max(1.0, deadline - time.monotonic()))


def asked(question: Coroutine[Any, Any, Result]) -> Result | None:
    """The database's answer; None while it gives none."""
    try:
        return asyncio.run(question)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return None


SERVICES = Path(__file__).resolve().parent.parent / "scripts" / "services"
SERVICE_NAMES = {"kafka": "kafka", "search_engine": "opensearch"}
"""Process → its name there."""


def victims_of(fault: Fault, current: State) -> list[psutil.Process]:
    """The processes that it hits: ours, and of `scripts/services` those that are in the place of ours."""
    pids = {child.name: child.pid for child in current.processes}
    for name, service in SERVICE_NAMES.items():
        if name in fault.processes and name not in pids:
            default = Path(tempfile.gettempdir()) / f"flashcrowd-{os.getuid()}" / "services"
            pids[name] = int((Path(os.environ.get("FLASHCROWD_SERVICES_DIR", default)) / f"{service}.pid").read_text())
    return [psutil.Process(pids[name]) for name in fault.processes]


def mend_services(fault: Fault, current: State) -> list[str]:
    """Start again what has died and has no supervisor of ours; return their names."""
    ours = {child.name for child in current.processes}
    dead = [name for name in fault.processes if name not in ours and not fault.held]
    if dead:
        subprocess.run([SERVICES, "up"], check=True, capture_output=True)
    return dead


def suffer(fault: Fault, current: State, before_s: float, hold_s: float) -> set[str]:
    """Let the fault happen after ``before_s``; return what health said meanwhile, and what had to be started again by the way.

    A stall lasts ``hold_s``; so long a service of `scripts/services` that was killed stays away, too.
    """
    seen: set[str] = set()
    time.sleep(before_s)
    victims = victims_of(fault, current)
    ours = {child.name for child in current.processes}
    try:
        for victim in victims:
            victim.send_signal(fault.signal)
        until = time.monotonic() + (hold_s if fault.held or not ours.issuperset(fault.processes) else 0.5)
        while True:
            seen |= {f"health: {name}" for name, answer in health(current).items() if answer != "ok"}
            if time.monotonic() >= until:
                break
            time.sleep(0.3)
    finally:
        if fault.held:
            for victim in victims:
                victim.send_signal(signal.SIGCONT)
        seen |= {f"restarted: {name}" for name in mend_services(fault, current)}
    return seen


def run(fault: Fault, state_dir: Path, before_s: float, hold_s: float, say: Callable[[str], None]) -> Outcome:
    """Load, fault, recovery, count."""
    current = state.read(state_dir)
    assert current is not None
    started_before = restarts(current)
    load = Load(current, USERS, USERS * POSTS_PER_USER, seed=hash(fault.name) % 1000)
    seen: set[str] = set()
    load.start()
    try:
        say(fault.name)
        seen |= suffer(fault, current, before_s, hold_s)
        began = time.monotonic()
        recovered = wait_until(lambda: all_well(state_dir, fault.processes), RECOVERS_WITHIN_S)
        recovered = recovered and comment_is_applied(current, RECOVERS_WITHIN_S)
        recovery_s = time.monotonic() - began if recovered else None
    finally:
        load.stop()
    say("counting")
    found = settled(current, load)
    after = restarts(current)
    seen |= {f"restarted: {name}" for name, times in after.items() if times > started_before.get(name, 0)}
    refused = {name: load.refused(name) for name in sorted({operation for operation, _ in load.answers})}
    return Outcome(fault.name, load.accepted.total(), found, refused, recovery_s, sorted(seen))


def settled(current: State, load: Load) -> Count:
    """The count once it is clean, or when the time for that is over."""
    def clean() -> bool:
        found = asked(count(current.database_url, load.accepted))
        return found is not None and found.clean and bool(inspection.caught_up(current))

    wait_until(clean, SETTLES_WITHIN_S, 0.5)
    return asyncio.run(count(current.database_url, load.accepted))


def bring_up(state_dir: Path, **changes: Any) -> State:
    """A seeded reference of our own; the broker's log is in the store, so that it outlives the broker.

    By the command, as everybody does: what it starts belongs to the system, which takes note of its deaths.
    """
    settings = {"state_dir": state_dir, "kafka_storage": "store", **PATIENT, "feed_threshold": 50} | changes
    settings.setdefault("name_prefix", f"faults-{uuid.uuid4().hex[:8]}-")
    variables = {ENV_PREFIX + name.upper(): str(value) for name, value in settings.items()}
    for command in (["up"], ["seed", "--users", str(USERS), "--mean-followees", str(FOLLOWEES)]):
        subprocess.run(
            [sys.executable, "-m", "reference_impl", *command], env=os.environ | variables, check=True, capture_output=True
        )
    current = state.read(state_dir)
    assert current is not None
    return current


def show(outcome: Outcome) -> str:
    """A line of the table."""
    lost, doubled = sum(outcome.count.lost.values()), sum(outcome.count.doubled.values())
    refused = ", ".join(f"{name} {number}" for name, number in outcome.refused.items() if number) or "none"
    recovery = "not" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f} s"
    return (
        f"{outcome.fault:24} {outcome.accepted:>8,} {outcome.count.applied:>8,} {lost:>5} {doubled:>7} {recovery:>9}   "
        f"{', '.join(outcome.seen) or '-'}; refused: {refused}"
    )


HEADER = f"{'fault':24} {'accepted':>8} {'applied':>8} {'lost':>5} {'doubled':>7} {'recovery':>9}   what was seen; answers refused"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the faults; print the table."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m benchmarks.faults", description=__doc__, formatter_class=raw)
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--only", action="append", choices=names, metavar="FAULT", help=f"one of {', '.join(names)}")
    parser.add_argument("--before", type=float, default=3.0, metavar="S", help="load before the fault (default 3)")
    parser.add_argument("--hold", type=float, default=30.0, metavar="S", help="how long a stalled server hangs (default 30)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes there as well")
    given = parser.parse_args(arguments)
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="flashcrowd-faults-") as folder:
        state_dir = Path(folder) / "state"
        try:
            print("starting servers", file=sys.stderr, flush=True)
            bring_up(state_dir)
            print(HEADER, flush=True)
            for fault in FAULTS:
                if not given.only or fault.name in given.only:
                    outcomes.append(run(fault, state_dir, given.before, given.hold, lambda text: print(f"  {text} …", file=sys.stderr)))
                    print(show(outcomes[-1]), flush=True)
        finally:
            lifecycle.down(state_dir)
    if given.json:
        given.json.write_text(json.dumps([dataclasses.asdict(outcome) for outcome in outcomes], indent=2))
    return 0 if all(outcome.good for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
