"""Fan-out on write: the dispatcher cuts an author's followers into batches, the workers write their feed rows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import asyncpg
import msgspec
import structlog
from confluent_kafka import Message
from prometheus_client import Counter

from reference_impl.database import from_microseconds, microseconds
from reference_impl.feed.records import FollowerBatch, decode_batch, encode
from reference_impl.milestones import FEED_DELIVERED, MilestoneFile
from reference_impl.published import PublishedPost, decode_post
from reference_impl.settings import Settings
from reference_impl.spans import name_statements, note
from reference_impl.topics import FANOUT, LogProducer

log = structlog.get_logger()
Record = TypeVar("Record")
dispatched_total = Counter("flashcrowd_posts_dispatched", "Posts cut into follower batches")
swept_total = Counter("flashcrowd_posts_swept", "Posts dispatched from their row, not from the log")
feed_rows_total = Counter("flashcrowd_feed_rows", "Precomputed feed rows written")
unreadable_total = Counter("flashcrowd_fanout_records_unreadable", "Records that are no record of their topic")

# Ranges of follower ids, so that a record's size does not grow with the batch. $2: all followers, or the precomputed.
CUT_FOLLOWERS = """
SELECT min(follower_id), max(follower_id), count(*)
FROM (
    SELECT follower_id, (row_number() OVER (ORDER BY follower_id) - 1) / $3::bigint AS batch
    FROM followers WHERE followee_id = $1 AND (is_precomputed OR $2)
) AS numbered
GROUP BY batch ORDER BY batch"""

MARK_PUBLISHED = "UPDATE posts SET published_at = now() WHERE id = ANY($1::bigint[]) AND published_at IS NULL"

# Two dispatchers may sweep the same post: its batches are then delivered twice, which changes nothing.
OVERDUE_POSTS = """
SELECT id, author_id, created_at FROM posts
WHERE published_at IS NULL AND created_at < now() - $1::float8 * interval '1 second'
ORDER BY created_at LIMIT 100"""

WRITE_FEED_ROWS = """
INSERT INTO feed (user_id, post_id, author_id, created_at)
SELECT follower_id, $1, $2, $3 FROM followers
WHERE followee_id = $2 AND follower_id BETWEEN $4 AND $5 AND (is_precomputed OR $6)
ON CONFLICT DO NOTHING"""


name_statements(
    {
        CUT_FOLLOWERS: "database_followers",
        MARK_PUBLISHED: "database_followers",
        WRITE_FEED_ROWS: "database_fanout_batch",
    }
)


class Dispatcher:
    """Works off the topic ``posts``: one record per follower batch goes to the topic ``fanout``."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, producer: LogProducer) -> None:
        self._settings = settings
        self._pool = pool
        self._producer = producer
        self._everyone = settings.feed_strategy == "push"
        self._fans_out = settings.feed_strategy in ("push", "hybrid")

    async def handle(self, messages: Sequence[Message]) -> None:
        """Dispatch a batch of records."""
        await self.dispatch([p for p in (_decoded(decode_post, m) for m in messages) if p is not None])

    async def sweep(self) -> None:
        """Dispatch posts that were stored but never dispatched.

        Called only when the topic is empty for this dispatcher: a backlog is not a loss.
        """
        rows = await self._pool.fetch(OVERDUE_POSTS, self._settings.outbox_after_s)
        if rows:
            posts = [
                PublishedPost(r["id"], r["author_id"], microseconds(r["created_at"]), r["created_at"].timestamp())
                for r in rows
            ]
            await self.dispatch(posts)
            swept_total.inc(len(posts))
            log.info("outbox.swept", posts=len(posts))

    async def dispatch(self, posts: Sequence[PublishedPost]) -> None:
        """Produce the follower batches of ``posts``; mark the posts published once all are acknowledged."""
        if self._fans_out:
            for post in posts:
                await self._cut(post)
        await self._pool.execute(MARK_PUBLISHED, [post.post_id for post in posts])
        dispatched_total.inc(len(posts))

    async def _cut(self, post: PublishedPost) -> None:
        ranges = await self._pool.fetch(
            CUT_FOLLOWERS, post.author_id, self._everyone, self._settings.fanout_batch_followers
        )
        await asyncio.gather(
            *(
                self._producer.produce(
                    FANOUT,
                    f"{post.post_id}:{first}",
                    encode(
                        FollowerBatch(
                            post.post_id, post.author_id, post.created_at_us, post.accepted_at, first, last, followers
                        )
                    ),
                )
                for first, last, followers in ranges
            )
        )


class FanoutWorker:
    """Works off the topic ``fanout``: one transaction and one milestone per follower batch."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, milestones: MilestoneFile) -> None:
        self._pool = pool
        self._milestones = milestones
        self._everyone = settings.feed_strategy == "push"

    async def handle(self, messages: Sequence[Message]) -> None:
        """Write the feed rows of each follower batch."""
        written = 0
        for message in messages:
            batch = _decoded(decode_batch, message)
            if batch is None:
                continue
            status = await self._pool.execute(
                WRITE_FEED_ROWS,
                batch.post_id,
                batch.author_id,
                from_microseconds(batch.created_at_us),
                batch.first_follower,
                batch.last_follower,
                self._everyone,
            )
            rows = int(status.rsplit(" ", 1)[1])
            feed_rows_total.inc(rows)
            written += rows
            if rows:  # none: the batch came a second time, and its milestone is recorded already
                self._milestones.record(FEED_DELIVERED, [(batch.accepted_at, rows)])
        note("weight", written)


def _decoded(decode: Callable[[bytes], Record], message: Message) -> Record | None:
    try:
        return decode(message.value() or b"")
    except msgspec.DecodeError as error:  # never written by us; it must not block its partition for ever
        unreadable_total.inc()
        log.error("record.unreadable", topic=message.topic(), offset=message.offset(), error=str(error))
        return None
