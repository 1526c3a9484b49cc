"""The timed events of the compiled engine: their keys, and the heap in which they stand.

An event is (time, whose, what, number, who): the first three are its time and content key (`order.py`), `number` says which of two
with the same key was scheduled first, and `who` is the task, schedule or record it concerns. Nobody removes an event from the heap.
Who no longer waits for event `number` forgets it, and when the event comes, it is void.

The heap has no single top: its upper row is the places 0 to 7, in no order, and `sim.first` is the one of them that is due first, at
`sim.first_s`. A place's eight children, the places from 8 * place + 8 on, are not due before it. The event that happens leaves its
place `vacant`: mostly it brings about another one, which takes the place and sinks to where it belongs. While few events are due, none
ever moves. Who is first of the others is found as an event happens, beside what it does: once it is known when the new one is due, one
comparison is left. What comes next is the one thing a processor cannot guess, and so it knows it soonest.

The times stand in a column of their own, `due`, infinite where there is no event: so a processor finds the first of eight in a few
steps and without a jump that it would have to guess, in one or two lines of its cache. Where two events are due at once, all is done
again `by_key`; elsewhere keys are not looked at.
"""

from __future__ import annotations

import ast
import math
from typing import Any

import numpy as np

from model.engines.compiled_lists import NONE
from model.engines.compiled_tables import EVENT, due, heap
from model.kernel_cache import apart, part, seldom
from model.kernel_compiler import Writer
from model.kernel_words import FLOAT, INT, NOTHING, TRUTH, Intrinsic, Kind, Value

EIGHT = Kind("eight floats", "<8 x double>")
NUMBERS, HALF = 0x7FFF_FFFF, 0x3FFF_FFFF
FOUR, SIXTEEN, THIRTY_TWO = np.uint64(4), np.uint64(16), np.uint64(32)
MACHINERY = np.uint64(1)
LOW_32 = np.uint64(0xFFFF_FFFF)


# ---- what LLVM says better
def _instants(order: str) -> Intrinsic:
    """The comparison of two instants; neither is NaN, for which a processor would have to look apart."""
    return Intrinsic(
        lambda writer, given: writer.value(TRUTH, f"fcmp nnan {order} double {given[0].text}, {given[1].text}")
    )


def _eight(writer: Writer, given: list[Value]) -> Value:
    """One by one: to read in one piece what has just been written in several, a processor would wait until that is in memory."""
    eight = Value(EIGHT, "poison")
    for number in range(8):
        place = writer.item(given[0], writer.arithmetic(ast.Add, given[1], Value(INT, str(number), number)), 8)
        one = writer.value(FLOAT, f"load volatile double, ptr {place.text}")
        eight = writer.value(EIGHT, f"insertelement {EIGHT.llvm} {eight.text}, double {one.text}, i64 {number}")
    return eight


def _least(writer: Writer, given: list[Value]) -> Value:
    left = [writer.value(FLOAT, f"extractelement {EIGHT.llvm} {given[0].text}, i64 {number}") for number in range(8)]
    while len(left) > 1:
        left = [writer.least(pair, ast.Lt) for pair in zip(left[::2], left[1::2], strict=True)]
    return left[0]


def _which(writer: Writer, given: list[Value]) -> Value:
    one = writer.value(EIGHT, f"insertelement {EIGHT.llvm} poison, double {given[1].text}, i64 0")
    same = writer.value(EIGHT, f"shufflevector {EIGHT.llvm} {one.text}, {EIGHT.llvm} poison, <8 x i32> zeroinitializer")
    found = writer.value(TRUTH, f"fcmp nnan oeq {EIGHT.llvm} {given[0].text}, {same.text}")
    bits = writer.value(INT, f"bitcast <8 x i1> {found.text} to i8")
    return writer.value(INT, f"zext i8 {bits.text} to i64")


