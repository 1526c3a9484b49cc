"""The embedded search engine: tantivy behind the part of Elasticsearch's query language that this room uses.

An acknowledged write survives the death of the process: it is in a journal until tantivy has committed it. (The journal is
not forced to the disk, so a power failure may lose it: this engine is for development, tests and comparison.)
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import tantivy
from tantivy import Occur, Query

WRITER_BYTES = 32_000_000
LONGEST_WORD = 255  # Elasticsearch's standard analyzer splits longer ones; here they are left out
LIMIT_MAX = 10_000


class BadRequest(Exception):
    """Not understood; ``kind`` is what Elasticsearch would call it."""

    def __init__(self, message: str, kind: str = "parsing_exception") -> None:
        super().__init__(message)
        self.kind = kind


def _analyzer() -> tantivy.TextAnalyzer:
    words = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    return words.filter(tantivy.Filter.remove_long(LONGEST_WORD)).filter(tantivy.Filter.lowercase()).build()


class StoredIndex:
    """One index: documents by id. Writes are visible after :meth:`refresh`."""

    def __init__(self, name: str, directory: Path, definition: Mapping[str, Any]) -> None:
        self.name = name
        self.dirty = False
        self._types = {field: way["type"] for field, way in definition["mappings"]["properties"].items()}
        builder = tantivy.SchemaBuilder().add_text_field("_id", tokenizer_name="raw", index_option="basic", stored=True)
        builder = builder.add_bytes_field("_source", stored=True)
        for field, kind in self._types.items():
            match kind:
                case "text":
                    builder = builder.add_text_field(field, tokenizer_name="words", index_option="freq")
                case "long":
                    builder = builder.add_integer_field(field, indexed=True, fast=True)
                case "double":
                    builder = builder.add_float_field(field, indexed=True, fast=True)
                case other:
                    raise BadRequest(f"no handler for type [{other}]", "mapper_parsing_exception")
        self._schema = builder.build()
        self._analyzer = _analyzer()
        self._index = tantivy.Index(self._schema, str(directory))
        self._index.register_tokenizer("words", self._analyzer)
        self._writer = self._index.writer(WRITER_BYTES, 1)
        self._searcher = self._index.searcher()

    def put(self, identifier: str, source: Mapping[str, Any]) -> None:
        """Replace the document of this id."""
        document = tantivy.Document()
        document.add_text("_id", identifier)
        document.add_bytes("_source", msgspec.json.encode(source))
        for field, value in source.items():
            match self._types.get(field):
                case "text":
                    document.add_text(field, value)
                case "long":
                    document.add_integer(field, value)
                case "double":
                    document.add_float(field, value)
                case _:
                    raise BadRequest(f"[{field}] is not in the mapping", "strict_dynamic_mapping_exception")
        self.delete(identifier)
        self._writer.add_document(document)

    def delete(self, identifier: str) -> None:
        """Delete the document of this id, if there is one."""
        self._writer.delete_documents_by_term("_id", identifier)
        self.dirty = True

    def delete_by_query(self, query: Mapping[str, Any]) -> None:
        """Delete what is found, whether or not it is visible yet."""
        self._writer.delete_documents_by_query(self._parsed(query))
        self.dirty = True

    def refresh(self) -> None:
        """Commit, and let queries see it."""
        if self.dirty:
            self._writer.commit()
            self._index.reload()
            self._searcher = self._index.searcher()
            self.dirty = False

    def search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a search request."""
        began = time.perf_counter()
        size = body.get("size", 10)
        if not (isinstance(size, int) and 0 <= size <= LIMIT_MAX):
            raise BadRequest(f"[size] has to be from 0 to {LIMIT_MAX}, not {size!r}", "illegal_argument_exception")
        counted = bool(body.get("track_total_hits", True))
        query = self._parsed(body.get("query", {"match_all": {}}))
        found = self._searcher.search(query, limit=max(1, size), count=counted)
        wanted = body.get("_source")
        hits = []
        for score, address in found.hits[:size]:
            document = self._searcher.doc(address)
            source = msgspec.json.decode(bytes(document["_source"][0]))
            if wanted is not None:
                source = {field: source[field] for field in wanted if field in source}
            hits.append({"_index": self.name, "_id": document["_id"][0], "_score": score, "_source": source})
        answer: dict[str, Any] = {"max_score": hits[0]["_score"] if hits else None, "hits": hits}
        if counted:
            answer["total"] = {"value": found.count, "relation": "eq"}  # type: ignore[attr-defined]  # missing in its stub
        return {
            "took": round((time.perf_counter() - began) * 1000),
            "timed_out": False,
            "_shards": {"total": 1, "successful": 1, "skipped": 0, "failed": 0},
            "hits": answer,
        }

    def _parsed(self, query: Mapping[str, Any]) -> Query:
        if len(query) != 1:
            raise BadRequest("a query is an object with one key, its kind")
        ((kind, what),) = query.items()
        match kind:
            case "match_all":
                return Query.all_query()
            case "ids":
                return Query.term_set_query(self._schema, "_id", list(what["values"]))
            case "range":
                return self._range(what)
            case "bool":
                ways = [(Occur.Should, self._parsed(one)) for one in what["should"]]
                return Query.boolean_query(ways)
            case "match" | "match_bool_prefix":
                return self._match(what, last_is_prefix=kind == "match_bool_prefix")
        raise BadRequest(f"unknown query [{kind}]")

    def _range(self, what: Mapping[str, Any]) -> Query:
        ((field, bounds),) = what.items()
        if self._types.get(field) != "long" or not bounds.keys() <= {"gte", "lt"}:
            raise BadRequest(f"a range of [{field}] by {', '.join(bounds)} is not supported here")
        return Query.range_query(
            self._schema, field, tantivy.FieldType.Integer, bounds.get("gte"), bounds.get("lt"), include_upper=False
        )

    def _match(self, what: Mapping[str, Any], last_is_prefix: bool) -> Query:
        ((field, how),) = what.items()
        if self._types.get(field) != "text":
            raise BadRequest(f"[{field}] is no text that could be searched for words")
        words = self._analyzer.analyze(how["query"])
        if not words:
            return Query.empty_query()
        occur = Occur.Must if how.get("operator") == "and" else Occur.Should
        parts = [
            (occur, self._word(field, word, how.get("fuzziness"), last_is_prefix and number == len(words)))
            for number, word in enumerate(words, 1)
        ]
        return Query.boost_query(Query.boolean_query(parts), float(how.get("boost", 1)))

    def _word(self, field: str, word: str, fuzziness: str | None, prefix: bool) -> Query:
        if prefix:
            return Query.fuzzy_term_query(self._schema, field, word, distance=0, prefix=True)
        if fuzziness and (distance := edits(fuzziness, word)):
            return Query.fuzzy_term_query(self._schema, field, word, distance=distance)
        return Query.term_query(self._schema, field, word, index_option="freq")


