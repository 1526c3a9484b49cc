"""Offered load against numbers worked out by hand."""

import numpy as np
import pytest

from model.distributions import constant, exponential
from model.network import (
    Acquire,
    Arm,
    Branch,
    Cache,
    Delay,
    Lookup,
    Mark,
    Network,
    Operation,
    Publish,
    Quota,
    Respond,
    Scatter,
    Serve,
    Station,
    Topic,
    Try,
)
from model.offered_load import offered_loads


def bounds(network, rates_per_s, attributes=None):
    return {(row.kind, row.name): (row.least, row.most) for row in offered_loads(network, rates_per_s, attributes)}


def test_work_is_rate_times_service_time_with_costs_children_and_branches():
    steps = (
        Delay(constant(5.0)),  # holds nothing
        Serve("api", exponential(0.1), per={"rows": 0.01}),
        Branch((Arm(0.25, (Serve("db", constant(0.4)),)), Arm("rare", (Serve("db", constant(1.0)),)))),
        Scatter((Serve("db", constant(0.02)),), count=3, join=False),
        Respond(),
        Mark("done"),
    )
    network = Network((Operation("a", steps),), (Station("api", 2), Station("db", 1)), attributes=("rows", "rare"))
    found = bounds(network, {"a": 5.0}, {"a": {"rows": 10.0, "rare": 0.5}})
    assert found["station", "api"] == pytest.approx((1.0, 1.0))  # 5 × (0.1 + 10 × 0.01)
    assert found["station", "db"] == pytest.approx((3.3, 3.3))  # 5 × (0.25 × 0.4 + 0.5 × 1 + 3 × 0.02)
    api, db = offered_loads(network, {"a": 5.0}, {"a": {"rows": 10.0, "rare": 0.5}})
    assert (api.busy_ratio, api.exceeded, db.exceeded) == (pytest.approx(0.5), False, True)


def test_what_a_rate_does_not_decide_is_bounded_both_ways():
    steps = (
        Lookup("cache", "key", miss=(Serve("db", constant(0.1)),), hit=(Serve("db", constant(0.01)),)),
        Try((Serve("api", constant(0.1)),), attempts=3, otherwise=(Serve("db", constant(1.0)),)),
        Acquire("quota"),
    )
    network = Network(
        (Operation("a", steps),),
        (Station("api"), Station("db")),
        caches=(Cache("cache", 1.0),),
        quotas=(Quota("quota", 4.0),),
        attributes=("key",),
    )
    found = bounds(network, {"a": 2.0})
    assert found["station", "db"] == pytest.approx((0.02, 2.2))
    assert found["station", "api"] == pytest.approx((0.2, 0.6))
    assert found["quota", "quota"] == pytest.approx((2.0, 2.0))


def topic_network(**settings):
    batch = (
        Delay(constant(0.01), per={"events": 0.001, "weight": 0.002, "keys": 0.1}),
        Serve("db", constant(0.05)),
        Scatter((Serve("db", constant(0.003)),), each_event=True),
    )
    topic = Topic("log", batch, poll_max=10, **settings)
    return Network(
        (Operation("a", (Publish("log", weight="size"),)),), (Station("db"),), (topic,), attributes=("size",)
    )


def test_a_group_works_in_batches_between_full_and_single():
    network = topic_network(partitions=2, consumers=8)
    rows = {row.name: row for row in offered_loads(network, {"a": 20.0}, {"a": {"size": 5.0}})}
    # full: 2 batches/s, each 0.01 + 10 × 0.001 + 50 × 0.002 + 1 × 0.1 + 0.05 + one child 0.003
    assert rows["log"].least == pytest.approx(2 * 0.273)
    # single: 20 batches/s, each 0.01 + 0.001 + 5 × 0.002 + 0.1 + 0.05 + 0.003
    assert rows["log"].most == pytest.approx(20 * 0.174)
    assert rows["db"].least == pytest.approx(2 * 0.05 + 20 * 0.003)
    assert rows["db"].most == pytest.approx(20 * 0.05 + 20 * 0.003)
    assert rows["log"].capacity == 2  # a partition has one member at most


def test_products_of_attributes_are_exact_for_arrays_and_survive_a_topic():
    """Two kinds of authors: 1 batch of 10 followers, 9 batches of 90; the mean batch has 82 followers, not 50."""
    cut = Topic("posts", (Scatter((Scatter((Publish("fanout", weight="size"),), count="batches"),), each_event=True),))
    write = Topic("fanout", (Serve("db", constant(0.0), per={"weight": 0.001}),), poll_max=1)
    network = Network(
        (Operation("publish", (Publish("posts"),)),),
        (Station("db", 10),),
        (cut, write),
        attributes=("batches", "size"),
    )
    arrays = {"publish": {"batches": np.array([1.0, 9.0]), "size": np.array([10.0, 90.0])}}
    assert bounds(network, {"publish": 2.0}, arrays)["station", "db"] == pytest.approx((0.82, 0.82))
    means = {"publish": {"batches": 5.0, "size": 50.0}}
    assert bounds(network, {"publish": 2.0}, means)["station", "db"] == pytest.approx((0.5, 0.5))


def test_a_topic_that_feeds_itself_without_end_is_overloaded():
    again = Topic("log", (Scatter((Publish("log"),), each_event=True),))
    network = Network((Operation("a", (Publish("log"),)),), topics=(again,))
    (row,) = offered_loads(network, {"a": 1.0})
    assert row.exceeded and row.least == float("inf")


def test_a_topic_that_feeds_itself_a_little_adds_up():
    again = Topic(
        "log",
        (Delay(constant(0.1)), Scatter((Branch((Arm(0.5, (Publish("log"),)),)),), each_event=True)),
        poll_max=1,
    )
    network = Network((Operation("a", (Publish("log"),)),), topics=(again,))
    (row,) = offered_loads(network, {"a": 1.0})
    assert row.least == pytest.approx(0.2)  # 1 + 1/2 + 1/4 + … records


def test_an_unknown_operation_is_refused():
    with pytest.raises(ValueError, match="did you mean 'buy'"):
        offered_loads(Network((Operation("buy", ()),)), {"bye": 1.0})
