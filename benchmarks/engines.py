"""How fast the engines are, beside simulators that anyone can install: `python -m benchmarks.engines [--quick]`.

Times are processor time of this process, so that a shared machine disturbs them less; a ratio compares two measurements of one
run of this script, taken in turn. Peers (`pip install ciw salabim cimba`) that are missing are named as such.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import baseline_simpy
from benchmarks import networks as n
from model import platform as rooms
from model.arrivals import schedule
from model.engines.choose import engine_for, make_environment
from model.engines.compiled_features import KERNELS
from model.network import Network
from model.tables import lower
from scenarios.loader import load_scenario

ROOT = Path(__file__).resolve().parent.parent
LOAD = """
import sys, time
import numpy, simpy
wall, processor = time.perf_counter(), time.process_time()
from model.engines import compiled, compiled_features, compiled_kernel
compiled_kernel.kernel_with(compiled_features.KERNELS[int(sys.argv[1])])
print(time.perf_counter() - wall, time.process_time() - processor)
"""


def per_request_us(engine: n.EngineName, network: Network, gaps_s: np.ndarray, operation: np.ndarray) -> float:
    """Microseconds of processor time for a request."""
    took_s, runner = n.run(engine, network, gaps_s, operation)
    runner.close()
    return took_s / len(gaps_s) * 1e6


def mm8_schedule(count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(7).exponential(1 / n.MM8_RATE, count), np.zeros(count, "i4")


def beside_simpy(rounds: int, slow: int, fast: int) -> None:
    """The two networks, each round first in SimPy and then in our engines."""
    print(
        f"Processor time for a request in microseconds, median of {rounds} rounds in turn ({slow:,} / {fast:,} requests):"
    )
    for name, simpy_s, network, plan in [
        ("six stations", n.idiomatic_simpy_six, n.six_stations(), n.six_schedule),
        ("M/M/8", n.idiomatic_simpy_mm8, n.one_station(), mm8_schedule),
    ]:
        per_request_us("compiled", network, *plan(fast))  # its memory, once asked of the system, is the next run's
        measured = [
            (
                simpy_s(slow) / slow * 1e6,
                per_request_us("plain", network, *plan(slow)),
                per_request_us("compiled", network, *plan(fast)),
            )
            for _ in range(rounds)
        ]
        simpy_us, plain_us, compiled_us = (median(column) for column in zip(*measured, strict=True))
        ratio = median(row[0] / row[2] for row in measured)
        print(
            f"  {name:14} SimPy {simpy_us:8.1f}   plain {plain_us:8.1f}   compiled {compiled_us:6.3f}   SimPy / compiled {ratio:5.0f}"
        )
        if name == "M/M/8":
            peers(slow, compiled_us)


def peers(count: int, compiled_us: float) -> None:
    for name in n.PEERS:
        took_s = n.peer_mm8(name, count)
        if took_s is None:
            print(f"  {'M/M/8':14} {name}: not installed")
        else:
            print(
                f"  {'M/M/8':14} {name} {took_s / count * 1e6:8.1f}   {name} / compiled {took_s / count * 1e6 / compiled_us:5.0f}"
            )


def platform(rounds: int, slow_s: float, fast_s: float) -> None:
    """The shipped baseline, over simulated seconds, in turn in SimPy's idiom and in our engines."""
    measured = []
    for _ in range(rounds):
        row = {}
        for name, duration_s in (("simpy", slow_s), ("plain", slow_s), ("compiled", fast_s)):
            scenario = load_scenario("baseline", [f"run.duration_s={duration_s}", "run.warmup_s=0"])
            network = rooms.build_network(scenario)
            plan = schedule(scenario, network, rooms.build_graph(scenario.population, 1), 1)
            if name == "simpy":
                took_s, by_hand = baseline_simpy.run(scenario, network, plan)
                answer_ms = by_hand.answer_s / by_hand.answered * 1e3
            else:
                env = make_environment("plain" if name == "plain" else "compiled")
                runner = engine_for("plain" if name == "plain" else "compiled", lower(network, 1), env)
                runner.arrive(plan.gap_s, plan.operation, plan.attributes)
                began = time.process_time()
                env.run()
                took_s = time.process_time() - began
                recording = runner.record()
                runner.close()
                answer_ms = float(np.nanmean(recording.responded_s - recording.arrived_s)) * 1e3
            row[name] = (took_s / len(plan.gap_s) * 1e6, answer_ms)
        measured.append(row)
    by_hand_us, plain_us, compiled_us = (
        median(row[name][0] for row in measured) for name in ("simpy", "plain", "compiled")
    )
    ratio = median(row["simpy"][0] / row["compiled"][0] for row in measured)
    print(
        f"  {'baseline':14} SimPy {by_hand_us:8.1f}   plain {plain_us:8.1f}   compiled {compiled_us:6.3f}   SimPy / compiled {ratio:5.0f}"
    )
    answers = ", ".join(f"{name} {measured[-1][name][1]:.3f}" for name in measured[-1])
    print(f"  {'':14} mean time to an answer in ms: {answers}")


