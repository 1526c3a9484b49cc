"""Every step that is no station and no topic, with exact clocks; and what comes first at one instant."""

import pytest

from model.distributions import constant, uniform
from model.network import (
    Acquire,
    Arm,
    Branch,
    Cache,
    Delay,
    Lookup,
    Milestone,
    Network,
    Operation,
    Publish,
    Quota,
    Respond,
    Scatter,
    Serve,
    Station,
    Topic,
    Try,
)
from tests.model.runs import Log, answered, answers, at, marks, outcomes, probe, run, station

pytestmark = pytest.mark.usefixtures("engine")


def one(*steps, **declared):
    """A network of one operation."""
    return Network((Operation("ask", steps),), **declared)


def asks(*instants):
    return [(instant, "ask") for instant in instants]


# ---- delay, respond, mark


def test_a_delay_has_no_contention_and_grows_with_attributes():
    network = one(Delay(constant(1.0), per={"hops": 0.5}), attributes=("hops",))
    assert answered(run(network, [(0, "ask"), (0, "ask", {"hops": 3})])) == [1, 2.5]


def test_an_operation_without_steps_is_answered_at_once():
    assert answers(run(one(), asks(3))) == [(3, 3, "ok")]


def test_what_follows_the_answer_is_asynchronous_and_the_first_answer_counts():
    log = Log()
    record = run(
        one(Delay(constant(1.0)), Respond(), Delay(constant(2.0)), probe("shipped"), Respond()), asks(0), observer=log
    )
    assert answered(record) == [1]
    assert record.finished_s.tolist() == [3]
    assert log.lines == [(1, "responded", 0, "ok"), (3, "shipped", 0, 0, 1.0)]


def test_a_request_under_way_at_the_end_has_no_outcome_yet():
    record = run(one(Delay(constant(5.0)), Respond(), Delay(constant(5.0))), asks(0, 7), until_s=8)
    assert answers(record) == [(0, 5, "ok"), (7, -1, "under_way")]
    assert record.finished_s.tolist() == pytest.approx([float("nan")] * 2, nan_ok=True)


# ---- branch


def test_a_branch_of_one_or_none():
    for probability, instant in [(1.0, 3), (0.0, 1)]:
        arms = (Arm(probability, (Delay(constant(2.0)),)),)
        assert answered(run(one(Branch(arms), Delay(constant(1.0))), asks(0))) == [instant]


def test_a_branch_takes_the_arm_that_an_attribute_names():
    arms = (Arm("heavy", (Delay(constant(4.0)),)), Arm("light", (Delay(constant(2.0)),)))
    network = one(Branch(arms), Delay(constant(1.0)), attributes=("light", "heavy"))
    schedule = [(0, "ask", {"light": 1}), (0, "ask", {"heavy": 1}), (0, "ask"), (0, "ask", {"light": 1, "heavy": 1})]
    assert answered(run(network, schedule)) == [3, 5, 1, 5]


def test_arms_share_one_draw_so_that_their_shares_add_up():
    arms = tuple(Arm(0.25, (Delay(constant(float(number))),)) for number in (1, 2, 4))
    record = run(one(Branch(arms)), asks(*[0] * 4000))
    counts = [answered(record).count(instant) for instant in (1, 2, 4, 0)]
    assert sum(counts) == 4000
    assert all(880 < count < 1120 for count in counts)  # 1000 ± 4.4 standard deviations


# ---- cache


