"""Kafka: topic names, an idempotent producer for asyncio, and the consumer loop with manual commits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from time import monotonic, time_ns

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic  # the module where its type is declared
from prometheus_client import Counter, Gauge, Info

from reference_impl import spans
from reference_impl.settings import Settings

POSTS = "posts"
FANOUT = "fanout"
INTERACTIONS = "interactions"
NOTIFICATIONS_HIGH, NOTIFICATIONS_LOW = "notifications_high", "notifications_low"
SEARCH = "search"
GROUPS = {
    POSTS: "fanout_dispatchers",
    FANOUT: "fanout_workers",
    INTERACTIONS: "interaction_workers",
    NOTIFICATIONS_HIGH: "notification_workers_high",
    NOTIFICATIONS_LOW: "notification_workers_low",
    SEARCH: "indexers",
}
"""Topic → the consumer group that works it off."""

IDLE_POLL_S = 0.5
RETRY_FIRST_S, RETRY_LONGEST_S = 0.1, 2.0
REJOIN_WITHIN_S = 30.0
"""Longer than joining a group takes, even where a member has died meanwhile."""
LEAVE_WITHIN_S = 2.5
"""Shorter than `down` waits for a worker: one that cannot leave ends all the same, and the broker's session gives up its member."""

log = structlog.get_logger()
librdkafka_log = logging.getLogger("librdkafka")
acknowledged_offset = Gauge(
    "flashcrowd_topic_acknowledged_offset", "Highest offset acknowledged to this producer", ["topic", "partition"]
)
commit_failures = Counter("flashcrowd_commit_failures", "Offset commits that failed (the batch comes again)", ["topic"])
replaced_total = Counter("flashcrowd_consumers_replaced", "Consumers that did not get back into their group", ["topic"])
instance = Info("flashcrowd_instance", "Which `up` the process belongs to")
worker_ready = Gauge("flashcrowd_worker_ready", "1 once the worker's group has given it its partitions")


NOWHERE = "acknowledged as a duplicate, without an offset"


class DeliveryFailed(Exception):
    """The log did not acknowledge a record; whether it has it is unknown."""


