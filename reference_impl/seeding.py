"""Fill the database: users, follow graph, initial posts and the precomputed feed they give, by COPY.

Everything is replaced in one transaction: a seed that fails or is interrupted leaves the data as it was.

Initial posts are the same on the model's side: post ``1 + round * users + user``, created at
``epoch - (rounds - round) * 60 s - user * 1 ms``, round 0 the oldest.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import asyncpg
import numpy as np
import numpy.typing as npt

from reference_impl.auth import hash_password
from reference_impl.database import SCHEMA, from_microseconds
from reference_impl.graph import FollowGraph, Ids
from reference_impl.settings import Settings

TABLES = (
    "users", "sign_outs", "followers", "posts", "feed", "likes", "like_counts", "comments", "post_media", "devices",
    "notification_preferences", "notifications", "notification_events",
)  # fmt: skip
ROUND_US, USER_US = 60_000_000, 1_000
# PostgreSQL counts binary timestamps from 2000-01-01, 10,957 days after the epoch.
POSTGRES_EPOCH_US = 10_957 * 86_400 * 1_000_000
COPY_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
# An index is built far faster from a full table than row by row.
DROP_INDEXES = """
DROP INDEX users_by_name, followers_by_follower, followers_pulled, posts_by_author, posts_outbox;
ALTER TABLE followers DROP CONSTRAINT followers_pkey;
ALTER TABLE feed DROP CONSTRAINT feed_pkey"""
CREATE_INDEXES = """
ALTER TABLE followers ADD CONSTRAINT followers_pkey PRIMARY KEY (followee_id, follower_id);
ALTER TABLE feed ADD CONSTRAINT feed_pkey PRIMARY KEY (user_id, created_at, post_id)"""
SEEDED_PASSWORD = "flashcrowd"  # of every seeded user: test data, one hash for all of them
# Everybody has one device, so that there is somebody to push to; half of them are Apple's.
DEVICES = """
INSERT INTO devices (id, user_id, platform, token, topics)
SELECT id, id, CASE WHEN id % 2 = 0 THEN 'fcm' ELSE 'apns' END, 'seeded-' || id, '{comments,likes}'
FROM generate_series(0, $1::bigint - 1) AS id"""
EDGES_AT_ONCE = 500_000
ROWS_AT_ONCE = 200_000

Progress = Callable[[str], None]


async def seed(database_url: str, graph: FollowGraph, settings: Settings, epoch_s: float, progress: Progress) -> None:
    """Replace all data by ``graph``'s users, edges, initial posts and feed rows; ``epoch_s`` is the time of "now"."""
    rounds = settings.initial_posts_per_user
    followers = np.bincount(graph.followee, minlength=graph.users)
    precomputed = followers[graph.followee] <= settings.feed_threshold
    connection = await asyncpg.connect(database_url)
    try:
        async with connection.transaction():
            await connection.execute(f"TRUNCATE {', '.join(TABLES)}")
            await connection.execute(DROP_INDEXES)
            progress(f"{graph.users:,} users")
            await _copy_users(connection, followers)
            await connection.execute(DEVICES, graph.users)
            progress(f"{len(graph.followee):,} edges")
            await _copy_columns(
                connection, "followers", followee_id=graph.followee, follower_id=graph.follower,
                is_precomputed=precomputed,
            )  # fmt: skip
            progress(f"{graph.users * rounds:,} posts")
            await _copy_posts(connection, graph.users, rounds, epoch_s)
            everyone = settings.feed_strategy == "push"
            rows = 0
            for columns in feed_rows(graph, everyone | precomputed, rounds, epoch_s, settings.feed_seed_rows):
                rows += len(columns["user_id"])
                await _copy_columns(connection, "feed", **columns)
                progress(f"{rows:,} feed rows")
            progress("indexes")
            await connection.execute(CREATE_INDEXES)
            await connection.execute(SCHEMA)  # creates what is missing: the other indexes
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def _copy_users(connection: asyncpg.Connection, followers: npt.NDArray[Any]) -> None:
    password = hash_password(SEEDED_PASSWORD, b"flashcrowd seed.")
    await connection.copy_records_to_table(
        "users",
        columns=["id", "name", "email", "password_hash", "follower_count"],
        records=(
            (user, f"user{user}", f"user{user}@example.com", password, count)
            for user, count in enumerate(followers.tolist())
        ),
    )


