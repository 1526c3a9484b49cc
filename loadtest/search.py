"""Room `search`: users look for users and posts by what they have typed so far."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from loadtest.platform_user import PlatformUser
from loadtest.settings import LoadSettings
from model.search import popular_queries

LEAST_TYPED = len("user1")
LEFT_OUT = 3  # up to so many letters less one are not typed


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