class LogProducer:
    """An idempotent producer (``acks=all``) whose acknowledgements are awaited on the event loop.

    librdkafka reports deliveries on the thread that polls. The reports are collected there and handed to the event
    loop together: one wake-up for many records.

    A record that is not delivered leaves a gap in an idempotent producer's sequence. librdkafka would go on under a
    new epoch, which the embedded broker refuses for ever ("fenced"), and after a fatal error it would not go on at
    all. So a producer that failed to deliver is replaced by a new one; what it has in flight still, it may finish.

    A log that has a record from an earlier try says so, with its offset. The embedded broker gives none, and is not to be
    believed: it notes a producer's sequence before it has the records, and killed in between it "has" what it never stored.
    """

    def __init__(self, settings: Settings) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_s = settings.produce_timeout_s
        self._prefix = settings.name_prefix
        self._configuration = {
            "bootstrap.servers": settings.kafka_bootstrap,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": settings.producer_linger_s * 1000,
            "message.timeout.ms": int(settings.produce_timeout_s * 1000),
            "error_cb": lambda error: log.warning("kafka.producer", error=str(error)),
            "logger": librdkafka_log,
        }
        self._producer = Producer(self._configuration)
        self._retired: list[Producer] = []
        self._reports: deque[tuple[asyncio.Future[None], Producer, KafkaError | None, Message]] = deque()
        self._waking = False
        """Whether the event loop has been told of reports that it has not looked at yet."""
        self._stop = Event()
        self._thread = Thread(target=self._poll, name="kafka-producer", daemon=True)
        self._thread.start()

    async def produce(self, topic: str, key: str, value: bytes, partition: int = -1) -> None:
        """Append a record; return once the log has acknowledged it.

        ``partition``: to this one; by default the key chooses.

        Raises:
            DeliveryFailed: no acknowledgement within ``produce_timeout_s``, one that does not say where the record is, or
                the local queue is full. The log may have the record all the same.
        """
        future: asyncio.Future[None] = self._loop.create_future()
        producer = self._producer

        def delivered(error: KafkaError | None, message: Message) -> None:
            self._reports.append((future, producer, error, message))
            if not self._waking:
                self._waking = True
                self._loop.call_soon_threadsafe(self._resolve)

        try:
            with spans.Span(topic, "kafka_acknowledgement"):
                producer.produce(self._prefix + topic, value, key, partition, on_delivery=delivered)
                async with asyncio.timeout(self._timeout_s + 1):  # wait_for would take one more turn of the loop
                    await future
        except (BufferError, KafkaException, TimeoutError) as error:
            self._replace(producer)
            raise DeliveryFailed(f"{topic}: {error or 'no acknowledgement'}") from error

    def _resolve(self) -> None:
        self._waking = False  # first: a report that comes meanwhile wakes the loop once more, or is seen below
        while self._reports:
            future, producer, error, message = self._reports.popleft()
            partition, offset = message.partition(), message.offset()
            if error is not None:
                self._replace(producer)
                failure = error.str()
            elif partition is None or offset is None:
                failure = NOWHERE
            else:
                acknowledged_offset.labels(str(message.topic()).removeprefix(self._prefix), partition).set(offset)
                if not future.done():
                    future.set_result(None)
                continue
            if not future.done():
                future.set_exception(DeliveryFailed(f"{message.topic()}: {failure}"))

    def _replace(self, failed: Producer) -> None:
        if failed is self._producer:  # and was not replaced already, for another of its records
            log.warning("kafka.producer.replaced")
            self._retired.append(failed)
            self._producer = Producer(self._configuration)

    def _poll(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(0.2)
            for producer in list(self._retired):
                producer.poll(0)
                if not len(producer):
                    self._retired.remove(producer)

    async def partitions(self, topic: str, timeout_s: float = 5.0) -> list[int]:
        """The partitions of a topic.

        Raises:
            KafkaException: the broker did not answer in time.
        """
        name = self._prefix + topic
        return sorted((await asyncio.to_thread(self._producer.list_topics, name, timeout_s)).topics[name].partitions)

    async def check(self, timeout_s: float) -> None:
        """Ask the broker for its metadata.

        Raises:
            KafkaException: it did not answer in time.
        """
        await asyncio.to_thread(self._producer.list_topics, timeout=timeout_s)

    async def close(self, timeout_s: float = 3.0) -> None:
        """Wait for outstanding acknowledgements, then stop the polling thread."""
        await asyncio.to_thread(self._producer.flush, timeout_s)
        self._stop.set()
        await asyncio.to_thread(self._thread.join, 1.0)


class LogConsumer:
    """A member of a topic's consumer group. One thread at a time touches it; nothing is committed by itself.

    Now and then librdkafka (2.16) does not look for its group again after a broker was silent for long: it holds no partitions
    and says nothing, for ever. So a consumer that was given none for ``REJOIN_WITHIN_S`` is replaced by a new one, between two
    batches.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        self.topic = topic
        self._name = settings.name_prefix + topic
        self._settings = settings
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kafka-consumer")
        self._join()

    def _join(self) -> None:
        settings = self._settings
        session_ms = int(settings.session_timeout_s * 1000)
        self._without_since: float | None = monotonic()
        """When the group took our partitions away; None: it has given us some, or as one of too many none."""
        self._consumer = Consumer(
            {
                "bootstrap.servers": settings.kafka_bootstrap,
                "group.id": settings.name_prefix + GROUPS[self.topic],
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "session.timeout.ms": session_ms,
                "heartbeat.interval.ms": session_ms // 6,
                "fetch.wait.max.ms": int(settings.fetch_wait_s * 1000),
                "error_cb": lambda error: log.warning("kafka.consumer", error=str(error)),
                "logger": librdkafka_log,
            }
        )
        self._consumer.subscribe([self._name], on_assign=self._assigned, on_revoke=self._revoked)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:
            self._without_since = None
            worker_ready.set(1)
            log.info("kafka.assigned", partitions=sorted(p.partition for p in partitions))

    def _revoked(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:  # and not one that was replaced, at its end
            self._without_since = monotonic()

    def _replace_if_lost(self) -> None:
        if self._without_since is None or monotonic() - self._without_since < REJOIN_WITHIN_S:
            return
        log.warning("kafka.consumer.replaced", topic=self.topic)
        replaced_total.labels(self.topic).inc()
        self._leave()  # first: two members of one process in one group would wait for each other's turn to poll
        self._join()

    def _leave(self) -> None:
        """Leave the group; a consumer that can't in ``LEAVE_WITHIN_S`` is left to itself, and the broker's session ends it."""
        leaving = Thread(target=self._consumer.close, name="kafka-leave", daemon=True)
        leaving.start()
        leaving.join(LEAVE_WITHIN_S)
        if leaving.is_alive():
            log.warning("kafka.consumer.does_not_leave", topic=self.topic)

    async def poll(self) -> list[Message]:
        """The next batch: a first record (waited for half a second), then what comes within ``poll_wait_s``."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._consume)

    def _consume(self) -> list[Message]:
        self._replace_if_lost()
        messages = self._consumer.consume(1, IDLE_POLL_S)
        if messages and self._settings.poll_max > 1:
            messages += self._consumer.consume(self._settings.poll_max - 1, self._settings.poll_wait_s)
        good = []
        for message in messages:
            if error := message.error():
                log.warning("kafka.fetch", error=error.str())
            else:
                good.append(message)
        return good

    async def commit(self, messages: Sequence[Message]) -> None:
        """Commit the offsets behind ``messages``. A failure is logged: the batch comes again and changes nothing."""
        last: dict[int, int] = {}
        for message in messages:
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None  # a fetched record has both
            last[partition] = max(offset, last.get(partition, -1))
        offsets = [TopicPartition(self._name, partition, offset + 1) for partition, offset in last.items()]
        try:
            await asyncio.get_running_loop().run_in_executor(
                self._thread, lambda: self._consumer.commit(offsets=offsets, asynchronous=False)
            )
        except KafkaException as error:
            commit_failures.labels(self.topic).inc()
            log.warning("kafka.commit", error=str(error))

    async def close(self) -> None:
        """Leave the group, so that the others take over at once."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._leave)
        self._thread.shutdown()


async def work(
    consumer: LogConsumer,
    handle: Callable[[list[Message]], Awaitable[None]],
    stop: asyncio.Event,
    when_idle: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Poll, handle, commit, until ``stop``. A batch that fails is tried again; it is committed only when handled.

    At least once, then: whatever is handled twice must change nothing the second time.
    """
    while not stop.is_set():
        asked_ns = time_ns()
        messages = await consumer.poll()
        if not messages:
            if when_idle:
                await _try_once(when_idle)
            continue
        with spans.Root(GROUPS[consumer.topic], attributes={"events": len(messages)}):
            spans.add(consumer.topic, "kafka_poll", asked_ns, time_ns())
            pause_s = RETRY_FIRST_S
            while not await _try_once(lambda batch=messages: handle(batch)):  # type: ignore[misc]  # mypy: default of a lambda
                if stop.is_set():
                    return
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, RETRY_LONGEST_S)
            with spans.Span(consumer.topic, "kafka_commit"):
                await consumer.commit(messages)


