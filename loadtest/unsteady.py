"""How unsteady the host's speed is: what others on the same machine do slows all processes at once, and for moments only.

The meter on the system's core (`stalls.py`) does one small fixed piece of work two hundred times a second. How long that takes varies from
one time to the next by chance, and over longer times as the core's speed does. A factor of variance cv² that is drawn anew after
exponentially distributed times of mean h has the autocovariance cv² exp(-t/h); chance has none from one time to the next. Times h are
tried, cv² follows for each by least squares, and the pair that comes nearest to the autocovariance of the logarithms stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.estimates import Floats
from loadtest.observed_run import Observed

LAGS = (1, 2, 4, 8, 16, 32, 64)
HOLDS_S = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Times that are tried: shorter ones than the first a queue evens out, and longer ones than the last a run does not tell from a trend."""
FEWEST = 500
"""Times that the work was done in all; fewer say nothing about a variance."""
WIDEST = 0.995
"""Quantile beyond which a time is an interruption, not a speed."""


@dataclass(frozen=True)
class Unsteady:
    """Coefficient of variation of the time that work takes, and for how long a factor holds on the average; both 0 if it is steady."""

    cv: float = 0.0
    holds_s: float = 0.0


def unsteady(runs: Sequence[Observed]) -> Unsteady:
    """How the host's speed varies in runs; steady if too little was seen."""
    seen = [took for took in map(_took, runs) if len(took[1]) > 2 * LAGS[-1]]
    weights = [len(logs) for _, logs in seen]
    if sum(weights) < FEWEST:
        return Unsteady()
    every_s = float(np.average([one_s for one_s, _ in seen], weights=weights))
    measured = np.average([[np.mean(logs[:-lag] * logs[lag:]) for lag in LAGS] for _, logs in seen], axis=0, weights=weights)
    nearest, found = float(measured @ measured), Unsteady()
    for holds_s in HOLDS_S:
        unit = np.exp(-np.array(LAGS) * every_s / holds_s)
        variance = float(unit @ measured / (unit @ unit))
        off = measured - variance * unit
        if variance > 0 and float(off @ off) < nearest:
            nearest, found = float(off @ off), Unsteady(float(np.sqrt(np.expm1(variance))), holds_s)
    return found


def _took(run: Observed) -> tuple[float, Floats]:
    """Seconds between two times of a run's window, and the logarithms of how long the work took, less their mean."""
    start_s = run.trace.header["start_epoch_s"]
    within = [
        line for line in run.trace.lines("stalls.jsonl", needed=False)
        if "each_ns" in line and run.trace.header["warmup_s"] <= line["at_s"] - start_s < run.trace.duration_s
    ]  # fmt: skip
    took = np.array([one for line in within for one in line["each_ns"]], dtype=float)
    if len(within) < 2:
        return 0.0, np.zeros(0)
    logs = np.log(np.minimum(took, np.quantile(took, WIDEST)))
    return float((within[-1]["at_s"] - within[0]["at_s"]) / (len(took) - len(within[0]["each_ns"]))), logs - logs.mean()
