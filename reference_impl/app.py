"""The API: composition of the rooms' routes, health and metrics.

Starlette on uvicorn, because the routes are few and the bodies small: FastAPI's validation by Pydantic made a trivial
JSON answer more than four times as costly in our trial (18k against 80k requests/s), and Litestar nearly
twice as costly (44k), while msgspec gives the typed decoding that is needed here. uvicorn rather than granian, because
its event loop is asyncio's (uvloop) in the very process that runs the handlers: one process, one loop, FIFO, which is
what the model describes and what can be measured from within.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import uvicorn
from confluent_kafka import KafkaException
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute

from reference_impl import sessions
from reference_impl.auth import Tokens
from reference_impl.database import open_pool
from reference_impl.guard import serving
from reference_impl.milestones import MilestoneFile
from reference_impl.notifications.streams import Streams
from reference_impl.openapi import document
from reference_impl.operations import DOORS, OPERATIONS, Operation
from reference_impl.rate_limits import RateLimiter
from reference_impl.search import api as search
from reference_impl.search.index import IndexRefused, IndexUnavailable
from reference_impl.settings import Settings
from reference_impl.topics import LogProducer
from reference_impl.uploads.store import ObjectStore
from reference_impl.web import UNAVAILABLE, Platform, error_response, json_response, operation

HEALTH_TIMEOUT_S = 2.0
REQUIRED = ("database", "kafka")
"""Without any other dependency most of the platform goes on."""
MAX_MESSAGE_BYTES = 16 * 1024
"""Of a WebSocket: what devices say is short."""
SHUTDOWN_S = 3


async def healthz(request: Request) -> Response:
    """The state of each dependency; 503 if one is missing without which nothing works."""
    platform: Platform = request.app.state.platform

    async def database() -> str:
        try:
            await asyncio.wait_for(platform.pool.fetchval("SELECT 1"), HEALTH_TIMEOUT_S)
        except UNAVAILABLE as error:
            return repr(error)
        return "ok"

    async def answer(check: Callable[[], Awaitable[None]]) -> str:
        try:
            await asyncio.wait_for(check(), HEALTH_TIMEOUT_S)
        except (*UNAVAILABLE, IndexUnavailable, IndexRefused, RedisError) as error:
            return repr(error)
        return "ok"

    async def kafka() -> str:
        try:
            await platform.producer.check(HEALTH_TIMEOUT_S)
        except KafkaException as error:
            return repr(error)
        return "ok"

    checks: dict[str, Callable[[], Awaitable[str]]] = {
        "database": database,
        "kafka": kafka,
        "store": functools.partial(answer, platform.store.check),
        "search_engine": functools.partial(answer, request.app.state.search.index.check),
        "redis": functools.partial(answer, request.app.state.search.cache.check),
    }
    states = dict(zip(checks, await asyncio.gather(*(check() for check in checks.values())), strict=True))
    if all(states[name] == "ok" for name in REQUIRED):
        status = "ok" if all(state == "ok" for state in states.values()) else "degraded"
    else:
        status = "unavailable"
    answer_body = {"status": status, "instance": platform.settings.instance_id, "dependencies": states}
    return json_response(answer_body, 503 if status == "unavailable" else 200)


async def metrics(_request: Request) -> Response:
    """Prometheus's text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # it is registered for nothing else
    response = error_response(error.status_code, error.detail, error.headers)
    if error.status_code == 405:  # Starlette names the methods of one route; a path may have several
        response.headers["allow"] = ", ".join(sorted(_methods_at(request)))
    return response


def _methods_at(request: Request) -> set[str]:
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found


async def _internal_error(_request: Request, _error: Exception) -> Response:
    return error_response(500, "an error inside the API; its log has the details")


def _route(row: Operation) -> BaseRoute:
    handler: Any = row.handler
    if row.method == "WS":
        return WebSocketRoute(row.path, handler, name=row.name)
    endpoint = operation(row.name, handler, is_open=row.is_open)
    return Route(row.path, endpoint, methods=[row.method], name=row.name)


def _openapi() -> Callable[[Request], Awaitable[Response]]:
    content = msgspec.json.encode(document())

    async def openapi(_request: Request) -> Response:
        return Response(content, media_type="application/json")

    return openapi


def create_app(settings: Settings) -> Starlette:
    """The ASGI application; it opens its pool and producer when it starts."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        pool = await open_pool(settings, settings.pool_size, "api")
        producer = LogProducer(settings)
        milestones = MilestoneFile(settings.state_dir, "api")
        tokens, limiter = Tokens(settings.token_secret, settings.token_lifetime_s), RateLimiter(settings)
        app.state.platform = Platform(
            settings, pool, producer, ObjectStore(settings), milestones, tokens, limiter, sessions.Doorkeeper()
        )
        app.state.streams = Streams(settings, pool, milestones)
        app.state.search = search.Search(settings)
        settling = asyncio.create_task(limiter.run())
        listening = asyncio.create_task(sessions.know_sign_outs(pool, tokens, app.state.streams.dismiss_strangers))
        try:
            await app.state.streams.start()
            gc.collect()
            gc.freeze()  # what is there now stays; full collections looked through all of it, a tenth of a second amid requests
            yield
        finally:
            settling.cancel()
            listening.cancel()
            await limiter.close()
            await app.state.streams.close()
            milestones.close()
            await app.state.search.close()
            await producer.close()
            await pool.close()

    routes = [
        *(_route(row) for row in (*OPERATIONS, *DOORS)),
        Route("/openapi.json", _openapi()),
        Route("/healthz", healthz),
        Route("/metrics", metrics),
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: _http_error, Exception: _internal_error},
    )


def serve(settings: Settings) -> None:
    """Serve until SIGTERM; requests under way are answered first."""
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        **serving(settings, private=True),
        timeout_graceful_shutdown=SHUTDOWN_S,
        ws="wsproto",
        ws_max_size=MAX_MESSAGE_BYTES,
    )
