"""What a row of the tables does to a task, and how attempts and tasks end, in the compiled engine; see `plain_rows.py` for the meaning.

A task's row is set to the following one *before* it waits; its `state` says what it waits for, so that a deadline or a crash can
take that back.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from model.engines.compiled_attempts import again, begin_attempt, end_attempt, kill_attempt, pause
from model.engines.compiled_caches import HIT, WAIT, abandon, evict, expect_no_more, fill, lookup
from model.engines.compiled_events import schedule, what_of_task, whose_task
from model.engines.compiled_features import CACHES, CHILDREN, HOSTS, TOPICS, TRIES
from model.engines.compiled_group import catch_up_topic, committed, failed, member_of, mourn, partition_of
from model.engines.compiled_lists import NONE, leave_agenda
from model.engines.compiled_stations import (
    TO_HOLD,
    catch_up_all,
    enter,
    give_up,
    release,
    release_down_to,
    set_servers,
    work_on_held,
)
from model.engines.compiled_tables import (
    log,
    priority_class,
    quotas,
    requests,
    stations,
    steps,
    tasks,
    topics,
)
from model.engines.compiled_tasks import (
    EXPECTING,
    JOINING,
    NO_PATH,
    ON_HELD,
    PUBLISHED,
    RUNNING,
    SERVED,
    SHARED,
    TIMED,
    WORKING,
    answer,
    attribute,
    child_of,
    duration,
    free_task,
    new_child,
    note,
    ready,
    set_attempt,
    variate,
    wake_after,
)
from model.engines.compiled_topics import mark_batch, publish, retract
from model.engines.order import BATCH_ORIGIN, DEADLINE, OK, REJECTED, UNDER_WAY
from model.kernel_cache import part
from model.tables import (
    ACQUIRE,
    ANY,
    BRANCH,
    DELAY,
    END_TRY,
    EVICT,
    FAILED_ROW,
    FAULT,
    FILL,
    IF_WANTED,
    LOOKUP,
    MARK,
    NO_ATTRIBUTE,
    PROCESSOR_SHARING,
    PUBLISH,
    RELEASE,
    RESPOND,
    SCATTER,
    SERVE,
    SERVE_HELD,
    STAGGER,
    TRY,
)
from model.variates import bits_at, path_of, unit

HERE, WAITS, WANTS = range(3)  # what becomes of a task after a row


# ---- the ends of attempts and tasks
@part
def withdraw(sim: Any, i: int) -> None:
    """Take back whatever the task waits for."""
    task = tasks(sim, i)
    state = task.state
    if SERVED <= state <= ON_HELD:  # all that are at a station
        give_up(sim, i)
    elif TOPICS and state == PUBLISHED:
        retract(sim, i)
    elif CHILDREN and state == JOINING:
        task.join_epoch += 1
    elif CACHES and state == EXPECTING:
        expect_no_more(sim, i)
    task.state, task.wake = RUNNING, 0


@part
def fail(sim: Any, i: int, failure: int) -> int:
    """An attempt failed: back off and run the try's row again, or go its other way; without a try the task has failed."""
    task = tasks(sim, i)
    if task.origin < BATCH_ORIGIN:
        requests(sim, task.origin).failed_attempts += 1
    task.failure = failure
    task.deadline = 0
    if not TRIES or task.try_row < 0:
        task.row = FAILED_ROW
        return HERE
    if HOSTS:
        release_down_to(sim, i, task.try_held)
    if CACHES and task.lease_in_try:
        abandon(sim, i)
    end_attempt(sim, task, True)
    step = steps(sim, task.try_row)
    set_attempt(task, task.attempt + 1)
    if again(sim, task, step):
        task.row = task.try_row
        wake_after(sim, i, pause(sim, task), TIMED)
        return WAITS
    return otherwise(sim, i)


@part
def otherwise(sim: Any, i: int) -> int:
    """The try is over in vain."""
    task = tasks(sim, i)
    step = steps(sim, task.try_row)
    set_attempt(task, 0)
    task.try_row = NONE
    task.row = step.miss
    return HERE


@part
def refuse(sim: Any, i: int) -> int:
    """A circuit breaker is open: no attempt, and no further one."""
    task = tasks(sim, i)
    if task.origin < BATCH_ORIGIN:
        requests(sim, task.origin).failed_attempts += 1
    task.failure = REJECTED
    return otherwise(sim, i)


@part
def let_go(sim: Any, i: int) -> None:
    """The task dies: it holds no server any more, and will fill no cache's entry."""
    if HOSTS:
        release_down_to(sim, i, NONE)
    if CACHES:
        abandon(sim, i)


