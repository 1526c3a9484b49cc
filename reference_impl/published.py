"""The record of the topic ``posts``: rooms that publish (feed, uploads) write it, fan-out reads it."""

from __future__ import annotations

import time
from datetime import datetime

import msgspec
import structlog

from reference_impl.database import microseconds
from reference_impl.spans import note
from reference_impl.topics import POSTS, DeliveryFailed, LogProducer

log = structlog.get_logger()


class PublishedPost(msgspec.Struct, frozen=True, array_like=True):
    """A post to dispatch. Times are microseconds since the epoch: exact, unlike a float's seconds."""

    post_id: int
    author_id: int
    created_at_us: int
    accepted_at: float
    """Epoch seconds, when the post was handed to the log."""


encode_post = msgspec.json.Encoder().encode
decode_post = msgspec.json.Decoder(PublishedPost).decode


async def announce(producer: LogProducer, post_id: int, author_id: int, created_at: datetime) -> None:
    """Hand a stored post to fan-out.

    If the log does not acknowledge it the row is an outbox: the dispatcher finds it there (``published_at`` is null).
    Nothing that was accepted is lost; it is only delivered later.
    """
    record = PublishedPost(post_id, author_id, microseconds(created_at), time.time())
    note("accepted_at", record.accepted_at)
    try:
        await producer.produce(POSTS, str(post_id), encode_post(record))
    except DeliveryFailed as error:
        log.warning("publish.outbox", post=post_id, error=str(error))
