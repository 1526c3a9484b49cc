"""What every room's HTTP handlers share: the caller, the body, the answer and the errors."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg
import msgspec
import structlog
from prometheus_client import Counter, Histogram
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from reference_impl.settings import Settings
from reference_impl.spans import Root, add
from reference_impl.topics import DeliveryFailed, LogProducer

if TYPE_CHECKING:
    from reference_impl.milestones import MilestoneFile
    from reference_impl.uploads.store import ObjectStore

BIGINT_MAX = 2**63 - 1
MAX_TEXT = 10_000
"""Longest title, content or comment, in characters."""
MAX_BODY_BYTES = 256 * 1024

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


Handler = Callable[[Request, Platform], Awaitable[Response]]


class ApiError(Exception):
    """Answered as ``{"error": message}`` with ``status``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def json_response(body: Any, status: int = 200) -> Response:
    """``body`` as JSON."""
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def error_response(status: int, message: str) -> Response:
    """``{"error": message}``."""
    return json_response({"error": message}, status)


def operation(name: str, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Make ``handler`` an endpoint: measured under the operation's name, its errors answered as JSON."""
    seconds = request_seconds.labels(name)
    counters: dict[int, Any] = {}

    async def endpoint(request: Request) -> Response:
        started = time.perf_counter()
        with Root(name, request.headers.get("traceparent", "")) as span:
            if received_ns := request.scope.get("received_ns"):
                add("api", "accept", received_ns, time.time_ns())
            try:
                response = await handler(request, request.app.state.platform)
            except ApiError as error:
                response = error_response(error.status, str(error))
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


def caller(request: HTTPConnection) -> int:
    """The user id that the gateway put in ``X-User-Id``."""
    text = request.headers.get("x-user-id")
    if text is None:
        raise ApiError(400, "the header X-User-Id is missing")
    return _bigint(text, "the header X-User-Id", 400)


def path_id(request: Request, what: str) -> int:
    """The id in the path; one that cannot exist is a 404."""
    return _bigint(request.path_params["id"], f"the {what} id", 404)


def _bigint(text: str, what: str, status: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text[:20]) <= BIGINT_MAX):
        raise ApiError(status, f"{what} has to be a whole number from 0 to 2^63-1")
    return int(text)


async def read_body(request: Request, decoder: msgspec.json.Decoder[Body]) -> Body:
    """The request's JSON body. Not JSON: 400. JSON of another shape: 422."""
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise ApiError(422, f"the body is longer than {MAX_BODY_BYTES} bytes")
    try:
        return decoder.decode(await request.body())
    except msgspec.ValidationError as error:
        raise ApiError(422, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError(400, "the body is not JSON") from None


def clean_text(text: str, what: str, *, empty: bool = False) -> str:
    """``text`` if PostgreSQL can store it and it is no longer than ``MAX_TEXT``; else 422."""
    if not (text or empty):
        raise ApiError(422, f"{what} is empty")
    if len(text) > MAX_TEXT:
        raise ApiError(422, f"{what} has {len(text)} characters; {MAX_TEXT} are allowed")
    if "\x00" in text:
        raise ApiError(422, f"{what} has a NUL character, which cannot be stored")
    return text
