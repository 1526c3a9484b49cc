"""Locust in virtual time against closed forms: a closed network and open arrivals."""

import numpy as np
import pytest

from loadtest import recording


def closed_network(users: int, think_s: float, demand_s: float) -> tuple[float, float]:
    """Mean-value analysis of one exponential server with a think time: throughput per s, mean response time in s."""
    queue, throughput, response_s = 0.0, 0.0, demand_s
    for n in range(1, users + 1):
        response_s = demand_s * (1 + queue)
        throughput = n / (think_s + response_s)
        queue = throughput * response_s
    return throughput, response_s


def test_mean_value_analysis_gives_the_external_checks_figure():
    assert closed_network(10, 1.145, 0.1)[1] == pytest.approx(0.24196, abs=5e-6)


@pytest.mark.parametrize(("users", "think_s", "demand_s"), [(10, 1.145, 0.1), (30, 1.0, 0.05)])
def test_closed_users_agree_with_mean_value_analysis(run_locust, users, think_s, demand_s):
    run = run_locust(
        "locustfile_clients.py", "--target", "model", "-u", str(users), "-r", str(users), "-t", "800s",
        FC_TASK="visit", FC_SERVERS="1", FC_MEAN_S=str(demand_s), FC_THINK_S=str(think_s),
    )  # fmt: skip
    rows = recording.read(run.raw)
    rows = rows[(rows.sent_s > 50) & (rows.outcome == "ok")]
    throughput, response_s = closed_network(users, think_s, demand_s)
    assert len(rows) / 750 == pytest.approx(throughput, rel=0.03)
    assert rows.latency_s.mean() == pytest.approx(response_s, rel=0.06)


def open_arrivals(run_locust, seconds: int, in_flight: int):
    run = run_locust(
        "locustfile_platform.py", "--target", "model", "-u", "1", "-t", f"{seconds}s", "--arrivals-per-s", "8",
        "--arrivals-in-flight", str(in_flight), FC_SERVERS="1", FC_MEAN_S="0.1",
    )  # fmt: skip
    rows = recording.read(run.raw)
    return rows[rows.outcome != "unfinished"]


def test_open_arrivals_are_a_poisson_stream_into_an_mm1(run_locust):
    """The same server at the same utilisation as the ten closed users: 0.5 s in the mean, not 0.24 s."""
    rows = open_arrivals(run_locust, 2500, 10_000)
    gaps_s = np.diff(rows.intended_s.sort_values())
    assert 1 / gaps_s.mean() == pytest.approx(8, rel=0.03)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(1, abs=0.03)
    assert rows.latency_s.mean() == pytest.approx(0.5, rel=0.2)
    assert (rows.sent_s - rows.intended_s).abs().max() < 1e-6


def test_latency_counts_from_the_intended_instant_even_when_sending_is_held_back(run_locust):
    """With two requests under way at most, the queue is in front of the client: nobody may lose sight of it."""
    unbounded, bounded = open_arrivals(run_locust, 250, 10_000), open_arrivals(run_locust, 250, 2)
    assert np.allclose(bounded.intended_s.to_numpy()[:1500], unbounded.intended_s.to_numpy()[:1500], atol=1e-6)
    at_the_server_s = bounded.finished_s - bounded.sent_s
    assert at_the_server_s.mean() < 0.6 * unbounded.latency_s.mean()
    assert bounded.latency_s.mean() == pytest.approx(unbounded.latency_s.mean(), rel=0.05)
