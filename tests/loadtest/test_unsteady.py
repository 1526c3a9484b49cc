"""How much a host's speed varies is found again where it is known; no server is needed."""

import json

import numpy as np
import pandas as pd
import pytest

from loadtest.observed_run import Observed
from loadtest.traces import Trace
from loadtest.unsteady import FEWEST, Unsteady, even_out, unsteady
from loadtest.validation import course_of

EVERY_S, TIMES, PER_S = 0.005, 20, 500


def run_of(folder, varies, chance_cv, seed, length_s=60.0, power=1.0, takes=1.0):
    """A run whose meter's work takes factors (cv, seconds that it holds), and another each time by chance.

    CPU per request goes by a `power` of the factors; all of the meter's work takes `takes` times as long.
    """
    rng = np.random.default_rng(seed)
    number = int(length_s / EVERY_S)
    factors = np.ones(number)
    for cv, holds_s in varies:
        sigma = np.sqrt(np.log1p(cv**2))
        drawn = rng.lognormal(-(sigma**2) / 2, sigma, number)
        anew = rng.random(number) < EVERY_S / holds_s
        factors *= drawn[np.maximum.accumulate(np.where(anew, np.arange(number), 0))]
    took_ns = 13_000 * takes * factors * rng.lognormal(0, chance_cv, number)
    lines = [
        {"at_s": 1000 + (first + TIMES) * EVERY_S, "took_s": 1e-9 * took_ns[first : first + TIMES].mean(),
         "each_ns": took_ns[first : first + TIMES].round().tolist()}
        for first in range(0, number, TIMES)
    ]  # fmt: skip
    lines.insert(3, {"at_s": 1000.3, "stalled_s": 0.004})
    folder.mkdir()
    (folder / "stalls.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    finished_s = np.sort(rng.uniform(0, length_s, int(PER_S * length_s)))
    used_s = np.cumsum(0.001 * factors[(finished_s / EVERY_S).astype(int)] ** power)
    looks_s = np.arange(0, length_s + 0.25, 0.25)
    used_s = np.append(0.0, used_s)[np.searchsorted(finished_s, looks_s)]
    told = zip(looks_s.tolist(), used_s.tolist(), strict=True)
    counters = [{"at_s": 1000 + at_s, "processes": {"api": [s, 0.0, 0, s]}} for at_s, s in told]
    (folder / "counters.jsonl").write_text("".join(json.dumps(line) + "\n" for line in counters))
    header = {"start_epoch_s": 1000.0, "warmup_s": 3.0, "duration_s": length_s}
    rows = pd.DataFrame({"finished_s": finished_s})
    return Observed(Trace(header, rows, pd.DataFrame(), folder), length_s, idle_ratio={"api": 0.0})


def variance(varies):
    """Of the logarithm, all factors together."""
    return sum(np.log1p(cv**2) for cv, _ in varies)


@pytest.mark.parametrize(("cv", "chance_cv", "holds_s"), [(0.15, 0.2, 0.1), (0.3, 0.2, 0.1), (0.2, 0.02, 0.4), (0.15, 0.3, 0.05)])
def test_what_lasts_is_told_from_chance(tmp_path, cv, chance_cv, holds_s):
    found = unsteady([run_of(tmp_path / str(seed), [(cv, holds_s)], chance_cv, seed) for seed in range(4)])
    assert variance(found.factors) == pytest.approx(variance([(cv, holds_s)]), rel=0.3)
    nearby = [one for one in found.factors if holds_s / 2.1 < one[1] < holds_s * 2.1]
    assert variance(nearby) > 0.75 * variance(found.factors)
    assert found.sensitivity == pytest.approx(1.0, abs=0.15)


def test_short_runs_tell_of_moments_too(tmp_path):
    found = unsteady([run_of(tmp_path / str(seed), [(0.2, 0.1)], 0.1, seed, 8.0) for seed in range(16)])
    assert variance(found.factors) == pytest.approx(variance([(0.2, 0.1)]), rel=0.3)


def test_moments_and_whole_runs_are_told_apart(tmp_path):
    """What is the same all through a run differs between runs only."""
    varies = [(0.2, 0.1), (0.3, 1000.0)]
    found = unsteady([run_of(tmp_path / str(seed), varies, 0.1, seed, 20.0) for seed in range(24)])
    short, long = ([one for one in found.factors if (one[1] > 3.0) == slow] for slow in (False, True))
    assert variance(short) == pytest.approx(variance(varies[:1]), rel=0.3)
    assert variance(long) == pytest.approx(variance(varies[1:]), rel=0.7)  # 24 draws: a standard error is 0.3


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_factors_are_what_the_platforms_work_feels_of_them(tmp_path, power):
    found = unsteady([run_of(tmp_path / str(seed), [(0.2, 0.4)], 0.05, seed, power=power) for seed in range(4)])
    assert found.sensitivity == pytest.approx(power, abs=0.1)
    assert found.error < 0.1
    assert variance(found.factors) == pytest.approx(power**2 * variance([(0.2, 0.4)]), rel=0.35)


def test_chance_alone_is_steady(tmp_path):
    found = unsteady([run_of(tmp_path / "one", [], 0.3, 1)])
    assert variance(found.factors) < 0.05**2
    assert found.sensitivity == 1.0 or found.error < 0.3


def test_too_little_says_nothing(tmp_path):
    assert unsteady([run_of(tmp_path / "short", [(0.3, 0.1)], 0.1, 1, length_s=3.0 + FEWEST * EVERY_S / 2)]) == Unsteady()
    assert unsteady([]) == Unsteady()
    unmetered = run_of(tmp_path / "unmetered", [(0.3, 0.1)], 0.1, 1)
    unmetered.trace.file("stalls.jsonl").unlink()  # as of traces from before there was a meter
    assert unsteady([unmetered]) == Unsteady()
    assert course_of(unmetered.trace) == []


def test_runs_that_met_the_machine_at_different_speeds_are_evened_out(tmp_path):
    runs = [run_of(tmp_path / str(seed), [], 0.02, seed) for seed in range(3)]
    slow = run_of(tmp_path / "slow", [], 0.02, 4, takes=1.5)
    for run in (*runs, slow):
        run.busy_ratio = {"api": 0.5}
    even_out([*runs, slow], 1.0)
    assert slow.slow_factor / runs[0].slow_factor == pytest.approx(1.5, rel=0.02)
    assert np.mean([run.slow_factor for run in (*runs, slow)]) == pytest.approx(1.0)
    assert slow.cpu_s["api"] * slow.slow_factor == pytest.approx(0.5 * slow.window_s)
    even_out([*runs, slow], 0.5)
    assert slow.slow_factor / runs[0].slow_factor == pytest.approx(1.5**0.5, rel=0.02)
    (tmp_path / "slow" / "stalls.jsonl").unlink()  # it was not metered: nothing is known of the others beside it
    for run in (*runs, slow):
        run.slow_factor = 1.0
    even_out([*runs, slow], 1.0)
    assert {run.slow_factor for run in (*runs, slow)} == {1.0}
