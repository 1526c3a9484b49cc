"""Stations with exact clocks: constant service times, instants worked out by hand."""

import pytest

from model.distributions import constant
from model.network import Network, Operation, Respond, Serve, Station, Try
from tests.model.runs import answered, answers, at, marks, outcomes, probe, run, station

pytestmark = pytest.mark.usefixtures("engine")


def serve(service_s, **settings):
    """One operation that is served once."""
    steps = (Serve("desk", constant(service_s)),)
    return Network((Operation("ask", steps),), (Station("desk", **settings),))


def asks(*instants):
    return [(instant, "ask") for instant in instants]


# ---- first come, first served


def test_fifo_serves_in_order_of_arrival():
    record = run(serve(2.0), asks(0, 1, 1.5, 10))
    assert answers(record) == [(0, 2, "ok"), (1, 4, "ok"), (1.5, 6, "ok"), (10, 12, "ok")]
    counts = station(record, "desk")
    assert (counts["arrived"], counts["completed"], counts["waits"], counts["waited"]) == (4, 4, 4, 2)
    assert counts["wait_s"] == (2 - 1) + (4 - 1.5)
    assert counts["busy_area"] == 8
    assert counts["queue_area"] == 1 + 2.5
    assert counts["sojourn_s"] == 8 + 3.5


def test_two_servers_work_side_by_side():
    assert answered(run(serve(2.0, servers=2), asks(0, 0.5, 1, 1))) == [2, 2.5, 4, 4.5]


def test_a_service_grows_with_what_the_request_brings():
    steps = (Serve("desk", constant(1.0), per={"rows": 0.25, "bytes": 0.5}),)
    network = Network((Operation("ask", steps),), (Station("desk"),), attributes=("bytes", "rows"))
    record = run(network, [(0, "ask", {"rows": 4, "bytes": 2}), (10, "ask")])
    assert answered(record) == [1 + 1 + 1, 11]


def test_who_arrives_as_a_server_gets_free_queues_behind_those_who_waited():
    record = run(serve(1.0), asks(0, 0.5, 1))
    assert answered(record) == [1, 2, 3]


def test_a_free_service_takes_no_time_but_its_turn():
    record = run(serve(0.0), asks(0, 0, 1))
    assert answered(record) == [0, 0, 1]
    assert station(record, "desk")["waited"] == 0


# ---- priority


def two_classes(discipline="priority", **settings):
    steps = (Serve("desk", constant(2.0)),)
    operations = (Operation("bulk", steps, priority=9), Operation("alert", steps, priority=1))
    return Network(operations, (Station("desk", discipline=discipline, **settings),))


CALLS = [(0, "bulk"), (0.5, "bulk"), (1, "alert"), (1.5, "alert"), (1.75, "bulk")]


def test_priority_goes_before_those_who_wait_and_never_interrupts():
    assert answered(run(two_classes(), CALLS)) == [2, 8, 4, 6, 10]


def test_without_priority_the_same_calls_keep_their_order():
    assert answered(run(two_classes("fifo"), CALLS)) == [2, 4, 6, 8, 10]


def test_equals_of_a_priority_go_in_order_of_arrival():
    assert answered(run(two_classes(), [(0, "bulk"), *[(0.1 * n, "alert") for n in range(1, 9)]]))[1:] == [
        pytest.approx(2 + 2 * n) for n in range(1, 9)
    ]


@pytest.mark.parametrize(
    ("ageing_s", "answers"),
    [
        (0.0, [2, 8, 4, 6, 10]),  # strict
        (0.75, [2, 6, 4, 8, 10]),  # ranks 1.25, 1, 1.5, 2.5: the first bulk is ahead of the second alert
        (0.25, [2, 4, 6, 8, 10]),  # 0.75, 1, 1.5, 2: as they came
        (9.0, [2, 8, 4, 6, 10]),
    ],
)
def test_ageing_lets_who_has_waited_long_pass(ageing_s, answers):
    assert answered(run(two_classes(ageing_s=ageing_s), CALLS)) == answers