@part
def end(sim: Any, i: int, has_failed: bool) -> None:
    """The task's last row: the request's outcome, the batch's commit, the parent's join."""
    task = tasks(sim, i)
    let_go(sim, i)
    if TOPICS and task.topic >= 0:
        if has_failed:
            failed(sim, task.topic, task.member)
        else:
            committed(sim, task.topic, task.member)
    elif task.path == NO_PATH:
        request = requests(sim, task.origin)
        request.finished = sim.now
        if request.outcome == UNDER_WAY:
            answer(sim, task.origin, task.failure if has_failed else OK)
    if CHILDREN and task.parent >= 0:
        parent = tasks(sim, task.parent)
        if parent.join_epoch == task.parent_epoch:  # it still waits for this very group of children
            parent.pending -= 1
            if parent.pending == 0 or (parent.join_any and not has_failed):
                parent.join_epoch += 1
                ready(sim, task.parent)
    free_task(sim, i)


@part
def lose_work(sim: Any, s: int, count: int) -> None:
    """The services that began last (with processor sharing, the visits) are lost: so many of them."""
    for _ in range(count):
        last = NONE
        for i in range(sim.tasks_rows):
            task = tasks(sim, i)
            here = (task.state == SERVED or task.state == SHARED or task.state == WORKING) and task.place == s
            if here and (last < 0 or task.begun > tasks(sim, last).begun):
                last = i
        if last < 0:  # the other servers are held
            return
        give_up(sim, last)
        tasks(sim, last).row = sim.lost_row
        ready(sim, last)


@part
def shrink(sim: Any, s: int, servers: int) -> None:
    """Servers die with what they have in hand."""
    station = stations(sim, s)
    catch_up_all(sim, station)
    in_hand = min(station.present, station.servers) if station.discipline == PROCESSOR_SHARING else station.busy
    station.servers = servers
    lose_work(sim, s, max(0, in_hand - servers))
    set_servers(sim, s, servers)


@part
def crash(sim: Any, k: int, m: int) -> None:
    """A member dies with its batch; what the batch handed to others goes on."""
    topic = topics(sim, k)
    member = member_of(sim, k, m)
    if not member.alive:
        return
    catch_up_topic(sim, topic)
    i = member.batch
    if i >= 0:
        if tasks(sim, i).state == RUNNING:
            leave_agenda(sim, i)
        else:
            withdraw(sim, i)
        let_go(sim, i)
        if TRIES:
            kill_attempt(sim, tasks(sim, i))
        free_task(sim, i)
    mourn(sim, k, m)


# ---- rows that need more than a line
@part
def scatter(sim: Any, i: int, step: Any) -> int:
    """Children start in order, from the agenda; with `join` the parent waits for all of them."""
    task = tasks(sim, i)
    count = task.events if step.each_event else step.count
    if step.attribute != NO_ATTRIBUTE and not step.each_event:
        count = np.int64(attribute(task, step.attribute))
    sim.spare_turns = 0
    if count + sim.margin > sim.idle_tasks:  # what else happens in this turn needs its room too
        sim.wanted = max(sim.wanted, count + sim.margin)
        return WANTS
    if TOPICS and step.each_event:
        scatter_events(sim, i, step)
    else:
        for late in range(count):
            path = child_of(task)
            child = new_child(sim, i, step.join, task.origin, path, step.target, task.attributes)
            child.ordinal, child.events, child.keys, child.weight = task.spawned, task.events, task.keys, task.weight
            child.late = late
    task.row = step.next
    if not step.join or count <= 0:
        return HERE
    task.pending, task.join_any = count, step.join == ANY
    task.state = JOINING
    return WAITS


@part
def scatter_events(sim: Any, i: int, step: Any) -> None:
    """A child for each record of the batch, in its name."""
    task, late = tasks(sim, i), 0
    for p in range(topics(sim, task.topic).partitions):
        partition = partition_of(sim, task.topic, p)
        if partition.owner == task.member:
            r = partition.log_head
            for _ in range(partition.fetched):
                row = log(sim, r)
                path = path_of(row.path, np.uint64(task.row))
                child = new_child(sim, i, step.join, row.request, path, step.target, row.attributes)
                child.ordinal, child.weight, child.late = row.ordinal, row.weight, late
                child.priority = priority_class(sim)[requests(sim, row.request).operation]
                late += 1
                r = row.next


