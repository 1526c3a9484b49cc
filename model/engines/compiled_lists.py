"""Where tasks and events stand: lines of tasks, the heap of timed events, and the heap of those who share a station.

Lines and the sharing heap are linked through the tasks themselves (a task is in one place at a time), so they need no memory of
their own and a task can be taken out anywhere. Line 0 is the agenda, its first task apart.

A timed event is (time, whose, what, number, who): the first three are its time and content key (`order.py`), `number` says which
of two with the same key was scheduled first, and `who` is the task, schedule or record it concerns. Nobody removes an event from
the heap. Who no longer waits for event `number` forgets it, and when the event comes, it is void. The event that happens leaves
its place at the top `vacant`: mostly it brings about another one, which takes the place and sinks to where it belongs.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from model.engines.compiled_tables import float_bits, heap, lines, tasks
from model.kernel_cache import part, seldom

AGENDA_LINE = 0
NONE = -1
NUMBERS, HALF = 0x7FFF_FFFF, 0x3FFF_FFFF
FOUR, SIXTEEN, THIRTY_TWO = np.uint64(4), np.uint64(16), np.uint64(32)
MACHINERY = np.uint64(1)
LOW_32 = np.uint64(0xFFFF_FFFF)


# ---- lines
@part
def append(sim: Any, line_index: int, i: int) -> None:
    """Put a task at the end of a line."""
    append_to(sim, lines(sim, line_index), i)


@part
def append_to(sim: Any, line: Any, i: int) -> None:
    """The same for anything that has a `head` and a `tail`."""
    task = tasks(sim, i)
    task.prev, task.next = line.tail, NONE
    if line.tail < 0:
        line.head = i
    else:
        tasks(sim, line.tail).next = i
    line.tail = i


@part
def prepend(sim: Any, line_index: int, i: int) -> None:
    """Put a task back at the head of a line."""
    line, task = lines(sim, line_index), tasks(sim, i)
    task.prev, task.next = NONE, line.head
    if line.head < 0:
        line.tail = i
    else:
        tasks(sim, line.head).prev = i
    line.head = i


@part
def take(sim: Any, line_index: int, i: int) -> None:
    """Take a task out of the line it stands in."""
    take_from(sim, lines(sim, line_index), i)


@part
def take_from(sim: Any, line: Any, i: int) -> None:
    """The same for anything that has a `head` and a `tail`."""
    task = tasks(sim, i)
    if task.prev < 0:
        line.head = task.next
    else:
        tasks(sim, task.prev).next = task.next
    if task.next < 0:
        line.tail = task.prev
    else:
        tasks(sim, task.next).prev = task.prev


@part
def signed(word: Any) -> Any:
    """An unsigned word as a number to count and index with."""
    return np.int64(word)


@part
def bits_of(key: float) -> Any:
    """The bits of a key, to be hashed; the two zeros are one key."""
    return float_bits(key + 0.0)


# ---- the agenda: mostly there is one task on it, which needs no line
@part
def to_agenda(sim: Any, i: int) -> None:
    """Put a task at the end of the agenda."""
    if sim.first_ready < 0:
        sim.first_ready = i
    else:
        append(sim, AGENDA_LINE, i)


@part
def to_agenda_first(sim: Any, i: int) -> None:
    """Put a task at the head of the agenda."""
    if sim.first_ready >= 0:
        prepend(sim, AGENDA_LINE, sim.first_ready)
    sim.first_ready = i


@part
def next_ready(sim: Any) -> int:
    """Take the first task off the agenda; there is one."""
    i = sim.first_ready
    second = lines(sim, AGENDA_LINE).head
    sim.first_ready = second
    if second >= 0:
        take(sim, AGENDA_LINE, second)
    return int(i)


@seldom
def leave_agenda(sim: Any, i: int) -> None:
    """Take a task off the agenda, wherever it stands."""
    if i == sim.first_ready:
        next_ready(sim)
    else:
        take(sim, AGENDA_LINE, i)


# ---- keys: the two words of order.traffic_key and order.system_key
@part
def whose_task(origin: int) -> Any:
    """The upper word of the key of a request's or batch's event."""
    return np.uint64(origin + 2)


@part
def what_of_task(path: Any, kind: int) -> Any:
    """The lower word of the key of a request's or batch's event."""
    return (path << FOUR) | np.uint64(kind)


@part
def what_of_machinery(index: int, portion: int, number: int, kind: int) -> Any:
    """The lower word of the key of a station's or topic's event; the upper one is `MACHINERY`."""
    upper = ((np.uint64(number) & LOW_32) << THIRTY_TWO) | (np.uint64(portion) << SIXTEEN)
    return upper | (np.uint64(index) << FOUR) | np.uint64(kind)


# ---- the heap of timed events: four children to a parent, for few levels and neighbouring reads
@part
def comes_before(time: float, whose: Any, what: Any, number: int, event: Any) -> bool:
    """Is (time, whose, what, number) earlier than `event`?"""
    if time != event.time:
        return bool(time < event.time)
    if whose != event.whose:
        return bool(whose < event.whose)
    if what != event.what:
        return bool(what < event.what)
    return bool(((number - event.number) & NUMBERS) > HALF)  # numbers go round


@part
def copy_event(to: Any, event: Any) -> None:
    """Write one event over another."""
    to.time, to.whose, to.what, to.number, to.who = event.time, event.whose, event.what, event.number, event.who


@part
def next_number(sim: Any) -> int:
    """The number of the next event that is scheduled; 0 is no event's number."""
    sim.numbered = sim.numbered + 1 if sim.numbered < NUMBERS else 1
    return int(sim.numbered)


