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


def turns(steps):
    """How often the steps visit the API's event loop, and for how long on the average."""
    visits = [step for step in walk(steps) if isinstance(step, Serve) and step.station == "api"]
    return len(visits), sum(visit.time.mean_s for visit in visits)


def test_a_connection_is_given_back_after_three_turns_of_the_loop_and_the_caller_goes_on_after_two_more():
    answer = 'service_times.api_read_answer={distribution="constant",mean_ms=1.0}'
    held, *later = part.asked(loader.load_scenario("fidelity", [answer, *HOST]), "database_read_post", answer="api_read_answer")
    assert isinstance(held, Hold)
    assert turns(held.steps) == (3, pytest.approx(0.0006))
    assert turns(later) == (2, pytest.approx(0.0004))


@pytest.mark.parametrize("host", [(), HOST])
def test_publishing_takes_the_api_as_long_wherever_it_runs(host):
    times = [f'service_times.{name}={{distribution="constant",mean_ms=1.0}}' for name in ("api_publish", "api_write_answer")]
    (publish, _) = feed.declare(loader.load_scenario("fidelity", [*times, *host])).operations
    assert turns(publish.steps) == (8 if host else 3, pytest.approx(0.002))


def test_a_thread_beside_the_loop_hands_a_record_over_and_hears_of_it():
    scenario = loader.load_scenario("fidelity")
    assert not [one for one in part.appended(scenario, "posts") if isinstance(one, Serve)]  # as long as it is not measured
    measured = loader.load_scenario("fidelity", ['service_times.producer_record={distribution="constant",mean_ms=2}'])
    before, publish, after = part.appended(measured, "posts", "post")
    assert (before.station, before.time.mean_s) == (after.station, after.time.mean_s) == ("producer_threads", 0.001)
    assert (publish.topic, publish.key) == ("posts", "post")
