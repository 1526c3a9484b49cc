"""The engine against closed forms that others computed: open stations, priorities, sharing, closed loops, caches, fan-out.

Sizes are per replication; there are ten (`intervals.py`). The compiled engine gets the jobs that a narrow interval needs; the
plain one, which is equal to it bit for bit, a fiftieth of them in a few tests.
"""

import math

import numpy as np
import pytest

from model import queueing_theory as theory
from model.arrivals import draws
from model.distributions import constant, exponential, hyperexponential, lognormal, weibull
from model.network import (
    Arm,
    Branch,
    Cache,
    Delay,
    Lookup,
    Mark,
    Network,
    Operation,
    Scatter,
    Serve,
    Station,
)
from model.tables import lower
from tests.model.intervals import assert_agrees, interval
from tests.model.runs import Log, build, run, run_many, station

SHRINK = {"plain": 50, "compiled": 1}  # of the number of jobs
WIDEN = {"plain": 11.0, "compiled": 1.6}  # of the interval

on_compiled = pytest.mark.parametrize("engine", ["compiled"])
on_both = pytest.mark.parametrize("engine", ["plain", "compiled"])


def queue(service, **settings):
    return Network((Operation("ask", (Serve("desk", service),)),), (Station("desk", **settings),))


def figures(engine, network, rate_per_s, jobs, seed):
    """The desk's counters and the recording of an open run; a tenth of it is warm-up."""
    until_s = jobs / SHRINK[engine] / rate_per_s
    record = run_many(
        network, {"ask": exponential(1 / rate_per_s)}, until_s, engine=engine, seed=seed, warmup_s=until_s / 10
    )
    return station(record, "desk"), record


def mean_wait_s(counts):
    return counts["wait_s"] / counts["waits"]


def mean_latency_s(record):
    chosen = record.responded_s >= record.warmup_s
    return float(np.mean(record.responded_s[chosen] - record.arrived_s[chosen]))


# ---- open stations, first come first served


@on_compiled
@pytest.mark.parametrize(
    ("servers", "utilisation", "waiting", "wait_s"),
    [
        (4, 0.8, 0.596432, 0.745541),
        (8, 0.9, 0.701533, 0.876916),
        (16, 0.9, 0.591343, 0.369590),
        (100, 0.95, 0.506457, 0.101291),
    ],
)
def test_mmc(engine, servers, utilisation, waiting, wait_s):
    network, rate = queue(exponential(1.0), servers=servers), servers * utilisation
    counts = {seed: figures(engine, network, rate, 300_000, seed)[0] for seed in range(1, 11)}
    assert_agrees(lambda seed: mean_wait_s(counts[seed]), wait_s, 0.125 * WIDEN[engine])
    assert_agrees(lambda seed: counts[seed]["waited"] / counts[seed]["waits"], waiting, 0.04 * WIDEN[engine])
    assert_agrees(
        lambda seed: counts[seed]["busy_area"] / counts[seed]["capacity_area"], utilisation, 0.01 * WIDEN[engine]
    )


@on_both
def test_p99_of_the_wait(engine):
    network, service = queue(exponential(1.0), servers=4), exponential(1.0)

    def p99_s(seed):
        _, record = figures(engine, network, 3.2, 300_000, seed)
        served_s = draws(service, seed, "ask/1", 0, len(record.arrived_s))  # by key: the very numbers the engine drew
        waits_s = (record.responded_s - record.arrived_s - served_s)[record.responded_s >= record.warmup_s]
        assert np.min(waits_s) > -1e-9
        return float(np.quantile(waits_s, 0.99))

    assert_agrees(p99_s, 5.11048, 0.07 * WIDEN[engine])


@on_both
def test_erlang_b(engine):
    network = queue(exponential(1.0), servers=10, queue_limit=0)

    def lost_ratio(seed):
        counts, _ = figures(engine, network, 8.0, 300_000, seed)
        return counts["rejected"] / counts["arrived"]

    assert_agrees(lost_ratio, 0.121661, 0.03 * WIDEN[engine])


@on_compiled
@pytest.mark.parametrize(
    ("service", "wait_s", "within"),
    [(constant(1.0), 2.0, 0.06), (hyperexponential(1.0, 2.0), 10.0, 0.11), (lognormal(1.0, 2.0), 10.0, 0.15)],
    ids=["M/D/1", "M/H2/1", "M/lognormal/1"],
)
def test_mg1(engine, service, wait_s, within):
    network = queue(service)
    assert_agrees(
        lambda seed: mean_wait_s(figures(engine, network, 0.8, 300_000, seed)[0]), wait_s, within * WIDEN[engine]
    )


# ---- other disciplines