def test_an_entry_lives_for_its_ttl_from_the_miss_that_filled_it():
    steps = (
        Lookup("pages", "page", miss=(probe("miss"), Delay(constant(0.5))), hit=(probe("hit"),)),
        Delay(constant(1.0)),
    )
    network = one(*steps, caches=(Cache("pages", ttl_s=10.0),), attributes=("page",))
    schedule = [
        (instant, "ask", {"page": page}) for instant, page in [(0, 1), (0.25, 1), (4, 2), (9.5, 1), (10, 1), (19, 1)]
    ]
    record = run(network, schedule)
    assert marks(record) == [
        (0, "miss", 0),
        (
            0.25,
            "hit",
            1,
        ),  # whoever comes during a fetch finds the entry: concurrent misses are coalesced, without waiting
        (4, "miss", 2),
        (9.5, "hit", 3),  # which renews nothing
        (10, "miss", 4),
        (19, "hit", 5),
    ]
    assert answered(record) == [1.5, 1.25, 5.5, 10.5, 11.5, 20]


# ---- scatter


def test_children_with_join_are_waited_for():
    steps = (Scatter((Serve("shard", constant(1.0)), probe("read")), count=3), Delay(constant(0.5)))
    record = run(one(*steps, stations=(Station("shard", servers=2),)), asks(0))
    assert marks(record) == [(1, "read", 0), (1, "read", 0), (2, "read", 0)]
    assert record.marks["ordinal"].tolist() == [1, 2, 3]
    assert answered(record) == [2.5]


def test_children_without_join_go_their_own_way():
    steps = (
        Scatter((Serve("shard", constant(1.0)), probe("written")), count="followers", join=False),
        Delay(constant(0.5)),
    )
    record = run(one(*steps, stations=(Station("shard"),), attributes=("followers",)), [(0, "ask", {"followers": 3})])
    assert answered(record) == [0.5]
    assert [instant for instant, _, _ in marks(record)] == [1, 2, 3]


@pytest.mark.parametrize("join", [True, False])
def test_no_children_no_wait(join):
    network = one(Scatter((Delay(constant(9.0)),), count="n", join=join), Delay(constant(1.0)), attributes=("n",))
    assert answered(run(network, asks(0))) == [1]


def test_children_of_children_are_joined_level_by_level():
    inner = Scatter((Serve("shard", constant(1.0)),), count=2)
    network = one(Scatter((inner, Delay(constant(1.0))), count=2), stations=(Station("shard", servers=3),))
    assert answered(run(network, asks(0))) == [3]  # four services on three servers: 1, 1, 1, 2; then 1


def test_children_draw_numbers_of_their_own():
    record = run(one(Scatter((Delay(uniform(0.0, 1.0)), probe("done")), count=50)), asks(0, 0))
    assert len({instant for instant, _, _ in marks(record)}) == 100


def test_a_rejected_child_ends_and_its_parent_goes_on():
    steps = (Scatter((Serve("shard", constant(1.0)), probe("read")), count=3),)
    record = run(one(*steps, stations=(Station("shard", queue_limit=0),)), asks(0))
    assert answers(record) == [(0, 1, "ok")]
    assert len(marks(record)) == 1
    assert record.failed_attempts.tolist() == [2]


# ---- quota


def test_a_quota_lets_its_burst_through_and_then_its_rate():
    network = one(Acquire("push"), quotas=(Quota("push", rate_per_s=2.0, burst=3.0),))
    # Three tokens are saved up; then one is due every half second; by 10 all three are there again.
    assert answered(run(network, asks(0, 0, 0, 0, 0.25, 10, 10, 10, 10))) == [0, 0, 0, 0.5, 1, 10, 10, 10, 10.5]


# ---- try


def attempt(*steps, **settings):
    return Try(steps, **settings)


def test_attempts_with_backoff_that_grows():
    network = one(
        attempt(probe("try"), Delay(constant(10.0)), timeout_s=1.0, attempts=4, backoff=constant(0.5), growth=2.0),
    )
    record = run(network, asks(0))
    assert [instant for instant, _, _ in marks(record)] == [
        0,
        1.5,
        3.5,
        6.5,
    ]  # pauses of 0.5, 1, 2 after deadlines of 1
    assert answers(record) == [(0, 7.5, "timed_out")]
    assert record.failed_attempts.tolist() == [4]


