"""What each row of the tables means, in the plain engine: two tables, of the rows at which a task never waits and of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from model import tables as t
from model.engines.order import DEADLINE, OK, UNDER_WAY, WAKE, traffic_key
from model.engines.plain_stations import Queueing, Rejected
from model.engines.plain_tasks import Join, Life, Task, Waiting
from model.variates import child_path, uniform

if TYPE_CHECKING:
    from model.engines.plain import Plain

Step: TypeAlias = dict[str, Any]  # a row's fields


class Rows:
    """Performs rows for the tasks of an engine."""

    def __init__(self, engine: Plain) -> None:
        self.engine = engine
        self._due_s = [0.0] * len(engine.tables.quotas)
        self._at_once = {  # each returns the row that follows
            t.RELEASE: self._release,
            t.BRANCH: self._branch,
            t.FAULT: self._fault,
            t.FILL: self._fill,
            t.EVICT: self._evict,
            t.RESPOND: self._respond,
            t.MARK: self._mark,
            t.TRY: self._try,
            t.END_TRY: self._end_try,
            t.IF_WANTED: self._if_wanted,
        }
        self._in_time = {  # each waits, if something must be waited for, and then returns the row that follows
            t.SERVE: self._serve,
            t.DELAY: self._delay,
            t.PUBLISH: self._publish,
            t.HOLD: self._hold,
            t.SERVE_HELD: self._serve_held,
            t.LOOKUP: self._lookup,
            t.SCATTER: self._scatter,
            t.ACQUIRE: self._acquire,
            t.STAGGER: self._stagger,
        }

    def perform(self, task: Task, step: Step) -> Waiting:
        """One row; returns the row that follows. Raises `Rejected` if the attempt fails here."""
        at_once = self._at_once.get(step["op"])
        if at_once is not None:
            return at_once(task, step)
        return (yield from self._in_time[step["op"]](task, step))

    def _happens(self, task: Task, step: Step) -> bool:
        """Does what has the row's probability happen?"""
        by_attribute = step["attribute"] != t.NO_ATTRIBUTE
        limit = self.engine.attribute(task, step["attribute"]) if by_attribute else step["probability"]
        return bool(uniform(step["stream"], task.origin, task.path, task.attempt) < limit)

    # ---- stations and time
    def _serve(self, task: Task, step: Step) -> Waiting:
        turn = self.engine.turn_of(task)
        self.engine.stations[step["target"]].enter(task, self.engine.duration(task, step))
        yield turn
        if task.lost:
            task.lost = False
            raise Rejected
        return int(step["next"])

    def _hold(self, task: Task, step: Step) -> Waiting:
        turn, station = self.engine.turn_of(task), self.engine.stations[step["target"]]
        assert isinstance(station, Queueing)
        station.enter(task, 0.0, holds=True)
        yield turn
        return int(step["next"])

    def _serve_held(self, task: Task, step: Step) -> Waiting:
        turn, wanted = self.engine.turn_of(task), self.engine.stations[step["target"]]
        station, visit = next(item for item in task.held if item[0] is wanted)
        station.work_on(visit, self.engine.duration(task, step))
        yield turn
        return int(step["next"])

    def _release(self, task: Task, step: Step) -> int:
        station, visit = task.held.pop()
        station.release(visit, ended=True)
        return int(step["next"])

    def _pause(self, task: Task, after_s: float) -> Life:
        yield self.engine.later(after_s, traffic_key(task.origin, task.path, WAKE))

    def _delay(self, task: Task, step: Step) -> Waiting:
        yield from self._pause(task, self.engine.duration(task, step))
        return int(step["next"])

    def _stagger(self, task: Task, step: Step) -> Waiting:
        if task.late > 0:
            after_s = self.engine.sample(step["distribution"], step["stream"], task.origin, task.path, 0)
            yield from self._pause(task, task.late * after_s)
        return int(step["next"])

    def _acquire(self, task: Task, step: Step) -> Waiting:
        """A token bucket as a reservation: when is the task's token due?"""
        target, now_s = step["target"], self.engine.env.now
        quota = self.engine.tables.quotas[target]
        due_s = max(self._due_s[target], now_s) + float(quota["interval_s"])
        wait_s = due_s - float(quota["burst_s"]) - now_s
        if wait_s > 0 and not step["join"]:
            return int(step["miss"])
        self._due_s[target] = due_s
        if wait_s > 0:
            yield from self._pause(task, wait_s)
        return int(step["next"])

    # ---- chance, attempts, answers
    def _branch(self, task: Task, step: Step) -> int:
        return int(step["next"] if self._happens(task, step) else step["miss"])

    def _fault(self, task: Task, step: Step) -> int:
        if self._happens(task, step):
            raise Rejected
        return int(step["next"])

    def _try(self, task: Task, step: Step) -> int:
        task.try_row, task.try_held = task.row, len(task.held)
        self.engine.attempts.begin(task, step)
        if step["seconds"] > 0:
            epoch, key = task.try_epoch, traffic_key(task.origin, task.path, DEADLINE)
            self.engine.later(step["seconds"], key, lambda _: self._deadline(task, epoch))
        return int(step["next"])

    def _deadline(self, task: Task, epoch: int) -> None:
        """The attempt's time is up, unless it ended before."""
        if epoch == task.try_epoch:
            self.engine.withdraw(task)
            task.process.interrupt("deadline")

    def _end_try(self, task: Task, step: Step) -> int:
        self.engine.attempts.end(task, failed=False)
        task.try_row, task.attempt = -1, 0
        task.try_epoch += 1
        return int(step["next"])

    def _respond(self, task: Task, step: Step) -> int:
        if self.engine.outcome[task.origin] == UNDER_WAY:
            self.engine.answer(task.origin, OK)
        return int(step["next"])

    def _mark(self, task: Task, step: Step) -> int:
        """A batch marks each of its records; one that was marked before a crash has been applied already."""
        milestone, engine = step["target"], self.engine
        if task.topic is None:
            engine.note(milestone, task.origin, task.ordinal, task.weight)
            return int(step["next"])
        counts = task.topic.counts
        for record in task.topic.records_of(task.member):
            again = record.marked >> milestone & 1
            if again and task.topic.row["idempotent"]:
                counts.duplicates_skipped += 1
                continue
            counts.duplicates_applied += again
            record.marked |= 1 << milestone
            engine.note(milestone, record.request, record.ordinal, record.weight)
        return int(step["next"])

    # ---- caches
    def _lookup(self, task: Task, step: Step) -> Waiting:
        cache, key = self.engine.caches[step["target"]], self.engine.attribute(task, step["attribute"])
        turn = self.engine.turn_of(task)
        if cache.wait(task, key):
            yield turn
            if task.lease is not None:
                return int(step["miss"])
        elif not cache.hit(key):
            cache.miss(task, key)
            return int(step["miss"])
        return int(step["next"])

    def _fill(self, task: Task, step: Step) -> int:
        cache = self.engine.caches[step["target"]]
        if cache.stampede:
            cache.put(self.engine.attribute(task, step["attribute"]))
        else:
            assert task.lease is not None
            task.lease.cache.fill(task, task.lease)
        return int(step["next"])

    def _evict(self, task: Task, step: Step) -> int:
        self.engine.caches[step["target"]].evict(self.engine.attribute(task, step["attribute"]))
        return int(step["next"])

    # ---- topics and children
    def _publish(self, task: Task, step: Step) -> Waiting:
        topic, engine = self.engine.topics[step["target"]], self.engine
        key = engine.attribute(task, step["attribute"]) if step["attribute"] != t.NO_ATTRIBUTE else None
        weight = engine.attribute(task, step["weight"]) if step["weight"] != t.NO_ATTRIBUTE else 1.0
        if 0 <= topic.row["lag_limit"] <= topic.lag:
            raise Rejected
        turn = engine.turn_of(task)
        topic.publish(task, key, weight)
        yield turn
        return int(step["next"])

    def _scatter(self, task: Task, step: Step) -> Waiting:
        """Children start in order, from the agenda; with `join` the parent waits for all of them."""
        children = self._children_of_records(task, step) if step["each_event"] else self._children(task, step)
        join = Join(task, len(children), step["join"] == t.ANY) if step["join"] and children else None
        turn = self.engine.turn_of(task)
        for late, child in enumerate(children):
            child.join, child.late = join, late
            self.engine.spawn(child)
        if join is not None:
            task.place = join
            yield turn
        return int(step["next"])

    def _children(self, task: Task, step: Step) -> list[Task]:
        by_attribute = step["attribute"] != t.NO_ATTRIBUTE
        children = []
        for _ in range(int(self.engine.attribute(task, step["attribute"])) if by_attribute else step["count"]):
            task.spawned += 1
            path = child_path(task.path, task.spawned)
            child = Task(task.origin, path, step["target"], task.attributes, task.priority_class)
            child.ordinal, child.events, child.keys, child.weight = task.spawned, task.events, task.keys, task.weight
            children.append(child)
        return children

    def _children_of_records(self, task: Task, step: Step) -> list[Task]:
        """A child for each record of the batch, in its name."""
        assert task.topic is not None
        children = []
        for record in task.topic.records_of(task.member):
            path = child_path(record.path, task.row)
            priority_class = int(self.engine.tables.priority_class[self.engine.operation[record.request]])
            child = Task(record.request, path, step["target"], record.attributes, priority_class)
            child.ordinal, child.weight = record.ordinal, record.weight
            children.append(child)
        return children

    def _if_wanted(self, task: Task, step: Step) -> int:
        unwanted = task.join is not None and task.join.parent is None
        return int(step["miss"] if unwanted else step["next"])
