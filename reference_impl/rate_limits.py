"""How much a user may ask: token buckets in Redis, one per user, common to all API processes.

No request waits for Redis. A process admits and counts; every ``SETTLE_EVERY_S`` it takes what its users have spent from their
buckets in one call, and hears whose is empty: they are refused until it has filled again. So a user may get as much more than the
burst as one process admits in that time, of which there is a limit too; and a request costs a dictionary's lookup, where a round
trip to Redis would be a good part of what a feed costs. Tries to log in are rare and dear: they are settled at once.

Where Redis does not answer everybody is admitted, and counted: slower, not broken, holds for protection as well.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any

import structlog
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from reference_impl.settings import Settings
from reference_impl.web import ApiError

log = structlog.get_logger()
refused_total = Counter("flashcrowd_rate_limit_refused", "Requests answered with 429", ["limit"])
unchecked_total = Counter("flashcrowd_rate_limit_unchecked", "Requests admitted while Redis did not answer")

SETTLE_EVERY_S = 0.1
TIMEOUT_S = 0.25
LEFT_ALONE_S = 1.0
USERS_AT_ONCE = 500
"""In one call: Redis does nothing else meanwhile."""

# KEYS: buckets; the braces in their names keep them on one node of a cluster. ARGV: rate per second, burst, then what was spent
# from each. Answers with the seconds until each has a token again, 0 for those that have one.
# A bucket goes below zero by what was admitted before we knew, and by a burst at most.
# The server's clock counts: those of several API processes differ.
SETTLE = """
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local now = redis.call('TIME')
now = now[1] + now[2] / 1000000
local waits = {}
for i, key in ipairs(KEYS) do
    local kept = redis.call('HMGET', key, 'tokens', 'at')
    local tokens = burst
    if kept[1] then tokens = math.min(burst, kept[1] + (now - kept[2]) * rate) end
    tokens = math.max(tokens - ARGV[i + 2], -burst)
    redis.call('HSET', key, 'tokens', tostring(tokens), 'at', tostring(now))
    redis.call('PEXPIRE', key, math.ceil((burst - tokens) / rate * 1000) + 1000)
    waits[i] = tostring(math.max(0, (1 - tokens) / rate))
end
return waits"""


class RateLimiter:
    """The limits of one API process."""

    def __init__(self, settings: Settings) -> None:
        self._rate_per_s, self._burst = settings.user_requests_per_s, settings.user_requests_burst
        self._tries_per_s, self._tries = settings.session_tries_per_s, settings.session_tries_burst
        self._redis = Redis.from_url(
            settings.redis_url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=None
        )
        self._script = self._redis.register_script(SETTLE)
        self._spent: dict[int, int] = {}
        self._refused_until_s: dict[int, float] = {}
        self._left_alone_until_s = 0.0

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def admit(self, user_id: int) -> None:
        """Count a request.

        Raises:
            ApiError: 429, with how long to wait.
        """
        spent = self._spent.get(user_id, 0)
        until_s = self._refused_until_s.get(user_id)
        if until_s is not None:
            wait_s = until_s - time.monotonic()
            if wait_s > 0:
                raise _refusal("requests", wait_s)
            del self._refused_until_s[user_id]
        if spent >= self._burst:  # all of it within one SETTLE_EVERY_S
            raise _refusal("requests", SETTLE_EVERY_S)
        self._spent[user_id] = spent + 1

    async def run(self) -> None:
        """Settle again and again."""
        while True:
            await asyncio.sleep(SETTLE_EVERY_S)
            await self.settle()

    async def settle(self) -> None:
        """Take what was spent since the last time from the buckets."""
        spent, self._spent = self._spent, {}
        users = list(spent)
        for start in range(0, len(users), USERS_AT_ONCE):
            some = {f"{{limits}}:user:{user}": spent[user] for user in users[start : start + USERS_AT_ONCE]}
            waits = await self._take(some, self._rate_per_s, self._burst)
            now_s = time.monotonic()
            for user, wait_s in zip(users[start:], waits, strict=False):
                if wait_s > 0:
                    self._refused_until_s[user] = now_s + wait_s
        if len(self._refused_until_s) > USERS_AT_ONCE:
            now_s = time.monotonic()
            self._refused_until_s = {user: at for user, at in self._refused_until_s.items() if at > now_s}

    async def try_session(self, name: str) -> None:
        """Count a try to log in as ``name``.

        Raises:
            ApiError: 429, with how long to wait.
        """
        (wait_s,) = await self._take({f"{{limits}}:session:{name}": 1}, self._tries_per_s, self._tries) or (0.0,)
        if wait_s > 1 / self._tries_per_s:  # the token that this try would have needed was not there
            raise _refusal("sessions", wait_s)

    async def _take(self, spent: Mapping[str, int], rate_per_s: float, burst: float) -> list[float]:
        """The seconds until each bucket has a token again; empty if Redis does not answer."""
        if time.monotonic() >= self._left_alone_until_s:
            try:
                waits: Any = await self._script(keys=list(spent), args=[rate_per_s, burst, *spent.values()])
                return [float(wait_s) for wait_s in waits]
            except (RedisError, OSError) as error:
                log.warning("limits.away", error=repr(error))
                self._left_alone_until_s = time.monotonic() + LEFT_ALONE_S
        unchecked_total.inc(sum(spent.values()))
        return []


def _refusal(limit: str, wait_s: float) -> ApiError:
    refused_total.labels(limit).inc()
    return ApiError(429, "too many requests; see Retry-After", {"retry-after": str(max(1, math.ceil(wait_s)))})
