"""Milestones: the asynchronous outcomes that a client's response time does not show.

Each worker appends to its own file ``milestones-<worker>-<pid>.csv`` in the state directory, columns
``name,started_at,reached_at,weight`` (epoch seconds with microseconds; the weight counts followers or events), one
write per batch, and observes the same in a Prometheus histogram.

``started_at`` is when the API handed the record to its producer (the acknowledgement by the log lies within the span), of
``search.searchable`` when the database committed the row.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from prometheus_client import Histogram

FEED_DELIVERED = "feed.delivered"
INTERACTIONS_APPLIED = "interactions.applied"
UPLOADS_READY = "uploads.ready"
NOTIFICATIONS_DELIVERED = {"comment": "notifications.delivered.comment", "like": "notifications.delivered.like"}
"""By priority: comments go first."""
SEARCH_SEARCHABLE = "search.searchable"
HEADER = "name,started_at,reached_at,weight\n"

BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
milestone_seconds = Histogram("flashcrowd_milestone_seconds", "Time to a milestone", ["milestone"], buckets=BUCKETS_S)


class MilestoneFile:
    """The milestones of one worker process."""

    def __init__(self, state_dir: str, worker: str) -> None:
        self.path = Path(state_dir) / f"milestones-{worker}-{os.getpid()}.csv"
        self._file: TextIO = self.path.open("a", encoding="ascii")
        if self._file.tell() == 0:
            self._file.write(HEADER)
            self._file.flush()

    def record(self, name: str, samples: Iterable[tuple[float, int]], reached_at: float | None = None) -> None:
        """Record ``(started_at, weight)`` of outcomes that are reached now, or were at ``reached_at`` (epoch seconds)."""
        reached_at = time.time() if reached_at is None else reached_at
        histogram = milestone_seconds.labels(name)
        lines = []
        for started_at, weight in samples:
            lines.append(f"{name},{started_at:.6f},{reached_at:.6f},{weight}\n")
            histogram.observe(max(0.0, reached_at - started_at))
        self._file.write("".join(lines))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
