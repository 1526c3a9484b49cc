"""Applies likes and comments from the log to the database, a batch in one transaction.

**Applied once.** The log gives every accepted event at least once, so applying must change nothing the second time:

- A comment's id is derived from its idempotency key; ``ON CONFLICT DO NOTHING`` drops it the second time.
- A like or unlike carries a *version*, and a row takes only newer ones. Unliking keeps the row as a tombstone, so
  neither a batch that comes again nor a stalled worker that has lost its partition can undo newer state.
- The count changes by what rows really changed: PostgreSQL 18 returns a row's old and new values in one statement.

**The version is the event's place in the log**, not the time when it was accepted: a post's events lie in one
partition, whose order is the truth, while the clocks of several API processes can disagree. Offsets start again when
a topic is created anew (the embedded broker keeps it in memory), so the version's upper bits are the topic's
generation. What this cannot see is a changed number of partitions, which moves a post's events to another partition:
let the workers catch up first, then create the topic anew.

The offsets are committed only after the transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import msgspec
import structlog
from confluent_kafka import Message
from prometheus_client import Counter, Histogram

from reference_impl.interactions.events import EventPublisher
from reference_impl.interactions.records import Interaction, decode
from reference_impl.milestones import INTERACTIONS_APPLIED, MilestoneFile
from reference_impl.spans import name_statements, note

log = structlog.get_logger()
applied_total = Counter("flashcrowd_interactions_applied", "Events that changed the database, or were superseded")
unchanged_total = Counter("flashcrowd_interactions_unchanged", "Events that came again, or whose post does not exist")
unreadable_total = Counter("flashcrowd_interactions_unreadable", "Records that are no interaction")
batch_events = Histogram(
    "flashcrowd_interactions_batch", "Events in a batch", buckets=(1, 2, 5, 10, 50, 100, 500, 5000)
)

GENERATION_SHIFT = 44
"""Bits of a version below the generation: 2^44 offsets in a partition, 2^19 generations."""

# In the order of the keys, so that two workers (one of them about to lose its partition) do not wait for each other.
APPLY_LIKES = """
WITH incoming AS (
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::boolean[], $4::bigint[], $5::timestamptz[])
        AS event (post_id, author_id, liked, version, changed_at)
    WHERE EXISTS (SELECT FROM posts WHERE posts.id = event.post_id)
), applied AS (
    INSERT INTO likes (post_id, author_id, liked, version, changed_at)
    SELECT post_id, author_id, liked, version, changed_at FROM incoming ORDER BY post_id, author_id
    ON CONFLICT (post_id, author_id) DO UPDATE
        SET liked = excluded.liked, version = excluded.version, changed_at = excluded.changed_at
        WHERE likes.version < excluded.version
    RETURNING new.post_id, new.author_id, new.liked, old.liked AS was_liked, old.version AS old_version
), changes AS (
    SELECT post_id, sum(liked::int - coalesce(was_liked, false)::int) AS change FROM applied GROUP BY post_id
), counted AS (
    INSERT INTO like_counts (post_id, likes) SELECT post_id, change FROM changes WHERE change <> 0 ORDER BY post_id
    ON CONFLICT (post_id) DO UPDATE SET likes = like_counts.likes + excluded.likes
)
SELECT post_id, author_id, coalesce(old_version, -1) AS old_version FROM applied"""

APPLY_COMMENTS = """
INSERT INTO comments (id, post_id, author_id, text, commented_at)
SELECT id, post_id, author_id, text, commented_at
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::text[], $5::timestamptz[])
    AS event (id, post_id, author_id, text, commented_at)
WHERE EXISTS (SELECT FROM posts WHERE posts.id = event.post_id) ORDER BY id
ON CONFLICT (id) DO NOTHING RETURNING id"""


name_statements({APPLY_LIKES: "database_apply_batch", APPLY_COMMENTS: "database_apply_batch"})


@dataclass
class Batch:
    """Events merged: per (post, author) the last like or unlike, per id the first comment."""

    likes: dict[tuple[int, int], tuple[int, Interaction]] = field(default_factory=dict)
    """(post, author) → (version, event)."""
    like_events: list[tuple[int, Interaction]] = field(default_factory=list)
    comments: dict[str, Interaction] = field(default_factory=dict)
    events: int = 0

    def add(self, version: int, event: Interaction) -> None:
        """Take an event; a partition's events have to come in order."""
        self.events += 1
        if event.kind == "comment":
            self.comments.setdefault(event.comment_id, event)
        else:
            self.likes[event.post_id, event.author_id] = (version, event)
            self.like_events.append((version, event))


class InteractionWorker:
    """Works off the topic ``interactions``."""

    def __init__(
        self, pool: asyncpg.Pool, milestones: MilestoneFile, generation: int, events: EventPublisher | None = None
    ) -> None:
        self._pool = pool
        self._events = events
        self._milestones = milestones
        self._generation = generation

    async def handle(self, messages: Sequence[Message]) -> None:
        """Apply a batch of records in one transaction, record its milestones, and tell the posts' authors."""
        batch = Batch()
        for message in messages:
            try:
                event = decode(message.value() or b"")
            except msgspec.DecodeError as error:  # never written by us; it must not block its partition for ever
                unreadable_total.inc()
                log.error("record.unreadable", offset=message.offset(), error=str(error))
                continue
            batch.add(self._generation << GENERATION_SHIFT | (message.offset() or 0), event)
        note("keys", len({post for post, _ in batch.likes} | {event.post_id for event in batch.comments.values()}))
        applied = await self.apply(batch)
        self._milestones.record(INTERACTIONS_APPLIED, ((event.accepted_at, 1) for event in applied))
        applied_total.inc(len(applied))
        unchanged_total.inc(batch.events - len(applied))
        batch_events.observe(batch.events)
        if self._events:
            likes = [event for _, event in batch.likes.values()]
            await self._events.publish([*likes, *batch.comments.values()])

    async def apply(self, batch: Batch) -> list[Interaction]:
        """Apply ``batch``; return its events that count as applied now.

        An event that a later one of the same batch supersedes counts as applied with it.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            changed = await _apply_likes(connection, batch) if batch.likes else {}
            inserted = await _apply_comments(connection, batch) if batch.comments else []
        applied = [e for version, e in batch.like_events if version > changed.get((e.post_id, e.author_id), version)]
        return applied + [batch.comments[comment_id] for comment_id in inserted]


async def _apply_likes(connection: asyncpg.Connection, batch: Batch) -> dict[tuple[int, int], int]:
    """(post, author) → the version before, -1 if there was none, of each row that changed."""
    final = batch.likes.values()
    rows = await connection.fetch(
        APPLY_LIKES,
        [event.post_id for _, event in final],
        [event.author_id for _, event in final],
        [event.kind == "like" for _, event in final],
        [version for version, _ in final],
        [datetime.fromtimestamp(event.accepted_at, UTC) for _, event in final],
    )
    return {(row["post_id"], row["author_id"]): row["old_version"] for row in rows}


async def _apply_comments(connection: asyncpg.Connection, batch: Batch) -> list[str]:
    """The ids of comments that are new."""
    comments = batch.comments.values()
    rows = await connection.fetch(
        APPLY_COMMENTS,
        [UUID(comment.comment_id) for comment in comments],
        [comment.post_id for comment in comments],
        [comment.author_id for comment in comments],
        [comment.text for comment in comments],
        [datetime.fromtimestamp(comment.accepted_at, UTC) for comment in comments],
    )
    return [str(row["id"]) for row in rows]
