"""An acknowledgement that gets lost on its way, in a process of its own: Locust, once imported, has made threads into greenlets.

    python -m tests.reference_impl.lost_answer FOLDER      prints what happened as JSON

A broker of its own tells its clients the address of a relay. The relay hands over the first records sent, keeps the broker's
answer for itself, and hangs up: the log has the records, and the producer can't know it. Asked again, the embedded broker says
"duplicate" without an offset, as it does of records that it lost when it was killed.
"""

import asyncio
import dataclasses
import json
import sys
from pathlib import Path

from confluent_kafka import Consumer
from prometheus_client import REGISTRY

from reference_impl import embedded, processes, topics
from reference_impl.settings import Settings
from reference_impl.topics import FANOUT, DeliveryFailed, LogProducer

PRODUCE = 0
"""Kafka's number of the request that appends records."""


class Relay:
    """Passes requests and answers on, but for the answer to the first request that appends records."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self._connections: set[asyncio.Task[None]] = set()
        self.lost = 0

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a client's connection until one side closes it."""
        self._connections.add(asyncio.create_task(self._serve(reader, writer)))

    async def end(self) -> None:
        """Break the connections that are left."""
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
        keep = asyncio.Event()
        tasks = [
            asyncio.create_task(self._requests(reader, to_broker, keep)),
            asyncio.create_task(self._answers(from_broker, writer, keep)),
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            to_broker.close()

    async def _requests(self, reader: asyncio.StreamReader, to_broker: asyncio.StreamWriter, keep: asyncio.Event) -> None:
        while True:
            size = await reader.readexactly(4)
            request = await reader.readexactly(int.from_bytes(size))
            if int.from_bytes(request[:2]) == PRODUCE and not self.lost:
                self.lost += 1
                keep.set()
            to_broker.write(size + request)

    async def _answers(self, from_broker: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: asyncio.Event) -> None:
        while True:
            size = await from_broker.readexactly(4)
            answer = await from_broker.readexactly(int.from_bytes(size))
            if keep.is_set():
                return
            writer.write(size + answer)


def logged(bootstrap: str, number: int) -> list[str]:
    """The log's records, ``number`` of them and what else comes within a second."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "auto.offset.reset": "earliest", "session.timeout.ms": 2000}
    )
    try:
        consumer.subscribe([FANOUT])
        found = [*consumer.consume(number, 30), *consumer.consume(1, 1)]
        return [(message.value() or b"").decode() for message in found]
    finally:
        consumer.close()


async def lose_one(bootstrap: str, broker_port: int, relay_port: int) -> dict[str, object]:
    """Produce a record whose acknowledgement is lost, then, as its sender would, the same again, and another."""
    relay = Relay(broker_port)
    server = await asyncio.start_server(relay.connected, "127.0.0.1", relay_port)
    settings = dataclasses.replace(Settings(), kafka_bootstrap=bootstrap, topic_partitions=1, produce_timeout_s=20.0)
    await asyncio.to_thread(topics.create_topics, settings)
    producer = LogProducer(settings)
    labels = {"topic": FANOUT, "partition": "0"}
    failure = ""
    try:
        try:
            await producer.produce(FANOUT, "k", b"first")
        except DeliveryFailed as error:
            failure = str(error)
        await asyncio.gather(*(producer.produce(FANOUT, "k", text) for text in (b"first", b"second")))
        return {
            "lost": relay.lost,
            "failure": failure,
            "offset": REGISTRY.get_sample_value("flashcrowd_topic_acknowledged_offset", labels),
            "logged": await asyncio.to_thread(logged, bootstrap, 3),
        }
    finally:
        await producer.close()
        server.close()
        await relay.end()


if __name__ == "__main__":
    folder, broker_port, relay_port = Path(sys.argv[1]), processes.free_port(), processes.free_port()
    broker = embedded.start_kafka(folder, folder, broker_port, Settings(), advertised_port=relay_port)[0]
    try:
        sys.stdout.write(json.dumps(asyncio.run(lose_one(f"127.0.0.1:{relay_port}", broker_port, relay_port))) + "\n")
    finally:
        processes.stop([broker], 10)
