"""When the system's core was away or slow: others use the same machine, and what the kernel counts as steal is not all of it.

    python -m loadtest.stalls OUT CORE     until SIGINT or SIGTERM

A process that asks to be woken every few milliseconds, before everybody else (real-time priority, which takes root), on core
CORE. If it wakes late, nobody ran there. OUT gets a JSON line for each time it was more than `LEAST_S` late: `at_s` (epoch) and
`stalled_s`. Each time it does a small fixed piece of work too, and every tenth of a second a line says how long that took: `at_s` (when
the tenth ended), `took_s` (the mean) and `each_ns`. Where real-time priority may not be had, one line says so, and nothing is known.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any, TypedDict

from loadtest.counters import told_to_stop

EVERY_S = 0.005
"""Between two looks: costs 1.5 % of a core. A stall shorter than this may pass unseen."""
LEAST_S = 0.003
WORK = range(800)
"""To add up: about 13 us."""
TENTH_S = 0.1
SLOW = 1.3
"""A quarter of a second is slow in which the work takes so many times what it takes in the middle one."""
QUARTER_S = 0.25
TIMES = 10
"""That the work was done, for one factor of a run's course: a twentieth of a second."""


class Stalls(TypedDict):
    """What a run had of them: how many, their share of the time, the longest; and the share of its quarter seconds that were slow."""

    n: int
    ratio: float
    longest_s: float
    slow_ratio: float


def stalls_of(lines: list[dict[str, Any]], from_s: float, to_s: float) -> Stalls | None:
    """Those that ended between two epoch times; None if nothing is known."""
    if any("unknown" in line for line in lines):
        return None
    found = [float(line["stalled_s"]) for line in lines if "stalled_s" in line and from_s <= line["at_s"] < to_s]
    quarters: dict[int, list[float]] = {}
    for line in lines:
        if "took_s" in line and from_s <= line["at_s"] < to_s:
            quarters.setdefault(int((line["at_s"] - from_s) / QUARTER_S), []).append(float(line["took_s"]))
    took_s = [fmean(within) for within in quarters.values()]
    slow = sum(one > SLOW * median(took_s) for one in took_s) / max(len(took_s), 1)
    return Stalls(n=len(found), ratio=sum(found) / (to_s - from_s), longest_s=max(found, default=0.0), slow_ratio=slow)


def course_of(lines: list[dict[str, Any]], from_s: float, to_s: float) -> list[tuple[float, float]]:
    """How it went with the core between two epoch times: (seconds since the first, how long work takes from then on beside the usual).

    Each factor is the average of `TIMES` times that the work was done. While the core was away, work takes infinitely long.
    """
    pieces: list[tuple[float, float]] = []
    for line in lines:
        if "each_ns" in line and from_s < line["at_s"] < to_s + TENTH_S:
            each_ns, began_s = line["each_ns"], line["at_s"] - TENTH_S - from_s
            for first in range(0, len(each_ns) - TIMES // 2, TIMES):
                pieces.append((max(began_s + TENTH_S * first / len(each_ns), 0.0), fmean(each_ns[first : first + TIMES])))
    usual = fmean(took for _, took in pieces) if pieces else 1.0
    course = [(at_s, took / usual) for at_s, took in pieces]
    for line in lines:
        if "stalled_s" in line and from_s < line["at_s"] - line["stalled_s"] and line["at_s"] < to_s:
            away_s, back_s = line["at_s"] - line["stalled_s"] - from_s, line["at_s"] - from_s
            before = max((one for one in course if one[0] <= away_s), default=(0.0, 1.0))[1]
            within = [factor for at_s, factor in course if away_s <= at_s <= back_s]
            course = [one for one in course if not away_s <= one[0] <= back_s]
            course += [(away_s, math.inf), (back_s, within[-1] if within else before)]
            course.sort()
    return course


def _work_s() -> float:
    """How long the work takes whose code and numbers the caches have."""
    sum(WORK)
    began_s = time.perf_counter()
    sum(WORK)
    return time.perf_counter() - began_s


def main() -> int:
    """Look until told to stop."""
    out, core = Path(sys.argv[1]), int(sys.argv[2])
    stop = told_to_stop()
    with out.open("w") as file:
        try:
            os.sched_setaffinity(0, {core})
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except (AttributeError, OSError) as error:  # another system than Linux, or no right to it
            file.write(json.dumps({"unknown": str(error)}) + "\n")
            return 0
        gc.disable()
        tenth_s, took_s = time.perf_counter() + TENTH_S, list[float]()
        looked_s = time.perf_counter()
        while not stop.is_set():
            time.sleep(EVERY_S)
            now_s = time.perf_counter()
            late_s = now_s - looked_s - EVERY_S
            took_s.append(_work_s())
            if late_s > LEAST_S:
                file.write(json.dumps({"at_s": time.time(), "stalled_s": late_s}) + "\n")
                file.flush()
            if now_s >= tenth_s:
                each_ns = [round(one_s * 1e9) for one_s in took_s]
                file.write(json.dumps({"at_s": time.time(), "took_s": fmean(took_s), "each_ns": each_ns}) + "\n")
                tenth_s, took_s = now_s + TENTH_S, []
            looked_s = time.perf_counter()
    return 0


if __name__ == "__main__":
    sys.exit(main())
