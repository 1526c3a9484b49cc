"""Change data capture: PostgreSQL's log → the topic ``search``.

A replication slot makes the server keep its log until we confirm it, and a position is confirmed only when Kafka has
acknowledged everything before it: whatever dies, nothing is lost. What was sent and not confirmed is sent again, in the same
order for each row, so the index ends in the same state.

Rows that were there before the slot are read from the tables (the snapshot) and go the same way. That happens when the
slot, the indexes or the topic are new; a snapshot that was interrupted begins again. A ``clear`` behind it removes what the
index has of rows that are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import psycopg2
import structlog
from confluent_kafka import KafkaException
from prometheus_client import Counter, Gauge
from psycopg2.errors import DuplicateObject
from psycopg2.extras import REPLICATION_LOGICAL, LogicalReplicationConnection, ReplicationCursor

from reference_impl.search.index import IndexRefused, IndexUnavailable, SearchIndex
from reference_impl.search.pgoutput import Begin, Commit, Decoder, Message, Row, Truncate, Values
from reference_impl.search.records import TABLES, Change, encode
from reference_impl.settings import Settings
from reference_impl.topics import SEARCH, DeliveryFailed, LogProducer, worker_ready

log = structlog.get_logger()
changes_total = Counter("flashcrowd_search_changes", "Changes acknowledged by the log", ["kind", "action"])
unchanged_total = Counter("flashcrowd_search_changes_unchanged", "Updates that changed nothing searchable")
snapshots_total = Counter("flashcrowd_search_snapshots", "Times that all rows were read")
slot_lag = Gauge("flashcrowd_search_slot_lag_bytes", "Log that the database keeps because it is not confirmed")

SLOT = PUBLICATION = "flashcrowd_search"
BATCH = 1_000
RETRY_FIRST_S, RETRY_LONGEST_S = 0.2, 3.0
IDLE_S = 0.5
"""How long the slot's position may lag while nothing searchable happens."""
REMEMBERED_ROWS = 100_000

CREATE_PUBLICATION = f"""
DO $$ BEGIN
    CREATE PUBLICATION {PUBLICATION} FOR TABLE {", ".join(f"{t} ({', '.join(columns)})" for t, columns in TABLES.items())};
EXCEPTION WHEN duplicate_object THEN NULL; END $$"""
# The database gives up a slot that nobody has read for too long (max_slot_wal_keep_size), before its log fills the disk.
DROP_LOST_SLOT = """
SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1 AND wal_status = 'lost'"""
GENERATION = "SELECT generation FROM log_generations WHERE topic = $1"
SNAPSHOT_OF = "SELECT generation FROM search_snapshots WHERE slot = $1"
FORGET_SNAPSHOT = "DELETE FROM search_snapshots WHERE slot = $1"
NOTE_SNAPSHOT = "INSERT INTO search_snapshots (slot, generation) VALUES ($1, $2)"
# An LSN as a number. The cast to numeric first: bigint has no cast from pg_lsn.
LSN_NOW = "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint, extract(epoch FROM clock_timestamp())::float8"
SLOT_LAG = """
SELECT (pg_current_wal_lsn() - confirmed_flush_lsn)::float8 FROM pg_replication_slots WHERE slot_name = $1"""

TRANSIENT = (
    psycopg2.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    KafkaException,
    DeliveryFailed,
    IndexUnavailable,
)


async def readable(descriptor: int, within_s: float) -> None:
    """Return when there is something to read.

    The loop watches the descriptor no longer than that: until somebody reads, it would come back at once, and again, and keep
    a core busy while the broker is being waited for.

    Raises:
        TimeoutError.
    """
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, woken.set)
    try:
        await asyncio.wait_for(woken.wait(), within_s)
    finally:
        loop.remove_reader(descriptor)


