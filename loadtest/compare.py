"""`flashcrowd compare`: the same load on the model and on the reference, and what both say, side by side.

The reference's servers run on one core and the load generator on another, where there are two. Nothing is calibrated here:
the error is printed as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.arguments import Parser, duration_s, rate

if TYPE_CHECKING:
    from loadtest.both_sides import Load
    from loadtest.figures import Side, Window
    from model.scenario import Scenario

EXAMPLES = """examples:
  flashcrowd compare                                     baseline, 100 users, two minutes
  flashcrowd compare baseline --users 50 --duration 1m --set population.users=2000
  flashcrowd compare --graph data/wiki-Vote.txt --json comparison.json
  flashcrowd compare --arrivals-per-s 200 --duration 5m  open arrivals instead of closed users
"""
WARMUP_SHARE, WARMUP_MOST_S = 0.2, 30.0


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = Parser("flashcrowd compare", __doc__, EXAMPLES)
    made.add_argument(
        "scenario", nargs="?", default="baseline", help="a shipped scenario's name, or a .toml file (baseline)"
    )
    made.add_argument("--users", type=_count, default=100, metavar="N", help="Locust's users (100)")
    made.add_argument("--spawn-rate", type=rate, metavar="R", help="users started per second (all within two seconds)")
    made.add_argument(
        "--duration", "--run-time", type=duration_s, default=120.0, metavar="T", help="length of each run (2m)"
    )
    made.add_argument("--warm-up", type=duration_s, metavar="T", help="cut off at the start (a fifth, at most 30 s)")
    made.add_argument(
        "--arrivals-per-s", type=rate, metavar="R", help="open arrivals at this rate instead of closed users"
    )
    made.add_argument("--think-time-s", type=rate, metavar="T", help="mean pause of the closed users (the scenario's)")
    made.add_argument("--graph", metavar="FILE", help="read who follows whom from an edge list (SNAP format)")
    made.add_argument("--both-ways", action="store_true", help="in that file, whoever is followed follows back")
    made.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="change a value"
    )
    made.add_argument("--seed", type=int, default=1, metavar="N", help="seed of every random number (1)")
    made.add_argument(
        "--out", "--output", type=Path, metavar="DIR", help="where the files go (results/compare-SCENARIO)"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    made.add_argument("--state-dir", type=Path, metavar="DIR", help="of the reference (its default)")
    made.add_argument("--keep-up", action="store_true", help="leave the reference running at the end")
    return made


def _scenario(arguments: argparse.Namespace) -> Scenario:
    from scenarios.loader import load_scenario

    overrides = [*arguments.overrides, *(["population.both_ways=true"] if arguments.both_ways else [])]
    graph = str(Path(arguments.graph).resolve()) if arguments.graph else None
    scenario = load_scenario(arguments.scenario, overrides, arguments.seed, graph)
    if scenario.declared is not None:
        raise ValueError(
            f"{scenario.name}: declares a network of its own; only the platform can be compared with the reference"
        )
    return scenario


def _window(arguments: argparse.Namespace) -> Window:
    from loadtest.figures import Window

    warm_up_s = arguments.warm_up
    if warm_up_s is None:
        warm_up_s = min(WARMUP_SHARE * arguments.duration, WARMUP_MOST_S)
    if warm_up_s >= arguments.duration:
        raise ValueError(f"--warm-up {warm_up_s:g} s leaves nothing of --duration {arguments.duration:g} s")
    return Window(warm_up_s, arguments.duration)


def _load(arguments: argparse.Namespace) -> Load:
    from loadtest.both_sides import Load

    further = [part for override in arguments.overrides for part in ("--set", override)]
    if arguments.graph:
        further += ["--graph", str(Path(arguments.graph).resolve())]
    if arguments.both_ways:
        further.append("--both-ways")
    for name in ("arrivals_per_s", "think_time_s"):
        if getattr(arguments, name) is not None:
            further += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    users = 1 if arguments.arrivals_per_s else arguments.users
    scenario = arguments.scenario
    if Path(scenario).is_file():
        scenario = str(Path(scenario).resolve())
    return Load(
        scenario, users, arguments.spawn_rate or max(1.0, users / 2), arguments.duration, arguments.seed, tuple(further)
    )


def _cores() -> list[int]:
    """The cores that may be used, or none where the system cannot pin."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_setaffinity") else []


