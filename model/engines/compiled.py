"""The compiled engine: SimPy keeps the clock and all control, and the traffic between two of its events runs in a kernel.

What a network means is said in `plain.py` and `plain_rows.py`; how the kernel does the same, in `compiled_kernel.py`. Every
instant of every request is equal to the plain engine's, bit for bit, and so are all counters; sums of durations agree but for
their rounding.

`CompiledClock` is SimPy's environment with one change: before an event of SimPy's happens, the kernel runs everything that
comes earlier. At one instant control (all that is in SimPy's own queue) comes first, then the agenda, then the observer, who is
told one thing at a time because he may act on it, then timed traffic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import simpy

from model import tables as t
from model.engines import compiled_kernel as k
from model.engines.clock import Clock
from model.engines.compiled_features import covering, needed_by
from model.engines.compiled_memory import Memory
from model.engines.compiled_tasks import QUEUED, SERVED, SHARED, TOLD_ANSWER, WORKING
from model.engines.plain import Observer
from model.engines.plain_tasks import Life
from model.recording import CACHE_COUNTS, HOST_COUNTS, STATION_COUNTS, TOPIC_COUNTS, Recording

_LIVE_ROWS = 1024  # attributes of submitted requests are kept in pieces of this many


class CompiledClock(Clock):
    """A clock whose traffic is compiled. It carries one engine, which attaches itself."""

    engine_name = "compiled"

    def __init__(self, initial_time: float = 0.0) -> None:
        super().__init__(initial_time)
        self._engine: Compiled | None = None

    def attach(self, engine: Compiled) -> None:
        """Take the engine's traffic along. Raises `ValueError` if there is one already."""
        if self._engine is not None:
            raise ValueError("this clock carries an engine already; make another clock for another engine")
        self._engine = engine

    def peek(self) -> float:
        """The instant of what comes next, of SimPy's or of the traffic; infinite if there is nothing."""
        control_s = self._control_s()
        return control_s if self._engine is None else min(control_s, self._engine.next_s())

    def step(self) -> None:
        """Let the traffic go on until the observer must be told something or an event of SimPy's is due, and do that."""
        if not self._go_on(math.inf):
            raise simpy.core.EmptySchedule

    def advance(self, limit_s: float) -> bool:
        """As `Clock.advance`; all the traffic between two events of SimPy's or words to the observer counts as one."""
        if self._go_on(limit_s):
            return True
        if self._now < limit_s < math.inf:
            self._now = limit_s
        return False

    def _control_s(self) -> float:
        return self._queue[0][0] if self._queue else math.inf

    def _go_on(self, limit_s: float) -> bool:
        """One event of SimPy's or one word to the observer at or before `limit_s`, and all traffic before it; False if none."""
        control_s, engine = self._control_s(), self._engine
        if engine is not None and control_s > self._now:  # else control is due at this very instant, and comes first
            until_s = min(control_s, limit_s)
            word = engine.run(until_s, inclusive=until_s < control_s)
            self._now = max(self._now, engine.memory.now())
            if word is not None:
                engine.tell(word)
                return True
        if control_s > limit_s or control_s == math.inf:
            return False
        super().step()
        return True


