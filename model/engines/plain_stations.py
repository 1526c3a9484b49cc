"""Stations of the plain engine: first come first served, by priority, and processor sharing.

A visit is planned once, when its service begins, and ends with one timed event. Waiting lines are a deque or a heap; a visit
that is taken back stays in its line, marked, until its turn would have come. So long backlogs and priorities do not crawl.
"""

from __future__ import annotations

import heapq
from collections import deque
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from model.engines.order import SHARE, WAKE, system_key, traffic_key
from model.engines.plain_hosts import Crew, Process
from model.recording import StationCounts
from model.tables import PRIORITY, PROCESSOR_SHARING

if TYPE_CHECKING:
    from model.engines.plain import Plain
    from model.engines.plain_tasks import Task


class Rejected(Exception):
    """The waiting room is full."""


class Visit:
    """One task at one station."""

    __slots__ = ("entered_s", "gone", "holds", "number", "process", "served", "task", "work_s")

    def __init__(self, task: Task, entered_s: float, work_s: float, holds: bool = False) -> None:
        self.task, self.entered_s, self.work_s, self.holds = task, entered_s, work_s, holds
        self.served = self.gone = False
        self.process: Process | None = None
        self.number = 0  # which service of the station's this is; with processor sharing, which visit


class Queueing:
    """Servers behind one line, in order of arrival or of the operation's priority (ties in order of arrival).

    Where servers are processes or are held, there is a `crew`: then a server that is free goes on with who waits, or sleeps.
    """

    def __init__(self, engine: Plain, index: int, servers: int, by_priority: bool, queue_limit: int) -> None:
        self.engine, self.env, self.index = engine, engine.env, index
        self.row = engine.tables.stations[index]
        self.servers, self.by_priority, self.queue_limit = servers, by_priority, queue_limit
        self.busy = self.waiting = self.begun = 0
        self.speed = 1.0
        self.here: dict[Visit, None] = {}
        self.line: deque[Visit] = deque()
        self.heap: list[tuple[float, int, int, Visit]] = []
        self.ageing_s = float(self.row["ageing_s"])
        self.numbers = count()
        self.crew = Crew(engine, index) if engine.tables.stations[index]["tracked"] else None
        self.counts = StationCounts(since_s=self.env.now, window_s=self.env.now)

    def enter(self, task: Task, work_s: float, holds: bool = False) -> None:
        """Begin service or hold a server, or wait for one. Raises `Rejected` when the waiting room is full."""
        self._advance()
        self.counts.arrived += 1
        full = self.busy >= self.servers
        if full and (0 <= self.queue_limit <= self.waiting or sheds(self.row, task, self.waiting)):
            self.counts.rejected += 1
            raise Rejected
        visit = Visit(task, self.env.now, work_s, holds)
        task.visit, task.place = visit, self
        self.here[visit] = None
        if not full:
            self._begin(visit)
            return
        self.waiting += 1
        if self.by_priority:
            # Who came `ageing_s` later must be a class more urgent: so far ahead of time nobody moves past another one.
            rank_s = self.env.now + task.priority_class * self.ageing_s if self.ageing_s > 0 else 0.0
            heapq.heappush(self.heap, (rank_s, task.priority_class, next(self.numbers), visit))
        else:
            self.line.append(visit)

    def _begin(self, visit: Visit, process: Process | None = None) -> None:
        self.busy += 1
        visit.served, visit.number = True, self.begun
        self.begun += 1
        counts, wait_s = self.counts, self.env.now - visit.entered_s
        counts.waits += 1
        counts.waited += wait_s > 0
        counts.wait_s += wait_s
        if self.crew is not None:
            self._employ(self.crew, visit, process or self.crew.take())
            return
        task = visit.task
        takes_s = visit.work_s / self.speed
        self.engine.later(takes_s, traffic_key(task.origin, task.path, WAKE), lambda _: self._complete(visit))

    def _employ(self, crew: Crew, visit: Visit, process: Process) -> None:
        visit.process = process
        if not visit.holds:
            crew.work(process, visit.task, visit.work_s / self.speed, lambda: self._complete(visit))
            return
        if process.awake:
            crew.rest(process)
        visit.task.held.append((self, visit))
        visit.task.place = None
        self.engine.wake(visit.task)

    def _complete(self, visit: Visit) -> None:
        if visit.gone:
            return
        self._advance()
        self._leave(visit)
        self.counts.completed += 1
        self._serve_waiting(visit)
        self.engine.wake(visit.task)

    def _serve_waiting(self, before: Visit | None = None) -> None:
        """Free servers take those who wait; `before` has just left its server."""
        process = None
        if before is not None:
            self.busy -= 1
            process = before.process
        while self.busy < self.servers and self.waiting > 0:
            visit = heapq.heappop(self.heap)[3] if self.by_priority else self.line.popleft()
            if not visit.gone:
                self.waiting -= 1
                self._begin(visit, process)
                process = None
        if process is not None:
            process.crew.give_back(process)

    def work_on(self, visit: Visit, work_s: float) -> None:
        """Work on the server that the visit's task holds, without waiting."""
        task, process = visit.task, visit.process
        assert process is not None

        def worked() -> None:
            process.crew.rest(process)
            task.place = None
            self.engine.wake(task)

        task.place = process
        process.crew.work(process, task, work_s / self.speed, worked)

    def release(self, visit: Visit, ended: bool) -> None:
        """A server is held no more, because the steps have `ended`, or because their task gave up."""
        self._advance()
        self._leave(visit)
        self.counts.completed += ended
        self.counts.withdrawn += not ended
        self._serve_waiting(visit)

    def withdraw(self, task: Task) -> None:
        """The task gives up: its deadline has passed, or its process died."""
        self._advance()
        visit = task.visit
        assert visit is not None
        self._leave(visit)
        self.counts.withdrawn += 1
        if not visit.served:
            self.waiting -= 1
            return
        if visit.process is not None:
            visit.process.crew.drop(visit.process)
        self._serve_waiting(visit)

    def _leave(self, visit: Visit) -> None:
        visit.gone = True
        del self.here[visit]
        self.counts.sojourn_s += self.env.now - max(visit.entered_s, self.counts.window_s)
        visit.task.place = None

    def set_servers(self, servers: int, lose_work: bool = False) -> None:
        """From now on this many servers; who is in service stays there, or is lost."""
        self._advance()
        self.servers = servers
        if lose_work:
            lose_last(
                self.engine, [visit for visit in self.here if visit.served and not visit.holds], self.busy - servers
            )
        self._serve_waiting()

    def set_speed(self, factor: float) -> None:
        """What begins from now on is done at this speed."""
        self.speed = factor

    def _advance(self) -> None:
        self.counts.advance(self.env.now, self.busy, self.waiting, self.servers)

    def open_window(self) -> None:
        """Forget the warm-up: counters start anew with who is present."""
        now_s = self.env.now
        self.counts = StationCounts(present_start=self.busy + self.waiting, since_s=now_s, window_s=now_s)
        if self.crew is not None:
            self.crew.cpu_s = 0.0

    def finish(self, row: np.void) -> None:
        """Write the counters, brought up to now, into a row of `STATION_COUNTS`."""
        self._advance()
        self.counts.write(row, servers=self.servers, present=[visit.entered_s for visit in self.here])
        row["cpu_s"] = self.crew.cpu_s if self.crew is not None else 0.0