def test_a_rejection_is_tried_again_and_may_succeed():
    steps = (attempt(Serve("desk", constant(2.0)), attempts=3, backoff=constant(1.0)),)
    record = run(one(*steps, stations=(Station("desk", queue_limit=0),)), asks(0, 0.5, 0.75))
    # 0.5 → 1.5 → 2.5: free since 2. 0.75 → 1.75 → 2.75: taken by the other; given up.
    assert answers(record) == [(0, 2, "ok"), (0.5, 4.5, "ok"), (0.75, 2.75, "rejected")]
    assert record.failed_attempts.tolist() == [0, 2, 3]


def test_the_other_way_when_all_attempts_failed():
    fallback = (Delay(constant(0.25)), probe("stale page"), Respond())
    network = one(attempt(Delay(constant(5.0)), timeout_s=1.0, attempts=2, otherwise=fallback))
    record = run(network, asks(0))
    assert answers(record) == [(0, 2.25, "ok")]  # it answered itself: no failure for the client
    silent = one(attempt(Delay(constant(5.0)), timeout_s=1.0, otherwise=(Delay(constant(0.25)), probe("logged"))))
    record = run(silent, asks(0))
    assert answers(record) == [(0, 1.25, "timed_out")]
    assert marks(record) == [(1.25, "logged", 0)]


def test_a_deadline_ends_with_the_steps_it_surrounds():
    network = one(attempt(Delay(constant(1.0)), timeout_s=1.5), Delay(constant(10.0)))
    assert answers(run(network, asks(0))) == [(0, 11, "ok")]


def test_each_attempt_draws_anew_and_a_second_try_starts_from_its_first():
    first = attempt(Delay(constant(0.5)), attempts=2)
    second = attempt(probe("try"), Delay(uniform(0.0, 2.0)), timeout_s=1.0, attempts=20)
    record = run(one(first, second), asks(*[10 * n for n in range(100)]), until_s=2000)
    tries = record.failed_attempts + 1
    assert 150 < tries.sum() < 260  # each succeeds with probability 1/2
    assert outcomes(record) == ["ok"] * 100


def test_a_deadline_gives_up_children_who_go_on():
    children = Scatter((Serve("shard", constant(2.0)), probe("read")), count=2)
    network = one(attempt(children, timeout_s=1.0, otherwise=(Respond(),)), stations=(Station("shard", servers=2),))
    record = run(network, asks(0))
    assert answers(record) == [(0, 1, "ok")]
    assert marks(record) == [(2, "read", 0), (2, "read", 0)]


def test_a_token_waited_for_in_vain_is_spent_all_the_same():
    network = one(attempt(Acquire("push"), timeout_s=0.5), quotas=(Quota("push", rate_per_s=1.0),))
    assert answers(run(network, asks(0, 0, 0.75, 2.75))) == [
        (0, 0, "ok"),
        (0, 0.5, "timed_out"),
        (0.75, 1.25, "timed_out"),
        (2.75, 3, "ok"),  # two tokens of the three that were due by then went to nobody
    ]


def test_a_failure_after_the_answer_is_not_the_clients():
    network = one(Respond(), attempt(Delay(constant(5.0)), timeout_s=1.0), probe("never"))
    record = run(network, asks(0))
    assert answers(record) == [(0, 0, "ok")]
    assert marks(record) == []
    assert record.finished_s.tolist() == [1]


def test_a_try_of_a_child_fails_the_child_alone():
    child = (attempt(Delay(constant(2.0), per={"n": 1.0}), timeout_s=3.0), probe("done"))
    network = one(Scatter(child, count="n"), attributes=("n",))
    record = run(network, [(0, "ask", {"n": 1}), (0, "ask", {"n": 2})])
    assert answers(record) == [(0, 3, "ok"), (0, 3, "ok")]
    assert marks(record) == []  # both at their deadline: 2 + n >= 3
    assert record.failed_attempts.tolist() == [1, 2]


# ---- the order at one instant


