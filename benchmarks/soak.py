"""A long run at half of capacity: do memory, open files or lag grow?  `python -m benchmarks.soak --minutes 60`

First the clients send as fast as answers come: that is the capacity of this machine, clients included. Then they ask half as
often, and every ten seconds each process is looked at. Printed is, for every process, what it held in the first and the last
third, and the slope of the last four fifths by least squares with its 95 % interval. What was accepted is counted at the end.
Exit code 1: something was lost or doubled, the lag grew, or memory, files or threads of a process did that holds no data.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import psutil
from scipy import stats

from benchmarks.faults import POSTS_PER_USER, USERS, all_well, bring_up, settled
from benchmarks.faulty_load import Load, wait_until
from reference_impl import inspection, lifecycle, state
from reference_impl.state import State

CLIENTS = 6
MEASURED_S = 20.0
MIB = 2**20
Samples = dict[tuple[str, str], list[tuple[float, float]]]
"""(process, what) → (seconds, value)."""


def capacity_per_s(current: State, for_s: float) -> float:
    """Answers per second of clients that ask again at once."""
    load = Load(current, USERS, USERS * POSTS_PER_USER, CLIENTS, every_s=0.0)
    load.start()
    time.sleep(for_s)
    answered = sum(load.answers.values())
    load.stop()
    return answered / for_s


def look(state_dir: Path, at_s: float, samples: Samples) -> None:
    """One sample of every process, and of the lag."""
    current = state.read(state_dir)
    assert current is not None
    for child in current.processes:
        try:
            process = psutil.Process(child.pid)
            samples[child.name, "memory MiB"].append((at_s, process.memory_info().rss / MIB))
            samples[child.name, "files"].append((at_s, process.num_fds()))
            samples[child.name, "threads"].append((at_s, process.num_threads()))
        except psutil.Error:
            continue
    for topic, records in (inspection.lag(current) or {}).items():
        samples["lag", topic].append((at_s, records))
    slot_lag = inspection.search_lag(current)["slot_lag_bytes"]
    if slot_lag is not None:
        samples["lag", "slot MiB"].append((at_s, slot_lag / MIB))


def trend(series: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    """(mean of the first third, mean of the last, slope per hour, half of its 95 % interval)."""
    at_s, values = np.array(series).T
    third, warm = max(1, len(values) // 3), len(values) // 5
    fit = stats.linregress(at_s[warm:], values[warm:])
    half = stats.t.ppf(0.975, max(1, len(values) - warm - 2)) * np.nan_to_num(fit.stderr)  # a constant has none
    return values[:third].mean(), values[-third:].mean(), 3600 * fit.slope, 3600 * half


GROWTH_PER_HOUR = 0.25
"""Of what was held at first. assumption: caches that fill and an allocator that settles stay below, a leak of this load does not."""
KEEPS_DATA = ("kafka", "postgres", "redis", "search_engine", "store")
"""Their memory grows with the data; the broker's, while its log is in memory, with every record."""


def verdict(name: str, what: str, series: list[tuple[float, float]]) -> str:
    """flat, grows, or keeps data (and grows): by the lower end of the slope's interval."""
    if name == "lag":
        return "grows" if is_growing(series) else "flat"
    first, _, slope, half = trend(series)
    if slope - half <= GROWTH_PER_HOUR * first:
        return "flat"
    return "keeps data" if name in KEEPS_DATA else "grows"


def show(samples: Samples) -> list[str]:
    """Print the table; return what grows though it should not."""
    growing = []
    print(f"{'process':24} {'what':20} {'first third':>11} {'last third':>11} {'per hour':>11} {'± (95 %)':>10}  verdict")
    for (name, what), series in sorted(samples.items()):
        if len(series) <= 4:
            continue
        first, last, slope, half = trend(series)
        judged = verdict(name, what, series)
        if judged == "grows":
            growing.append(f"{name} {what}")
        if what != "threads" or len({value for _, value in series}) > 1:
            print(f"{name:24} {what:20} {first:11,.1f} {last:11,.1f} {slope:11,.1f} {half:10,.1f}  {judged}")
    return growing


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, soak, print."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0, metavar="M", help="of the soak (default 60)")
    parser.add_argument("--every", type=float, default=10.0, metavar="S", help="between samples (default 10)")
    parser.add_argument("--kafka-storage", choices=("memory", "store"), default="memory", help="of the broker's log")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there")
    given = parser.parse_args(arguments)
    samples: Samples = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="flashcrowd-soak-") as folder:
        state_dir = Path(folder) / "state"
        try:
            print("starting servers", file=sys.stderr, flush=True)
            current = bring_up(state_dir, kafka_storage=given.kafka_storage)
            most_per_s = capacity_per_s(current, MEASURED_S)
            every_s = (CLIENTS + 1) / (most_per_s / 2)  # each writer, and the reader
            wait_until(lambda: bool(inspection.caught_up(current)) and all_well(state_dir), 120)
            print(f"capacity {most_per_s:,.0f} answers/s; half of it for {given.minutes:g} minutes", flush=True)
            load = Load(current, USERS, USERS * POSTS_PER_USER, CLIENTS, seed=2, every_s=every_s)
            began = time.monotonic()
            load.start()
            try:
                while (at_s := time.monotonic() - began) < 60 * given.minutes:
                    look(state_dir, at_s, samples)
                    print(f"\r{at_s:5.0f} s, {sum(load.answers.values()):,} answers ", end="", file=sys.stderr, flush=True)
                    time.sleep(max(0.0, given.every - (time.monotonic() - began - at_s)))
            finally:
                load.stop()
            lasted_s = time.monotonic() - began
            found = settled(current, load)
        finally:
            lifecycle.down(state_dir)
    growing = show(samples)
    answers = sum(load.answers.values())
    print(f"\n{answers:,} answers in {lasted_s:,.0f} s ({answers / lasted_s:,.1f}/s), {load.refused():,} refused")
    for operation in sorted({operation for operation, _ in load.answers}):
        print(f"  {operation:24} {sum(count for (name, _), count in load.answers.items() if name == operation):>9,} answers")
    print(f"  {'by streams':24} {load.heard:>9,} notifications")
    print(f"accepted {load.accepted.total():,}, applied {found.applied:,}, lost {found.lost}, doubled {found.doubled}")
    if given.json:
        given.json.write_text(json.dumps({f"{name}: {what}": series for (name, what), series in samples.items()}))
    print(f"grows: {', '.join(growing) or 'nothing'}")
    return 0 if found.clean and not growing else 1


def is_growing(series: list[tuple[float, float]]) -> bool:
    """Whether the slope is surely above zero, and the last third's mean above twice the first's."""
    first, last, slope, half = trend(series)
    return slope > half and last > 2 * first + 10


if __name__ == "__main__":
    sys.exit(main())
