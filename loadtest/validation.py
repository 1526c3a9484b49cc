"""What `validate` fixes before it looks: loads, designs, order, and the rules by which a run is rejected and a cell judged."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from loadtest.cells import STATISTICS
from loadtest.stalls import course_of as course

if TYPE_CHECKING:
    from loadtest.given_machine import Work
    from loadtest.observed_run import Observed
    from loadtest.stalls import Stalls
    from loadtest.traces import Trace
    from model.control import Course

CALIBRATION_RUNS = (
    (0.25, 0.0), (0.35, 0.05), (0.45, 0.0), (0.45, 0.0), (0.35, 0.05), (0.25, 0.0), (0.35, 0.05), (0.45, 0.0), (0.25, 0.0),
)  # fmt: skip
"""Share of a core as the pilot sees it, and for how many seconds arrivals are held back to come at once; 0: as they come.

As many should come at once as are under way at high load: a request cost 854 us in bursts of a quarter second, 1,005 at 90 % load.
"""
BESIDE_RUNS = ((0.25, 0.0), (0.35, 0.05), (0.45, 0.0))
"""The same, once more in every round of held-out runs: what the machine is like then, calibration before could not know."""
LOADS = (0.15, 0.30, 0.50, 0.65, 0.85, 1.10, 1.30)
"""Of the predicted knee; calibration used none of them. What is answered at the last is what there is capacity for."""
LATE_MOST_RATIO, STEAL_MOST_RATIO, STALLED_MOST_RATIO, SLOW_MOST_RATIO, PROBE_MOST_RATIO = 0.02, 0.03, 0.005, 0.20, 0.25
ANSWERED_LEAST_RATIO, BUSY_MOST_RATIO = 0.97, 0.97
FEWEST = 30
"""Samples of a cell in a run: fewer say nothing about a mean; a p95 needs 5 and a p99 10 times beyond it."""
NEEDED = {"mean": 30, "p50": 30, "p90": 50, "p95": 100, "p99": 500}
AIMS = {"mean": 0.04, "p50": 0.04, "p95": 0.07, "p99": 0.09}
ATTEMPTS = 3
"""At a calibration run whose steal is above the bound."""
AGAIN_MOST = 6
DRAWS = 5
"""Of the model's variates for one prediction."""
RULES = (
    f"more than {LATE_MOST_RATIO:.0%} of the sends more than 2 ms late: the generator was saturated",
    f"steal above {STEAL_MOST_RATIO:.0%} of a core, or the system's core away for more than {STALLED_MOST_RATIO:.1%} of the time",
    f"a fixed piece of work on that core, done 200 times a second, takes 1.3 times as long as it does mostly in more than "
    f"{SLOW_MOST_RATIO:.0%} of the quarter seconds",
    f"the CPU probe more than {PROBE_MOST_RATIO:.0%} off the median of all runs",
    f"rejected runs are made once more after all others, at most {AGAIN_MOST}, and designs of which none was kept; "
    f"calibration runs up to {ATTEMPTS} times for these",
)


