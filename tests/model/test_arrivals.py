"""Open arrivals: their rates, and that one operation's numbers are no other's."""

import math
from dataclasses import replace

import numpy as np
import pytest

from model import platform
from model.arrivals import renewal_times, schedule, uniforms
from model.distributions import constant, empirical, exponential, hyperexponential, pareto, uniform
from model.network import Network, Operation
from model.scenario import DeclaredNetwork, Event, OperationArrivals
from scenarios.loader import load_scenario

SMALL = [
    "population.users=2000",
    "population.mean_followees=20",
    "population.celebrities=[900, 1500]",
    "run.duration_s=200",
]


def planned(*overrides, seed=None, **changes):
    """Instants by operation, attributes by operation, users by operation; and the schedule itself."""
    scenario = replace(load_scenario("baseline", [*SMALL, *overrides]), **changes)
    seed = scenario.run.seed if seed is None else seed
    network, graph = platform.build_network(scenario), platform.build_graph(scenario.population, 1)
    plan = schedule(scenario, network, graph, seed)
    at_s = np.cumsum(plan.gap_s)
    chosen = {name: plan.operation == number for number, name in enumerate(network.names("operations"))}
    instants = {name: at_s[mask] for name, mask in chosen.items()}
    attributes = {name: plan.attributes[mask] for name, mask in chosen.items()}
    users = {name: plan.user[mask] for name, mask in chosen.items()}
    return instants, attributes, users, plan


def test_counts_are_poisson_around_their_rates():
    instants, _, _, plan = planned()
    rates = platform.arrival_rates(load_scenario("baseline", SMALL))
    assert set(rates) == set(platform.OPERATIONS)
    for name, rate_per_s in rates.items():
        expected = rate_per_s * 200
        assert abs(len(instants[name]) - expected) <= 4 * math.sqrt(expected) + 1e-9, name
    assert rates["interactions.comment"] == pytest.approx(100 * 1.75 * 0.05)
    assert np.all(plan.gap_s >= 0)
    assert np.sum(plan.gap_s) < 200
    gaps = np.diff(instants["feed.open"])
    assert np.std(gaps) / np.mean(gaps) == pytest.approx(1, abs=0.04)


def test_users_are_uniform_and_posts_are_popular():
    _, attributes, users, _ = planned()
    counts = np.histogram(users["feed.open"], bins=10, range=(0, 2000))[0]
    expected = len(users["feed.open"]) / 10
    assert np.sum((counts - expected) ** 2 / expected) < 33.7  # chi-square, 9 degrees of freedom, 0.01 %
    network = platform.build_network(load_scenario("baseline", SMALL))
    posts = attributes["interactions.like"][:, network.attributes.index("post")]
    assert posts.min() >= 1
    assert posts.max() == 6000  # the newest, and the most popular
    shares = np.bincount(posts.astype(int), minlength=6001)
    assert shares[6000] == shares.max()
    assert shares[6000] / shares[5999] == pytest.approx(2**0.8, rel=0.25)


def test_what_a_request_costs_follows_from_its_user():
    _, attributes, users, _ = planned("feed.threshold=800")
    scenario = load_scenario("baseline", SMALL)
    graph = platform.build_graph(scenario.population, 1)
    columns = platform.build_network(scenario).attributes
    table = attributes["feed.open"]
    assert np.array_equal(table[:, columns.index("followees")], graph.followee_counts[users["feed.open"]])
    assert np.array_equal(table[:, columns.index("pulled")], graph.pulled_counts(800)[users["feed.open"]])


@pytest.mark.parametrize(
    "overrides", [["load.reads_per_feed_open=2"], ["load.publishes_per_feed_open=0"], ["load.unlikes_per_like=0"]]
)
def test_another_rate_of_one_operation_leaves_the_others_alone(overrides):
    """Common random numbers: two scenarios differ by what was changed, not by luck."""
    before, after = planned(), planned(*overrides)
    changed = {"load.reads_per_feed_open=2": "interactions.read", "load.publishes_per_feed_open=0": "feed.publish"}
    changed = changed.get(overrides[0], "interactions.unlike")
    for name in platform.OPERATIONS:
        same = len(before[0][name]) == len(after[0][name])
        assert same == (name != changed or len(before[0][name]) == 0), name
        if name != changed:
            assert after[0][name] == pytest.approx(before[0][name], abs=1e-9)
            assert np.array_equal(before[1][name], after[1][name]), f"attributes of {name}"
            assert np.array_equal(before[2][name], after[2][name]), f"users of {name}"


def test_a_load_factor_multiplies_every_rate_but_not_events():
    event = Event(at_s=50.0, operation="feed.publish", user="celebrity:0", count=3, over_s=0.0)
    once, twice = planned(events=(event,)), planned("run.load_factor=2", events=(event,))
    for name in ("feed.open", "interactions.like"):
        assert len(twice[0][name]) == pytest.approx(2 * len(once[0][name]), rel=0.05)
    assert sum(once[0]["feed.publish"] == 50.0) in (2, 3)  # sums of gaps are not exact
    assert (
        np.sum(np.abs(once[0]["feed.publish"] - 50.0) < 1e-9)
        == np.sum(np.abs(twice[0]["feed.publish"] - 50.0) < 1e-9)
        == 3
    )