def test_traffic_of_one_instant_goes_by_request_not_by_time_of_scheduling():
    desk = Serve("desk", constant(1.0))
    operations = (
        Operation("two steps", (Delay(constant(3.0)), Delay(constant(1.0)), desk)),
        Operation("one step", (Delay(constant(3.0)), desk)),
    )
    network = Network(operations, (Station("desk"),))
    # Both reach the desk at 4; request 1 has known since 1, request 0 only since 3, and goes first.
    assert answered(run(network, [(0, "two steps"), (1, "one step")])) == [5, 6]


def test_the_agenda_goes_before_timed_traffic():
    log = Log()
    # Request 0's service ends at 2 and frees request 1, whose service takes no time; request 2 arrives at 2.
    steps = (Serve("desk", constant(0.0), per={"work": 1.0}), probe("served"))
    network = one(*steps, stations=(Station("desk"),), attributes=("work",))
    schedule = [(0, "ask", {"work": 2}), (1, "ask", {"work": 3}), (2, "ask")]
    run(network, schedule, observer=log)
    assert [line for line in log.lines if line[1] == "served"] == [
        (2, "served", 0, 0, 1.0),
        (5, "served", 1, 0, 1.0),
        (5, "served", 2, 0, 1.0),
    ]


def test_control_then_agenda_then_observers_then_traffic():
    log = Log()
    network = one(
        Delay(constant(1.0)), Scatter((probe("child"),), count=2), probe("parent"), Delay(constant(0.0)), probe("after")
    )

    def control(env, engine):
        yield env.timeout(1.0)
        log.lines.append((env.now, "control"))

    run(network, asks(0, 1), control=control, observer=log)
    assert log.lines == [
        (1, "control"),
        (1, "child", 0, 1, 1.0),
        (1, "child", 0, 2, 1.0),
        (1, "parent", 0, 0, 1.0),
        (1, "after", 0, 0, 1.0),
        (1, "responded", 0, "ok"),
        (2, "child", 1, 1, 1.0),
        (2, "child", 1, 2, 1.0),
        (2, "parent", 1, 0, 1.0),
        (2, "after", 1, 0, 1.0),
        (2, "responded", 1, "ok"),
    ]


def test_an_observer_is_told_before_the_next_traffic_of_the_instant():
    class Follower(Log):
        """Asks again as soon as it is answered."""

        def responded(self, request, outcome):
            super().responded(request, outcome)
            if len(self.lines) == 1:
                self.engine.submit(0, [])

    log = Follower()
    network = one(Serve("desk", constant(1.0)), stations=(Station("desk"),))
    record = run(network, asks(0, 1), observer=log)
    # At 1 the answer to request 0 makes request 1, which gets the desk before the arrival of the same instant, request 2.
    assert answers(record) == [(0, 1, "ok"), (1, 2, "ok"), (1, 3, "ok")]
    assert log.lines == [(1, "responded", 0, "ok"), (2, "responded", 1, "ok"), (3, "responded", 2, "ok")]


def test_a_crash_comes_before_a_commit_of_the_same_instant():
    topic = Topic("log", (Delay(constant(1.0)), probe("applied")), session_timeout_s=5.0)
    network = Network(
        (Operation("ask", (Publish("log"), Respond())),), topics=(topic,), milestones=(Milestone("applied"),)
    )
    record = run(network, asks(0), control=at((1.0, "crash", 0, 0), (3.0, "restore", 0, 0)))
    assert marks(record) == [(4, "applied", 0)]


def test_stations_serve_children_with_their_operations_priority():
    route = (Scatter((Serve("desk", constant(1.0)), probe("served")), count=2),)
    operations = (Operation("bulk", route, priority=5), Operation("alert", route, priority=1))
    record = run(Network(operations, (Station("desk", discipline="priority"),)), [(0, "bulk"), (0, "alert")])
    assert [request for _, _, request in marks(record)] == [0, 1, 1, 0]
    assert station(record, "desk")["completed"] == 4
