"""How much a host's speed varies is found again where it is known; no server is needed."""

import json

import numpy as np
import pandas as pd
import pytest

from loadtest.observed_run import Observed
from loadtest.traces import Trace
from loadtest.unsteady import ROLES, Unsteady, unsteady

STEP_S, LENGTH_S, RATE_PER_S = 0.005, 200.0, 80
WORK_S = {"feed.open": 0.002, "interactions.like": 0.001}


def run_of(folder, together_cv, apart_cv, seed, holds_s=0.05):
    """Roles whose work takes a factor in common, drawn anew after `holds_s`, and one of their own for every quarter second."""
    rng = np.random.default_rng(seed)
    number = int(LENGTH_S / STEP_S)
    sigma = np.sqrt(np.log1p(together_cv**2))
    drawn = rng.lognormal(-(sigma**2) / 2, sigma, number)
    anew = rng.random(number) < STEP_S / holds_s
    common = drawn[np.maximum.accumulate(np.where(anew, np.arange(number), 0))]
    finished_s = np.sort(rng.uniform(0, LENGTH_S, int(LENGTH_S * RATE_PER_S)))
    rows = pd.DataFrame({"finished_s": finished_s, "operation": rng.choice(list(WORK_S), len(finished_s))})
    amount = np.histogram(finished_s, number, (0, LENGTH_S), weights=rows.operation.map(WORK_S))[0]
    every = int(0.25 / STEP_S)
    lines = []
    for part in range(0, number + 1, every):
        lines.append({"at_s": 1000 + part * STEP_S, "processes": {role: [0.0] for role in ROLES}})
    for role in ROLES:
        own = np.repeat(rng.lognormal(0, apart_cv, number // every), every)
        used_s = np.concatenate([[0.0], np.cumsum(amount * common * own)])
        for line, value in zip(lines, used_s[::every], strict=True):
            line["processes"][role] = [float(value)]
    folder.mkdir()
    (folder / "counters.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    header = {"start_epoch_s": 1000.0, "warmup_s": 3.0, "duration_s": LENGTH_S}
    return Observed(Trace(header, rows, pd.DataFrame(), folder), LENGTH_S)


@pytest.mark.parametrize(("cv", "holds_s"), [(0.4, 0.05), (0.2, 0.4), (0.15, 0.8)])
def test_what_varies_together_is_found(tmp_path, cv, holds_s):
    found = unsteady([run_of(tmp_path / str(seed), cv, 0.05, seed, holds_s) for seed in range(3)], WORK_S)
    assert holds_s / 2 <= found.holds_s <= holds_s * 2
    assert found.cv * np.sqrt(found.holds_s) == pytest.approx(cv * np.sqrt(holds_s), rel=0.2)  # what a second's work varies by


def test_of_many_short_runs_the_same_is_found(tmp_path):
    """A run's mean is taken out of its windows, and much of what holds for long with it."""
    long_s, runs = 0.8, []
    for seed in range(30):
        runs.append(run_of(tmp_path / str(seed), 0.15, 0.05, seed, long_s))
        runs[-1].trace.header["duration_s"] = 15.0
    found = unsteady(runs, WORK_S)
    assert long_s / 2 <= found.holds_s <= long_s * 2
    assert found.cv == pytest.approx(0.15, rel=0.25)


def test_what_each_role_varies_by_itself_is_not_the_hosts(tmp_path):
    found = unsteady([run_of(tmp_path / "one", 0.0, 0.2, 1)], WORK_S)
    assert found.cv * np.sqrt(found.holds_s) < 0.06 * np.sqrt(0.05)


def test_a_few_seconds_tell_nothing(tmp_path):
    run = run_of(tmp_path / "one", 0.4, 0.0, 1)
    run.trace.header["duration_s"] = 12.0
    assert unsteady([run], WORK_S) == Unsteady()
