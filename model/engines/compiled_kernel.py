"""The kernel of the compiled engine: tasks go through the rows of the tables, between two events of SimPy.

The meaning is `plain.py`'s; here it is said for a machine. Three sentences suffice.

1. A *task* goes through its rows until one makes it wait; what frees a task puts it on the *agenda*, first in first out.
2. The agenda is empty before the observer is told anything, and that is done before the next timed event happens.
3. Timed events happen in the order (time, content key), ties of both in the order of scheduling.

The files, from the bottom up: `compiled_tables.py` (memory: the record `sim` and its tables), `compiled_lists.py` (the agenda and
other lines), `compiled_events.py` (the heap of events), `compiled_tasks.py` (birth, waking, variates, what is recorded),
`compiled_stations.py`, `compiled_group.py` and `compiled_topics.py`, `compiled_rows.py` (what one row does), this file (`go_on`, a
task's turn; `happen`, a timed event; `run`, the loop; `obey`, the only way in), and `compiled.py` (the Python side: memory, growth,
SimPy's clock).

What all this text may say, and what becomes of it, is `kernel_compiler.py`'s. `HOSTS`, `CACHES` and the other names in capitals that
stand alone in an `if` are features (`compiled_features.py`): constants while a kernel is compiled. There are a few kernels, each
with some of the features; a network runs on the smallest that has all it needs, and what it does not need is not there.

A task's row is set to the following one *before* it waits; `state` says what it waits for, so that a deadline can take it back.
Tables never grow in here. Before a turn of the loop there must be room for all that a turn may add (`margin`, or `wanted` where
a row's own count decides); otherwise `run` returns `GROW`, and is called again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from model.engines.compiled_caches import flush, open_caches, rehash
from model.engines.compiled_events import (
    at_once,
    earlier,
    fill_vacancy,
    has_precedence,
    leave_vacant,
    next_number,
    schedule,
    what_of_task,
    whose_task,
)
from model.engines.compiled_features import CACHES, HOSTS, SHARING, TOPICS, TRIES
from model.engines.compiled_group import (
    catch_up_topic,
    member_event,
    restore,
)
from model.engines.compiled_hosts import catch_up_host, open_host, set_cores
from model.engines.compiled_lists import NONE, next_ready, signed, to_agenda_first
from model.engines.compiled_rows import (
    HERE,
    WANTS,
    crash,
    end,
    fail,
    perform,
    room_for_marks,
    shrink,
    withdraw,
)
from model.engines.compiled_stations import (
    catch_up_all,
    complete,
    cores_done,
    first_done,
    open_station,
    set_servers,
    set_speed,
    worked,
)
from model.engines.compiled_tables import (
    floats,
    heap,
    hosts,
    integers,
    schedules,
    simulation,
    stations,
    steps,
    tasks,
    topics,
)
from model.engines.compiled_tasks import (
    NO_PATH,
    ON_HELD,
    SERVED,
    WORKING,
    first_place,
    new_request,
    ready,
    ready_first,
)
from model.engines.compiled_topics import acknowledge, lingered, open_topic
from model.engines.order import (
    ACKNOWLEDGE,
    ARRIVE,
    CORES,
    DEADLINE,
    LINGER,
    SHARE,
    TIMED_OUT,
    WAKE,
)
from model.kernel_cache import always, entries, part, seldom
from model.tables import (
    FAIL,
    FINISH,
)

RUN, SUBMIT, BEGIN_SCHEDULE, SET_SERVERS, CRASH, RESTORE, OPEN_WINDOW, CATCH_UP, REHASH, SHRINK, SET_SPEED, FLUSH, SET_CORES = (
    range(13)
)  # what Python can ask for
DONE, TELL, GROW, BROKEN = 0, 1, -1, -2  # what the kernel answers
KIND, INDEX, PORTION = np.uint64(15), np.uint64(0xFFF), np.uint64(0xFFFF)
FOUR, SIXTEEN, THIRTY_TWO = np.uint64(4), np.uint64(16), np.uint64(32)


@part
def go_on(sim: Any, i: int) -> None:
    """A task's turn: row after row until it waits or ends."""
    while True:
        op = steps(sim, tasks(sim, i).row).op
        if op >= FINISH:  # or FAIL
            end(sim, i, op == FAIL)
            return
        becomes = perform(sim, i)
        if becomes == WANTS:  # first there must be room for what the row adds
            to_agenda_first(sim, i)
        if becomes != HERE:
            return


