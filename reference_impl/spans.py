"""Spans: what each stage of each operation took, recorded compactly here and turned into OTLP outside (`otlp.py`).

OpenTelemetry's SDK costs about 36 µs of CPU for a span and as much again to encode it; a tuple with two wall clocks and
two thread clocks costs 2.4 µs and 0.2 µs (same process, same machine). A request has about five spans and two milliseconds
of work: the SDK would take a sixth of it, the tuples take half a percent. So they stay on; ``FLASHCROWD_SPANS=0`` turns
them off.

A span's name is the model's station or topic (``api``, ``database``, ``interactions``), the root's is the operation or the
consumer group; the attribute ``flashcrowd.time`` is the scenario's service time that the span is a sample of.

``cpu_s`` is the CPU time of the span's thread. Where a span waits, other requests run meanwhile on the same thread: it is
the span's own only if the request overlapped no other.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import itertools
import os
import random
from contextvars import ContextVar, Token
from pathlib import Path
from threading import Event, Thread
from time import thread_time_ns, time_ns
from types import TracebackType
from typing import Any, BinaryIO

import msgspec

FLUSH_S = 0.25
MOST_BYTES = 256 * 2**20
"""Of a process's file; then it begins anew, and what there was is kept as one older file."""

Row = tuple[str, str, str, int, str, int, int, int, dict[str, Any] | None]
"""Name, service time, trace (hex), span, parent (hex, or empty), start and end (epoch ns), thread CPU (ns), attributes."""


class Batch(msgspec.Struct, array_like=True):
    """A line of a span file."""

    process: str
    pid: int
    rows: list[Row]


_rows: list[Row] = []
_on = False
_numbers = itertools.count(random.getrandbits(62))
_current: ContextVar[Span | None] = ContextVar("span", default=None)
_names: dict[str, str] = {}
_encode = msgspec.json.Encoder().encode


def name_statements(statements: dict[str, str]) -> None:
    """SQL statement → the service time that it is a part of. Each room calls this for its own."""
    _names.update(statements)


def time_of(statement: str) -> str:
    """The service time of a statement, or an empty text."""
    return _names.get(statement, "")


class Span:
    """``with Span("database", "database_feed_page"):``; a child of the span around it, if there is one."""

    __slots__ = ("_cpu_ns", "_start_ns", "_token", "attributes", "name", "number", "parent", "time", "trace")

    def __init__(self, name: str, time: str = "", attributes: dict[str, Any] | None = None) -> None:
        self.name, self.time, self.attributes = name, time, attributes
        self.trace, self.parent, self.number = "", "", 0
        self._token: Token[Span | None] | None = None

    def __enter__(self) -> Span:
        if _on:
            around = _current.get()
            if around is not None:
                self.trace, self.parent = around.trace, f"{around.number:016x}"
            self.number = next(_numbers)
            self._start_ns, self._cpu_ns = time_ns(), thread_time_ns()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if _on:
            cpu_ns, end_ns = thread_time_ns() - self._cpu_ns, time_ns()
            if kind is not None:
                self.note("error", kind.__name__)
            _rows.append(
                (self.name, self.time, self.trace, self.number, self.parent, self._start_ns, end_ns, cpu_ns, self.attributes)
            )  # fmt: skip

    def note(self, key: str, value: float | str) -> None:
        """Give it an attribute."""
        if self.attributes is None:
            self.attributes = {}
        self.attributes[key] = value


class Root(Span):
    """The span of a whole operation or batch; spans inside are its children. ``traceparent`` is W3C's header, or empty."""

    __slots__ = ()

    def __init__(self, name: str, traceparent: str = "", attributes: dict[str, Any] | None = None) -> None:
        super().__init__(name, "", attributes)
        parts = traceparent.split("-")
        if len(parts) == 4 and len(parts[1]) == 32 and len(parts[2]) == 16:
            self.trace, self.parent = parts[1], parts[2]

    def __enter__(self) -> Root:
        if _on:
            self.trace = self.trace or f"{random.getrandbits(128):032x}"
            self.number = next(_numbers)
            self._token = _current.set(self)
            self._start_ns, self._cpu_ns = time_ns(), thread_time_ns()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        super().__exit__(kind, error, at)
        if self._token is not None:
            _current.reset(self._token)


def add(name: str, time: str, start_ns: int, end_ns: int, attributes: dict[str, Any] | None = None) -> None:
    """A span that is over already, as a child of the span around."""
    around = _current.get()
    if _on and around is not None:
        _rows.append(
            (name, time, around.trace, next(_numbers), f"{around.number:016x}", start_ns, end_ns, 0, attributes)
        )


def note(key: str, value: float | str) -> None:
    """Give the operation's or batch's span an attribute."""
    around = _current.get()
    if around is not None:
        around.note(key, value)


class _File:
    def __init__(self, state_dir: str, process: str) -> None:
        self._process = process
        self._path = Path(state_dir) / f"spans-{process}-{os.getpid()}.jsonl"
        self._file: BinaryIO = self._path.open("ab")
        self._stop = Event()
        self._thread = Thread(target=self._run, name="spans", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(FLUSH_S):
            self.flush()

    def flush(self) -> None:
        global _rows
        if not _rows:
            return
        rows, _rows = _rows, []
        self._file.write(_encode(Batch(self._process, os.getpid(), rows)) + b"\n")
        self._file.flush()
        if self._file.tell() > MOST_BYTES:
            self._file.close()
            self._path.replace(self._path.with_suffix(".older"))
            self._file = self._path.open("ab")

    def close(self) -> None:
        global _on
        _on = False
        self._stop.set()
        self._thread.join(1.0)
        with contextlib.suppress(ValueError):  # closed
            self.flush()


def start(state_dir: str, process: str) -> None:
    """Record this process's spans, and its garbage collections, to ``spans-<process>-<pid>.jsonl`` until it ends."""
    global _on
    file = _File(state_dir, process)
    _on = True
    collecting: list[int] = [0, 0]

    def collected(phase: str, information: dict[str, int]) -> None:
        if phase == "start":
            collecting[:] = time_ns(), thread_time_ns()
        elif collecting[0]:
            cpu_ns = thread_time_ns() - collecting[1]
            generation = {"generation": information["generation"]}
            _rows.append(("gc", "", "", next(_numbers), "", collecting[0], time_ns(), cpu_ns, generation))

    gc.callbacks.append(collected)
    atexit.register(file.close)
