"""When a core was away."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from loadtest.stalls import EVERY_S, LEAST_S, stalls_of

AT_S = [10.0, 11.0, 11.5, 13.0]
LINES = [{"at_s": at_s, "stalled_s": took_s} for at_s, took_s in zip(AT_S, (0.5, 0.004, 0.016, 0.5), strict=True)]


def test_a_runs_stalls_are_counted_summed_and_the_longest_known():
    assert stalls_of(LINES, 10.5, 12.5) == {"n": 2, "ratio": pytest.approx(0.01), "longest_s": 0.016}
    assert stalls_of([], 0.0, 1.0) == {"n": 0, "ratio": 0.0, "longest_s": 0.0}
    assert stalls_of([{"unknown": "not permitted"}], 0.0, 1.0) is None


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
    longest_s = max(line["stalled_s"] for line in lines)
    assert longest_s > 0.3 - 2 * EVERY_S
    assert min(line["stalled_s"] for line in lines) > LEAST_S


def test_without_the_right_nothing_is_said_to_be_known(tmp_path):
    out = tmp_path / "stalls.jsonl"
    done = subprocess.run([sys.executable, "-m", "loadtest.stalls", str(out), "100000"], timeout=60, check=False)
    assert done.returncode == 0
    assert stalls_of([json.loads(line) for line in out.read_text().splitlines()], 0.0, 1.0) is None
