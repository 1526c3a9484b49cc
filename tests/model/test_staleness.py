"""Read-your-own-write misses and convergence, by hand."""

from dataclasses import replace

import pytest

from model.scenario import Fault
from model.simulation import simulate
from model.staleness import after_faults, converged_s, own_write_misses, own_writes
from scenarios.loader import load_scenario

# A like each second, accepted at once; a worker takes 0.3 s for it.
LIKES = """
question = "?"
[run]
duration_s = 100
warmup_s = 0
[network.milestones."interactions.applied"]
since = "answer"
[network.topics.likes]
service_time = { distribution = "constant", mean_s = 0.3 }
session_timeout_s = 5
poll_max = 1
steps = [{ mark = "interactions.applied" }]
[network.operations.like]
interarrival = { distribution = "constant", mean_s = 1 }
steps = [{ respond = true }, { publish = "likes" }]
"""


@pytest.fixture
def likes(tmp_path):
    path = tmp_path / "likes.toml"
    path.write_text(LIKES)
    return load_scenario(str(path))


def test_who_reads_before_it_is_applied_misses_his_own(likes):
    results = simulate(likes)
    assert own_write_misses(results, 0.2) == 1.0
    assert own_write_misses(results, 0.4) == 0.0
    assert converged_s(results, 50.1) == pytest.approx(0.2)
    assert converged_s(results, 50.5) == 0.0


def test_after_a_crash_it_takes_a_while_until_all_is_there(likes):
    """Down from 20.5 s to 30.5 s; ten or eleven likes wait then, 0.3 s each, and others come meanwhile."""
    results = simulate(replace(likes, faults=(Fault("consumer_crash", 20.5, "likes", 0, 0, 10),)))
    assert converged_s(results, 30.5) == pytest.approx(10 * 0.3, abs=0.31)
    # The one of 21 s waits longest: 9.5 s and its turn. Of a hundred, those of 21 to about 34 s miss their own after 0.4 s.
    assert own_write_misses(results, 0.4) == pytest.approx(0.14, abs=0.02)
    assert own_write_misses(results, 9.9) == 0.0
    assert after_faults(results) == {"consumer_crash at 20.5 s": converged_s(results, 30.5)}
    assert own_writes(results) == {
        "after_100_ms": 1.0, "after_1_s": own_write_misses(results, 1.0), "after_5_s": own_write_misses(results, 5.0),
    }  # fmt: skip