def test_events_come_in_the_middle_of_equal_parts():
    event = Event(at_s=100.0, operation="interactions.like", user=7, count=4, over_s=8.0)
    with_event, without = planned(events=(event,)), planned()
    extra = [
        instant
        for instant in with_event[0]["interactions.like"]
        if not np.any(np.abs(without[0]["interactions.like"] - instant) < 1e-9)
    ]
    assert extra == pytest.approx([101, 103, 105, 107])
    assert np.sum(with_event[2]["interactions.like"] == 7) == np.sum(without[2]["interactions.like"] == 7) + 4
    assert np.array_equal(with_event[0]["feed.open"].round(6), without[0]["feed.open"].round(6))


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_a_celebrity_is_named_by_rank_of_followers(rank):
    event = Event(at_s=199.0, operation="feed.publish", user=f"celebrity:{rank}", count=1, over_s=0.0)
    overrides = ["feed.strategy='push'", "feed.fanout_batch_followers=500"]
    instants, attributes, users, _ = planned(*overrides, events=(event,))
    graph = platform.build_graph(load_scenario("baseline", SMALL).population, 1)
    chosen = np.argmin(np.abs(instants["feed.publish"] - 199.0))
    followers = np.sort(graph.follower_counts)[-1 - rank]
    assert graph.follower_counts[users["feed.publish"][chosen]] == followers >= 900
    columns = platform.build_network(load_scenario("baseline", SMALL)).attributes
    row, batches = attributes["feed.publish"][chosen], -(-followers // 500)
    assert row[columns.index("batches")] == batches
    assert row[columns.index("batch_followers")] == followers / batches


def test_a_stranger_is_refused():
    event = Event(at_s=1.0, operation="feed.open", user=2000, count=1, over_s=0.0)
    with pytest.raises(ValueError, match="events: user 2000 does not exist; users are 0 to 1999"):
        planned(events=(event,))


# ---- renewal processes


@pytest.mark.parametrize(
    "gap",
    [constant(0.5), exponential(0.5), uniform(0.25, 0.75), hyperexponential(0.5, 3.0), empirical([0.25, 0.75])],
    ids=lambda gap: gap.name,
)
def test_renewal_processes_have_their_rate_and_end_in_time(gap):
    at_s = renewal_times(gap, 1, "test", 5000.0)
    assert np.all(np.diff(at_s) >= 0)
    assert at_s[-1] < 5000
    assert abs(len(at_s) - 10_000) < 4.5 * gap.cv * 100 + 2
    longer = renewal_times(gap, 1, "test", 6000.0)
    assert np.allclose(longer[: len(at_s)], at_s, rtol=1e-12)


def test_a_renewal_process_with_a_very_heavy_tail_reaches_its_end():
    at_s = renewal_times(pareto(minimum_s=0.001, shape=1.01), 1, "test", 100.0)
    assert 100 < len(at_s) < 100_001
    assert len(renewal_times(pareto(minimum_s=0.01, shape=0.9), 1, "test", 100.0)) > 10


def test_gaps_of_nothing_are_refused():
    with pytest.raises(ValueError, match="arrivals of x: a gap between arrivals must have a mean above 0"):
        renewal_times(constant(0.0), 1, "arrivals of x", 10.0)


def test_uniforms_are_uniform():
    values = uniforms(1, "test", 100_000)
    assert np.all((values > 0) & (values < 1))
    assert abs(values.mean() - 0.5) < 4 / math.sqrt(12 * 100_000)


# ---- a network of one's own


def test_a_declared_network_draws_attributes_of_its_own():
    network = Network((Operation("a", ()), Operation("b", ())), attributes=("size", "rank"))
    arrivals = {
        "a": OperationArrivals(constant(1.0), {"size": uniform(1.0, 2.0)}),
        "b": OperationArrivals(constant(2.0), {"rank": constant(3.0)}),
    }
    scenario = load_scenario("baseline", ["run.duration_s=10", "run.warmup_s=1"])
    scenario = replace(
        scenario, declared=DeclaredNetwork(network, arrivals), run=replace(scenario.run, load_factor=2.0)
    )
    plan = schedule(scenario, network, None, 1)
    assert np.cumsum(plan.gap_s)[plan.operation == 0] == pytest.approx(np.arange(1, 20) / 2)
    assert np.cumsum(plan.gap_s)[plan.operation == 1] == pytest.approx(np.arange(1, 10))
    assert np.all((plan.attributes[plan.operation == 0, 0] >= 1) & (plan.attributes[plan.operation == 0, 0] <= 2))
    assert np.all(plan.attributes[plan.operation == 1] == [0, 3])


def test_nothing_to_do_is_a_schedule_too():
    scenario = load_scenario("baseline", SMALL)
    scenario = replace(scenario, load=replace(scenario.load, feed_opens_per_s=0.0))
    network = platform.build_network(scenario)
    plan = schedule(scenario, network, platform.build_graph(scenario.population, 1), 1)
    assert (len(plan.gap_s), plan.attributes.shape) == (0, (0, len(network.attributes)))
