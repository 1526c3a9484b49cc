"""What goes wrong inside: failing steps, refused tokens, slow and dying servers. Exact clocks on both engines."""

import pytest

from model.distributions import constant
from model.network import Acquire, Delay, Fail, Network, Operation, Quota, Respond, Scatter, Serve, Station, Try
from tests.model.runs import answers, at, marks, probe, run

pytestmark = pytest.mark.usefixtures("engine")


def asks(*instants):
    return [(instant, "ask") for instant in instants]


def desk(discipline="fifo", servers=1, around=lambda serve: serve):
    serve = around(Serve("desk", constant(2.0)))
    return Network((Operation("ask", (serve,)),), (Station("desk", servers, discipline),))


# ---- fail
def test_a_failed_part_is_sent_again_alone():
    part = Try((probe("sent"), Delay(constant(1.0)), Fail("loss")), attempts=3, backoff=constant(0.5))
    network = Network((Operation("ask", (Scatter((part,), 4), Respond())),), attributes=("loss",))
    record = run(network, [(0, "ask", {"loss": 0.0}), (10, "ask", {"loss": 1.0})])
    assert answers(record) == [(0, 1, "ok"), (10, 14, "ok")]  # a failed child has ended too
    assert [instant for instant, _, _ in marks(record)] == [0] * 4 + [10] * 4 + [11.5] * 4 + [13] * 4
    assert record.failed_attempts.tolist() == [0, 12]


def test_parts_fail_independently_and_each_attempt_draws_anew():
    part = Try((probe("sent"), Fail(0.25)), attempts=20)
    record = run(Network((Operation("ask", (Scatter((part,), 3000),)),)), asks(0))
    assert len(marks(record)) == pytest.approx(3000 / 0.75, rel=0.02)


def test_without_a_try_the_request_has_failed():
    record = run(Network((Operation("ask", (Delay(constant(1.0)), Fail())),)), asks(0))
    assert answers(record) == [(0, 1, "rejected")]


# ---- quota
def test_who_does_not_wait_for_a_token_is_refused_and_takes_none():
    quotas = (Quota("push", rate_per_s=1.0, burst=2.0),)
    refused = Acquire("push", wait=False, otherwise=(Delay(constant(0.25)), probe("429")))
    record = run(Network((Operation("ask", (refused, Respond())),), quotas=quotas), asks(0, 0, 0, 0.5, 1, 1))
    assert answers(record) == [
        (0, 0, "ok"), (0, 0, "ok"), (0, 0.25, "rejected"), (0.5, 0.75, "rejected"), (1, 1, "ok"), (1, 1.25, "rejected"),
    ]  # fmt: skip
    again = Try((refused,), attempts=9, backoff=constant(0.5))
    record = run(Network((Operation("ask", (again, Respond())),), quotas=quotas), asks(0, 0, 0))
    assert answers(record)[2] == (0, 1.5, "ok")  # refused at 0 and 0.75
    with pytest.raises(ValueError, match="never refused"):
        Network((Operation("ask", (Acquire("push", otherwise=(Respond(),)),)),), quotas=quotas)


# ---- slow servers
def test_a_slow_server_is_slow_for_what_begins_and_ends_what_it_has():
    slow = at((1.0, "set_speed", 0, 0.5), (7.0, "set_speed", 0, 1.0))
    record = run(desk(), asks(0, 0, 0, 0), control=slow)
    assert [answered for _, answered, _ in answers(record)] == [2, 6, 10, 12]


def test_a_slow_server_that_is_shared_is_slow_for_all_that_is_left():
    slow = at((1.0, "set_speed", 0, 0.5), (3.0, "set_speed", 0, 2.0))
    record = run(desk("processor_sharing"), asks(0, 3.0), control=slow)
    assert [answered for _, answered, _ in answers(record)] == [3.0, 4.0]


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan")])
def test_a_speed_is_above_0(factor):
    with pytest.raises(ValueError, match="a speed must be above 0"):
        run(desk(), asks(0), control=at((1.0, "set_speed", 0, factor)))


# ---- dying servers
def test_servers_that_die_lose_what_began_last():
    record = run(desk(servers=3), asks(0, 0.5, 1, 1.25), control=at((1.5, "set_servers", 0, 1, True)))
    # The third and the second are lost; the first ends at 2, then the fourth is served.
    assert answers(record) == [(0, 2, "ok"), (0.5, 1.5, "rejected"), (1, 1.5, "rejected"), (1.25, 4, "ok")]
    assert record.stations["withdrawn"].tolist() == [2]
    record = run(desk(servers=3), asks(0, 0.5, 1, 1.25), control=at((1.5, "set_servers", 0, 1, False)))
    assert [answered for _, answered, _ in answers(record)] == [2, 2.5, 3, 5]


def test_lost_work_is_tried_again():
    network = desk(around=lambda serve: Try((serve,), attempts=2, backoff=constant(1.0)))
    dead = at((1.0, "set_servers", 0, 0, True), (1.5, "set_servers", 0, 1))
    assert answers(run(network, asks(0), control=dead)) == [(0, 4, "ok")]


def test_of_those_who_share_the_last_to_come_are_lost():
    record = run(desk("processor_sharing", 4), asks(0, 0, 0), control=at((1.0, "set_servers", 0, 1, True)))
    assert answers(record) == [(0, 2, "ok"), (0, 1, "rejected"), (0, 1, "rejected")]
