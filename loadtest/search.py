"""Room `search`: users look for users and posts by what they have typed so far."""

from __future__ import annotations

import time
from itertools import cycle
from typing import Any
from urllib.parse import urlencode

import gevent

from loadtest.platform_user import PlatformUser
from loadtest.settings import LoadSettings
from model.search import popular_queries

LEAST_TYPED = len("user1")
LEFT_OUT = 3  # up to so many letters less one are not typed
POLL_S = 0.05  # how exactly `search.searchable` is known from outside
PATIENCE_S = 20.0
LIMITS = range(1, 51)


def typed(which: float, settings: LoadSettings) -> tuple[str, str]:
    """(kind, text) of the query that `which` in [0, 1) chooses, by Zipf's law over those there are: mostly prefixes.

    Names and titles are those that the platform is seeded with. Two queries of different rank may have the same text.
    """
    rank = int(popular_queries(settings.distinct_queries, settings.query_popularity_exponent, which))
    author = rank // 2 % settings.users_in_platform
    name = f"user{author}"
    name = name[: max(LEAST_TYPED, len(name) - rank % LEFT_OUT)]
    if rank % 2:
        return "users", name
    return "posts", f"post {1 + rank % max(1, settings.initial_posts_per_user)} {name}"


def query(user: PlatformUser, which: float, **options: Any) -> list[dict[str, Any]]:
    """Operation `search.query`: what was found, empty when nothing was or no answer came."""
    kind, text = typed(which, user.settings)
    body = user.ask("search.query", "GET", f"/v1/search?{urlencode({'q': text, 'kind': kind})}", **options)
    return list(body["results"]) if body else []


def look_for(user: PlatformUser, word: str, post: int, began_epoch_s: float, began_s: float) -> None:
    """Look for a post by a word that no other has, until it is found: `search.searchable` from outside, since it began.

    No two queries in a row have the same limit: the platform's cache would go on saying that there is nothing.
    """
    for limit in cycle(LIMITS):
        question = urlencode({"q": word, "kind": "posts", "limit": limit})
        body = user.ask("search.query", "GET", f"/v1/search?{question}")
        if body and post in [found["id"] for found in body["results"]]:
            user.probe("search.searchable", began_epoch_s, began_s)
            return
        if time.perf_counter() > began_s + PATIENCE_S:
            user.probe("search.searchable", began_epoch_s, began_s, f"not found after {PATIENCE_S:g} s")
            return
        gevent.sleep(POLL_S)
