"""Where tasks stand: lines of tasks, and the heap of those who share a station.

Lines and the sharing heap are linked through the tasks themselves (a task is in one place at a time), so they need no memory of
their own and a task can be taken out anywhere. Line 0 is the agenda, its first task apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.engines.compiled_tables import float_bits, lines, tasks
from model.kernel_cache import part, seldom

AGENDA_LINE = 0
NONE = -1


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
    if line.head < 0:
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
    if line.head == i:
        line.head = task.next
    else:
        tasks(sim, task.prev).next = task.next
    if task.next < 0:
        line.tail = task.prev
    else:
        tasks(sim, task.next).prev = task.prev


@part
def take_first(sim: Any, line: Any) -> int:
    """Take the first task out of a line; there is one. What `prev` of the next one or `tail` says then, nobody may ask."""
    i = line.head
    line.head = tasks(sim, i).next
    return int(i)


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
        append_to_agenda(sim, i)


@seldom
def append_to_agenda(sim: Any, i: int) -> None:
    """The same where there is one already."""
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
    i, others = sim.first_ready, lines(sim, AGENDA_LINE)
    sim.first_ready = others.head
    if others.head >= 0:
        take_first(sim, others)
    return int(i)


@seldom
def leave_agenda(sim: Any, i: int) -> None:
    """Take a task off the agenda, wherever it stands."""
    if i == sim.first_ready:
        next_ready(sim)
    else:
        take(sim, AGENDA_LINE, i)


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