def edits(fuzziness: str, word: str) -> int:
    """How many edits ``AUTO:low,high`` allows in a word: none below ``low`` letters, one below ``high``, else two."""
    low, high = fuzziness.removeprefix("AUTO:").split(",")
    return (len(word) >= int(low)) + (len(word) >= int(high))


class Engine:
    """All indexes of a directory, and the journal of what they have not committed."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._indexes: dict[str, StoredIndex] = {}
        for definition in sorted(directory.glob("*/definition.json")):
            self._open(definition.parent.name, msgspec.json.decode(definition.read_bytes()))
        self._journal = (directory / "journal.ndjson").open("a+b")
        self._journal.seek(0)
        for line in self._journal:
            if line.endswith(b"\n"):  # a torn last line was never acknowledged
                self._apply(msgspec.json.decode(line))
        self.refresh()

    def _open(self, name: str, definition: Mapping[str, Any]) -> None:
        data = self._directory / name / "data"
        data.mkdir(exist_ok=True)
        self._indexes[name] = StoredIndex(name, data, definition)

    def __getitem__(self, name: str) -> StoredIndex:
        return self._indexes[name]

    def __contains__(self, name: str) -> bool:
        return name in self._indexes

    def create(self, name: str, definition: Mapping[str, Any]) -> None:
        """Create an index; it survives a restart."""
        home = self._directory / name
        home.mkdir()
        try:
            self._open(name, definition)
        except BaseException:
            shutil.rmtree(home)
            raise
        (home / "definition.json").write_bytes(msgspec.json.encode(definition))

    def bulk(self, operations: list[tuple[str, str, dict[str, Any] | None]]) -> list[str | None]:
        """Apply (index, id, document or None to delete it); the reason why each was refused, None if it was not."""
        reasons: list[str | None] = []
        for operation in operations:
            try:
                self._apply(operation)
            except (BadRequest, TypeError, ValueError) as error:
                reasons.append(str(error))
                continue
            reasons.append(None)
            self._journal.write(msgspec.json.encode(operation) + b"\n")
        self._journal.flush()
        return reasons

    def _apply(self, operation: tuple[str, str, dict[str, Any] | None]) -> None:
        name, identifier, document = operation
        if document is None:
            self._indexes[name].delete(identifier)
        else:
            self._indexes[name].put(identifier, document)

    def refresh(self) -> None:
        """Make every write visible; the journal is needed no more."""
        for index in self._indexes.values():
            index.refresh()
        self._journal.truncate(0)