def test_ageing_needs_priorities():
    with pytest.raises(ValueError, match="ageing_s must be 0 or more, and belongs to discipline priority"):
        two_classes("fifo", ageing_s=1.0)


# ---- processor sharing


def test_shared_processor_by_hand():
    # 0..1 one alone does 1 of its 3; 1..3 two share, each does 1; 3..: the first needs 1 more, both halve: done at 5.
    steps = {work: (Serve("desk", constant(float(work))),) for work in (2, 3)}
    operations = tuple(Operation(f"work{work}", route) for work, route in steps.items())
    network = Network(operations, (Station("desk", discipline="processor_sharing"),))
    record = run(network, [(0, "work3"), (1, "work2")])
    assert answered(record) == [5, 5]
    record = run(network, [(0, "work3"), (2, "work2")])  # 2..4 each does 1: the first is done; then 1 alone
    assert answered(record) == [4, 5]
    counts = station(record, "desk")
    assert (counts["busy_area"], counts["queue_area"]) == (5, 2)
    assert counts["wait_s"] == (4 - 3) + (3 - 2)


def test_sharing_among_two_servers_slows_only_the_third():
    network = serve(3.0, servers=2, discipline="processor_sharing")
    # 0..1 alone, 1..2 two at full speed, 2.. three at 2/3: the first has 1 left (1.5 s), then two at full speed again.
    assert answered(run(network, asks(0, 1, 2))) == [3.5, 4.5, 5.5]


def test_the_room_of_a_shared_processor_is_bounded():
    record = run(serve(4.0, discipline="processor_sharing", queue_limit=1), asks(0, 1, 2, 20))
    assert outcomes(record) == ["ok", "ok", "rejected", "ok"]
    assert answered(record) == [7, 8, 2, 24]
    assert station(record, "desk")["rejected"] == 1


# ---- the waiting room


def test_who_finds_the_waiting_room_full_is_rejected_at_once():
    record = run(serve(2.0, queue_limit=1), asks(0, 0.5, 1, 2, 2.5))
    assert answers(record) == [(0, 2, "ok"), (0.5, 4, "ok"), (1, 1, "rejected"), (2, 6, "ok"), (2.5, 2.5, "rejected")]
    assert station(record, "desk")["rejected"] == 2


def test_no_waiting_room_at_all():
    assert outcomes(run(serve(2.0, servers=2, queue_limit=0), asks(0, 1, 1.5, 2))) == ["ok", "ok", "rejected", "ok"]


# ---- capacity


def test_more_servers_take_the_waiting_at_once_and_fewer_let_the_served_finish():
    control = at((1.0, "set_servers", 0, 3), (3.5, "set_servers", 0, 1))
    record = run(serve(2.0), asks(0, 0, 0, 0, 0), control=control)
    # 0: one; 1: two more; at 2 the fourth, at 3 the fifth; both in service beyond what is left at 3.5 and finish.
    assert answered(record) == [2, 3, 3, 4, 5]
    counts = station(record, "desk")
    assert counts["servers"] == 1
    assert counts["capacity_area"] == 1 * 1 + 3 * 2.5 + 1 * (1000 - 3.5)


def test_a_station_without_servers_waits_for_them():
    control = at((0.5, "set_servers", 0, 0), (5.0, "set_servers", 0, 1))
    assert answered(run(serve(1.0), asks(0, 0.75), control=control)) == [1, 6]
    sharing = serve(1.0, discipline="processor_sharing")
    assert answered(run(sharing, asks(0, 0.75), control=control)) == [6, 6.5]  # stands still with 0.5 and 1 to do


def test_capacity_changes_come_before_traffic_of_the_same_instant():
    control = at((1.0, "set_servers", 0, 0), (2.0, "set_servers", 0, 1))
    assert answered(run(serve(1.0), asks(1), control=control)) == [3]


# ---- giving up


def impatient(patience_s, **settings):
    steps = (Try((Serve("desk", constant(2.0)),), timeout_s=patience_s),)
    return Network((Operation("ask", steps),), (Station("desk", **settings),))


