"""What becomes of an upload whose object is whole: published, or refused and deleted."""

from __future__ import annotations

from typing import Literal

import asyncpg
import structlog
from prometheus_client import Counter

from reference_impl.milestones import UPLOADS_READY, MilestoneFile
from reference_impl.published import announce
from reference_impl.topics import LogProducer
from reference_impl.uploads.rules import SNIFFED_BYTES, violation
from reference_impl.uploads.store import ObjectStore, object_key

log = structlog.get_logger()
settled_total = Counter("flashcrowd_uploads_settled", "Uploads that came to an end", ["status"])

PENDING = """
SELECT media_type, size_bytes, begun_at FROM post_media WHERE id = $1 AND upload_status = 'pending'"""

# One statement: whoever comes second (a notification sent twice, the reconciler) finds nothing pending and adds no post.
PUBLISH = """
WITH done AS (
    UPDATE post_media SET upload_status = 'success', finished_at = clock_timestamp()
    WHERE id = $1 AND upload_status = 'pending' RETURNING post_id, owner_id, title, content
)
INSERT INTO posts (id, author_id, title, content) SELECT post_id, owner_id, title, content FROM done
RETURNING id, author_id, created_at"""

REFUSE = """
UPDATE post_media SET upload_status = 'refused', reason = $2, finished_at = clock_timestamp()
WHERE id = $1 AND upload_status = 'pending'"""

Outcome = Literal["success", "refused", "unchanged"]


class Settler:
    """Settles uploads one by one. What it does twice changes nothing the second time."""

    def __init__(
        self, pool: asyncpg.Pool, store: ObjectStore, producer: LogProducer, milestones: MilestoneFile
    ) -> None:
        self._pool = pool
        self._store = store
        self._producer = producer
        self._milestones = milestones

    async def settle(self, media_id: int) -> Outcome:
        """Look at the object of a pending upload. ``unchanged``: nothing is pending, or the object is not there (yet).

        Raises:
            StoreUnavailable, asyncpg.PostgresError: nothing was changed; try again.
        """
        row = await self._pool.fetchrow(PENDING, media_id)
        if row is None:
            return "unchanged"
        key = object_key(media_id)
        stored_bytes = await self._store.size_bytes(key)
        if stored_bytes is None:
            return "unchanged"
        first_bytes = await self._store.first_bytes(key, SNIFFED_BYTES)
        wrong = violation(row["media_type"], row["size_bytes"], stored_bytes, first_bytes)
        if wrong:
            await self._store.delete(key)  # first: a refused upload must not leave an object that nobody looks for
            return await self.refuse(media_id, wrong)
        post = await self._pool.fetchrow(PUBLISH, media_id)
        if post is None:
            return "unchanged"
        self._milestones.record(UPLOADS_READY, [(row["begun_at"].timestamp(), 1)])
        settled_total.labels("success").inc()
        await announce(self._producer, post["id"], post["author_id"], post["created_at"])
        return "success"

    async def refuse(self, media_id: int, reason: str) -> Outcome:
        """Mark a pending upload refused."""
        if await self._pool.execute(REFUSE, media_id, reason) == "UPDATE 0":
            return "unchanged"
        settled_total.labels("refused").inc()
        log.info("upload.refused", media=media_id, reason=reason)
        return "refused"
