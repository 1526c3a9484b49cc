"""Logs of several threads and libraries in one file."""

import json
import subprocess
import sys
from collections import Counter

from tests.reference_impl.stack import ROOT

EACH = 1_000
WRITERS = f"""
import logging, threading, structlog
from reference_impl import logs
logs.configure("writers")
def ours(): [structlog.get_logger().info("ours", number=n) for n in range({EACH})]
def theirs(): [logging.getLogger("librdkafka").info("theirs %d", n) for n in range({EACH})]
threads = [threading.Thread(target=write) for write in (ours, ours, theirs, theirs)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def test_every_line_is_one_object_though_threads_write_at_once():
    done = subprocess.run([sys.executable, "-c", WRITERS], cwd=ROOT, capture_output=True, text=True, check=True)
    events = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert Counter(event.split()[0] for event in events) == {"ours": 2 * EACH, "theirs": 2 * EACH}
