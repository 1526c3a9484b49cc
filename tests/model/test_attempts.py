"""Backoff with jitter, retry budgets, circuit breakers, hedged requests, load shedding: exact clocks on both engines."""

import numpy as np
import pytest

from model.distributions import constant, exponential
from model.network import (
    Arm,
    Branch,
    Breaker,
    Delay,
    Fail,
    Network,
    Operation,
    Respond,
    RetryBudget,
    Scatter,
    Serve,
    Station,
    Try,
)
from tests.model.runs import answers, marks, probe, run

pytestmark = pytest.mark.usefixtures("engine")


def asks(*instants):
    return [(instant, "ask") for instant in instants]


def one(*steps, **declared):
    return Network((Operation("ask", steps),), **declared)


def pauses(**settings):
    """The pauses between the attempts of many requests that always fail: shape (requests, pauses)."""
    count, attempts = 400, 4
    network = one(Try((probe("try"), Fail()), attempts=attempts, **settings))
    record = run(network, asks(*[0.0] * count), until_s=1e6)
    times = np.full((count, attempts), np.nan)
    seen = [0] * count
    for instant, _, request in marks(record):
        times[request, seen[request]] = instant
        seen[request] += 1
    return np.diff(times, axis=1)


# ---- jitter (the limits are those of Brooker's article; uniform variates have the mean of their limits)
def test_without_jitter_the_pause_grows_up_to_its_limit():
    waited = pauses(backoff=constant(1.0), growth=2.0, backoff_max_s=3.0)
    assert (waited == [1, 2, 3]).all()


@pytest.mark.parametrize(
    ("jitter", "low", "high"), [("full", [0, 0, 0], [1, 2, 3]), ("equal", [0.5, 1, 1.5], [1, 2, 3])]
)
def test_jitter_spreads_the_pause(jitter, low, high):
    waited = pauses(backoff=constant(1.0), growth=2.0, backoff_max_s=3.0, jitter=jitter)
    assert (waited >= low).all() and (waited <= high).all()
    spread = np.subtract(high, low)
    assert waited.mean(axis=0) == pytest.approx(np.add(low, high) / 2, abs=0.06 * max(spread))
    assert (waited.max(axis=0) - waited.min(axis=0) > 0.95 * spread).all()
    assert abs(np.corrcoef(waited.T)[0, 1]) < 0.15


def test_decorrelated_jitter_follows_the_pause_before():
    waited = pauses(backoff=constant(1.0), jitter="decorrelated")
    before = np.column_stack([np.ones(len(waited)), waited[:, :2]])
    assert (waited >= 1).all() and (waited <= 3 * before + 1e-9).all()
    assert waited.mean(axis=0) == pytest.approx([2, 3.5, 5.75], rel=0.1)  # E = (1 + 3 E of the one before) / 2
    assert pauses(backoff=constant(1.0), jitter="decorrelated", backoff_max_s=1.5).max() == pytest.approx(1.5)
    assert pauses(backoff=exponential(1.0), jitter="decorrelated").min() >= 0


# ---- budget
def test_a_retry_budget_is_spent_and_earned_again_by_first_attempts():
    network = one(
        Try((probe("try"), Delay(constant(0.25)), Fail()), attempts=3, budget="b"),
        budgets=(RetryBudget("b", 0.5, 2.0),),
    )
    record = run(network, asks(0, 1, 2, 3, 4))
    # Begins with 2. 0: full, two retries, 0 left. 1: 0.5, none. 2: 1, one. 3: 0.5, none. 4: 1, one.
    assert record.failed_attempts.tolist() == [3, 1, 2, 1, 2]
    assert [outcome for *_, outcome in answers(record)] == ["rejected"] * 5


# ---- breaker
BREAKER = (Breaker("b", window=3, failure_ratio=0.6, pause_s=10.0),)


def guarded(probability, **settings):
    otherwise = (probe("instead"),)
    attempt = Try((probe("try"), Delay(constant(1.0)), Fail(probability)), breaker="b", otherwise=otherwise, **settings)
    return Network((Operation("ask", (attempt, Respond())),), breakers=BREAKER, attributes=("broken",))


def requests(*pairs):
    return [(instant, "ask", {"broken": broken}) for instant, broken in pairs]