class Compiled:
    """Runs the tables of a network on a `CompiledClock`; see `Plain`, whose interface this is."""

    name = "compiled"

    def __init__(
        self,
        tables: t.Tables,
        env: simpy.Environment,
        warmup_s: float = 0.0,
        observer: Observer | None = None,
        features: frozenset[str] | None = None,
    ) -> None:
        """`features`: those of the kernel, where it is not to be the smallest of the usual ones (`compiled_features.py`)."""
        if not isinstance(env, CompiledClock):
            raise TypeError(f"the compiled engine needs a CompiledClock, not {type(env).__name__}")
        if len(tables.milestones) > 64:
            raise ValueError(f"the compiled engine has room for 64 milestones, not {len(tables.milestones)}")
        if len(tables.first_row) > np.iinfo(np.int16).max:
            raise ValueError(f"the compiled engine has room for 32,767 operations, not {len(tables.first_row)}")
        self.tables, self.env, self.warmup_s, self.observer = tables, env, warmup_s, observer
        self.features = covering(needed_by(tables)) if features is None else features
        self._kernel = k.kernel_with(self.features)
        self.memory = Memory(tables, self._kernel)
        self._began(env.now)
        self._owners: list[np.ndarray] = []  # arrays whose addresses the kernel knows
        self._live, self._live_rows = np.zeros((0, 0)), 0
        env.attach(self)
        if warmup_s > env.now:
            env.process(self._open_window(warmup_s - env.now))

    def _began(self, now_s: float) -> None:
        self.memory.sim["now"] = now_s
        for name in ("stations", "topics", "hosts"):
            self.memory.table(name)["since_s"] = now_s
        self.memory.table("stations")["counted_s"] = self.memory.table("stations")["window_s"] = now_s
        if self.observer is not None:
            self.memory.set("observed", 1)
            self.memory.grow()

    def _open_window(self, after_s: float) -> Life:
        yield self.env.timeout(after_s)
        self._ask(k.OPEN_WINDOW)

    def _ask(self, command: int, a: int = 0, b: int = 0) -> int:
        """Have the kernel do something now."""
        now_s = float(self.env.now)
        while (answer := self._kernel(self.memory.address, command, a, b, now_s)) == k.GROW:
            self.memory.grow()
        return answer

    # ---- requests
    def arrive(self, gap_s: np.ndarray, operation: np.ndarray, attributes: np.ndarray) -> None:
        """A schedule: request i comes gap_s[i] after the one before. attributes: one row per request, one column per name.

        Arrays of the right type are referred to, not copied. Raises `ValueError` for a gap below 0, an operation that does
        not exist or rows that do not fit.
        """
        gaps = np.ascontiguousarray(gap_s, "f8")
        operations = np.ascontiguousarray(operation, "i4")
        rows = np.ascontiguousarray(attributes, "f8")
        if not len(gaps) == len(operations) == len(rows):
            raise ValueError(f"{len(gaps)} gaps, {len(operations)} operations and {len(rows)} rows of attributes")
        if len(gaps) == 0:
            return
        self._check_columns(rows.shape[1])
        self._check_operation(int(operations.min()))
        self._check_operation(int(operations.max()))
        if not gaps.min() >= 0:
            raise ValueError(f"a gap between arrivals must be 0 or more, not {gaps.min()}")
        self._owners += [gaps, operations, rows]
        addresses = (gaps.ctypes.data, operations.ctypes.data, rows.ctypes.data)
        number = self.memory.add_schedule(*addresses, rows.shape[1], len(gaps))
        self.memory.reserve_requests(len(gaps))
        self.env.process(self._begin_schedule(number))

    def _begin_schedule(self, number: int) -> Life:
        self._ask(k.BEGIN_SCHEDULE, number)
        yield from ()

    def submit(self, operation: int, attributes: Sequence[float]) -> int:
        """A request of an operation (by number) comes now. Returns its number."""
        self._check_operation(operation)
        self._check_columns(len(attributes))
        if self._live_rows == len(self._live):
            self._live, self._live_rows = np.empty((_LIVE_ROWS, len(self.tables.network.attributes))), 0
            self._owners.append(self._live)
        row = self._live_rows
        self._live[row] = attributes[: self._live.shape[1]]
        self._live_rows += 1
        return self._ask(k.SUBMIT, operation, self._live.ctypes.data + row * self._live.strides[0])

    def _check_operation(self, operation: int) -> None:
        if not 0 <= operation < len(self.tables.first_row):
            raise ValueError(f"no operation number {operation}; there are {len(self.tables.first_row)}")

    def _check_columns(self, columns: int) -> None:
        if columns < len(self.tables.network.attributes):
            raise ValueError(f"{columns} attributes, the network has {len(self.tables.network.attributes)}")

    # ---- for the clock
    def run(self, limit_s: float, inclusive: bool) -> tuple[int, int, int, int, float] | None:
        """All traffic before `limit_s` (and at it). Returns what the observer must be told at once, if anything."""
        memory = self.memory
        until_s = math.nextafter(limit_s, math.inf) if inclusive else limit_s
        while True:
            answer = self._kernel(memory.address, k.RUN, 0, 0, until_s)
            if answer == k.GROW:
                memory.grow()
            elif answer == k.BROKEN:
                raise ValueError(f"a duration below 0, or not a number, at {memory.now()} s: check the attributes")
            elif answer == k.TELL:
                return self._next_word()
            else:
                return None

    def _next_word(self) -> tuple[int, int, int, int, float]:
        """(kind, number, request, ordinal, weight) of the first word that waits."""
        memory, first = self.memory, self.memory.get("told_first")
        word = memory.table("told")[first]
        told = (
            int(word["kind"]),
            int(word["number"]),
            int(word["request"]),
            int(word["ordinal"]),
            float(word["weight"]),
        )
        if first + 1 == memory.get("told_len"):
            memory.set("told_first", 0)
            memory.set("told_len", 0)
        else:
            memory.set("told_first", first + 1)
        return told

    def tell(self, word: tuple[int, int, int, int, float]) -> None:
        """Tell the observer."""
        kind, number, request, ordinal, weight = word
        assert self.observer is not None
        if kind == TOLD_ANSWER:
            self.observer.responded(request, number)
        else:
            self.observer.marked(number, request, ordinal, weight)

    def next_s(self) -> float:
        """When the traffic's next event is due; now, if somebody is on the agenda or must be told something."""
        memory = self.memory
        if memory.get("first_ready") >= 0 or memory.get("told_first") < memory.get("told_len"):
            return float(self.env.now)
        return float(min(memory.sim["first_s"], memory.sim["stream_s"]))

    # ---- control, and the end
    def set_servers(self, station: int, servers: int, lose_work: bool = False) -> None:
        """A station has this many servers from now on; see `Plain.set_servers`."""
        self._check_index("station", station, len(self.tables.stations))
        more = max(0, servers)
        self.memory.reserve_events(self.memory.get("margin") + 3 * more)
        if self.tables.stations["tracked"][station]:
            self.memory.reserve_processes(station, more)
        self._ask(k.SHRINK if lose_work else k.SET_SERVERS, station, servers)

    def set_speed(self, station: int, factor: float) -> None:
        """A station's servers work at `factor` times their normal speed from now on; see `Plain.set_speed`."""
        self._check_index("station", station, len(self.tables.stations))
        if not 0 < factor < math.inf:
            raise ValueError(f"a speed must be above 0 and finite, not {factor}")
        self.memory.sim["speed"] = factor
        self._ask(k.SET_SPEED, station)

    def set_cores(self, host: int, cores: int) -> None:
        """A host has this many cores from now on; see `Plain.set_cores`."""
        self._check_index("host", host, len(self.tables.hosts))
        if cores < 0:
            raise ValueError(f"a host cannot have {cores} cores")
        self.memory.reserve_events(self.memory.get("margin") + cores + 1)
        self._ask(k.SET_CORES, host, cores)

    def flush(self, cache: int) -> None:
        """A cache loses all its entries; see `Plain.flush`."""
        self._check_index("cache", cache, len(self.tables.caches))
        self._ask(k.FLUSH, cache)

    def crash(self, topic: int, member: int) -> None:
        """A member of a consumer group dies."""
        self._check_member(topic, member)
        self._ask(k.CRASH, topic, member)

    def restore(self, topic: int, member: int) -> None:
        """A member of a consumer group is back."""
        self._check_member(topic, member)
        self._ask(k.RESTORE, topic, member)

    def _check_member(self, topic: int, member: int) -> None:
        self._check_index("topic", topic, len(self.tables.topics))
        self._check_index("member", member, int(self.tables.topics["consumers"][topic]))

    def _check_index(self, kind: str, number: int, count: int) -> None:
        if not 0 <= number < count:
            raise IndexError(f"no {kind} number {number}; there are {count}")

    def record(self) -> Recording:
        """Everything up to now."""
        self._ask(k.CATCH_UP)
        memory = self.memory
        requests = memory.table("requests")[: memory.get("requests")]
        return Recording(
            tables=self.tables,
            engine=self.name,
            warmup_s=self.warmup_s,
            end_s=float(self.env.now),
            operation=requests["operation"].astype("i4"),
            arrived_s=requests["arrived"].copy(),
            responded_s=requests["responded"].copy(),
            finished_s=requests["finished"].copy(),
            outcome=requests["outcome"].copy(),
            failed_attempts=requests["failed_attempts"].copy(),
            marks=memory.table("marks")[: memory.get("marked")].copy(),
            stations=self._station_counts(),
            topics=self._topic_counts(),
            hosts=self._host_counts(),
            caches=_fields(memory.table("caches"), CACHE_COUNTS),
        )

    def close(self) -> None:
        """The run is over: its tables are the next run's memory, without waiting until Python finds that nobody asks for them."""
        self.memory.free()
        self._owners.clear()

    def _station_counts(self) -> np.ndarray:
        """The stations' counters; those still present have stayed until now."""
        stations, tasks = self.memory.table("stations"), self.memory.table("tasks")
        counts = _fields(stations, STATION_COUNTS)
        counts["present_end"] = stations["busy"] + stations["waiting"] + stations["present"]
        here, processes = (
            tasks[np.isin(tasks["state"], (QUEUED, SERVED, SHARED, WORKING))],
            self.memory.table("processes"),
        )
        held = processes[processes["held"] == 1]
        for place, entered_s in ((here["place"], here["entered_s"]), (held["station"], held["entered_s"])):
            stayed_s = self.env.now - np.maximum(entered_s, stations["window_s"][place])
            counts["sojourn_s"] += np.bincount(place, weights=stayed_s, minlength=len(stations))
        return counts

    def _host_counts(self) -> np.ndarray:
        counts = _fields(self.memory.table("hosts"), HOST_COUNTS)
        counts["cores"] = self.tables.hosts["cores"]
        return counts

    def _topic_counts(self) -> np.ndarray:
        topics = self.memory.table("topics")
        counts = _fields(topics, TOPIC_COUNTS)
        counts["backlog_end"] = topics["lag"]
        return counts


def _fields(rows: np.ndarray, dtype: np.dtype[np.void]) -> np.ndarray:
    """The rows with the fields of `dtype` alone."""
    result = np.zeros(len(rows), dtype)
    for name in dtype.names or ():
        result[name] = rows[name]
    return result
