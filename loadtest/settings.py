"""What the users do and how often: the scenario's load, unless the command line says otherwise."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.scenario import Scenario


@dataclass(frozen=True)
class LoadSettings:
    """Rates relative to feed opens, times in seconds.

    `users_in_platform`: how many users the platform has; each of Locust's users acts as one of them.
    `arrivals_per_s`: with a rate above 0, open arrivals take the place of closed users; at most `arrivals_in_flight`
    requests are then under way at once, later ones wait and their latency goes on counting.
    """

    users_in_platform: int
    initial_posts_per_user: int
    think_time_s: float
    feed_limit: int
    publishes_per_feed_open: float
    likes_per_feed_open: float
    reads_per_feed_open: float
    follows_per_feed_open: float
    comments_per_like: float
    unlikes_per_like: float
    uploads_per_feed_open: float = 0.0
    views_per_feed_open: float = 0.0
    upload_least_bytes: int = 1_000_000
    upload_most_bytes: int = 3_000_000
    part_loss_ratio: float = 0.0
    subscribes_per_feed_open: float = 0.0
    streams_per_feed_open: float = 0.0
    searches_per_feed_open: float = 0.0
    distinct_queries: int = 1
    query_popularity_exponent: float = 1.0
    arrivals_per_s: float = 0.0
    arrivals_in_flight: int = 1000

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 1 if field.name in ("users_in_platform", "feed_limit", "arrivals_in_flight", "distinct_queries") else 0
            if not least <= value < float("inf"):
                raise ValueError(f"--{field.name.replace('_', '-')} must be at least {least}, not {value}")

    def per_feed_open(self) -> dict[str, float]:
        """Operation -> how many of it, on average, for each feed opened; the feed's opening itself included."""
        follows = self.follows_per_feed_open
        return {
            "feed.open": 1.0,
            "feed.publish": self.publishes_per_feed_open,
            "interactions.like": self.likes_per_feed_open,
            "interactions.unlike": self.likes_per_feed_open * self.unlikes_per_like,
            "interactions.comment": self.likes_per_feed_open * self.comments_per_like,
            "interactions.read": self.reads_per_feed_open,
            "uploads.begin": self.uploads_per_feed_open,
            "uploads.view": self.views_per_feed_open,
            "search.query": self.searches_per_feed_open,
            "graph.follow": follows / 2,
            "graph.unfollow": follows / 2,
            "notifications.subscribe": self.subscribes_per_feed_open,
            "notifications.stream": self.streams_per_feed_open,
        }


OPTIONS: tuple[tuple[str, type, str], ...] = (
    ("users_in_platform", int, "users of the platform that Locust's users act as (default: the scenario's population)"),
    ("think_time_s", float, "mean of the exponential pause between two requests of a user, seconds"),
    ("feed_limit", int, "posts per page of the feed"),
    ("publishes_per_feed_open", float, "posts published per feed opened"),
    ("likes_per_feed_open", float, "likes per feed opened"),
    ("reads_per_feed_open", float, "posts read in full per feed opened"),
    ("searches_per_feed_open", float, "searches for users or posts per feed opened"),
    ("follows_per_feed_open", float, "follows and unfollows per feed opened"),
    ("uploads_per_feed_open", float, "photos or videos uploaded per feed opened"),
    ("views_per_feed_open", float, "photos or videos looked at per feed opened"),
    ("comments_per_like", float, "comments per like"),
    ("unlikes_per_like", float, "likes taken back per like"),
    ("subscribes_per_feed_open", float, "devices registered per feed opened"),
    ("streams_per_feed_open", float, "streams of notifications begun per feed opened; a user holds one at most"),
    (
        "arrivals_per_s",
        float,
        "open arrivals at this rate (Poisson, requests per second of all users) instead of closed users",
    ),
    ("arrivals_in_flight", int, "open arrivals: requests under way at once, at most (of each Locust user)"),
)
"""Options of the command line, all without a default of their own."""


def from_scenario(scenario: Scenario, options: Namespace | None = None, users: int | None = None) -> LoadSettings:
    """The settings of a scenario, with what `options` has of `OPTIONS` in place of it.

    `users` is the number of users where a graph decides it. Raises `ValueError` for impossible values.
    """
    load = scenario.load
    values: dict[str, Any] = {
        "users_in_platform": users or scenario.population.users,
        "initial_posts_per_user": scenario.population.initial_posts_per_user,
        "think_time_s": load.think_time_s,
        "feed_limit": scenario.feed.page_size,
        "publishes_per_feed_open": load.publishes_per_feed_open,
        "likes_per_feed_open": load.likes_per_feed_open,
        "reads_per_feed_open": load.reads_per_feed_open,
        "follows_per_feed_open": load.follows_per_feed_open,
        "comments_per_like": load.comments_per_like,
        "unlikes_per_like": load.unlikes_per_like,
        "uploads_per_feed_open": load.uploads_per_feed_open,
        "views_per_feed_open": load.views_per_feed_open,
        "upload_least_bytes": scenario.uploads.least_bytes,
        "upload_most_bytes": scenario.uploads.most_bytes,
        "part_loss_ratio": scenario.uploads.part_loss_ratio,
        "subscribes_per_feed_open": load.subscribes_per_feed_open,
        "streams_per_feed_open": load.streams_per_feed_open,
        "searches_per_feed_open": load.searches_per_feed_open,
        "distinct_queries": scenario.search.distinct_queries,
        "query_popularity_exponent": scenario.search.query_popularity_exponent,
    }
    for name, _, _ in OPTIONS:
        given = getattr(options, name, None)
        if given is not None:
            values[name] = given
    return LoadSettings(**values)