@dataclass(frozen=True)
class Design:
    """A way to build the platform: what differs from the calibrated scenario."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """Designs that are ranked by one statistic of one operation or milestone, the smaller the better."""

    question: str
    designs: tuple[str, ...]
    cell: str
    statistic: str


DESIGNS = (
    Design("as calibrated", ()),
    Design("push", ("feed.strategy=push",)),
    Design("batch 1", ("topics.posts.poll_max=1", "topics.fanout.poll_max=1", "topics.interactions.poll_max=1")),
    Design("batch 100", ("topics.posts.poll_max=100", "topics.fanout.poll_max=100", "topics.interactions.poll_max=100")),
    Design("pool 1", ("stations.api_connections.servers=1", "stations.database.servers=7")),
    Design("pool 4", ("stations.api_connections.servers=4", "stations.database.servers=10")),
    Design("three fan-out workers", (
        "stations.fanout_workers.servers=3", "stations.fanout_processes.servers=3", "stations.database.servers=26",
    )),
    Design("linger 0", ("topics.posts.linger_ms=0", "topics.fanout.linger_ms=0", "topics.interactions.linger_ms=0")),
    Design("linger 50", ("topics.posts.linger_ms=50", "topics.fanout.linger_ms=50", "topics.interactions.linger_ms=50")),
)  # fmt: skip
RANKINGS = (
    Ranking("push against hybrid: opening a feed", ("push", "as calibrated"), "feed.open", "mean"),
    Ranking("batch 1 against 100: a like until it is applied", ("batch 1", "batch 100"), "interactions.applied", "mean"),
    Ranking("pool of 1, 4, 16: opening a feed", ("pool 1", "pool 4", "as calibrated"), "feed.open", "p95"),
    Ranking("one fan-out worker against three: delivery", ("as calibrated", "three fan-out workers"), "feed.delivered", "mean"),
    Ranking("linger 0 against 50 ms: a like", ("linger 0", "linger 50"), "interactions.like", "mean"),
)
DESIGN_LOAD = 0.65
NO_HOST = "no shared host: each process a core of its own"
STEADY = "a host as fast all through a run"
EFFECTS: dict[str, tuple[str, ...]] = {
    "the whole model": (),
    NO_HOST: (),
    "equal sharing in place of Linux' scheduler": ("hosts.machine.discipline=processor_sharing",),
    "a run queue in place of it": ("hosts.machine.discipline=fifo",),
    "the same, and brokers and workers pre-empt as they wake": (
        "hosts.machine.discipline=wake_preemption",
        *(f"stations.{name}.preempts=true" for name in ("broker", "dispatcher_processes", "fanout_processes", "interaction_processes")),
    ),
    "no more work after idleness": ("stations.api.cold=[]", "stations.database.cold=[]"),
    "all statements of a request in one": tuple(
        f'service_times.{name}={{distribution="constant",mean_ms=0}}' for name in ("api_feed_statement", "api_read_statement")
    ),
    "no CPU of the broker": tuple(
        f'service_times.{name}={{distribution="constant",mean_ms=0}}' for name in ("broker_record", "broker_fetch")
    ),
    "each piece of the broker's work in one burst": ("stations.broker.cpu_burst_us=0",),
    "a broker whose log does not grow": ("stations.broker.growth_per_1k=0",),
    "no garbage collections": ("stations.api.gc_every=0", "stations.api.gc_pause_ms=0"),
    "deadlines noticed at once, not at a tick": ("hosts.machine.tick_ms=0",),
    "no background on the core": ("hosts.machine.speed=1",),
    STEADY: (),
    "no threads of the API beside its event loop": (
        'service_times.producer_record={distribution="constant",mean_ms=0}',
    ),
    "no CPU of the workers": (
        *(
            f'service_times.{name}={{distribution="constant",mean_ms=0}}'
            for name in ("worker_dispatch", "worker_fanout_batch", "worker_apply_batch", "worker_tell")
        ),
        "costs.worker_interaction_us=0", "costs.worker_event_told_us=0",
    ),
    "no wait for the log's flush": ('service_times.database_commit={distribution="constant",mean_ms=0}',),
    "no held fetch": tuple(
        f'service_times.{name}={{distribution="constant",mean_ms=0}}' for name in ("kafka_fetch", "kafka_fetch_steady")
    ),
}  # fmt: skip
"""What is left out of the model, one thing at a time, to see what it is worth."""


@dataclass(frozen=True)
class Planned:
    """A run of a load or, with `beside`, a calibration run of a share of a core, in bursts of `burst_s` seconds if that is not 0."""

    load: float
    repeat: int
    beside: bool = False
    burst_s: float = 0.0


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first run."""

    loads: tuple[float, ...]
    repeats: int
    run_s: float
    seed: int
    designs: tuple[str, ...]
    design_repeats: int
    order: tuple[Planned, ...] = field(default=())

    @classmethod
    def make(
        cls, loads: tuple[float, ...], repeats: int, run_s: float, seed: int, designs: tuple[str, ...], design_repeats: int
    ) -> Plan:
        """A plan with its order: rounds of all loads and calibration beside them, each round shuffled by the seed."""
        rng = random.Random(seed)
        order: list[Planned] = []
        for repeat in range(repeats):
            around = [Planned(load, repeat) for load in loads]
            around += [Planned(ratio, repeat, True, burst_s) for ratio, burst_s in BESIDE_RUNS]
            rng.shuffle(around)
            order += around
        shuffled = list(designs)
        rng.shuffle(shuffled)
        return cls(loads, repeats, run_s, seed, tuple(shuffled), design_repeats, tuple(order))

    def seed_of(self, load: float) -> int:
        """What is added to the seed for the arrivals of a load, the same in all of its runs."""
        return 100 + self.loads.index(load)

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "rules": RULES, "aims": AIMS, "calibration": CALIBRATION_RUNS, "beside": BESIDE_RUNS}


@dataclass
class Run:
    """One real run of a load or design: its cells, its CPU, and why it is rejected (empty: it is not)."""

    load: float
    design: str
    cells: dict[str, dict[str, Any]]
    cpu_per_request_s: float
    busy_ratio: float
    answered_ratio: float
    late_ratio: float
    steal_ratio: float
    probe_s: float
    stalls: Stalls | None = None
    course: Course = ()
    work: Work | None = None
    rejected: str = ""


