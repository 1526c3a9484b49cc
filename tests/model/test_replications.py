import math
from dataclasses import replace

import numpy as np
import pytest

from model.capacity import with_servers
from model.queueing_theory import MMc
from model.replications import FEWEST, Replicator, compare, replication_seed, verdict
from model.simulation import simulate
from model.statistics import Interval
from model.warmup import FEWEST as FEWEST_REQUESTS
from model.warmup import detected_warmup_s, number_in_system, warmup_note
from model.workers import LocalWorkers
from tests.desk import desk

MEAN = "shop.buy.mean_s"


@pytest.fixture
def replicator():
    with LocalWorkers(1) as workers:
        yield Replicator(workers)


def test_seeds_are_the_scenarios_own_and_then_all_different():
    seeds = [replication_seed(1, number) for number in range(1000)]
    assert seeds[0] == 1
    assert len({*seeds, *(replication_seed(2, number) for number in range(1000))}) == 2000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_replications_are_runs_of_their_own_and_none_is_run_twice(tmp_path, replicator):
    scenario = desk(tmp_path, duration_s=10)
    three = replicator.first(scenario, 3)
    assert replicator.runs == 3
    five = replicator.first(scenario, 5)
    assert replicator.runs == 5
    assert five.outcomes[:3] == three.outcomes
    assert five.outcomes[0].document == simulate(scenario).document()
    assert len(set(five.values(MEAN))) == 5


def test_intervals_are_over_replications_and_hold_the_theory(tmp_path, replicator):
    found = replicator.first(desk(tmp_path, duration_s=100), 12)
    row = found.intervals.loc[MEAN]
    assert row["n"] == 12
    assert row["mean"] == pytest.approx(np.mean(found.values(MEAN)))
    assert found.interval(MEAN, 0.999).low < MMc(40, 0.1, 5).mean_sojourn_s < found.interval(MEAN, 0.999).high
    assert set(found.intervals.columns) == {"mean", "low", "high", "n", "half_width_ratio"}
    assert "shop.buy.p99_s" in found.intervals.index


def test_the_document_keeps_its_shape_and_adds_intervals(tmp_path, replicator):
    scenario = desk(tmp_path, duration_s=20)
    found = replicator.first(scenario, 4)
    document, one = found.document(), simulate(scenario).document()
    assert set(document) == {*one, "replications", "intervals"}
    assert set(document["operations"]["shop.buy"]["latency_s"]) == set(one["operations"]["shop.buy"]["latency_s"])
    assert document["operations"]["shop.buy"]["latency_s"]["p99"] == pytest.approx(
        np.mean(found.values("shop.buy.p99_s"))
    )
    assert document["seed"] == 1 and document["stations"]["desk"]["servers"] == 5
    assert document["replications"]["seeds"] == [replication_seed(1, number) for number in range(4)]
    assert document["intervals"][MEAN]["n"] == 4
    assert document["audit"]["conserved"] is True
    assert document["slo"][0]["value"] == found.interval(MEAN).mean


@pytest.mark.parametrize(
    ("name", "low", "high", "n", "expected"),
    [
        ("a.p99_s", 1.0, 2.0, 5, "met"),
        ("a.p99_s", 1.0, 2.1, 5, "open"),
        ("a.p99_s", 2.1, 3.0, 5, "missed"),
        ("a.throughput_per_s", 2.0, 3.0, 5, "met"),
        ("a.throughput_per_s", 1.0, 3.0, 5, "open"),
        ("a.throughput_per_s", 1.0, 1.9, 5, "missed"),
        ("a.p99_s", math.nan, math.nan, 0, "missed"),
    ],
)
def test_a_verdict_needs_the_whole_interval(name, low, high, n, expected):
    assert verdict(Interval((low + high) / 2, low, high, n), name, 2.0) == expected


def test_a_precision_stops_when_it_is_reached(tmp_path, replicator):
    scenario = desk(tmp_path, duration_s=50)
    loose = replicator.until_precise(scenario, 0.5)
    assert loose.reached and loose.n == FEWEST
    tight = replicator.until_precise(scenario, 0.08)
    assert tight.reached and tight.n > FEWEST
    assert tight.interval(MEAN).half_width_ratio <= 0.08
    both = replicator.until_precise(scenario, 0.1, ["shop.buy.p99_s", "stations.desk.utilisation"])
    assert both.interval("shop.buy.p99_s").half_width_ratio <= 0.1


def test_a_precision_gives_up_where_it_was_told_to(tmp_path, replicator):
    scenario = desk(tmp_path, duration_s=10)
    found = replicator.until_precise(scenario, 0.0001, most=7)
    assert (found.n, found.reached) == (7, False)
    assert found.document()["replications"]["precision_reached"] is False
    with pytest.raises(ValueError, match="no \\[slo\\]"):
        replicator.until_precise(replace(scenario, slo={}), 0.1)
    with pytest.raises(ValueError, match="no figure 'shop"):
        replicator.until_precise(scenario, 0.1, ["shop.sell.p99_s"])


def test_common_random_numbers_show_a_difference_that_independent_runs_would_not(tmp_path, replicator):
    scenario = desk(tmp_path, duration_s=50)
    six = with_servers(scenario, {"desk": 6})
    a, b = replicator.of_all([scenario, six], 8)
    mean, count = compare(a, b, [MEAN, "shop.buy.count"])
    assert mean.real and mean.difference.high < 0
    assert mean.variance_ratio > 1.5
    theory = MMc(40, 0.1, 6).mean_sojourn_s - MMc(40, 0.1, 5).mean_sojourn_s
    assert mean.difference.mean == pytest.approx(theory, rel=0.6)
    assert count.difference.half_width < 10 and not count.real  # the same arrivals


def test_a_scenario_does_not_differ_from_itself(tmp_path, replicator):
    found = replicator.first(desk(tmp_path, duration_s=10), 3)
    for one in compare(found, found, found.names):
        assert (one.difference.mean, one.p_adjusted, one.real) == (0.0, 1.0, False)


def test_the_number_in_the_system_is_littles(tmp_path):
    results = simulate(desk(tmp_path, duration_s=100))
    series = number_in_system(results)
    record = results.recording
    ended_s = np.where(np.isfinite(record.finished_s), record.finished_s, record.end_s)
    assert len(series) == 1000
    assert series.mean() == pytest.approx(np.sum(ended_s - record.arrived_s) / record.end_s)


def test_a_queue_that_grows_has_no_steady_state_and_the_note_says_so(tmp_path):
    overloaded = desk(tmp_path, servers=3, duration_s=100)
    detected = detected_warmup_s(simulate(overloaded))
    assert detected == math.inf
    note, warning = warmup_note(overloaded, [detected])
    assert warning and "no steady state" in note


def test_the_note_compares_with_the_declared_warm_up(tmp_path):
    scenario = desk(tmp_path, duration_s=100)  # leaves out 10 s
    assert warmup_note(scenario, [3.0, 5.0, math.inf])[1] is False
    late, warning = warmup_note(scenario, [30.0, 25.0, 3.0])
    assert warning and "25 s" in late and "10 s" in late
    few = simulate(desk(tmp_path, duration_s=10))
    assert len(few.recording.arrived_s) < FEWEST_REQUESTS and detected_warmup_s(few) is None
    assert "fewer than" in warmup_note(scenario, [None])[0]
