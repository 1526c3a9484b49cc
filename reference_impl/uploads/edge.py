"""A small caching edge: what a content delivery network does, in one process, with range requests.

Media never change once they can be viewed, so the cache keeps blocks of them by (media id, block number), the least recently
used leave first. Concurrent misses of a block are one fetch. Where a file is, the edge asks its origin (the API, which
answers with a redirect to the store) once in ``edge_ttl_s``; so a file that is taken down disappears by then. Whoever looks
needs a token, which the edge checks by itself, since it knows the secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import httpx
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from reference_impl.auth import BEARER, Tokens
from reference_impl.settings import Settings
from reference_impl.topics import worker_ready
from reference_impl.web import ApiError, error_response, path_id

log = structlog.get_logger()
blocks_total = Counter("flashcrowd_edge_blocks", "Blocks asked for", ["result"])
bytes_total = Counter("flashcrowd_edge_bytes", "Bytes sent to viewers")
cached_bytes = Gauge("flashcrowd_edge_cached_bytes", "Bytes in the cache")

BLOCK_BYTES = 2**20
FILES_KNOWN = 100_000
TIMEOUT_S = 10.0
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
Value = TypeVar("Value")


@dataclass(slots=True)
class File:
    """What the edge knows of a media file."""

    media_id: int
    url: str
    size_bytes: int
    media_type: str
    etag: str
    fresh_until: float


class OriginFailed(Exception):
    """The origin or the store does not answer as it should."""


class Edge:
    """The cache and what fills it."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient) -> None:
        self._origin = f"http://{settings.api_host}:{settings.api_port}"
        self._ttl_s = settings.edge_ttl_s
        self._capacity_bytes = settings.edge_cache_bytes
        self._client = client
        self._files: OrderedDict[int, File] = OrderedDict()
        self._blocks: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._cached_bytes = 0
        self._under_way: dict[object, asyncio.Task] = {}

    async def file(self, media_id: int, authorization: str) -> File:
        """Where and what a media file is; ``authorization`` is the viewer's, for the origin.

        Raises:
            ApiError: the origin has none (404). OriginFailed.
        """
        known = self._files.get(media_id)
        if known and known.fresh_until > time.monotonic():
            self._files.move_to_end(media_id)
            return known
        return await self._once(media_id, lambda: self._find(media_id, authorization))

    async def _find(self, media_id: int, authorization: str) -> File:
        url = await self._locate(media_id, authorization)
        answer = await self._fetch(url, 0)
        size_bytes = int(answer.headers["content-range"].rpartition("/")[2])
        etag = answer.headers.get("etag", f'"{media_id}-{size_bytes}"')
        old = self._files.get(media_id)
        if old and old.etag != etag:
            self._forget(media_id)
        media_type = answer.headers.get("content-type", "application/octet-stream")
        found = File(media_id, url, size_bytes, media_type, etag, time.monotonic() + self._ttl_s)
        self._files[media_id] = found
        if len(self._files) > FILES_KNOWN:
            self._files.popitem(last=False)
        self._keep((media_id, 0), answer.content)
        return found

    async def _locate(self, media_id: int, authorization: str) -> str:
        headers = {"authorization": authorization}
        try:
            answer = await self._client.get(f"{self._origin}/v1/media/{media_id}", headers=headers)
        except httpx.HTTPError as error:
            raise OriginFailed(repr(error)) from error
        if answer.status_code == 404:
            self._files.pop(media_id, None)
            self._forget(media_id)
            raise ApiError(404, f"there is no media {media_id}")
        if answer.status_code == 401:
            raise ApiError(401, "the origin does not let this viewer in", BEARER)
        if answer.status_code != 302:
            raise OriginFailed(f"the origin answered {answer.status_code}")
        return answer.headers["location"]

    async def _fetch(self, url: str, block: int) -> httpx.Response:
        first = block * BLOCK_BYTES
        try:
            answer = await self._client.get(url, headers={"range": f"bytes={first}-{first + BLOCK_BYTES - 1}"})
        except httpx.HTTPError as error:
            raise OriginFailed(repr(error)) from error
        if answer.status_code != 206:
            raise OriginFailed(f"the store answered {answer.status_code}")
        return answer

    async def block(self, file: File, number: int, authorization: str) -> bytes:
        """One block, from the cache or the store.

        Raises:
            ApiError: the file is gone (404). OriginFailed.
        """
        key = (file.media_id, number)
        kept = self._blocks.get(key)
        if kept is not None:
            self._blocks.move_to_end(key)
            blocks_total.labels("hit").inc()
            return kept
        blocks_total.labels("coalesced" if key in self._under_way else "miss").inc()
        return await self._once(key, lambda: self._load(file, number, authorization))

    async def _load(self, file: File, number: int, authorization: str) -> bytes:
        try:
            answer = await self._fetch(file.url, number)
        except OriginFailed:  # the URL has expired, most likely
            file.url = await self._locate(file.media_id, authorization)
            answer = await self._fetch(file.url, number)
        self._keep((file.media_id, number), answer.content)
        return answer.content

    async def _once(self, key: object, make: Callable[[], Awaitable[Value]]) -> Value:
        """What ``make`` gives; those who ask while it is being made get the same."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.ensure_future(make())
            task.add_done_callback(lambda _done: self._under_way.pop(key, None))
        # A viewer who leaves must not take the others' block away.
        value: Value = await asyncio.shield(task)
        return value

    def _keep(self, key: tuple[int, int], content: bytes) -> None:
        self._cached_bytes += len(content) - len(self._blocks.pop(key, b""))
        self._blocks[key] = content
        while self._cached_bytes > self._capacity_bytes:
            self._cached_bytes -= len(self._blocks.popitem(last=False)[1])
        cached_bytes.set(self._cached_bytes)

    def _forget(self, media_id: int) -> None:
        for key in [key for key in self._blocks if key[0] == media_id]:
            self._cached_bytes -= len(self._blocks.pop(key))


def asked_range(text: str | None, size_bytes: int) -> tuple[int, int] | None:
    """First and last byte of a ``Range`` header; None: the whole (no range, several, or not understood).

    Raises:
        ApiError: nothing of it is in the file (416).
    """
    match = RANGE.fullmatch(text.strip()) if text else None
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        begin, end = max(0, size_bytes - int(last)), size_bytes - 1
    else:
        begin, end = int(first), min(int(last), size_bytes - 1) if last else size_bytes - 1
        if last and int(last) < begin:
            return None  # RFC 9110: such a range is invalid, and an invalid header is ignored
    if begin > end:
        raise ApiError(416, f"the file has {size_bytes} bytes")
    return begin, end


async def view(request: Request) -> Response:
    """A media file, or the range of it that is asked for."""
    edge: Edge = request.app.state.edge
    authorization = request.headers.get("authorization", "")
    try:
        request.app.state.tokens.user_of(authorization)
        file = await edge.file(path_id(request, "media"), authorization)
        headers = {
            "etag": file.etag,
            "accept-ranges": "bytes",
            "cache-control": "public, max-age=31536000, immutable",
            "content-type": file.media_type,
        }
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if file.etag in known or "*" in known:
            return Response(status_code=304, headers=headers)
        if_range = request.headers.get("if-range")
        text = request.headers.get("range") if if_range in (None, file.etag) else None
        span = asked_range(text, file.size_bytes)
    except ApiError as error:
        response = error.response()
        if error.status == 416:
            response.headers["content-range"] = f"bytes */{file.size_bytes}"
        return response
    except OriginFailed as error:
        log.warning("edge.origin", error=str(error))
        return error_response(503, "the origin does not answer; try again")
    begin, end = span or (0, file.size_bytes - 1)
    headers["content-length"] = str(end + 1 - begin)
    if span:
        headers["content-range"] = f"bytes {begin}-{end}/{file.size_bytes}"
    status = 206 if span else 200
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_content(edge, file, begin, end, authorization), status, headers)


async def _content(edge: Edge, file: File, begin: int, end: int, authorization: str) -> AsyncIterator[bytes]:
    for number in range(begin // BLOCK_BYTES, end // BLOCK_BYTES + 1):
        block = await edge.block(file, number, authorization)
        offset = number * BLOCK_BYTES
        part = block[max(0, begin - offset) : end + 1 - offset]
        bytes_total.inc(len(part))
        yield part


async def metrics(_request: Request) -> Response:
    """Prometheus's text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def create_edge(settings: Settings) -> Starlette:
    """The ASGI application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            app.state.edge = Edge(settings, client)
            app.state.tokens = Tokens(settings.token_secret, settings.token_lifetime_s)
            worker_ready.set(1)
            yield

    return Starlette(
        routes=[Route("/v1/media/{id}", view, methods=["GET", "HEAD"]), Route("/metrics", metrics)], lifespan=lifespan
    )