def _run_both(arguments: argparse.Namespace, scenario: Scenario, load: Load, folder: Path) -> dict[str, Side]:
    """Run the reference, then the model. Raises `CompareError`."""
    from loadtest.both_sides import Reference, progress, read_side, run_locust
    from model.platform import build_graph

    cores = _cores()
    split = len(cores) >= 2
    reference = Reference(scenario, arguments.state_dir, cores[:1] if split else [])
    sides = {}
    try:
        progress("bringing the reference up")
        reference.up()
        progress("seeding the reference with the model's users and follows")
        reference.seed(build_graph(scenario.population, arguments.seed), folder)
        raw = folder / "reference.parquet"
        command = load.command(("--target", "reference", "--host", reference.state["api_url"]), raw)
        run_locust(
            "reference", command, folder / "reference.log", load.duration_s, cores[1] if split else None,
            {"FLASHCROWD_STATE_DIR": reference.state["state_dir"]},
        )  # fmt: skip
        reference.drain()
        start_epoch_s = json.loads(raw.with_suffix(".json").read_text())["start_epoch_s"]
        milestones = reference.milestones(start_epoch_s)
        milestones.to_csv(raw.with_suffix(".milestones.csv"), index=False)
        sides["reference"] = read_side(raw, milestones)
    finally:
        if not arguments.keep_up:
            reference.down()
    raw = folder / "model.parquet"
    run_locust("model", load.command(("--target", "model"), raw), folder / "model.log", None, None)
    sides["model"] = read_side(raw)
    return sides


def _report(arguments: argparse.Namespace, load: Load, sides: dict[str, Side], window: Window, folder: Path) -> None:
    from rich.console import Console

    from loadtest import figures, report

    rows = figures.compare(sides, window, arguments.seed)
    totals = figures.throughput(sides, window)
    data: dict[str, Any] = {
        "scenario": arguments.scenario,
        "users": load.users,
        "seed": arguments.seed,
        "arguments": list(load.arguments),
        **figures.document(rows, totals, sides, window),
    }
    text = json.dumps(data, indent=2) + "\n"
    (folder / "comparison.json").write_text(text)
    if arguments.json:
        arguments.json.write_text(text)
    report.write_csv(folder / "comparison.csv", rows)
    who = (
        f"open arrivals at {arguments.arrivals_per_s:g}/s" if arguments.arrivals_per_s else f"{load.users} closed users"
    )
    about = (
        f"{who}, {load.duration_s:g} s of which the first {window.start_s:g} s are cut, seed {arguments.seed}. "
        "The model's times are its scenario's, not calibrated here."
    )
    title = f"{arguments.scenario}: model and reference"
    report.write_html(folder / "comparison.html", title, about, rows, totals, sides, window)
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    console.print(f"[bold]{title}[/]: {about}", highlight=False)
    report.print_tables(console, rows, totals, sides["model"].summary["requests_per_wall_s"])
    console.print(f"Files in {folder}", highlight=False)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison: 0 done, 1 a side could not be run, 2 bad input, 130 interrupted."""
    arguments = parser().parse_args(argv)
    from loadtest.both_sides import CompareError

    try:
        if arguments.both_ways and not arguments.graph:
            raise ValueError("--both-ways belongs to --graph")
        scenario, window, load = _scenario(arguments), _window(arguments), _load(arguments)
        target = arguments.out or Path("results") / f"compare-{scenario.name}"
        target.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"flashcrowd compare: {error}", file=sys.stderr)
        return 2
    try:
        sides = _run_both(arguments, scenario, load, target)
        _report(arguments, load, sides, window, target)
        return 0
    except CompareError as error:
        print(f"flashcrowd compare: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything that was started has been stopped", file=sys.stderr)
        return 130
