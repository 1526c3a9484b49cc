"""The embedded search engine as a server: the part of Elasticsearch's REST API that this room uses, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import structlog
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reference_impl.search.engine import BadRequest, Engine
from reference_impl.settings import Settings
from reference_impl.topics import worker_ready

log = structlog.get_logger()
search_seconds = Histogram("flashcrowd_engine_search_seconds", "Time of a search within the engine")
refresh_seconds = Histogram("flashcrowd_engine_refresh_seconds", "Time of a refresh that had something to do")
documents = Gauge("flashcrowd_engine_bulk_documents", "Operations in the last bulk request")
SHUTDOWN_S = 1


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def _failure(status: int, kind: str, reason: str) -> Response:
    return _json({"error": {"type": kind, "reason": reason}, "status": status}, status)


class Server:
    """The endpoints. Writes and refreshes take turns, in a thread; searches go on meanwhile."""

    def __init__(self, directory: Path, refresh_s: float) -> None:
        self._directory = directory
        self._refresh_s = refresh_s
        self._writing = asyncio.Lock()
        self._engine: Engine

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        """Open the indexes; refresh them at every interval."""
        self._engine = await asyncio.to_thread(Engine, self._directory)
        refreshing = asyncio.create_task(self._refresh_for_ever())
        worker_ready.set(1)
        try:
            yield
        finally:
            refreshing.cancel()

    async def _refresh_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_s)
            try:
                await self._refresh()
            except Exception:  # a full disk, say: what was written is in the journal, and the next round tries again
                log.exception("refresh.failed")

    async def _refresh(self) -> None:
        async with self._writing:
            with refresh_seconds.time():
                await asyncio.to_thread(self._engine.refresh)

    def _known(self, request: Request) -> str:
        name: str = request.path_params["index"]
        if name not in self._engine:
            raise BadRequest(f"no such index [{name}]", "index_not_found_exception")
        return name

    async def about(self, _request: Request) -> Response:
        """Who answers."""
        return _json({"name": "flashcrowd", "version": {"distribution": "tantivy"}, "tagline": "embedded"})

    async def create(self, request: Request) -> Response:
        """``PUT /index``."""
        name = request.path_params["index"]
        if name in self._engine:
            raise BadRequest(f"index [{name}] already exists", "resource_already_exists_exception")
        if not name.replace("-", "").isalnum():
            raise BadRequest(f"[{name}] is no name of an index", "invalid_index_name_exception")
        definition = msgspec.json.decode(await request.body())
        async with self._writing:
            await asyncio.to_thread(self._engine.create, name, definition)
        return _json({"acknowledged": True, "shards_acknowledged": True, "index": name})

    async def exists(self, request: Request) -> Response:
        """``HEAD /index``."""
        return Response(status_code=200 if request.path_params["index"] in self._engine else 404)

    async def bulk(self, request: Request) -> Response:
        """``POST /_bulk``: lines ``{"index": {"_index":, "_id":}}``, a document each, or ``{"delete": …}``."""
        lines = iter((await request.body()).splitlines())
        operations: list[tuple[str, str, dict[str, Any] | None]] = []
        for line in lines:
            ((action, target),) = msgspec.json.decode(line).items()
            if action not in ("index", "delete"):
                raise BadRequest(f"unknown action [{action}]")
            document = msgspec.json.decode(next(lines, b"")) if action == "index" else None
            operations.append((target["_index"], target["_id"], document))
        for name, _, _ in operations:
            if name not in self._engine:
                raise BadRequest(f"no such index [{name}]", "index_not_found_exception")
        documents.set(len(operations))
        async with self._writing:
            reasons = await asyncio.to_thread(self._engine.bulk, operations)
        items = []
        for (name, identifier, document), reason in zip(operations, reasons, strict=True):
            result: dict[str, Any] = {"_index": name, "_id": identifier, "status": 400 if reason else 200}
            if reason:
                result["error"] = {"type": "document_parsing_exception", "reason": reason}
            items.append({"delete" if document is None else "index": result})
        return _json({"took": 0, "errors": any(reasons), "items": items})

    async def search(self, request: Request) -> Response:
        """``POST /index/_search``."""
        body = msgspec.json.decode(await request.body() or b"{}")
        with search_seconds.time():
            return _json(self._engine[self._known(request)].search(body))

    async def refresh(self, request: Request) -> Response:
        """``POST /index/_refresh``; it refreshes all indexes, which have one journal."""
        self._known(request)
        await self._refresh()
        return _json({"_shards": {"total": 1, "successful": 1, "failed": 0}})

    async def delete_by_query(self, request: Request) -> Response:
        """``POST /index/_delete_by_query``, with a refresh."""
        index, body = self._engine[self._known(request)], msgspec.json.decode(await request.body())
        async with self._writing:
            await asyncio.to_thread(self._engine.refresh)  # the journal must not bring back what is deleted now
            await asyncio.to_thread(index.delete_by_query, body["query"])
            await asyncio.to_thread(self._engine.refresh)
        return _json({"timed_out": False, "failures": []})


async def _metrics(_request: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _bad_request(_request: Request, error: Exception) -> Response:
    kind = error.kind if isinstance(error, BadRequest) else "parsing_exception"
    return _failure(404 if kind == "index_not_found_exception" else 400, kind, str(error) or repr(error))


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # it is registered for nothing else
    return _failure(error.status_code, "illegal_argument_exception", error.detail)


def create_app(directory: Path, refresh_s: float) -> Starlette:
    """The ASGI application."""
    server = Server(directory, refresh_s)
    bad = (BadRequest, msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError)
    return Starlette(
        routes=[
            Route("/", server.about),
            Route("/metrics", _metrics),
            Route("/_bulk", server.bulk, methods=["POST"]),
            Route("/{index}", server.create, methods=["PUT"]),
            Route("/{index}", server.exists, methods=["HEAD"]),
            Route("/{index}/_search", server.search, methods=["POST"]),
            Route("/{index}/_refresh", server.refresh, methods=["POST"]),
            Route("/{index}/_delete_by_query", server.delete_by_query, methods=["POST"]),
        ],
        lifespan=server.lifespan,
        exception_handlers={HTTPException: _http_error, **dict.fromkeys(bad, _bad_request)},
    )


def serve(settings: Settings) -> None:
    """Serve at ``elasticsearch_url`` until SIGTERM."""
    address = urlsplit(settings.elasticsearch_url)
    uvicorn.run(
        create_app(Path(settings.search_engine_dir), settings.search_refresh_s),
        host=address.hostname or "127.0.0.1",
        port=address.port or 80,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=SHUTDOWN_S,
        server_header=False,
    )
