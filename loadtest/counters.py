"""What processes did, from outside: CPU time, run delay and switches, steal, and a fixed probe of the host's speed.

    python -m loadtest.counters OUT CORE OWN name=pid,pid ...     until SIGINT or SIGTERM

A JSON line every quarter of a second: `at_s` (epoch), `processes` (name -> [CPU s, run delay s, times scheduled], of all threads and
descendants since each began), `steal_s` and `busy_s` of all cores, and `probe_s`: CPU time of a fixed piece of work on core CORE. The
sampling itself runs on core OWN, and only while nothing else wants to: the generator's core is that one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from threading import Event
from typing import Any

EVERY_S = 0.25
_PROBE = bytes(65_536)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def _children(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    return [pid, *(other for child in _children(pid) for other in family(child))]


def process_counts(pids: list[int]) -> list[float]:
    """[CPU s, run delay s, times scheduled] of processes with all their threads, and the CPU s of their first threads alone."""
    totals = [0.0, 0.0, 0.0, 0.0]
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208  # a hundred times a second: no Path objects
                with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/task/{task}/schedstat") as file:  # noqa: PTH123  # the same
                    run_ns, delay_ns, times = map(int, file.read().split())
                    first_ns = run_ns if int(task) == pid else 0
                    more = (run_ns / 1e9, delay_ns / 1e9, times, first_ns / 1e9)
                    totals = [had + one for had, one in zip(totals, more, strict=True)]
    return totals


def probe_s() -> float:
    """CPU time of a fixed piece of work: about 0.1 ms."""
    began_s = time.thread_time()
    hashlib.sha256(_PROBE).digest()
    sum(range(2000))
    return time.thread_time() - began_s


def sample(named: dict[str, list[int]], core: int, own: int) -> dict[str, Any]:
    """One line."""
    fields = [int(text) / _TICKS_PER_S for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    os.sched_setaffinity(0, {core})
    probed_s = min(probe_s(), probe_s())  # the second one finds its code warm
    os.sched_setaffinity(0, {own})
    return {
        "at_s": time.time(),
        "processes": {name: process_counts(pids) for name, pids in named.items()},
        "steal_s": fields[7],
        "busy_s": sum(fields) - fields[3] - fields[4],
        "probe_s": probed_s,
    }


def told_to_stop() -> Event:
    """Set once somebody interrupts or terminates this process."""
    told = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    return told


def main() -> int:
    """Sample until told to stop."""
    out, core, own = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    roots = {name: [int(pid) for pid in pids.split(",")] for name, _, pids in (part.partition("=") for part in sys.argv[4:])}
    stop = told_to_stop()
    os.nice(10)
    if hasattr(os, "SCHED_IDLE"):  # nice alone lets a sample finish its slice while the generator should send
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    following_s = time.monotonic()
    with out.open("w") as file:
        named: dict[str, list[int]] = {}
        for number in range(10**9):
            if number % 4 == 0:  # who is there changes seldom
                named = {name: [pid for root in pids for pid in family(root)] for name, pids in roots.items()}
            file.write(json.dumps(sample(named, core, own)) + "\n")
            file.flush()
            following_s += EVERY_S
            if stop.is_set():
                return 0
            time.sleep(max(0.0, following_s - time.monotonic()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
