"""The compiled engine's memory: which tables there are, and how compiled code reaches a row.

One record, `sim`, holds the scalars of a simulation and the address of every table. A table of records is reached by a function
of its name: `task = tasks(sim, i)` is a *reference*, and assigning to its fields writes the table. A column of plain numbers is
reached as a pointer: `arrived(sim)[i]`. Nothing here is a NumPy array once compiled, so nothing is reference-counted: arrays
passed to helpers cost four to eight times as much. Python owns the memory (`compiled.py`), and moves a table only between two
calls of the kernel, which is why the compiler may keep an address in a register (`invariant.load`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_global
from numba.extending import (
    infer_getattr,
    intrinsic,
    lower_builtin,
    lower_getattr_generic,
    lower_setattr_generic,
    models,
    register_model,
)

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


TASK = record(
    i8="origin attributes turn begun",
    u8="path",
    f8="work_s entered_s alone_s weight lease_key pause_s",
    i4="""row state place next prev wake deadline attempt try_row failure
          parent parent_epoch join_epoch pending spawned ordinal priority topic member events keys record child
          process held try_held lease_cache lease_in_try breaker breaker_epoch join_any late""",
)
EVENT = record(f8="time", u8="whose what", i4="number who")  # see compiled_lists.py
LINE = record(i4="head tail")
STATION = extended(
    STATION_COUNTS,
    i4="""discipline queue_limit busy waiting present root plan tracked host preempts gc_every first_cold colds idle
          shed_above shed_class""",
    i8="turns begun",
    f8="virtual_s since_s window_s gc_pause_s wake_s ageing_s speed",
)
PROCESS = record(f8="ran_s entered_s", i4="station next collected awake held")
HOST_STATE = extended(HOST_COUNTS, i4="discipline working last root plan", i8="turns", f8="speed virtual_s since_s")
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
SCHEDULE = record(i8="gaps operations attributes columns next count number", f8="time", u8="whose")
TOLD = record(i8="request", f8="weight", i4="kind number ordinal")
CACHED = record(f8="key expires_s", i4="cache used filler head tail linked older newer")  # see compiled_caches.py
BUDGET_STATE = extended(BUDGET, f8="tokens")
BREAKER_STATE = extended(BREAKER, i4="is_open probing epoch count failed next first", f8="open_until_s")
CACHE_STATE = extended(CACHE, i4="count oldest newest", i8=" ".join(CACHE_COUNTS.names or ()))
QUOTA_STATE = extended(QUOTA, f8="due_s")

RECORDS: dict[str, np.dtype[Any]] = {
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
    "operation": "i4",
    "arrived": "f8",
    "responded": "f8",
    "finished": "f8",
    "outcome": "i1",
    "failed_attempts": "i4",
    "values": "f8",
    "first_row": "i4",
    "priority_class": "i4",
    "distinct": "i8",
    "recent": "i1",
}
SIM = np.dtype(
    [
        ("now", "f8"),
        ("speed", "f8"),  # an argument of the command that sets one
        *(
            (name, "i8")
            for name in (
                "numbered",
                "events",
                "requests",
                "told_first",
                "marked",
                "cached_used",
                "free_task",
                "free_record",
                "idle_tasks",
                "idle_records",
                "heap_len",
                "vacant",
                "stream",
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
_WORD = ir.IntType(64)
_IR = {"f8": ir.DoubleType(), "i8": _WORD, "u8": _WORD, "i4": ir.IntType(32), "i1": ir.IntType(8)}
_SEEN_AS = {"f8": types.float64, "i8": types.int64, "u8": types.uint64, "i4": types.int64, "i1": types.int64}


class Row(types.Type):
    """Numba's type of a row of one table: an address. (Numba's own records have names as long as their list of fields.)"""

    def __init__(self, table: str, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        super().__init__(name=f"Row({table})")

    def kind_of(self, field: str) -> str:
        """A field's kind: "f8", "i4" and so on."""
        return self.dtype[field].str[1:]


