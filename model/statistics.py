"""Statistics of simulation output: intervals over independent replications, the warm-up, and many comparisons at once.

Figures of one run are not independent observations (a queue remembers), so nothing here looks at the spread within a run:
an interval rests on whole replications, each with random numbers of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from model.part import Floats

CONFIDENCE = 0.95
_LAST_BATCHES = 5  # left out at the end by MSER-5: the statistic of so few says nothing. source: Hoad, Robinson, Davies 2008


@dataclass(frozen=True)
class Interval:
    """A mean over `n` replications and the interval that covers the expected value with the confidence asked for.

    In the unit of the figure. One replication has no interval: `low` and `high` are infinite then; of none all are NaN.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """The ± of the mean."""
        return (self.high - self.low) / 2 if self.n > 1 else math.inf

    @property
    def half_width_ratio(self) -> float:
        """The ± as a share of the mean; 0 if there is no spread at all."""
        if self.half_width == 0:
            return 0.0
        return self.half_width / abs(self.mean) if self.mean else math.inf

    def row(self) -> dict[str, float | int]:
        """Name → value, for tables and JSON."""
        return {
            "mean": self.mean,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "half_width_ratio": self.half_width_ratio,
        }


def interval(values: Sequence[float] | Floats, confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of the mean of independent values (Law, *Simulation Modeling and Analysis*, 4.5).

    Raises `ValueError` for a confidence outside 0 < c < 1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence is above 0 and below 1, not {confidence}")
    sample = np.asarray(values, float)
    n = len(sample)
    if n == 0:
        return Interval(math.nan, math.nan, math.nan, 0)
    mean = float(np.mean(sample))
    if n == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    half = float(stdtrit(n - 1, (1 + confidence) / 2) * np.std(sample, ddof=1) / math.sqrt(n))
    return Interval(mean, mean - half, mean + half, n)


def p_value(differences: Sequence[float] | Floats) -> float:
    """The probability of a mean this far from 0 if the expected value is 0: the two-sided t test. 1 where nothing can be said."""
    sample = np.asarray(differences, float)
    n = len(sample)
    if n < 2:
        return 1.0
    mean, error = float(np.mean(sample)), float(np.std(sample, ddof=1)) / math.sqrt(n)
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * stdtr(n - 1, -abs(mean) / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values: below α in all that are called real, with at most α for a single false one among them. Holm 1979."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def replications_needed(found: Interval, precision_ratio: float) -> int:
    """About how many replications make an interval `precision_ratio` of its mean, if the spread stays as it is."""
    if found.half_width_ratio <= precision_ratio:
        return found.n
    if not math.isfinite(found.half_width_ratio):
        return 2 * found.n
    return math.ceil(found.n * (found.half_width_ratio / precision_ratio) ** 2)


@dataclass(frozen=True)
class Truncation:
    """Where MSER cuts a series off: after `observations` of `of`."""

    observations: int
    of: int

    @property
    def stationary(self) -> bool:
        """Whether enough is left: a cut in the second half means that the run is too short to tell (White 1997)."""
        return self.observations <= self.of / 2


def mser(series: Floats, batch: int = 5) -> Truncation:
    """The start-up part of a series, by MSER-5: cut where the standard error of what is left is least.

    White, Cobb and Spratt, "A comparison of five steady-state truncation heuristics for simulation" (WSC 2000). The series
    is averaged in batches of five first. Raises `ValueError` for a series of fewer than 20 batches.
    """
    batches = len(series) // batch
    if batches < 20:
        raise ValueError(f"MSER-{batch} needs {20 * batch} observations, got {len(series)}")
    means = np.asarray(series[: batches * batch], float).reshape(batches, batch).mean(axis=1)
    means = means - means.mean()  # no digits lost in the difference of squares below
    left = np.arange(batches, 0, -1)
    sums, squares = np.cumsum(means[::-1])[::-1], np.cumsum(means[::-1] ** 2)[::-1]
    statistic = (squares - sums**2 / left) / left**2
    cut = int(np.argmin(statistic[: batches - _LAST_BATCHES]))
    return Truncation(cut * batch, batches * batch)