@part
def schedule(sim: Any, delay_s: float, whose: Any, what: Any, who: int) -> int:
    """An event after `delay_s`. Returns its number."""
    if not delay_s >= 0.0:
        sim.broken = 1
    time = sim.now + delay_s
    number = next_number(sim)
    if sim.vacant:
        sim.vacant = 0
        hole = sink(sim, time, whose, what, number)
    else:
        hole = sim.heap_len
        sim.heap_len = hole + 1
        while hole > 0:
            parent = (hole - 1) >> 2
            if not comes_before(time, whose, what, number, heap(sim, parent)):
                break
            copy_event(heap(sim, hole), heap(sim, parent))
            hole = parent
    event = heap(sim, hole)
    event.time, event.whose, event.what, event.number, event.who = time, whose, what, number, who
    return number


@part
def first_of(sim: Any, child: int, end: int) -> int:
    """Which of the events from `child` to `end` - 1 comes first?"""
    least = child
    for other in range(child + 1, end):
        event = heap(sim, other)
        if comes_before(event.time, event.whose, event.what, event.number, heap(sim, least)):
            least = other
    return least


@part
def first_of_four(sim: Any, child: int) -> int:
    """The same for four, by time alone and without a jump that a processor would have to guess; ties are looked at again.

    Some of the four may be beyond the last event: there, `time` is infinite.
    """
    a, b, c, d = heap(sim, child).time, heap(sim, child + 1).time, heap(sim, child + 2).time, heap(sim, child + 3).time
    left, right = min(a, b), min(c, d)
    if (left == right) | ((a == b) & (left < right)) | ((c == d) & (right < left)):
        return first_of(sim, child, min(child + 4, sim.heap_len))
    return child + (int(b < a) if left < right else 2 + int(d < c))


@part
def sink(sim: Any, time: float, whose: Any, what: Any, number: int) -> int:
    """Move the vacant place down from the top to where this event belongs. Returns the place."""
    hole, count = 0, sim.heap_len
    while True:
        child = 4 * hole + 1
        if child >= count:
            return hole
        least = first_of_four(sim, child)
        event = heap(sim, least)
        if comes_before(time, whose, what, number, event):
            return hole
        copy_event(heap(sim, hole), event)
        hole = least


@part
def fill_vacancy(sim: Any) -> None:
    """The earliest event has happened and none took its place at the top: the last one does."""
    sim.vacant = 0
    sim.heap_len -= 1
    last = heap(sim, sim.heap_len)
    time, whose, what, number, who = last.time, last.whose, last.what, last.number, last.who
    last.time = math.inf
    if sim.heap_len > 0:
        event = heap(sim, sink(sim, time, whose, what, number))
        event.time, event.whose, event.what, event.number, event.who = time, whose, what, number, who


# ---- who shares a station, by work_s and then by turn: a pairing heap (Fredman et al. 1986); returns are roots, -1 for empty
@part
def meld(sim: Any, a: int, b: int) -> int:
    """One heap of two: the later root becomes the earlier one's first child."""
    if a < 0:
        return b
    if b < 0:
        return a
    first, second = tasks(sim, a), tasks(sim, b)
    if second.work_s < first.work_s or (second.work_s == first.work_s and second.turn < first.turn):
        first, second = second, first
        a, b = b, a
    second.next, second.prev = first.child, a
    if first.child >= 0:
        tasks(sim, first.child).prev = b
    first.child = b
    return a


@part
def meld_children(sim: Any, child: int) -> int:
    """One heap of a root's children: in pairs from the left, then from the right."""
    pairs = NONE
    while child >= 0:
        left = tasks(sim, child)
        neighbour = left.next
        following = NONE
        left.next = left.prev = NONE
        if neighbour >= 0:
            right = tasks(sim, neighbour)
            following = right.next
            right.next = right.prev = NONE
        pair = meld(sim, child, neighbour)
        tasks(sim, pair).next = pairs
        pairs = pair
        child = following
    root = NONE
    while pairs >= 0:
        following = tasks(sim, pairs).next
        tasks(sim, pairs).next = NONE
        root = meld(sim, root, pairs)
        pairs = following
    return root


@part
def join_heap(sim: Any, root: int, i: int) -> int:
    """Add a task whose `work_s` and `turn` are set."""
    task = tasks(sim, i)
    task.child = task.next = task.prev = NONE
    return meld(sim, root, i)


@part
def leave_heap(sim: Any, root: int, i: int) -> int:
    """Take out a task, wherever it is."""
    task = tasks(sim, i)
    rest = meld_children(sim, task.child)
    task.child = NONE
    if i == root:
        return rest
    before = tasks(sim, task.prev)
    if before.child == i:
        before.child = task.next
    else:
        before.next = task.next
    if task.next >= 0:
        tasks(sim, task.next).prev = task.prev
    return meld(sim, root, rest)
