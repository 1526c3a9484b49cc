"""What the machine did to one run, as the CPU of its processes tells it, never its latencies: how fast the host was from moment to moment.

A machine that others use takes now more, now less time for the same work. In each quarter of a second (or as many of them as a hundred
requests take) the model's host is made so fast that a finished request costs the model as much CPU as it cost the system; within it the
speed goes as a fixed piece of work did that was done 200 times a second on the same core (`stalls.course_of`). The model's CPU for a
request depends on how its processes sleep, and so on its speed: it is found by `ROUNDS` replays, each of which corrects the one before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from loadtest.estimates import Floats
from loadtest.observed_run import NETWORKED, cpu_by_role

if TYPE_CHECKING:
    from loadtest.traces import Trace
    from model.control import Course

LOOK_S = 0.05
"""Between two looks at how long the model's cores have been busy; the system's counters are read every quarter of a second."""
REQUESTS = 100
"""Fewer say little about what one costs: half of it is a request's coefficient of variation."""
ROUNDS, DRAWS, STEP = 6, 2, 0.8
"""Replays that correct the course, draws that each averages over, and the power of a correction: 1 overshoots."""
LEAST, MOST = 0.3, 4.0
"""Of a factor: what a moment shows beyond that is an accident of counting."""


@dataclass(frozen=True)
class Work:
    """Of each of a run's pieces of time: edges in seconds since the schedule's start, CPU seconds beyond idleness, requests finished."""

    edges_s: Floats
    cpu_s: Floats
    finished: Floats


def edges_of(at_s: Floats, trace: Trace) -> Floats:
    """Where the pieces begin and end, of the instants `at_s` at which it was looked: in between, nothing is known for sure."""
    within = at_s[(at_s >= 0) & (at_s <= trace.duration_s)]
    apart = trace.duration_s / max(len(within), 1)
    return within[:: max(round(REQUESTS * trace.duration_s / max(len(trace.rows), 1) / apart), 1)]


def finished_in(trace: Trace, edges_s: Floats) -> Floats:
    """How many requests were answered in each piece."""
    return np.asarray(np.histogram(trace.rows.finished_s.dropna(), edges_s)[0], dtype=float)


def work_of(trace: Trace, idle_ratio: dict[str, float]) -> Work:
    """What the networked processes did in an observed run."""
    lines = trace.lines("counters.jsonl")
    at_s = np.array([line["at_s"] for line in lines]) - float(trace.header["start_epoch_s"])
    edges_s = edges_of(at_s, trace)
    used = {role: one for role, one in cpu_by_role(lines).items() if role in NETWORKED}
    idle = sum(idle_ratio.get(role, 0.0) for role in used)
    cpu_s = np.diff(np.interp(edges_s, at_s, sum(used.values(), np.zeros(len(at_s))))) - idle * np.diff(edges_s)
    return Work(edges_s, np.maximum(cpu_s, 0.0), finished_in(trace, edges_s))


def course_for(work: Work, meter: Course, speed: float, replayed: Callable[[Course, int], Trace]) -> Course:
    """How long work took in the run beside what it takes in the model, from moment to moment.

    `meter`: how that went for a fixed piece of work; empty if it is not known. `speed`: of the model's host. `replayed`: the run's
    arrivals through the model on a host of this course, by these draws; its header has `host_busy_s`.
    """
    factors = np.ones(len(work.cpu_s))
    cost_s = work.cpu_s / np.maximum(work.finished, 1)
    for _ in range(ROUNDS):
        cpu_s, finished = np.zeros(len(factors)), np.zeros(len(factors))
        course = _joined(work.edges_s, factors, meter)
        for draw in range(1, DRAWS + 1):
            trace = replayed(course, draw)
            at_s, busy_s = np.array(trace.header["host_busy_s"]).T
            cpu_s += np.diff(np.interp(work.edges_s, at_s, busy_s)) * speed
            finished += finished_in(trace, work.edges_s)
        modelled_s = cpu_s / np.maximum(finished, 1)
        known = (cost_s > 0) & (modelled_s > 0) & (work.finished > 0) & (finished > 0)
        off = np.where(known, cost_s / np.where(known, modelled_s, 1.0), 1.0)
        factors = np.clip(factors * np.clip(off, 0.5, 2.0) ** STEP, LEAST, MOST)
    return _joined(work.edges_s, factors, meter)


def felt(meter: Course, sensitivity: float) -> Course:
    """The course of the meter's work as the platform feels it, by a power of it (`unsteady.py`); where the core was away it stays away."""
    return tuple((at_s, takes if takes == math.inf else takes**sensitivity) for at_s, takes in meter)


def _joined(edges_s: Floats, factors: Floats, meter: Course) -> Course:
    """The factors of the pieces, within each as the meter says; where the core was away it stays away."""
    pieces = [(at_s, takes) for at_s, takes in meter if takes < math.inf]
    if not pieces:
        return tuple(zip(edges_s[:-1].tolist(), factors.tolist(), strict=True))
    of = np.clip(np.searchsorted(edges_s, [at_s for at_s, _ in pieces], side="right") - 1, 0, len(factors) - 1)
    takes = np.array([one for _, one in pieces])
    mean = np.array([takes[of == piece].mean() if (of == piece).any() else 1.0 for piece in range(len(factors))])
    scaled = iter((factors[of] * takes / mean[of]).tolist())
    return tuple((at_s, one if one == math.inf else next(scaled)) for at_s, one in meter)
