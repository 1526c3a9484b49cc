"""Hosts of the plain engine: how cores are divided among processes; the disciplines are described in `model/hosts.py`.

A host is asked two things: `start` (this process has this much work now) and `stop` (this process sleeps). A process that is awake and
is given work goes on in its place.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from itertools import count
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from model.engines.order import CORES, system_key
from model.engines.plain_hosts import Process, run
from model.recording import HostCounts
from model.tables import CORES_SHARED, FAIR, WAKE_PREEMPTION

if TYPE_CHECKING:
    from model.engines.plain import Plain


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

    @abstractmethod
    def set_cores(self, cores: int) -> None:
        """So many cores from now on; with none, nobody gets on."""

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
        row["cores"] = self.engine.tables.hosts[self.index]["cores"]


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
            process.work_s = work_s
            if self.cores > 0:
                if len(self.queue) > self.cores:
                    self.counts.preempted += 1
                    self._pause(self.queue[self.cores])
                run(self.engine, process, work_s)
            return
        self.queue.append(process)
        process.work_s = work_s
        if len(self.queue) <= self.cores:
            run(self.engine, process, work_s)

    def set_cores(self, cores: int) -> None:
        """The first `cores` of the queue run from now on."""
        self._advance()
        before, self.cores = self.cores, cores
        for process in self.queue[cores:before]:
            self._pause(process)
        for process in self.queue[before:cores]:
            run(self.engine, process, process.work_s)

    def _pause(self, process: Process) -> None:
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

    def set_cores(self, cores: int) -> None:
        """They share so many cores from now on."""
        self._advance()
        self.cores = cores
        self._plan()

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
        if self.heap and self.cores > 0:
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

    def set_cores(self, cores: int) -> None:
        """Those who have had most stop, or those who have had least go on."""
        self._advance()
        self.cores = cores
        while len(self.running) > cores:
            self._push_out(max(self.running, key=self._place))
        while self.waiting and len(self.running) < cores:
            self._run(min(self.waiting, key=self._place))
        self._plan()

    def _raise_least(self) -> None:
        if self.working():
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
        first = max(self.running, key=self._place, default=None)
        self.waiting.append(process)
        if first is not None and process.had_s < self._had_s(first):
            self.counts.preempted += 1
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
        process.epoch += 1
        process.had_s = self._had_s(process)
        process.work_s = max(0.0, process.work_s - (self.env.now - process.since_s))
        self.running.remove(process)
        self.waiting.append(process)

    def _plan(self) -> None:
        """When the slice of the one that has had most is over; what was planned before is void."""
        self.planned += 1
        if self.waiting and self.running:
            planned, least_s = self.planned, min(map(self._had_s, self.waiting))
            left_s = max(0.0, least_s + self.slice_s - max(map(self._had_s, self.running)))
            self.engine.later(left_s, system_key(self.index, 0, 0, CORES), lambda _: self._slice_over(planned))

    def _slice_over(self, planned: int) -> None:
        if planned == self.planned:
            self._advance()
            following = min(self.waiting, key=self._place)
            self.counts.preempted += 1
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