def taken(steal_ratio: float, stalls: Stalls | None) -> str:
    """What others on the machine took of it beyond the bounds; empty if within them."""
    if steal_ratio > STEAL_MOST_RATIO:
        return f"steal {steal_ratio:.1%}"
    if stalls is not None and stalls["ratio"] > STALLED_MOST_RATIO:
        return f"core away for {stalls['ratio']:.1%}"
    if stalls is not None and stalls["slow_ratio"] > SLOW_MOST_RATIO:
        return f"core slow for {stalls['slow_ratio']:.0%}"
    return ""


def run_of(load: float, design: str, cells: dict[str, dict[str, Any]], seen: Observed, steal_ratio: float) -> Run:
    """What a run of the reference came to."""
    from loadtest.given_machine import work_of

    header, rows = seen.trace.header, seen.trace.rows
    asked = rows[rows.intended_s >= header["warmup_s"]]
    answered = int(((asked.outcome == "ok") & (asked.finished_s < header["duration_s"])).sum())
    busy = sum(seen.cpu_s.values()) / seen.window_s + seen.background_ratio
    return Run(
        load, design, cells, seen.cpu_per_request_s, busy, answered / max(len(asked), 1), header["late_ratio"], steal_ratio,
        seen.probe_s, header.get("stalls"), course_of(seen.trace), work_of(seen.trace, seen.idle_ratio),
    )  # fmt: skip


def course_of(trace: Trace) -> Course:
    """How the speed of the system's core went while a trace was observed; empty if it is not known."""
    start_s = float(trace.header["start_epoch_s"])
    return course(trace.lines("stalls.jsonl", needed=False), start_s, start_s + trace.duration_s)


def reject(runs: list[Run]) -> None:
    """Apply the rules to all runs at once."""
    probe_s = float(np.median([run.probe_s for run in runs])) if runs else 0.0
    for run in runs:
        if run.late_ratio > LATE_MOST_RATIO:
            run.rejected = "generator saturated"
        elif others := taken(run.steal_ratio, run.stalls):
            run.rejected = others
        elif abs(run.probe_s / probe_s - 1) > PROBE_MOST_RATIO:
            run.rejected = f"probe {run.probe_s / probe_s - 1:+.0%}"


def again(runs: list[Run], loads: tuple[float, ...]) -> list[float]:
    """The loads of rejected runs, to be run once more: below the knee first; a generator that is saturated above it will be so again."""
    reject(runs)
    missing = [run.load for run in runs if run.rejected and run.load in loads and (run.load <= 1 or "generator" not in run.rejected)]
    for run in runs:
        run.rejected = ""
    return sorted(missing)[:AGAIN_MOST]


def unmeasured(runs: list[Run], designs: tuple[str, ...]) -> list[str]:
    """Designs of which no run was kept."""
    reject(runs)
    kept = {run.design for run in runs if not run.rejected}
    for run in runs:
        run.rejected = ""
    return [design for design in designs if design not in kept]


def shown_of(runs: list[Run]) -> list[Run]:
    """Those that were not rejected; all, if all were."""
    return [run for run in runs if not run.rejected] or runs


