"""A decoder of ``pgoutput``, PostgreSQL's own format of logical replication, protocol version 1.

Source: PostgreSQL's manual, "Logical Replication Message Formats". The libraries for it on PyPI are unkept prototypes, and
what is needed here is small. Of the messages, those that a search index has no use for (origin, type, logical message) are
skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

POSTGRES_EPOCH_S = 946_684_800  # 2000-01-01 UTC
SKIPPED = b"OYM"

Values = Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction begins; all that follows up to its ``Commit`` was committed at ``committed_at`` (epoch seconds)."""

    committed_at: float


@dataclass(frozen=True, slots=True)
class Commit:
    """The transaction is complete; ``end_lsn`` is what may be confirmed once all of it is safe elsewhere."""

    end_lsn: int


@dataclass(frozen=True, slots=True)
class Row:
    """A row was inserted, updated or deleted. A null is None; a large value that an update left alone is missing.

    ``key``: the old key's values where the row was deleted or its key changed.
    """

    table: str
    action: Literal["insert", "update", "delete"]
    values: Values
    key: Values | None


@dataclass(frozen=True, slots=True)
class Truncate:
    """All rows of these tables are gone."""

    tables: tuple[str, ...]


Message = Begin | Commit | Row | Truncate


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 1  # behind the message's letter

    def read(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from("!" + layout, self.data, self.at)
        self.at += struct.calcsize("!" + layout)
        return values

    def letter(self) -> bytes:
        self.at += 1
        return self.data[self.at - 1 : self.at]

    def text(self) -> str:
        end = self.data.index(b"\0", self.at)
        text = self.data[self.at : end].decode()
        self.at = end + 1
        return text

    def values(self, columns: tuple[str, ...]) -> Values:
        (count,) = self.read("h")
        found: dict[str, str | None] = {}
        for column in columns[:count]:
            match self.letter():
                case b"t":
                    (length,) = self.read("i")
                    found[column] = self.data[self.at : self.at + length].decode()
                    self.at += length
                case b"n":
                    found[column] = None
                case b"u":
                    pass
                case other:
                    raise ValueError(f"pgoutput: a value of the unknown kind {other!r}")
        return found


class Decoder:
    """Decodes one connection's messages, in order: a table is described once, before its first row."""

    def __init__(self) -> None:
        self._tables: dict[int, tuple[str, tuple[str, ...]]] = {}

    def decode(self, data: bytes) -> Message | None:
        """The message, or None for one that only tells about tables or is of no use here.

        Raises:
            ValueError: it is no pgoutput of version 1.
        """
        reader, kind = _Reader(data), data[:1]
        try:
            match kind:
                case b"B":
                    _final_lsn, since_epoch_us, _transaction = reader.read("QqI")
                    return Begin(POSTGRES_EPOCH_S + since_epoch_us / 1e6)
                case b"C":
                    _flags, _commit_lsn, end_lsn, _time = reader.read("BQQq")
                    return Commit(end_lsn)
                case b"R":
                    self._describe(reader)
                    return None
                case b"I" | b"U" | b"D":
                    return self._row(reader, kind)
                case b"T":
                    count, _options = reader.read("IB")
                    return Truncate(tuple(self._tables[oid][0] for oid in reader.read(f"{count}I")))
        except (struct.error, IndexError, KeyError) as error:
            raise ValueError(f"pgoutput: a damaged message {data[:40]!r}: {error!r}") from None
        if kind and kind in SKIPPED:
            return None
        raise ValueError(f"pgoutput: an unknown message {data[:40]!r}")

    def _describe(self, reader: _Reader) -> None:
        (oid,) = reader.read("I")
        reader.text()  # the schema
        name = reader.text()
        _identity, count = reader.read("Bh")
        columns = []
        for _ in range(count):
            reader.read("B")
            columns.append(reader.text())
            reader.read("Ii")
        self._tables[oid] = (name, tuple(columns))

    def _row(self, reader: _Reader, kind: bytes) -> Row:
        (oid,) = reader.read("I")
        table, columns = self._tables[oid]
        key, part = None, reader.letter()
        if part in (b"K", b"O"):
            key = reader.values(columns)
            if kind == b"D":
                return Row(table, "delete", {}, key)
            part = reader.letter()
        if part != b"N":
            raise ValueError(f"pgoutput: a row with the unknown part {part!r}")
        return Row(table, "insert" if kind == b"I" else "update", reader.values(columns), key)