def test_who_gives_up_in_the_queue_leaves_it():
    record = run(impatient(2.5), asks(0, 1, 1.25))
    assert answers(record) == [(0, 2, "ok"), (1, 3.5, "timed_out"), (1.25, 3.75, "timed_out")]
    counts = station(record, "desk")
    assert (counts["arrived"], counts["completed"], counts["withdrawn"], counts["present_end"]) == (3, 1, 2, 0)
    # The second was in service from 2 to 3.5; the third from 3.5 on, for a quarter of a second.
    assert counts["busy_area"] == 2 + 1.5 + 0.25


def test_who_gives_up_waiting_is_passed_over():
    hasty = (Try((Serve("desk", constant(1.0)),), timeout_s=2.0),)
    operations = (Operation("patient", (Serve("desk", constant(10.0)),)), Operation("hasty", hasty))
    network = Network(operations, (Station("desk", queue_limit=1),))
    record = run(network, [(0, "patient"), (1, "hasty"), (2, "hasty"), (9, "hasty"), (9.5, "hasty")])
    assert answers(record)[1:] == [
        (1, 3, "timed_out"),  # in the queue
        (2, 2, "rejected"),  # whom it kept out
        (9, 11, "timed_out"),  # in service, at the instant at which it would have ended
        (9.5, 9.5, "rejected"),
    ]
    counts = station(record, "desk")
    assert (counts["waits"], counts["completed"], counts["withdrawn"], counts["rejected"]) == (2, 1, 2, 2)


def test_a_deadline_comes_before_an_end_of_service_at_the_same_instant():
    assert outcomes(run(impatient(2.0), asks(0))) == ["timed_out"]
    assert outcomes(run(impatient(2.25), asks(0))) == ["ok"]


def test_who_gives_up_a_shared_processor_leaves_more_for_the_others():
    slow = (Try((Serve("desk", constant(100.0)),), timeout_s=2.0),)
    fast = (Serve("desk", constant(2.0)),)
    network = Network(
        (Operation("slow", slow), Operation("fast", fast)), (Station("desk", discipline="processor_sharing"),)
    )
    record = run(network, [(0, "slow"), (0, "fast")])
    assert answers(record) == [(0, 2, "timed_out"), (0, 3, "ok")]
    assert station(record, "desk")["withdrawn"] == 1


@pytest.mark.parametrize("discipline", ["fifo", "priority", "processor_sharing"])
def test_a_long_queue_of_deserters_keeps_its_count(discipline):
    record = run(impatient(1.0, discipline=discipline), asks(*[n / 1024 for n in range(500)]), until_s=20)
    counts = station(record, "desk")
    assert outcomes(record) == ["timed_out"] * 500
    assert (counts["withdrawn"], counts["present_end"]) == (500, 0)


# ---- the window


def test_the_warm_up_is_left_out_of_the_counters():
    record = run(serve(2.0), asks(0, 0.5, 5), warmup_s=1.0, until_s=6.0)
    counts = station(record, "desk")
    assert (counts["present_start"], counts["arrived"], counts["completed"], counts["present_end"]) == (2, 1, 2, 1)
    assert counts["busy_area"] == 3 + 1
    assert counts["queue_area"] == 1
    assert counts["sojourn_s"] == 1 + 3 + 1
    assert counts["wait_s"] == 1.5  # a wait counts whole where service begins


# ---- several stations


def test_a_route_visits_its_stations_in_turn():
    steps = (
        Serve("front", constant(1.0)),
        probe("passed"),
        Respond(),
        Serve("back", constant(3.0)),
        probe("done"),
    )
    network = Network((Operation("ask", steps),), (Station("front"), Station("back")))
    record = run(network, asks(0, 0))
    assert answered(record) == [1, 2]
    assert marks(record) == [(1, "passed", 0), (2, "passed", 1), (4, "done", 0), (7, "done", 1)]
    assert record.finished_s.tolist() == [4, 7]