def scaling(counts: list[int]) -> None:
    """What a request costs as runs get longer."""
    print("Six stations, by number of requests (microseconds a request; bytes a request beyond its three instants):")
    for count in counts:
        per_request_us("compiled", n.six_stations(), *n.six_schedule(count))
        took_s, engine = n.run("compiled", n.six_stations(), *n.six_schedule(count))
        print(f"  {count:12,} {took_s / count * 1e6:8.3f} us {bytes_beyond(engine) / count:8.1f} bytes")
        engine.close()


def bytes_beyond(engine: object) -> float:
    """All the memory of the engine's tables, the three instants of each request apart."""
    memory = engine.memory  # type: ignore[attr-defined]  # the compiled engine's
    return sum(table.nbytes for table in memory.tables()) - 24.0 * memory.get("requests")


def backlogs(sizes: list[int], count: int) -> None:
    """What a request costs with so many others there: in a waiting line, and in the heap of events."""
    print(f"By backlog (microseconds a request, {count:,} requests through a backlog of that size):")
    for size in sizes:
        rng = np.random.default_rng(3)
        gaps = np.concatenate([np.zeros(size), rng.exponential(1.0, count)])
        line_us = per_request_us("compiled", n.one_station(1), gaps, np.zeros(len(gaps), "i4"))
        gaps = rng.exponential(1 / size, size * 3 + count)
        crowd_us = per_request_us("compiled", n.crowd(), gaps, np.zeros(len(gaps), "i4"))
        print(f"  {size:12,} waiting in line {line_us:8.3f}   in the heap {crowd_us:8.3f}")


def compilation() -> None:
    """Loading each kernel without and with its cache, in a copy of the package."""
    print("Loading the compiled engine (seconds in all, and of processor time):")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "model", Path(folder) / "model", ignore=shutil.ignore_patterns("__pycache__"))
        for number, features in enumerate(KERNELS):
            for name in ("cold", "from the cache"):
                wall, processor = loading(Path(folder), number)
                print(f"  kernel with {', '.join(sorted(features)) or 'no features'}, {name}: {wall:.2f} s, {processor:.2f} s")


def loading(folder: Path, number: int) -> list[float]:
    """Seconds, and seconds of processor time, to load a kernel of the package in this folder, in a new process."""
    command = [sys.executable, "-c", LOAD, str(number)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [float(word) for word in done.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller runs: under a minute")
    quick = parser.parse_args().quick
    n.run("compiled", n.six_stations(), *n.six_schedule(1000))  # load the machine code
    n.run("plain", n.six_stations(), *n.six_schedule(100))
    beside_simpy(3 if quick else 5, 5_000 if quick else 20_000, 200_000 if quick else 1_000_000)
    platform(1 if quick else 5, 5.0 if quick else 20.0, 60.0 if quick else 1000.0)
    scaling([100_000, 1_000_000] if quick else [100_000, 1_000_000, 10_000_000])
    backlogs([100, 10_000] if quick else [100, 10_000, 1_000_000], 200_000 if quick else 1_000_000)
    compilation()


if __name__ == "__main__":
    main()
