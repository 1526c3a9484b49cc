"""Tells the posts' authors: a like or comment that is in the database becomes an event for their notifications.

Comments go to the topic ``notifications_high``, likes to ``notifications_low``: Kafka has no priorities, and on one topic
the few comments would wait behind the many likes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import asyncpg

from reference_impl.events import NotificationEvent, encode_notification
from reference_impl.interactions.records import Interaction
from reference_impl.spans import name_statements
from reference_impl.topics import NOTIFICATIONS_HIGH, NOTIFICATIONS_LOW, LogProducer

LIKE_IDS = uuid.UUID("b0b1b6a2-5f5e-5b47-9f0a-5d1d5b8a9f10")
"""Namespace of the ids of like events; any fixed UUID would do."""

AUTHORS = "SELECT id, author_id FROM posts WHERE id = ANY($1::bigint[])"


name_statements({AUTHORS: "database_authors"})


class EventPublisher:
    """Publishes after the database's commit and before the offset's: what was accepted is told at least once.

    A batch that comes again is told again, under the same ids; the notifications' workers drop what they have. The same
    holds for a like that is taken back and given once more: its author has been told.
    """

    def __init__(self, pool: asyncpg.Pool, producer: LogProducer) -> None:
        self._pool = pool
        self._producer = producer

    async def publish(self, interactions: Sequence[Interaction]) -> None:
        """Produce the events of likes and comments; return when the log has acknowledged all.

        Raises:
            DeliveryFailed, asyncpg.PostgresError, OSError.
        """
        told = [interaction for interaction in interactions if interaction.kind != "unlike"]
        if not told:
            return
        authors = dict(await self._pool.fetch(AUTHORS, [interaction.post_id for interaction in told]))
        events = [
            NotificationEvent(
                _id(interaction),
                "comment" if interaction.kind == "comment" else "like",
                authors[interaction.post_id],
                interaction.post_id,
                interaction.author_id,
                interaction.accepted_at,
            )
            for interaction in told
            if authors.get(interaction.post_id, interaction.author_id)
            != interaction.author_id  # there, and not one's own
        ]
        await asyncio.gather(
            *(
                self._producer.produce(
                    NOTIFICATIONS_HIGH if event.kind == "comment" else NOTIFICATIONS_LOW,
                    str(event.user_id),
                    encode_notification(event),
                )
                for event in events
            )
        )


def _id(interaction: Interaction) -> str:
    if interaction.kind == "comment":
        return interaction.comment_id
    return str(uuid.uuid5(LIKE_IDS, f"{interaction.post_id}/{interaction.author_id}"))
