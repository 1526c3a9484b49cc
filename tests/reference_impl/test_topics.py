"""The log's consumer: what the library does not mend by itself."""

import json
import subprocess
import sys

from tests.reference_impl.stack import ROOT


def test_a_consumer_that_is_left_without_partitions_is_replaced_and_misses_nothing(stack):
    command = [sys.executable, "-m", "tests.reference_impl.lost_consumer", str(stack.state_dir)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "before": ["first"],
        "meanwhile": 0,
        "replaced_at_once": 0,  # it has some time to find back
        "replaced_then": 1,
        "after": ["second"],
    }
