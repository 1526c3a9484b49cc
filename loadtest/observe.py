"""`flashcrowd observe`: open arrivals at the reference, and what each request, stage and process did.

The system gets the first core and the generator the second. Every request has an intended instant; what goes out late is counted, so
that a saturated generator is seen. With --locustfile any HTTP system is driven by its own users instead, and rows are all that is recorded.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.arguments import Parser, duration_s, rate, scenario_of

if TYPE_CHECKING:
    from loadtest.traces import Trace
    from model.scenario import Scenario

EXAMPLES = """examples:
  flashcrowd observe                                       the scenario fidelity, 20 s
  flashcrowd observe fidelity --arrivals-per-s 150 --duration 60s --out results/at150
  flashcrowd observe fidelity --set feed.strategy=push --set stations.api_connections.servers=4
  flashcrowd observe --locustfile theirs.py --host http://127.0.0.1:8080 --users 20 --duration 1m
"""


def _burst_ms(text: str) -> float:
    if not (text.isascii() and text.isdigit() and 10 <= int(text) <= 5_000):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 10 to 5000")
    return float(text)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = Parser("flashcrowd observe", __doc__, EXAMPLES)
    made.add_scenario("fidelity")
    made.add_argument("--arrivals-per-s", type=rate, metavar="R", help="requests per second (the scenario's)")
    made.add_argument("--duration", type=duration_s, metavar="T", help="of the schedule (the scenario's)")
    made.add_argument("--burst-ms", type=_burst_ms, default=0.0, metavar="N", help="all arrivals of so long a time come at once")
    made.add_argument("--out", type=Path, default=Path("results/observed"), metavar="DIR", help="the trace (results/observed)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the header and the figures there as well")
    made.add_argument("--state-dir", type=Path, metavar="DIR", help="of the reference (a new one)")
    made.add_argument("--locustfile", type=Path, metavar="FILE", help="drive another system by this file's users")
    made.add_argument("--host", metavar="URL", help="of that system")
    made.add_argument("--users", type=int, default=10, metavar="N", help="of that file (10)")
    return made


def at_rate(scenario: Scenario, arrivals_per_s: float | None, length_s: float | None) -> Scenario:
    """The scenario with that many requests per second, and that long; its warm-up is at most a quarter of it."""
    import dataclasses

    from model.platform import arrival_rates

    run = scenario.run
    factor = run.load_factor
    if arrivals_per_s is not None:
        factor = arrivals_per_s / sum(arrival_rates(scenario).values()) * run.load_factor
    duration = length_s or run.duration_s
    changed = dataclasses.replace(
        run, duration_s=duration, load_factor=factor, warmup_s=min(run.warmup_s, duration / 4)
    )
    return dataclasses.replace(scenario, run=changed)


def _observe(arguments: argparse.Namespace, scenario: Scenario, document: str) -> Trace:
    from loadtest.observing import Bench, Cores

    with tempfile.TemporaryDirectory(prefix="flashcrowd-observe-") as scratch:
        state_dir = arguments.state_dir or Path(scratch) / "state"
        with Bench(scenario, scenario.run.seed, state_dir, Path(scratch), Cores.here()) as bench:
            return bench.observe(
                scenario, scenario.run.seed, arguments.out, document=document, label="observe", burst_s=arguments.burst_ms / 1000
            )


def _locust(arguments: argparse.Namespace) -> Trace:
    """Another system, by the users of a locustfile. Raises `CompareError`."""
    from loadtest import observed_locust
    from loadtest.observing import Cores

    return observed_locust.run(
        arguments.locustfile, arguments.host, arguments.users, arguments.duration or 20.0, arguments.out, Cores.here().generator
    )


def summary(trace: Trace) -> dict[str, Any]:
    """The header, and per operation and milestone n and percentiles in ms."""
    from loadtest.cells import cells_of

    header = {key: value for key, value in trace.header.items() if key != "document"}
    return {"header": header, "cpu_us_per_request": cpu_us_per_request(trace), "cells": cells_of(trace)}


def cpu_us_per_request(trace: Trace) -> dict[str, float]:
    """CPU of each role beyond idleness for each request, in microseconds; empty where no counters were recorded."""
    from loadtest.observed_run import observed

    try:
        seen = observed(trace, with_spans=False)
    except ValueError:
        return {}
    return {role: used_s / max(seen.requests, 1) * 1e6 for role, used_s in seen.cpu_s.items()}


def show(trace: Trace, path: Path) -> None:
    """A table of what was observed or computed."""
    from rich.console import Console
    from rich.table import Table

    from loadtest.cells import STATISTICS, cells_of
    from loadtest.report import number

    table = Table(title=f"{trace.header['made_by']} {trace.header['scenario']}: times in ms", title_justify="left")
    for head in ("", "n", "per s", *STATISTICS, "not ok"):
        table.add_column(head, justify="left" if not head else "right")
    for name, cell in cells_of(trace).items():
        times = [number(cell[f"{key}_s"] and cell[f"{key}_s"] * 1000) for key in STATISTICS]
        table.add_row(name, f"{cell['n']:,}", number(cell["per_s"]), *times, str(cell["not_ok"]))
    console = Console() if sys.stdout.isatty() else Console(width=120)
    console.print(table)
    if "late_ratio" in trace.header:
        late, bound = trace.header["late_ratio"], trace.header["late_bound_s"]
        console.print(f"{late:.2%} of the sends were more than {bound * 1000:g} ms late", highlight=False)
    if stalls := trace.header.get("stalls"):
        away = f"{stalls['ratio']:.2%} of the time, {stalls['longest_s'] * 1000:.0f} ms at the longest"
        console.print(f"the system's core was away for {away}", highlight=False)
    if used := cpu_us_per_request(trace):
        parts = ", ".join(f"{role} {value:.0f}" for role, value in used.items())
        console.print(f"CPU per request beyond idleness: {sum(used.values()):.0f} us ({parts})", highlight=False)
    console.print(f"trace in {path}", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Observe: 0 done, 1 a part failed, 2 bad input, 130 interrupted."""
    arguments = parser().parse_args(argv)
    from loadtest.both_sides import CompareError

    try:
        if arguments.locustfile:
            if not arguments.host:
                raise ValueError("--locustfile needs --host, the URL of the system to drive")
            if not arguments.locustfile.is_file():
                raise ValueError(f"--locustfile {arguments.locustfile}: no such file")
        else:
            from loadtest.observing import check

            scenario, document = scenario_of(arguments)
            scenario = at_rate(scenario, arguments.arrivals_per_s, arguments.duration)
            check(scenario)
    except (ValueError, OSError) as error:
        print(f"flashcrowd observe: {error}", file=sys.stderr)
        return 2
    try:
        trace = _locust(arguments) if arguments.locustfile else _observe(arguments, scenario, document)
        if arguments.json:
            arguments.json.write_text(json.dumps(summary(trace), indent=2) + "\n")
        show(trace, arguments.out)
        return 0
    except CompareError as error:
        print(f"flashcrowd observe: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything that was started has been stopped", file=sys.stderr)
        return 130
