"""A small model with the interface of `model.live.LivePlatform`, for tests of what stands in front of it.

One station with exponential service (one server unless told otherwise); feeds of the ten newest posts of everybody.
Its own list of response times is the truth that Locust's figures are held against.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import simpy


@dataclass(frozen=True)
class Outcome:
    status: str
    body: dict[str, Any]


class StandIn:
    def __init__(self, env: Any, seed: int, servers: int = 1, mean_s: float = 0.01, frozen: bool = False) -> None:
        self.env = env
        self.rng = random.Random(seed)
        self.station = simpy.Resource(env, servers)
        self.mean_s = mean_s
        self.users = 50
        self.frozen = frozen  # no new posts, so that every answer is known beforehand
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

    def listen(self, user: int, listener: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        return lambda: None  # nobody tells anybody of anything here

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
        if operation == "feed.publish" and self.frozen:
            return {"id": 151, "created_at": 0.0}
        if operation == "feed.publish":
            self.posts.append(len(self.posts) + 1)
            return {"id": self.posts[-1], "created_at": self.env.now}
        if operation == "feed.open":
            return feed_body(self.posts[-10:][::-1])
        if operation == "uploads.begin":
            parts = [{"number": n, "size_bytes": 1000, "url": f"/media/uploads/7?partNumber={n}"} for n in (1, 2)]
            urls = {"parts": parts, "list_url": "/media/uploads/7", "complete_url": "/media/uploads/7"}
            return {"id": 7, "status": "pending", **urls}
        if operation == "uploads.status":
            return {"status": "success", "reason": None, "view_url": "/v1/media/7"}
        return {}


def feed_body(posts: list[int]) -> dict[str, Any]:
    return {
        "posts": [
            {"id": post, "author_id": post % 50, "title": f"post {post}", "created_at": float(post)} for post in posts
        ],
        "next_cursor": None,
    }


def install() -> None:
    """Put the stand-in in the platform's place, as the environment's FC_SERVERS, FC_MEAN_S, FC_FROZEN and FC_UPLOADS say."""
    from loadtest import plugin

    load = SimpleNamespace(
        think_time_s=1.0,
        publishes_per_feed_open=0.1,
        likes_per_feed_open=1.75,
        reads_per_feed_open=0.5,
        follows_per_feed_open=0.2,
        comments_per_like=0.1,
        unlikes_per_like=0.1,
        uploads_per_feed_open=float(os.environ.get("FC_UPLOADS", "0")),
        views_per_feed_open=float(os.environ.get("FC_UPLOADS", "0")),
        subscribes_per_feed_open=0.05,
        streams_per_feed_open=0.05,
        searches_per_feed_open=0.05,
    )
    search = SimpleNamespace(distinct_queries=10, query_popularity_exponent=1.0)
    population = SimpleNamespace(users=50, initial_posts_per_user=3)
    uploads = SimpleNamespace(least_bytes=1_000_000, most_bytes=3_000_000, part_loss_ratio=0.2)
    feed = SimpleNamespace(page_size=10)
    scenario = SimpleNamespace(load=load, population=population, feed=feed, uploads=uploads, search=search)
    servers, mean_s = int(os.environ.get("FC_SERVERS", "4")), float(os.environ.get("FC_MEAN_S", "0.01"))
    plugin.run.load_scenario = lambda options: scenario
    plugin.run.live_platform = lambda _scenario, clock, seed, graph: StandIn(
        clock, seed, servers, mean_s, bool(os.environ.get("FC_FROZEN"))
    )