def sheds(row: np.void, task: Task, waiting: int) -> bool:
    """Is the task too unimportant to wait behind so many?"""
    return bool(0 <= row["shed_above"] <= waiting and task.priority_class >= row["shed_class"])


def lose_last(engine: Plain, visits: list[Visit], count: int) -> None:
    """The work of the last `count` of these visits is lost, the very last first."""
    for visit in sorted(visits, key=lambda visit: -visit.number)[: max(0, count)]:
        engine.lose(visit.task)


class Sharing:
    """All present share the servers equally, none faster than one server: planned in virtual time, work done per customer."""

    def __init__(self, engine: Plain, index: int, servers: int, queue_limit: int) -> None:
        self.engine, self.env, self.index = engine, engine.env, index
        self.row = engine.tables.stations[index]
        self.servers, self.queue_limit = servers, queue_limit
        self.here: dict[Visit, None] = {}
        self.heap: list[tuple[float, int, Visit]] = []  # by the virtual time at which the work is done
        self.numbers = count()
        self.virtual_s, self.epoch, self.speed = 0.0, 0, 1.0
        self.counts = StationCounts(since_s=self.env.now, window_s=self.env.now)

    def _rate(self) -> float:
        return min(1.0, self.servers / len(self.here)) * self.speed

    def _advance(self) -> None:
        counts = self.counts
        if self.here:
            self.virtual_s += (self.env.now - counts.since_s) * self._rate()
        busy = min(len(self.here), self.servers)
        counts.advance(self.env.now, busy, len(self.here) - busy, self.servers)

    def _plan(self) -> None:
        """Whose work is done first goes first; what was planned before is void."""
        self.epoch += 1
        while self.heap and self.heap[0][2].gone:
            heapq.heappop(self.heap)
        if self.heap and self.servers > 0:
            left_s = max(0.0, (self.heap[0][0] - self.virtual_s) / self._rate())
            epoch = self.epoch
            self.engine.later(left_s, system_key(self.index, 0, 0, SHARE), lambda _: self._first_done(epoch))

    def _first_done(self, epoch: int) -> None:
        if epoch != self.epoch:
            return
        self._advance()
        visit = heapq.heappop(self.heap)[2]
        self.counts.completed += 1
        self.counts.waits += 1
        self.counts.wait_s += max(0.0, self.env.now - visit.entered_s - visit.work_s)
        self._leave(visit)
        self.engine.wake(visit.task)

    def enter(self, task: Task, work_s: float) -> None:
        """Join those who share. Raises `Rejected` when the room beyond the servers is full."""
        self._advance()
        self.counts.arrived += 1
        in_line = len(self.here) - self.servers
        if 0 <= self.queue_limit <= in_line or sheds(self.row, task, in_line):
            self.counts.rejected += 1
            raise Rejected
        self.counts.waited += len(self.here) >= self.servers
        visit = Visit(task, self.env.now, work_s)
        task.visit, task.place = visit, self
        self.here[visit] = None
        visit.number = next(self.numbers)
        heapq.heappush(self.heap, (self.virtual_s + work_s, visit.number, visit))
        self._plan()

    def withdraw(self, task: Task) -> None:
        """The task gives up."""
        self._advance()
        assert task.visit is not None
        self.counts.withdrawn += 1
        self._leave(task.visit)

    def _leave(self, visit: Visit) -> None:
        visit.gone = True
        self.counts.sojourn_s += self.env.now - max(visit.entered_s, self.counts.window_s)
        visit.task.place = None
        del self.here[visit]
        if not self.here:
            self.virtual_s = 0.0  # keeps the precision of a long run
        self._plan()

    def set_servers(self, servers: int, lose_work: bool = False) -> None:
        """From now on this many servers; what those that go had in hand is finished by the others, or lost."""
        self._advance()
        had = min(len(self.here), self.servers)
        self.servers = servers
        if lose_work:
            lose_last(self.engine, list(self.here), had - servers)
        self._plan()

    def set_speed(self, factor: float) -> None:
        """From now on all work is done at this speed."""
        self._advance()
        self.speed = factor
        self._plan()

    def open_window(self) -> None:
        """Forget the warm-up."""
        self._advance()
        now_s = self.env.now
        self.counts = StationCounts(present_start=len(self.here), since_s=now_s, window_s=now_s)

    def finish(self, row: np.void) -> None:
        """Write the counters, brought up to now, into a row of `STATION_COUNTS`."""
        self._advance()
        self.counts.write(row, servers=self.servers, present=[visit.entered_s for visit in self.here])


def build(engine: Plain, index: int) -> Queueing | Sharing:
    """The station of one row of the table."""
    row = engine.tables.stations[index]
    servers, discipline, queue_limit = int(row["servers"]), int(row["discipline"]), int(row["queue_limit"])
    if discipline == PROCESSOR_SHARING:
        return Sharing(engine, index, servers, queue_limit)
    return Queueing(engine, index, servers, discipline == PRIORITY, queue_limit)
