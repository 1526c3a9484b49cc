"""Estimates from samples: means with bootstrap intervals of 95 %, shapes, lines without negative costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
RESAMPLES = 200
QUANTILE_STEPS = 40
FEWEST_FOR_QUANTILES = 200
"""With fewer samples a distribution is told by mean and cv."""
LEAST_S = 1e-6


@dataclass(frozen=True)
class Estimate:
    """A measured duration: mean with its interval, samples, and the shape (quantiles over the mean, or a cv)."""

    mean_s: float
    n: int
    low_s: float
    high_s: float
    cv: float = 0.0
    shape: tuple[float, ...] = ()

    def entry(self) -> dict[str, Any]:
        """As a distribution in a scenario."""
        if self.mean_s < LEAST_S:
            return {"distribution": "constant", "mean_us": 0.0}
        if self.shape:
            quantiles = [float(f"{factor * self.mean_s * 1e6:.4g}") for factor in self.shape]
            return {"distribution": "empirical", "quantiles_us": quantiles}
        mean_us = float(f"{self.mean_s * 1e6:.4g}")
        if self.cv < 0.01:
            return {"distribution": "constant", "mean_us": mean_us}
        return {"distribution": "lognormal", "mean_us": mean_us, "cv": round(float(self.cv), 3)}

    def scaled(self, factor: float) -> Estimate:
        """Every duration times `factor`."""
        return Estimate(self.mean_s * factor, self.n, self.low_s * factor, self.high_s * factor, self.cv, self.shape)

    def plus(self, more_s: float) -> Estimate:
        """A part added that does not vary."""
        mean_s = self.mean_s + more_s
        if mean_s <= LEAST_S:
            return Estimate(max(mean_s, 0.0), self.n, 0.0, 0.0)
        shape = tuple(max((factor * self.mean_s + more_s) / mean_s, 0.0) for factor in self.shape)
        return Estimate(
            mean_s, self.n, self.low_s + more_s, self.high_s + more_s, self.cv * self.mean_s / mean_s, shape
        )

    def says(self) -> str:
        """For a comment beside the value."""
        return f"measured, n = {self.n:,}, mean {self.mean_s * 1e6:.4g} us ({self.low_s * 1e6:.4g} to {self.high_s * 1e6:.4g})"


def estimate(values_s: Iterable[float], weights: Iterable[float] | None = None, seed: int = 1) -> Estimate:
    """Mean, interval and shape of samples, each of a weight; zero where there is none.

    The largest of a thousand does not decide: 0.1 % is cut off.
    """
    values = np.asarray(list(values_s), dtype=float)
    shares = np.ones(len(values)) if weights is None else np.asarray(list(weights), dtype=float)
    order = np.argsort(values)[: int(np.isfinite(values).sum())]  # what is not finite comes last
    order = order[: len(order) - len(order) // 1000]
    if not len(order):
        return Estimate(0.0, 0, 0.0, 0.0)
    values, shares = np.maximum(values[order], 0.0), shares[order] / shares[order].sum()
    mean = float(shares @ values)
    drawn = np.random.default_rng(seed).integers(0, len(values), (RESAMPLES, len(values)))
    means = (values * shares)[drawn].sum(axis=1) / shares[drawn].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    cv = float(np.sqrt(shares @ (values - mean) ** 2) / mean) if mean > 0 else 0.0
    shape: tuple[float, ...] = ()
    if len(values) >= FEWEST_FOR_QUANTILES and mean > 0:
        below = np.cumsum(shares) - shares / 2
        quantiles = np.interp(np.linspace(0, 1, QUANTILE_STEPS + 1), below, values)
        made = (quantiles[1:] + quantiles[:-1]).mean() / 2  # the mean of lines between the quantiles
        shape = tuple((quantiles / made).tolist())
    return Estimate(mean, len(values), float(low), float(high), cv, shape)


def least_squares(columns: Sequence[Floats], values: Floats) -> Floats:
    """Coefficients of zero or more."""
    from scipy.optimize import nnls

    found: Floats = nnls(np.column_stack(columns), values)[0]
    return found


def line(values: Floats, items: Floats) -> tuple[float, float]:
    """Base and cost per item; both zero or more. Outliers of a noisy machine count little: twice, without the worst fifth."""
    if len(values) < 3:
        return (float(np.median(values)), 0.0) if len(values) else (0.0, 0.0)
    chosen = np.ones(len(values), bool)
    base_s, item_s = 0.0, 0.0
    for _ in range(3):
        base_s, item_s = least_squares([np.ones(chosen.sum()), items[chosen]], values[chosen])
        errors = np.abs(values - base_s - item_s * items)
        chosen = errors <= np.quantile(errors, 0.8)
    return float(base_s), float(item_s)


def middle(values: Sequence[float]) -> Estimate:
    """A constant: the median, with the interval of the median by order statistics."""
    ordered = np.sort(np.asarray(values, float))
    if not len(ordered):
        return Estimate(0.0, 0, 0.0, 0.0)
    half = 0.98 * np.sqrt(len(ordered))
    low, high = (int(np.clip(len(ordered) / 2 + sign * half, 0, len(ordered) - 1)) for sign in (-1, 1))
    return Estimate(float(np.median(ordered)), len(ordered), float(ordered[low]), float(ordered[high]))


