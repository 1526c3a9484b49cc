"""Service times and delays as distributions with a name and two ways to say them: by mean and cv, or by natural parameters.

| kind | by mean and cv | natural parameters | cv it can have |
|---|---|---|---|
| constant | `constant(mean_s)` | | 0 |
| exponential | `exponential(mean_s)` | | 1 |
| uniform | `uniform(mean_s=, cv=)` | `low_s`, `high_s` | up to 1/sqrt(3) |
| erlang | `erlang(mean_s=, cv=)` | `mean_s`, `stages` | 1/sqrt(stages) |
| gamma | `gamma(mean_s=, cv=)` | `shape`, `scale_s` | any |
| lognormal | `lognormal(mean_s=, cv=)` | `median_s`, `sigma` | any |
| weibull | `weibull(mean_s=, cv=)` | `shape`, `scale_s` | any |
| pareto | `pareto(mean_s=, cv=)` | `minimum_s`, `shape` | any |
| hyperexponential | `hyperexponential(mean_s=, cv=)` | `probability`, `mean_1_s`, `mean_2_s` | 1 or more |
| empirical | | `values_s` or `quantiles_s` | any |

Every constructor raises `ValueError` with one line that says what would be right. How a variate is drawn: `variates.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

(CONSTANT, EXPONENTIAL, UNIFORM, ERLANG, GAMMA, LOGNORMAL, WEIBULL, PARETO, HYPEREXPONENTIAL, VALUES, QUANTILES) = (
    range(11)
)


@dataclass(frozen=True)
class Distribution:
    """A distribution of a duration, in seconds: `code` and `a`, `b`, `c`, `values` are what `variates.draw` reads.

    `name` is the kind as written in scenario files; `mean_s` and `cv` (standard deviation over mean) are exact, `inf` where
    they do not exist.
    """

    name: str
    code: int
    a: float
    b: float = 0.0
    c: float = 0.0
    values: tuple[float, ...] = ()
    mean_s: float = 0.0
    cv: float = 0.0

    def scaled(self, factor: float) -> Distribution:
        """The same shape, every duration times `factor` (a faster or slower machine)."""
        _require(factor >= 0, f"a scale factor must be 0 or more, not {factor}")
        if self.mean_s == 0 and not self.values:
            return self
        natural = _SCALING[self.code]
        a, b, c = (
            value * factor if scales else value for value, scales in zip((self.a, self.b, self.c), natural, strict=True)
        )
        values = tuple(value * factor for value in self.values)
        return Distribution(self.name, self.code, a, b, c, values, self.mean_s * factor, self.cv)


# Which of a, b, c are durations (and so scale), by code.
_SCALING: dict[int, tuple[bool, bool, bool]] = {
    CONSTANT: (True, False, False),
    EXPONENTIAL: (True, False, False),
    UNIFORM: (True, True, False),
    ERLANG: (True, False, False),
    GAMMA: (True, False, False),
    LOGNORMAL: (True, False, False),
    WEIBULL: (True, False, False),
    PARETO: (True, False, False),
    HYPEREXPONENTIAL: (True, True, False),
    VALUES: (False, False, False),
    QUANTILES: (False, False, False),
}


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _positive(name: str, value: float) -> float:
    _require(math.isfinite(value) and value > 0, f"{name} must be a positive number, not {value}")
    return float(value)


def constant(mean_s: float) -> Distribution:
    """Always `mean_s` seconds; zero is allowed."""
    _require(math.isfinite(mean_s) and mean_s >= 0, f"mean must be 0 or more, not {mean_s}")
    return Distribution("constant", CONSTANT, float(mean_s), mean_s=float(mean_s))


def exponential(mean_s: float) -> Distribution:
    """Memoryless with mean `mean_s` seconds; cv 1."""
    _positive("mean", mean_s)
    return Distribution("exponential", EXPONENTIAL, float(mean_s), mean_s=float(mean_s), cv=1.0)


def uniform(
    low_s: float | None = None, high_s: float | None = None, *, mean_s: float | None = None, cv: float | None = None
) -> Distribution:
    """Uniform between `low_s` and `high_s`, or by mean and cv (at most 1/sqrt(3), so that no duration is negative)."""
    if mean_s is not None and cv is not None:
        _positive("mean", mean_s)
        half_s = mean_s * cv * math.sqrt(3.0)
        _require(
            0 <= half_s <= mean_s * (1 + 1e-12),
            f"a uniform duration has a cv between 0 and {1 / math.sqrt(3):.4f}, not {cv}",
        )
        low_s, high_s = max(0.0, mean_s - half_s), mean_s + half_s
    _require(low_s is not None and high_s is not None, "a uniform distribution needs low and high, or mean and cv")
    assert low_s is not None and high_s is not None
    _require(0 <= low_s < high_s, f"a uniform distribution needs 0 <= low < high, not {low_s} and {high_s}")
    mean = (low_s + high_s) / 2
    return Distribution(
        "uniform", UNIFORM, float(low_s), float(high_s), mean_s=mean, cv=(high_s - low_s) / math.sqrt(12.0) / mean
    )


def erlang(mean_s: float, stages: int | None = None, *, cv: float | None = None) -> Distribution:
    """The sum of `stages` exponential stages with total mean `mean_s`; by cv: stages = 1/cv², rounded to a whole number."""
    _positive("mean", mean_s)
    if stages is None:
        _require(
            cv is not None and 0 < cv <= 1,
            f"an erlang distribution needs stages, or a cv above 0 and at most 1, not {cv}",
        )
        assert cv is not None
        stages = max(1, round(1 / cv**2))
    _require(
        stages == int(stages) and 1 <= stages <= 1000, f"stages must be a whole number from 1 to 1000, not {stages}"
    )
    return Distribution("erlang", ERLANG, float(mean_s), float(stages), mean_s=float(mean_s), cv=1 / math.sqrt(stages))


def gamma(
    mean_s: float | None = None, cv: float | None = None, *, shape: float | None = None, scale_s: float | None = None
) -> Distribution:
    """Gamma by mean and cv (shape = 1/cv²) or by `shape` and `scale_s`."""
    if mean_s is not None and cv is not None:
        shape = 1 / _positive("cv", cv) ** 2
        scale_s = _positive("mean", mean_s) / shape
    _require(shape is not None and scale_s is not None, "a gamma distribution needs mean and cv, or shape and scale")
    assert shape is not None and scale_s is not None
    _positive("shape", shape)
    _positive("scale", scale_s)
    return Distribution("gamma", GAMMA, scale_s, shape, mean_s=shape * scale_s, cv=1 / math.sqrt(shape))


def lognormal(
    mean_s: float | None = None, cv: float | None = None, *, median_s: float | None = None, sigma: float | None = None
) -> Distribution:
    """Lognormal by mean and cv (sigma² = ln(1 + cv²)) or by `median_s` and `sigma`."""
    if mean_s is not None and cv is not None:
        sigma = math.sqrt(math.log1p(_positive("cv", cv) ** 2))
        median_s = _positive("mean", mean_s) * math.exp(-(sigma**2) / 2)
    _require(
        median_s is not None and sigma is not None, "a lognormal distribution needs mean and cv, or median and sigma"
    )
    assert median_s is not None and sigma is not None
    _positive("median", median_s)
    _positive("sigma", sigma)
    mean = median_s * math.exp(sigma**2 / 2)
    return Distribution("lognormal", LOGNORMAL, median_s, sigma, mean_s=mean, cv=math.sqrt(math.expm1(sigma**2)))


def weibull(
    mean_s: float | None = None, cv: float | None = None, *, shape: float | None = None, scale_s: float | None = None
) -> Distribution:
    """Weibull by mean and cv (the shape is found by bisection) or by `shape` and `scale_s`."""
    if mean_s is not None and cv is not None:
        shape = _weibull_shape(_positive("cv", cv))
        scale_s = _positive("mean", mean_s) / math.gamma(1 + 1 / shape)
    _require(shape is not None and scale_s is not None, "a weibull distribution needs mean and cv, or shape and scale")
    assert shape is not None and scale_s is not None
    _positive("shape", shape)
    _positive("scale", scale_s)
    return Distribution(
        "weibull", WEIBULL, scale_s, shape, mean_s=scale_s * math.gamma(1 + 1 / shape), cv=_weibull_cv(shape)
    )


def _weibull_cv(shape: float) -> float:
    return math.sqrt(max(0.0, math.exp(math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)) - 1))


def _weibull_shape(cv: float) -> float:
    low, high = 0.05, 200.0
    _require(_weibull_cv(high) <= cv <= _weibull_cv(low), f"a weibull distribution can have no cv of {cv}")
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if _weibull_cv(middle) > cv else (low, middle)
    return math.sqrt(low * high)


def pareto(
    mean_s: float | None = None, cv: float | None = None, *, minimum_s: float | None = None, shape: float | None = None
) -> Distribution:
    """Pareto by mean and cv (shape = 1 + sqrt(1 + 1/cv²)) or by `minimum_s` and `shape` (finite mean needs shape > 1)."""
    if mean_s is not None and cv is not None:
        shape = 1 + math.sqrt(1 + 1 / _positive("cv", cv) ** 2)
        minimum_s = _positive("mean", mean_s) * (shape - 1) / shape
    _require(
        minimum_s is not None and shape is not None, "a pareto distribution needs mean and cv, or minimum and shape"
    )
    assert minimum_s is not None and shape is not None
    _positive("minimum", minimum_s)
    _positive("shape", shape)
    mean = shape * minimum_s / (shape - 1) if shape > 1 else math.inf
    deviation_ratio = 1 / math.sqrt(shape * (shape - 2)) if shape > 2 else math.inf
    return Distribution("pareto", PARETO, minimum_s, shape, mean_s=mean, cv=deviation_ratio)


def hyperexponential(
    mean_s: float | None = None,
    cv: float | None = None,
    *,
    probability: float | None = None,
    mean_1_s: float | None = None,
    mean_2_s: float | None = None,
) -> Distribution:
    """A mixture of two exponentials: mean 1 with `probability`, else mean 2; by mean and cv with balanced means.

    Balanced means (each branch carries half of the work): p = (1 + sqrt((cv² - 1) / (cv² + 1))) / 2, as in Allen, Probability,
    Statistics and Queueing Theory.
    """
    if mean_s is not None and cv is not None:
        _positive("mean", mean_s)
        _require(cv >= 1, f"a hyperexponential distribution has a cv of 1 or more, not {cv}")
        probability = (1 + math.sqrt((cv**2 - 1) / (cv**2 + 1))) / 2
        mean_1_s, mean_2_s = mean_s / (2 * probability), mean_s / (2 * (1 - probability))
    _require(
        probability is not None and mean_1_s is not None and mean_2_s is not None,
        "a hyperexponential distribution needs mean and cv, or probability, mean_1 and mean_2",
    )
    assert probability is not None and mean_1_s is not None and mean_2_s is not None
    _require(0 < probability < 1, f"probability must be between 0 and 1, not {probability}")
    _positive("mean_1", mean_1_s)
    _positive("mean_2", mean_2_s)
    mean = probability * mean_1_s + (1 - probability) * mean_2_s
    square = 2 * (probability * mean_1_s**2 + (1 - probability) * mean_2_s**2)
    ratio = math.sqrt(square / mean**2 - 1)
    return Distribution("hyperexponential", HYPEREXPONENTIAL, mean_1_s, mean_2_s, probability, mean_s=mean, cv=ratio)


def empirical(values_s: Sequence[float] | None = None, quantiles_s: Sequence[float] | None = None) -> Distribution:
    """Measured durations: each of `values_s` equally likely, or `quantiles_s` at equal steps from 0 to 1, joined by lines."""
    _require(
        (values_s is None) != (quantiles_s is None),
        "an empirical distribution needs values or quantiles (one of the two)",
    )
    numbers = tuple(float(value) for value in (values_s if values_s is not None else quantiles_s) or ())
    _require(
        all(math.isfinite(x) and x >= 0 for x in numbers), "every value of an empirical distribution must be 0 or more"
    )
    if values_s is not None:
        _require(len(numbers) >= 1, "an empirical distribution needs at least one value")
        mean = math.fsum(numbers) / len(numbers)
        square = math.fsum(x * x for x in numbers) / len(numbers)
        code, numbers = VALUES, tuple(sorted(numbers))
    else:
        _require(len(numbers) >= 2, "an empirical distribution needs at least two quantiles")
        pairs = list(pairwise(numbers))
        _require(all(low <= high for low, high in pairs), "quantiles must not decrease")
        mean = math.fsum((low + high) / 2 for low, high in pairs) / len(pairs)
        square = math.fsum((low * low + low * high + high * high) / 3 for low, high in pairs) / len(pairs)
        code = QUANTILES
    ratio = math.sqrt(max(0.0, square - mean**2)) / mean if mean > 0 else 0.0
    return Distribution("empirical", code, 0.0, values=numbers, mean_s=mean, cv=ratio)


KINDS: dict[str, Callable[..., Distribution]] = {
    "constant": constant,
    "exponential": exponential,
    "uniform": uniform,
    "erlang": erlang,
    "gamma": gamma,
    "lognormal": lognormal,
    "weibull": weibull,
    "pareto": pareto,
    "hyperexponential": hyperexponential,
    "empirical": empirical,
}

NEVER = constant(0.0)