def cell_rows(
    load: float,
    design: str,
    runs: list[Run],
    predicted: dict[str, Any],
    normalised: Sequence[dict[str, Any]] = (),
    beside: dict[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """A row per operation, milestone and statistic of one load: real, predicted, errors, spread and verdict.

    `beside`: predicted by calibration that was made between the runs.
    `normalised`: the model's cells on a host made as fast as the CPU per request of each of `shown_of(runs)` says, from moment to moment
    as its fixed piece of work was. Latency does not grow in proportion to CPU, so each run is held against its own, and the median of
    these errors is the cell's.
    """
    kept = [run for run in runs if not run.rejected]
    shown = shown_of(runs)
    rows = []
    for name in sorted(set(predicted).union(*(run.cells for run in runs)) if runs else set()):
        model = predicted.get(name)
        real = [run.cells[name] for run in shown if name in run.cells]
        if model is None or not real:
            continue
        fewest = min(cell["n"] for cell in real)
        for key in ("per_s", *STATISTICS):
            column = key if key == "per_s" else f"{key}_s"
            values = [cell[column] for cell in real if cell[column] is not None]
            if fewest < NEEDED.get(key, FEWEST) or not values or model[column] is None:
                continue
            middle = float(np.median(values))
            spread = float(np.std(values, ddof=1) / np.mean(values)) if len(values) > 1 and np.mean(values) else float("nan")
            error = _error(model[column], middle)
            error_beside = _error((beside or {}).get(name, {}).get(column), middle)
            pairs = [
                (model_then[name][column], run.cells[name][column])
                for run, model_then in zip(shown, normalised, strict=bool(normalised)) if name in run.cells and name in model_then
            ]  # fmt: skip
            rows.append({
                "load": load, "design": design, "name": name, "kind": model["kind"], "statistic": key, "n": fewest, "runs": len(kept),
                "busy": float(np.median([run.busy_ratio for run in shown])),
                "real": middle, "predicted": model[column], "error": error, "error_beside": error_beside, "spread": spread,
                "error_normalised": _median(then / value - 1 for then, value in pairs if then is not None and value),
                "verdict": verdict(shown, bool(kept), error, spread),
                "verdict_beside": verdict(shown, bool(kept), error_beside, spread) if beside else "",
            })  # fmt: skip
    return rows


def verdict(runs: list[Run], any_kept: bool, error: float, spread: float) -> str:
    """`within noise`: the prediction is within twice the standard deviation of the repeats."""
    if not any_kept and all(run.rejected == "generator saturated" for run in runs):
        return "generator saturated"
    if np.median([run.answered_ratio for run in runs]) < ANSWERED_LEAST_RATIO or np.median(
        [run.busy_ratio for run in runs]
    ) > BUSY_MOST_RATIO:  # fmt: skip
        return "reference saturated"
    return "within noise" if np.isfinite(spread) and abs(error) <= 2 * spread else "model error"


def _error(predicted: float | None, real: float) -> float:
    return predicted / real - 1 if predicted is not None and real else float("nan")


def _median(values: Iterable[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.median(known)) if known else float("nan")


def _share(those: Iterable[bool]) -> float:
    every = list(those)
    return sum(every) / len(every) if every else float("nan")


def medians(rows: list[dict[str, Any]], of: str = "busy", below: float = 0.8) -> list[dict[str, Any]]:
    """Median absolute errors per statistic over cells that nothing saturated.

    `of` "busy": below that utilisation of the system's core, as measured; "load": below that share of the predicted knee.
    """
    found = []
    for statistic in STATISTICS:
        chosen = [
            row for row in rows
            if row["statistic"] == statistic and row[of] < below and row["verdict"] in ("within noise", "model error")
        ]  # fmt: skip
        if chosen:
            found.append({
                "statistic": statistic,
                "cells": len(chosen),
                "error": float(np.median([abs(row["error"]) for row in chosen])),
                "error_beside": _median(abs(row["error_beside"]) for row in chosen),
                "error_normalised": _median(abs(row["error_normalised"]) for row in chosen),
                "within_noise": float(np.mean([row["verdict"] == "within noise" for row in chosen])),
                "within_noise_beside": _share(row["verdict_beside"] == "within noise" for row in chosen if row["verdict_beside"]),
                "spread": _median(row["spread"] for row in chosen),
                "aim": AIMS.get(statistic),
            })  # fmt: skip
    return found


def rank(ranking: Ranking, predicted: dict[str, list[dict[str, Any]]], real: dict[str, list[Run]]) -> dict[str, Any]:
    """Both orders, and whether they agree; `predicted`: each design's cells in some draws. Designs differ if their values do not overlap.

    `right`: the medians stand in one order, or those that do not differ on either side; `tie`: the real ones of those that stand
    otherwise overlap; `missed`: they differ, and the predicted ones overlap; `wrong`: they differ on both sides.
    """
    column = f"{ranking.statistic}_s"

    def values(of: Iterable[dict[str, Any]]) -> list[float]:
        return [cells[ranking.cell][column] for cells in of if ranking.cell in cells]

    expected = {name: values(predicted.get(name, ())) for name in ranking.designs}
    measured = {name: values(run.cells for run in real.get(name, ())) for name in ranking.designs}
    if not all((*expected.values(), *measured.values())):
        return {"question": ranking.question, "outcome": "not measured"}
    middle, found = ({name: float(np.median(every)) for name, every in side.items()} for side in (expected, measured))
    swapped = [(a, b) for a in middle for b in middle if middle[a] < middle[b] and found[a] > found[b]]
    foreseen = [pair for pair in swapped if max(expected[pair[0]]) < min(expected[pair[1]])]
    differ = [pair for pair in swapped if min(measured[pair[0]]) > max(measured[pair[1]])]
    if not foreseen and not differ:
        outcome = "right"
    elif not differ:
        outcome = "tie"
    else:
        outcome = "wrong" if set(foreseen) & set(differ) else "missed"
    return {
        "question": ranking.question,
        "cell": f"{ranking.cell} {ranking.statistic}",
        "predicted": {name: expected[name] for name in sorted(middle, key=middle.__getitem__)},
        "real": {name: measured[name] for name in sorted(found, key=found.__getitem__)},
        "outcome": outcome,
    }
