"""Closed users against mean-value analysis, and beside open arrivals of the same load."""

import pytest

from model.queueing_theory import closed_network
from model.simulation import simulate
from scenarios.loader import load_scenario

CENTRAL = """
question = "?"
[run]
duration_s = {duration_s}
warmup_s = 20
[network.stations.cpu]
discipline = "processor_sharing"
[network.stations.disk]
[network.stations.log]
[network.operations.ask]
arrivals = {{ rate_per_s = {rate_per_s} }}
steps = [
  {{ serve = "cpu", service_time = {{ distribution = "exponential", mean_ms = 50 }} }},
  {{ serve = "disk", service_time = {{ distribution = "exponential", mean_ms = 20 }} }},
  {{ serve = "log", service_time = {{ distribution = "exponential", mean_ms = 30 }} }},
  {{ respond = true }},
]
{closed}
"""
CLOSED = '[[closed_users]]\nusers = {users}\noperations = ["ask"]\nthink_time = {{ distribution = "exponential", mean_s = 1 }}\n'


def run(tmp_path, engine="compiled", users=0, rate_per_s=0.0, duration_s=600):
    closed = CLOSED.format(users=users) if users else ""
    path = tmp_path / "central.toml"
    path.write_text(CENTRAL.format(duration_s=duration_s, rate_per_s=rate_per_s, closed=closed))
    return simulate(load_scenario(str(path)), engine=engine)


@pytest.mark.parametrize("users", [10, 50])
def test_throughput_and_latency_are_those_of_mean_value_analysis(tmp_path, users):
    results = run(tmp_path, users=users)
    exact = closed_network([0.05, 0.02, 0.03], users, 1.0)
    assert results.figure("ask.throughput_per_s") == pytest.approx(exact.throughput_per_s, rel=0.03)
    assert results.figure("ask.mean_s") == pytest.approx(exact.response_s, rel=0.06)


def test_both_engines_hear_the_same_answers(tmp_path):
    one, other = (run(tmp_path, engine, users=20, rate_per_s=2, duration_s=40) for engine in ("compiled", "plain"))
    assert one.recording.responded_s.tobytes() == other.recording.responded_s.tobytes()


def test_a_crowd_waits_longer_than_users_who_wait_for_it(tmp_path):
    """The same throughput of a nearly busy server, asked for by twenty who wait, and by strangers who don't."""
    closed = run(tmp_path, users=20)
    opened = run(tmp_path, rate_per_s=closed.figure("ask.throughput_per_s"))
    assert opened.figure("ask.throughput_per_s") == pytest.approx(closed.figure("ask.throughput_per_s"), rel=0.05)
    # MVA: 0.252 s. Open, a product form of three M/M/1 at 16/s: 0.05/(1-0.8) + 0.02/(1-0.32) + 0.03/(1-0.48) = 0.337 s.
    assert closed.figure("ask.mean_s") == pytest.approx(0.252, rel=0.06)
    assert opened.figure("ask.mean_s") == pytest.approx(0.337, rel=0.15)


def test_closed_users_ask_the_platform_in_turn():
    scenario = load_scenario(
        "baseline",
        [
            "run.duration_s=20", "run.warmup_s=0", "population.users=50", "population.mean_followees=5",
            "population.celebrities=[]", "load.feed_opens_per_s=0",
            'closed_users=[{users=5,operations=["feed.open","interactions.like"],think_time={distribution="constant",mean_s=1}}]',
        ],
    )  # fmt: skip
    results = simulate(scenario)
    # A second of thought and a few milliseconds of waiting for each: nine or ten rounds of two in twenty seconds.
    assert len(results.latencies_s("feed.open")) == 50
    assert len(results.latencies_s("interactions.like")) in range(45, 51)
