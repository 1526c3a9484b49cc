"""Arrival rates that change, sessions, cascades and traces, against what they must be by hand."""

from dataclasses import replace

import numpy as np
import pytest

from model import platform
from model.arrivals import schedule
from model.scenario import Cascade, Surge, Workload
from model.workload import cascade_times, course, daily_factor, follow_up, read_trace, surge_factor
from scenarios.loader import load_scenario
from tests.model.small_platform import GRAPH, scenario


def arrivals(settings, operation, graph=GRAPH, seed=3):
    network = platform.build_network(settings)
    plan = schedule(settings, network, graph, seed)
    at_s = np.cumsum(plan.gap_s)
    return at_s[plan.operation == network.names("operations").index(operation)], plan


def test_a_surge_rises_holds_and_falls():
    surge = Surge(10, 5, rise_s=4, hold_s=6, decay_s=2, operations=())
    at_s = np.array([9.9, 10.0, 12.0, 14.0, 19.9, 20.0, 22.0])
    assert surge_factor(surge, at_s) == pytest.approx([1, 1, 3, 5, 5, 5, 1 + 4 / np.e])
    at_once = Surge(10, 3, 0, 5, 0, ())
    assert surge_factor(at_once, np.array([9.9, 10, 14.9, 15.1])).tolist() == [1, 3, 3, 1]


def test_a_day_has_the_mean_rate():
    day = Workload(daily_amplitude_ratio=0.5, daily_period_s=100, daily_peak_s=30)
    middles_s = (np.arange(1000) + 0.5) / 10
    assert daily_factor(day, middles_s).mean() == pytest.approx(1)
    assert daily_factor(day, np.array([30.0, 80.0, 130.0])) == pytest.approx([1.5, 0.5, 1.5])


def test_arrivals_follow_the_course():
    settings = scenario("hybrid", "run.duration_s=400", "load.feed_opens_per_s=50")
    settings = replace(settings, surges=(Surge(100, 4, 0, 100, 0, ("feed.open",)),))
    opened_s, _ = arrivals(settings, "feed.open")
    inside = np.sum((opened_s >= 100) & (opened_s < 200))
    assert inside == pytest.approx(100 * 50 * 4, abs=5 * np.sqrt(20_000))
    assert len(opened_s) - inside == pytest.approx(300 * 50, abs=5 * np.sqrt(15_000))
    assert course(settings, "feed.open").mean == pytest.approx((300 + 100 * 4) / 400)
    assert course(settings, "interactions.like") is None


def test_a_surge_moves_nothing_before_it():
    even = scenario("hybrid", "run.duration_s=50")
    surging = replace(even, surges=(Surge(30, 4, 5, 5, 5, ()),))
    before, after = (arrivals(one, "feed.open")[0] for one in (even, surging))
    assert before[before < 29] == pytest.approx(after[after < 29], rel=1e-12)


def test_a_cascade_has_the_size_of_its_branching_ratio():
    sizes = [
        len(cascade_times(Cascade(5, "interactions.like", 20, 0.8, 1.0), 1e6, seed, "viral")) for seed in range(400)
    ]
    # A Galton-Watson process of 20 ancestors: mean 20/(1-n), variance 20 n/(1-n)^3.
    assert np.mean(sizes) == pytest.approx(100, abs=4 * np.sqrt(20 * 0.8 / 0.2**3 / 400))
    times = cascade_times(Cascade(5, "interactions.like", 20, 0.8, 1.0), 1e6, 1, "viral")
    assert times[:20].tolist() == [5.0] * 20
    assert np.all(np.diff(times) >= 0)
    assert np.array_equal(times, cascade_times(Cascade(5, "interactions.like", 20, 0.8, 1.0), 1e6, 1, "viral"))


def test_a_cascade_is_about_one_post():
    settings = scenario("hybrid", "run.duration_s=50", "load.likes_per_feed_open=0")
    settings = replace(settings, cascades=(Cascade(5, "interactions.like", 100, 0.5, 1.0),))
    liked_s, plan = arrivals(settings, "interactions.like")
    network = platform.build_network(settings)
    chosen = plan.operation == network.names("operations").index("interactions.like")
    assert len(liked_s) > 120
    assert set(plan.attributes[chosen, network.attributes.index("post")].tolist()) == {24.0}  # eight users, three posts each


