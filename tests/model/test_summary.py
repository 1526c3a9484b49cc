"""Backlogs, costs and the bottleneck, by hand."""

from dataclasses import replace

import numpy as np
import pytest

from model.backlogs import backlog
from model.cost import compute_usd_per_hour, costs_of
from model.scenario import Fault
from model.simulation import simulate
from model.summary import bottleneck, told
from scenarios.loader import load_scenario


def test_a_backlog_has_a_peak_and_drains():
    """One each second, done half a second later; from 20 s to 50 s nothing is done, then two a second until 80 s."""
    began_s = np.arange(0.0, 100, 0.5)
    ended_s = np.where((began_s >= 20) & (began_s < 80), np.maximum(50 + (began_s - 20) / 2, began_s), began_s) + 0.5
    found = backlog("x", began_s, ended_s, 0, 100)
    assert found.peak == pytest.approx(62, abs=3)
    assert found.peak_at_s == pytest.approx(50.5, abs=0.5)
    assert found.usual == 1
    assert found.drain_s == pytest.approx(26, abs=3)  # the last nine are within chance


def test_a_backlog_that_never_drains():
    began_s = np.arange(0.0, 100, 0.1)
    found = backlog("x", began_s, np.where(began_s < 80, began_s + 0.1, np.nan), 0, 100)
    assert found.drain_s is None
    assert found.peak == pytest.approx(200, abs=2)


@pytest.fixture(scope="module")
def day():
    overrides = ["run.duration_s=30", "run.warmup_s=0", "population.users=500", "population.mean_followees=10", "population.celebrities=[]"]
    return load_scenario("baseline", overrides)


def test_a_bill_adds_up(day):
    prices = {**day.prices, "database_usd_per_hour": 0.4, "cdn_gb_usd": 0.0, "store_gb_month_usd": 0.0}
    results = simulate(replace(day, prices=prices))
    bill = costs_of(results)
    lines = {line.part: line.usd_per_hour for line in bill.lines}
    assert lines["api"] == pytest.approx(4 * 0.0504)
    assert lines["database"] == pytest.approx(8 * 0.4)
    assert lines["brokers"] == pytest.approx(3 * 0.2016)
    assert lines["cdn, requests"] == pytest.approx(results.figure("uploads.view.throughput_per_s") * 3.6 * 0.001)
    assert bill.usd_per_hour == pytest.approx(sum(lines.values()))
    answered = sum(row["count"] for row in results.operation_figures.values())
    assert bill.usd_per_1k_requests == pytest.approx(bill.usd_per_hour / 3600 * 30 / answered * 1000)
    assert compute_usd_per_hour(replace(day, prices=prices), {"api": 2, "database": 3}) == pytest.approx(2 * 0.0504 + 1.2)


def test_servers_that_were_away_were_not_paid(day):
    results = simulate(replace(day, faults=(Fault("capacity", 10, "api", 0, 1, 10),)))
    line = next(line for line in costs_of(results).lines if line.part == "api")
    assert line.usd_per_hour == pytest.approx((4 - 3 / 3) * 0.0504)


def test_what_is_told_names_the_busiest(day):
    results = simulate(day)
    document = told(results)
    busiest = max(results.station_figures.items(), key=lambda item: item[1]["utilisation"])[0]
    assert document["bottleneck"]["name"] == bottleneck(results)["name"] == busiest
    assert set(document["left_in_topics"]) == set(results.topic_figures)
    assert document["cost"]["usd_per_hour"] > 0
