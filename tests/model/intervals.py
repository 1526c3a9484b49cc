"""Does a simulated mean agree with theory? Replications with seeds of their own, and a t-interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

REPLICATIONS = 10
T_999 = 4.781  # Student's t, 9 degrees of freedom, two-sided 99.9 %


def interval(measure: Callable[[int], float]) -> tuple[float, float]:
    """Mean and half width of the 99.9 % interval of what `measure(seed)` gives for seeds 1 to 10."""
    values = np.array([measure(seed) for seed in range(1, REPLICATIONS + 1)])
    return float(values.mean()), float(T_999 * values.std(ddof=1) / np.sqrt(REPLICATIONS))


def assert_agrees(measure: Callable[[int], float], theory: float, within_ratio: float) -> None:
    """The interval holds `theory`, and it is narrow enough to mean something: half of it at most `within_ratio` of it."""
    mean, half = interval(measure)
    assert abs(mean - theory) <= half, f"{mean:.6g} ± {half:.2g}, theory {theory:.6g}"
    assert half <= within_ratio * theory, f"{mean:.6g} ± {half:.2g}: too few jobs to tell"
