"""``POST /v1/sessions``: a name and a password for a token; ``DELETE``: its user signs out, everywhere. No operations of the five
rooms: the load test's users are logged in.

Guesses are dear three times over: each costs a memory-hard hash, a name has few tries (``session_tries_per_s``), and only so many
hashes run or wait at once, so that logging in never takes the API's memory or cores from those who are in.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import asyncpg
import msgspec
import structlog
from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response

from reference_impl.auth import BEARER, Tokens, hash_password, is_password
from reference_impl.web import (
    TEXT_SCHEMA,
    UNAVAILABLE,
    ApiError,
    Platform,
    caller,
    clean_text,
    json_response,
    read_body,
)

log = structlog.get_logger()
sessions_total = Counter("flashcrowd_sessions", "Sessions asked for", ["outcome"])

HASHES_AT_ONCE = 2
WAITING_MOST = 20
MAX_NAME, MAX_PASSWORD = 200, 200

CLOCKS_DIFFER_S = 60.0
SIGN_OUTS_READ_EVERY_S = 1.0
"""So long may another API process let in a token of a user who has signed out."""

SIGN_OUT = """
INSERT INTO sign_outs (user_id, signed_out_at) VALUES ($1, $2)
ON CONFLICT (user_id) DO UPDATE SET signed_out_at = greatest(sign_outs.signed_out_at, excluded.signed_out_at)"""
SIGNED_OUT = "SELECT user_id, signed_out_at FROM sign_outs WHERE signed_out_at > $1"
FIND = "SELECT id, password_hash FROM users WHERE name = $1"


class NewSession(msgspec.Struct):
    """Body of ``sessions.open``."""

    name: Annotated[str, msgspec.Meta(extra_json_schema=TEXT_SCHEMA | {"maxLength": MAX_NAME})]
    password: Annotated[str, msgspec.Meta(extra_json_schema=TEXT_SCHEMA | {"maxLength": MAX_PASSWORD})]


class Session(msgspec.Struct):
    """Who one is from now on, and for how long."""

    token: str
    user_id: int
    expires_in_s: float
    token_type: str = "Bearer"


new_session = msgspec.json.Decoder(NewSession)


class Doorkeeper:
    """Checks passwords in threads of its own; scrypt leaves the interpreter's lock to others meanwhile."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(HASHES_AT_ONCE, thread_name_prefix="passwords")
        self._waiting = 0

    async def is_password(self, password: str, kept: str | None) -> bool:
        """Whether it is; an unknown name (None) takes as long as a wrong password.

        Raises:
            ApiError: 429, too many others are being checked.
        """
        if self._waiting >= WAITING_MOST:
            raise ApiError(429, "too many people are logging in; try again", {"retry-after": "2"})
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(self._threads, is_password, password, kept or _nobodys_password())
        finally:
            self._waiting -= 1
        return found and kept is not None


@functools.cache
def _nobodys_password() -> str:
    return hash_password("")


async def open_session(request: Request, platform: Platform) -> Response:
    """A token for whoever knows the password. A wrong name and a wrong password are the same answer."""
    body = await read_body(request, new_session)
    name, password = clean_text(body.name, "name", most=MAX_NAME), clean_text(body.password, "password", most=MAX_PASSWORD)
    await platform.limiter.try_session(name)
    row = await platform.pool.fetchrow(FIND, name)
    if not await platform.doorkeeper.is_password(password, row and row["password_hash"]):
        sessions_total.labels("refused").inc()
        raise ApiError(401, "the name or the password is wrong", BEARER)
    sessions_total.labels("opened").inc()
    user_id = row["id"]
    return json_response(Session(platform.tokens.issue(user_id), user_id, platform.tokens.lifetime_s), 201)


async def close_sessions(request: Request, platform: Platform) -> Response:
    """Sign the user out: no token that was issued up to now is let in any more, on whatever device, and open streams end."""
    user_id, now = caller(request), time.time()
    await platform.pool.execute(SIGN_OUT, user_id, now)
    platform.tokens.signed_out[user_id] = now
    sessions_total.labels("closed").inc()
    return Response(status_code=204)


async def know_sign_outs(pool: asyncpg.Pool, tokens: Tokens, known: Callable[[Tokens], None]) -> None:
    """Keep ``tokens`` informed of who has signed out, at whatever process, and call ``known`` after each look; for ever."""
    while True:
        now = time.time()
        try:
            rows = await pool.fetch(SIGNED_OUT, now - tokens.lifetime_s - CLOCKS_DIFFER_S)  # older ones have no good token left
            # One of this process may have been written after the database looked.
            recent = {user: at for user, at in tokens.signed_out.items() if at > now - CLOCKS_DIFFER_S}
            tokens.signed_out = recent | dict(rows)
        except UNAVAILABLE as error:
            log.warning("sign_outs.unknown", error=repr(error))  # those that are known are still refused
        known(tokens)
        await asyncio.sleep(SIGN_OUTS_READ_EVERY_S)
