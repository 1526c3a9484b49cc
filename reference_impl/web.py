"""What every room's HTTP handlers share: the caller, the body, the answer and the errors."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import asyncpg
import msgspec
import structlog
from prometheus_client import Counter, Histogram
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from reference_impl.settings import Settings
from reference_impl.spans import Root, add
from reference_impl.topics import DeliveryFailed, LogProducer

if TYPE_CHECKING:
    from reference_impl.auth import Tokens
    from reference_impl.milestones import MilestoneFile
    from reference_impl.rate_limits import RateLimiter
    from reference_impl.sessions import Doorkeeper
    from reference_impl.uploads.store import ObjectStore

BIGINT_MAX = 2**63 - 1
MAX_TEXT = 10_000
"""Longest title, content or comment, in characters."""
TEXT_SCHEMA = {"minLength": 1, "maxLength": MAX_TEXT, "pattern": "^[^\\u0000]*$"}
Text = Annotated[str, msgspec.Meta(extra_json_schema=TEXT_SCHEMA)]
"""For :func:`clean_text`, whose refusals read better than a decoder's."""
TextOrNone = Annotated[str, msgspec.Meta(extra_json_schema=TEXT_SCHEMA | {"minLength": 0})]
"""The same, for a text that may be empty."""
MAX_KEY = 200
KEY_PATTERN = "^[!-~]([ -~]*[!-~])?$"
_is_key = re.compile(KEY_PATTERN).fullmatch
MAX_BODY_BYTES = 256 * 1024
CALLER = "flashcrowd.caller"

log = structlog.get_logger()
request_seconds = Histogram("flashcrowd_request_seconds", "Time in the handler", ["operation"])
requests_total = Counter("flashcrowd_requests", "Answered requests", ["operation", "status"])

UNAVAILABLE = (
    OSError,
    TimeoutError,
    DeliveryFailed,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)
"""A server behind us does not answer: 503, and the client may try again."""

Body = TypeVar("Body")


@dataclass(frozen=True, slots=True)
class Platform:
    """What a handler works with."""

    settings: Settings
    pool: asyncpg.Pool
    producer: LogProducer
    store: ObjectStore
    milestones: MilestoneFile
    tokens: Tokens
    limiter: RateLimiter
    doorkeeper: Doorkeeper


Handler = Callable[[Request, Platform], Awaitable[Response]]


class ApiError(Exception):
    """Answered as ``{"error": message}`` with ``status`` and ``headers``."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers

    def response(self) -> Response:
        """The answer."""
        return error_response(self.status, str(self), self.headers)


class Refusal(msgspec.Struct):
    """Body of every answer from 400 on."""

    error: str
    """What is wrong, in one line."""


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``body`` as JSON."""
    return Response(msgspec.json.encode(body), status, headers, media_type="application/json")


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """A :class:`Refusal`."""
    return json_response(Refusal(message), status, headers)


def admit(connection: HTTPConnection) -> int:
    """The user whose token came with the request, which is counted against the user's limit; ``caller`` knows from now on.

    Raises:
        ApiError: 401 without a good token, 429 over the limit.
    """
    platform: Platform = connection.app.state.platform
    user_id = platform.tokens.user_of(connection.headers.get("authorization"))
    platform.limiter.admit(user_id)
    connection.scope[CALLER] = user_id
    return user_id


def caller(connection: HTTPConnection) -> int:
    """The user who asks; a handler that is open to everybody has none."""
    user_id: int = connection.scope[CALLER]
    return user_id


def operation(name: str, handler: Handler, *, is_open: bool = False) -> Callable[[Request], Awaitable[Response]]:
    """Make ``handler`` an endpoint: measured under the operation's name, its errors answered as JSON.

    Nobody gets to the handler without a token, unless it ``is_open`` to everybody.
    """
    seconds = request_seconds.labels(name)
    counters: dict[int, Any] = {}

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        with Root(name, request.headers.get("traceparent", "")) as span:
            if received_ns := request.scope.get("received_ns"):
                add("api", "accept", received_ns, time.time_ns())
            try:
                if not is_open:
                    admit(request)
                response = await handler(request, request.app.state.platform)
            except ApiError as error:
                response = error.response()
            except UNAVAILABLE as error:
                log.warning("request.unavailable", operation=name, error=repr(error))
                response = error_response(503, "a server behind the API does not answer; try again")
            span.note("http.response.status_code", response.status_code)
        seconds.observe(time.perf_counter() - started)
        status = response.status_code
        counter = counters.get(status) or counters.setdefault(status, requests_total.labels(name, status))
        counter.inc()
        return response

    return endpoint


def path_id(request: Request, what: str) -> int:
    """The id in the path; one that cannot exist is a 404."""
    text = request.path_params["id"]
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= BIGINT_MAX):
        raise ApiError(404, f"the {what} id has to be a whole number from 0 to 2^63-1")
    return int(text)


def idempotency_key(request: Request) -> str:
    """The header of that name; 400 without a good one."""
    key = request.headers.get("idempotency-key", "")
    if not (len(key) <= MAX_KEY and _is_key(key)):
        raise ApiError(400, f"the header Idempotency-Key is missing, longer than {MAX_KEY} characters, or not plain text")
    return key


def limit_of(request: Request, default: int, most: int) -> int:
    """The query's ``limit``; 422 if it is none."""
    text = request.query_params.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise ApiError(422, f"limit has to be a whole number from 1 to {most}")
    return int(text)


async def read_body(request: Request, decoder: msgspec.json.Decoder[Body]) -> Body:
    """The request's JSON body. Too long: 413. Not JSON: 400. JSON of another shape: 422."""
    try:
        return decoder.decode(await read_bytes(request, MAX_BODY_BYTES))
    except msgspec.ValidationError as error:
        raise ApiError(422, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError(400, "the body is not JSON") from None
    except RecursionError:
        raise ApiError(400, "the body is nested too deeply") from None


async def read_bytes(request: Request, most: int) -> bytes:
    """The request's body, of ``most`` bytes at most, whatever it says of its length; else 413, and the rest is not read."""
    parts, length = [], 0
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and len(declared) < 20:
        length = int(declared)
    if length <= most:
        length = 0
        try:
            async for part in request.stream():
                length += len(part)
                if length > most:
                    break
                parts.append(part)
            else:
                return b"".join(parts)
        except ClientDisconnect:
            raise ApiError(400, "the client left before its request was whole") from None
    raise ApiError(413, f"the body is longer than {most} bytes", {"connection": "close"})


def clean_text(text: str, what: str, *, empty: bool = False, most: int = MAX_TEXT) -> str:
    """``text`` if PostgreSQL can store it and it is no longer than ``most``; else 422."""
    if not (text or empty):
        raise ApiError(422, f"{what} is empty")
    if len(text) > most:
        raise ApiError(422, f"{what} has {len(text)} characters; {most} are allowed")
    if "\x00" in text:
        raise ApiError(422, f"{what} has a NUL character, which cannot be stored")
    return text
