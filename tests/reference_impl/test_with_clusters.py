"""Apache Kafka's broker dies under load, or nothing of it answers; collected only where it is in the place of the embedded one.

The last file, since its load leaves posts and uploads of many users behind.
"""

import signal

import pytest

from benchmarks import faults
from benchmarks.faults import Fault
from benchmarks.faulty_load import Load
from reference_impl import inspection, state
from tests.reference_impl.stack import USERS, eventually

POSTS_PER_USER, BEFORE_S, HOLD_S = 3, 1.0, 3.0


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.parametrize(
    "fault",
    [
        Fault("kill Apache Kafka", ("kafka",), goes_on=("feed.open",)),
        Fault("stall Apache Kafka", ("kafka",), signal.SIGSTOP, held=True, goes_on=("feed.open",)),
    ],
    ids=lambda fault: fault.name,
)
def test_a_broker_that_is_killed_or_unreachable_loses_and_doubles_nothing(stack, fault):
    current = state.read(stack.state_dir)
    eventually(lambda: inspection.caught_up(current))
    load = Load(current, USERS, USERS * POSTS_PER_USER, seed=7)
    load.start()
    try:
        seen = faults.suffer(fault, current, BEFORE_S, HOLD_S)
        recovered = faults.comment_is_applied(current, 60)
    finally:
        load.stop()
    found = faults.settled(current, load)
    assert recovered
    assert found.clean, found
    assert found.applied == load.accepted.total() > 0
    assert "health: kafka" in seen
    assert {name: load.refused(name) for name in fault.goes_on} == dict.fromkeys(fault.goes_on, 0)
