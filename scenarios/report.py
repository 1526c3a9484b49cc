"""Results as tables for people."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from model.offered_load import OfferedLoad
from model.results import AT_LEAST
from model.scenario import Scenario

LEFT_LEAST = 100  # events: fewer are on their way, not left behind
LATENCIES = ("mean", "p50", "p95", "p99", "p999", "max")


def console() -> Console:
    """Standard output; tables keep their lines where it is a file or a pipe."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table with its first column to the left and figures to the right."""
    grid = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        grid.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*row)
    return grid


def figure(value: float | int | None) -> str:
    """A number with three digits that mean something; "–" for none."""
    if value is None:
        return "–"
    if isinstance(value, int) or abs(value) >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def milliseconds(value_s: float | None) -> str:
    """Seconds shown as milliseconds."""
    return figure(None if value_s is None else float(value_s) * 1000)


def percent(ratio: float | None) -> str:
    """A ratio shown in percent."""
    return "–" if ratio is None else f"{ratio * 100:.1f} %"


def show_offered_load(scenario: Scenario, loads: Sequence[OfferedLoad]) -> None:
    """The table of `flashcrowd check`."""
    rows = [
        (
            load.name,
            load.kind,
            figure(load.capacity),
            figure(load.least),
            figure(load.most),
            percent(load.busy_ratio),
            "exceeded" if load.exceeded else "",
        )
        for load in loads
    ]
    columns = ("part", "kind", "capacity", "offered, least", "offered, most", "least/capacity", "")
    printed = console()
    printed.print(table(f"{scenario.name}: offered load, in busy servers or members (quotas: tokens/s)", columns, rows))
    printed.print(
        "least: full batches on one key, every lookup a hit, no retry; most: batches of one, misses, every retry"
    )


def show_results(scenario: Scenario, document: Mapping[str, Any], wall_s: float) -> None:
    """The tables of `flashcrowd run`, from the JSON document."""
    printed = console()
    run = scenario.run
    printed.print(f"[bold]{scenario.name}[/bold]  {scenario.question}")
    printed.print(
        f"{run.duration_s:g} s simulated in {wall_s:.1f} s of wall time, the first {run.warmup_s:g} s left out; "
        f"seed {document['seed']}, engine {document['engine']}"
    )
    for kind in ("operations", "milestones"):
        if document[kind]:
            printed.print()
            printed.print(_times(kind, document[kind]))
    if document["stations"]:
        printed.print()
        printed.print(_stations(document["stations"]))
    if document["topics"]:
        printed.print()
        printed.print(_topics(document["topics"]))
    caches = {name: row for name, row in document["caches"].items() if row["hit_ratio"] is not None}
    if caches:
        printed.print()
        printed.print(_caches(caches))
    if document["slo"]:
        printed.print()
        printed.print(_objectives(document["slo"]))
    _summary(printed, document)
    audit = document["audit"]
    printed.print(
        f"\naudit: Little's law within {audit['littles_law_max_error_ratio']:.1e} of its value, "
        f"in = out + queued + lost {'holds' if audit['conserved'] else 'IS VIOLATED'}; queues: {document['stationarity']}"
    )


