"""The inbox: every notification is a row until it was handed to its device, and the row says when to try next.

The log's offsets are committed when the rows are. From then on a worker that dies is no loss: a notification is *claimed* for
a few seconds only, and whoever claims next finds it again. So a device may get it twice, under the same id, and drops it.

- **Priority.** Whatever is due of the comments is claimed before any like.
- **Coalescing.** The first like of a post is due at once. Later ones within the window are gathered in one row, due when
  the window ends: "somebody and 20 others".
- **Once per event.** An event's id is stored with its notification; one that comes again changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias
from uuid import UUID

import asyncpg
import msgspec

from reference_impl.events import NotificationEvent

Kind: TypeAlias = Literal["comment", "like"]
PRIORITIES: dict[Kind, int] = {"comment": 0, "like": 1}
TOPICS: dict[Kind, str] = {"comment": "comments", "like": "likes"}
"""Kind → what a device subscribes to, and what a user can switch off."""
LONGEST_CLAIM = 10
"""A notification that is tried again and again is claimed for at most so many times the first claim."""

NEW_EVENTS = """
INSERT INTO notification_events (id, notification_id, accepted_at)
SELECT DISTINCT ON (event.id) event.id, event.id, event.accepted_at
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::float8[]) AS event (id, user_id, kind, accepted_at)
LEFT JOIN notification_preferences AS wants USING (user_id)
WHERE CASE event.kind WHEN 'comment' THEN coalesce(wants.comments, true) ELSE coalesce(wants.likes, true) END
ORDER BY event.id ON CONFLICT DO NOTHING RETURNING id"""

NEW_COMMENTS = """
INSERT INTO notifications (id, user_id, post_id, kind, priority, actor_id, others, accepted_at, due_at, try_at)
SELECT id, user_id, post_id, 'comment', 0, actor_id, 0, accepted_at, now(), now()
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::float8[])
    AS event (id, user_id, post_id, actor_id, accepted_at)"""

# The row that still gathers a post's likes is the one that nobody has claimed yet (index notifications_gathering).
GATHER_LIKES = """
INSERT INTO notifications AS mine (id, user_id, post_id, kind, priority, actor_id, others, accepted_at, due_at, try_at)
SELECT id, user_id, post_id, 'like', 1, actor_id, likes - 1, accepted_at, due, due
FROM (
    SELECT likes.*, greatest(now(), (
        SELECT max(due_at) FROM notifications AS before
        WHERE before.user_id = likes.user_id AND before.post_id = likes.post_id AND before.kind = 'like'
    ) + $7::float8 * interval '1 second') AS due
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::float8[])
        AS likes (id, user_id, post_id, actor_id, likes, accepted_at)
) AS gathered ORDER BY user_id, post_id
ON CONFLICT (user_id, post_id) WHERE kind = 'like' AND attempts = 0 DO UPDATE
    SET others = mine.others + excluded.others + 1, actor_id = excluded.actor_id
RETURNING id, user_id, post_id"""

NAME_EVENTS = """
UPDATE notification_events AS event SET notification_id = named.notification_id
FROM unnest($1::uuid[], $2::uuid[]) AS named (id, notification_id) WHERE event.id = named.id"""

COLUMNS = "id, user_id, post_id, kind, actor_id, others, accepted_at, attempts"

# $4: providers that accept nothing just now; who can only be reached by them is left alone.
CLAIM_DUE = f"""
UPDATE notifications SET attempts = attempts + 1,
    try_at = now() + $3::float8 * interval '1 second' * least(attempts + 1, {LONGEST_CLAIM})
