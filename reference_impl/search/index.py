"""The search engine's REST API, as far as this room uses it: Elasticsearch's, which OpenSearch and the embedded engine speak.

By ``elastic-transport``, the official client's own way to a server: connections, serializers, errors. Not by the layer above,
the package ``elasticsearch``, since its calls end at OpenSearch (tried: 8.19 and 9.5 with OpenSearch 2.19). It sends its bodies as
``application/vnd.elasticsearch+json; compatible-with=9``, which OpenSearch answers with 406, and raises `UnsupportedProductError`
for every answer without the header ``X-Elastic-Product``. It also wants a release for each major version of the server.
``opensearch-py`` talks to both, but it is not Elastic's, and brings a dozen packages. Bodies and answers are the same with all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from elastic_transport import AsyncTransport, TransportError
from elastic_transport.client_utils import url_to_node_config

from reference_impl.search.records import SEARCHED_COLUMN, Change
from reference_impl.settings import Settings

NDJSON = {"content-type": "application/x-ndjson"}
JSON = {"content-type": "application/json"}
# Dynamic "strict": a field that is not in the mapping is a mistake of ours, not a new field.
MAPPINGS: dict[str, dict[str, Any]] = {
    "users": {"name": {"type": "text"}},
    "posts": {"title": {"type": "text"}, "author_id": {"type": "long"}, "created_at": {"type": "double"}},
}
COMMON = {"id": {"type": "long"}, "lsn": {"type": "long"}}
CONNECTIONS_MOST = 100
"""Of a process. The transport's default, 10, would let queries wait for each other."""
EXACT_BOOST, PREFIX_BOOST = 4, 2
FUZZINESS = "AUTO:4,8"
"""Words of 4 to 7 letters may differ by one edit, longer ones by two."""


class IndexUnavailable(Exception):
    """The search engine does not answer, or is overloaded; try again later."""


class IndexRefused(Exception):
    """The search engine does not accept what we sent: a mistake of ours."""


class SearchIndex:
    """One search engine."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._prefix = f"{settings.name_prefix}flashcrowd-"
        node = url_to_node_config(settings.elasticsearch_url, use_default_ports_for_scheme=True).replace(
            connections_per_node=CONNECTIONS_MOST, request_timeout=settings.search_timeout_s
        )
        # No retries: who asks decides, the indexer by its backoff, a query by a 503.
        self._transport = AsyncTransport([node], node_class="httpxasync", max_retries=0)

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _call(self, method: str, path: str, body: Any = None, headers: dict[str, str] = JSON) -> Any:
        try:
            meta, answer = await self._transport.perform_request(method, path, body=body, headers=headers)
        except TransportError as error:
            raise IndexUnavailable(repr(error.__cause__ or error)[:200]) from None  # by itself it says "Connection error"
        if meta.status in (429, 500, 502, 503, 504):
            raise IndexUnavailable(f"{meta.status} {str(answer)[:200]}")
        if meta.status >= 400:
            raise IndexRefused(f"{method} {path}: {meta.status} {str(answer)[:500]}")
        return answer

    async def check(self) -> None:
        """Ask whether it is there.

        Raises:
            IndexUnavailable.
        """
        await self._call("GET", "/")

    async def create(self) -> bool:
        """Create the indexes that are missing; return whether any was."""
        created = False
        for kind, fields in MAPPINGS.items():
            definition = {
                "settings": {
                    "number_of_shards": self._settings.search_shards,
                    "number_of_replicas": self._settings.search_replicas,
                    "refresh_interval": f"{round(self._settings.search_refresh_s * 1000)}ms",
                },
                "mappings": {"dynamic": "strict", "properties": COMMON | fields},
            }
            try:
                await self._call("PUT", f"/{self._prefix}{kind}", definition)
                created = True
            except IndexRefused as error:
                if "resource_already_exists" not in str(error):
                    raise
        return created

    async def exists(self) -> bool:
        """Whether all indexes are there."""
        try:
            for kind in MAPPINGS:
                await self._call("HEAD", f"/{self._prefix}{kind}")
        except IndexRefused:
            return False
        return True

    async def write(self, changes: Iterable[Change]) -> list[str]:
        """Put and delete documents; they are durable when this returns, and visible after the next refresh.

        Returns the reasons why documents were refused for good, which repeating would not help.

        Raises:
            IndexUnavailable: some may have been written; writing all of them again changes nothing.
        """
        lines: list[dict[str, Any]] = []
        for change in changes:
            action = "index" if change.action == "put" else "delete"
            lines.append({action: {"_index": self._prefix + change.kind, "_id": str(change.id)}})
            if change.action == "put":
                lines.append(change.document | {"lsn": change.lsn})
        if not lines:
            return []
        answer = await self._call("POST", "/_bulk", lines, NDJSON)
        refused = []
        for item in answer["items"] if answer["errors"] else ():
            result = next(iter(item.values()))
            if result["status"] == 429 or result["status"] >= 500:
                raise IndexUnavailable(str(result.get("error"))[:200])
            if "error" in result:
                refused.append(f"{result['_index']}/{result['_id']}: {str(result['error'])[:200]}")
        return refused

    async def clear(self, kind: str, before_lsn: int) -> None:
        """Delete the documents that were written before ``before_lsn``."""
        await self.refresh(kind)  # what a delete by query does not see it does not delete
        query = {"query": {"range": {"lsn": {"lt": before_lsn}}}}
        path = f"/{self._prefix}{kind}/_delete_by_query?conflicts=proceed&refresh=true"
        await self._call("POST", path, query)

    async def refresh(self, kind: str) -> None:
        """Make visible what was written up to now."""
        await self._call("POST", f"/{self._prefix}{kind}/_refresh")

    async def find(self, kind: str, text: str, limit: int) -> list[dict[str, Any]]:
        """The best matches: the words as they are, before the last one as a prefix, before words with a typing error."""
        field = SEARCHED_COLUMN[kind]
        ways = [
            {"match": {field: {"query": text, "operator": "and", "boost": EXACT_BOOST}}},
            {"match_bool_prefix": {field: {"query": text, "operator": "and", "boost": PREFIX_BOOST}}},
            {"match": {field: {"query": text, "operator": "and", "fuzziness": FUZZINESS}}},
        ]
        body = {
            "query": {"bool": {"should": ways, "minimum_should_match": 1}},
            "size": limit,
            "_source": ["id", *MAPPINGS[kind]],
            "track_total_hits": False,
        }
        answer = await self._search(kind, body)
        return [hit["_source"] for hit in answer["hits"]["hits"]]

    async def count(self, kind: str, ids: Sequence[int] | None = None) -> int:
        """How many documents a query can find now; of these ``ids``, if given."""
        query = {"match_all": {}} if ids is None else {"ids": {"values": [str(number) for number in ids]}}
        answer = await self._search(kind, {"query": query, "size": 0, "track_total_hits": True})
        return int(answer["hits"]["total"]["value"])

    async def _search(self, kind: str, body: dict[str, Any]) -> Any:
        path = f"/{self._prefix}{kind}/_search?allow_partial_search_results=false"
        return await self._call("POST", path, body)
