"""How fast a host was, found from CPU alone: the model itself is the system, on a host whose course is known."""

import json
import math

import numpy as np
import pytest

from loadtest.given_machine import LOOK_S, Work, course_for, edges_of, felt, finished_in, work_of
from loadtest.observe import at_rate
from loadtest.replay import replay
from loadtest.traces import Trace
from loadtest.validate import Validation
from loadtest.validation import Plan
from model.platform import build_graph
from scenarios.loader import load_scenario

RATE_PER_S, LENGTH_S = 300.0, 8.0
SETTINGS = (
    'hosts.machine={cores=1,discipline="fair",speed=0.9}', "stations.api.host=machine", "stations.api.servers=1",
    "stations.database.host=machine", "population.users=200", "population.mean_followees=10", "population.celebrities=[]",
    'service_times.api_feed_open={distribution="lognormal",mean_ms=0.7,cv=0.5}',
    'service_times.api_read={distribution="lognormal",mean_ms=0.6,cv=0.5}',
    'service_times.api_write={distribution="lognormal",mean_ms=0.6,cv=0.5}',
    'service_times.database_feed_page={distribution="lognormal",mean_ms=0.8,cv=0.5}',
    'service_times.database_read_post={distribution="lognormal",mean_ms=0.5,cv=0.5}',
)  # fmt: skip


@pytest.fixture(scope="module")
def scenario():
    return at_rate(load_scenario("fidelity", list(SETTINGS)), RATE_PER_S, LENGTH_S)


@pytest.fixture(scope="module")
def arrivals(scenario, tmp_path_factory):
    plan = Plan.make((0.5,), 1, LENGTH_S, 1, (), 1)
    work = Validation(scenario, "", plan, tmp_path_factory.mktemp("out"), tmp_path_factory.mktemp("scratch"))
    work.graph = build_graph(scenario.population, 1)
    return work.planned(scenario, 5)


def ran(scenario, arrivals, course, draw):
    return replay(arrivals, scenario, seed=draw, course=course, look_s=LOOK_S)


def seen(trace, speed):
    """What counters would have told of a run of the model."""
    at_s, busy_s = np.array(trace.header["host_busy_s"]).T
    edges_s = edges_of(at_s[::5], trace)
    return Work(edges_s, np.diff(np.interp(edges_s, at_s, busy_s)) * speed, finished_in(trace, edges_s))


def test_a_slow_second_is_found_from_the_cpu_of_finished_requests(scenario, arrivals):
    course = ((0.0, 1.0), (3.0, 1.6), (4.0, 1.0), (6.0, 0.7))
    speed = scenario.hosts[0].speed
    system = ran(scenario, arrivals, course, 77)
    found = course_for(seen(system, speed), (), speed, lambda tried, draw: ran(scenario, arrivals, tried, draw))
    factors = dict(found)
    assert np.mean([factors[at_s] for at_s in factors if 3 <= at_s < 4]) == pytest.approx(1.6, rel=0.15)
    assert np.mean([factors[at_s] for at_s in factors if 4.5 <= at_s < 6]) == pytest.approx(1.0, rel=0.1)
    assert np.mean([factors[at_s] for at_s in factors if at_s >= 6]) == pytest.approx(0.7, rel=0.1)


def test_within_a_piece_the_course_goes_as_the_meter_says_and_absences_stay(scenario, arrivals):
    meter = (*((0.05 * number, 1.5 if number % 2 else 0.5) for number in range(160)), (7.99, math.inf))
    speed = scenario.hosts[0].speed
    system = ran(scenario, arrivals, (), 78)
    found = course_for(seen(system, speed), meter, speed, lambda tried, draw: ran(scenario, arrivals, tried, draw))
    assert [at_s for at_s, _ in found] == [at_s for at_s, _ in meter]
    assert found[-1][1] == math.inf
    takes = np.array([takes for _, takes in found[:-1]])
    assert takes[1::2].mean() / takes[::2].mean() == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize(("sensitivity", "slow"), [(0.0, 1.0), (0.5, 2.0), (1.0, 4.0)])
def test_what_is_felt_of_the_meter_leaves_absences(sensitivity, slow):
    assert felt([(0.0, 4.0), (1.0, math.inf)], sensitivity) == ((0.0, slow), (1.0, math.inf))


def test_work_is_cpu_beyond_idleness_and_one_role_s_threads_are_counted_once(tmp_path, arrivals):
    start_s, lines = 1000.0, []
    for tick in range(41):
        api_s, other_s = 0.4 * 0.25 * tick, 0.05 * 0.25 * tick
        processes = {"api": [api_s + other_s, 0.0, 0, api_s], "redis": [9.0 * tick, 0.0, 0, 0.0], "kafka": [0.1 * 0.25 * tick, 0.0, 0, 0.0]}
        lines.append(json.dumps({"at_s": start_s - 1 + 0.25 * tick, "processes": processes}))
    (tmp_path / "counters.jsonl").write_text("\n".join(lines) + "\n")
    header = arrivals.header | {"start_epoch_s": start_s}
    answered = arrivals.rows.assign(finished_s=arrivals.rows.intended_s + 0.001)
    work = work_of(Trace(header, answered, arrivals.milestones, tmp_path), {"api": 0.1, "kafka": 0.02})
    each_s = np.diff(work.edges_s)
    assert work.cpu_s == pytest.approx((0.4 + 0.05 + 0.1 - 0.12) * each_s)
    assert work.finished.sum() == pytest.approx(len(answered), abs=2)
