"""Python's side of the compiled engine's memory: it owns the tables, writes their addresses into `sim`, and lets them grow."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from model import tables as t
from model.engines import compiled_tables as c
from model.engines.compiled_kernel import REHASH

_TURNS = 8  # the kernel looks whether there is room every so many turns,
_TURN_ROWS = 2048  # or even less often, where so many rows will do for more
_MMAP_MAX, _TRIM_THRESHOLD = -4, -1  # names of settings in glibc's malloc.h
_KEPT_BYTES = 1 << 30
_FIRST_ROWS = 64  # tables that follow the load begin with this many rows and double


@cache
def keep_freed_memory() -> None:
    """Have glibc give freed memory to the next run, up to a gigabyte, and not back to the system; elsewhere nothing happens.

    A page that comes from the system is cleared first. Where the system is a guest that must ask its host for each page, that
    takes as long as all that a short run of M/M/8 does with it.
    """
    with suppress(OSError, TypeError, AttributeError):  # no such library, or it has no such setting
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_MAX, 0)  # large blocks come from the heap, too
        library.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


class Memory:
    """The tables of one run. `sim` is the record that the kernel knows by its `address`."""

    def __init__(self, tables: t.Tables, kernel: Callable[[int, int, int, int, float], int]) -> None:
        keep_freed_memory()
        self._kernel = kernel
        self.sim = np.zeros((), c.SIM)
        self.address = int(self.sim.ctypes.data)
        self._arrays: dict[str, np.ndarray] = {}
        self._constant(tables)
        self._parts(tables)
        self._processes(tables)
        members = int(tables.topics["consumers"].sum())
        self.set(
            "margin", 64 + 2 * len(tables.steps) + members
        )  # rows of one task's turn, and timers of one group before it
        self.set("wanted", self.get("margin"))
        self.set("numbered", 1)
        self.set("stream", -1)
        self.set("vacant", -1)
        self.sim["stream_s"] = self.sim["first_s"] = np.inf
        self.set("first_ready", -1)
        for name in ("tasks", "heap", "due", "log", "told", "marks", "cached", "requests"):
            self._keep(name, self._new(name, _FIRST_ROWS))
        self._free("tasks", "free_task", "idle_tasks", 0)
        self._free("log", "free_record", "idle_records", 0)
        self.grow()

    # ---- scalars and tables
    def get(self, name: str) -> int:
        """A whole number of `sim`."""
        return int(self.sim[name])

    def set(self, name: str, value: int) -> None:
        """Set a whole number of `sim`."""
        self.sim[name] = value

    def now(self) -> float:
        """The kernel's clock."""
        return float(self.sim["now"])

    def table(self, name: str) -> np.ndarray:
        """A table as it lies in memory, spare rows included; valid until it grows."""
        return self._arrays[name]

    def tables(self) -> list[np.ndarray]:
        """All tables."""
        return list(self._arrays.values())

    def _keep(self, name: str, array: np.ndarray) -> None:
        wanted = c.RECORDS.get(name) if name in c.RECORDS else np.dtype(c.COLUMNS[name])
        assert array.dtype == wanted and array.ndim == 1 and array.flags.c_contiguous, name
        self._arrays[name] = array
        self.sim[f"{name}_at"], self.sim[f"{name}_rows"] = array.ctypes.data, len(array)

    def _new(self, name: str, rows: int) -> np.ndarray:
        """Empty rows that begin where a line of the processor's cache does."""
        kind = np.dtype(c.RECORDS[name] if name in c.RECORDS else c.COLUMNS[name])
        room = np.zeros(rows * kind.itemsize + c.LINE_BYTES, "u1")
        first = -room.ctypes.data % c.LINE_BYTES
        made = room[first : first + rows * kind.itemsize].view(kind)
        if name == "due":
            made.fill(np.inf)
        return made

    def _constant(self, tables: t.Tables) -> None:
        for name in ("steps", "costs", "distributions", "values", "first_row", "priority_class", "colds"):
            self._keep(name, np.ascontiguousarray(getattr(tables, name)))

    def _parts(self, tables: t.Tables) -> None:
        """Stations, topics and quotas in their first state."""
        classes = int(tables.priority_class.max(initial=0)) + 1
        self.set("classes", classes)
        self.set("station_count", len(tables.stations))
        self.set("topic_count", len(tables.topics))
        self.set("cache_count", len(tables.caches))
        self.set("lost_row", len(tables.steps) - 1)
        self.set(
            "counts_keys",
            int((tables.costs["attribute"] == t.KEYS).any() or (tables.steps["attribute"] == t.KEYS).any()),
        )
        self.set("run_queues", 1 + classes * len(tables.stations))
        lines = np.zeros(self.get("run_queues") + len(tables.hosts), c.LINE)
        lines["head"] = lines["tail"] = -1
        stations = _extended(tables.stations, c.STATION)
        stations["root"] = stations["idle"] = -1
        stations["speed"] = 1.0
        budgets, breakers = _extended(tables.budgets, c.BUDGET_STATE), _extended(tables.breakers, c.BREAKER_STATE)
        budgets["tokens"] = budgets["burst"]
        breakers["first"] = np.cumsum(breakers["window"]) - breakers["window"]
        self._keep("budgets", budgets)
        self._keep("breakers", breakers)
        self._keep("recent", np.zeros(max(1, int(breakers["window"].sum())), "i1"))
        caches = _extended(tables.caches, c.CACHE_STATE)
        caches["oldest"] = caches["newest"] = -1
        topics = _extended(tables.topics, c.TOPIC)
        counts = tables.topics["partitions"]
        topics["first_partition"] = np.cumsum(counts) - counts
        topics["first_member"] = np.cumsum(tables.topics["consumers"]) - tables.topics["consumers"]
        partitions = np.zeros(int(counts.sum()), c.PARTITION)
        for name in ("heir", "buffer_head", "buffer_tail", "log_head", "log_tail"):
            partitions[name] = -1
        for row in topics:
            first, count = int(row["first_partition"]), int(row["partitions"])
            partitions["owner"][first : first + count] = np.arange(count) % int(row["consumers"])
        members = np.zeros(int(topics["consumers"].sum()), c.MEMBER)
        members["alive"], members["batch"] = 1, -1
        for name, array in (
            ("lines", lines),
            ("stations", stations),
            ("topics", topics),
            ("partitions", partitions),
            ("caches", caches),
        ):
            self._keep(name, array)
        self._keep("members", members)
        self._keep("quotas", _extended(tables.quotas, c.QUOTA_STATE))
        self._keep("schedules", np.zeros(0, c.SCHEDULE))
        self._keep("distinct", np.zeros(1, "i8"))

    def _processes(self, tables: t.Tables) -> None:
        """Hosts, and room for the processes of stations that have some; none has ever run."""
        self.set("host_count", len(tables.hosts))
        hosts = _extended(tables.hosts, c.HOST_STATE)
        hosts["root"] = hosts["last"] = -1
        self._keep("hosts", hosts)
        self._most = tables.stations["servers"] * tables.stations["tracked"]
        self._keep("processes", _never_run(int(self._most.sum())))

    def free(self) -> None:
        """Let go of all tables; the kernel may not be asked for anything any more."""
        self._arrays.clear()

    # ---- growth
    def grow(self) -> None:
        """Make room for the kernel's next turn in every table that needs it."""
        margin = self._room()
        wanted = self.get("wanted") - self.get("margin") + margin
        self._free_rows("tasks", "free_task", "idle_tasks", wanted)
        self._free_rows("log", "free_record", "idle_records", margin)
        self.reserve_events(margin)
        self.reserve("marks", self.get("marked") + wanted)
        if self.get("observed"):
            self.reserve("told", self.get("told_len") + wanted)
        self.reserve_requests(0)
        while len(self._arrays["cached"]) < 2 * (self.get("cached_used") + margin):
            self._rehash()
        if self.get("counts_keys"):  # a batch has at most as many keys as there are records, or as poll_max allows
            records = min(len(self._arrays["log"]), int(self._arrays["topics"]["poll_max"].max()))
            self._keep("distinct", np.zeros(1 << (2 * records - 1).bit_length() + 1, "i8"))

    def _room(self) -> int:
        """Rows for all the turns until the kernel looks again."""
        margin = self.get("margin")
        return margin * max(_TURNS, _TURN_ROWS // margin)

    def reserve(self, name: str, rows: int) -> None:
        """At least so many rows in all; a table that must grow at least doubles."""
        array = self._arrays[name]
        if rows > len(array):
            larger = self._new(name, max(rows, 2 * len(array)))
            larger[: len(array)] = array
            self._keep(name, larger)

    def reserve_events(self, more: int) -> None:
        """Room for so many more timed events."""
        for name in ("heap", "due"):
            self.reserve(name, self.get("heap_len") + more)

    def reserve_processes(self, station: int, servers: int) -> None:
        """Room for as many processes as each station that has some ever had servers."""
        self._most[station] = max(self._most[station], servers)
        old = self._arrays["processes"]
        missing = int(self._most.sum()) - len(old)
        if missing > 0:
            self._keep("processes", np.concatenate([old, _never_run(missing)]))

    def reserve_requests(self, more: int) -> None:
        """Room for so many more requests."""
        self.reserve("requests", self.get("requests") + more + self.get("margin"))

    def add_schedule(self, gaps: int, operations: int, attributes: int, columns: int, count: int) -> int:
        """A row of `schedules`; the addresses' owner is the caller. Returns its number."""
        row = np.array([(gaps, operations, attributes, columns, 0, count, 0, 0, 0)], c.SCHEDULE)
        self._keep("schedules", np.concatenate([self._arrays["schedules"], row]))
        return len(self._arrays["schedules"]) - 1

    def _free_rows(self, name: str, head: str, idle: str, room: int) -> None:
        old = len(self._arrays[name])
        if self.get(idle) < room:
            self.reserve(name, old + room)
            self._free(name, head, idle, old)

    def _free(self, name: str, head: str, idle: str, first: int) -> None:
        """The rows from `first` on go in front of the list of free ones."""
        array = self._arrays[name]
        array["next"][first:] = np.arange(first + 1, len(array) + 1)
        array["next"][-1] = self.get(head) if first else -1
        self.set(head, first)
        self.set(idle, self.get(idle) + len(array) - first)

    def _rehash(self) -> None:
        """Move the live entries of caches to a new table, at most a quarter full."""
        old = self._arrays["cached"]
        kept = (old["expires_s"] > self.now()) | (old["filler"] >= 0) | (old["linked"] == 1)
        live = int(np.count_nonzero((old["used"] == 1) & kept))
        size = _FIRST_ROWS
        while size < 4 * (live + self._room()):
            size *= 2
        self._keep("cached_before", old)
        self._keep("cached", np.zeros(size, c.CACHED))
        if self.get("cache_count"):
            self._kernel(self.address, REHASH, 0, 0, self.now())
        self._keep("cached_before", np.zeros(0, c.CACHED))


def _never_run(count: int) -> np.ndarray:
    rows = np.zeros(count, c.PROCESS)
    rows["ran_s"] = -np.inf
    return rows


def _extended(rows: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The same rows with more fields, which begin as 0."""
    result = np.zeros(len(rows), dtype)
    for name in rows.dtype.names or ():
        result[name] = rows[name]
    return result
