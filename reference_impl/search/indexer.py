"""The indexer: the topic ``search`` → the search engine, in bulk; offsets are committed when the engine has the documents.

At least once, and by id: what comes again writes the same document again. A row's changes come in order, also the second
time, so each document ends as its row.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import msgspec
import structlog
from confluent_kafka import Message
from prometheus_client import Counter, Gauge, Histogram

from reference_impl.milestones import SEARCH_SEARCHABLE, MilestoneFile
from reference_impl.search.index import IndexRefused, IndexUnavailable, SearchIndex
from reference_impl.search.records import Change, decode

log = structlog.get_logger()
indexed_total = Counter("flashcrowd_search_indexed", "Changes written to the search engine")
refused_total = Counter("flashcrowd_search_refused", "Documents that the search engine refused for good")
unreadable_total = Counter("flashcrowd_search_unreadable", "Records that are no change")
waiting_batches = Gauge("flashcrowd_search_batches_unseen", "Batches that are written and not yet found by a query")
batch_changes = Histogram("flashcrowd_search_batch", "Changes in a batch", buckets=(1, 2, 5, 10, 50, 100, 500, 5000))

LOOK_EVERY_S = 0.05
LOOK_AT_MOST_S = 60.0


class Indexer:
    """Works off the topic ``search``."""

    def __init__(self, index: SearchIndex, milestones: MilestoneFile) -> None:
        self._index = index
        self._milestones = milestones
        self._unseen: deque[tuple[float, list[Change]]] = deque()
        self._written = asyncio.Event()

    async def wait_for_indexes(self, stop: asyncio.Event) -> None:
        """Wait until the indexes are there: an engine would make up those that are missing, with mappings of its own."""
        while not stop.is_set():
            try:
                if await self._index.exists():
                    return
            except IndexUnavailable as error:
                log.warning("index.unavailable", error=str(error))
            await asyncio.sleep(0.1)

    async def handle(self, messages: Sequence[Message]) -> None:
        """Write a batch of records, each document's last change only."""
        last: dict[tuple[str, int], Change] = {}
        inserted: list[Change] = []
        for message in messages:
            try:
                change = decode(message.value() or b"")
            except msgspec.DecodeError as error:  # never written by us; it must not block its partition for ever
                unreadable_total.inc()
                log.error("record.unreadable", offset=message.offset(), error=str(error))
                continue
            if change.action == "clear":
                await self._write(last)
                await self._index.clear(change.kind, change.lsn)
                last, inserted = {}, [i for i in inserted if i.kind != change.kind or i.lsn >= change.lsn]
                continue
            last[change.kind, change.id] = change
            if change.inserted:
                inserted.append(change)
        await self._write(last)
        batch_changes.observe(len(messages))
        if inserted := [i for i in inserted if last.get((i.kind, i.id), i).action == "put"]:
            self._unseen.append((asyncio.get_running_loop().time(), inserted))
            waiting_batches.set(len(self._unseen))
            self._written.set()

    async def _write(self, last: dict[tuple[str, int], Change]) -> None:
        refused = await self._index.write(last.values())
        indexed_total.inc(len(last) - len(refused))
        for reason in refused:
            refused_total.inc()
            log.error("document.refused", reason=reason)

    async def watch(self) -> None:
        """Record the milestone of new rows when a query finds them: look for the oldest batch until it is there."""
        loop = asyncio.get_running_loop()
        while True:
            while self._unseen:
                written_at, changes = self._unseen[0]
                if await self._found(changes):
                    self._milestones.record(SEARCH_SEARCHABLE, ((change.committed_at, 1) for change in changes))
                elif loop.time() - written_at < LOOK_AT_MOST_S:
                    await asyncio.sleep(LOOK_EVERY_S)
                    continue
                else:  # deleted meanwhile, or refused
                    log.warning("documents.unseen", count=len(changes))
                self._unseen.popleft()
                waiting_batches.set(len(self._unseen))
            self._written.clear()
            await self._written.wait()

    async def _found(self, changes: list[Change]) -> bool:
        try:
            for kind in {change.kind for change in changes}:
                ids = {change.id for change in changes if change.kind == kind}
                if await self._index.count(kind, list(ids)) < len(ids):
                    return False
        except (IndexUnavailable, IndexRefused) as error:
            log.warning("watch.failed", error=str(error))
            return False
        return True