@on_compiled
@pytest.mark.parametrize(
    "service", [constant(0.1), exponential(0.1), hyperexponential(0.1, 2.0)], ids=["constant", "exponential", "cv 2"]
)
def test_processor_sharing_is_insensitive(engine, service):
    network = queue(service, discipline="processor_sharing")
    sojourn_s = theory.ps_mean_sojourn_s(8.0, 0.1)
    assert_agrees(
        lambda seed: mean_latency_s(figures(engine, network, 8.0, 250_000, seed)[1]), sojourn_s, 0.08 * WIDEN[engine]
    )


@on_both
def test_processor_sharing_among_several_servers(engine):
    network = queue(hyperexponential(1.0, 1.5), servers=4, discipline="processor_sharing")
    sojourn_s = theory.MMc(3.2, 1.0, 4).mean_sojourn_s
    assert_agrees(
        lambda seed: mean_latency_s(figures(engine, network, 3.2, 250_000, seed)[1]), sojourn_s, 0.05 * WIDEN[engine]
    )


@on_both
def test_priorities_as_cobham(engine):
    rates, services = {"alert": 0.3, "bulk": 0.5}, {"alert": exponential(0.5), "bulk": hyperexponential(1.2, 1.5)}
    operations = tuple(
        Operation(name, (Serve("desk", services[name]),), priority=rank) for rank, name in enumerate(rates)
    )
    network = Network(operations, (Station("desk", discipline="priority"),))
    expected = theory.priority_mean_waits_s([0.3, 0.5], [0.5, 1.2], [1.0, 1.5**2])
    until_s = 250_000 / SHRINK[engine]
    runs = {
        seed: run_many(
            network,
            {name: exponential(1 / rate) for name, rate in rates.items()},
            until_s,
            engine=engine,
            seed=seed,
            warmup_s=until_s / 10,
        )
        for seed in range(1, 11)
    }
    for number, name in enumerate(rates):

        def wait_s(seed, number=number, name=name):
            record = runs[seed]
            chosen = (record.operation == number) & (record.responded_s >= record.warmup_s)
            return float(np.mean(record.responded_s[chosen] - record.arrived_s[chosen])) - services[name].mean_s

        assert_agrees(wait_s, expected[number], 0.12 * WIDEN[engine])


@on_compiled
def test_ageing_conserves_the_work_and_parts_the_classes(engine):
    """Kleinrock's conservation law holds for any order that does not look at services. And a short `ageing_s` a parts the classes'
    waits by rho² * a: who waits (rho) is passed by the urgent ones that come within a, and these save what they pass, a * rho in all.
    """
    operations = tuple(Operation(name, (Serve("desk", exponential(1.0)),), priority=rank) for rank, name in enumerate("ab"))
    network = Network(operations, (Station("desk", discipline="priority", ageing_s=0.5),))

    def waits_s(seed):
        record = run_many(network, {"a": exponential(2.5), "b": exponential(2.0)}, 100_000, engine=engine, seed=seed, warmup_s=5000)
        inside = record.responded_s >= record.warmup_s
        sojourns_s = record.responded_s - record.arrived_s
        return [float(np.mean(sojourns_s[inside & (record.operation == number)])) - 1.0 for number in (0, 1)]

    waits = {seed: waits_s(seed) for seed in range(1, 11)}
    assert_agrees(lambda seed: 0.4 * waits[seed][0] + 0.5 * waits[seed][1], 0.9 * 0.9 / (1 - 0.9), 0.12)
    assert_agrees(lambda seed: waits[seed][1] - waits[seed][0], 0.9**2 * 0.5, 0.3)


@on_compiled
@pytest.mark.parametrize(("utilisation", "response_s", "within"), [(0.5, 2.875, 0.03), (0.8, 7.0, 0.12)])
def test_fork_join_of_two(engine, utilisation, response_s, within):
    """The forks differ in their station: one is a child of its own, the other the request itself; the last of both counts."""
    fork = Scatter((Serve("left", exponential(1.0)), Mark("half")), join=False)
    network = Network(
        (Operation("ask", (fork, Serve("right", exponential(1.0)), Mark("half"))),), (Station("left"), Station("right"))
    )

    def last_half_s(seed):
        until_s = 200_000 / SHRINK[engine] / utilisation
        record = run_many(
            network, {"ask": exponential(1 / utilisation)}, until_s, engine=engine, seed=seed, warmup_s=until_s / 10
        )
        last_s = np.zeros(len(record.arrived_s))
        np.maximum.at(last_s, record.marks["request"], record.marks["time_s"])
        halves = np.bincount(record.marks["request"], minlength=len(last_s))
        chosen = (halves == 2) & (last_s >= record.warmup_s)
        return float(np.mean(last_s[chosen] - record.arrived_s[chosen]))

    assert_agrees(last_half_s, response_s, within * WIDEN[engine])


