"""How much a host's speed varies is found again where it is known; no server is needed."""

import json

import numpy as np
import pandas as pd
import pytest

from loadtest.observed_run import Observed
from loadtest.traces import Trace
from loadtest.unsteady import FEWEST, Unsteady, unsteady
from loadtest.validation import course_of

EVERY_S, TIMES = 0.005, 20


def run_of(folder, cv, chance_cv, seed, holds_s=0.1, length_s=60.0):
    """A run whose meter's work takes a factor that is drawn anew after `holds_s`, and another each time by chance."""
    rng = np.random.default_rng(seed)
    number = int(length_s / EVERY_S)
    sigma = np.sqrt(np.log1p(cv**2))
    drawn = rng.lognormal(-(sigma**2) / 2, sigma, number)
    anew = rng.random(number) < EVERY_S / holds_s
    took_ns = 13_000 * drawn[np.maximum.accumulate(np.where(anew, np.arange(number), 0))] * rng.lognormal(0, chance_cv, number)
    lines = [
        {"at_s": 1000 + (first + TIMES) * EVERY_S, "took_s": 1e-9 * took_ns[first : first + TIMES].mean(),
         "each_ns": took_ns[first : first + TIMES].round().tolist()}
        for first in range(0, number, TIMES)
    ]  # fmt: skip
    lines.insert(3, {"at_s": 1000.3, "stalled_s": 0.004})
    folder.mkdir()
    (folder / "stalls.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    header = {"start_epoch_s": 1000.0, "warmup_s": 3.0, "duration_s": length_s}
    return Observed(Trace(header, pd.DataFrame(), pd.DataFrame(), folder), length_s)


@pytest.mark.parametrize(("cv", "chance_cv", "holds_s"), [(0.15, 0.2, 0.1), (0.3, 0.2, 0.1), (0.2, 0.02, 0.4), (0.15, 0.3, 0.05)])
def test_what_lasts_is_told_from_chance(tmp_path, cv, chance_cv, holds_s):
    found = unsteady([run_of(tmp_path / str(seed), cv, chance_cv, seed, holds_s) for seed in range(4)])
    assert found.cv == pytest.approx(cv, rel=0.15)
    assert found.holds_s in (holds_s / 2, holds_s, 2 * holds_s)


def test_chance_alone_is_steady(tmp_path):
    assert unsteady([run_of(tmp_path / "one", 0.0, 0.3, 1)]).cv < 0.05


def test_too_little_says_nothing(tmp_path):
    assert unsteady([run_of(tmp_path / "short", 0.3, 0.1, 1, length_s=3.0 + FEWEST * EVERY_S / 2)]) == Unsteady()
    assert unsteady([]) == Unsteady()
    unmetered = run_of(tmp_path / "unmetered", 0.3, 0.1, 1)
    unmetered.trace.file("stalls.jsonl").unlink()  # as of traces from before there was a meter
    assert unsteady([unmetered]) == Unsteady()
    assert course_of(unmetered.trace) == []
