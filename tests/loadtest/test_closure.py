"""What closing finds again where it is known: the measured CPU is the model's own, under other settings."""

import numpy as np
import pandas as pd
import pytest

from loadtest import closure
from loadtest.calibration import Calibration
from loadtest.closure import Level
from loadtest.cold import MOST_EXTRA, Cold
from loadtest.estimates import Estimate
from loadtest.observed_run import Observed
from loadtest.traces import Trace
from scenarios.loader import load_scenario

STATIONS = {"api": "api", "postgres": "database"}
HOSTED = (
    "hosts.machine={cores=1}", "stations.api.host=machine", "stations.api.servers=1", "stations.database.host=machine",
    "population.users=200", "population.mean_followees=10", "population.celebrities=[]",
)  # fmt: skip
LENGTH_S = 20.0


def observed_at(rate_per_s, burst_s=0.0):
    """Arrivals of two operations, at random or in bursts; nothing measured yet."""
    rng = np.random.default_rng(7)
    at_s = np.sort(rng.uniform(0, LENGTH_S, int(rate_per_s * LENGTH_S)))
    if burst_s:
        at_s = np.ceil(at_s / burst_s) * burst_s
    columns = {"operation": rng.choice(["feed.open", "interactions.read"], len(at_s)), "user": rng.integers(0, 200, len(at_s))}
    rows = pd.DataFrame({**columns, "intended_s": at_s, "post": rng.integers(1, 300, len(at_s))})
    header = {"graph_seed": 1, "seed": 3, "duration_s": LENGTH_S, "warmup_s": 0.0, "load_factor": 1.0}
    return Observed(Trace(header, rows, pd.DataFrame(), None), LENGTH_S, idle_ratio=dict.fromkeys(STATIONS, 0.0))


def measured(scenario, runs, cold, factor):
    """The runs with the CPU that the model uses for them, times `factor`."""
    used = closure._cpu_s(scenario, runs, STATIONS, {"api": cold})
    for number, run in enumerate(runs):
        run.busy_ratio = {role: factor * float(used[role][number]) * run.requests / run.window_s for role in STATIONS}
    return runs


@pytest.mark.parametrize(("half_s", "extra"), [(0.002, 1.5), (0.016, 4.0)])
def test_levels_that_are_known_are_found_again(half_s, extra):
    scenario = load_scenario("fidelity", HOSTED)
    runs = measured(scenario, [observed_at(25), observed_at(60), observed_at(40, 0.25)], Cold(extra, half_s, 1.0), 1.25)
    found = closure.levels(scenario, runs, STATIONS, {"api"})
    assert found["api"].scale == pytest.approx(1.25, rel=0.003)
    assert found["api"].cold is not None
    assert (found["api"].cold.half_s, found["api"].cold.extra) == (half_s, pytest.approx(extra, rel=0.01))
    assert (found["postgres"].scale, found["postgres"].cold) == (pytest.approx(1.25, rel=0.003), None)
    assert max(level.off_ratio for level in found.values()) < 0.005


def test_a_factor_beyond_belief_is_not_believed():
    scenario = load_scenario("fidelity", HOSTED)
    runs = measured(scenario, [observed_at(25), observed_at(60), observed_at(40, 0.25)], Cold(20.0, 0.016, 1.0), 1.0)
    found = closure.levels(scenario, runs, STATIONS, {"api"})["api"]
    assert found.cold is not None
    assert found.cold.extra == MOST_EXTRA
    assert found.off_ratio < 0.3


def test_what_was_never_seen_at_work_is_left_as_it_is():
    scenario = load_scenario("fidelity", HOSTED)
    runs = [observed_at(25)]
    runs[0].busy_ratio = {"api": 0.0, "postgres": 0.0}
    assert closure.levels(scenario, runs, STATIONS, set())["api"].scale == 1.0


def test_what_closing_found_is_taken_over_whole_or_not_at_all():
    before = Cold(2.0, 0.001, 1.5)
    made = Calibration({name: Estimate(1.0, 9, 0.9, 1.1) for name in ("api_read", "database_read_post", "broker_record")})
    made.cold = dict.fromkeys(("api", "postgres", "kafka"), before)
    warmer = Cold(3.0, 0.004, 1.0)
    made.close({"api": Level(0.5, warmer, 0.1), "postgres": Level(2.0, None, 0.1), "kafka": Level(1.0, None, np.inf)})
    assert [made.times[name].mean_s for name in ("api_read", "database_read_post", "broker_record")] == [0.5, 2.0, 1.0]
    assert made.cold == {"api": warmer, "kafka": before}  # the database's times are those of all its work, cold or not
    assert len([note for note in made.notes if "is off by" in note]) == 2
