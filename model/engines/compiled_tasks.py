"""Tasks of the compiled engine: born from a free list, woken through the agenda, delayed by keyed variates."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.engines.compiled_events import schedule, what_of_task, whose_task
from model.engines.compiled_features import CACHES, CHILDREN, HOSTS, TOPICS, TRIES
from model.engines.compiled_lists import NONE, to_agenda, to_agenda_first
from model.engines.compiled_tables import (
    costs,
    distributions,
    first_row,
    floats,
    marks,
    priority_class,
    requests,
    tasks,
    told,
    values,
)
from model.engines.order import UNDER_WAY, WAKE
from model.kernel_cache import always, apart, part
from model.tables import EVENTS, KEYS
from model.variates import bits_at, draw, key_of, path_of, place_of

# What a task waits for. FREE: its place in the table is empty. WORKING: a process of a station works for it, or the process that
# it holds (ON_HELD).
FREE, RUNNING, TIMED, SERVED, QUEUED, SHARED, WORKING, ON_HELD, PUBLISHED, JOINING, EXPECTING = range(11)
TOLD_ANSWER, TOLD_MARK = 0, 1
NO_PATH = NO_ATTEMPT = np.uint64(0)


@part
def ready(sim: Any, i: int) -> None:
    """Put a task on the agenda; whatever event it waited for is void."""
    task = tasks(sim, i)
    task.state = RUNNING
    task.wake = 0
    to_agenda(sim, i)


@part
def ready_first(sim: Any, i: int) -> None:
    """Put a task at the head of the agenda."""
    task = tasks(sim, i)
    task.state = RUNNING
    task.wake = 0
    to_agenda_first(sim, i)


@always
def set_attempt(task: Any, attempt: int) -> None:
    """Which attempt this is; all that the task draws until the next one, it draws at one place."""
    task.attempt = attempt
    task.place_bits = place_of(np.uint64(task.origin), task.path, np.uint64(attempt))


@always
def first_place(origin: int, path: Any) -> Any:
    """Where a task draws until its first attempt is over."""
    return place_of(np.uint64(origin), path, NO_ATTEMPT)


@always
def new_task(sim: Any, origin: int, path: Any, place_bits: Any, row: int, attributes: int, priority: int) -> int:
    """A task that takes its place on the agenda; `place_bits` are those of its first attempt."""
    i = sim.free_task
    task = tasks(sim, i)
    sim.free_task = task.next
    sim.idle_tasks -= 1
    task.origin, task.path, task.row, task.attributes, task.priority = origin, path, row, attributes, priority
    task.place_bits = place_bits
    task.attempt = task.ordinal = task.failure = task.events = task.keys = task.deadline = 0
    task.try_row = task.parent = task.topic = NONE
    task.weight = 1.0
    if TRIES:
        task.breaker = NONE
    if CHILDREN:
        task.spawned = 0
    if TOPICS:
        task.member = NONE
    if HOSTS:
        task.held = NONE
    if CACHES:
        task.lease_cache, task.lease_in_try = NONE, 0
    ready(sim, i)
    return int(i)


@part
def free_task(sim: Any, i: int) -> None:
    """Its place may be taken; nobody's join, event or deadline can reach the next one there."""
    task = tasks(sim, i)
    task.state, task.wake, task.deadline = FREE, 0, 0
    if CHILDREN:
        task.join_epoch += 1
    task.next = sim.free_task
    sim.free_task = i
    sim.idle_tasks += 1


@part
def new_child(sim: Any, parent: int, joined: bool, origin: int, path: Any, row: int, attributes: int) -> Any:
    """A child of a scatter; if `joined`, its parent counts it."""
    i = new_task(sim, origin, path, first_place(origin, path), row, attributes, tasks(sim, parent).priority)
    child = tasks(sim, i)
    if joined:
        child.parent, child.parent_epoch = parent, tasks(sim, parent).join_epoch
    return child


@part
def child_of(task: Any) -> Any:
    """The path of the task's next child."""
    task.spawned += 1
    return path_of(task.path, np.uint64(task.spawned))


@always
def new_request(sim: Any, place_bits: Any, which: int, attributes: int) -> int:
    """A request of an operation comes now; `place_bits` are those of its task. Returns its number."""
    number = sim.requests
    sim.requests = number + 1
    request = requests(sim, number)
    request.operation, request.arrived, request.outcome, request.failed_attempts = which, sim.now, UNDER_WAY, 0
    request.responded = request.finished = np.nan
    new_task(sim, number, NO_PATH, place_bits, first_row(sim)[which], attributes, priority_class(sim)[which])
    return int(number)


# ---- time and chance
@part
def wake_after(sim: Any, i: int, delay_s: float, state: int) -> None:
    """The task waits for an event of its own."""
    task = tasks(sim, i)
    task.state = state
    task.wake = schedule(sim, delay_s, whose_task(task.origin), what_of_task(task.path, WAKE), i)


@part
def variate(sim: Any, distribution: int, stream: Any, origin: int, path: Any, attempt: int) -> float:
    """A variate of a distribution of the table at its place."""
    return drawn(sim, distribution, key_of(stream, np.uint64(origin), path, np.uint64(attempt)))


@part
def drawn(sim: Any, distribution: int, bits: Any) -> float:
    """The variate that belongs to these bits."""
    d = distributions(sim, distribution)
    return float(draw(values(sim), d.kind, d.a, d.b, d.c, d.first, d.count, bits))


@part
def attribute(task: Any, column: int) -> float:
    """A request's attribute, or one of a batch's own."""
    if column >= 0:
        return float(floats(task.attributes)[column])
    if column == EVENTS:
        return float(task.events)
    if column == KEYS:
        return float(task.keys)
    return float(task.weight)


@always
def duration(sim: Any, task: Any, step: Any) -> float:
    """The row's distribution, plus its costs per unit of the task's attributes."""
    time_s = drawn(sim, step.distribution, bits_at(step.stream, task.place_bits))
    return with_costs(sim, task, step, time_s) if step.costs else time_s


@apart
def with_costs(sim: Any, task: Any, step: Any, time_s: float) -> float:
    """A time, and the row's costs."""
    for number in range(step.first_cost, step.first_cost + step.costs):
        cost = costs(sim, number)
        time_s += cost.seconds * attribute(task, cost.attribute)
    return time_s


# ---- what is recorded
@part
def tell(sim: Any, kind: int, number: int, request: int, ordinal: int, weight: float) -> None:
    """Leave word for the observer, if there is one."""
    if sim.observed:
        word = told(sim, sim.told_len)
        sim.told_len += 1
        word.kind, word.number, word.request, word.ordinal, word.weight = kind, number, request, ordinal, weight


@part
def answer(sim: Any, request: int, how: int) -> None:
    """The client learns how its request ended."""
    row = requests(sim, request)
    row.outcome, row.responded = how, sim.now
    tell(sim, TOLD_ANSWER, how, request, 0, 0.0)


@part
def note(sim: Any, milestone: int, request: int, ordinal: int, weight: float) -> None:
    """Record a milestone."""
    mark = marks(sim, sim.marked)
    sim.marked += 1
    mark.milestone, mark.ordinal, mark.request, mark.time_s, mark.weight = milestone, ordinal, request, sim.now, weight
    tell(sim, TOLD_MARK, milestone, request, ordinal, weight)