def _lowest_bit(writer: Writer, given: list[Value]) -> Value:
    writer.unit.declare("i64 @llvm.cttz.i64(i64, i1)")
    return writer.value(INT, f"call i64 @llvm.cttz.i64(i64 {given[0].text}, i1 true)")


def _one_of(writer: Writer, given: list[Value]) -> Value:
    test, yes, no = given
    return writer.value(INT, f"select i1 {test.text}, i64 {yes.text}, i64 {no.text}, !unpredictable !1")


def _copy_event(writer: Writer, given: list[Value]) -> Value:
    to, event = given
    piece = f"<{EVENT.itemsize // 8} x i64>"
    copied = writer.value(to.kind, f"load {piece}, ptr {event.text}, align 8")
    writer.add(f"store {piece} {copied.text}, ptr {to.text}, align 8")
    return Value(NOTHING, "")


earlier, at_once = _instants("olt"), _instants("oeq")
eight_from = Intrinsic(_eight)  # neighbours of a column, from an index on
least_of = Intrinsic(_least)  # of eight
which_of = Intrinsic(_which)  # eight are this number: a bit for each
lowest_bit = Intrinsic(_lowest_bit)  # the number of the lowest bit that is set; there is one
one_of = Intrinsic(_one_of)  # the second if the first is true, else the third; without a jump, which would be guessed wrong
copy_event = Intrinsic(_copy_event)  # write over the first event what the second says, the time apart


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


@part
def comes_before(sim: Any, time: float, whose: Any, what: Any, number: int, place: int) -> bool:
    """Is (time, whose, what, number) earlier than the event at this place?"""
    if at_once(time, due(sim)[place]):
        return has_precedence(whose, what, number, heap(sim, place))
    return bool(earlier(time, due(sim)[place]))


@part
def has_precedence(whose: Any, what: Any, number: int, event: Any) -> bool:
    """Does (whose, what, number) come before `event`, which is due at the same instant?"""
    if whose != event.whose:
        return bool(whose < event.whose)
    if what != event.what:
        return bool(what < event.what)
    return bool(((number - event.number) & NUMBERS) > HALF)  # numbers go round


# ---- the heap
@part
def write_event(sim: Any, time: float, whose: Any, what: Any, number: int, who: int, place: int) -> None:
    """Put an event in a place."""
    due(sim)[place] = time
    event = heap(sim, place)
    event.whose, event.what, event.number, event.who = whose, what, number, who


@part
def move_event(sim: Any, time: float, place: int, to: int) -> None:
    """Put the event of one place, due at this time, in another one, which is vacant."""
    due(sim)[to] = time
    copy_event(heap(sim, to), heap(sim, place))


@part
def next_number(sim: Any) -> int:
    """The number of the next event that is scheduled; it is odd, so that none is 0 when numbers go round: 0 is no event's."""
    sim.numbered = (sim.numbered + 2) & NUMBERS
    return int(sim.numbered)


@part
def schedule(sim: Any, delay_s: float, whose: Any, what: Any, who: int) -> int:
    """An event after `delay_s`. Returns its number."""
    if not delay_s >= 0.0:
        sim.broken, sim.spare_turns, delay_s = 1, 0, 0.0
    time = sim.now + delay_s
    number = next_number(sim)
    hole = sim.vacant
    if hole >= 0:
        sim.vacant = NONE
        if 8 * hole + 8 < sim.heap_len:
            sink(sim, time, whose, what, number, who, hole)
            return number
    else:
        hole = sim.heap_len
        sim.heap_len = hole + 1
        while hole >= 8:
            parent = (hole >> 3) - 1
            parent_s = due(sim)[parent]
            if at_once(time, parent_s):
                rise_by_key(sim, time, whose, what, number, who, hole)
                return number
            if not earlier(time, parent_s):
                break
            move_event(sim, parent_s, parent, hole)
            hole = parent
    write_event(sim, time, whose, what, number, who, hole)
    may_be_first(sim, time, hole)
    return number