# ---- what can happen
@part
def happen(sim: Any, what: Any, number: int, who: int) -> None:
    """One timed event."""
    kind = signed(what & KIND)
    if kind == WAKE:
        if tasks(sim, who).wake == number:
            if tasks(sim, who).state == SERVED:
                complete(sim, who)
            elif HOSTS and (tasks(sim, who).state == WORKING or tasks(sim, who).state == ON_HELD):
                worked(sim, who)
            else:
                ready(sim, who)
    elif kind == ARRIVE:
        arrive_too(sim, who)
    elif TRIES and kind == DEADLINE:
        if tasks(sim, who).deadline == number:
            withdraw(sim, who)
            if fail(sim, who, TIMED_OUT) == HERE:
                ready_first(sim, who)  # before those who got what it held
    elif SHARING and kind == SHARE:
        if stations(sim, who).plan == number:
            first_done(sim, who)
    elif HOSTS and kind == CORES:
        if hosts(sim, who).plan == number:
            cores_done(sim, who)
    elif TOPICS:
        k, portion = signed((what >> FOUR) & INDEX), signed((what >> SIXTEEN) & PORTION)
        epoch = signed(what >> THIRTY_TWO)
        if kind == LINGER:
            lingered(sim, k, portion, epoch)
        elif kind == ACKNOWLEDGE:
            acknowledge(sim, k, portion, who)
        else:
            member_event(sim, k, portion, epoch, kind)


@always
def arrive(sim: Any, who: int) -> None:
    """The next request of a schedule; then the one after it is planned."""
    plan = schedules(sim, who)
    place_bits = plan.place_bits
    if plan.whose != whose_task(sim.requests):
        place_bits = first_place(sim.requests, NO_PATH)
    new_request(sim, place_bits, integers(plan.operations)[plan.next], plan.attributes + plan.next * plan.columns * 8)
    plan.next += 1
    next_arrival(sim, who)


@seldom
def arrive_too(sim: Any, who: int) -> None:
    """The next request of one of several schedules, which is in the heap."""
    arrive(sim, who)


@always
def next_arrival(sim: Any, who: int) -> None:
    """Plan a schedule's next request; its key holds the number it will have if nobody else comes first.

    Where it will draw is found now: an event ahead, it keeps nobody waiting.
    """
    plan = schedules(sim, who)
    if plan.next < plan.count:
        gap_s = floats(plan.gaps)[plan.next]
        if sim.stream < 0:
            sim.stream = who
        if sim.stream == who:
            plan.whose, plan.number = whose_task(sim.requests), next_number(sim)
            plan.place_bits = first_place(sim.requests, NO_PATH)
            sim.stream_s = sim.now + gap_s
        else:
            schedule(sim, gap_s, whose_task(sim.requests), what_of_task(NO_PATH, ARRIVE), who)
    elif sim.stream == who:
        sim.stream, sim.stream_s = NONE, math.inf


