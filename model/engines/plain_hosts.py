"""Processes and hosts of the plain engine: what a process's work comes to, and how hosts divide their cores among processes.

A *process* is a server that is somebody: it has run before or not, sleeps or is awake, and is held by a task or serves whoever
comes. A *crew* are the processes of one station. A *host* is asked two things: `start` (this process has this much work now)
and `stop` (this process sleeps). A process that is awake and is given work goes on in its place.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from model.engines.order import CORES, WAKE, system_key, traffic_key
from model.recording import HostCounts
from model.tables import CORES_SHARED, FAIR, WAKE_PREEMPTION

if TYPE_CHECKING:
    from model.engines.plain import Plain
    from model.engines.plain_tasks import Task


class Process:
    """One server of a station."""

    __slots__ = ("awake", "collected", "crew", "epoch", "had_s", "ran_s", "since_s", "task", "then", "turn", "work_s")

    def __init__(self, crew: Crew) -> None:
        self.crew, self.awake, self.epoch = crew, False, 0
        self.ran_s = -np.inf  # when it last had work: never
        self.collected = 0  # pieces of work since the last garbage collection
        self.work_s = self.since_s = 0.0
        self.had_s, self.turn = 0.0, 0  # of a fair host's cores, and its place among those who have had as much
        self.task: Task
        self.then: Callable[[], None]

    def withdraw(self, task: Task) -> None:
        """The task that works on the server it holds gives up; it still holds it."""
        task.place = None
        self.crew.drop(self)
        self.crew.rest(self)


class Crew:
    """The processes of a station: those that nobody uses, and what their work comes to."""

    def __init__(self, engine: Plain, index: int) -> None:
        row = engine.tables.stations[index]
        self.engine, self.env = engine, engine.env
        self.host: OwnCores | Host = (
            OwnCores(engine) if row["host"] < 0 else engine.hosts[row["host"]]
        )
        self.preempts, self.gc_every = bool(row["preempts"]), int(row["gc_every"])
        self.gc_pause_s, self.wake_s = float(row["gc_pause_s"]), float(row["wake_s"])
        first, number = int(row["first_cold"]), int(row["colds"])
        self.cold = [point.item() for point in engine.tables.colds[first : first + number]]
        self.idle: list[Process] = []

    def take(self) -> Process:
        """The process that was given back last, or one that never ran."""
        return self.idle.pop() if self.idle else Process(self)

    def give_back(self, process: Process) -> None:
        """Nobody uses it."""
        if process.awake:
            self.rest(process)
        self.idle.append(process)

    def work(self, process: Process, task: Task, work_s: float, then: Callable[[], None]) -> None:
        """The process works for a task; `then` is called when that is done."""
        process.task, process.then = task, then
        demand_s = self._demand_s(process, work_s)
        process.awake = True
        self.host.start(process, demand_s)

    def _demand_s(self, process: Process, work_s: float) -> float:
        if self.cold:
            work_s *= factor_after(self.cold, self.env.now - process.ran_s)
        if not process.awake:
            work_s += self.wake_s
        if self.gc_every > 0:
            process.collected += 1
            if process.collected >= self.gc_every:
                process.collected = 0
                work_s += self.gc_pause_s
        return work_s / self.host.speed

    def done(self, process: Process) -> None:
        """The process has done its work; for its station to say what it does next."""
        self.drop(process)
        process.then()

    def drop(self, process: Process) -> None:
        """The work is over, or taken back."""
        process.epoch += 1
        process.ran_s = self.env.now

    def rest(self, process: Process) -> None:
        """The process goes to sleep."""
        process.awake = False
        self.host.stop(process)


def factor_after(cold: list[tuple[float, float]], idle_s: float) -> float:
    """The work's factor after so long an idle time: lines between the points, the first and last factor beyond."""
    before_s, before = cold[0]
    for at_s, factor in cold:
        if idle_s < at_s:
            return (
                factor if at_s == before_s else before + (factor - before) * ((idle_s - before_s) / (at_s - before_s))
            )
        before_s, before = at_s, factor
    return before


class OwnCores:
    """No host: every process has a core of its own."""

    speed = 1.0

    def __init__(self, engine: Plain) -> None:
        self.engine = engine

    def start(self, process: Process, work_s: float) -> None:
        """The process runs at once."""
        run(self.engine, process, work_s)

    def stop(self, process: Process) -> None:
        """Nothing runs."""


