"""`flashcrowd run --replications N` and `--precision P`: the same tables with intervals."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from model.replications import Replications, Replicator
from model.scenario import Scenario
from model.statistics import CONFIDENCE
from model.warmup import warmup_note
from model.workers import LocalWorkers
from scenarios.documents import Document
from scenarios.fields import ScenarioError
from scenarios.figures import chosen_figures, shown, shown_interval
from scenarios.many_runs import checked_json, one_line, tell
from scenarios.offered import check_size
from scenarios.outputs import check_folder, replace_folder
from scenarios.progress import progress_bar
from scenarios.report import LATENCIES, console, figure, table
from scenarios.toml_text import as_toml


def run_replicated(arguments: Namespace, document: Document, scenario: Scenario) -> int:
    """Run replications, show, write. 0 if the means meet every objective, 1 if one does not."""
    if arguments.replications is not None and arguments.precision is not None:
        raise ScenarioError("flashcrowd run: --replications and --precision exclude each other; leave one out")
    figures = chosen_figures(arguments.figures, [scenario], list(scenario.slo))
    if arguments.precision is not None and not figures:
        raise document.place.at("slo").error(
            "--precision has nothing to be precise about", "add an objective, or name --figures"
        )
    check_size(document, scenario)
    checked_json(arguments)
    if arguments.out is not None:
        check_folder(arguments.out)
    started_s = time.monotonic()
    with LocalWorkers(arguments.jobs) as workers, one_line(document):
        replicator = Replicator(workers, arguments.engine)
        with progress_bar(f"{scenario.name}, replications") as progress:
            if arguments.precision is None:
                found = replicator.first(scenario, arguments.replications, progress)
            else:
                found = replicator.until_precise(
                    scenario, arguments.precision, figures, arguments.max_replications, progress
                )
    wall_s = time.monotonic() - started_s
    result = found.document()
    if arguments.out is not None:
        _write(arguments.out, document, found, result)
    tell(arguments, result, lambda: _show(found, result, wall_s))
    if not found.reached:
        names = [name for name in figures if found.interval(name).half_width_ratio > arguments.precision]
        print(
            f"warning: after {found.n} replications the interval is still wider than ±{arguments.precision:g} of the mean "
            f"for {', '.join(names)}; raise --max-replications or run.duration_s",
            file=sys.stderr,
        )
    note, warning = warmup_note(scenario, [outcome.warmup_s for outcome in found.outcomes])
    if warning or arguments.json != "-":
        print(note, file=sys.stderr if warning else sys.stdout)
    return 0 if all(one["met"] for one in result["slo"]) else 1


def _write(folder: Path, document: Document, found: Replications, result: Mapping[str, Any]) -> None:
    graph = found.scenario.population.graph
    if graph is not None:  # the copy lies elsewhere: a relative path would lead nowhere
        document.values["population"]["graph"] = str(Path(graph).resolve())
    rows = [{"seed": outcome.seed, **outcome.figures} for outcome in found.outcomes]

    def fill(whole: Path) -> None:
        found.intervals.to_csv(whole / "intervals.csv")
        pd.DataFrame(rows).rename_axis("replication").to_csv(whole / "replications.csv")

    replace_folder(folder, result, as_toml(document), fill)


def _show(found: Replications, result: Mapping[str, Any], wall_s: float) -> None:
    scenario, printed = found.scenario, console()
    run = scenario.run

    def cell(name: str) -> str:
        return shown_interval(name, found.interval(name)).removesuffix(" ms")

    printed.print(f"[bold]{scenario.name}[/bold]  {scenario.question}")
    printed.print(
        f"{found.n} replications of {run.duration_s:g} s in {wall_s:.1f} s of wall time, the first {run.warmup_s:g} s of each "
        f"left out; mean ± half the {CONFIDENCE:.0%} interval; seed {result['seed']}, engine {result['engine']}"
    )
    for kind, about in (("operations", "operations, latency in ms"), ("milestones", "milestones, time until reached in ms")):
        rows = [
            (name, figure(row["count"]), figure(row["throughput_per_s"]), *(cell(f"{name}.{one}_s") for one in LATENCIES))
            for name, row in result[kind].items()
        ]
        if rows:
            printed.print()
            printed.print(table(about, ("name", "count", "per s", *LATENCIES), rows))
    columns = ("utilisation", "mean_queue", "mean_wait_s")
    rows = [
        (name, figure(row["servers"]), *(shown_interval(one, found.interval(f"stations.{name}.{one}")) for one in columns))
        for name, row in result["stations"].items()
    ]
    if rows:
        printed.print()
        printed.print(table("stations", ("name", "servers", "utilisation", "mean queue", "mean wait"), rows))
    words = {"met": "met", "missed": "MISSED"}
    rows = [
        (
            one["name"],
            f"{'≥' if one['name'].endswith('throughput_per_s') else '≤'} {shown(one['name'], one['target'])}",
            shown_interval(one["name"], found.interval(one["name"])),
            words[one["confidence"]] if one["confidence"] in words else f"{'met' if one['met'] else 'MISSED'}, not surely",
        )
        for one in result["slo"]
    ]
    if rows:
        printed.print()
        printed.print(table("objectives, by the mean", ("figure", "target", "value", ""), rows))
    audit = result["audit"]
    printed.print(
        f"\naudit: Little's law within {audit['littles_law_max_error_ratio']:.1e} of its value, "
        f"in = out + queued + lost {'holds' if audit['conserved'] else 'IS VIOLATED'}; queues: {result['stationarity']}"
    )
