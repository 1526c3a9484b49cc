"""When a core was away."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from loadtest.stalls import EVERY_S, LEAST_S, course_of, stalls_of

AT_S = [10.0, 11.0, 11.5, 13.0]
LINES = [{"at_s": at_s, "stalled_s": took_s} for at_s, took_s in zip(AT_S, (0.5, 0.004, 0.016, 0.5), strict=True)]


def test_a_runs_stalls_are_counted_summed_and_the_longest_known():
    assert stalls_of(LINES, 10.5, 12.5) == {"n": 2, "ratio": pytest.approx(0.01), "longest_s": 0.016, "slow_ratio": 0.0}
    assert stalls_of([], 0.0, 1.0) == {"n": 0, "ratio": 0.0, "longest_s": 0.0, "slow_ratio": 0.0}
    assert stalls_of([{"unknown": "not permitted"}], 0.0, 1.0) is None


def tenths(*took_us, at_s=100.0):
    """Lines of the meter: in each tenth the work was done twenty times, and took so long."""
    return [
        {"at_s": at_s + 0.1 * number, "took_s": us / 1e6, "each_ns": [us * 1000] * 20} for number, us in enumerate(took_us, 1)
    ]


def test_a_cores_course_is_told_beside_its_mean_and_slow_quarters_are_counted():
    took_us = [10.0, 10.0, 10.0, 20.0]
    lines = tenths(*took_us)
    course = course_of(lines, 100.0, 101.0)
    assert [at_s for at_s, _ in course] == pytest.approx([0.05 * number for number in range(8)])
    assert [takes for _, takes in course] == pytest.approx([us / 12.5 for us in took_us for _ in range(2)])
    assert course_of(lines, 100.25, 101.0)[::2] == [
        (0.0, pytest.approx(10 / 15)), (pytest.approx(0.05, abs=1e-6), pytest.approx(20 / 15)),
    ]  # fmt: skip
    assert stalls_of([{**line, "at_s": 99.9 + 2.5 * (line["at_s"] - 100)} for line in lines], 100.0, 101.1)["slow_ratio"] == 0.25
    assert course_of([], 0.0, 1.0) == []


def test_where_the_core_was_away_work_takes_infinitely_long():
    lines = tenths(10.0, 20.0)
    lines.insert(1, {"at_s": 100.12, "stalled_s": 0.03})
    course = course_of(lines, 100.0, 101.0)
    assert [at_s for at_s, _ in course] == pytest.approx([0, 0.05, 0.09, 0.12, 0.15])
    assert [takes for _, takes in course] == pytest.approx([*[10 / 15] * 2, math.inf, *[20 / 15] * 2])


def watch(out, core, meanwhile):
    process = subprocess.Popen([sys.executable, "-m", "loadtest.stalls", str(out), str(core)])
    try:
        while not out.exists() or (process.poll() is None and os.sched_getscheduler(process.pid) != os.SCHED_FIFO):
            time.sleep(0.01)
        meanwhile(process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
    assert process.returncode == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def may_be_realtime():
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, OSError):
        return False
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    return True


@pytest.mark.skipif(not may_be_realtime(), reason="real-time priority takes Linux and the right to it; without, nothing is measured")
def test_a_core_that_is_away_is_noticed(tmp_path):
    def stop_and_continue(process):
        time.sleep(0.1)
        for signal_number in (signal.SIGSTOP, signal.SIGCONT):  # for the process the same as if its core were away
            process.send_signal(signal_number)
            time.sleep(0.3)

    lines = watch(tmp_path / "stalls.jsonl", min(os.sched_getaffinity(0)), stop_and_continue)
    stalled_s = [line["stalled_s"] for line in lines if "stalled_s" in line]
    assert max(stalled_s) > 0.3 - 2 * EVERY_S
    assert min(stalled_s) > LEAST_S
    took_s = [line["took_s"] for line in lines if "took_s" in line]
    assert took_s and 1e-6 < min(took_s) <= max(took_s) < 1e-2


def test_without_the_right_nothing_is_said_to_be_known(tmp_path):
    out = tmp_path / "stalls.jsonl"
    done = subprocess.run([sys.executable, "-m", "loadtest.stalls", str(out), "100000"], timeout=60, check=False)
    assert done.returncode == 0
    assert stalls_of([json.loads(line) for line in out.read_text().splitlines()], 0.0, 1.0) is None