def test_sessions_keep_the_rates_and_belong_to_openers():
    settings = scenario("hybrid", "run.duration_s=2000", "load.feed_opens_per_s=20", "workload.sessions=true", "workload.dwell_s=2")
    alone = scenario("hybrid", "run.duration_s=2000", "load.feed_opens_per_s=20")
    for operation in ("interactions.like", "uploads.view"):
        together, apart = (len(arrivals(one, operation)[0]) for one in (settings, alone))
        assert together == pytest.approx(apart, rel=0.06)
    assert np.array_equal(arrivals(settings, "feed.open")[0], arrivals(alone, "feed.open")[0])


def test_what_follows_an_opening_comes_a_dwell_later():
    opened_s = np.arange(5000) * 10.0
    views = follow_up("uploads.view", opened_s, 1.0, 2.0, 1e9, 1)
    likes = follow_up("interactions.like", opened_s, 1.0, 2.0, 1e9, 1)
    # With a Poisson number of mean 1 the mean place of a request is 1.5; a like is a place later.
    assert np.mean(views.at_s - opened_s[views.opening]) == pytest.approx(1.5 * 2, rel=0.06)
    assert np.mean(likes.at_s - opened_s[likes.opening]) == pytest.approx(2.5 * 2, rel=0.06)


def test_a_trace_is_replayed(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text("at_s,user,operation,post\n2.5,1,feed.open,0\n0.5,0,interactions.like,7\n1.25,9,feed.open,0\n99,1,feed.open,0\n")
    settings = scenario("hybrid", "run.duration_s=50", f"workload.trace='{path}'")
    opened_s, plan = arrivals(settings, "feed.open")
    assert opened_s.tolist() == [1.25, 2.5]
    assert plan.user.tolist() == [0, 1, 1]  # eight users: number 9 is number 1
    network = platform.build_network(settings)
    assert plan.attributes[0, network.attributes.index("post")] == 7
    assert plan.attributes[1, network.attributes.index("pulled")] == 1  # drawn: user 1 follows the celebrity


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("at_s,user\n1,2\n", r"trace\.csv:1: no column 'operation'"),
        ("at_s,user,operation,colour\n", r"trace\.csv:1: unknown column 'colour'"),
        ("at_s,user,operation\n1,2,feed.open\nx,2,feed.open\n", r"trace\.csv:3: expected numbers"),
        ("at_s,user,operation\n-1,2,feed.open\n", r"trace\.csv:2: at_s and user are 0 or more"),
        ("at_s,user,operation\n1,2,feed.opn\n", r"trace\.csv:2: no operation 'feed\.opn'"),
    ],
)
def test_a_trace_that_is_none(tmp_path, text, says):
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_trace(str(path), ["feed.open"])


def test_scenarios_say_it_in_toml():
    said = load_scenario(
        "baseline",
        [
            'surges=[{at_s=9,factor=3,rise_minutes=1,operations=["feed.open"]}]',
            "cascades=[{at_s=3,branching_ratio=0.5,delay_ms=500,first=7}]",
            'closed_users=[{users=3,operations=["feed.open"],think_time={distribution="constant",mean_s=1}}]',
            'autoscaling=[{target="api",utilisation=0.6,most=9}]',
            'faults=[{kind="zone_loss",at_s=1,targets=["api","fanout_workers"],share_ratio=0.34}]',
            "prices.database_usd_per_hour=0.4",
        ],
    )
    assert said.surges == (Surge(9, 3, 60, 0, 0, ("feed.open",)),)
    assert said.cascades == (Cascade(3, "interactions.like", 7, 0.5, 0.5),)
    assert (said.closed_users[0].users, said.closed_users[0].think_time.mean_s) == (3, 1)
    assert (said.autoscaling[0].least, said.autoscaling[0].interval_s) == (1, 15)
    assert said.faults[0].targets == ("api", "fanout_workers")
    assert said.prices["database_usd_per_hour"] == 0.4
