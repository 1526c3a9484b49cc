import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from model.statistics import Interval, holm, interval, mser, p_value, replications_needed


def test_an_interval_of_known_values():
    # Of 1..10: mean 5.5, standard deviation 3.02765, Student's t with 9 degrees of freedom 2.262157 (tables).
    found = interval(range(1, 11))
    assert found.mean == 5.5
    assert found.n == 10
    assert found.half_width == pytest.approx(2.262157 * 3.0276504 / math.sqrt(10), rel=1e-6)
    assert found.half_width_ratio == pytest.approx(found.half_width / 5.5)


def test_intervals_cover_the_expected_value_as_often_as_they_say():
    rng = np.random.default_rng(5)
    for confidence in (0.95, 0.8):
        trials = [interval(rng.normal(3.0, 2.0, 6), confidence) for _ in range(3000)]
        covered = sum(one.low <= 3.0 <= one.high for one in trials)
        spread = math.sqrt(3000 * confidence * (1 - confidence))
        assert abs(covered - 3000 * confidence) < 4 * spread


def test_one_value_has_no_interval_and_equal_ones_no_spread():
    assert interval([2.0]) == Interval(2.0, -math.inf, math.inf, 1)
    assert interval([2.0]).half_width_ratio == math.inf
    assert interval([0.0, 0.0]).half_width_ratio == 0.0
    assert interval([]).n == 0 and math.isnan(interval([]).mean)
    with pytest.raises(ValueError, match="confidence"):
        interval([1.0, 2.0], 1.0)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_p_values_are_those_of_the_t_test(values):
    if np.std(values) > 1e-6 * (1 + np.max(np.abs(values))):
        assert p_value(values) == pytest.approx(stats.ttest_1samp(values, 0.0).pvalue, abs=1e-9)


def test_p_values_at_the_edges():
    assert p_value([1.0]) == p_value([0.0, 0.0, 0.0]) == 1.0
    assert p_value([2.0, 2.0, 2.0]) == 0.0


def test_holm_on_the_textbook_example():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_between_no_correction_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for one, raw in zip(adjusted, p_values, strict=True):
        assert raw <= one <= min(1.0, len(p_values) * raw)
    order = np.argsort(p_values, kind="stable")
    assert list(np.array(adjusted)[order]) == sorted(adjusted)


def test_false_discoveries_are_as_rare_as_holm_promises():
    rng = np.random.default_rng(11)
    families = [holm([p_value(rng.normal(0, 1, 8)) for _ in range(10)]) for _ in range(1000)]
    false = sum(min(family) <= 0.05 for family in families)
    assert false < 50 + 4 * math.sqrt(1000 * 0.05 * 0.95)


def test_replications_needed_follow_the_square_of_the_precision():
    found = Interval(10.0, 8.0, 12.0, 9)  # ± 20 %
    assert replications_needed(found, 0.2) == 9
    assert replications_needed(found, 0.1) == 36
    assert replications_needed(interval([1.0]), 0.1) == 2


def transient(seed: int, start_up: int, n: int = 2000) -> np.ndarray:
    """Noise around 5, after a start-up from 0 that is exponential and practically over after `start_up` observations."""
    noise = np.random.default_rng(seed).normal(0, 0.5, n)
    return 5.0 * (1 - np.exp(-4.0 * np.arange(n) / max(start_up, 1e-9))) + noise


@pytest.mark.parametrize("start_up", [200, 400, 800])
def test_mser_5_cuts_off_a_known_start_up(start_up):
    cuts = [mser(transient(seed, start_up)) for seed in range(20)]
    assert all(cut.stationary and cut.of == 2000 for cut in cuts)
    middle = float(np.median([cut.observations for cut in cuts]))
    assert 0.5 * start_up < middle < 1.5 * start_up


def test_mser_5_leaves_what_is_stationary_alone_and_knows_a_trend():
    noise = np.random.default_rng(2).normal(5, 1, 1000)
    assert mser(noise).observations < 300
    assert mser(np.full(200, 3.0)).observations == 0
    assert not mser(np.arange(1000.0) + noise).stationary
    with pytest.raises(ValueError, match="100 observations, got 99"):
        mser(np.zeros(99))


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(-1e6, 1e6), st.floats(0.001, 1000))
def test_mser_5_does_not_depend_on_the_unit(seed, shift, scale):
    series = transient(seed, 300, 500)
    assert mser(series * scale + shift) == mser(series)