# ---- closed loops


class Users(Log):
    """Each asks again as soon as it is answered; thinking is the first step of a request."""

    def responded(self, request, outcome):
        self.engine.submit(0, [])


def closed(engine, users, think_s, stations, until_s, seed):
    """Throughput per second and mean response (thinking left out) of a closed loop; a tenth of it is warm-up."""
    steps = (Delay(exponential(think_s)), Mark("asked"), *(Serve(name, service) for name, service in stations.items()))
    network = Network((Operation("ask", steps),), tuple(Station(name) for name in stations))
    crowd = Users()
    env, runner = build(engine, lower(network, seed), until_s / 10, crowd)
    crowd.start(env, runner)
    for _ in range(users):
        runner.submit(0, [])
    env.run(until=until_s)
    record = runner.record()
    asked_s = np.full(len(record.arrived_s), np.nan)
    asked_s[record.marks["request"]] = record.marks["time_s"]
    chosen = record.responded_s >= until_s / 10
    return chosen.sum() / (until_s * 0.9), float(np.mean((record.responded_s - asked_s)[chosen]))


@on_compiled
@pytest.mark.parametrize(
    ("users", "throughput", "response_s"), [(10, 8.75354, 0.14240), (20, 15.97515, 0.25194), (50, 19.99993, 1.50001)]
)
def test_closed_network_as_mean_value_analysis(engine, users, throughput, response_s):
    stations = {"cpu": exponential(0.05), "disk": exponential(0.02), "net": exponential(0.03)}
    until_s = 5_000 / throughput  # an observer is called for every request: that, and not the engine, takes the time
    runs = {seed: closed(engine, users, 1.0, stations, until_s, seed) for seed in range(1, 11)}
    assert_agrees(lambda seed: runs[seed][0], throughput, 0.04)
    assert_agrees(lambda seed: runs[seed][1], response_s, 0.1)


@on_compiled
def test_an_open_crowd_waits_longer_than_a_closed_one(engine):
    """Brooker's `omission`: the same station at the same utilisation of 0.8, asked by ten users who wait for answers."""
    open_s, open_half = interval(
        lambda seed: mean_latency_s(figures(engine, queue(exponential(0.1)), 8.0, 300_000, seed)[1])
    )
    assert abs(open_s - 0.5) <= open_half
    steadier = queue(weibull(0.1, math.sqrt(theory.weibull_cv2(2.0))))
    assert_agrees(
        lambda seed: mean_latency_s(figures(engine, steadier, 8.0, 300_000, seed)[1]), 0.35465, 0.05 * WIDEN[engine]
    )
    until_s = 800.0
    runs = {seed: closed(engine, 10, 1.145, {"desk": exponential(0.1)}, until_s, seed) for seed in range(1, 11)}
    assert_agrees(lambda seed: runs[seed][1], 0.24196, 0.08)
    assert runs[1][1] < open_s / 1.5


# ---- caches and fan-out


@on_both
def test_tail_at_scale(engine):
    """Of a hundred parts each of which is slow once in a hundred, one is slow for 63 % of all requests."""
    part = (Branch((Arm(0.01, (Delay(constant(1.0)),)),)),)
    network = Network((Operation("ask", (Scatter(part, count=100),)),))
    requests = 50_000 // SHRINK[engine]
    record = run(network, [(0.0, "ask")] * requests, engine=engine)
    slow = float(np.mean(record.responded_s >= 1.0))
    expected = theory.any_slow_probability(0.01, 100)
    assert expected == pytest.approx(0.634, abs=5e-4)
    assert abs(slow - expected) < 4 * math.sqrt(expected * (1 - expected) / requests)


@on_both
def test_hit_ratio_of_a_ttl_cache_under_zipf(engine):
    shares = theory.zipf_popularity(200, 0.8)
    network = Network(
        (Operation("ask", (Lookup("pages", "page", miss=(Mark("miss"),)),)),),
        caches=(Cache("pages", ttl_s=20.0),),
        attributes=("page",),
    )
    rate_per_s, until_s = 10.0, 40_000 / SHRINK[engine]
    expected = theory.ttl_hit_ratio(shares * rate_per_s, 20.0)

    def hit_ratio(seed):
        def pages(count):
            return np.random.default_rng(seed).choice(200, count, p=shares).astype(float)

        record = run_many(
            network,
            {"ask": exponential(1 / rate_per_s)},
            until_s,
            engine=engine,
            seed=seed,
            attributes={"page": pages},
            warmup_s=until_s / 4,
        )
        asked = np.sum(record.arrived_s >= record.warmup_s)
        return 1 - float(np.sum(record.marks["time_s"] >= record.warmup_s) / asked)

    assert_agrees(hit_ratio, expected, 0.01 * WIDEN[engine])
