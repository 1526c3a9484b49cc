"""Traces: what `observe` records and `replay` computes, in one shape, so that anything can be compared with anything.

A trace is a folder:

| file | what |
|---|---|
| `trace.parquet` | a row per request, in order of intended time: `COLUMNS`; the header is in the file's metadata |
| `milestones.parquet` | `recording.MILESTONE_COLUMNS`; started when the client had its answer, on both sides |
| `spans.otlp.jsonl` | OTLP JSON lines (observed traces only) |
| `counters.jsonl` | a line every quarter of a second (observed traces only): `counters.py` |
| `stalls.jsonl` | a line whenever the system's core had been away, and how fast it was meanwhile (observed traces only): `stalls.py` |
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.recording import COLUMNS as ROW_COLUMNS
from loadtest.recording import MILESTONE_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "flashcrowd-trace/1"
COLUMNS = (*ROW_COLUMNS, "post")
"""Those of raw rows, and the post that a request is about (0: none)."""
_KEY = b"flashcrowd"
_NAMED = ("trace.parquet", "milestones.parquet", "spans.otlp.jsonl", "counters.jsonl", "stalls.jsonl")


@dataclass(frozen=True)
class Trace:
    """A header, requests and milestones. Instants are seconds since the start of the schedule."""

    header: dict[str, Any]
    rows: pd.DataFrame
    milestones: pd.DataFrame
    folder: Path | None = field(default=None, compare=False)

    @property
    def duration_s(self) -> float:
        """The length of the schedule."""
        return float(self.header["duration_s"])

    def file(self, name: str) -> Path:
        """One of the folder's files. Raises `ValueError` if the trace has none of that name."""
        path = self.folder / name if self.folder else None
        if path is None or not path.exists():
            raise ValueError(f"{self.folder}: has no {name}; it belongs to what `flashcrowd observe` records")
        return path

    def lines(self, name: str, needed: bool = True) -> list[dict[str, Any]]:
        """A file's JSON lines. Raises `ValueError` if the trace has none of that name; none are there if it is not `needed`."""
        if not needed and not (self.folder and (self.folder / name).exists()):
            return []
        return [json.loads(line) for line in self.file(name).read_text().splitlines()]

    def write(self, folder: Path) -> Path:
        """Write the folder's two tables, each whole or not at all; return the path of the rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder.mkdir(parents=True, exist_ok=True)
        rows = pa.Table.from_pandas(self.rows, preserve_index=False)
        rows = rows.replace_schema_metadata({_KEY: json.dumps(self.header).encode()})
        for table, name in ((pa.Table.from_pandas(self.milestones, preserve_index=False), _NAMED[1]), (rows, _NAMED[0])):
            partial = folder / f".{name}.partial"
            pq.write_table(table, partial)
            partial.replace(folder / name)
        return folder / _NAMED[0]


def read(path: Path) -> Trace:
    """The trace in a folder, or of a `trace.parquet`. Raises `ValueError`, one line, if there is none."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = path if path.is_dir() else path.parent
    file = path / _NAMED[0] if path.is_dir() else path
    try:
        rows = pq.read_table(file)
        milestones = pd.read_parquet(folder / _NAMED[1])
        header = json.loads((rows.schema.metadata or {})[_KEY])
    except (OSError, pa.ArrowException, KeyError, json.JSONDecodeError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else "no table with a header"
        raise ValueError(f"{path}: not a trace of `flashcrowd observe` or `replay` ({why})") from None
    if header.get("format") != FORMAT:
        raise ValueError(f"{path}: format {header.get('format')!r}; this version reads {FORMAT}")
    frame = rows.to_pandas()
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing or list(milestones.columns) != list(MILESTONE_COLUMNS):
        raise ValueError(f"{path}: a table lacks columns ({', '.join(missing) or 'of milestones'})")
    return Trace(header, frame, milestones, folder)


CLOCK_MONOTONIC_COARSE = 6
"""Linux's clock that goes on as the kernel ticks (linux/time.h); Python has no name for it."""


def _tick_s() -> float | None:
    """The time between two ticks of the kernel; None where it does not say."""
    return time.clock_getres(CLOCK_MONOTONIC_COARSE) if sys.platform == "linux" else None


def machine() -> dict[str, Any]:
    """What a run took place on."""
    model = ""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        pass
    return {
        "system": platform.platform(),
        "processor": model,
        "cores": os.cpu_count(),
        "tick_s": _tick_s(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("flashcrowd", "asyncpg", "uvicorn", "uvloop", "confluent-kafka")},
    }