WHERE id IN (
    SELECT id FROM notifications AS due
    WHERE delivered_at IS NULL AND priority = $1 AND try_at <= now() AND (
        cardinality($4::text[]) = 0
        OR EXISTS (SELECT FROM online WHERE online.user_id = due.user_id)
        OR NOT EXISTS (SELECT FROM devices WHERE devices.user_id = due.user_id AND platform = ANY($4::text[]))
    )
    ORDER BY try_at LIMIT $2 FOR UPDATE SKIP LOCKED
) RETURNING {COLUMNS}"""

CLAIM_OF_USER = f"""
UPDATE notifications SET attempts = attempts + 1, try_at = now() + $2::float8 * interval '1 second'
WHERE id IN (
    SELECT id FROM notifications
    WHERE user_id = $1 AND delivered_at IS NULL AND (try_at <= now() OR try_at = 'infinity')
    ORDER BY priority, due_at LIMIT $3 FOR UPDATE SKIP LOCKED
) RETURNING {COLUMNS}"""

TRY_AGAIN = """
UPDATE notifications SET try_at = now() + again.after_s * interval '1 second'
FROM unnest($1::uuid[], $2::float8[]) AS again (id, after_s)
WHERE notifications.id = again.id AND delivered_at IS NULL"""

# Into the inbox for good: until its user has a device or a stream, which is when it becomes due again.
KEEP = "UPDATE notifications SET try_at = 'infinity' WHERE id = ANY($1::uuid[]) AND delivered_at IS NULL"
# Of users who came online at the very moment when it was decided that they are not.
RELEASE_ONLINE = """
UPDATE notifications SET try_at = now()
WHERE user_id IN (SELECT user_id FROM online) AND delivered_at IS NULL AND try_at = 'infinity'"""
RELEASE = "UPDATE notifications SET try_at = now() WHERE user_id = $1 AND delivered_at IS NULL AND try_at = 'infinity'"

DELIVERED = """
WITH done AS (
    UPDATE notifications SET delivered_at = now()
    WHERE id = ANY($1::uuid[]) AND ($2::bigint IS NULL OR user_id = $2) AND delivered_at IS NULL RETURNING id, kind
)
SELECT done.id, done.kind, event.accepted_at FROM done JOIN notification_events AS event ON event.notification_id = done.id"""


class Notification(msgspec.Struct, frozen=True):
    """What a device gets. ``others``: how many more people did the same to the post."""

    id: str
    user_id: int
    post_id: int
    kind: Kind
    actor_id: int
    others: int
    accepted_at: float
    """Epoch seconds, when the API accepted the first like or the comment."""
    attempts: int = 1

    def text(self) -> str:
        """The sentence on the screen."""
        others = f" and {self.others} other{'s' * (self.others > 1)}" if self.others else ""
        done = "liked" if self.kind == "like" else "commented on"
        return f"user{self.actor_id}{others} {done} your post"


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Notification).decode


async def take_in(pool: asyncpg.Pool, events: Sequence[NotificationEvent], like_window_s: float) -> int:
    """Store what ``events`` give, in one transaction; return how many of them were new and wanted."""
    async with pool.acquire() as connection, connection.transaction():
        rows = await connection.fetch(
            NEW_EVENTS,
            [UUID(event.id) for event in events],
            [event.user_id for event in events],
            [event.kind for event in events],
            [event.accepted_at for event in events],
        )
        ids = {str(row["id"]) for row in rows}
        fresh = {event.id: event for event in events if event.id in ids}
        if comments := [event for event in fresh.values() if event.kind == "comment"]:
            await connection.execute(
                NEW_COMMENTS,
                [UUID(event.id) for event in comments],
                [event.user_id for event in comments],
                [event.post_id for event in comments],
                [event.actor_id for event in comments],
                [event.accepted_at for event in comments],
            )
        if likes := [event for event in fresh.values() if event.kind == "like"]:
            await _gather(connection, likes, like_window_s)
    return len(fresh)


async def _gather(connection: asyncpg.Connection, likes: list[NotificationEvent], like_window_s: float) -> None:
    counts = Counter((event.user_id, event.post_id) for event in likes)
    first = {(event.user_id, event.post_id): event for event in reversed(likes)}
    newest = {(event.user_id, event.post_id): event for event in likes}
    rows = await connection.fetch(
        GATHER_LIKES,
        [UUID(first[key].id) for key in counts],
        [user_id for user_id, _ in counts],
        [post_id for _, post_id in counts],
        [newest[key].actor_id for key in counts],
        list(counts.values()),
        [first[key].accepted_at for key in counts],
        like_window_s,
    )
    gathered = {(row["user_id"], row["post_id"]): row["id"] for row in rows}
    await connection.execute(
        NAME_EVENTS,
        [UUID(event.id) for event in likes],
        [gathered[event.user_id, event.post_id] for event in likes],
    )


async def claim_due(pool: asyncpg.Pool, most: int, claim_s: float, closed: Sequence[str] = ()) -> list[Notification]:
    """At most ``most`` notifications that are due, comments first, for ``claim_s``; ``closed``: providers out of reach."""
    claimed: list[Notification] = []
    for priority in PRIORITIES.values():
        if len(claimed) < most:
            claimed += _read(await pool.fetch(CLAIM_DUE, priority, most - len(claimed), claim_s, list(closed)))
    return claimed


async def claim_of_user(pool: asyncpg.Pool, user_id: int, most: int, claim_s: float) -> list[Notification]:
    """What waits for a user, comments first."""
    claimed = _read(await pool.fetch(CLAIM_OF_USER, user_id, claim_s, most))
    return sorted(claimed, key=lambda one: PRIORITIES[one.kind])


def _read(rows: Sequence[asyncpg.Record]) -> list[Notification]:
    return [Notification(str(row["id"]), *tuple(row)[1:]) for row in rows]


async def delivered(
    pool: asyncpg.Pool, ids: Sequence[str], user_id: int | None = None
) -> dict[str, tuple[Kind, list[float]]]:
    """Note that these (of ``user_id``) have been handed over; those that were not before, with their events' times."""
    rows = await pool.fetch(DELIVERED, [UUID(one) for one in ids], user_id)
    found: dict[str, tuple[Kind, list[float]]] = {}
    for row in rows:
        found.setdefault(str(row["id"]), (row["kind"], []))[1].append(row["accepted_at"])
    return found
