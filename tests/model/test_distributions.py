"""Every distribution: its mean and cv by sampling, its two ways to be said, and one line for what makes no sense."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import distributions as d
from model.arrivals import draws

COUNT = 400_000

# Each with its exact mean and cv, worked out by hand or from the textbook.
EXAMPLES = [
    (d.constant(0.25), 0.25, 0.0),
    (d.exponential(2.0), 2.0, 1.0),
    (d.uniform(1.0, 3.0), 2.0, 1 / math.sqrt(12)),
    (d.uniform(mean_s=5.0, cv=0.2), 5.0, 0.2),
    (d.erlang(3.0, 4), 3.0, 0.5),
    (d.erlang(3.0, cv=0.5), 3.0, 0.5),
    (d.gamma(2.0, 0.5), 2.0, 0.5),
    (d.gamma(0.1, 2.0), 0.1, 2.0),
    (d.gamma(shape=2.0, scale_s=1.5), 3.0, 1 / math.sqrt(2)),
    (d.lognormal(4.0, 0.5), 4.0, 0.5),
    (d.lognormal(median_s=1.0, sigma=0.5), math.exp(0.125), math.sqrt(math.exp(0.25) - 1)),
    (d.weibull(0.1, 0.5), 0.1, 0.5),
    (d.weibull(shape=2.0, scale_s=1.0), math.sqrt(math.pi) / 2, math.sqrt(4 / math.pi - 1)),
    (d.pareto(2.0, 0.4), 2.0, 0.4),
    (d.pareto(minimum_s=1.0, shape=5.0), 1.25, 1 / math.sqrt(15)),
    (d.hyperexponential(1.0, 2.0), 1.0, 2.0),
    (d.hyperexponential(probability=0.5, mean_1_s=1.0, mean_2_s=3.0), 2.0, math.sqrt(2 * 5 / 4 - 1)),
    (d.empirical(values_s=[1.0, 2.0, 6.0]), 3.0, math.sqrt(14 / 3) / 3),
    (d.empirical(quantiles_s=[0.0, 1.0, 3.0]), 1.25, math.sqrt((1 / 3 + 13 / 3) / 2 - 1.25**2) / 1.25),
]


@pytest.mark.parametrize(("distribution", "mean_s", "cv"), EXAMPLES, ids=lambda value: getattr(value, "name", ""))
def test_mean_and_cv_as_said_and_as_drawn(distribution, mean_s, cv):
    assert distribution.mean_s == pytest.approx(mean_s)
    assert distribution.cv == pytest.approx(cv)
    drawn = draws(distribution, 7, "test", 0, COUNT)
    assert np.min(drawn) >= 0
    assert np.mean(drawn) == pytest.approx(mean_s, abs=4.5 * mean_s * cv / math.sqrt(COUNT) + 1e-12)
    fourth = np.mean((drawn - mean_s) ** 4)
    error = 6 * math.sqrt(fourth / COUNT)
    assert np.var(drawn) == pytest.approx((mean_s * cv) ** 2, abs=error + 1e-12)


@pytest.mark.parametrize(
    ("distribution", "below"),
    [
        (d.exponential(2.0), lambda x: 1 - math.exp(-x / 2)),
        (d.uniform(1.0, 3.0), lambda x: min(1.0, max(0.0, (x - 1) / 2))),
        (d.erlang(2.0, 2), lambda x: 1 - math.exp(-x) * (1 + x)),
        (d.gamma(shape=1.0, scale_s=2.0), lambda x: 1 - math.exp(-x / 2)),
        (
            d.gamma(shape=0.5, scale_s=2.0),
            lambda x: math.erf(math.sqrt(x / 2)),
        ),  # chi-square with one degree of freedom
        (d.lognormal(median_s=2.0, sigma=0.7), lambda x: 0.5 + 0.5 * math.erf(math.log(x / 2) / 0.7 / math.sqrt(2))),
        (d.weibull(shape=3.0, scale_s=2.0), lambda x: 1 - math.exp(-((x / 2) ** 3))),
        (d.pareto(minimum_s=1.0, shape=1.5), lambda x: max(0.0, 1 - x**-1.5) if x > 1 else 0.0),
        (
            d.hyperexponential(probability=0.3, mean_1_s=1.0, mean_2_s=4.0),
            lambda x: 1 - 0.3 * math.exp(-x) - 0.7 * math.exp(-x / 4),
        ),
        (d.empirical(quantiles_s=[0.0, 1.0, 4.0]), lambda x: x / 2 if x < 1 else min(1.0, 0.5 + (x - 1) / 6)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_distribution_function(distribution, below):
    """The largest distance to the exact distribution function, against the Kolmogorov-Smirnov bound of 0.1 %."""
    drawn = np.sort(draws(distribution, 11, "test", 0, COUNT))
    exact = np.array([below(x) for x in drawn[::50]])
    steps = np.arange(0, COUNT, 50) / COUNT
    assert np.max(np.abs(exact - steps)) < 1.95 / math.sqrt(COUNT) + 1 / COUNT


positive = st.floats(1e-6, 1e4)


@given(positive, st.floats(0.05, 1.0))
def test_by_mean_and_cv_or_by_natural_parameters(mean_s, cv):
    same = [
        (d.gamma(mean_s, cv), d.gamma(shape=1 / cv**2, scale_s=mean_s * cv**2)),
        (
            d.lognormal(mean_s, cv),
            d.lognormal(median_s=mean_s / math.sqrt(1 + cv**2), sigma=math.sqrt(math.log(1 + cv**2))),
        ),
    ]
    for by_mean, natural in same:
        assert (by_mean.a, by_mean.b) == pytest.approx((natural.a, natural.b))
    for by_mean in (d.gamma(mean_s, cv), d.lognormal(mean_s, cv), d.weibull(mean_s, cv), d.pareto(mean_s, cv)):
        assert by_mean.mean_s == pytest.approx(mean_s)
        assert by_mean.cv == pytest.approx(cv, rel=1e-6)
    wide = d.hyperexponential(mean_s, 1 + cv)
    assert (wide.mean_s, wide.cv) == pytest.approx((mean_s, 1 + cv))
    narrow = d.uniform(mean_s=mean_s, cv=cv / 2)
    assert (narrow.mean_s, narrow.cv) == pytest.approx((mean_s, cv / 2))


@given(st.sampled_from(EXAMPLES), st.floats(0.01, 100))
def test_scaling_keeps_the_shape(example, factor):
    distribution = example[0]
    scaled = distribution.scaled(factor)
    assert scaled.mean_s == pytest.approx(distribution.mean_s * factor)
    assert scaled.cv == distribution.cv
    assert draws(scaled, 3, "test", 0, 50) == pytest.approx(draws(distribution, 3, "test", 0, 50) * factor)


def test_stages_of_an_erlang_distribution_are_rounded():
    assert d.erlang(1.0, cv=0.6).b == 3  # 1 / 0.36 = 2.8
    assert d.erlang(1.0, cv=0.6).cv == pytest.approx(1 / math.sqrt(3))


def test_a_tail_without_a_mean():
    assert d.pareto(minimum_s=1.0, shape=1.0).mean_s == math.inf
    assert d.pareto(minimum_s=1.0, shape=2.0).cv == math.inf


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: d.constant(-1), "mean must be 0 or more, not -1"),
        (lambda: d.exponential(0), "mean must be a positive number, not 0"),
        (lambda: d.exponential(math.nan), "mean must be a positive number, not nan"),
        (lambda: d.exponential(math.inf), "mean must be a positive number, not inf"),
        (lambda: d.uniform(3, 1), "a uniform distribution needs 0 <= low < high, not 3 and 1"),
        (lambda: d.uniform(mean_s=1, cv=0.9), "a uniform duration has a cv between 0 and 0.5774, not 0.9"),
        (lambda: d.uniform(), "a uniform distribution needs low and high, or mean and cv"),
        (lambda: d.erlang(1.0), "an erlang distribution needs stages, or a cv above 0 and at most 1, not None"),
        (lambda: d.erlang(1.0, 2000), "stages must be a whole number from 1 to 1000, not 2000"),
        (lambda: d.erlang(1.0, 2.5), "stages must be a whole number from 1 to 1000, not 2.5"),
        (lambda: d.gamma(1.0), "a gamma distribution needs mean and cv, or shape and scale"),
        (lambda: d.gamma(1.0, 0), "cv must be a positive number, not 0"),
        (lambda: d.lognormal(median_s=1.0), "a lognormal distribution needs mean and cv, or median and sigma"),
        (lambda: d.lognormal(-1.0, 1.0), "mean must be a positive number, not -1.0"),
        (lambda: d.weibull(shape=1.0), "a weibull distribution needs mean and cv, or shape and scale"),
        (lambda: d.pareto(shape=1.0), "a pareto distribution needs mean and cv, or minimum and shape"),
        (lambda: d.hyperexponential(1.0, 0.5), "a hyperexponential distribution has a cv of 1 or more, not 0.5"),
        (
            lambda: d.hyperexponential(probability=1.5, mean_1_s=1, mean_2_s=1),
            "probability must be between 0 and 1, not 1.5",
        ),
        (lambda: d.empirical(), "an empirical distribution needs values or quantiles (one of the two)"),
        (
            lambda: d.empirical([1.0], [1.0, 2.0]),
            "an empirical distribution needs values or quantiles (one of the two)",
        ),
        (lambda: d.empirical([]), "an empirical distribution needs at least one value"),
        (lambda: d.empirical([1.0, -1.0]), "every value of an empirical distribution must be 0 or more"),
        (lambda: d.empirical(quantiles_s=[1.0]), "an empirical distribution needs at least two quantiles"),
        (lambda: d.empirical(quantiles_s=[2.0, 1.0]), "quantiles must not decrease"),
        (lambda: d.exponential(1.0).scaled(-1), "a scale factor must be 0 or more, not -1"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(make, line):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == line


@pytest.mark.parametrize("cv", [1e-3, 1e3])
def test_extreme_variation_is_refused_or_exact(cv):
    with pytest.raises(ValueError, match="a weibull distribution can have no cv of"):
        d.weibull(1.0, cv * 1e6 if cv > 1 else cv)
    assert d.lognormal(1.0, cv).cv == pytest.approx(cv, rel=1e-6)


def test_a_hyperexponential_of_cv_one_is_exponential():
    plain = d.hyperexponential(2.0, 1.0)
    assert (plain.mean_s, plain.cv) == pytest.approx((2.0, 1.0))


def test_every_kind_is_listed():
    assert sorted(d.KINDS) == sorted({distribution.name for distribution, _, _ in EXAMPLES})
