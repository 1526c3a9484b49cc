import random

import pytest
from gevent.pool import Group
from locust import FastHttpUser, between, constant_pacing, constant_throughput

from loadtest import private_names


def test_pinned_libraries_still_have_the_names_that_virtual_time_uses():
    assert private_names.check_contract() == []


def test_a_moved_name_is_named(monkeypatch):
    monkeypatch.delattr("gevent._hub_local.set_hub")
    assert [line for line in private_names.check_contract() if line.startswith("gevent._hub_local.set_hub: ")]


@pytest.mark.parametrize(
    ("wait_time", "period_s"), [(constant_pacing(3), 3), (constant_throughput(0.5), 2), (between(1, 2), 0), (None, 0)]
)
def test_pacing_period(wait_time, period_s):
    user = type("User", (FastHttpUser,), {"wait_time": wait_time, "abstract": True})
    assert private_names.pacing_period_s(user) == period_s


def test_groups_keep_their_order():
    group = private_names.order_group(Group())
    greenlets = [group.spawn(lambda: None) for _ in range(50)]
    assert list(group) == greenlets
    group.kill()
    assert len(group) == 0


def test_every_drawing_function_of_random_is_known():
    assert {"random", "choice", "expovariate", "randint", "sample", "shuffle"} <= set(private_names.RANDOM_METHODS)
    assert all(method.__self__ is private_names.shared_random() for method in private_names.RANDOM_METHODS.values())
    assert "seed" not in private_names.RANDOM_METHODS
    assert hasattr(random.Random, "binomialvariate") == ("binomialvariate" in private_names.RANDOM_METHODS)