@part
def acquire(sim: Any, i: int, step: Any) -> int:
    """A token bucket as a reservation: when is the task's token due?"""
    quota = quotas(sim, step.target)
    due_s = max(quota.due_s, sim.now) + quota.interval_s
    wait_s = due_s - quota.burst_s - sim.now
    if wait_s > 0.0 and not step.join:
        tasks(sim, i).row = step.miss
        return HERE
    quota.due_s = due_s
    if wait_s > 0.0:
        wake_after(sim, i, wait_s, TIMED)
        return WAITS
    return HERE


@part
def branches_off(sim: Any, task: Any, step: Any) -> bool:
    """Is this arm not taken?"""
    limit = attribute(task, step.attribute) if step.attribute != NO_ATTRIBUTE else step.probability
    return bool(unit(bits_at(step.stream, task.place_bits)) >= limit)


@part
def room_for_marks(sim: Any) -> int:
    """How many milestones can be recorded, and told."""
    room = sim.marks_rows - sim.marked
    return int(min(room, sim.told_rows - sim.told_len) if sim.observed else room)


@part
def publishes(sim: Any, i: int, step: Any) -> None:
    """Publish with the attributes that the row names."""
    task = tasks(sim, i)
    keyed = step.attribute != NO_ATTRIBUTE
    key = attribute(task, step.attribute) if keyed else math.nan
    weight = attribute(task, step.weight) if step.weight != NO_ATTRIBUTE else 1.0
    publish(sim, step.target, i, keyed, key, weight)


# ---- one row
@part
def perform(sim: Any, i: int) -> int:
    """One row."""
    task = tasks(sim, i)
    row = task.row
    step = steps(sim, row)
    op, target = step.op, step.target
    if CHILDREN and op == SCATTER:
        return scatter(sim, i, step)
    task.row = step.next
    serves = op == SERVE
    if serves or op == DELAY:
        time_s = duration(sim, task, step)
        if serves:
            return WAITS if enter(sim, target, i, time_s, NONE) else fail(sim, i, REJECTED)
        wake_after(sim, i, time_s, TIMED)
        return WAITS
    if TOPICS and op == PUBLISH:
        if 0 <= topics(sim, target).lag_limit <= topics(sim, target).lag:
            return fail(sim, i, REJECTED)
        publishes(sim, i, step)
        return WAITS
    if op == ACQUIRE:
        return acquire(sim, i, step)
    if op == FAULT:
        return HERE if branches_off(sim, task, step) else fail(sim, i, REJECTED)
    if op == BRANCH:
        if branches_off(sim, task, step):
            task.row = step.miss
    elif CACHES and op == LOOKUP:
        found = lookup(sim, target, i, attribute(task, step.attribute))
        if found == WAIT:
            task.row = row
            return WAITS
        if found != HIT:
            task.row = step.miss
    elif CACHES and op == FILL:
        fill(sim, target, i, attribute(task, step.attribute))
    elif CACHES and op == EVICT:
        evict(sim, target, attribute(task, step.attribute))
    elif op == RESPOND:
        if requests(sim, task.origin).outcome == UNDER_WAY:
            answer(sim, task.origin, OK)
    elif op == MARK:
        if not TOPICS or task.topic < 0:
            note(sim, target, task.origin, task.ordinal, task.weight)
        elif task.events > room_for_marks(sim):
            task.row, sim.wanted = row, max(sim.wanted, task.events)
            sim.spare_turns = 0
            return WANTS
        else:
            sim.spare_turns = 0
            mark_batch(sim, i, target)
    elif TRIES and op == TRY:
        task.try_row, task.try_held = row, task.held
        if not begin_attempt(sim, task, step):
            return refuse(sim, i)
        if step.seconds > 0.0:
            what = what_of_task(task.path, DEADLINE)
            task.deadline = schedule(sim, step.seconds, whose_task(task.origin), what, i)
    elif CHILDREN and op == STAGGER:
        if task.late > 0:
            after_s = variate(sim, step.distribution, step.stream, task.origin, task.path, 0)
            wake_after(sim, i, task.late * after_s, TIMED)
            return WAITS
    elif CHILDREN and op == IF_WANTED:
        if task.parent >= 0 and tasks(sim, task.parent).join_epoch != task.parent_epoch:
            task.row = step.miss
    elif TRIES and op == END_TRY:
        end_attempt(sim, task, False)
        task.try_row, task.deadline = NONE, 0
        if task.attempt > 0:
            set_attempt(task, 0)
    elif HOSTS and op == RELEASE:
        release(sim, i, True)
    elif HOSTS and op == SERVE_HELD:
        work_on_held(sim, i, target, duration(sim, task, step))
        return WAITS
    elif HOSTS:  # HOLD
        return WAITS if enter(sim, target, i, 0.0, TO_HOLD) else fail(sim, i, REJECTED)
    return HERE