class Capture:
    """Follows the database's log until it is told to stop."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, producer: LogProducer, index: SearchIndex) -> None:
        self._settings = settings
        self._pool = pool
        self._producer = producer
        self._index = index
        self._partitions: list[int] = []
        self._pending: list[Change] = []
        self._sent: dict[tuple[str, int], int] = {}
        """(table, id) → hash of the document that was sent last: most updates change nothing searchable."""

    async def run(self, stop: asyncio.Event) -> None:
        """Capture until ``stop``; whatever fails is tried again from the confirmed position."""
        watching = asyncio.create_task(self._watch_lag())
        pause_s = RETRY_FIRST_S
        try:
            while not stop.is_set():
                try:
                    async with self._connected() as cursor:
                        worker_ready.set(1)
                        pause_s = RETRY_FIRST_S
                        await self._follow(cursor, stop)
                except (*TRANSIENT, IndexRefused, ValueError) as error:
                    worker_ready.set(0)
                    log.warning("capture.failed", error=repr(error))
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), pause_s)
                    pause_s = min(2 * pause_s, RETRY_LONGEST_S)
        finally:
            watching.cancel()

    async def _watch_lag(self) -> None:
        while True:
            try:
                slot_lag.set(await self._pool.fetchval(SLOT_LAG, SLOT) or 0)
            except TRANSIENT:
                slot_lag.set(math.nan)
            await asyncio.sleep(1)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[ReplicationCursor]:
        """A cursor that streams from the slot; what was missing (publication, slot, indexes, snapshot) is made first.

        Where the database has given the slot up a new one begins, and all rows are sent again.
        """
        await self._pool.execute(CREATE_PUBLICATION)
        await self._pool.execute(DROP_LOST_SLOT, SLOT)
        connection = await asyncio.to_thread(
            psycopg2.connect, self._settings.database_url, connection_factory=LogicalReplicationConnection
        )
        try:
            cursor = connection.cursor()
            complete = True
            try:
                cursor.create_replication_slot(SLOT, slot_type=REPLICATION_LOGICAL, output_plugin="pgoutput")
                complete = False
            except DuplicateObject:
                pass
            if await self._index.create():
                complete = False
            self._pending.clear()
            self._sent.clear()
            self._partitions = await self._producer.partitions(SEARCH)
            await self._snapshot(complete)
            cursor.start_replication(
                slot_name=SLOT, decode=False, options={"proto_version": "1", "publication_names": PUBLICATION}
            )
            yield cursor
        finally:
            connection.close()

    async def _snapshot(self, complete: bool) -> None:
        """Send all rows, unless an earlier snapshot of this slot is still good."""
        generation = await self._pool.fetchval(GENERATION, SEARCH) or 0
        if complete and await self._pool.fetchval(SNAPSHOT_OF, SLOT) == generation:
            return
        await self._pool.execute(FORGET_SNAPSHOT, SLOT)
        # The position before the rows are read: a truncation in between clears nothing that is newer than itself.
        lsn, now_s = await self._pool.fetchrow(LSN_NOW)
        async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            for table, columns in TABLES.items():
                changes = []
                async for row in connection.cursor(f"SELECT {', '.join(columns)} FROM {table}", prefetch=BATCH):
                    values = dict(row)
                    if "created_at" in values:
                        values["created_at"] = values["created_at"].timestamp()
                    changes.append(Change("put", table, values["id"], lsn, now_s, document=values))
                    if len(changes) >= BATCH:
                        await self._send(changes)
                        changes = []
                await self._send([*changes, Change("clear", table, 0, lsn, now_s)])
        await self._pool.execute(NOTE_SNAPSHOT, SLOT, generation)
        snapshots_total.inc()
        log.info("snapshot", lsn=lsn)

    async def _follow(self, cursor: ReplicationCursor, stop: asyncio.Event) -> None:
        decoder = Decoder()
        transaction: Begin | None = None
        confirmed = 0
        while not stop.is_set():
            message = cursor.read_message()
            if message is not None:
                decoded = decoder.decode(message.payload)
                if isinstance(decoded, Begin):
                    transaction = decoded
                elif isinstance(decoded, Commit):
                    transaction, confirmed = None, decoded.end_lsn
                elif decoded is not None and transaction is not None:
                    await self._take(decoded, message.data_start, transaction.committed_at)
            if message is None or len(self._pending) >= BATCH:
                await self._send(self._pending)
                self._pending = []
                if message is None and transaction is None:
                    # All that was received is safe, and so is all that the server says it has nothing to send of.
                    confirmed = max(confirmed, cursor.wal_end)
                cursor.send_feedback(flush_lsn=confirmed, force=True)
            if message is None:
                try:
                    await readable(cursor.fileno(), IDLE_S)
                except TimeoutError:
                    cursor.send_feedback(flush_lsn=confirmed, reply=True, force=True)

    async def _take(self, message: Message, lsn: int, committed_at: float) -> None:
        match message:
            case Truncate(tables):
                self._sent.clear()
                self._pending += [Change("clear", table, 0, lsn, committed_at) for table in tables]
            case Row(table, "delete", _, key):
                self._delete(table, key, lsn, committed_at)
            case Row(table, action, values, key):
                if key is not None:
                    self._delete(table, key, lsn, committed_at)
                document = await self._document(table, values)
                if document is None:
                    return
                row, digest = (table, document["id"]), hash(tuple(document.values()))
                if self._sent.pop(row, None) == digest and action == "update":
                    unchanged_total.inc()
                else:
                    inserted = action == "insert"
                    self._pending.append(Change("put", table, row[1], lsn, committed_at, inserted, document))
                self._sent[row] = digest
                if len(self._sent) > REMEMBERED_ROWS:
                    del self._sent[next(iter(self._sent))]

    def _delete(self, table: str, key: Values | None, lsn: int, committed_at: float) -> None:
        assert key is not None and key["id"] is not None  # the primary key
        self._sent.pop((table, int(key["id"])), None)
        self._pending.append(Change("delete", table, int(key["id"]), lsn, committed_at))

    async def _document(self, table: str, values: Values) -> dict[str, Any] | None:
        """The searchable columns; a large one that an update left alone is not in the log, so the row is read."""
        columns = TABLES[table]
        if not columns.keys() <= values.keys():
            texts = ", ".join(f"{column}::text" for column in columns)
            row = await self._pool.fetchrow(f"SELECT {texts} FROM {table} WHERE id = $1", int(values["id"] or 0))
            if row is None:  # deleted since then: that change follows
                return None
            values = dict(row)
        return {column: read(text) for column, read in columns.items() if (text := values[column]) is not None}

    async def _send(self, changes: list[Change]) -> None:
        """Produce ``changes``; return when all are acknowledged. A row's changes stay in order: they share a partition."""
        await asyncio.gather(*self._produced(changes))
        for change in changes:
            changes_total.labels(change.kind, change.action).inc()

    def _produced(self, changes: list[Change]) -> Iterator[asyncio.Future[None]]:
        for change in changes:
            if change.action == "clear":  # in every partition: each clears what came before it there
                for partition in self._partitions:
                    yield asyncio.ensure_future(self._producer.produce(SEARCH, "", encode(change), partition))
            else:
                key = f"{change.kind}:{change.id}"
                yield asyncio.ensure_future(self._producer.produce(SEARCH, key, encode(change)))
