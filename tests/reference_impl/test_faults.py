"""Faults under load on a supervised reference whose broker keeps its log in the store: nothing lost, nothing doubled, no hand.

The table with every fault by itself, and long ones, is `python -m benchmarks.faults`.
"""

import signal
import time

import pytest

from benchmarks import faults
from benchmarks.faults import WORKERS, Fault
from benchmarks.faulty_load import Load
from reference_impl import inspection, lifecycle, processes, state
from reference_impl.supervisor import PAUSE_FIRST_S, STEADY_S, Backoff

BEFORE_S, HOLD_S = 1.0, 3.0
KILLED_AT_ONCE = (*WORKERS, *faults.EDGE, "push_gateway")


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory):
    directory = tmp_path_factory.mktemp("supervised")
    faults.bring_up(directory, session_timeout_s=3)
    try:
        yield directory
    finally:
        lifecycle.down(directory)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (Fault("kill every worker", KILLED_AT_ONCE, goes_on=faults.WITHOUT_UPLOADS), [f"restarted: {n}" for n in WORKERS]),
        (Fault("kill api", ("api",)), ["restarted: api"]),
        (Fault("kill kafka", ("kafka",), goes_on=("feed.open",)), ["restarted: kafka"]),
        (Fault("kill postgres", ("postgres",)), ["restarted: postgres"]),
        (
            Fault("kill redis and search", ("redis", "search_engine"), goes_on=faults.WITHOUT_UPLOADS),
            ["restarted: redis", "restarted: search_engine"],
        ),
        (Fault("kill store", ("store",), goes_on=("feed.open",)), ["restarted: store"]),
        (Fault("stall kafka", ("kafka",), signal.SIGSTOP, held=True, goes_on=("feed.open",)), ["health: kafka"]),
        (Fault("stall redis", ("redis",), signal.SIGSTOP, held=True, goes_on=faults.WITHOUT_UPLOADS), ["health: redis"]),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)  # fmt: skip
def test_nothing_is_lost_or_doubled_and_nobody_has_to_help(state_dir, fault, seen):
    outcome = faults.run(fault, state_dir, BEFORE_S, HOLD_S, lambda _: None)
    assert outcome.good, outcome
    assert outcome.accepted > 0
    assert set(seen) <= set(outcome.seen)
    assert {name: outcome.refused.get(name, 0) for name in fault.goes_on} == dict.fromkeys(fault.goes_on, 0)


def test_pauses_before_a_restart_double_up_to_a_bound_and_begin_anew():
    backoff, now, pauses = Backoff(longest_s=4.0, started_at=-STEADY_S), 100.0, []
    for _ in range(6):
        assert backoff.may_start(now)
        backoff.started(now)
        pauses.append(backoff.pause_s)
        assert not backoff.may_start(now + 0.99 * backoff.pause_s)
        now += backoff.pause_s
    assert pauses == [PAUSE_FIRST_S, 1.0, 2.0, 4.0, 4.0, 4.0]
    now += STEADY_S + 1
    backoff.started(now)
    assert backoff.pause_s == PAUSE_FIRST_S


@pytest.mark.slow
def test_stopped_workers_have_committed_what_they_applied_and_down_kills_nobody(state_dir):
    """The last one here: it takes the stack down."""
    current = state.read(state_dir)
    supervisor = [child for child in current.processes if child.role == processes.SUPERVISOR]
    workers = [child for child in current.processes if child.name in WORKERS]
    load = Load(current, faults.USERS, faults.USERS * faults.POSTS_PER_USER)
    load.start()
    time.sleep(2)
    assert processes.stop(supervisor, 30) == []
    assert processes.stop(workers, 30) == []
    time.sleep(1)  # what is accepted now waits in the log
    load.stop()
    current = lifecycle.up(current.to_settings(), lifecycle.Scale(), [], lambda _: None)  # starts again what is dead
    assert faults.settled(current, load).clean
    counters = inspection.report(current)["counters"]
    assert counters["interactions_applied"] > 0
    assert counters["interactions_unchanged"] == 0  # nothing came a second time
    stopped, killed = lifecycle.down(state_dir)
    assert (stopped, killed) == (len(current.processes), [])
    assert not any(map(processes.alive, current.processes))
    assert not state.path(state_dir).exists()