@seldom
def short(sim: Any) -> bool:
    """May a table be too short for the next turn? If not, for how many turns will all of them do?"""
    margin, more = sim.margin, sim.wanted - sim.margin
    room = min(sim.heap_rows - sim.heap_len, sim.requests_rows - sim.requests)
    room = min(room, sim.idle_tasks - more, room_for_marks(sim) - more)
    if TOPICS:
        room = min(room, sim.idle_records)
    if CACHES:
        room = min(room, sim.cached_rows // 2 - sim.cached_used)
    sim.spare_turns = room // margin - 1
    return bool(room < margin)


@seldom
def stream_has_precedence(sim: Any) -> bool:
    """The schedule that is kept outside the heap and the heap's first event are due at once: does the schedule come first?"""
    if sim.stream < 0:
        return False
    plan = schedules(sim, sim.stream)
    return sim.heap_len == 0 or has_precedence(plan.whose, what_of_task(NO_PATH, ARRIVE), plan.number, heap(sim, sim.first))


@part
def run(sim: Any, until_s: float) -> int:
    """Everything before `until_s`; returns early to have the observer told or tables grown.

    A turn of the loop is an event, if nobody is on the agenda, and then the turn of the first task there.
    """
    while True:
        sim.spare_turns -= 1
        if sim.spare_turns < 0:
            if sim.broken:
                return BROKEN
            if short(sim):
                return GROW
        if sim.first_ready < 0:
            if sim.vacant >= 0:
                fill_vacancy(sim)
            if sim.told_len:
                return TELL
            stream_s, time = sim.stream_s, sim.first_s  # infinite, if there is none
            if not earlier(min(stream_s, time), until_s):
                return DONE
            if earlier(stream_s, time) or (at_once(stream_s, time) and stream_has_precedence(sim)):
                sim.now = stream_s
                arrive(sim, sim.stream)
            else:
                sim.now = time
                first = heap(sim, sim.first)
                leave_vacant(sim)
                happen(sim, first.what, first.number, first.who)
        if sim.first_ready >= 0:
            go_on(sim, next_ready(sim))


@part
def obey(address: int, command: int, a: int, b: int, time_s: float) -> int:
    """The only way in. For `RUN`, `time_s` is the limit, which does not belong to it; for the others it is the present.

    Python passes one address, and everything is found from there.
    """
    sim = simulation(address)
    sim.spare_turns = 0
    if command == RUN:
        return run(sim, time_s)
    if CACHES and command == REHASH:
        rehash(sim)
        return DONE
    if short(sim):
        return GROW
    sim.now = time_s
    if command == SUBMIT:
        return new_request(sim, first_place(sim.requests, NO_PATH), a, b)
    if command == BEGIN_SCHEDULE:
        next_arrival(sim, a)
    elif command == SET_SERVERS:
        set_servers(sim, a, b)
    elif command == SHRINK:
        shrink(sim, a, b)
    elif command == SET_SPEED:
        set_speed(sim, a, sim.speed)
    elif HOSTS and command == SET_CORES:
        set_cores(sim, a, b)
    elif CACHES and command == FLUSH:
        flush(sim, a)
    elif TOPICS and command == CRASH:
        crash(sim, a, b)
    elif TOPICS and command == RESTORE:
        restore(sim, a, b)
    else:
        for s in range(sim.station_count):
            if command == OPEN_WINDOW:
                open_station(sim, stations(sim, s))
            else:
                catch_up_all(sim, stations(sim, s))
        if CACHES and command == OPEN_WINDOW:
            open_caches(sim)
        if HOSTS:
            for h in range(sim.host_count):
                if command == OPEN_WINDOW:
                    open_host(sim, hosts(sim, h))
                else:
                    catch_up_host(sim, hosts(sim, h))
        if TOPICS:
            for k in range(sim.topic_count):
                if command == OPEN_WINDOW:
                    open_topic(sim, topics(sim, k))
                else:
                    catch_up_topic(sim, topics(sim, k))
    return DONE


@cache
def kernel_with(features: frozenset[str]) -> Callable[[int, int, int, int, float], int]:
    """The machine code that has these features, and no others; see `compiled_features.py`."""
    (kernel,) = entries("traffic", {obey: "i8(i8, i8, i8, i8, f8)"}, features)
    return kernel