class Column(types.Type):
    """Numba's type of a column of numbers: an address."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__(name=f"Column({kind})")


@register_model(Row)
@register_model(Column)
class _AddressModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _WORD)


@infer_getattr
class _FieldTypes(AttributeTemplate):
    """Fields of 32 bits are seen as 64, so that a function is compiled once for both."""

    key = Row

    def generic_resolve(self, row: Row, field: str) -> Any:
        return _SEEN_AS[row.kind_of(field)] if field in (row.dtype.names or ()) else None


def _marked(builder: Any, instruction: Any, place: str) -> None:
    """Tell LLVM that what is written to one place is not read from another ("type-based alias analysis")."""
    module = builder.module
    root = module.add_metadata(["tables"])
    kind = module.add_metadata([place, root, ir.Constant(_WORD, 0)])
    instruction.set_metadata("tbaa", module.add_metadata([kind, kind, ir.Constant(_WORD, 0)]))


def _load(builder: Any, address: Any, kind: str, place: str) -> Any:
    value = builder.load(builder.inttoptr(address, _IR[kind].as_pointer()))
    _marked(builder, value, place)
    return builder.sext(value, _WORD) if kind in ("i4", "i1") else value


def _store(builder: Any, address: Any, kind: str, place: str, value: Any) -> None:
    if kind in ("i4", "i1"):
        value = builder.trunc(value, _IR[kind])
    store = builder.store(value, builder.inttoptr(address, _IR[kind].as_pointer()))
    _marked(builder, store, place)


def _field(builder: Any, row: Row, address: Any, field: str) -> Any:
    assert row.dtype.fields is not None
    return builder.add(address, ir.Constant(_WORD, row.dtype.fields[field][1]))


@lower_getattr_generic(Row)
def _get_field(_context: Any, builder: Any, row: Row, address: Any, field: str) -> Any:
    return _load(builder, _field(builder, row, address, field), row.kind_of(field), f"{row.name}.{field}")


@lower_setattr_generic(Row)
def _set_field(_context: Any, builder: Any, signature: Any, arguments: Any, field: str) -> None:
    row, (address, value) = signature.args[0], arguments
    _store(builder, _field(builder, row, address, field), row.kind_of(field), f"{row.name}.{field}", value)


def _place(builder: Any, arguments: Any, kind: str) -> Any:
    return builder.add(arguments[0], builder.mul(arguments[1], ir.Constant(_WORD, np.dtype(kind).itemsize)))


@infer_global(operator.getitem)
class _GetItem(AbstractTemplate):
    def generic(self, arguments: Any, _keywords: Any) -> Any:
        column = arguments[0]
        return _SEEN_AS[column.kind](column, types.int64) if isinstance(column, Column) else None


@infer_global(operator.setitem)
class _SetItem(AbstractTemplate):
    def generic(self, arguments: Any, _keywords: Any) -> Any:
        column = arguments[0]
        return types.void(column, types.int64, _SEEN_AS[column.kind]) if isinstance(column, Column) else None


@lower_builtin(operator.getitem, Column, types.int64)
def _get_item(_context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    kind = signature.args[0].kind
    return _load(builder, _place(builder, arguments, kind), kind, f"Column({kind})")


@lower_builtin(operator.setitem, Column, types.int64, types.Any)
def _set_item(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    kind = signature.args[0].kind
    _store(builder, _place(builder, arguments, kind), kind, f"Column({kind})", arguments[2])
    return context.get_dummy_value()


_SIM = Row("sim", SIM)


def _table_address(builder: Any, sim: Any, table: str) -> Any:
    place = builder.inttoptr(_field(builder, _SIM, sim, f"{table}_at"), _WORD.as_pointer())
    address = builder.load(place)
    address.set_metadata("invariant.load", builder.module.add_metadata([]))
    return address


def _rows_of(table: str) -> Callable[[Any, int], Any]:
    """The function from `sim` and an index to a row of a table."""
    row_type = Row(table, RECORDS[table])

    @intrinsic
    def row(_typing: Any, sim: Any, index: Any) -> Any:
        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            offset = builder.mul(arguments[1], ir.Constant(_WORD, RECORDS[table].itemsize))
            return builder.add(_table_address(builder, arguments[0], table), offset)

        return row_type(_SIM, types.int64), code

    return row


def _column_of(table: str) -> Callable[[Any], Any]:
    """The function from `sim` to a column."""

    @intrinsic
    def column(_typing: Any, sim: Any) -> Any:
        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return _table_address(builder, arguments[0], table)

        return Column(COLUMNS[table])(_SIM), code

    return column


def _from_address(result_type: Any) -> Callable[[int], Any]:
    """The function from an address to what lies there."""

    @intrinsic
    def at(_typing: Any, address: Any) -> Any:
        return result_type(types.int64), lambda _context, _builder, _signature, arguments: arguments[0]

    return at


simulation = _from_address(_SIM)
floats = _from_address(Column("f8"))
integers = _from_address(Column("i4"))

tasks, heap, lines = _rows_of("tasks"), _rows_of("heap"), _rows_of("lines")
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
operation, arrived, responded, finished = (_column_of(n) for n in ("operation", "arrived", "responded", "finished"))
outcome, failed_attempts, values = (_column_of(n) for n in ("outcome", "failed_attempts", "values"))
first_row, priority_class = _column_of("first_row"), _column_of("priority_class")
distinct, recent = _column_of("distinct"), _column_of("recent")


@intrinsic
def float_bits(_typing: Any, _number: Any) -> Any:
    """The 64 bits of a float."""

    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _WORD)

    return types.uint64(types.float64), code
