"""When the system's core was away: others use the same machine, and what the kernel counts as steal is not all of it.

    python -m loadtest.stalls OUT CORE     until SIGINT or SIGTERM

A process that asks to be woken every few milliseconds, before everybody else (real-time priority, which takes root), on core
CORE. If it wakes late, nobody ran there. OUT gets a JSON line for each time it was more than `LEAST_S` late: `at_s` (epoch) and
`stalled_s`. Where real-time priority may not be had, one line says so, and nothing is known.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, TypedDict

from loadtest.counters import told_to_stop

EVERY_S = 0.004
"""Between two looks: costs 0.8 % of a core. A stall shorter than this may pass unseen."""
LEAST_S = 0.003


class Stalls(TypedDict):
    """What a run had of them: how many, their share of the time, the longest."""

    n: int
    ratio: float
    longest_s: float


def stalls_of(lines: list[dict[str, Any]], from_s: float, to_s: float) -> Stalls | None:
    """Those that ended between two epoch times; None if nothing is known."""
    if any("unknown" in line for line in lines):
        return None
    found = [float(line["stalled_s"]) for line in lines if from_s <= line["at_s"] < to_s]
    return Stalls(n=len(found), ratio=sum(found) / (to_s - from_s), longest_s=max(found, default=0.0))


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
        looked_s = time.perf_counter()
        while not stop.is_set():
            time.sleep(EVERY_S)
            now_s = time.perf_counter()
            late_s = now_s - looked_s - EVERY_S
            looked_s = now_s
            if late_s > LEAST_S:
                file.write(json.dumps({"at_s": time.time(), "stalled_s": late_s}) + "\n")
                file.flush()
                looked_s = time.perf_counter()
    return 0


if __name__ == "__main__":
    sys.exit(main())
