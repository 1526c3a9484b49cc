"""Hosts against closed forms: two kinds of work on the same cores, by every discipline of a host."""

import pytest

from model import queueing_theory as theory
from model.distributions import exponential, hyperexponential
from model.network import HOST_DISCIPLINES, Host, Network, Operation, Serve, Station
from tests.model.intervals import assert_agrees
from tests.model.runs import run_many

PAGES_PER_S, PAGE = 0.4, hyperexponential(1.0, 1.5)
QUERIES_PER_S, QUERY = 0.8, exponential(0.4)
PAGE_LOAD, QUERY_LOAD = PAGES_PER_S * PAGE.mean_s, QUERIES_PER_S * QUERY.mean_s
RESIDUAL_S = sum(  # mean work left of what is running, Kleinrock I, ch. 5
    rate * time.mean_s**2 * (1 + time.cv**2) / 2 for rate, time in ((PAGES_PER_S, PAGE), (QUERIES_PER_S, QUERY))
)
FREE = 1 - PAGE_LOAD - QUERY_LOAD
MANY = 2_000  # processes: nobody waits for one


def shared(discipline, cores=1, speed=1.0, processes=MANY, pages_preempt=True, slice_s=0.1):
    """Pages and queries, each kind with processes of its own, on the cores of one host."""
    stations = (
        Station("app", processes, host="machine", preempts=pages_preempt),
        Station("database", processes, host="machine"),
    )
    operations = (Operation("page", (Serve("app", PAGE),)), Operation("query", (Serve("database", QUERY),)))
    return Network(operations, stations, hosts=(Host("machine", cores, discipline, speed, slice_s=slice_s, tick_s=0.0),))


def mean_s(network, operation, until_s=25_000.0, faster=1.0):
    """The mean response time of an operation, as a function of the seed; a tenth of the run is warm-up."""
    arrivals = {"page": exponential(1 / PAGES_PER_S / faster), "query": exponential(1 / QUERIES_PER_S / faster)}

    def measure(seed):
        record = run_many(network, arrivals, until_s / faster, engine="compiled", seed=seed, warmup_s=until_s / faster / 10)
        chosen = (record.arrived_s >= record.warmup_s) & (record.operation == network.names("operations").index(operation))
        took_s = record.responded_s[chosen] - record.arrived_s[chosen]
        return float(took_s[took_s == took_s].mean())

    return measure


@pytest.mark.parametrize(("operation", "work_s"), [("page", PAGE.mean_s), ("query", QUERY.mean_s)])
def test_two_classes_share_a_core(operation, work_s):
    """M/G/1 processor sharing: everybody is slowed down alike, whoever they share with."""
    sojourn_s = theory.ps_conditional_sojourn_s(1.0, PAGE_LOAD + QUERY_LOAD, work_s)
    assert_agrees(mean_s(shared("processor_sharing"), operation), sojourn_s, 0.2)


def test_one_class_on_one_shared_core_and_on_four():
    """M/M/c processor sharing has the mean of M/M/c."""
    for cores in (1, 4):
        station = Station("app", MANY, host="machine")
        network = Network((Operation("page", (Serve("app", exponential(1.0)),)),), (station,), hosts=(Host("machine", cores),))

        def measure(seed, network=network, rate_per_s=0.7 * cores, until_s=30_000 / cores):
            record = run_many(network, {"page": exponential(1 / rate_per_s)}, until_s, engine="compiled", seed=seed, warmup_s=until_s / 10)
            return float((record.responded_s - record.arrived_s)[record.responded_s >= record.warmup_s].mean())

        assert_agrees(measure, theory.ps_mean_sojourn_s(0.7 * cores, 1.0, cores), 0.15)


@pytest.mark.parametrize(("operation", "work_s"), [("page", PAGE.mean_s), ("query", QUERY.mean_s)])
def test_a_run_queue_is_one_queue_for_both_classes(operation, work_s):
    """M/G/1 first come, first served: all wait alike (Pollaczek–Khinchine)."""
    assert_agrees(mean_s(shared("fifo"), operation), work_s + RESIDUAL_S / FREE, 0.2)


@pytest.mark.parametrize(("operation", "work_s"), [("page", PAGE.mean_s), ("query", QUERY.mean_s)])
def test_where_everybody_pre_empts_as_he_wakes_the_last_comes_first(operation, work_s):
    """M/G/1 last come, first served with resumption has the means of processor sharing (Kleinrock II, ch. 4)."""
    assert_agrees(mean_s(shared("wake_preemption"), operation), work_s / FREE, 0.2)


def test_queries_that_pre_empt_pages_do_not_feel_them():
    """Pre-emptive resume priority (Kleinrock II, ch. 3): queries, among themselves the last first, see only each other."""
    network = shared("wake_preemption", pages_preempt=False)
    assert_agrees(mean_s(network, "query"), QUERY.mean_s / (1 - QUERY_LOAD), 0.1)
    page_s = PAGE.mean_s / (1 - QUERY_LOAD) + RESIDUAL_S / ((1 - QUERY_LOAD) * FREE)
    assert_agrees(mean_s(network, "page"), page_s, 0.2)


@pytest.mark.parametrize(("operation", "work_s"), [("page", PAGE.mean_s), ("query", QUERY.mean_s)])
def test_a_fair_queue_of_short_slices_is_processor_sharing(operation, work_s):
    sojourn_s = theory.ps_conditional_sojourn_s(1.0, PAGE_LOAD + QUERY_LOAD, work_s)
    assert_agrees(mean_s(shared("fair", slice_s=0.02), operation), sojourn_s, 0.2)


def test_a_host_three_times_as_fast_serves_three_times_as_many_three_times_as_fast():
    sojourn_s = theory.ps_conditional_sojourn_s(1.0, PAGE_LOAD + QUERY_LOAD, PAGE.mean_s) / 3
    assert_agrees(mean_s(shared("processor_sharing", speed=3.0), "page", faster=3.0), sojourn_s, 0.2)


def test_an_event_loop_alone_on_its_core_is_one_server():
    """M/G/1 whatever the host's discipline: there is nobody to share with."""
    for discipline in HOST_DISCIPLINES:
        station = Station("app", host="machine")
        network = Network((Operation("page", (Serve("app", PAGE),)),), (station,), hosts=(Host("machine", 1, discipline),))

        def measure(seed, network=network):
            record = run_many(network, {"page": exponential(2.0)}, 50_000.0, engine="compiled", seed=seed, warmup_s=5_000.0)
            return float(record.stations[0]["wait_s"] / record.stations[0]["waits"])

        assert_agrees(measure, theory.mg1_mean_wait_s(0.5, PAGE.mean_s, PAGE.cv**2), 0.2)