def created_us(users: int, rounds: int, epoch_s: float) -> Ids:
    """When each initial post was created, microseconds since the epoch; shape (rounds, users)."""
    before = (rounds - np.arange(rounds, dtype=np.int64))[:, None] * ROUND_US
    return np.int64(round(epoch_s * 1e6)) - before - np.arange(users, dtype=np.int64)[None, :] * USER_US


async def _copy_posts(connection: asyncpg.Connection, users: int, rounds: int, epoch_s: float) -> None:
    def records() -> Iterator[tuple[Any, ...]]:
        created = created_us(users, rounds, epoch_s)
        for at_round in range(rounds):
            for user, created_at in enumerate(created[at_round].tolist()):
                moment = from_microseconds(created_at)
                title = f"post {at_round + 1} of user{user}"
                yield 1 + at_round * users + user, user, title, "An initial post.", moment, moment

    await connection.copy_records_to_table(
        "posts", columns=["id", "author_id", "title", "content", "created_at", "published_at"], records=records()
    )
    await connection.execute(f"ALTER TABLE posts ALTER COLUMN id RESTART WITH {users * rounds + 1}")


def feed_rows(
    graph: FollowGraph, precomputed: npt.NDArray[np.bool_], rounds: int, epoch_s: float, most: int
) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The feed rows that fan-out would have written: the newest ``most`` of each follower, some followers at a time."""
    order = np.lexsort((graph.followee[precomputed], graph.follower[precomputed]))
    follower, followee = graph.follower[precomputed][order], graph.followee[precomputed][order]
    created = created_us(graph.users, rounds, epoch_s)
    start = 0
    while start < len(follower):
        last = follower[min(start + EDGES_AT_ONCE, len(follower)) - 1]
        stop = int(np.searchsorted(follower, last, side="right"))
        author = np.tile(followee[start:stop], rounds)
        user = np.tile(follower[start:stop], rounds)
        at_round = np.repeat(np.arange(rounds, dtype=np.int64), stop - start)
        made = created[at_round, author]
        post = 1 + at_round * graph.users + author
        newest_first = np.lexsort((-post, -made, user))
        user, author, made, post = (a[newest_first] for a in (user, author, made, post))
        place = np.arange(len(user)) - np.searchsorted(user, user, side="left")
        kept = place < most
        yield {
            "user_id": user[kept],
            "post_id": post[kept],
            "author_id": author[kept],
            "created_at": made[kept].astype("datetime64[us]"),
        }
        start = stop


async def _copy_columns(connection: asyncpg.Connection, table: str, **columns: npt.NDArray[Any]) -> None:
    """COPY columns of numbers, booleans or moments in PostgreSQL's binary format, laid out by NumPy.

    Far faster than a Python tuple per row: each row is a field count, then length and value of each field.
    """
    fields: list[tuple[str, str]] = [("fields", ">i2")]
    values: dict[str, npt.NDArray[Any]] = {}
    for name, column in columns.items():
        kind = "u1" if column.dtype == np.bool_ else ">i8"
        if column.dtype.kind == "M":
            column = column.astype(np.int64) - POSTGRES_EPOCH_US
        fields += [(name + ".length", ">i4"), (name, kind)]
        values[name] = column
    count = len(next(iter(values.values())))
    for start in range(0, count, ROWS_AT_ONCE):
        rows = np.empty(min(ROWS_AT_ONCE, count - start), dtype=fields)
        rows["fields"] = len(values)
        for name, column in values.items():
            rows[name + ".length"] = rows.dtype[name].itemsize
            rows[name] = column[start : start + ROWS_AT_ONCE]
        source = io.BytesIO(COPY_SIGNATURE + rows.tobytes() + b"\xff\xff")
        await connection.copy_to_table(table, source=source, columns=list(columns), format="binary")
