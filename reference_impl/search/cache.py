"""Answers to frequent queries in Redis, for a short time; at most one request at a time computes a missing one.

Within a process, whoever asks for an answer that is being fetched waits for it; between processes a lock in Redis has the
same effect. Redis is only an accelerator: where it does not answer, the answer is computed, and Redis is left alone for a
moment so that not every request waits for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from reference_impl.settings import Settings

log = structlog.get_logger()
lookups_total = Counter("flashcrowd_search_cache_lookups", "Lookups of cached answers", ["outcome"])

TIMEOUT_S = 0.25
LEFT_ALONE_S = 1.0
POLL_FIRST_S, POLL_LONGEST_S = 0.005, 0.05

Fetch = Callable[[], Awaitable[bytes]]


class AnswerCache:
    """Answers by key. Outcomes: ``hit``, ``miss`` (fetched), ``joined`` (another one's fetch), ``away`` (no Redis)."""

    def __init__(self, settings: Settings) -> None:
        self._ttl_ms = round(settings.search_cache_ttl_s * 1000)
        self._lock_s = settings.search_timeout_s + 0.5
        self._redis = Redis.from_url(
            settings.redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=None
        )
        self._flights: dict[str, asyncio.Task[tuple[bytes, str]]] = {}
        self._left_alone_until_s = 0.0

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def check(self) -> None:
        """Ask whether Redis is there.

        Raises:
            RedisError, OSError.
        """
        await self._redis.ping()

    async def get(self, key: str, fetch: Fetch) -> tuple[bytes, str]:
        """The answer, cached or fetched, and the outcome."""
        flight = self._flights.get(key)
        joined = flight is not None
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._fly(key, fetch))
            flight.add_done_callback(lambda _: self._flights.pop(key))
        answer, outcome = await asyncio.shield(flight)  # one client's leaving is no reason to let the others down
        if joined and outcome != "hit":
            outcome = "joined"
        lookups_total.labels(outcome).inc()
        return answer, outcome

    async def _fly(self, key: str, fetch: Fetch) -> tuple[bytes, str]:
        if time.monotonic() < self._left_alone_until_s:
            return await fetch(), "away"
        try:
            if isinstance(answer := await self._redis.get(key), bytes):
                return answer, "hit"
            mine = await self._redis.set(f"{key}:lock", b"", nx=True, px=round(self._lock_s * 1000))
            if not mine and (answer := await self._wait(key)) is not None:
                return answer, "joined"
        except (RedisError, OSError) as error:
            self._leave_alone(error)
            return await fetch(), "away"
        try:
            answer = await fetch()
        except BaseException:
            await self._finish(key, None)
            raise
        await self._finish(key, answer)
        return answer, "miss"

    async def _wait(self, key: str) -> bytes | None:
        """The answer of whoever holds the lock, or None if that did not work out."""
        pause_s, deadline_s = POLL_FIRST_S, time.monotonic() + self._lock_s
        while time.monotonic() < deadline_s:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_LONGEST_S)
            answer, locked = await self._redis.mget(key, f"{key}:lock")
            if isinstance(answer, bytes):
                return answer
            if locked is None:
                return None
        return None

    async def _finish(self, key: str, answer: bytes | None) -> None:
        try:
            async with self._redis.pipeline() as pipeline:
                if answer is not None:
                    pipeline.set(key, answer, px=self._ttl_ms)
                pipeline.delete(f"{key}:lock")
                await pipeline.execute()
        except (RedisError, OSError) as error:
            self._leave_alone(error)

    def _leave_alone(self, error: Exception) -> None:
        log.warning("cache.away", error=repr(error))
        self._left_alone_until_s = time.monotonic() + LEFT_ALONE_S
