"""What rooms share: the turns of an API and its database."""

import pytest

from model import feed, part
from model.network import Hold, Serve, walk
from scenarios import loader

TURN = 'service_times.api_read_statement={distribution="constant",mean_ms=0.2}'
HOST = ("hosts.machine={cores=1}", "stations.database.host=machine")


def asked(*overrides):
    scenario = loader.load_scenario("fidelity", [*overrides])
    steps = part.asked(scenario, "database_read_post", {"rows": 2e-6}, statements=2, between="api_read_statement")
    return scenario.service_times["database_read_post"], steps


def test_statements_are_one_where_the_api_has_no_turn_between_them():
    time, steps = asked()
    assert [step for step in steps if isinstance(step, Serve)] == [Serve("database", time, {"rows": 2e-6})]


def test_statements_divide_the_work_and_stay_on_one_connection():
    time, (held,) = asked(TURN, *HOST)
    assert isinstance(held, Hold)
    served = [step for step in held.steps if isinstance(step, Serve)]
    assert [step.station for step in served] == ["database", "api", "api", "database"]  # the reply, and the handler it wakes
    assert [step.time.mean_s for step in served] == pytest.approx([time.mean_s / 2, 0.0001, 0.0001, time.mean_s / 2])
    assert [dict(step.per) for step in served] == [{"rows": 1e-6}, {}, {}, {"rows": 1e-6}]


@pytest.mark.parametrize(("strategy", "statements"), [("push", 1), ("hybrid", 2), ("indexed", 2), ("naive", 2)])
def test_a_feed_that_is_only_pushed_is_read_by_one_statement(strategy, statements):
    turn = 'service_times.api_feed_statement={distribution="constant",mean_ms=0.2}'
    scenario = loader.load_scenario("fidelity", [turn, f"feed.strategy={strategy}"])
    (opened,) = (one for one in feed.declare(scenario).operations if one.name == "feed.open")
    asked = [step for step in walk(opened.steps) if isinstance(step, Serve) and step.station == "database"]
    assert len(asked) == statements
    assert sum(step.time.mean_s for step in asked) == pytest.approx(scenario.service_times["database_feed_page"].mean_s)