@seldom
def rise_by_key(sim: Any, time: float, whose: Any, what: Any, number: int, who: int, hole: int) -> None:
    """Move the vacant place up from `hole` to where this event belongs, and put it there."""
    while hole >= 8:
        parent = (hole >> 3) - 1
        if not comes_before(sim, time, whose, what, number, parent):
            break
        move_event(sim, due(sim)[parent], parent, hole)
        hole = parent
    write_event(sim, time, whose, what, number, who, hole)
    find_first_by_key(sim)


@apart
def sink(sim: Any, time: float, whose: Any, what: Any, number: int, who: int, hole: int) -> None:
    """Move the vacant place down from `hole`, in the upper row, to where this event belongs, and put it there."""
    upper = hole
    while 8 * hole + 8 < sim.heap_len:
        child = 8 * hole + 8
        children_s = eight_from(due(sim), child)
        first_s = least_of(children_s)
        which = which_of(children_s, first_s)
        if which & (which - 1) or at_once(time, first_s):
            sink_by_key(sim, time, whose, what, number, who, hole)
            return
        if earlier(time, first_s):
            break
        child += lowest_bit(which)
        move_event(sim, first_s, child, hole)
        hole = child
    write_event(sim, time, whose, what, number, who, hole)
    may_be_first(sim, due(sim)[upper], upper)


@seldom
def sink_by_key(sim: Any, time: float, whose: Any, what: Any, number: int, who: int, hole: int) -> None:
    """As `sink`, from `hole` on, where events are due at the same instant."""
    count = sim.heap_len
    while 8 * hole + 8 < count:
        least = 8 * hole + 8
        for other in range(least + 1, min(least + 8, count)):
            event = heap(sim, other)
            if comes_before(sim, due(sim)[other], event.whose, event.what, event.number, least):
                least = other
        if comes_before(sim, time, whose, what, number, least):
            break
        move_event(sim, due(sim)[least], least, hole)
        hole = least
    write_event(sim, time, whose, what, number, who, hole)
    find_first_by_key(sim)


# ---- the upper row
@part
def may_be_first(sim: Any, time: float, place: int) -> None:
    """An event that is due at `time` has come to a place; below the upper row, none is due before all of that."""
    first_s = sim.first_s
    if at_once(time, first_s):
        find_first_by_key(sim)
    else:
        sim.first = one_of(earlier(time, first_s), place, sim.first)
        sim.first_s = min(time, first_s)


@part
def leave_vacant(sim: Any) -> None:
    """The first event happens now. Which of the others in the upper row is due first?"""
    sim.vacant = sim.first
    due(sim)[sim.first] = math.inf
    upper_s = eight_from(due(sim), 0)
    first_s = least_of(upper_s)
    which = which_of(upper_s, first_s)
    if which & (which - 1) and first_s < math.inf:
        find_first_by_key(sim)
    else:
        sim.first, sim.first_s = lowest_bit(which), first_s


@seldom
def find_first_by_key(sim: Any) -> None:
    """Which event of the upper row is due first? By key, where several are due at once."""
    first = 0
    for place in range(1, min(8, sim.heap_len)):
        event = heap(sim, place)
        if comes_before(sim, due(sim)[place], event.whose, event.what, event.number, first):
            first = place
    sim.first, sim.first_s = first, due(sim)[first]


@part
def fill_vacancy(sim: Any) -> None:
    """The earliest event has happened and none took its place: the last one does."""
    hole = sim.vacant
    sim.vacant = NONE
    sim.heap_len -= 1
    last = sim.heap_len
    time, event = due(sim)[last], heap(sim, last)
    due(sim)[last] = math.inf
    if 8 * hole + 8 <= last:
        sink(sim, time, event.whose, event.what, event.number, event.who, hole)
    else:  # the last may be the vacant place itself, which then stays empty
        move_event(sim, time, last, hole)
        sim.first = one_of(sim.first == last, hole, sim.first)
