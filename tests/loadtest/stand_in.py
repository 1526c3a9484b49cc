"""A small model with the interface of `model.live.LivePlatform`, for tests of what stands in front of it.

One station with exponential service (one server unless told otherwise); feeds of the ten newest posts of everybody.
Its own list of response times is the truth that Locust's figures are held against.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import simpy


@dataclass(frozen=True)
class Outcome:
    status: str
    body: dict[str, Any]


class StandIn:
    def __init__(self, env: Any, seed: int, servers: int = 1, mean_s: float = 0.01) -> None:
        self.env = env
        self.rng = random.Random(seed)
        self.station = simpy.Resource(env, servers)
        self.mean_s = mean_s
        self.users = 50
        self.posts = list(range(1, 151))
        self.latencies: dict[str, list[float]] = {}
        self.asked: list[tuple[str, int, dict[str, Any]]] = []

    def perform(self, operation: str, user: int, arguments: dict[str, Any], done: Callable[[Outcome], None]) -> int:
        self.asked.append((operation, user, arguments))
        if operation == "feed.publish" and arguments["title"] == "immediate":
            done(Outcome("ok", {"id": 0, "created_at": 0.0}))
        else:
            self.env.process(self._serve(operation, user, arguments, done))
        return len(self.asked)

    def _serve(self, operation: str, user: int, arguments: dict[str, Any], done: Callable[[Outcome], None]) -> Any:
        begin_s = self.env.now
        if operation == "feed.publish" and arguments["title"] == "broken":
            raise RuntimeError("the model has a bug")
        with self.station.request() as turn:
            yield turn
            yield self.env.timeout(self.rng.expovariate(1 / self.mean_s))
        outcome = Outcome("ok", self._body(operation, user, arguments))
        if operation == "interactions.read" and arguments["post"] not in self.posts:
            outcome = Outcome("not_found", {})
        self.latencies.setdefault(operation, []).append(self.env.now - begin_s)
        done(outcome)

    def _body(self, operation: str, user: int, arguments: dict[str, Any]) -> dict[str, Any]:
        if operation == "feed.publish":
            self.posts.append(len(self.posts) + 1)
            return {"id": self.posts[-1], "created_at": self.env.now}
        if operation == "feed.open":
            return feed_body(self.posts[-10:][::-1])
        return {}


def feed_body(posts: list[int]) -> dict[str, Any]:
    return {
        "posts": [
            {"id": post, "author_id": post % 50, "title": f"post {post}", "created_at": float(post)} for post in posts
        ],
        "next_cursor": None,
    }
