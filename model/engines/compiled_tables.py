"""The compiled engine's memory: which tables there are, and how compiled code reaches a row.

One record, `sim`, holds the scalars of a simulation and the address of every table. A table of records is reached by a function
of its name: `task = tasks(sim, i)` is a *reference*, and assigning to its fields writes the table. A column of plain numbers is
reached as a pointer: `values(sim)[i]`. Nothing here is a NumPy array once compiled, so nothing is reference-counted: arrays
passed to helpers cost four to eight times as much. Python owns the memory (`compiled.py`), and moves a table only between two
calls of the kernel, which is why the compiler may keep an address in a register (`invariant.load`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.kernel_compiler import Writer
from model.kernel_words import WORD, Intrinsic, Kind, Value, column_kind, row_kind
from model.recording import CACHE_COUNTS, HOST_COUNTS, MARK, STATION_COUNTS, TOPIC_COUNTS
from model.tables import BREAKER, BUDGET, CACHE, COLD, COST, DISTRIBUTION, QUOTA, STEP
from model.tables import TOPIC as TOPIC_ROW


def record(**kinds: str) -> np.dtype[Any]:
    """A record whose fields are given by kind, as in f8="time", i4="row next"."""
    return np.dtype([(name, kind) for kind, names in kinds.items() for name in names.split()], align=True)


def extended(base: np.dtype[Any], **kinds: str) -> np.dtype[Any]:
    """The fields of `base` and more; what both would have comes from `base`."""
    more = record(**kinds)
    fields: list[Any] = [(name, base[name]) for name in base.names or ()]
    return np.dtype(
        fields + [(name, more[name]) for name in more.names or () if name not in (base.names or ())], align=True
    )


LINE_BYTES = 64  # of a processor's cache


def in_lines(rows: np.dtype[Any]) -> np.dtype[Any]:
    """The same rows, each of which begins with a line of the processor's cache."""
    assert rows.fields is not None
    return np.dtype({
        "names": list(rows.fields),
        "formats": [field[0] for field in rows.fields.values()],
        "offsets": [field[1] for field in rows.fields.values()],
        "itemsize": -(-rows.itemsize // LINE_BYTES) * LINE_BYTES,
    })  # fmt: skip


# What every task needs stands in its first two lines; a kernel without features touches no other.
_EVERY_TASK = record(
    i8="origin attributes begun",
    u8="path place_bits",
    f8="work_s entered_s weight",
    i4="row state place next prev wake priority attempt ordinal failure events keys deadline try_row parent topic",
)
TASK = in_lines(extended(
    _EVERY_TASK,
    i8="turn",
    f8="alone_s lease_key pause_s",
    i4="""spawned lease_in_try member held lease_cache breaker
          parent_epoch join_epoch pending record child process try_held breaker_epoch join_any late""",
))  # fmt: skip
REQUEST = record(
    f8="arrived responded finished", i4="failed_attempts", i2="operation", i1="outcome"
)  # one place in memory, not six; half a line of the processor's cache
EVENT = record(u8="whose what", i4="number who")  # and its time is in `due`; see compiled_events.py
LINE = record(i4="head tail")
STATION = extended(
    STATION_COUNTS,
    i4="""discipline queue_limit busy waiting present root plan tracked host preempts gc_every first_cold colds idle
          shed_above shed_class""",
    i8="turns begun",
    f8="virtual_s since_s counted_s window_s gc_pause_s wake_s cpu_burst_s ageing_s speed",
)
PROCESS = record(
    f8="ran_s cold_s left_s entered_s had_s due_s owed_s", i4="station next collected awake held task before after place protected"
)
HOST_STATE = extended(
    HOST_COUNTS,
    i4="discipline working present running last root plan",
    i8="turns",
    f8="speed slice_s tick_s virtual_s since_s",
)
TOPIC = extended(
    TOPIC_COUNTS,
    **{  # the row of the network's table, `consumers` apart, which is counted
        kind: " ".join(
            name for name in TOPIC_ROW.names or () if TOPIC_ROW[name] == np.dtype(kind) and name != "consumers"
        )
        + more
        for kind, more in (
            ("i4", " first_partition first_member busy"),
            ("u8", ""),
            ("f8", " since_s"),
            ("i8", " lag made"),
        )
    },
)
PARTITION = record(
    i4="owner heir buffer_head buffer_tail buffered log_head log_tail logged fetched",
    i8="buffer_epoch sends",
    f8="sent_until_s",
)
MEMBER = record(i4="alive collecting resting batch first_partition", i8="epoch")
RECORD = record(
    i8="request attributes",
    u8="path marked",
    f8="key weight arrived_s",
    i4="ordinal publisher next prev buffered partition",
)
SCHEDULE = record(i8="gaps operations attributes columns next count number", u8="whose place_bits")
TOLD = record(i8="request", f8="weight", i4="kind number ordinal")
CACHED = record(f8="key expires_s", i4="cache used filler head tail linked older newer")  # see compiled_caches.py
BUDGET_STATE = extended(BUDGET, f8="tokens")
BREAKER_STATE = extended(BREAKER, i4="is_open probing epoch count failed next first", f8="open_until_s")
CACHE_STATE = extended(CACHE, i4="count oldest newest", i8=" ".join(CACHE_COUNTS.names or ()))
QUOTA_STATE = extended(QUOTA, f8="due_s")

RECORDS: dict[str, np.dtype[Any]] = {
    "requests": REQUEST,
    "tasks": TASK,
    "heap": EVENT,
    "lines": LINE,
    "stations": STATION,
    "processes": PROCESS,
    "hosts": HOST_STATE,
    "colds": COLD,
    "topics": TOPIC,
    "partitions": PARTITION,
    "members": MEMBER,
    "log": RECORD,
    "schedules": SCHEDULE,
    "told": TOLD,
    "cached": CACHED,
    "cached_before": CACHED,
    "budgets": BUDGET_STATE,
    "breakers": BREAKER_STATE,
    "caches": CACHE_STATE,
    "quotas": QUOTA_STATE,
    "marks": MARK,
    "steps": STEP,
    "costs": COST,
    "distributions": DISTRIBUTION,
}
COLUMNS: dict[str, str] = {
    "due": "f8",
    "values": "f8",
    "first_row": "i4",
    "priority_class": "i4",
    "distinct": "i8",
    "recent": "i1",
}
SIM = np.dtype(
    [
        ("now", "f8"),
        ("stream_s", "f8"),  # when the schedule that is kept outside the heap has its next request
        ("first_s", "f8"),  # when the heap's first event is due
        ("speed", "f8"),  # an argument of the command that sets one
        *(
            (name, "i8")
            for name in (
                "numbered",
                "requests",
                "told_first",
                "marked",
                "cached_used",
                "free_task",
                "free_record",
                "idle_tasks",
                "idle_records",
                "heap_len",
                "first",
                "vacant",
                "stream",
                "first_ready",  # the agenda's first task; the others stand in its line
                "spare_turns",
                "told_len",
                "classes",
                "observed",
                "counts_keys",
                "margin",
                "wanted",
                "broken",
                "station_count",
                "topic_count",
                "host_count",
                "run_queues",  # the first of the lines that are run queues
                "processes_used",
                "cache_count",
                "lost_row",
            )
        ),
        *((f"{name}_at", "i8") for name in (*RECORDS, *COLUMNS)),
        *((f"{name}_rows", "i8") for name in (*RECORDS, *COLUMNS)),
    ],
    align=True,
)
_SIM = row_kind("sim", SIM)


def _table_address(writer: Writer, sim: Value, table: str, kind: Kind) -> Value:
    """A table never moves while the kernel runs, so its address may stay in a register."""
    field = _SIM.field(f"{table}_at")
    assert field is not None
    place = writer.value(_SIM, f"getelementptr i8, ptr {sim.text}, i64 {field[1]}")
    return writer.value(kind, f"load ptr, ptr {place.text}, !invariant.load !1")


def _rows_of(table: str) -> Intrinsic:
    """The function from `sim` and an index to a row of a table."""
    kind, size = row_kind(table, RECORDS[table]), RECORDS[table].itemsize
    return Intrinsic(lambda writer, given: writer.item(_table_address(writer, given[0], table, kind), given[1], size))


def _column_of(table: str) -> Intrinsic:
    """The function from `sim` to a column."""
    kind = column_kind(COLUMNS[table])
    return Intrinsic(lambda writer, given: _table_address(writer, given[0], table, kind))


def _from_address(kind: Kind) -> Intrinsic:
    """The function from an address to what lies there."""
    return Intrinsic(lambda writer, given: writer.value(kind, f"inttoptr i64 {given[0].text} to ptr"))


simulation = _from_address(_SIM)
floats = _from_address(column_kind("f8"))
integers = _from_address(column_kind("i4"))
float_bits = Intrinsic(lambda writer, given: writer.value(WORD, f"bitcast double {given[0].text} to i64"))

requests, tasks, heap, lines = _rows_of("requests"), _rows_of("tasks"), _rows_of("heap"), _rows_of("lines")
stations, topics, partitions, members = (
    _rows_of("stations"),
    _rows_of("topics"),
    _rows_of("partitions"),
    _rows_of("members"),
)
log, schedules, told = _rows_of("log"), _rows_of("schedules"), _rows_of("told")
caches, cached, cached_before = _rows_of("caches"), _rows_of("cached"), _rows_of("cached_before")
quotas, budgets, breakers, marks = (_rows_of(n) for n in ("quotas", "budgets", "breakers", "marks"))
processes, hosts, colds = _rows_of("processes"), _rows_of("hosts"), _rows_of("colds")
steps, costs, distributions = _rows_of("steps"), _rows_of("costs"), _rows_of("distributions")
values, first_row, priority_class = _column_of("values"), _column_of("first_row"), _column_of("priority_class")
distinct, recent, due = _column_of("distinct"), _column_of("recent"), _column_of("due")
