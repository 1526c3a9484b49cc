"""HTTP on one side, operations of the model on the other: the model's front door.

One table of routes. `Gateway.call` takes a request apart, asks the model to perform the operation, and waits (in virtual
time) for the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol
from urllib.parse import parse_qsl

import gevent
import msgspec
from gevent.hub import Waiter

from loadtest.tokens import user_of_model
from loadtest.virtual_clock import EPOCH_S
from loadtest.virtual_time import VirtualLoop


class LiveOutcome(Protocol):
    """See `model.live.Outcome`."""

    @property
    def status(self) -> str:
        """ok, rejected, timed_out, not_found or invalid."""

    @property
    def body(self) -> dict[str, Any]:
        """What the answer says."""


class Live(Protocol):
    """See `model.live.LivePlatform`: performs operations at the clock's present instant."""

    def perform(self, operation: str, user: int, arguments: dict[str, Any], done: Callable[[Any], None]) -> int:
        """Begin an operation; `done` is called at the instant of the answer. Returns a request number."""

    def listen(self, user: int, listener: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Call `listener` with every notification for `user`, until the function that is returned is called."""


@dataclass(frozen=True)
class Route:
    """One operation over HTTP (method WS: a WebSocket). `{id}` in the path becomes the argument `id_name`; `query` and
    `body` name further ones.

    Of the body's fields `numbers` are whole numbers, the others text. Of a `sized` body only the length counts: argument
    `bytes`.
    """

    operation: str
    method: str
    path: str
    status_ok: int
    id_name: str = ""
    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    sized: bool = False


ROUTES = (
    Route("feed.publish", "POST", "/v1/posts", 201, body=("title", "content")),
    Route("feed.open", "GET", "/v1/feed", 200, query=("cursor", "limit")),
    Route("interactions.read", "GET", "/v1/posts/{id}", 200, "post"),
    Route("interactions.like", "PUT", "/v1/posts/{id}/like", 202, "post"),
    Route("interactions.unlike", "DELETE", "/v1/posts/{id}/like", 202, "post"),
    Route("interactions.comment", "POST", "/v1/posts/{id}/comments", 202, "post", body=("text",)),
    Route(
        "uploads.begin",
        "POST",
        "/v1/uploads",
        201,
        body=("title", "content", "media_type", "size_bytes"),
        numbers=("size_bytes",),
    ),
    Route("uploads.part", "PUT", "/media/uploads/{id}", 200, "upload", query=("partNumber",), sized=True),
    Route("uploads.complete", "POST", "/media/uploads/{id}", 200, "upload"),
    Route("uploads.status", "GET", "/v1/uploads/{id}", 200, "upload"),
    Route("uploads.view", "GET", "/v1/media/{id}", 200, "media"),
    Route("search.query", "GET", "/v1/search", 200, query=("q", "kind", "limit")),
    Route("graph.follow", "PUT", "/v1/users/{id}/follow", 204, "followee"),
    Route("graph.unfollow", "DELETE", "/v1/users/{id}/follow", 204, "followee"),
    Route("notifications.subscribe", "PUT", "/v1/devices/{id}", 204, "device", body=("token", "platform")),
    Route("notifications.stream", "WS", "/v1/notifications", 101),
)
OPERATIONS = frozenset(route.operation for route in ROUTES)
STATUS_OF_OUTCOME = {"rejected": 503, "timed_out": 504, "not_found": 404, "invalid": 422}
NEED_A_KEY = ("interactions.comment", "uploads.begin")
FEED_LIMIT_DEFAULT, FEED_LIMIT_MAX = 20, 100


class Refusal(Exception):
    """A request that the front door answers by itself."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: HTTP status, the body as Python data (None: no body)."""

    status: int
    body: dict[str, Any] | None

    @property
    def content(self) -> bytes:
        """The body as JSON bytes."""
        return b"" if self.body is None else msgspec.json.encode(self.body)


def _index() -> dict[tuple[str, ...], dict[str, Route]]:
    table: dict[tuple[str, ...], dict[str, Route]] = {}
    for route in ROUTES:
        table.setdefault(tuple(route.path.split("/")), {})[route.method] = route
    return table


_TABLE = _index()
_ID_AT = 3  # '', 'v1', 'posts' or 'users', '{id}', …


def find_route(method: str, path: str) -> tuple[Route, int | None]:
    """The route and the id in its path. Raises `Refusal`: 404 unknown path or impossible id, 405 wrong method."""
    parts = path.split("/")
    identifier = None
    if len(parts) > _ID_AT:
        identifier = parts[_ID_AT]
        parts[_ID_AT] = "{id}"
    methods = _TABLE.get(tuple(parts))
    if methods is None:
        raise Refusal(404, f"no such path: {path}")
    route = methods.get(method)
    if route is None:
        raise Refusal(405, f"{method} is not allowed here, only {', '.join(sorted(methods))}")
    if identifier is None:
        return route, None
    if not (identifier.isascii() and identifier.isdigit()) or int(identifier) >= 2**63:
        raise Refusal(404, f"the id in the path must be a whole number of at most 64 bits, not {identifier!r}")
    return route, int(identifier)


def _body_of(route: Route, body: Any) -> dict[str, Any]:
    if isinstance(body, str | bytes | bytearray):
        try:
            body = msgspec.json.decode(body)
        except msgspec.DecodeError as error:
            raise Refusal(400, f"the body is not JSON: {error}") from None
    if not isinstance(body, Mapping):
        raise Refusal(422, f"{route.operation} needs a JSON object with {', '.join(route.body)}")
    arguments = {}
    for name in route.body:
        value = body.get(name)
        if not isinstance(value, int if name in route.numbers else str) or isinstance(value, bool):
            wanted = "a whole number" if name in route.numbers else "text"
            raise Refusal(422, f"{route.operation}: {name!r} must be {wanted}")
        arguments[name] = value
    return arguments


@lru_cache(maxsize=4096)
def _query_of(query: str) -> Mapping[str, Any]:
    given = dict(parse_qsl(query))
    limit = given.get("limit", str(FEED_LIMIT_DEFAULT))
    if not limit.isdecimal() or not 1 <= int(limit) <= FEED_LIMIT_MAX:
        raise Refusal(422, f"limit must be 1 to {FEED_LIMIT_MAX}, not {limit!r}")
    return {"cursor": given.get("cursor"), "limit": int(limit)}


def _header(headers: Mapping[str, Any] | None, name: str) -> str | None:
    """A header by its name in any case; clients hand over plain dicts as well as case-insensitive ones."""
    if not headers:
        return None
    value = headers.get(name)
    if value is None:
        lower = name.lower()
        value = next((v for k, v in headers.items() if k.lower() == lower), None)
    return value.decode() if isinstance(value, bytes) else value


def parse(method: str, target: str, body: Any, headers: Mapping[str, Any] | None) -> tuple[Route, int, dict[str, Any]]:
    """(route, user, arguments) of a request, `target` being path and query. Raises `Refusal`."""
    path, _, query = target.partition("?")
    route, identifier = find_route(method, path)
    try:
        user = user_of_model(_header(headers, "Authorization") or "")
    except ValueError:
        raise Refusal(401, "header Authorization must be Bearer and a token; see loadtest.tokens.bearer") from None
    arguments: dict[str, Any] = {}
    if identifier is not None:
        arguments[route.id_name] = identifier
    if route.query:
        if route.operation == "feed.open":
            arguments.update(_query_of(query))
        else:
            given = dict(parse_qsl(query))
            arguments.update({name: given.get(name) for name in route.query})
    if route.sized:
        arguments["bytes"] = len(body or b"")
    if route.body:
        arguments.update(_body_of(route, body))
    if route.operation in NEED_A_KEY:
        arguments["key"] = _header(headers, "Idempotency-Key")
        if not arguments["key"]:
            raise Refusal(400, "header Idempotency-Key is missing")
    return route, user, arguments


class Gateway:
    """Requests of greenlets in virtual time to a live model.

    `unfinished(operation, user, sent_s)` hears of requests whose user was stopped while they were under way.
    """

    def __init__(self, loop: VirtualLoop, hub: Any, live: Live, unfinished: Callable[[str, int, float], None]) -> None:
        self.loop = loop
        self.hub = hub
        self.live = live
        self.unfinished = unfinished

    def call(
        self, method: str, target: str, body: Any, headers: Mapping[str, Any] | None, timeout_s: float | None
    ) -> Answer:
        """Perform one request and wait for its answer. Raises `TimeoutError` when the client's patience ends first.

        What the model does for a request goes on when nobody waits for it any more, as it does in a real backend.
        """
        try:
            route, user, arguments = parse(method, target, body, headers)
        except Refusal as refusal:
            return Answer(refusal.status, {"error": str(refusal)})
        waiter = Waiter(self.hub)
        sent_s = self.loop.clock.now

        def done(outcome: LiveOutcome) -> None:
            # Not switched to from inside the model's event: the user goes on when that event is over.
            self.loop.run_callback(waiter.switch, outcome)

        self.live.perform(route.operation, user, arguments, done)
        timer = None
        if timeout_s is not None:
            timer = self.loop.timer(timeout_s)
            timer.start(waiter.throw, TimeoutError(f"no answer within {timeout_s:g} s"))
        try:
            outcome: LiveOutcome = waiter.get()
        except gevent.GreenletExit:
            self.unfinished(route.operation, user, sent_s)
            raise
        finally:
            if timer is not None:
                timer.stop()
        if outcome.status == "ok":
            return Answer(route.status_ok, None if route.status_ok == 204 else outcome.body)
        return Answer(STATUS_OF_OUTCOME[outcome.status], outcome.body or {"error": outcome.status.replace("_", " ")})

    def listen(self, user: int, received: Callable[[dict[str, Any]], None]) -> Callable[[], None]:
        """Hand every notification for `user` to `received`, until the function that is returned is called."""

        def told(message: dict[str, Any]) -> None:
            # On the users' clock; and not from inside the model's event, as with answers.
            message = message | {"accepted_at": EPOCH_S + message["accepted_at"]}
            self.loop.run_callback(received, message)

        return self.live.listen(user, told)
