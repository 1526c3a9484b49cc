"""The log's consumer: what the library does not mend by itself."""

import asyncio
import dataclasses
import time
import uuid

from prometheus_client import REGISTRY

from reference_impl import state, topics
from reference_impl.topics import FANOUT, LogConsumer, LogProducer


async def next_values(consumer, count):
    """The next records' values; their offsets are committed."""
    values, deadline = [], time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        messages = await consumer.poll()
        values += [message.value() for message in messages]
        if messages:
            await consumer.commit(messages)
    return values


def test_a_consumer_that_is_left_without_partitions_is_replaced_and_misses_nothing(stack, monkeypatch):
    settings = dataclasses.replace(
        state.read(stack.state_dir).to_settings(), name_prefix=f"lost-{uuid.uuid4().hex[:8]}-", topic_partitions=1
    )
    topics.create_topics(settings)

    def replaced():
        return REGISTRY.get_sample_value("flashcrowd_consumers_replaced_total", {"topic": FANOUT}) or 0

    async def lose_it():
        consumer, producer, before = LogConsumer(settings, FANOUT), LogProducer(settings), replaced()
        try:
            await producer.produce(FANOUT, "k", b"first")
            assert await next_values(consumer, 1) == [b"first"]
            consumer._revoked(consumer._consumer, [])  # as the library calls it; that no partitions follow is its fault
            assert await consumer.poll() == []
            assert replaced() == before  # it has some time to find back
            with monkeypatch.context() as impatient:
                impatient.setattr(topics, "REJOIN_WITHIN_S", 0.0)
                await producer.produce(FANOUT, "k", b"second")
                await consumer.poll()  # it has no partitions yet
            assert replaced() == before + 1
            assert await next_values(consumer, 1) == [b"second"]
        finally:
            await consumer.close()
            await producer.close()

    asyncio.run(lose_it())
