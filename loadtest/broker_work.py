"""What the broker works for: its CPU per record and per fetch of the busiest topic, and how that grows with its log.

    CPU of a window beyond idleness = (record · records + fetch · fetches) · (1 + growth · visits before / 1000)

by least squares without negative costs over windows of all runs, for each of some growths; the best one stays. Records and fetches are
those that the clients' spans tell of; fetches from topics with few records are in the records' cost. A visit is one or the other. Every
reference is warmed up alike, so that all logs begin alike.

What a record or a fetch costs in all is done in many small pieces, for other consumers too: a thread of the broker runs for a burst,
its CPU over how often its threads left a core, and waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.estimates import Floats, least_squares
from loadtest.observed_run import Observed

ROLE = "kafka"
WINDOW_S = 1.0
GROWTHS_PER_1K = tuple(0.02 * step for step in range(16))
"""That are tried."""
GROUP = "interaction_workers"
"""Whose batches are fetches of the busiest topic."""
FEWEST = 20
"""Windows in all; with fewer, all that is beyond idleness is the records'."""


@dataclass(frozen=True)
class BrokerWork:
    """CPU seconds per record and per fetch, growth per thousand visits; of how many, and what share of the CPU's variance that explains;
    and for how long it runs between two waits.
    """

    record_s: float
    fetch_s: float
    growth_per_1k: float
    records: int
    fetches: int
    explained: float
    burst_s: float = 0.0


def broker_work(runs: Sequence[Observed]) -> BrokerWork:
    """Of runs with spans, whose idleness is known."""
    rows = np.vstack([_windows(run) for run in runs])
    records, fetches, before, cpu_s = rows.T
    counts = {"records": int(records.sum()), "fetches": int(fetches.sum())}
    switches = sum(run.switches_per_s.get(ROLE, 0.0) * run.window_s for run in runs)
    burst_s = sum(run.busy_ratio.get(ROLE, 0.0) * run.window_s for run in runs) / switches if switches > 0 else 0.0
    if len(rows) < FEWEST:
        return BrokerWork(max(float(cpu_s.sum()), 0.0) / max(float(records.sum()), 1.0), 0.0, 0.0, **counts, explained=0.0, burst_s=burst_s)

    def fitted(growth_per_1k: float) -> tuple[float, Floats]:
        grown = 1 + growth_per_1k * before / 1000
        columns = [records * grown, fetches * grown]
        found = least_squares(columns, cpu_s)
        off = np.column_stack(columns) @ found - cpu_s
        return float(off @ off), found

    growth = min(GROWTHS_PER_1K, key=lambda tried: fitted(tried)[0])
    left, (record_s, fetch_s) = fitted(growth)
    varied = float(((cpu_s - cpu_s.mean()) ** 2).sum())
    return BrokerWork(float(record_s), float(fetch_s), growth, **counts, explained=1 - left / max(varied, 1e-12), burst_s=burst_s)


def _windows(run: Observed) -> Floats:
    """A row per window: records, fetches, visits before, the broker's CPU beyond idleness."""
    start_s, warmup_s = run.trace.header["start_epoch_s"], run.trace.header["warmup_s"]
    lines = run.trace.lines("counters.jsonl")
    at_s = np.array([line["at_s"] for line in lines]) - start_s
    edges_s = np.arange(warmup_s, min(run.trace.duration_s, at_s[-1]) + 1e-9, WINDOW_S)
    used_s = np.diff(np.interp(edges_s, at_s, [line["processes"][ROLE][0] for line in lines]))
    began = {
        "records": [s.start_s - start_s for s in run.spans if s.attributes.get("flashcrowd.time") == "kafka_acknowledgement"],
        "fetches": [s.start_s - start_s for s in run.spans if s.name == GROUP],
    }
    records, fetches = (np.histogram(began[kind], edges_s)[0] for kind in ("records", "fetches"))
    visits = records + fetches
    before = np.cumsum(visits) - visits / 2 + visits.mean() * warmup_s / WINDOW_S  # spans of the warm-up are not kept
    return np.column_stack([records, fetches, before, (used_s - run.idle_ratio[ROLE] * WINDOW_S) / run.slow_factor])
