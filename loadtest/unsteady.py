"""How unsteady the host's speed is: what others on the same machine do slows all processes at once, and for moments only.

What a role's CPU time for a unit of work was, window by window, varies for many reasons; what it varies *together* between roles is the
machine's. A factor of variance cv² that is drawn anew after exponentially distributed times of mean h has the autocorrelation exp(-t/h).
Averaged over windows of w seconds, two windows that are k windows apart have the covariance

    k = 0:  2 cv² x (1 - x (1 - exp(-1/x)))            with x = h/w
    k > 0:  cv² x² (1 - exp(-1/x))² exp(-(k - 1)/x)

(both integrals of exp(-|t - u|/h) over the two windows). Times h are tried, cv² follows for each by least squares, and the pair that
comes nearest to the covariances between roles stays. A run's own mean is taken out of its windows, and so it is out of what is expected.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from loadtest.estimates import LEAST_S, Floats
from loadtest.observed_run import Observed

ROLES = ("api", "postgres", "interaction_worker")
WINDOW_S, LAGS = 0.5, 6
HOLDS_S = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Times that are tried: shorter ones than the first a queue evens out, and longer ones than the last a run does not tell from a trend."""
FEWEST = 40
"""Windows in all; fewer say nothing about a variance."""


@dataclass(frozen=True)
class Unsteady:
    """Coefficient of variation of the time that work takes, and for how long a factor holds on the average; both 0 if it is steady."""

    cv: float = 0.0
    holds_s: float = 0.0


def unsteady(runs: Sequence[Observed], work_s: Mapping[str, float]) -> Unsteady:
    """How the host's speed varies in runs; steady if too little was seen. `work_s`: CPU of each operation."""
    seen = [logs for run in runs if len((logs := _logs(run, work_s))[0]) > 2 * LAGS]
    weights = [len(logs[0]) for logs in seen]
    if sum(weights) < FEWEST:
        return Unsteady()
    measured = np.average([_together(logs) for logs in seen], axis=0, weights=weights)
    nearest, found = float(measured @ measured), Unsteady()
    for holds_s in HOLDS_S:
        unit = np.average([_expected(holds_s, windows) for windows in weights], axis=0, weights=weights)
        variance = float(unit @ measured / (unit @ unit))
        off = measured - variance * unit
        if variance > 0 and float(off @ off) < nearest:
            nearest, found = float(off @ off), Unsteady(float(np.sqrt(variance)), holds_s)
    return found


def _together(logs: Sequence[Floats]) -> Floats:
    """Covariance between different roles' windows, by how many windows apart they are."""
    pairs = [[np.mean(one[: len(one) - lag] * other[lag:]) for lag in range(LAGS)] for one, other in permutations(logs, 2)]
    return np.asarray(np.mean(pairs, axis=0), dtype=float)


def _expected(holds_s: float, windows: int) -> Floats:
    """The covariances that a factor of variance 1 makes in a run of so many windows whose mean is taken out."""
    x, apart = holds_s / WINDOW_S, np.arange(windows)
    dying = 1 - np.exp(-1 / x)
    all_lags = np.where(apart == 0, 2 * x * (1 - x * dying), (x * dying) ** 2 * np.exp(-(apart - 1) / x))
    of_mean = (windows * all_lags[0] + 2 * (windows - apart[1:]) @ all_lags[1:]) / windows**2
    return np.asarray(all_lags[:LAGS] - of_mean, dtype=float)


def _logs(run: Observed, work_s: Mapping[str, float]) -> list[Floats]:
    """Log of each role's CPU per work by window, less its mean and what goes with the amount of work: more of it finds processes warm."""
    rows = run.trace.rows[np.isfinite(run.trace.rows.finished_s)]
    lines = [json.loads(line) for line in run.trace.file("counters.jsonl").read_text().splitlines()]
    at_s = np.array([line["at_s"] for line in lines]) - run.trace.header["start_epoch_s"]
    edges_s = np.arange(run.trace.header["warmup_s"], min(run.trace.duration_s, at_s[-1]), WINDOW_S)
    amount = np.histogram(rows.finished_s, edges_s, weights=rows.operation.map(work_s).fillna(0.0))[0]
    some = amount > 0
    found = []
    for role in ROLES:
        used_s = np.diff(np.interp(edges_s, at_s, [line["processes"].get(role, [0.0])[0] for line in lines]))[some]
        per_work = np.log(np.maximum(used_s, LEAST_S) / amount[some])
        known = np.column_stack([np.ones(some.sum()), np.log(amount[some])])
        found.append(np.asarray(per_work - known @ np.linalg.lstsq(known, per_work, rcond=None)[0], dtype=float))
    return found
