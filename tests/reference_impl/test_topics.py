"""The log's consumer and producer: what the library does not mend by itself."""

import json
import subprocess
import sys

from reference_impl.topics import NOWHERE
from tests.reference_impl.stack import ROOT


def said_by(module, folder):
    """What the module says at its end, run as a program."""
    command = [sys.executable, "-m", f"tests.reference_impl.{module}", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_consumer_that_is_left_without_partitions_is_replaced_and_misses_nothing(stack):
    assert said_by("lost_consumer", stack.state_dir) == {
        "before": ["first"],
        "meanwhile": 0,
        "replaced_at_once": 0,  # it has some time to find back
        "replaced_then": 1,
        "after": ["second"],
    }


def test_a_duplicate_without_an_offset_counts_as_not_delivered_and_holds_nobody_up(tmp_path):
    assert said_by("lost_answer", tmp_path) == {
        "lost": 1,
        "failure": f"fanout: {NOWHERE}",
        "offset": 2.0,
        "logged": ["first", "first", "second"],
    }
