"""Cells: throughput and percentiles of one operation or milestone in one run, from raw samples of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from loadtest.figures import weighted_quantiles

if TYPE_CHECKING:
    from loadtest.traces import Trace

STATISTICS = ("mean", "p50", "p90", "p95", "p99")
_LEVELS = np.array([0.50, 0.90, 0.95, 0.99])


def _times(values_s: np.ndarray, weights: np.ndarray) -> dict[str, float | None]:
    if not len(values_s):
        return {f"{name}_s": None for name in STATISTICS}
    order = np.argsort(values_s, kind="stable")
    values_s, weights = values_s[order], weights[order]
    figures = [float(np.average(values_s, weights=weights)), *weighted_quantiles(values_s, weights, _LEVELS).tolist()]
    return {f"{name}_s": value for name, value in zip(STATISTICS, figures, strict=True)}


def cells_of(trace: Trace) -> dict[str, dict[str, Any]]:
    """Operation or milestone -> `n`, `per_s`, `not_ok` and the times in seconds, of what was meant to go after the warm-up.

    A milestone counts if its request was answered then; its times are weighted (followers). Latency counts from the intended instant.
    """
    start_s, length_s = float(trace.header.get("warmup_s", 0.0)), trace.duration_s
    window_s = length_s - start_s
    cells: dict[str, dict[str, Any]] = {}
    rows = trace.rows[trace.rows.intended_s >= start_s]
    for name, part in rows.groupby("operation", sort=True):
        good = part[part.outcome == "ok"]
        within = good[good.finished_s < length_s]
        took_s = good.latency_s.to_numpy(float)
        cells[str(name)] = {
            "kind": "operation", "n": len(good), "per_s": len(within) / window_s, "not_ok": len(part) - len(good),
            **_times(took_s, np.ones(len(took_s))),
        }  # fmt: skip
    reached = trace.milestones[(trace.milestones.started_s >= start_s) & (trace.milestones.started_s < length_s)]
    for name, part in reached.groupby("name", sort=True):
        took_s = (part.reached_s - part.started_s).to_numpy(float)
        weights = part.weight.to_numpy(float)
        if weights.sum() > 0:
            cells[str(name)] = {
                "kind": "milestone", "n": len(part), "per_s": float(weights.sum()) / window_s, "not_ok": 0,
                **_times(took_s, weights),
            }  # fmt: skip
    return cells


def median_cells(several: Sequence[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Of cells of the same arrivals, the median of each figure; `n` is the first one's."""
    made: dict[str, dict[str, Any]] = {}
    for name, first in several[0].items():
        alike = [cells[name] for cells in several if name in cells]
        known = {key: [cell[key] for cell in alike if cell[key] is not None] for key in first if key.endswith("_s")}
        made[name] = first | {key: float(np.median(values)) if values else None for key, values in known.items()}
    return made