async def _try_once(action: Callable[[], Awaitable[None]]) -> bool:
    try:
        await action()
    except Exception:  # whatever it is: the records are safe in the log, and must be neither skipped nor lost
        log.exception("batch.failed")
        return False
    return True


def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are missing; return their names.

    Raises:
        KafkaException: the broker refused, or did not answer within 10 s.
    """
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap})
    names = {settings.name_prefix + topic: topic for topic in GROUPS}
    created = []
    for name, done in admin.create_topics(
        [NewTopic(name, settings.topic_partitions, replication_factor=-1) for name in names], request_timeout=10
    ).items():
        try:
            done.result(15)
            created.append(names[name])
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return created


def committed_offsets(settings: Settings, topic: str, timeout_s: float = 5.0) -> dict[int, int]:
    """Partition → next offset that the topic's group will read.

    Raises:
        KafkaException: the broker did not answer in time.
    """
    name, group = settings.name_prefix + topic, settings.name_prefix + GROUPS[topic]
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap, "group.id": group})
    try:
        partitions = consumer.list_topics(name, timeout=timeout_s).topics[name].partitions
        answers = consumer.committed([TopicPartition(name, p) for p in partitions], timeout=timeout_s)
        return {answer.partition: max(answer.offset, 0) for answer in answers}
    finally:
        consumer.close()
