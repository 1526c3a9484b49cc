"""Records of the topic ``search``; the key is the row's kind and id: its changes are in one partition, in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

Columns = Mapping[str, Callable[[str], Any]]

TABLES: Mapping[str, Columns] = {
    "users": {"id": int, "name": str},
    "posts": {
        "id": int,
        "title": str,
        "author_id": int,
        "created_at": lambda text: datetime.fromisoformat(text).timestamp(),
    },
}
"""Searchable table → its searchable columns, each with how PostgreSQL's text is read."""
SEARCHED_COLUMN = {"users": "name", "posts": "title"}


class Change(msgspec.Struct, frozen=True, array_like=True):
    """What happened to a row, or (``clear``) to all rows of a table that were written before ``lsn``."""

    action: Literal["put", "delete", "clear"]
    kind: str
    """The table."""
    id: int
    lsn: int
    """The change's place in the database's log; the document carries it."""
    committed_at: float
    """Epoch seconds, by the database's clock."""
    inserted: bool = False
    """Whether the row is new, which is when its way into the index is measured."""
    document: dict[str, Any] = {}


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Change).decode
