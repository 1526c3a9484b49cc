"""What a run leaves behind: plain arrays, the same from every engine. `results.py` makes figures of them.

Counters of stations and topics cover the window from the end of the warm-up to the end of the run; a visit that reaches over
an edge of the window counts with the part inside. So Little's law and conservation hold exactly, and `results.py` checks both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from model.tables import Tables

STATION_COUNTS = np.dtype(
    [
        (name, "i8")
        for name in [
            "servers",
            "arrived",
            "waits",
            "waited",
            "completed",
            "rejected",
            "withdrawn",
            "present_start",
            "present_end",
        ]
    ]
    + [(name, "f8") for name in ["wait_s", "sojourn_s", "busy_area", "queue_area", "capacity_area", "cpu_s"]]
)
"""`cpu_s`: what the work of a station's processes came to, in seconds of a core of a host with speed 1, as it began."""
TOPIC_COUNTS = np.dtype(
    [
        (name, "i8")
        for name in [
            "consumers",
            "published",
            "consumed",
            "redelivered",
            "duplicates_skipped",
            "duplicates_applied",
            "batches",
            "batch_events",
            "backlog_start",
            "backlog_end",
            "max_lag",
        ]
    ]
    + [(name, "f8") for name in ["lag_area", "busy_area", "wait_s"]]
)
HOST_COUNTS = np.dtype(
    [(name, "i8") for name in ["cores", "woken", "preempted"]] + [(name, "f8") for name in ["busy_area", "queue_area"]]
)
CACHE_COUNTS = np.dtype([(name, "i8") for name in ["hits", "misses", "waits"]])  # waits: for another one's miss
MARK = np.dtype([("milestone", "i4"), ("ordinal", "i4"), ("request", "i8"), ("time_s", "f8"), ("weight", "f8")])


@dataclass
class StationCounts:
    """A station's counters while it runs; `n` present are split into those in service and those waiting."""

    arrived: int = 0
    waits: int = 0  # visits whose waiting time is in wait_s
    waited: int = 0  # those of them that had to wait at all
    completed: int = 0
    rejected: int = 0
    withdrawn: int = 0
    present_start: int = 0
    wait_s: float = 0.0
    sojourn_s: float = 0.0  # by visit, as they end
    busy_area: float = 0.0  # by state, as time goes: busy servers x seconds
    queue_area: float = 0.0
    capacity_area: float = 0.0
    since_s: float = 0.0
    window_s: float = 0.0

    def advance(self, now_s: float, busy: int, waiting: int, servers: int) -> None:
        """Time has gone on to `now_s` with this many in service and waiting."""
        step_s = now_s - self.since_s
        self.busy_area += step_s * busy
        self.queue_area += step_s * waiting
        self.capacity_area += step_s * servers
        self.since_s = now_s

    def write(self, row: np.void, servers: int, present: Sequence[float]) -> None:
        """Fill a row of `STATION_COUNTS`; `present` are the instants at which those still here entered."""
        for name in [
            "arrived",
            "waits",
            "waited",
            "completed",
            "rejected",
            "withdrawn",
            "present_start",
            "wait_s",
            "busy_area",
            "queue_area",
            "capacity_area",
        ]:
            row[name] = getattr(self, name)
        row["servers"], row["present_end"] = servers, len(present)
        row["sojourn_s"] = self.sojourn_s + math.fsum(
            self.since_s - max(entered_s, self.window_s) for entered_s in present
        )


@dataclass
class TopicCounts:
    """A topic's counters while it runs. Lag is what is in the log and not committed."""

    published: int = 0
    consumed: int = 0
    redelivered: int = 0
    duplicates_skipped: int = 0
    duplicates_applied: int = 0
    batches: int = 0
    batch_events: int = 0
    backlog_start: int = 0
    max_lag: int = 0
    lag_area: float = 0.0
    busy_area: float = 0.0
    wait_s: float = 0.0  # from the log to the start of the batch, summed over the events of batches
    since_s: float = 0.0

    def advance(self, now_s: float, lag: int, busy: int) -> None:
        """Time has gone on to `now_s` with this lag and this many busy members."""
        step_s = now_s - self.since_s
        self.lag_area += step_s * lag
        self.busy_area += step_s * busy
        self.since_s = now_s

    def write(self, row: np.void, consumers: int, backlog_end: int) -> None:
        """Fill a row of `TOPIC_COUNTS`."""
        for name in TOPIC_COUNTS.names or ():
            if name not in ("consumers", "backlog_end"):
                row[name] = getattr(self, name)
        row["consumers"], row["backlog_end"] = consumers, backlog_end


@dataclass
class HostCounts:
    """A host's counters while it runs: processes with work are running, or wait for a core (a longer service, if cores are shared)."""

    woken: int = 0
    preempted: int = 0
    busy_area: float = 0.0  # busy cores x seconds
    queue_area: float = 0.0
    since_s: float = 0.0

    def advance(self, now_s: float, working: int, cores: int) -> None:
        """Time has gone on to `now_s` with this many processes that have work."""
        step_s, busy = now_s - self.since_s, min(working, cores)
        self.busy_area += step_s * busy
        self.queue_area += step_s * (working - busy)
        self.since_s = now_s


@dataclass(frozen=True)
class Recording:
    """One run. Request arrays have one entry per request that arrived, in order; times are seconds, NaN for "not yet"."""

    tables: Tables
    engine: str
    warmup_s: float
    end_s: float
    operation: np.ndarray  # i4
    arrived_s: np.ndarray
    responded_s: np.ndarray
    finished_s: np.ndarray
    outcome: np.ndarray  # i1, see engines/order.py
    failed_attempts: np.ndarray  # i4
    marks: np.ndarray  # MARK, in order of time
    stations: np.ndarray  # STATION_COUNTS
    topics: np.ndarray  # TOPIC_COUNTS
    hosts: np.ndarray = field(default_factory=lambda: np.zeros(0, HOST_COUNTS))
    caches: np.ndarray = field(default_factory=lambda: np.zeros(0, CACHE_COUNTS))
