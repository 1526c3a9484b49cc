"""``search.query``."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reference_impl.search.cache import AnswerCache
from reference_impl.search.index import IndexUnavailable, SearchIndex
from reference_impl.search.records import SEARCHED_COLUMN
from reference_impl.settings import Settings
from reference_impl.web import ApiError, Platform, limit_of

LIMIT_DEFAULT, LIMIT_MAX = 10, 50
MAX_QUERY = 100
"""Longest query, in characters."""


class Hit(msgspec.Struct, omit_defaults=True):
    """A user or a post, with what is known of the one or the other."""

    id: int
    name: str | msgspec.UnsetType = msgspec.UNSET
    title: str | msgspec.UnsetType = msgspec.UNSET
    author_id: int | msgspec.UnsetType = msgspec.UNSET
    created_at: float | msgspec.UnsetType = msgspec.UNSET


class Results(msgspec.Struct):
    """Answer of ``search.query``, the best match first."""

    results: list[Hit]


class Search:
    """What the handler works with: the engine and the cache before it."""

    def __init__(self, settings: Settings) -> None:
        self.index = SearchIndex(settings)
        self.cache = AnswerCache(settings)

    async def close(self) -> None:
        """Close all connections."""
        await self.index.close()
        await self.cache.close()


async def query(request: Request, _platform: Platform) -> Response:
    """Users by name or posts by title; the header ``X-Cache`` says where the answer came from."""
    search: Search = request.app.state.search
    text, kind, limit = _checked(request)

    async def fetch() -> bytes:
        return msgspec.json.encode({"results": await search.index.find(kind, text, limit)})  # of the form Results

    try:
        answer, outcome = await search.cache.get(f"search:{kind}:{limit}:{text}", fetch)
    except IndexUnavailable:
        raise ApiError(503, "the search engine does not answer; try again") from None
    return Response(answer, media_type="application/json", headers={"X-Cache": outcome})


def _checked(request: Request) -> tuple[str, str, int]:
    """(text, kind, limit). Queries that differ only in case or spaces are the same to the engine, and to the cache."""
    parameters = request.query_params
    text = " ".join(parameters.get("q", "").casefold().split())
    if not text:
        raise ApiError(422, "q is missing or empty; it has to be what is searched for")
    if len(text) > MAX_QUERY:
        raise ApiError(422, f"q has {len(text)} characters; {MAX_QUERY} are allowed")
    kind = parameters.get("kind", "")
    if kind not in SEARCHED_COLUMN:
        raise ApiError(422, f"kind has to be {' or '.join(SEARCHED_COLUMN)}")
    return text, kind, limit_of(request, LIMIT_DEFAULT, LIMIT_MAX)
