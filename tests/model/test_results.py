"""Figures from recordings that were made by hand, and verdicts on runs that are stable, backlogged or overloaded."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.distributions import constant, exponential
from model.engines.order import OK, REJECTED, TIMED_OUT, UNDER_WAY
from model.network import Delay, Mark, Milestone, Network, Operation, Publish, Respond, Serve, Station, Topic
from model.recording import MARK, STATION_COUNTS, TOPIC_COUNTS, Recording
from model.results import LATENCY, Results, summarize
from model.scenario import DeclaredNetwork, Fault, OperationArrivals
from model.simulation import simulate
from model.tables import lower
from scenarios.loader import load_scenario

NETWORK = Network(
    (Operation("ask", (Serve("desk", constant(1.0)),)), Operation("put", (Publish("log"), Respond()))),
    (Station("desk"),),
    (Topic("log", (Mark("applied"), Mark("seen")), workers="appliers"),),
    milestones=(Milestone("applied", since="answer"),),
)
BASE = load_scenario("baseline")
NAN = math.nan


def recording(requests, marks=(), warmup_s=10.0, end_s=20.0):
    """requests: (operation, arrived, responded, outcome); marks: (milestone, ordinal, request, time, weight)."""
    operation, arrived, responded, outcome = zip(*requests, strict=True) if requests else ((), (), (), ())
    return Recording(
        tables=lower(NETWORK, 1),
        engine="plain",
        warmup_s=warmup_s,
        end_s=end_s,
        operation=np.array(operation, "i4"),
        arrived_s=np.array(arrived, float),
        responded_s=np.array(responded, float),
        finished_s=np.array(responded, float),
        outcome=np.array(outcome, "i1"),
        failed_attempts=np.zeros(len(requests), "i4"),
        marks=np.array(list(marks), MARK),
        stations=np.zeros(1, STATION_COUNTS),
        topics=np.array([(2, *[0] * 13)], TOPIC_COUNTS),
    )


def results(*args, **settings):
    return Results(replace(BASE, slo=settings.pop("slo", {})), recording(*args, **settings), 1)


# ---- percentiles


def test_percentiles_of_raw_samples():
    figures = summarize(np.arange(1001) / 1000)
    assert figures == pytest.approx(
        {"mean": 0.5, "p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999, "max": 1.0}
    )


def test_no_samples_no_figures():
    assert summarize(np.zeros(0)) == dict.fromkeys(LATENCY)


def test_a_weight_counts_a_sample_that_many_times():
    values, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 98.0, 1.0])
    figures = summarize(values, weights)
    assert (figures["p50"], figures["p95"], figures["p99"], figures["p999"]) == (1, 1, 2, 3)
    assert figures["mean"] == pytest.approx((98 + 2 + 3) / 100)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 5)), min_size=1, max_size=60))
def test_weighted_percentiles_are_those_of_repeated_samples(pairs):
    values, weights = (np.array(column, float) for column in zip(*pairs, strict=True))
    repeated = np.sort(np.repeat(values, weights.astype(int)))
    figures = summarize(values, weights)
    assert figures["mean"] == pytest.approx(np.mean(repeated), abs=1e-9)
    for name, share in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)]:
        place = math.ceil(share * len(repeated) - 1e-9) - 1
        if np.any(weights != 1):
            assert figures[name] in repeated[max(0, place - 1) : place + 2]
        else:
            assert repeated[0] <= figures[name] <= repeated[-1]


# ---- the window


def test_only_answers_within_the_window_count_and_only_good_ones_have_a_latency():
    figures = results(
        [
            (0, 1.0, 9.0, OK),  # answered in the warm-up
            (0, 9.0, 12.0, OK),  # came in the warm-up, answered after it
            (0, 11.0, 12.0, OK),
            (0, 11.0, 11.5, REJECTED),
            (0, 9.5, 9.5, REJECTED),
            (0, 12.0, 15.0, TIMED_OUT),
            (0, 19.0, NAN, UNDER_WAY),
            (1, 15.0, 15.5, OK),
        ]
    ).operation_figures
    assert {key: value for key, value in figures["ask"].items() if key != "latency_s"} == {
        "count": 2,
        "throughput_per_s": 0.2,
        "rejected": 1,
        "timed_out": 1,
    }
    assert figures["ask"]["latency_s"]["mean"] == 2
    assert figures["ask"]["latency_s"]["max"] == 3
    assert figures["put"]["latency_s"]["p50"] == 0.5


def test_milestones_count_since_the_answer_or_the_arrival():
    requests = [(1, 5.0, 7.0, OK), (1, 12.0, 13.0, OK), (1, 18.0, NAN, UNDER_WAY)]
    marks = [
        (0, 0, 0, 9.0, 1.0),  # before the window
        (0, 0, 0, 11.0, 1.0),  # 4 since the answer
        (1, 0, 0, 11.0, 1.0),  # 6 since the arrival
        (0, 0, 1, 12.5, 3.0),  # before the answer: counts since the arrival
        (0, 0, 2, 19.0, 1.0),  # nobody was answered yet
    ]
    run = results(requests, marks)
    values, weights = run.milestone_samples("applied")
    assert (values.tolist(), weights.tolist()) == ([4, 0.5, 1], [1, 3, 1])
    assert run.milestone_samples("seen")[0].tolist() == [6]
    figures = run.milestone_figures["applied"]
    assert (figures["count"], figures["weight"], figures["throughput_per_s"]) == (3, 5.0, 0.3)
    assert figures["latency_s"]["p50"] == 0.5
    assert figures["latency_s"]["max"] == 4


# ---- objectives


def test_objectives_are_met_at_most_and_throughput_at_least():
    requests = [(0, 10.0 + n / 10, 10.0 + n / 10 + 0.25, OK) for n in range(40)] + [(0, 15.0, 15.0, REJECTED)] * 10
    targets = {
        "ask.p99_s": (0.25, True),
        "ask.mean_s": (0.2, False),
        "ask.throughput_per_s": (4.0, True),
        "put.throughput_per_s": (1.0, False),
        "ask.rejected_ratio": (0.1, False),
        "ask.timed_out_ratio": (0.0, True),
        "put.p99_s": (9.0, False),  # nothing was measured: not met
        "applied.p50_s": (9.0, False),
        "stations.desk.rejected": (0, True),
        "stations.appliers.utilisation": (0.5, True),
        "topics.log.max_lag": (5, True),
    }
    run = results(requests, slo={name: target for name, (target, _) in targets.items()})
    assert {row["name"]: row["met"] for row in run.slo} == {name: met for name, (_, met) in targets.items()}
    values = {row["name"]: row["value"] for row in run.slo}
    assert values["ask.rejected_ratio"] == 0.2
    assert values["ask.p99_s"] == pytest.approx(0.25)
    assert values["put.p99_s"] is None


# ---- stations, stationarity, audit


def own(rate_per_s, service_s=1.0, duration_s=2000.0, discipline="fifo", **run):
    """A scenario of one station and one operation."""
    network = Network(
        (Operation("ask", (Serve("desk", exponential(service_s)),)),), (Station("desk", discipline=discipline),)
    )
    declared = DeclaredNetwork(network, {"ask": OperationArrivals(exponential(1 / rate_per_s))})
    settings = replace(BASE.run, duration_s=duration_s, warmup_s=duration_s / 10, **run)
    return replace(BASE, declared=declared, run=settings, slo={})


@pytest.mark.parametrize("discipline", ["fifo", "priority", "processor_sharing"])
@pytest.mark.parametrize(("rate_per_s", "verdict"), [(0.5, "stable"), (1.2, "overloaded")])
def test_stationarity(discipline, rate_per_s, verdict):
    run = simulate(own(rate_per_s, discipline=discipline))
    assert run.stationarity == verdict
    figures = run.station_figures["desk"]
    assert figures["utilisation"] == pytest.approx(min(1, rate_per_s), abs=0.1)
    assert 0 <= figures["wait_probability"] <= 1
    assert run.audit == {"littles_law_max_error_ratio": pytest.approx(0, abs=1e-9), "conserved": True}


def test_a_topic_that_falls_behind_is_overloaded_and_a_stuck_one_backlogged():
    def declared(steps, **settings):
        topic = Topic("log", steps, poll_max=1, **settings)
        network = Network((Operation("put", (Publish("log"), Respond())),), topics=(topic,))
        arrivals = {"put": OperationArrivals(exponential(0.1))}
        return replace(own(1.0, duration_s=100.0), declared=DeclaredNetwork(network, arrivals))

    assert simulate(declared((Delay(constant(0.2)),))).stationarity == "overloaded"
    assert simulate(declared((Delay(constant(0.05)),))).stationarity == "stable"
    dead = (Fault("consumer_crash", 50.0, "log", member=0, servers=0, back_after_s=None),)
    assert simulate(replace(declared((Delay(constant(0.05)),)), faults=dead)).stationarity == "backlogged"


def test_wait_probability_under_processor_sharing_is_that_of_arrivals():
    figures = simulate(own(0.7, discipline="processor_sharing", duration_s=5000.0)).station_figures["desk"]
    assert figures["wait_probability"] == pytest.approx(0.7, abs=0.03)  # Poisson arrivals see the time average
    assert figures["mean_wait_s"] == pytest.approx(0.7 / 0.3, rel=0.25)


# ---- the document


SHAPE = {
    "operations": {"count", "throughput_per_s", "rejected", "timed_out", "latency_s"},
    "milestones": {"count", "throughput_per_s", "rejected", "timed_out", "latency_s", "weight"},
    "stations": {
        "servers", "utilisation", "mean_queue", "mean_wait_s", "wait_probability", "throughput_per_s", "rejected",
    },
    "topics": {
        "published", "consumed", "redelivered", "duplicates_applied", "lost", "max_lag", "mean_batch", "mean_lag", "utilisation",
    },
    "hosts": {"cores", "utilisation", "mean_queue", "woken_per_s", "preempted_per_s"},
    "caches": {"hits", "misses", "waits", "hit_ratio"},
}  # fmt: skip


def check_shape(document):
    assert set(document) == {
        "scenario", "seed", "engine", "duration_s", *SHAPE, "audit", "stationarity", "slo",
    }  # fmt: skip
    for part, keys in SHAPE.items():
        for name, figures in document[part].items():
            assert set(figures) == keys, f"{part}.{name}"
            if "latency_s" in figures:
                assert set(figures["latency_s"]) == {"mean", "p50", "p90", "p95", "p99", "p999", "max"}
    assert set(document["audit"]) == {"littles_law_max_error_ratio", "conserved"}
    assert document["stationarity"] in ("stable", "backlogged", "overloaded")
    assert all(set(row) == {"name", "target", "value", "met"} for row in document["slo"])
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_the_document_of_a_platform_run():
    small = [
        "run.duration_s=10",
        "run.warmup_s=2",
        "population.users=1000",
        "population.mean_followees=20",
        "population.celebrities=[]",
    ]
    document = simulate(load_scenario("baseline", small)).document()
    check_shape(document)
    assert set(document["stations"]) >= {
        "api",
        "database",
        "fanout_dispatchers",
        "fanout_workers",
        "interaction_workers",
    }
    assert set(document["milestones"]) >= {"feed.delivered", "interactions.applied"}
    assert all(topic["lost"] == 0 for topic in document["topics"].values())
    assert document["operations"]["feed.open"]["count"] > 600


def test_the_document_of_a_run_in_which_nothing_happened():
    run = results([], slo={"ask.p99_s": 1.0})
    check_shape(run.document())
    assert run.document()["slo"] == [{"name": "ask.p99_s", "target": 1.0, "value": None, "met": False}]
    assert run.operations.loc["ask", "count"] == 0


def test_tables_have_a_row_per_name():
    run = results([(0, 11.0, 12.0, OK)])
    assert run.operations.loc["ask", "p99_s"] == 1.0
    assert list(run.operations.index) == ["ask", "put"]
    assert list(run.milestones.index) == ["applied", "seen"]
    assert list(run.stations.index) == ["desk", "appliers"]
    assert list(run.topics.index) == ["log"]
