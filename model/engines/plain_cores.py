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

from model.engines.order import CORES, system_key, until_tick_s
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
        process.ran_s = self.env.now
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
        work_s = process.crew.warmed_s(process, work_s)
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
    """Linux' scheduler: of those who are owed time, the one runs whose deadline is the earliest."""

    def __init__(self, engine: Plain, index: int) -> None:
        super().__init__(engine, index)
        row = engine.tables.hosts[index]
        self.slice_s, self.tick_s = float(row["slice_s"]), float(row["tick_s"])
        self.here: list[Process] = []  # those with work, in the order of coming, and those who linger
        self.running: list[Process] = []
        self.planned = 0

    def working(self) -> int:
        """How many processes have work."""
        return sum(not process.lingers for process in self.here)

    def _had_s(self, process: Process) -> float:
        return process.had_s + (self.env.now - process.since_s) if process in self.running else process.had_s

    def _mean_s(self) -> float:
        """What everybody here has had on the average: who has had less is owed time."""
        total_s = 0.0
        for process in self.here:
            total_s += self._had_s(process)
        return total_s / len(self.here)

    def set_cores(self, cores: int) -> None:
        """Those whose deadlines are nearest stop, or those whose turn it is go on."""
        self._advance()
        self.cores = cores
        while len(self.running) > cores:
            self._put_out(self._soonest())
        self._fill()
        self._plan()

    def start(self, process: Process, work_s: float) -> None:
        """The process wakes with this work, or goes on with it where it is."""
        self._advance()
        process.work_s = work_s
        if process in self.running:
            process.had_s = self._had_s(process)
            run(self.engine, process, work_s)
            return
        if process in self.here and not process.lingers:
            return
        self.counts.woken += 1
        self._join(process)
        if len(self.running) < self.cores:
            self._fill()
        elif self.running:
            self._look(process, at_tick=False)
        self._plan()

    def _join(self, process: Process) -> None:
        """It is owed what it was owed as it went to sleep; who had had too much then and lingers has to wait for that still."""
        if process.lingers:
            process.lingers = False
            if self._mean_s() <= process.had_s:
                return
            self.here.remove(process)
            process.owed_s = 0.0
        process.had_s, present = 0.0, len(self.here)
        if present > 0:
            process.had_s = self._mean_s() - process.owed_s * (present + 1) / present
        process.due_s = process.had_s + self.slice_s
        self.here.append(process)

    def stop(self, process: Process) -> None:
        """The process sleeps, but lingers if it has had more than the others; who is next gets its core, if it had one."""
        self._advance()
        had_s, mean_s, ran = self._had_s(process), self._mean_s(), process in self.running
        if had_s > mean_s:
            process.lingers = True
            if had_s >= process.due_s:
                process.due_s = had_s + self.slice_s
        else:
            process.owed_s = min(max(2 * self.slice_s, self.tick_s), mean_s - had_s)
            self.here.remove(process)
        if ran:
            process.had_s = had_s
            self.running.remove(process)
            self._fill()
        self._plan()

    def _fill(self) -> None:
        while len(self.running) < self.cores and (following := self._next(None)):
            self._run(following)

    def _next(self, also: Process | None) -> Process | None:
        """Whose turn it is. Whoever lingers and is not ahead of the others any more goes, and is owed nothing."""
        while (first := self._first(also)) and first.lingers:
            self.here.remove(first)
            first.lingers, first.owed_s = False, 0.0
        return first

    def _first(self, also: Process | None) -> Process | None:
        """Of those without a core, and `also` one with a core, who is owed time and has the earliest deadline."""
        found: Process | None = None
        least: Process | None = None
        mean_s = self._mean_s() if self.here else 0.0
        for process in self.here:
            if process in self.running and process is not also:
                continue
            had_s = self._had_s(process)
            if least is None or had_s < self._had_s(least):
                least = process
            if had_s <= mean_s and (found is None or process.due_s < found.due_s):
                found = process
        return found or least

    def _soonest(self) -> Process:
        """Whose deadline is reached first of those who run."""
        return min((p for p in self.here if p in self.running), key=lambda process: process.due_s - self._had_s(process))

    def _look(self, woken: Process | None, *, at_tick: bool) -> None:
        """Is it another's turn? Who has not reached his deadline and is owed time is not asked."""
        running = self._soonest()
        had_s = self._had_s(running)
        if at_tick or had_s >= running.due_s:
            running.due_s, running.protected = had_s + self.slice_s, False
        if running.protected:
            if had_s <= self._mean_s():
                return
            following = self._first(None)
            if following is not woken:
                return
        else:
            following = self._next(running)
        if following is not None and following is not running:
            self.counts.preempted += 1
            self._put_out(running)
            self._run(following)

    def _run(self, process: Process) -> None:
        process.protected = True
        self.running.append(process)
        run(self.engine, process, process.work_s)

    def _put_out(self, process: Process) -> None:
        process.epoch += 1
        process.ran_s = self.env.now
        process.had_s = self._had_s(process)
        process.work_s = max(0.0, process.work_s - (self.env.now - process.since_s))
        self.running.remove(process)

    def _plan(self) -> None:
        """When one who runs is looked at while another waits: as its deadline has passed; what was planned before is void."""
        self.planned += 1
        if self.running and len(self.running) < self.working():
            planned, soonest = self.planned, self._soonest()
            left_s = until_tick_s(self.env.now, max(0.0, soonest.due_s - self._had_s(soonest)), self.tick_s)
            self.engine.later(left_s, system_key(self.index, 0, 0, CORES), lambda _: self._tick(planned))

    def _tick(self, planned: int) -> None:
        if planned == self.planned:
            self._advance()
            self._look(None, at_tick=True)
            self._plan()


Host: TypeAlias = RunQueue | SharedCores | FairQueue


def build_host(engine: Plain, index: int) -> Host:
    """The host of one row of the table."""
    discipline = engine.tables.hosts[index]["discipline"]
    if discipline == CORES_SHARED:
        return SharedCores(engine, index)
    return FairQueue(engine, index) if discipline == FAIR else RunQueue(engine, index)
