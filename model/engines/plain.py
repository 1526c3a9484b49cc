"""The plain engine: one SimPy process per task. It says what each row of the tables means.

A *task* is a request, a child of one (a scatter's) or a polled batch. It goes through its rows until one makes it wait. What
frees it calls `wake`, which puts it on the agenda: first in, first out, and empty before the next timed event (`order.py`).
A deadline or a crash takes back what the task waits for (`withdraw`) and interrupts its process.

Arrivals are gaps and not instants, because now + (t - now) is not always t.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import numpy as np
import simpy

from model import tables as t
from model.engines import plain_stations
from model.engines.order import (
    AGENDA,
    ARRIVE,
    BATCH_ORIGIN,
    DEADLINE,
    OK,
    REJECTED,
    TIMED_OUT,
    TOLD,
    UNDER_WAY,
    WAKE,
    traffic_key,
)
from model.engines.plain_attempts import Attempts, Breaker, Refused
from model.engines.plain_caches import Cache, Lease
from model.engines.plain_hosts import Process, build_host
from model.engines.plain_stations import Queueing, Rejected, Visit
from model.engines.plain_topics import Partition, Record, Topic
from model.recording import CACHE_COUNTS, HOST_COUNTS, MARK, STATION_COUNTS, TOPIC_COUNTS, Recording
from model.variates import child_path, handed_over, sample, uniform

Life = Generator[simpy.Event, None, None]
Waiting = Generator[simpy.Event, None, int]


class Observer(Protocol):
    """Somebody who is told at the very instant, after whatever was freed then and before any other traffic."""

    def responded(self, request: int, outcome: int) -> None:
        """The client of `request` has its answer, or its failure (`order.OUTCOMES`)."""

    def marked(self, milestone: int, request: int, ordinal: int, weight: float) -> None:
        """Milestone number `milestone` of a request is reached, by its child number `ordinal` (0: the request itself)."""


class Keyed(simpy.Event):
    """An event at a set time whose place among simultaneous ones is its key."""

    def __init__(
        self, env: simpy.Environment, delay_s: float, key: int, callback: Callable[[Any], None] | None = None
    ) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        if callback is not None:
            self.callbacks.append(callback)
        env.schedule(self, priority=key, delay=delay_s)  # type: ignore[arg-type]  # SimPy compares priorities, it needs no enum


class Join:
    """A parent that waits for its children."""

    __slots__ = ("any", "parent", "pending")

    def __init__(self, parent: Task | None, pending: int, any_one: bool) -> None:
        self.parent, self.pending, self.any = parent, pending, any_one

    def withdraw(self, task: Task) -> None:
        """The parent waits no more; its children go on."""
        task.place = self.parent = None


class Task:
    """A request, a child or a batch on its way through the rows."""

    __slots__ = (
        "attempt",
        "attributes",
        "breaker",
        "breaker_epoch",
        "events",
        "failure",
        "held",
        "join",
        "keys",
        "late",
        "lease",
        "lost",
        "member",
        "ordinal",
        "origin",
        "path",
        "pause_s",
        "place",
        "priority_class",
        "process",
        "record",
        "row",
        "spawned",
        "topic",
        "try_epoch",
        "try_held",
        "try_row",
        "turn",
        "visit",
        "weight",
    )  # fmt: skip

    def __init__(self, origin: int, path: int, row: int, attributes: Sequence[float], priority_class: int) -> None:
        self.origin, self.path, self.row, self.attributes, self.priority_class = (
            origin,
            path,
            row,
            attributes,
            priority_class,
        )
        self.ordinal = self.spawned = self.attempt = self.try_epoch = self.failure = 0
        self.try_row = -1
        self.try_held = 0
        self.held: list[tuple[Queueing, Visit]] = []  # servers; the last one is released first
        self.events = self.keys = 0
        self.weight = 1.0
        self.member = -1
        self.topic: Topic | None = None
        self.join: Join | None = None
        self.visit: Visit | None = None
        self.record: Record | None = None
        self.lease: Lease | None = None
        self.lost = False
        self.breaker: Breaker | None = None
        self.breaker_epoch = self.late = 0  # late: the child's place among its siblings
        self.pause_s = 0.0
        self.place: plain_stations.Queueing | plain_stations.Sharing | Process | Partition | Join | Lease | None = None
        self.process: simpy.Process
        self.turn: simpy.Event


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
        self.due_s = [0.0] * len(tables.quotas)
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
                    task.row = yield from self.perform(task, step)
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

    # ---- what each row means
    def perform(self, task: Task, step: dict[str, Any]) -> Waiting:
        """One row; returns the row that follows. Nobody waits when nothing must be waited for."""
        op, target, now_s = step["op"], step["target"], self.env.now
        if op == t.SERVE:
            turn = self.turn_of(task)
            self.stations[target].enter(task, self.duration(task, step))
            yield turn
            if task.lost:
                task.lost = False
                raise Rejected
        elif op == t.DELAY:
            yield self.later(self.duration(task, step), traffic_key(task.origin, task.path, WAKE))
        elif op == t.PUBLISH:
            key = self.attribute(task, step["attribute"]) if step["attribute"] != t.NO_ATTRIBUTE else None
            weight = self.attribute(task, step["weight"]) if step["weight"] != t.NO_ATTRIBUTE else 1.0
            if 0 <= self.topics[target].row["lag_limit"] <= self.topics[target].lag:
                raise Rejected
            turn = self.turn_of(task)
            self.topics[target].publish(task, key, weight)
            yield turn
        elif op == t.HOLD:
            turn, station = self.turn_of(task), self.stations[target]
            assert isinstance(station, Queueing)
            station.enter(task, 0.0, holds=True)
            yield turn
        elif op == t.SERVE_HELD:
            turn = self.turn_of(task)
            station, visit = next(item for item in task.held if item[0] is self.stations[target])
            station.work_on(visit, self.duration(task, step))
            yield turn
        elif op == t.RELEASE:
            station, visit = task.held.pop()
            station.release(visit, ended=True)
        elif op == t.BRANCH:
            if not self.happens(task, step):
                return int(step["miss"])
        elif op == t.FAULT:
            if self.happens(task, step):
                raise Rejected
        elif op == t.LOOKUP:
            cache, key, turn = self.caches[target], self.attribute(task, step["attribute"]), self.turn_of(task)
            if cache.wait(task, key):
                yield turn
                if task.lease is not None:
                    return int(step["miss"])
            elif not cache.hit(key):
                cache.miss(task, key)
                return int(step["miss"])
        elif op == t.FILL:
            if self.caches[target].stampede:
                self.caches[target].put(self.attribute(task, step["attribute"]))
            else:
                assert task.lease is not None
                task.lease.cache.fill(task, task.lease)
        elif op == t.EVICT:
            self.caches[target].evict(self.attribute(task, step["attribute"]))
        elif op == t.SCATTER:
            yield from self.scatter(task, step)
        elif op == t.ACQUIRE:
            quota = self.tables.quotas[target]
            due_s = max(self.due_s[target], now_s) + float(quota["interval_s"])
            wait_s = due_s - float(quota["burst_s"]) - now_s
            if wait_s > 0 and not step["join"]:
                return int(step["miss"])
            self.due_s[target] = due_s
            if wait_s > 0:
                yield self.later(wait_s, traffic_key(task.origin, task.path, WAKE))
        elif op == t.RESPOND:
            if self.outcome[task.origin] == UNDER_WAY:
                self.answer(task.origin, OK)
        elif op == t.MARK:
            self.mark(task, target)
        elif op == t.TRY:
            task.try_row, task.try_held = task.row, len(task.held)
            self.attempts.begin(task, step)
            if step["seconds"] > 0:
                epoch, key = task.try_epoch, traffic_key(task.origin, task.path, DEADLINE)
                self.later(step["seconds"], key, lambda _: self.deadline(task, epoch))
        elif op == t.STAGGER:
            if task.late > 0:
                after_s = self.sample(step["distribution"], step["stream"], task.origin, task.path, 0)
                yield self.later(task.late * after_s, traffic_key(task.origin, task.path, WAKE))
        elif op == t.IF_WANTED:
            if task.join is not None and task.join.parent is None:
                return int(step["miss"])
        else:  # END_TRY
            self.attempts.end(task, failed=False)
            task.try_row, task.attempt = -1, 0
            task.try_epoch += 1
        return int(step["next"])

    def happens(self, task: Task, step: dict[str, Any]) -> bool:
        """Does what has the row's probability happen?"""
        by_attribute = step["attribute"] != t.NO_ATTRIBUTE
        limit = self.attribute(task, step["attribute"]) if by_attribute else step["probability"]
        return bool(uniform(step["stream"], task.origin, task.path, task.attempt) < limit)

    def turn_of(self, task: Task) -> simpy.Event:
        """A new event for the task to wait on until somebody wakes it."""
        task.turn = simpy.Event(self.env)
        return task.turn

    def deadline(self, task: Task, epoch: int) -> None:
        """The attempt's time is up, unless it ended before."""
        if epoch == task.try_epoch:
            self.withdraw(task)
            task.process.interrupt("deadline")

    def scatter(self, task: Task, step: dict[str, Any]) -> Life:
        """Children start in order, from the agenda; with `join` the parent waits for all of them."""
        children = []
        if step["each_event"]:
            assert task.topic is not None
            for record in task.topic.records_of(task.member):
                path = child_path(record.path, task.row)
                priority_class = int(self.tables.priority_class[self.operation[record.request]])
                child = Task(record.request, path, step["target"], record.attributes, priority_class)
                child.ordinal, child.weight = record.ordinal, record.weight
                children.append(child)
        else:
            by_attribute = step["attribute"] != t.NO_ATTRIBUTE
            for _ in range(int(self.attribute(task, step["attribute"])) if by_attribute else step["count"]):
                task.spawned += 1
                path = child_path(task.path, task.spawned)
                child = Task(task.origin, path, step["target"], task.attributes, task.priority_class)
                child.ordinal, child.events, child.keys, child.weight = (
                    task.spawned,
                    task.events,
                    task.keys,
                    task.weight,
                )
                children.append(child)
        join = Join(task, len(children), step["join"] == t.ANY) if step["join"] and children else None
        turn = self.turn_of(task)
        for late, child in enumerate(children):
            child.join, child.late = join, late
            self.spawn(child)
        if join is not None:
            task.place = join
            yield turn

    def mark(self, task: Task, milestone: int) -> None:
        """A batch marks each of its records; one that was marked before a crash has been applied already."""
        if task.topic is None:
            self.note(milestone, task.origin, task.ordinal, task.weight)
            return
        counts = task.topic.counts
        for record in task.topic.records_of(task.member):
            again = record.marked >> milestone & 1
            if again and task.topic.row["idempotent"]:
                counts.duplicates_skipped += 1
                continue
            counts.duplicates_applied += again
            record.marked |= 1 << milestone
            self.note(milestone, record.request, record.ordinal, record.weight)

    def note(self, milestone: int, request: int, ordinal: int, weight: float) -> None:
        """Record a milestone and tell the observer."""
        self.marks.append((milestone, ordinal, request, self.env.now, weight))
        observer = self.observer
        if observer is not None:
            Keyed(self.env, 0, TOLD, lambda _: observer.marked(milestone, request, ordinal, weight))

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
