"""How unsteady the host's speed is: what others on the same machine do slows all processes at once, for moments or for minutes.

The meter on the system's core (`stalls.py`) does one small fixed piece of work two hundred times a second. How long that takes varies from
one time to the next by chance, and over longer times as the core's speed does. A factor of variance v of the logarithm that is drawn
anew after exponentially distributed times of mean h has the autocovariance v exp(-t/h); chance has none from one time to the next.
Several such factors at once have the sum of theirs: for each of some times h its v follows by least squares without negative ones. What
is the same all through a run, and another in the next, is a factor of the longest time.

A platform's work does not feel what slows the meter just as much, since it uses the core's caches and memory in another way. How
much is the power `sensitivity`: by what power of the meter's time its CPU per request goes, from one quarter of a second to the next.

Runs that met the machine at different speeds are made comparable by it (`even_out`): a few runs at each load say what work costs, and a
load whose runs all met it fast would seem to have less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.estimates import Floats, least_squares
from loadtest.given_machine import work_of
from loadtest.observed_run import Observed

LAGS = tuple(2**step for step in range(11))
"""Times of the meter's work between two that are compared: 5 ms to 5 s; of shorter runs, to half of the shortest one."""
SHORTEST = 128
"""Times in a run; one with fewer is left out."""
HOLDS_S = tuple(0.025 * 2**step for step in range(11))
"""Times that are tried, to 25.6 s: shorter ones than the first a queue evens out, and longer ones last for a whole run."""
FEWEST = 500
"""Times that the work was done in all; fewer say nothing about a variance."""
LEAST_CV = 0.02
"""A factor that varies less is left out."""
WIDEST = 0.995
"""Quantile beyond which a time is an interruption, not a speed."""
SURE = 0.3
"""A sensitivity is not believed whose standard error is larger."""


@dataclass(frozen=True)
class Unsteady:
    """Factors by which work takes longer, (coefficient of variation, for how many seconds it holds on the average); none if it is steady.

    `sensitivity`: the power of the meter's time that they, and the platform's work, go by; `error`: its standard error, inf if not known.
    """

    factors: tuple[tuple[float, float], ...] = ()
    sensitivity: float = 1.0
    error: float = float("inf")


def unsteady(runs: Sequence[Observed]) -> Unsteady:
    """How the host's speed varies in runs; steady if too little was seen."""
    seen = [(run, at_s, logs) for run in runs for at_s, logs in (_took(run),) if len(logs) > SHORTEST]
    if sum(len(logs) for _, _, logs in seen) < FEWEST:
        return Unsteady()
    every_s = float(np.mean([np.median(np.diff(at_s)) for _, at_s, _ in seen]))
    mean = float(np.mean(np.concatenate([logs for _, _, logs in seen])))
    off = [logs - mean for _, _, logs in seen]
    pairs = [len(logs) for logs in off]
    lags = np.array([lag for lag in LAGS if 2 * lag < min(pairs)])
    measured = np.average([[np.mean(logs[:-lag] * logs[lag:]) for lag in lags] for logs in off], axis=0, weights=pairs)
    variances = least_squares([np.exp(-lags * every_s / holds_s) for holds_s in HOLDS_S], measured)
    chance = max(float(np.average([np.mean(logs**2) for logs in off], weights=pairs)) - float(variances.sum()), 0.0)
    sensitivity, error = _sensitivity(seen, chance)
    factors = zip(np.sqrt(np.expm1(sensitivity**2 * variances)).tolist(), HOLDS_S, strict=True)
    return Unsteady(tuple((cv, holds_s) for cv, holds_s in factors if cv >= LEAST_CV), sensitivity, error)


def even_out(runs: Sequence[Observed], sensitivity: float) -> None:
    """Let each run's CPU count as if the host had been as fast in it as in all of these on the average (`Observed.slow_factor`)."""
    logs = [found[1] for found in map(_took, runs)]
    if not all(map(len, logs)):
        return  # some were not metered
    means = np.array([float(one.mean()) for one in logs])
    slow = np.exp(sensitivity * (means - means.mean()))
    for run, factor in zip(runs, slow / slow.mean(), strict=True):
        run.slow_factor = float(factor)


def _took(run: Observed) -> tuple[Floats, Floats]:
    """Of the meter's work in a run's window: seconds since the schedule's start, and the logarithms of how long it took."""
    start_s = run.trace.header["start_epoch_s"]
    at_s, took_ns, before_s = list[Floats](), list[Floats](), 0.0
    for line in run.trace.lines("stalls.jsonl", needed=False):
        if "each_ns" in line:
            ended_s, each_ns = line["at_s"] - start_s, np.array(line["each_ns"], dtype=float)
            if run.trace.header["warmup_s"] <= before_s and ended_s < run.trace.duration_s:
                at_s.append(before_s + (ended_s - before_s) * np.arange(1, len(each_ns) + 1) / len(each_ns))
                took_ns.append(each_ns)
            before_s = ended_s
    if not took_ns:
        return np.zeros(0), np.zeros(0)
    took = np.concatenate(took_ns)
    return np.concatenate(at_s), np.log(np.minimum(took, np.quantile(took, WIDEST)))


def _sensitivity(seen: Sequence[tuple[Observed, Floats, Floats]], chance: float) -> tuple[float, float]:
    """By what power of the meter's time CPU per request goes, arrivals held equal, and its standard error; 1 if that is not known.

    Within runs alone: between them other things differ too, such as how long processes sleep. `chance`: variance of one of the meter's
    times that is not the core's speed; what is left of it in an average would make the power too small (errors in variables).
    """
    costs, rates, times, by_chance = list[Floats](), list[Floats](), list[Floats](), 0.0
    for run, at_s, logs in seen:
        work = work_of(run.trace, run.idle_ratio)
        low, high = np.searchsorted(at_s, work.edges_s[:-1]), np.searchsorted(at_s, work.edges_s[1:])
        known = (high > low) & (work.cpu_s > 0) & (work.finished > 0) & (work.edges_s[:-1] >= run.trace.header["warmup_s"])
        if known.sum() < 2:
            continue
        meter = np.array([logs[a:b].mean() for a, b in zip(low[known], high[known], strict=True)])
        cost, rate = np.log(work.cpu_s / np.maximum(work.finished, 1))[known], np.log(work.finished / np.diff(work.edges_s))[known]
        by_chance += float(np.sum(chance / (high - low)[known]))
        for every, one in ((costs, cost), (rates, rate), (times, meter)):
            every.append(one - one.mean())
    if sum(map(len, costs)) < 10:
        return 1.0, float("inf")
    by, cost = np.column_stack([np.concatenate(times), np.concatenate(rates)]), np.concatenate(costs)
    squares = by.T @ by
    squares[0, 0] -= by_chance
    if squares[0, 0] <= 0 or np.linalg.det(squares) <= 0:
        return 1.0, float("inf")
    found = np.linalg.solve(squares, by.T @ cost)
    error = float(np.var(cost - by @ found) * np.linalg.inv(squares)[0, 0]) ** 0.5
    return (max(float(found[0]), 0.0), error) if error < SURE else (1.0, error)
