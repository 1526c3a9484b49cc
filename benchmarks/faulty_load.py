"""Clients that go on while servers die, and remember what was accepted; the database is held against it at the end.

A client does what a good one does: what was not accepted is sent again with the same idempotency key. Posts have none, so a
post without an answer is not sent again, and counts neither way.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx
import websocket

from loadtest.upload_client.client import File, UploadClient, UploadFailed
from reference_impl.auth import Tokens
from reference_impl.state import State

UPLOAD_BYTES = 2**20
JPEG_BEGINS = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
PICTURE = JPEG_BEGINS + random.Random(1).randbytes(UPLOAD_BYTES - len(JPEG_BEGINS))
TIMEOUT_S = 30.0
EVERY_S, AGAIN_AFTER_S = 0.1, 0.2
RANGE_MOST_BYTES = 2**18
ONLINE_MOST_S, LOOK_UP_S = 10.0, 0.5


def headers_of(current: State, user: int) -> dict[str, str]:
    """Of a request by ``user``, who is logged in."""
    return {"Authorization": f"Bearer {_token(current.settings['token_secret'], user)}"}


@functools.lru_cache(10_000)
def _token(secret: str, user: int) -> str:
    return Tokens(secret, lifetime_s=100_000).issue(user)


@dataclass
class Accepted:
    """What the platform promised to do."""

    likes: set[tuple[int, int]] = field(default_factory=set)
    """(post, user)."""
    comments: set[str] = field(default_factory=set)
    """Texts, each given once."""
    posts: dict[str, int] = field(default_factory=dict)
    """Title → author."""
    uploads: dict[int, int] = field(default_factory=dict)
    """Media that the store has told the client to be complete → owner."""

    def total(self) -> int:
        """Likes, comments, posts and uploads."""
        return len(self.likes) + len(self.comments) + len(self.posts) + len(self.uploads)


class Load:
    """Several writers, a reader, an uploader, a viewer of what it uploads, and a listener, from ``start`` to ``stop``.

    Each asks once in ``every_s``, or as soon as its last answer is there; the last three, who are beside the others, less often.
    """

    def __init__(
        self, current: State, users: int, posts: int, writers: int = 3, seed: int = 1, every_s: float = EVERY_S
    ) -> None:
        self.accepted = Accepted()
        self.answers: Counter[tuple[str, int]] = Counter()
        """(operation, status) → answers; status 0: none came, or not the bytes that were asked for."""
        self.heard = 0
        """Notifications that came by a stream."""
        self._current, self._users, self._posts, self._seed = current, users, posts, seed
        self._every_s = every_s
        self._stop = threading.Event()
        self._lock = threading.Lock()
        works = [lambda n=n: self._write(n) for n in range(writers)] + [self._read, self._upload, self._view, self._listen]
        self._threads = [threading.Thread(target=work, daemon=True) for work in works]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End; requests under way are waited for."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def refused(self, *operations: str) -> int:
        """Answers other than 2xx and a stream's 101, of these operations or of all."""
        return sum(
            count
            for (operation, status), count in self.answers.items()
            if not 100 < status < 300 and (not operations or operation in operations)
        )

    def _beats(self, every_s: float) -> Iterator[None]:
        """Until ``stop``; a beat that comes due before the last one is done is not made up for."""
        due = time.monotonic() + every_s
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            yield
            due = max(due + every_s, time.monotonic())

    def _count(self, operation: str, status: int) -> None:
        with self._lock:
            self.answers[operation, status] += 1

    def _answer(
        self, client: httpx.Client, operation: str, user: int, method: str, url: str, **options: object
    ) -> httpx.Response | None:
        headers = headers_of(self._current, user) | options.pop("headers", {})  # type: ignore[operator]  # a dictionary, if any
        try:
            answer = client.request(method, url, headers=headers, **options)  # type: ignore[arg-type]  # httpx' own
        except httpx.HTTPError:
            answer = None
        self._count(operation, 0 if answer is None else answer.status_code)
        return answer

    def _ask(self, client: httpx.Client, operation: str, user: int, method: str, path: str, **options: object) -> int:
        answer = self._answer(client, operation, user, method, self._current.api_url + path, **options)
        return 0 if answer is None else answer.status_code

    def _until_accepted(self, client: httpx.Client, operation: str, user: int, method: str, path: str, **options: object) -> bool:
        while (status := self._ask(client, operation, user, method, path, **options)) != 202:
            if self._stop.wait(AGAIN_AFTER_S) or 400 <= status < 500:
                return False
        return True

    def _write(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/{number}")
        with httpx.Client(timeout=TIMEOUT_S) as client:
            for _ in self._beats(self._every_s):
                user, post, what = rng.randrange(self._users), 1 + rng.randrange(self._posts), rng.random()
                if what < 0.5:
                    if self._until_accepted(client, "interactions.like", user, "PUT", f"/v1/posts/{post}/like"):
                        self.accepted.likes.add((post, user))
                elif what < 0.85:
                    text, key = uuid.uuid4().hex, {"Idempotency-Key": uuid.uuid4().hex}
                    path, body = f"/v1/posts/{post}/comments", {"text": text}
                    if self._until_accepted(client, "interactions.comment", user, "POST", path, json=body, headers=key):
                        self.accepted.comments.add(text)
                else:
                    title = uuid.uuid4().hex
                    body = {"title": title, "content": ""}
                    if self._ask(client, "feed.publish", user, "POST", "/v1/posts", json=body) == 201:
                        self.accepted.posts[title] = user

    def _read(self) -> None:
        rng = random.Random(f"{self._seed}/reader")
        with httpx.Client(timeout=TIMEOUT_S) as client:
            for _ in self._beats(self._every_s):
                user = rng.randrange(self._users)
                if rng.random() < 0.5:
                    self._ask(client, "feed.open", user, "GET", "/v1/feed")
                else:
                    self._ask(client, "search.query", user, "GET", f"/v1/search?kind=users&q=user{rng.randrange(self._users)}")

    def _upload(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.jpg"
            path.write_bytes(PICTURE)
            for _ in self._beats(max(5 * EVERY_S, 10 * self._every_s)):
                self._upload_one(File(path, "image/jpeg", uuid.uuid4().hex), random.randrange(self._users))

    def _upload_one(self, file: File, user: int) -> None:
        key = uuid.uuid4().hex
        with UploadClient(self._current.api_url, headers_of(self._current, user), attempts=2, timeout_s=TIMEOUT_S) as client:
            while True:
                with contextlib.suppress(UploadFailed):
                    begun = client.upload(file, key)
                    if begun["status"] == "refused":
                        return  # it was not complete in time: nothing was promised
                    self.accepted.uploads[begun["id"]] = user
                    break
                self._count("uploads", 0)
                if self._stop.wait(AGAIN_AFTER_S):
                    return
        self._count("uploads", 200)

    def _view(self) -> None:
        """Ranges of what is ready, as a player asks for them, through the edge."""
        rng = random.Random(f"{self._seed}/viewer")
        ready: set[int] = set()
        with httpx.Client(timeout=TIMEOUT_S) as client:
            for _ in self._beats(max(EVERY_S, self._every_s)):
                uploads = list(self.accepted.uploads.items())
                if not uploads:
                    continue
                media, owner = rng.choice(uploads)
                if media not in ready:
                    url = f"{self._current.api_url}/v1/uploads/{media}"
                    answer = self._answer(client, "uploads.status", owner, "GET", url)
                    if answer is None or answer.status_code != 200 or answer.json()["status"] != "success":
                        continue
                    ready.add(media)
                first = rng.randrange(UPLOAD_BYTES)
                self._view_range(client, media, first, min(UPLOAD_BYTES, first + 1 + rng.randrange(RANGE_MOST_BYTES)))

    def _view_range(self, client: httpx.Client, media: int, first: int, end: int) -> None:
        url = f"{self._current.settings['edge_url']}/v1/media/{media}"
        headers = headers_of(self._current, media % self._users) | {"Range": f"bytes={first}-{end - 1}"}
        try:
            answer = client.get(url, headers=headers)
        except httpx.HTTPError:
            self._count("uploads.view", 0)
            return
        is_whole = answer.status_code != 206 or answer.content == PICTURE[first:end]
        self._count("uploads.view", answer.status_code if is_whole else 0)

    def _listen(self) -> None:
        """One user after the other is online for a while, and acknowledges what comes."""
        rng = random.Random(f"{self._seed}/listener")
        for _ in self._beats(max(EVERY_S, self._every_s)):
            try:
                self._stay_online(rng.randrange(self._users), rng.uniform(0, ONLINE_MOST_S))
            except (OSError, ValueError, websocket.WebSocketException):
                self._count("notifications.stream", 0)
            else:
                self._count("notifications.stream", 101)

    def _stay_online(self, user: int, for_s: float) -> None:
        url = f"ws{self._current.api_url.removeprefix('http')}/v1/notifications"
        until = time.monotonic() + for_s
        stream = websocket.create_connection(url, header=headers_of(self._current, user), timeout=TIMEOUT_S)
        try:
            stream.settimeout(LOOK_UP_S)
            while time.monotonic() < until and not self._stop.is_set():
                with contextlib.suppress(websocket.WebSocketTimeoutException):
                    message = json.loads(stream.recv())
                    if message != {"type": "ready"}:
                        self.heard += 1
                        stream.send(json.dumps({"ack": [message["id"]]}))
        finally:
            stream.close(timeout=LOOK_UP_S)


COUNTS = {
    # name → (how many of the accepted are there, how many are there more than once)
    "likes": """
        SELECT count(*) FILTER (WHERE liked),
               (SELECT count(*) FROM like_counts c
                WHERE c.likes <> (SELECT count(*) FROM likes l WHERE l.post_id = c.post_id AND l.liked))
        FROM unnest($1::bigint[], $2::bigint[]) AS wanted (post_id, author_id) JOIN likes USING (post_id, author_id)""",
    "comments": """
        SELECT count(DISTINCT text), count(*) - count(DISTINCT text) FROM comments WHERE text = ANY($1::text[])""",
    "posts": """
        SELECT count(DISTINCT title), count(*) - count(DISTINCT title) FROM posts WHERE title = ANY($1::text[])""",
    "uploads": """
        SELECT count(DISTINCT m.id), count(*) - count(DISTINCT m.id) FROM post_media m JOIN posts p ON p.id = m.post_id
        WHERE m.id = ANY($1::bigint[]) AND upload_status = 'success'""",
}
# Rows that what was accepted has to lead to, and that are missing.
FOLLOWING = {
    "feed rows": """
        SELECT count(*) FROM posts p JOIN followers f ON f.followee_id = p.author_id AND f.is_precomputed
        WHERE p.title = ANY($1::text[]) AND NOT EXISTS (
            SELECT FROM feed WHERE user_id = f.follower_id AND created_at = p.created_at AND post_id = p.id)""",
    "notifications": """
        SELECT count(*) FROM comments c JOIN posts p ON p.id = c.post_id AND p.author_id <> c.author_id
        WHERE c.text = ANY($1::text[]) AND NOT EXISTS (SELECT FROM notification_events e WHERE e.id = c.id)""",
}


@dataclass
class Count:
    """What became of it."""

    applied: int
    lost: dict[str, int]
    doubled: dict[str, int]

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing doubled."""
        return not any(self.lost.values()) and not any(self.doubled.values())


async def count(database_url: str, accepted: Accepted) -> Count:
    """Hold the database against what was accepted."""
    arguments: dict[str, list[list]] = {
        "likes": [[post for post, _ in accepted.likes], [user for _, user in accepted.likes]],
        "comments": [list(accepted.comments)],
        "posts": [list(accepted.posts)],
        "uploads": [list(accepted.uploads)],
    }
    wanted = {name: len(lists[0]) for name, lists in arguments.items()}
    arguments |= {"feed rows": arguments["posts"], "notifications": arguments["comments"]}
    applied, lost, doubled = 0, {}, {}
    connection = await asyncpg.connect(database_url, timeout=TIMEOUT_S)
    try:
        for name, query in COUNTS.items():
            found, more = await connection.fetchrow(query, *arguments[name])
            applied += found
            lost[name], doubled[name] = wanted[name] - found, more
        for name, query in FOLLOWING.items():
            lost[name] = await connection.fetchval(query, *arguments[name])
    finally:
        await connection.close()
    return Count(applied, lost, doubled)


def wait_until(condition: object, within_s: float, every_s: float = 0.2) -> bool:
    """Whether ``condition()`` came true in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]  # a function without arguments
            return True
        time.sleep(every_s)
    return False