def _summary(printed: Console, document: Mapping[str, Any]) -> None:
    """What a planner reads first; it stands last, where the eye is."""
    busiest, cost, slo = document["bottleneck"], document["cost"], document["slo"]
    if document["backlogs"]:
        rows = [
            (
                name,
                figure(row["usual"]),
                figure(row["peak"]),
                figure(row["peak_at_s"]),
                "not within the run" if row["drain_s"] is None else figure(row["drain_s"]),
            )
            for name, row in document["backlogs"].items()
        ]
        printed.print()
        printed.print(
            table("backlogs: asked for, not yet done", ("name", "usual", "peak", "at s", "drained after s"), rows)
        )
    printed.print()
    if slo:
        missed = [one["name"] for one in slo if not one["met"]]
        of_all = f"{len(missed)} of {len(slo)} objectives are MISSED: {', '.join(missed)}"
        printed.print(f"[bold]{of_all if missed else f'all {len(slo)} objectives are met'}[/bold]")
    if busiest is not None:
        queue = figure(busiest["mean_queue"])
        printed.print(f"bottleneck: {busiest['name']}, {percent(busiest['utilisation'])} busy, {queue} waiting on average")
    left = [f"{name} {count:,}" for name, count in document["left_in_topics"].items() if count > LEFT_LEAST]
    if left:
        printed.print(f"left in the log at the end: {', '.join(left)}")
    unseen = {name: ratio for name, ratio in document["own_writes_missed"].items() if ratio is not None}
    if unseen:
        shares = ", ".join(f"{percent(ratio)} {name.replace('_', ' ')}" for name, ratio in unseen.items())
        printed.print(f"own likes not there yet when read again: {shares} (with an optimistic user interface: after a reload)")
    for name, took_s in document["applied_after_faults_s"].items():
        printed.print(f"after {name}, all likes accepted before its end had been applied {figure(took_s)} s after it")
    dearest = sorted(cost["lines"], key=lambda one: -one["usd_per_hour"])[:3]
    most = ", ".join(f"{one['part']} {one['usd_per_hour']:.3g} ({one['basis']})" for one in dearest)
    each = cost["usd_per_1k_requests"]
    per_request = f", {each:.3g} USD per thousand requests" if each is not None else ""
    printed.print(f"cost: {cost['usd_per_hour']:.2f} USD per hour{per_request}; most for {most or 'nothing'}")
    if document["cells"] > 1:
        total = f"{cost['usd_per_hour'] * document['cells']:,.0f} USD per hour for all"
        printed.print(f"this is one of {document['cells']:,} equal cells: {total}; what that assumes: model/ASSUMPTIONS.md, Cells")


def _times(kind: str, figures: Mapping[str, Any]) -> Table:
    rows = [
        (
            name,
            figure(row["count"]),
            figure(row["throughput_per_s"]),
            figure(row["rejected"]),
            figure(row["timed_out"]),
            *(milliseconds(row["latency_s"][one]) for one in LATENCIES),
        )
        for name, row in figures.items()
    ]
    about = {"operations": "operations, latency in ms", "milestones": "milestones, time until reached in ms"}[kind]
    return table(about, ("name", "count", "per s", "rejected", "timed out", *LATENCIES), rows)


def _stations(figures: Mapping[str, Any]) -> Table:
    rows = [
        (
            name,
            figure(row["servers"]),
            percent(row["utilisation"]),
            figure(row["mean_queue"]),
            milliseconds(row["mean_wait_s"]),
            percent(row["wait_probability"]),
            figure(row["throughput_per_s"]),
            figure(row["rejected"]),
        )
        for name, row in figures.items()
    ]
    columns = ("name", "servers", "utilisation", "mean queue", "mean wait ms", "must wait", "per s", "rejected")
    return table("stations", columns, rows)


def _topics(figures: Mapping[str, Any]) -> Table:
    keys = ("published", "consumed", "redelivered", "duplicates_applied", "lost", "max_lag", "mean_batch")
    rows = [(name, *(figure(row[key]) for key in keys)) for name, row in figures.items()]
    return table("topics, in events", ("name", *(key.replace("_", " ") for key in keys)), rows)


def _caches(figures: Mapping[str, Any]) -> Table:
    rows = [
        (name, *(figure(row[key]) for key in ("hits", "misses", "waits")), percent(row["hit_ratio"]))
        for name, row in figures.items()
    ]
    return table("caches, in lookups (waits: for another one's miss)", ("name", "hits", "misses", "waits", "hit ratio"), rows)


def _objectives(verdicts: Sequence[Mapping[str, Any]]) -> Table:
    rows = []
    for one in verdicts:
        at_least, target, value = one["name"].endswith(AT_LEAST), one["target"], one["value"]
        room = None if value is None or target == 0 else (value / target - 1 if at_least else 1 - value / target)
        shown = milliseconds if one["name"].endswith("_s") and not at_least else figure
        unit = " ms" if shown is milliseconds else ""
        verdict = "met" if one["met"] else "MISSED" if value is not None else "MISSED (no sample)"
        sign = "≥" if at_least else "≤"
        rows.append((one["name"], f"{sign} {shown(target)}{unit}", f"{shown(value)}{unit}", percent(room), verdict))
    return table("objectives", ("figure", "target", "value", "headroom", ""), rows)
