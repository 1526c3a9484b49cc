"""Hosts, processes and held servers with exact clocks: constant work, instants worked out by hand."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.distributions import constant
from model.engines.order import until_tick_s
from model.hosts import linux_slice_s
from model.network import (
    HOST_DISCIPLINES,
    Hold,
    Host,
    Mark,
    Network,
    Operation,
    Publish,
    Respond,
    Scatter,
    Serve,
    Station,
    Topic,
    Try,
)
from tests.model.runs import answered, answers, at, marks, outcomes, run, station, topic

pytestmark = pytest.mark.usefixtures("engine")


def serve(name, work_s=1.0):
    return Serve(name, constant(work_s))


def asks(*instants, name="ask"):
    return [(instant, name) for instant in instants]


def one_machine(discipline, *operations, cores=1, speed=1.0, stations=None, slice_s=1.0, tick_s=0.0):
    """An application of one process and a database of two backends on one machine; and a pool of one connection beside it."""
    stations = stations or (
        Station("app", host="machine", preempts=False),
        Station("database", 2, host="machine"),
        Station("pool"),
    )
    made = tuple(Operation(f"ask{number or ''}", steps) for number, steps in enumerate(operations))
    return Network(made, stations, hosts=(Host("machine", cores, discipline, speed, slice_s=slice_s, tick_s=tick_s),))


def host(record):
    row = record.hosts[0]
    return {field: row[field].item() for field in row.dtype.names}


PAGE = (serve("app"), serve("database"), serve("app"))


# ---- cores that are away


@pytest.mark.parametrize("discipline", HOST_DISCIPLINES)
def test_while_the_core_is_away_nobody_gets_on(discipline):
    away = at((1.5, "set_cores", 0, 0), (4.0, "set_cores", 0, 1))
    record = run(one_machine(discipline, PAGE), asks(0), control=away)
    assert answered(record) == [5.5]
    assert host(record) == {"cores": 1, "woken": 3, "preempted": 0, "busy_area": 3, "queue_area": 2.5}


@pytest.mark.parametrize(("discipline", "instants"), [
    ("processor_sharing", [7, 8]), ("fifo", [5, 8]), ("wake_preemption", [8, 6]), ("fair", [7, 8]),
])  # fmt: skip
def test_who_wakes_while_the_core_is_away_waits_for_it(discipline, instants):
    """One asks the application at 0 and wants 3 s, one the database at 2 and wants 3 s; the core is away from 1 to 3."""
    network = one_machine(discipline, (serve("app", 3.0),), (serve("database", 3.0),))
    record = run(network, [(0, "ask"), (2, "ask1")], control=at((1, "set_cores", 0, 0), (3, "set_cores", 0, 1)))
    assert answered(record) == instants


@pytest.mark.parametrize("discipline", HOST_DISCIPLINES)
def test_a_second_core_and_back(discipline):
    """Two want 4 s each; from 1 to 3 there are two cores."""
    network = one_machine(discipline, (serve("app", 4.0),), (serve("database", 4.0),))
    record = run(network, [(0, "ask"), (0, "ask1")], control=at((1, "set_cores", 0, 2), (3, "set_cores", 0, 1)))
    assert max(answered(record)) == 6
    assert host(record)["busy_area"] == 8


def test_linux_slices_grow_with_the_cores_up_to_eight():
    assert [linux_slice_s(cores) for cores in (1, 2, 8, 64)] == pytest.approx([0.0007, 0.0014, 0.0028, 0.0028])


@given(now_s=st.floats(0, 1e5), after_s=st.floats(0, 1e3), tick_s=st.sampled_from([0.001, 0.004, 0.01, 0.25]))
def test_a_tick_comes_when_it_is_asked_for_or_less_than_one_later(now_s, after_s, tick_s):
    assert until_tick_s(now_s, after_s, 0.0) == after_s
    left_s = until_tick_s(now_s, after_s, tick_s)
    assert after_s - 1e-9 <= left_s <= after_s + tick_s + 1e-9
    ticks = (now_s + left_s) / tick_s
    assert ticks == pytest.approx(round(ticks), abs=1e-6)


def test_a_host_cannot_have_fewer_cores_than_none():
    with pytest.raises(ValueError, match="a host cannot have -1 cores"):
        run(one_machine("fair", PAGE), asks(0), control=at((1, "set_cores", 0, -1)))


# ---- one core among processes


@pytest.mark.parametrize("discipline", HOST_DISCIPLINES)
def test_alone_on_a_core_the_work_is_the_time(discipline):
    record = run(one_machine(discipline, PAGE), asks(0, 10))
    assert answered(record) == [3, 13]
    assert host(record) == {"cores": 1, "woken": 6, "preempted": 0, "busy_area": 6, "queue_area": 0}


def test_who_shares_a_core_gets_on_half_as_fast():
    record = run(one_machine("processor_sharing", (serve("app", 2.0),), (serve("database", 2.0),)), [(0, "ask"), (1, "ask1")])
    assert answered(record) == [3, 4]  # 1 s alone, 2 s at half speed, 1 s alone
    assert host(record)["queue_area"] == 2  # of two that work, half of each is waiting
    assert station(record, "app")["wait_s"] == 0
    assert station(record, "app")["busy_area"] == 3


def test_an_event_loop_is_first_in_first_out_on_its_share_of_the_core():
    network = one_machine("processor_sharing", (serve("app"),), (serve("database", 4.0),))
    record = run(network, [(0, "ask1"), (0, "ask"), (0, "ask"), (1, "ask")])
    assert answered(record) == [7, 2, 4, 6]


def test_two_backends_share_a_core_and_a_third_query_waits_for_a_backend():
    record = run(one_machine("processor_sharing", (serve("database"),)), asks(0, 0, 0))
    assert answered(record) == [2, 2, 3]


def test_a_run_queue_runs_each_process_until_it_has_nothing_to_do():
    # 0-1 A app, 1-2 B app (the process goes on), 2-3 A query, 3-4 B query, 4-5 A app, 5-6 B app
    record = run(one_machine("fifo", (*PAGE, Mark("done"))), asks(0, 0.5))
    assert answered(record) == [5, 6]
    assert host(record) == {"cores": 1, "woken": 4, "preempted": 0, "busy_area": 6, "queue_area": 3}


def test_a_woken_backend_pre_empts_the_application():
    # 0-1 A app; its query wakes at 1 and pre-empts B: 1-2 A query, 2-3 B app; A's page goes on, B's query pre-empts it: 3-4; 4-6 pages
    record = run(one_machine("wake_preemption", PAGE), asks(0, 0.5))
    assert answered(record) == [5, 6]
    assert host(record) == {"cores": 1, "woken": 3, "preempted": 2, "busy_area": 6, "queue_area": 2}


def test_who_is_pre_empted_goes_on_with_what_is_left():
    network = one_machine("wake_preemption", (serve("app", 4.0),), (serve("database"),))
    record = run(network, [(0, "ask"), (1, "ask1"), (1.5, "ask1"), (6, "ask")])
    assert answered(record) == [6, 3, 2.5, 10]  # the second backend pre-empts the first
    assert host(record)["preempted"] == 2


def test_a_woken_application_does_not_pre_empt_a_query():
    network = one_machine("wake_preemption", (serve("app"),), (serve("database", 2.0),))
    assert answered(run(network, [(0, "ask1"), (1, "ask")])) == [2, 3]


def test_a_fair_queue_lets_who_runs_reach_its_deadline_and_then_who_has_had_less():
    # 0-1 the application alone; a query wakes, has had as much, and waits for a slice: 1-2; 2-2.75 the query; then the application
    network = one_machine("fair", (serve("app", 4.0),), (serve("database", 0.75),))
    record = run(network, [(0, "ask"), (1, "ask1")])
    assert answered(record) == [4.75, 2.75]
    assert host(record) == {"cores": 1, "woken": 2, "preempted": 1, "busy_area": 4.75, "queue_area": 1 + 0.75}


def test_on_a_fair_queue_who_is_owed_time_pre_empts_as_it_wakes():
    # The query of 0.5 waits until 1 and has had less than the average of (1 + 0.75) / 2 as it is done: owed 0.125 beside one other. At
    # 1.5 the application has had 1.25 and the query 1.25 - 0.25; it runs at once, to 1.75. Then both have had 1.25. That of 2 waits.
    network = one_machine("fair", (serve("app", 4.0),), (serve("database", 0.25),))
    record = run(network, [(0, "ask"), (0.5, "ask1"), (1.5, "ask1"), (2, "ask1")])
    assert answered(record) == [4.75, 1.25, 1.75, 2.75]
    assert host(record)["preempted"] == 3


def test_on_a_fair_queue_nobody_saves_up_time_in_which_it_had_no_work():
    # The application sleeps from 0.75 to 9; alone as it went, it is owed nothing: the query reaches its deadline first.
    network = one_machine("fair", (serve("app", 0.75),), (serve("database", 2.0),))
    assert answered(run(network, [(0, "ask"), (8.5, "ask1"), (9, "ask")])) == [0.75, 11.25, 10.25]


def test_on_a_fair_queue_who_has_had_more_lingers_until_it_has_not():
    # 2-3 query, 3-3.75 page: it has had 1.25, the query 1. Asked again at 4, it waits for the query's deadline at 4.75.
    network = one_machine("fair", (serve("app", 0.75),), (serve("database", 3.0),))
    arrivals = [(0, "ask"), (2, "ask1"), (2.5, "ask")]
    assert answered(run(network, [*arrivals, (4, "ask")])) == [0.75, 6.5, 3.75, 5.5]
    # Asked at 5, the query has had 2.25, and so has whoever comes now; its new deadline is beyond its end at 5.75
    assert answered(run(network, [*arrivals, (5, "ask")])) == [0.75, 5.75, 3.75, 6.5]


def test_a_deadline_is_noticed_at_a_tick_or_as_another_wakes():
    network = one_machine("fair", (serve("app", 4.0),), (serve("database"),), slice_s=0.5, tick_s=2.0)
    assert answered(run(network, [(0, "ask"), (0.25, "ask1")])) == [5, 3]
    # at 1.5 the second query's waking ends the slice that was over at 0.5: the first runs, by 3 it has had more than the second
    assert answered(run(network, [(0, "ask"), (0.25, "ask1"), (1.5, "ask1")])) == [6, 2.5, 3.5]


# ---- several cores, speed


@pytest.mark.parametrize("discipline", HOST_DISCIPLINES)
def test_nobody_waits_while_there_are_as_many_cores_as_processes(discipline):
    record = run(one_machine(discipline, (serve("app"),), (serve("database", 3.0),), cores=3), [(0, "ask1"), (0, "ask1"), (1, "ask")])
    assert answered(record) == [3, 3, 2]
    assert host(record)["busy_area"] == 7


def test_three_processes_on_two_cores():
    network = one_machine("processor_sharing", (serve("app", 2.0),), (serve("database", 2.0),), cores=2)
    assert answered(run(network, [(0, "ask"), (0, "ask1"), (0, "ask1")])) == [3, 3, 3]
    network = one_machine("fifo", (serve("app", 2.0),), (serve("database", 2.0),), cores=2)
    assert answered(run(network, [(0, "ask"), (0, "ask1"), (0, "ask1")])) == [2, 2, 4]
    network = one_machine("fair", (serve("app", 2.0),), (serve("database", 2.0),), cores=2, slice_s=0.75)
    # to 0.75 the application and A; to 1.5 it and B, to 2.25 A and B, then the application and A have 0.5 left; B to 3.25
    assert answered(run(network, [(0, "ask"), (0, "ask1"), (0, "ask1")])) == [2.75, 2.75, 3.25]
    network = one_machine("wake_preemption", (serve("app", 2.0),), (serve("database", 2.0),), cores=2)
    assert answered(run(network, [(0, "ask"), (0.5, "ask1"), (1, "ask1")])) == [3.5, 2.5, 3]  # the application is pushed out, 1 to 2.5


@pytest.mark.parametrize("discipline", HOST_DISCIPLINES)
def test_a_host_twice_as_fast_needs_half_the_time(discipline):
    assert answered(run(one_machine(discipline, PAGE, speed=2.0), asks(0))) == [1.5]


# ---- what makes the work longer


def test_work_grows_with_the_process_s_idle_time():
    app = Station("app", cold=((1.0, 1.0), (3.0, 2.0)))
    record = run(Network((Operation("ask", (serve("app"),)),), (app,)), asks(0, 2, 2.5, 6, 14))
    # never ran: 2 s; at once: 1 s; queued behind it, no idle time: 1 s; after 2 s: 1.5 s; after 6.5 s: 2 s
    assert answered(record) == [2, 3, 4, 7.5, 16]


@pytest.mark.parametrize("discipline", ["fifo", "fair"])
def test_a_process_cools_while_it_waits_for_the_core_and_others_run(discipline):
    app, other = Station("app", host="machine", cold=((1.0, 1.0), (3.0, 2.0))), Station("other", host="machine")
    network = one_machine(discipline, (serve("app"),), (serve("other", 4.0),), stations=(app, other), slice_s=10.0)
    record = run(network, [(0, "ask"), (2, "ask1"), (3, "ask")])
    # never ran: 2 s; the other has the core until 6; after 4 s without it, 2 s
    assert answered(record) == [2, 6, 8]
    assert station(record, "app")["cpu_s"] == 2 + 2


def test_a_process_that_waited_for_the_core_in_vain_is_as_cold_as_before():
    app, other = Station("app", host="machine", cold=((1.0, 1.0), (3.0, 2.0))), Station("other", host="machine")
    steps = (Try((serve("app"),), timeout_s=5.0),)
    network = one_machine("fifo", steps, (serve("other", 8.0),), stations=(app, other))
    record = run(network, [(0, "ask"), (2, "ask1"), (4, "ask"), (9.5, "ask")])
    # never ran: 2 s; the other has the core from 2 to 10; the second gives up at 9; the third has it at 10, 8 s after the first
    assert answers(record) == [(0, 2, "ok"), (2, 10, "ok"), (4, 9, "timed_out"), (9.5, 12, "ok")]


def test_each_process_has_a_memory_of_its_own_and_the_warmest_is_taken():
    app = Station("app", 2, cold=((0.0, 1.0), (4.0, 5.0)))
    record = run(Network((Operation("ask", (serve("app"),)),), (app,)), asks(0, 1, 7, 7))
    # two cold starts, done at 5 and 6; after 1 s of idling 2 s of work, after 2 s 3 s
    assert answered(record) == [5, 6, 9, 10]
    assert station(record, "app")["cpu_s"] == 5 + 5 + 2 + 3


def test_a_burst_s_end_lets_others_have_the_core():
    """Without bursts the second would wait for all ten seconds; with them, a run queue takes them in turn."""
    worker, api = Station("worker", cpu_burst_s=2.0, host="machine"), Station("api", host="machine")
    lasts = (serve("worker", 10.0),), (serve("api", 1.0),)
    whole = one_machine("fifo", *lasts, stations=(replace(worker, cpu_burst_s=0.0), api))
    assert answered(run(whole, [(0, "ask"), (0.5, "ask1")])) == [10, 11]
    parts = run(one_machine("fifo", *lasts, stations=(worker, api)), [(0, "ask"), (0.5, "ask1")])
    assert answered(parts) == [11, 3]
    assert parts.hosts[0]["woken"] == 6  # five bursts and the other
    assert station(parts, "worker")["cpu_s"] == 10


def test_waking_costs_something_and_going_on_does_not():
    app = Station("app", wake_s=0.5, host="machine")
    record = run(one_machine("fifo", (serve("app"),), stations=(app,)), asks(0, 0, 0, 10))
    assert answered(record) == [1.5, 2.5, 3.5, 11.5]


def test_every_so_many_pieces_of_work_garbage_is_collected():
    app = Station("app", gc_every=2, gc_pause_s=10.0)
    record = run(Network((Operation("ask", (serve("app"),)),), (app,)), asks(0, 0, 0, 100))
    assert answered(record) == [1, 12, 13, 111]


def test_a_collection_of_one_process_slows_the_others_on_its_core():
    app = Station("app", host="machine", gc_every=1, gc_pause_s=2.0)
    stations = (app, Station("database", 2, host="machine"))
    network = one_machine("processor_sharing", (serve("app"),), (serve("database"),), stations=stations)
    assert answered(run(network, [(0, "ask"), (0, "ask1")])) == [4, 2]


# ---- held servers


def pool_of(size, *inner, after=(), **settings):
    """One operation that holds a connection while its steps run; the work has no host."""
    steps = (Hold("pool", inner), *after)
    return Network((Operation("ask", steps),), (Station("pool", size, **settings), Station("app", 9), Station("database", 9)))


def test_a_server_is_held_while_other_steps_run():
    record = run(pool_of(1, serve("database"), serve("app"), after=(serve("app"),)), asks(0, 0.5, 9))
    assert answers(record) == [(0, 3, "ok"), (0.5, 5, "ok"), (9, 12, "ok")]
    counts = station(record, "pool")
    assert (counts["arrived"], counts["completed"], counts["waited"], counts["present_end"]) == (3, 3, 1, 0)
    assert (counts["wait_s"], counts["busy_area"], counts["sojourn_s"]) == (1.5, 6, 7.5)


def test_as_many_hold_as_there_are_servers():
    assert answered(run(pool_of(2, serve("database")), asks(0, 0, 0))) == [1, 1, 2]


def test_a_query_runs_on_the_connection_that_is_held():
    network = pool_of(1, serve("pool"), serve("app"), serve("pool"))
    record = run(network, asks(0, 0))
    assert answered(record) == [3, 6]
    assert station(record, "pool")["busy_area"] == 6


def test_a_connection_s_backend_shares_the_core_and_cools_while_it_waits_for_its_client():
    backends = Station("database", 1, host="machine", cold=((0.5, 1.0), (1.5, 3.0)))
    steps = (Hold("database", (serve("database"), serve("app"), serve("database"))),)
    network = one_machine("processor_sharing", steps, stations=(Station("app", host="machine"), backends))
    # 3 s cold, 1 s of the application, then after 1 s of idling twice the work
    assert answered(run(network, asks(0))) == [6]


def test_whose_deadline_passes_gives_back_what_it_holds_and_its_work_leaves_the_core():
    attempt = Try((Hold("pool", (serve("database", 5.0), serve("app"))),), timeout_s=2.0)
    network = one_machine("processor_sharing", (attempt,), (Hold("pool", (serve("app"),)),))
    record = run(network, [(0, "ask"), (1, "ask1")])
    assert answers(record) == [(0, 2, "timed_out"), (1, 3, "ok")]
    assert (station(record, "pool")["completed"], station(record, "pool")["withdrawn"]) == (1, 1)
    assert station(record, "database")["withdrawn"] == 1
    assert host(record)["busy_area"] == 3


def test_a_deadline_takes_back_the_work_on_a_held_server_alone():
    steps = (Hold("pool", (Try((serve("pool", 5.0),), timeout_s=1.0, attempts=2), serve("app"))),)
    network = Network((Operation("ask", steps),), (Station("pool"), Station("app")))
    record = run(network, asks(0, 0))
    assert answers(record) == [(0, 2, "timed_out"), (0, 4, "timed_out")]


def test_a_retry_waits_for_a_connection_anew():
    steps = (Try((Hold("pool", (serve("database", 2.0),)),), timeout_s=3.0, attempts=2),)
    record = run(Network((Operation("ask", steps),), (Station("pool"), Station("database", 9))), asks(0, 0))
    assert answers(record) == [(0, 2, "ok"), (0, 5, "ok")]


def test_who_waits_for_a_server_is_rejected_when_the_waiting_room_is_full():
    record = run(pool_of(1, serve("database", 5.0), queue_limit=1), asks(0, 1, 2))
    assert outcomes(record) == ["ok", "ok", "rejected"]


def test_holds_within_holds_and_children_that_hold_nothing():
    inner = (Scatter((serve("pool"),), count=2), Hold("gate", (serve("pool"),)))
    stations = (Station("pool", 2), Station("gate"))
    record = run(Network((Operation("ask", (Hold("pool", inner),)),), stations), asks(0, 10))
    assert answered(record) == [3, 13]  # the children take turns at the other server


def test_held_by_priority():
    steps = (Hold("pool", (serve("database", 2.0),)),)
    operations = (Operation("bulk", steps, priority=9), Operation("alert", steps, priority=1))
    network = Network(operations, (Station("pool", 1, "priority"), Station("database", 9)))
    assert answered(run(network, [(0, "bulk"), (0.5, "bulk"), (1, "alert")])) == [2, 6, 4]


# ---- batch workers, control


def test_batch_workers_are_processes_of_the_host_too():
    steps = (Serve("worker", constant(1.0), per={"events": 0.5}), serve("database"), Mark("applied"))
    log = Topic("log", steps, poll_max=2, poll_wait_s=1.0)
    stations = (Station("app", host="machine"), Station("worker", host="machine"), Station("database", host="machine"))
    network = Network(
        (Operation("put", (Publish("log"), Respond())), Operation("ask", (serve("app", 4.0),))), stations, (log,),
        hosts=(Host("machine"),),
    )  # fmt: skip
    record = run(network, [(0, "put"), (0, "put"), (0, "ask")])
    # both 2 s of the batch and the first 2 s of the page take 4 s, then the query 1 s and another second of the page
    assert marks(record) == [(6, "applied", 0), (6, "applied", 1)]
    assert answered(record) == [0, 0, 7]


def test_a_member_that_dies_gives_back_what_it_holds_and_its_work_leaves_the_core():
    log = Topic("log", (Hold("pool", (serve("database", 4.0),)), Mark("applied")), consumers=2, partitions=2, session_timeout_s=1.0)
    network = Network(
        (Operation("put", (Publish("log", "key"), Respond())), Operation("ask", (Hold("pool", (serve("app"),)),))),
        (Station("app", host="machine"), Station("database", host="machine"), Station("pool")),
        (log,),
        attributes=("key",),
        hosts=(Host("machine", 1, "fifo"),),
    )
    control = at((2.0, "crash", 0, 0), (2.0, "crash", 0, 1), (9.0, "restore", 0, 0))
    record = run(network, [(0, "put", {"key": 0}), (1, "ask")], control=control)
    assert answered(record) == [0, 3]
    assert marks(record) == [(13, "applied", 0)]
    assert topic(record, "log")["redelivered"] == 1
    assert host(record)["busy_area"] == 2 + 1 + 4


def test_more_servers_are_more_processes():
    network = one_machine("fifo", (serve("database", 2.0),), cores=4)
    record = run(network, asks(0, 0, 0, 0), control=at((1.0, "set_servers", 1, 3), (2.5, "set_servers", 1, 1)))
    assert answered(record) == [2, 2, 3, 4]


def test_the_warm_up_is_left_out():
    record = run(one_machine("processor_sharing", (serve("app", 4.0),), (serve("database", 4.0),)), [(0, "ask"), (0, "ask1")], warmup_s=2.0)
    assert answered(record) == [8, 8]
    assert host(record) == {"cores": 1, "woken": 0, "preempted": 0, "busy_area": 6, "queue_area": 6}


# ---- what can't be


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: Network((), hosts=(Host("m", 0),)), "host m: cores must be 1 or more, not 0"),
        (lambda: Network((), hosts=(Host("m", speed=0.0),)), "host m: speed must be more than 0, not 0"),
        (lambda: Network((), hosts=(Host("m", discipline="lifo"),)), "host m: no discipline 'lifo'"),
        (lambda: Network((), hosts=(Host("m"), Host("m"))), "hosts: m declared twice"),
        (lambda: Network((), (Station("s", host="n"),), hosts=(Host("m"),)), "station s: no host 'n'"),
        (lambda: Network((), (Station("s", cpu_burst_s=1.0),)), "station s: cpu_burst_s belongs to a host"),
        (lambda: Network((), (Station("s", 1, "processor_sharing", host="m"),), hosts=(Host("m"),)), "station s: processes take one"),
        (lambda: Network((), (Station("s", gc_every=5),)), "station s: gc_every and gc_pause belong together"),
        (lambda: Network((), (Station("s", wake_s=-1.0),)), "station s: wake_s must be 0 or more, not -1"),
        (lambda: Network((), (Station("s", cold=((1.0, 2.0), (1.0, 3.0))),)), "station s: idle times of cold must be 0 or more and rise"),
        (lambda: Network((), (Station("s", cold=((1.0, 0.0),)),)), "station s: a factor of cold must be more than 0"),
        (lambda: pool_of(1, Hold("pool", ())), "operation ask, step 1 (held), step 1: a server of pool is held already"),
        (lambda: pool_of(1, discipline="processor_sharing"), "operation ask, step 1: a server of pool is shared, it can't be held"),
        (lambda: Network((Operation("ask", (Hold("nobody", ()),)),), (Station("s"),)), "no station 'nobody'"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_refused_in_one_line(build, problem):
    with pytest.raises(ValueError) as refused:
        build()
    assert problem in str(refused.value)
