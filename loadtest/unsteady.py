"""How unsteady the host's speed is: what others on the same machine do slows all processes at once, and for moments only.

What a role's CPU time for a unit of work was, second by second, varies for many reasons; what it varies *together* between roles is the
machine's. A factor that is drawn anew after exponentially distributed times of mean h has, averaged over w seconds, the variance
2 · cv² · h / w (its autocorrelation is exp(-t/h), and w is much more than h): so windows of a second tell cv² · h, and that is what
queues feel of it. h itself is a choice: neither longer than the windows, nor shorter than what a queue evens out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from loadtest.estimates import LEAST_S, Floats
from loadtest.observed_run import Observed

ROLES = ("api", "postgres", "interaction_worker")
WINDOW_S, HOLDS_S = 1.0, 0.05
FEWEST = 20
"""Windows in all; fewer say nothing about a variance."""


def speed_cv(runs: Sequence[Observed], work_s: Mapping[str, float]) -> float:
    """Coefficient of variation of the host's speed for `HOLDS_S`; 0 if too little was seen. `work_s`: CPU of each operation."""
    pairs, windows = [], 0
    for run in runs:
        logs = _logs(run, work_s)
        if len(logs[0]) > 2:
            windows += len(logs[0])
            pairs += [float(one @ other) / (len(one) - 2) for one, other in combinations(logs, 2)]
    variance = max(float(np.mean(pairs)), 0.0) if windows >= FEWEST else 0.0
    return float(np.sqrt(variance * WINDOW_S / (2 * HOLDS_S)))


def _logs(run: Observed, work_s: Mapping[str, float]) -> list[Floats]:
    """Log of each role's CPU per work by window, less its mean and what goes with the amount of work: more of it finds processes warm."""
    rows = run.trace.rows[np.isfinite(run.trace.rows.finished_s)]
    lines = [json.loads(line) for line in run.trace.file("counters.jsonl").read_text().splitlines()]
    at_s = np.array([line["at_s"] for line in lines]) - run.trace.header["start_epoch_s"]
    edges_s = np.arange(run.trace.header["warmup_s"], min(run.trace.duration_s, at_s[-1]), WINDOW_S)
    amount = np.histogram(rows.finished_s, edges_s, weights=rows.operation.map(work_s).fillna(0.0))[0]
    some = amount > 0
    found = []
    for role in ROLES:
        used_s = np.diff(np.interp(edges_s, at_s, [line["processes"].get(role, [0.0])[0] for line in lines]))[some]
        per_work = np.log(np.maximum(used_s, LEAST_S) / amount[some])
        known = np.column_stack([np.ones(some.sum()), np.log(amount[some])])
        found.append(np.asarray(per_work - known @ np.linalg.lstsq(known, per_work, rcond=None)[0], dtype=float))
    return found
