"""The plain engine: one SimPy process per task. What each row of the tables means is said in `plain_rows.py`.

A *task* is a request, a child of one (a scatter's) or a polled batch. It goes through its rows until one makes it wait. What
frees it calls `wake`, which puts it on the agenda: first in, first out, and empty before the next timed event (`order.py`).
A deadline or a crash takes back what the task waits for (`withdraw`) and interrupts its process.

Arrivals are gaps and not instants, because now + (t - now) is not always t.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import simpy

from model import tables as t
from model.engines import plain_stations
from model.engines.order import (
    AGENDA,
    ARRIVE,
    BATCH_ORIGIN,
    OK,
    REJECTED,
    TIMED_OUT,
    TOLD,
    UNDER_WAY,
    WAKE,
    traffic_key,
)
from model.engines.plain_attempts import Attempts, Refused
from model.engines.plain_caches import Cache
from model.engines.plain_cores import build_host
from model.engines.plain_rows import Rows
from model.engines.plain_stations import Rejected
from model.engines.plain_tasks import Keyed, Life, Task, Waiting
from model.engines.plain_topics import Topic
from model.recording import CACHE_COUNTS, HOST_COUNTS, MARK, STATION_COUNTS, TOPIC_COUNTS, Recording
from model.variates import handed_over, sample


class Observer(Protocol):
    """Somebody who is told at the very instant, after whatever was freed then and before any other traffic."""

    def responded(self, request: int, outcome: int) -> None:
        """The client of `request` has its answer, or its failure (`order.OUTCOMES`)."""

    def marked(self, milestone: int, request: int, ordinal: int, weight: float) -> None:
        """Milestone number `milestone` of a request is reached, by its child number `ordinal` (0: the request itself)."""


class Plain:
    """Runs the tables of a network in a SimPy environment.

    Requests come from `arrive` (a schedule) or `submit` (now). Control processes call `set_servers`, `crash` and `restore`.
    `observer`, if given, is told of answers and milestones.
    """

    name = "plain"

    def __init__(
        self, tables: t.Tables, env: simpy.Environment, warmup_s: float = 0.0, observer: Observer | None = None
    ) -> None:
        self.tables, self.env, self.warmup_s, self.observer = tables, env, warmup_s, observer
        self.steps = [dict(zip(tables.steps.dtype.names or (), row.item(), strict=True)) for row in tables.steps]
        self.costs = [row.item() for row in tables.costs]
        self._values = handed_over(tables.values)
        self.distributions = [row.item() for row in tables.distributions]
        self.caches = [Cache(self, index) for index in range(len(tables.caches))]
        self.attempts = Attempts(self)
        self.rows = Rows(self)
        self.operation: list[int] = []
        self.arrived_s: list[float] = []
        self.responded_s: list[float] = []
        self.finished_s: list[float] = []
        self.outcome: list[int] = []
        self.failed_attempts: list[int] = []
        self.marks: list[tuple[int, int, int, float, float]] = []
        self.hosts = [build_host(self, index) for index in range(len(tables.hosts))]
        self.stations = [plain_stations.build(self, index) for index in range(len(tables.stations))]
        self.topics = [Topic(self, index) for index in range(len(tables.topics))]
        if warmup_s > env.now:
            env.process(self._open_window(warmup_s - env.now))

    def _open_window(self, after_s: float) -> Life:
        yield self.env.timeout(after_s)
        for part in (*self.hosts, *self.stations, *self.topics, *self.caches):
            part.open_window()

    # ---- time and chance
    def later(self, delay_s: float, key: int, callback: Callable[[Any], None] | None = None) -> simpy.Event:
        """A timed event of the traffic, ordered by its key."""
        return Keyed(self.env, delay_s, key, callback)

    def sample(self, distribution: int, stream: int, origin: int, path: int, attempt: int) -> float:
        """A variate of a distribution of the table at its place."""
        kind, first, count, a, b, c = self.distributions[distribution]
        return float(sample(self._values, kind, a, b, c, first, count, stream, origin, path, attempt))

    def duration(self, task: Task, step: dict[str, Any]) -> float:
        """The row's distribution, plus its costs per unit of the task's attributes."""
        time_s = self.sample(step["distribution"], step["stream"], task.origin, task.path, task.attempt)
        for attribute, cost_s in self.costs[step["first_cost"] : step["first_cost"] + step["costs"]]:
            time_s += cost_s * self.attribute(task, attribute)
        return time_s

    def attribute(self, task: Task, column: int) -> float:
        """A request's attribute, or one of a batch's own."""
        if column >= 0:
            return task.attributes[column]
        return {t.EVENTS: task.events, t.KEYS: task.keys, t.WEIGHT: task.weight}[column]

    # ---- requests
    def arrive(self, gap_s: np.ndarray, operation: np.ndarray, attributes: np.ndarray) -> None:
        """A schedule: request i comes gap_s[i] after the one before. attributes: one row per request, one column per name."""
        self.env.process(self._arrivals(gap_s, operation, attributes))

    def _arrivals(self, gap_s: np.ndarray, operation: np.ndarray, attributes: np.ndarray) -> Life:
        for first in range(0, len(gap_s), 4096):  # in pieces: lists of Python numbers are large
            part = slice(first, first + 4096)
            rows = zip(gap_s[part].tolist(), operation[part].tolist(), attributes[part].tolist(), strict=True)
            for gap, which, values in rows:
                yield self.later(gap, traffic_key(len(self.operation), 0, ARRIVE))
                self.submit(which, values)

    def submit(self, operation: int, attributes: Sequence[float]) -> int:
        """A request of an operation (by number) comes now. Returns its number."""
        request = len(self.operation)
        self.operation.append(operation)
        self.arrived_s.append(self.env.now)
        self.responded_s.append(np.nan)
        self.finished_s.append(np.nan)
        self.outcome.append(UNDER_WAY)
        self.failed_attempts.append(0)
        first_row, priority_class = self.tables.first_row[operation], self.tables.priority_class[operation]
        self.spawn(Task(request, 0, int(first_row), attributes, int(priority_class)))
        return request

    def start_batch(self, topic: Topic, member: int, origin: int, events: int, keys: int, weight: float) -> Task:
        """A member has polled: the topic's steps for these records."""
        task = Task(origin, 0, topic.row["first_row"], (), 0)
        task.topic, task.member, task.events, task.keys, task.weight = topic, member, events, keys, weight
        self.spawn(task)
        return task

    # ---- tasks
    def wake(self, task: Task) -> None:
        """Put the task on the agenda."""
        event = task.turn
        event._ok, event._value = True, None
        self.env.schedule(event, priority=AGENDA)  # type: ignore[arg-type]  # see Keyed

    def turn_of(self, task: Task) -> simpy.Event:
        """A new event for the task to wait on until somebody wakes it."""
        task.turn = simpy.Event(self.env)
        return task.turn

    def spawn(self, task: Task) -> None:
        """A new task takes its place on the agenda; a SimPy process alone would start ahead of it."""
        task.turn = simpy.Event(self.env)
        self.wake(task)
        task.process = self.env.process(self.life(task))

    def kill(self, task: Task) -> None:
        """The process dies: what it waits for is taken back, what it handed to others goes on."""
        self.withdraw(task)
        self.release(task)
        self.abandon(task)
        if task.breaker is not None:
            task.breaker.killed(task.breaker_epoch)
        task.topic = None
        task.try_epoch += 1
        task.process.interrupt("killed")

    def withdraw(self, task: Task) -> None:
        """Take back whatever the task waits for."""
        if task.place is not None:
            task.place.withdraw(task)

    def release(self, task: Task, kept: int = 0) -> None:
        """The task gives up the servers it holds, the first few apart."""
        while len(task.held) > kept:
            station, visit = task.held.pop()
            station.release(visit, ended=False)

    def abandon(self, task: Task) -> None:
        """The task will not fill the cache's entry that it had promised to fill, if any."""
        if task.lease is not None:
            task.lease.abandon(task)

    def lose(self, task: Task) -> None:
        """The work on a task is lost, its server having died: the attempt fails as if rejected."""
        self.withdraw(task)
        task.lost = True
        self.wake(task)

    def life(self, task: Task) -> Life:
        """From the first row to the end."""
        try:
            yield task.turn
            while True:
                step = self.steps[task.row]
                if step["op"] in (t.FINISH, t.FAIL):
                    break
                try:
                    task.row = yield from self.rows.perform(task, step)
                except Rejected as rejected:
                    task.row = yield from self.fail(task, REJECTED, isinstance(rejected, Refused))
                except simpy.Interrupt as interrupt:
                    if interrupt.cause != "deadline":
                        raise
                    task.row = yield from self.fail(task, TIMED_OUT)
        except simpy.Interrupt:  # killed
            return
        self.end(task, failed=step["op"] == t.FAIL)

    def end(self, task: Task, failed: bool) -> None:
        """The task's last row: the request's outcome, the batch's commit, the parent's join."""
        self.release(task)
        self.abandon(task)
        if task.topic is not None:
            if failed:
                task.topic.failed(task.member)
            else:
                task.topic.committed(task.member)
        elif task.path == 0:
            request = task.origin
            self.finished_s[request] = self.env.now
            if self.outcome[request] == UNDER_WAY:
                self.answer(request, task.failure if failed else OK)
        join = task.join
        if join is not None:
            join.pending -= 1
            if join.parent is not None and (join.pending == 0 or (join.any and not failed)):
                parent, join.parent = join.parent, None
                parent.place = None
                self.wake(parent)

    def answer(self, request: int, outcome: int) -> None:
        """The client learns how its request ended; the first answer counts."""
        self.outcome[request] = outcome
        self.responded_s[request] = self.env.now
        observer = self.observer
        if observer is not None:
            Keyed(self.env, 0, TOLD, lambda _: observer.responded(request, outcome))

    def note(self, milestone: int, request: int, ordinal: int, weight: float) -> None:
        """Record a milestone and tell the observer."""
        self.marks.append((milestone, ordinal, request, self.env.now, weight))
        observer = self.observer
        if observer is not None:
            Keyed(self.env, 0, TOLD, lambda _: observer.marked(milestone, request, ordinal, weight))

    def fail(self, task: Task, failure: int, refused: bool = False) -> Waiting:
        """An attempt failed. Back off and run the try's row again, or go its other way; without a try the task has failed."""
        if task.origin < BATCH_ORIGIN:
            self.failed_attempts[task.origin] += 1
        task.failure = failure
        task.try_epoch += 1
        if task.try_row < 0:
            return t.FAILED_ROW
        self.release(task, task.try_held)
        if task.lease is not None and task.lease.in_try:
            self.abandon(task)
        step = self.steps[task.try_row]
        self.attempts.end(task, failed=True)
        task.attempt += 1
        if not refused and self.attempts.again(task, step):
            yield self.later(self.attempts.pause_s(task, step), traffic_key(task.origin, task.path, WAKE))
            return task.try_row
        task.attempt, task.try_row = 0, -1
        return int(step["miss"])

    # ---- control, and the end
    def set_servers(self, station: int, servers: int, lose_work: bool = False) -> None:
        """A station has this many servers from now on; who is in service stays there to the end.

        With `lose_work` servers die with what they have in hand, those who began last first: these attempts fail as if
        rejected. (Who shares a station counts as in service as long as there are not more than there were servers.)
        """
        self.stations[station].set_servers(servers, lose_work)

    def set_speed(self, station: int, factor: float) -> None:
        """A station's servers work at `factor` times their normal speed from now on (0.5: everything takes twice as long).

        This holds for services that begin from now on, those under way ending as planned; with processor sharing for all the
        work that is left. Raises `ValueError` unless the factor is above 0 and finite.
        """
        if not 0 < factor < np.inf:
            raise ValueError(f"a speed must be above 0 and finite, not {factor}")
        self.stations[station].set_speed(factor)

    def set_cores(self, host: int, cores: int) -> None:
        """A host has this many cores from now on; who loses one goes on with what is left of its work when there is one again.

        Not counted as a pre-emption, and utilisation stays that of the cores which the host has by itself. Raises `ValueError` for
        fewer than none.
        """
        if cores < 0:
            raise ValueError(f"a host cannot have {cores} cores")
        self.hosts[host].set_cores(cores)

    def flush(self, cache: int) -> None:
        """A cache loses all its entries; those that are being filled will be there when they are."""
        self.caches[cache].flush()

    def crash(self, topic: int, member: int) -> None:
        """A member of a consumer group dies."""
        self.topics[topic].crash(member)

    def restore(self, topic: int, member: int) -> None:
        """A member of a consumer group is back."""
        self.topics[topic].restore(member)

    def record(self) -> Recording:
        """Everything up to now."""
        stations = np.zeros(len(self.stations), STATION_COUNTS)
        for row, station in zip(stations, self.stations, strict=True):
            station.finish(row)
        topics = np.zeros(len(self.topics), TOPIC_COUNTS)
        for row, topic in zip(topics, self.topics, strict=True):
            topic.finish(row)
        hosts = np.zeros(len(self.hosts), HOST_COUNTS)
        for row, host in zip(hosts, self.hosts, strict=True):
            host.finish(row)
        return Recording(
            tables=self.tables,
            engine=self.name,
            warmup_s=self.warmup_s,
            end_s=float(self.env.now),
            operation=np.array(self.operation, "i4"),
            arrived_s=np.array(self.arrived_s, float),
            responded_s=np.array(self.responded_s, float),
            finished_s=np.array(self.finished_s, float),
            outcome=np.array(self.outcome, "i1"),
            failed_attempts=np.array(self.failed_attempts, "i4"),
            marks=np.array(self.marks, MARK),
            stations=stations,
            topics=topics,
            hosts=hosts,
            caches=np.array([(one.hits, one.misses, one.waits) for one in self.caches], CACHE_COUNTS),
        )

    def close(self) -> None:
        """The run is over; only what `record` gave remains."""
        columns: tuple[list[Any], ...] = (
            self.operation, self.arrived_s, self.responded_s, self.finished_s, self.outcome, self.failed_attempts, self.marks,
        )  # fmt: skip
        for column in columns:
            column.clear()
