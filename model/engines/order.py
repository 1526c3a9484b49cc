"""What comes first when several things happen at one instant; part of the model's meaning, the same in both engines.

SimPy's queue is ordered by (time, priority). Control processes use SimPy's own priorities 0 and 1. Then:

- `AGENDA`: tasks that were freed, first in first out;
- `TOLD`: those who watch for answers and milestones;
- timed traffic, by *content key*: what the event is, never when it was scheduled. The upper 64 bits say whose it is: 1 for
  the machinery of stations and topics, origin + 2 for a request or a batch; the lower 64 hold the path and the kind.

An origin is a request's number, or for a polled batch `BATCH_ORIGIN` plus its topic and number.
"""

from __future__ import annotations

AGENDA, TOLD = 2, 3
ARRIVE, DEADLINE, WAKE, SHARE, LINGER, ACKNOWLEDGE, POLL, REBALANCE, RETRY, CORES = range(10)  # kinds of timed events

BATCH_ORIGIN = 1 << 60
OK, REJECTED, TIMED_OUT, UNDER_WAY = range(4)  # outcomes of a request
OUTCOMES = ("ok", "rejected", "timed_out", "under_way")


def traffic_key(origin: int, path: int, kind: int) -> int:
    """The content key of a request's or a batch's timed event; `path` has 60 bits."""
    return (origin + 2) << 64 | path << 4 | kind


def system_key(index: int, part: int, number: int, kind: int) -> int:
    """The content key of a station's, host's or topic's event: its index, a partition or member, and a running number."""
    return 1 << 64 | (number & 0xFFFF_FFFF) << 32 | part << 16 | index << 4 | kind


def batch_origin(topic: int, number: int) -> int:
    """The origin of batch `number` of a topic."""
    return BATCH_ORIGIN + (topic << 44) + number


def until_tick_s(now_s: float, after_s: float, tick_s: float) -> float:
    """How long it is to the first tick of a kernel that comes `after_s` from now or later; 0: it ticks whenever it is asked."""
    if tick_s <= 0:
        return after_s
    at_s = now_s + after_s
    tick = float(int(at_s / tick_s))
    if tick * tick_s < at_s:
        tick += 1
    return max(0.0, tick * tick_s - now_s)
