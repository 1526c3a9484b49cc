"""The start-up of a run: what MSER-5 finds, against what the scenario leaves out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from model.part import Floats
from model.results import Results
from model.scenario import Scenario
from model.statistics import mser

CELLS = 1000  # into which a run is cut; MSER-5 makes 200 batches of them
FEWEST = 1000  # requests: with fewer the number in the system is mostly noise


def number_in_system(results: Results, cells: int = CELLS) -> Floats:
    """The mean number of requests that have come and are not through with everything, in equal cells of time from 0 to the end."""
    record = results.recording
    edges_s = np.linspace(0.0, record.end_s, cells + 1)
    present = _area(record.arrived_s, edges_s) - _area(record.finished_s[np.isfinite(record.finished_s)], edges_s)
    return np.asarray(np.diff(present) / (record.end_s / cells))


def _area(instants_s: Floats, until_s: Floats) -> Floats:
    """The integral, up to each of `until_s`, of the number of instants that have passed."""
    instants_s = np.sort(instants_s)
    sums = np.concatenate([[0.0], np.cumsum(instants_s)])
    passed = np.searchsorted(instants_s, until_s)
    return np.asarray(passed * until_s - sums[passed])


def is_transient(scenario: Scenario) -> bool:
    """Whether something happens at a fixed time: then the run is about what follows, and has no steady state to wait for."""
    return bool(scenario.events or scenario.faults)


def detected_warmup_s(results: Results) -> float | None:
    """The start-up by MSER-5 of the number in the system; infinite if the run is too short to tell; None if it can't be asked.

    It can't in a scenario with events or faults, nor with fewer than `FEWEST` requests.
    """
    if is_transient(results.scenario) or len(results.recording.arrived_s) < FEWEST:
        return None
    cut = mser(number_in_system(results))
    return results.recording.end_s * cut.observations / cut.of if cut.stationary else float("inf")


def warmup_note(scenario: Scenario, detected_s: Sequence[float | None]) -> tuple[str, bool]:
    """What the runs' detected start-ups say, and whether it is a warning. Their median counts: single ones err often.

    A queue's own fluctuations look like a start-up to MSER-5 in about a fifth of runs of 50 relaxation times.
    """
    run, known = scenario.run, [one for one in detected_s if one is not None]
    if is_transient(scenario):
        return "warm-up: not checked, something happens at a fixed time in this scenario", False
    if not known:
        return f"warm-up: not checked, fewer than {FEWEST:,} requests", False
    found_s = float(np.quantile(known, 0.5, method="lower"))
    runs = "the run" if len(known) == 1 else f"most of {len(known)} runs"
    if not np.isfinite(found_s):
        return (
            f"warning: MSER-5 finds no steady state in {runs} of {run.duration_s:g} s; raise run.duration_s, "
            "or look for a queue that keeps growing",
            True,
        )
    if found_s > run.warmup_s:
        return (
            f"warning: MSER-5 sees the start-up last {found_s:.3g} s, and run.warmup_s leaves out only "
            f"{run.warmup_s:g} s; raise it",
            True,
        )
    return f"warm-up: MSER-5 sees {found_s:.3g} s of start-up; {run.warmup_s:g} s are left out", False
