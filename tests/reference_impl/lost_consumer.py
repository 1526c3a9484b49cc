"""A consumer that is left without partitions, in a process of its own: Locust, once imported, has made threads into greenlets.

    python -m tests.reference_impl.lost_consumer STATE_DIR      prints what happened as JSON
"""

import asyncio
import dataclasses
import json
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Message
from prometheus_client import REGISTRY

from reference_impl import state, topics
from reference_impl.settings import Settings
from reference_impl.topics import FANOUT, LogConsumer, LogProducer


def _texts(messages: Sequence[Message]) -> list[str]:
    return [(message.value() or b"").decode() for message in messages]


async def _values(consumer: LogConsumer) -> list[str]:
    """The next records' values, waited for half a minute at most; their offsets are committed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if messages := await consumer.poll():
            await consumer.commit(messages)
            return _texts(messages)
    return []


def _replaced() -> float:
    return REGISTRY.get_sample_value("flashcrowd_consumers_replaced_total", {"topic": FANOUT}) or 0.0


async def lose_one(settings: Settings) -> dict[str, object]:
    """Read a record, lose the partitions, wait too short and then too long for new ones, read another record."""
    happened: dict[str, object] = {}
    consumer, producer = LogConsumer(settings, FANOUT), LogProducer(settings)
    try:
        await producer.produce(FANOUT, "k", b"first")
        happened["before"] = await _values(consumer)
        consumer._revoked(consumer._consumer, [])  # as the library calls it; that no partitions follow is its fault
        happened["meanwhile"] = len(await consumer.poll())
        happened["replaced_at_once"] = _replaced()
        topics.REJOIN_WITHIN_S = 0.0
        await producer.produce(FANOUT, "k", b"second")
        early = _texts(await consumer.poll())
        happened["replaced_then"] = _replaced()
        topics.REJOIN_WITHIN_S = 60.0
        happened["after"] = early or await _values(consumer)
    finally:
        await consumer.close()
        await producer.close()
    return happened


if __name__ == "__main__":
    settings = dataclasses.replace(
        state.read(Path(sys.argv[1])).to_settings(), name_prefix=f"lost-{uuid.uuid4().hex[:8]}-", topic_partitions=1
    )
    topics.create_topics(settings)
    sys.stdout.write(json.dumps(asyncio.run(lose_one(settings))) + "\n")