def test_a_breaker_opens_lets_one_through_and_closes():
    record = run(
        guarded("broken"),
        requests(
            (0, 1), (1, 0), (2, 1), (4, 0), (12.5, 0), (13, 1), (13.25, 1), (14, 0), (15, 0), (16, 1), (17, 1), (18, 1)
        ),
    )
    assert [(instant, name) for instant, name, _ in marks(record)] == [
        (0, "try"), (1, "instead"), (1, "try"), (2, "try"), (3, "instead"),  # two of three failed: open from 3 to 13
        (4, "instead"), (12.5, "instead"),
        (13, "try"), (13.25, "instead"), (14, "instead"), (14, "instead"),  # the one let through fails: open to 24
        (15, "instead"), (16, "instead"), (17, "instead"), (18, "instead"),
    ]  # fmt: skip
    record = run(
        guarded("broken"), requests((0, 1), (1, 1), (2, 1), (13, 0), (13.5, 0), (14.5, 1), (16, 0), (17, 0), (18, 1))
    )
    assert [(instant, name) for instant, name, _ in marks(record)][6:] == [
        (13, "try"), (13.5, "instead"),  # the one let through ends well at 14: closed, and counting anew
        (14.5, "try"), (15.5, "instead"), (16, "try"), (17, "try"), (18, "try"), (19, "instead"),
    ]  # fmt: skip


def test_an_open_breaker_ends_the_try_without_a_pause():
    record = run(guarded(1.0, attempts=5, backoff=constant(2.0)), [(0, "ask")])
    # Attempts at 0, 3 and 6 fail; the breaker opens at 7 for 10 s, so that the attempt at 9 is refused and the last.
    assert [(instant, name) for instant, name, _ in marks(record)] == [
        (0, "try"),
        (3, "try"),
        (6, "try"),
        (9, "instead"),
    ]
    assert record.failed_attempts.tolist() == [4]


def test_what_began_before_the_breaker_turned_does_not_count():
    slow = Try((Delay(constant(12.0)), Fail()), breaker="b")
    quick = Try((Delay(constant(1.0)), Fail("broken")), breaker="b")
    network = Network(
        (Operation("slow", (slow,)), Operation("ask", (quick,))), breakers=BREAKER, attributes=("broken",)
    )
    schedule = [(0, "slow"), (0.5, "slow"), *requests((1, 1), (2, 1), (3, 1)), (14.5, "ask"), (16, "ask")]
    record = run(network, schedule)
    # Open from 4 to 14; at 12 and 12.5 the slow ones fail; at 14.5 one is let through, and is well.
    assert [outcome for *_, outcome in answers(record)][-2:] == ["ok", "ok"]


# ---- any of several
def test_the_first_child_that_ends_well_is_enough():
    child = Branch(
        (Arm("fast", (Delay(constant(1.0)), Fail("broken"))), Arm(1.0, (Delay(constant(3.0)), probe("late"))))
    )
    network = Network((Operation("ask", (Scatter((child,), 2, "any"), Respond())),), attributes=("fast", "broken"))
    record = run(network, [(0, "ask", {"fast": 1}), (10, "ask", {"fast": 1, "broken": 1}), (20, "ask")])
    assert answers(record) == [(0, 1, "ok"), (10, 11, "ok"), (20, 23, "ok")]  # all have failed: go on


def test_a_hedged_request_starts_its_second_copy_only_if_it_is_wanted():
    copy = (probe("copy"), Delay(constant(1.0), {"slowness": 1.0}))
    hedged = Scatter(copy, 3, "any", stagger=constant(2.0))
    network = Network((Operation("ask", (hedged, Respond())),), attributes=("slowness",))
    record = run(network, [(0, "ask", {"slowness": 0}), (10, "ask", {"slowness": 2}), (20, "ask", {"slowness": 9})])
    assert [instant for instant, _, _ in marks(record)] == [0, 10, 12, 20, 22, 24]
    assert answers(record) == [(0, 1, "ok"), (10, 13, "ok"), (20, 30, "ok")]


# ---- shedding
@pytest.mark.parametrize("discipline", ["fifo", "priority", "processor_sharing"])
def test_a_station_sheds_who_is_less_important(discipline):
    steps = (Serve("desk", constant(100.0)),)
    network = Network(
        tuple(Operation(name, steps, priority) for name, priority in [("vital", -1), ("ask", 0), ("extra", 5)]),
        (Station("desk", 1, discipline, shed_above=2, shed_keeps=0),),
    )
    record = run(network, [(n, name) for n, name in enumerate(["extra"] * 4 + ["ask", "vital", "extra"])], until_s=50.0)
    assert [outcome for *_, outcome in answers(record)] == ["under_way"] * 3 + ["rejected"] + ["under_way"] * 2 + [
        "rejected"
    ]


# ---- what is refused
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: one(Try((), budget="b")), "no budget 'b'"),
        (lambda: one(Try((), breaker="b")), "no breaker 'b'"),
        (lambda: one(Try((), jitter="ful")), r"no jitter 'ful' \(did you mean 'full'\?\)"),
        (lambda: one(breakers=(Breaker("b", 0),)), "needs a window of 1 or more"),
        (lambda: one(budgets=(RetryBudget("b", -1.0),)), "ratio and burst must be 0 or more"),
        (lambda: one(stations=(Station("s", shed_above=-1),)), "shed_above must be 0 or more"),
    ],
)
def test_mistakes_are_said_in_one_line(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
