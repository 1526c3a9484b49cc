"""Processes of the plain engine: who they are, and what their work comes to.

A *process* is a server that is somebody: it has run before or not, sleeps or is awake, and is held by a task or serves whoever
comes. A *crew* are the processes of one station. How hosts divide their cores among them: `plain_cores.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from model.engines.order import WAKE, traffic_key

if TYPE_CHECKING:
    from model.engines.plain import Plain
    from model.engines.plain_cores import Host
    from model.engines.plain_tasks import Task


class Process:
    """One server of a station."""

    __slots__ = (
        "awake", "cold_s", "collected", "crew", "due_s", "epoch", "had_s", "left_s", "lingers", "owed_s", "protected", "ran_s", "since_s",
        "task", "then", "work_s",
    )  # fmt: skip

    def __init__(self, crew: Crew) -> None:
        self.crew, self.awake, self.epoch = crew, False, 0
        self.ran_s = -np.inf  # when it last had a core: never
        self.cold_s = 0.0  # work that takes longer by how long ago that is, once the process has one again
        self.collected = 0  # pieces of work since the last garbage collection
        self.work_s = self.since_s = 0.0
        self.left_s = 0.0  # of its work, after this burst
        # on a fair host: what it has had of the cores and when that is enough, what it is owed while it sleeps; does it run until
        # its deadline; is it still there, though it sleeps?
        self.had_s = self.due_s = self.owed_s = 0.0
        self.protected = self.lingers = False
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
        self.cpu_burst_s = float(row["cpu_burst_s"])
        self.idle: list[Process] = []
        self.cpu_s = 0.0

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
        self._burst(process, demand_s)

    def _burst(self, process: Process, work_s: float) -> None:
        """The process runs until it waits for another for an instant, or is done."""
        self.host.start(process, self._first_burst_s(process, work_s))

    def _first_burst_s(self, process: Process, work_s: float) -> float:
        burst_s = self.cpu_burst_s if 0 < self.cpu_burst_s < work_s else work_s
        process.left_s = work_s - burst_s
        return burst_s

    def _demand_s(self, process: Process, work_s: float) -> float:
        process.cold_s = work_s / self.host.speed if self.cold else 0.0
        if not process.awake:
            work_s += self.wake_s
        if self.gc_every > 0:
            process.collected += 1
            if process.collected >= self.gc_every:
                process.collected = 0
                work_s += self.gc_pause_s
        self.cpu_s += work_s
        return work_s / self.host.speed

    def warmed_s(self, process: Process, work_s: float) -> float:
        """The burst's work, now that the process has a core: as a piece begins, longer by the time since it last had one."""
        if process.cold_s <= 0:
            return work_s
        more_s = process.cold_s * (factor_after(self.cold, self.env.now - process.ran_s) - 1.0)
        process.cold_s = 0.0
        self.cpu_s += more_s * self.host.speed
        return self._first_burst_s(process, max(0.0, work_s + process.left_s + more_s))

    def done(self, process: Process) -> None:
        """The process has done its work; for its station to say what it does next."""
        self.drop(process)
        if process.left_s > 0:
            self.host.stop(process)
            self._burst(process, process.left_s)
        else:
            process.then()

    def drop(self, process: Process) -> None:
        """The work is over, or taken back; a process that waited for a core in vain is as cold as before."""
        process.epoch += 1
        if process.cold_s <= 0:
            process.ran_s = self.env.now

    def rest(self, process: Process) -> None:
        """The process goes to sleep."""
        process.awake = False
        self.host.stop(process)


def factor_after(cold: list[tuple[float, float]], idle_s: float) -> float:
    """The work's factor after so long a time without a core: lines between the points, the first and last factor beyond."""
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
    work_s = process.crew.warmed_s(process, work_s)
    process.epoch += 1
    process.work_s, process.since_s = work_s, engine.env.now
    epoch, task = process.epoch, process.task

    def ran() -> None:
        if epoch == process.epoch:
            process.crew.done(process)

    engine.later(work_s, traffic_key(task.origin, task.path, WAKE), lambda _: ran())