def run(engine: Plain, process: Process, work_s: float) -> None:
    """The process has a core; it is done after `work_s`, unless something comes between."""
    process.epoch += 1
    process.work_s, process.since_s = work_s, engine.env.now
    epoch, task = process.epoch, process.task

    def ran() -> None:
        if epoch == process.epoch:
            process.crew.done(process)

    engine.later(work_s, traffic_key(task.origin, task.path, WAKE), lambda _: ran())


class _Host(ABC):
    """What the kinds of hosts have in common: their counters."""

    def __init__(self, engine: Plain, index: int) -> None:
        row = engine.tables.hosts[index]
        self.engine, self.env, self.index = engine, engine.env, index
        self.cores, self.speed = int(row["cores"]), float(row["speed"])
        self.counts = HostCounts(since_s=self.env.now)

    @abstractmethod
    def working(self) -> int:
        """How many processes have work."""

    def _advance(self) -> None:
        self.counts.advance(self.env.now, self.working(), self.cores)

    def open_window(self) -> None:
        """Forget the warm-up."""
        self._advance()
        self.counts = HostCounts(since_s=self.env.now)

    def finish(self, row: np.void) -> None:
        """Write the counters, brought up to now, into a row of `HOST_COUNTS`."""
        self._advance()
        for name in ("woken", "preempted", "busy_area", "queue_area"):
            row[name] = getattr(self.counts, name)
        row["cores"] = self.cores


class RunQueue(_Host):
    """The first `cores` of a queue run until they have nothing to do; who wakes goes to its end, or pre-empts."""

    def __init__(self, engine: Plain, index: int) -> None:
        super().__init__(engine, index)
        self.preemption = engine.tables.hosts[index]["discipline"] == WAKE_PREEMPTION
        self.queue: list[Process] = []

    def working(self) -> int:
        """How many processes have work."""
        return len(self.queue)

    def start(self, process: Process, work_s: float) -> None:
        """The process wakes with this work, or goes on with it where it is."""
        self._advance()
        if process in self.queue:
            process.work_s = work_s
            if self.queue.index(process) < self.cores:
                run(self.engine, process, work_s)
            return
        self.counts.woken += 1
        if self.preemption and process.crew.preempts:
            self.queue.insert(0, process)
            if len(self.queue) > self.cores:
                self._pause(self.queue[self.cores])
            run(self.engine, process, work_s)
            return
        self.queue.append(process)
        process.work_s = work_s
        if len(self.queue) <= self.cores:
            run(self.engine, process, work_s)

    def _pause(self, process: Process) -> None:
        self.counts.preempted += 1
        process.epoch += 1
        process.work_s = max(0.0, process.work_s - (self.env.now - process.since_s))

    def stop(self, process: Process) -> None:
        """The process sleeps; the first that waits for a core gets one, if this one had one."""
        self._advance()
        place = self.queue.index(process)
        del self.queue[place]
        if place < self.cores <= len(self.queue):
            following = self.queue[self.cores - 1]
            run(self.engine, following, following.work_s)


class SharedCores(_Host):
    """All processes with work get on equally fast: planned in virtual time, the work done of each."""

    def __init__(self, engine: Plain, index: int) -> None:
        super().__init__(engine, index)
        self.here: dict[Process, None] = {}
        self.heap: list[
            tuple[float, int, Process, int]
        ] = []  # by the virtual time at which the work is done; and an epoch
        self.numbers = count()
        self.virtual_s, self.planned = 0.0, 0

    def working(self) -> int:
        """How many processes have work."""
        return len(self.here)

    def _rate(self) -> float:
        return min(1.0, self.cores / len(self.here))

    def _advance(self) -> None:
        if self.here:
            self.virtual_s += (self.env.now - self.counts.since_s) * self._rate()
        super()._advance()

    def start(self, process: Process, work_s: float) -> None:
        """The process wakes with this work, or goes on with it."""
        self._advance()
        if process in self.here:
            self._remove(process)
        else:
            self.counts.woken += 1
        self.here[process] = None
        heapq.heappush(self.heap, (self.virtual_s + work_s, next(self.numbers), process, process.epoch))
        self._plan()

    def stop(self, process: Process) -> None:
        """The process sleeps."""
        self._advance()
        self._remove(process)
        self._plan()

    def _remove(self, process: Process) -> None:
        del self.here[process]
        if not self.here:
            self.virtual_s = 0.0  # keeps the precision of a long run

    def _plan(self) -> None:
        """Whose work is done first goes first; what was planned before is void."""
        self.planned += 1
        while self.heap and self.heap[0][2].epoch != self.heap[0][3]:
            heapq.heappop(self.heap)
        if self.heap:
            left_s = max(0.0, (self.heap[0][0] - self.virtual_s) / self._rate())
            planned = self.planned
            self.engine.later(left_s, system_key(self.index, 0, 0, CORES), lambda _: self._first_done(planned))

    def _first_done(self, planned: int) -> None:
        if planned == self.planned:
            self._advance()
            process = heapq.heappop(self.heap)[2]
            process.crew.done(process)


