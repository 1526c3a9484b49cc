"""The reconciler: finds uploads whose notification was lost, and ends those that were abandoned.

A notification is sent when the object is complete, but a store may lose it, or we may be down for longer than it tries. So
every pending upload is looked at now and then, the first time ``upload_reconcile_after_s`` after it began.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import asyncpg
import structlog
from prometheus_client import Counter

from reference_impl.settings import Settings
from reference_impl.uploads.settle import Settler
from reference_impl.uploads.store import ObjectStore, StoreUnavailable, object_key

log = structlog.get_logger()
repaired_total = Counter("flashcrowd_uploads_repaired", "Complete uploads whose notification had not come")
abandoned_total = Counter("flashcrowd_uploads_abandoned", "Uploads that were never completed, and ended by us")
orphans_total = Counter("flashcrowd_uploads_orphans", "Multipart uploads in the store that no row knew of, aborted")

ABANDONED = "it was not completed in time"
AT_ONCE = 100
FAILED = (StoreUnavailable, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)

DUE = """
UPDATE post_media SET checked_at = clock_timestamp() WHERE id IN (
    SELECT id FROM post_media
    WHERE upload_status = 'pending' AND checked_at < clock_timestamp() - $1::float8 * interval '1 second'
    ORDER BY checked_at LIMIT $2 FOR UPDATE SKIP LOCKED
) RETURNING id, upload_id, begun_at < clock_timestamp() - $3::float8 * interval '1 second' AS is_old"""

PENDING_UPLOADS = "SELECT upload_id FROM post_media WHERE upload_status = 'pending' AND upload_id = ANY($1::text[])"


class Reconciler:
    """Looks at pending uploads; several may run at once, each takes others."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, store: ObjectStore, settler: Settler) -> None:
        self._settings = settings
        self._pool = pool
        self._store = store
        self._settler = settler
        self._orphans_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Look again and again, until ``stop``."""
        every_s = self._settings.upload_reconcile_after_s / 4
        while not stop.is_set():
            try:
                looked_at = await self.look()
                if time.monotonic() >= self._orphans_at:
                    self._orphans_at = time.monotonic() + self._settings.upload_abandoned_after_s / 10
                    await self.abort_orphans()
            except FAILED as error:
                looked_at = 0
                log.warning("reconcile.failed", error=repr(error))
            if looked_at < AT_ONCE:
                try:
                    await asyncio.wait_for(stop.wait(), every_s)
                except TimeoutError:
                    continue

    async def look(self) -> int:
        """Look at the pending uploads that are due; return how many they were."""
        rows = await self._pool.fetch(
            DUE, self._settings.upload_reconcile_after_s, AT_ONCE, self._settings.upload_abandoned_after_s
        )
        for row in rows:
            outcome = await self._settler.settle(row["id"])
            if outcome != "unchanged":
                repaired_total.inc()
                log.info("upload.repaired", media=row["id"], outcome=outcome)
            elif row["is_old"]:
                # The row first: were it the other way round, a crash between the two would leave an upload that is
                # pending and can never be completed.
                if await self._settler.refuse(row["id"], ABANDONED) == "refused":
                    abandoned_total.inc()
                await self._store.abort(object_key(row["id"]), row["upload_id"])
        return len(rows)

    async def abort_orphans(self) -> None:
        """Abort old multipart uploads in the store that no pending row knows of (the API died before it wrote one)."""
        before = datetime.now(UTC) - timedelta(seconds=self._settings.upload_abandoned_after_s)
        old = [upload for upload in await self._store.unfinished() if upload.began_at < before]
        rows = await self._pool.fetch(PENDING_UPLOADS, [upload.upload_id for upload in old])
        known = {row["upload_id"] for row in rows}
        for upload in old:
            if upload.upload_id not in known:
                await self._store.abort(upload.key, upload.upload_id)
                orphans_total.inc()
                log.info("upload.orphan", key=upload.key)
