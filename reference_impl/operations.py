"""The table of all operations: the routes, and what the OpenAPI document says of them, come from the same rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.websockets import WebSocket

from reference_impl import graph, sessions
from reference_impl.feed import api as feed
from reference_impl.interactions import api as interactions
from reference_impl.notifications import api as notifications
from reference_impl.search import api as search
from reference_impl.search.records import SEARCHED_COLUMN
from reference_impl.uploads import api as uploads
from reference_impl.web import Handler


@dataclass(frozen=True, slots=True)
class Operation:
    """One row. The name is the route's, the model's and the load test's; the handler's docstring is the description."""

    name: str
    method: str
    """WS: a WebSocket."""
    path: str
    handler: Handler | Callable[[WebSocket], Awaitable[None]]
    status: int
    """Of a success."""
    answer: type[msgspec.Struct] | None = None
    """Of a success; None: without a body."""
    body: type[msgspec.Struct] | None = None
    query: tuple[Parameter, ...] = ()
    needs_key: bool = False
    """Whether the header ``Idempotency-Key`` is wanted."""
    refusals: tuple[int, ...] = ()
    """Statuses beside those that follow from the other columns."""
    is_open: bool = False
    """Whether everybody may ask, without a token."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One of a query's; its schema is JSON Schema's."""

    name: str
    schema: dict[str, Any]
    required: bool = False


def _limit(default: int, most: int) -> Parameter:
    return Parameter("limit", {"type": "integer", "minimum": 1, "maximum": most, "default": default})


FEED_QUERY = (Parameter("cursor", {"type": "string"}), _limit(feed.LIMIT_DEFAULT, feed.LIMIT_MAX))
SEARCH_QUERY = (
    Parameter("q", {"type": "string", "minLength": 1, "maxLength": search.MAX_QUERY}, required=True),
    Parameter("kind", {"enum": list(SEARCHED_COLUMN)}, required=True),
    _limit(search.LIMIT_DEFAULT, search.LIMIT_MAX),
)

OPERATIONS = (
    Operation(
        "feed.publish", "POST", "/v1/posts", feed.publish, 201, feed.Published, feed.NewPost, refusals=(404,)
    ),
    Operation("feed.open", "GET", "/v1/feed", feed.open_feed, 200, feed.Page, query=FEED_QUERY, refusals=(400,)),
    Operation("graph.follow", "PUT", "/v1/users/{id}/follow", graph.follow, 204, refusals=(422,)),
    Operation("graph.unfollow", "DELETE", "/v1/users/{id}/follow", graph.unfollow, 204),
    Operation("interactions.like", "PUT", "/v1/posts/{id}/like", interactions.like, 202, interactions.Accepted),
    Operation("interactions.unlike", "DELETE", "/v1/posts/{id}/like", interactions.unlike, 202, interactions.Accepted),
    Operation(
        "interactions.comment", "POST", "/v1/posts/{id}/comments", interactions.comment, 202,
        interactions.AcceptedComment, interactions.NewComment, needs_key=True,
    ),
    Operation("interactions.read", "GET", "/v1/posts/{id}", interactions.read, 200, interactions.Post),
    Operation(
        "uploads.begin", "POST", "/v1/uploads", uploads.begin, 201, uploads.Upload, uploads.NewUpload,
        needs_key=True, refusals=(404, 409, 429),
    ),
    Operation("uploads.status", "GET", "/v1/uploads/{id}", uploads.status, 200, uploads.Upload),
    Operation("uploads.view", "GET", "/v1/media/{id}", uploads.view, 302),
    Operation(
        "notifications.subscribe", "PUT", "/v1/devices/{id}", notifications.subscribe, 204,
        body=notifications.Device, refusals=(403,),
    ),
    Operation("notifications.stream", "WS", "/v1/notifications", notifications.stream, 101),
    Operation("search.query", "GET", "/v1/search", search.query, 200, search.Results, query=SEARCH_QUERY),
)  # fmt: skip

DOORS = (
    Operation(
        "sessions.open", "POST", "/v1/sessions", sessions.open_session, 201, sessions.Session, sessions.NewSession,
        refusals=(401, 429), is_open=True,
    ),
    Operation("sessions.close", "DELETE", "/v1/sessions", sessions.close_sessions, 204),
    Operation(
        "uploads.notified", "POST", "/v1/store-events", uploads.notified, 204, refusals=(400, 401, 413), is_open=True
    ),
)  # fmt: skip
"""For those who have a password, and for the store, which has a secret. No operations of the platform: the load test's users are
logged in, and the store is a part of the platform; the model has neither."""

STORE_OPERATIONS: tuple[tuple[str, str, str], ...] = (
    ("uploads.part", "PUT", "/media/uploads/{id}"),
    ("uploads.complete", "POST", "/media/uploads/{id}"),
)
"""What clients ask of the object store, by presigned URLs; the path begins with the bucket's name."""