class FairQueue(_Host):
    """Who has had least of the cores goes first; who runs is put back a slice after the one that waits with the least."""

    def __init__(self, engine: Plain, index: int) -> None:
        super().__init__(engine, index)
        self.slice_s = float(engine.tables.hosts[index]["slice_s"])
        self.running: list[Process] = []
        self.waiting: list[Process] = []
        self.least_s, self.turns, self.planned = 0.0, 0, 0

    def working(self) -> int:
        """How many processes have work."""
        return len(self.running) + len(self.waiting)

    def _had_s(self, process: Process) -> float:
        return process.had_s + (self.env.now - process.since_s) if process in self.running else process.had_s

    def _place(self, process: Process) -> tuple[float, int]:
        return self._had_s(process), process.turn

    def _raise_least(self) -> None:
        if self.running:
            self.least_s = max(self.least_s, min(map(self._had_s, self.running + self.waiting)))

    def start(self, process: Process, work_s: float) -> None:
        """The process wakes with this work, or goes on with it where it is."""
        self._advance()
        process.work_s = work_s
        if process in self.running:
            process.had_s = self._had_s(process)
            run(self.engine, process, work_s)
            return
        if process in self.waiting:
            return
        self.counts.woken += 1
        self._raise_least()
        process.had_s, process.turn = max(process.had_s, self.least_s), self.turns
        self.turns += 1
        if len(self.running) < self.cores:
            self._run(process)
            return
        first = max(self.running, key=self._place)
        self.waiting.append(process)
        if process.had_s < self._had_s(first):
            self._push_out(first)
            self._run(process)
        self._plan()

    def stop(self, process: Process) -> None:
        """The process sleeps; who has had least gets its core, if it had one."""
        self._advance()
        self._raise_least()
        if process in self.waiting:
            self.waiting.remove(process)
        else:
            process.had_s = self._had_s(process)
            self.running.remove(process)
            if self.waiting:
                self._run(min(self.waiting, key=self._place))
        self._plan()

    def _run(self, process: Process) -> None:
        if process in self.waiting:
            self.waiting.remove(process)
        self.running.append(process)
        run(self.engine, process, process.work_s)

    def _push_out(self, process: Process) -> None:
        self.counts.preempted += 1
        process.epoch += 1
        process.had_s = self._had_s(process)
        process.work_s = max(0.0, process.work_s - (self.env.now - process.since_s))
        self.running.remove(process)
        self.waiting.append(process)

    def _plan(self) -> None:
        """When the slice of the one that has had most is over; what was planned before is void."""
        self.planned += 1
        if self.waiting:
            planned, least_s = self.planned, min(map(self._had_s, self.waiting))
            left_s = max(0.0, least_s + self.slice_s - max(map(self._had_s, self.running)))
            self.engine.later(left_s, system_key(self.index, 0, 0, CORES), lambda _: self._slice_over(planned))

    def _slice_over(self, planned: int) -> None:
        if planned == self.planned:
            self._advance()
            following = min(self.waiting, key=self._place)
            self._push_out(max(self.running, key=self._place))
            self._run(following)
            self._plan()


Host: TypeAlias = RunQueue | SharedCores | FairQueue


def build_host(engine: Plain, index: int) -> Host:
    """The host of one row of the table."""
    discipline = engine.tables.hosts[index]["discipline"]
    if discipline == CORES_SHARED:
        return SharedCores(engine, index)
    return FairQueue(engine, index) if discipline == FAIR else RunQueue(engine, index)
