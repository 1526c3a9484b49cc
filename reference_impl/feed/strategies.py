"""Four ways to compute a feed, from the platform's design: ``naive``, ``indexed``, ``push``, ``hybrid``.

All give the posts of a user's followees newest first, in the stable order (created_at desc, id desc).

- ``naive``: look up the followees, fetch all of their posts without an index on the author, merge in the application.
- ``indexed``: the same with the index.
- ``push``: read the precomputed table ``feed``, which fan-out on write fills for every author.
- ``hybrid``: precomputed rows, merged with the posts of followees whose ``is_precomputed`` is false.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

import asyncpg

from reference_impl.database import from_microseconds, microseconds
from reference_impl.spans import name_statements


class Entry(NamedTuple):
    """One post of a feed; sorts by (created_at, id)."""

    created_at: datetime
    id: int
    author_id: int
    title: str


class Cursor(NamedTuple):
    """The page begins after this post, in the feed's order."""

    created_at: datetime
    id: int

    def encode(self) -> str:
        """An opaque text that is safe in a URL."""
        text = f"{microseconds(self.created_at)}.{self.id}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """The opposite of :meth:`encode`.

        Raises:
            ValueError: ``text`` was not made by :meth:`encode`.
        """
        try:
            created, post_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").split(".")
            cursor = cls(from_microseconds(int(created)), int(post_id))
        except (ValueError, OverflowError):
            raise ValueError("the cursor is not one that this API gave") from None
        if not 0 <= cursor.id < 2**63:
            raise ValueError("the cursor is not one that this API gave")
        return cursor


START = Cursor(datetime(9999, 1, 1, tzinfo=UTC), 2**63 - 1)
"""Before the newest post."""

Strategy = Callable[[asyncpg.Pool, int, Cursor, int], Awaitable[list[Entry]]]


FOLLOWEES = "SELECT followee_id FROM followers WHERE follower_id = $1"

# "author_id + 0" is an expression that no index is on: the planner has to read the whole table.
POSTS_WITHOUT_INDEX = """
SELECT created_at, id, author_id, title FROM posts
WHERE author_id + 0 = ANY($1::bigint[]) AND (created_at, id) < ($2, $3)"""

POSTS_BY_INDEX = """
SELECT created_at, id, author_id, title FROM posts
WHERE author_id = ANY($1::bigint[]) AND (created_at, id) < ($2, $3)"""

PRECOMPUTED = """
SELECT feed.created_at, feed.post_id, feed.author_id, posts.title
FROM feed JOIN posts ON posts.id = feed.post_id
WHERE feed.user_id = $1 AND (feed.created_at, feed.post_id) < ($2, $3)
ORDER BY feed.created_at DESC, feed.post_id DESC LIMIT $4"""

PULLED = """
SELECT newest.created_at, newest.id, newest.author_id, newest.title
FROM followers CROSS JOIN LATERAL (
    SELECT created_at, id, author_id, title FROM posts
    WHERE posts.author_id = followers.followee_id AND (posts.created_at, posts.id) < ($2, $3)
    ORDER BY posts.created_at DESC, posts.id DESC LIMIT $4
) AS newest
WHERE followers.follower_id = $1 AND NOT followers.is_precomputed
ORDER BY newest.created_at DESC, newest.id DESC LIMIT $4"""


name_statements(
    {**dict.fromkeys((FOLLOWEES, POSTS_WITHOUT_INDEX, POSTS_BY_INDEX, PRECOMPUTED), "database_feed_page"), PULLED: "database_pulled"}
)


def _entries(rows: Iterable[asyncpg.Record]) -> list[Entry]:
    return [Entry(*row) for row in rows]


async def _merge_in_application(query: str, pool: asyncpg.Pool, user: int, after: Cursor, count: int) -> list[Entry]:
    async with pool.acquire() as connection:
        followees = [row[0] for row in await connection.fetch(FOLLOWEES, user)]
        rows = await connection.fetch(query, followees, after.created_at, after.id)
    return sorted(_entries(rows), reverse=True)[:count]


async def naive(pool: asyncpg.Pool, user: int, after: Cursor, count: int) -> list[Entry]:
    """Every post of every followee, found by reading the whole table."""
    return await _merge_in_application(POSTS_WITHOUT_INDEX, pool, user, after, count)


async def indexed(pool: asyncpg.Pool, user: int, after: Cursor, count: int) -> list[Entry]:
    """Every post of every followee, found by the index on the author."""
    return await _merge_in_application(POSTS_BY_INDEX, pool, user, after, count)


async def push(pool: asyncpg.Pool, user: int, after: Cursor, count: int) -> list[Entry]:
    """Precomputed rows only."""
    return _entries(await pool.fetch(PRECOMPUTED, user, after.created_at, after.id, count))


async def hybrid(pool: asyncpg.Pool, user: int, after: Cursor, count: int) -> list[Entry]:
    """Precomputed rows, and the newest posts of each followee who is not precomputed.

    A followee who grew past the threshold has posts in both: the merge keeps one of each.
    """
    async with pool.acquire() as connection:
        precomputed = await connection.fetch(PRECOMPUTED, user, after.created_at, after.id, count)
        pulled = await connection.fetch(PULLED, user, after.created_at, after.id, count)
    if not pulled:
        return _entries(precomputed)
    return sorted({*_entries(precomputed), *_entries(pulled)}, reverse=True)[:count]


STRATEGIES: dict[str, Strategy] = {"naive": naive, "indexed": indexed, "push": push, "hybrid": hybrid}


async def page(
    strategy: Strategy, pool: asyncpg.Pool, user: int, after: Cursor, limit: int
) -> tuple[list[Entry], Cursor | None]:
    """At most ``limit`` entries and the next page's cursor, None if there is nothing more."""
    entries = await strategy(pool, user, after, limit + 1)
    if len(entries) <= limit:
        return entries, None
    last = entries[limit - 1]
    return entries[:limit], Cursor(last.created_at, last.id)
