"""Figures of a comparison: rates and percentiles of both sides from raw samples, with intervals."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from loadtest.recording import UNFINISHED

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
SIDES = ("reference", "model")
QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99}
RESAMPLES = 400
CONFIDENCE = 0.95
LEAST_SAMPLES = 30  # fewer say nothing about an interval
WRITES = ("feed.publish", "interactions.like", "interactions.unlike", "interactions.comment")
APPLIED, DELIVERED, READY = "interactions.applied", "feed.delivered", "uploads.ready"
NOTIFIED = ("notifications.delivered.comment", "notifications.delivered.like")
SEARCHABLE = "search.searchable"
MILESTONES = (DELIVERED, APPLIED, READY, *NOTIFIED, SEARCHABLE)


@dataclass(frozen=True)
class Samples:
    """Raw times of one thing on one side: seconds, and how often each counts. Both of shape (n,)."""

    values_s: Floats
    weights: Floats

    @property
    def n(self) -> int:
        """How many samples."""
        return len(self.values_s)


@dataclass(frozen=True)
class Window:
    """The part of a run that counts, seconds since its start."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """Its length."""
        return self.end_s - self.start_s


def weighted_quantiles(values_s: Floats, weights: Floats, levels: Floats) -> Floats:
    """The smallest values at or below which a share of at least `levels` of the weight lies. `values_s` is ascending."""
    reached = np.cumsum(weights)
    places = np.searchsorted(reached, levels * reached[-1])
    return values_s[np.minimum(places, len(values_s) - 1)]


def quantile_figures(samples: Samples, rng: np.random.Generator) -> dict[str, Any]:
    """Percentiles in ms with bootstrap intervals of 95 %: `p50_ms`, `p50_low_ms`, `p50_high_ms` and so on.

    All None without samples; the intervals None below `LEAST_SAMPLES`. Samples are resampled, not requests in a queue:
    neighbours are correlated, so that the true uncertainty is somewhat larger.
    """
    names = [f"{name}_{part}ms" for name in QUANTILES for part in ("", "low_", "high_")]
    if samples.n == 0:
        return dict.fromkeys(names)
    order = np.argsort(samples.values_s, kind="stable")
    values_s, weights = samples.values_s[order], samples.weights[order]
    levels = np.array(list(QUANTILES.values()))
    points = weighted_quantiles(values_s, weights, levels)
    figures: dict[str, Any] = dict.fromkeys(names)
    for name, value in zip(QUANTILES, points, strict=True):
        figures[f"{name}_ms"] = float(value * 1000)
    if samples.n < LEAST_SAMPLES:
        return figures
    again = np.empty((RESAMPLES, len(levels)))
    for row in range(RESAMPLES):
        counts = np.bincount(rng.integers(0, samples.n, samples.n), minlength=samples.n)
        again[row] = weighted_quantiles(values_s, weights * counts, levels)
    low, high = np.quantile(again, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    for index, name in enumerate(QUANTILES):
        figures[f"{name}_low_ms"] = float(low[index] * 1000)
        figures[f"{name}_high_ms"] = float(high[index] * 1000)
    return figures


@dataclass(frozen=True)
class Side:
    """One side's run: its rows (`recording.COLUMNS`), its milestones (`recording.MILESTONE_COLUMNS`), Locust's summary."""

    rows: pd.DataFrame
    milestones: pd.DataFrame
    summary: dict[str, Any]

    def operation(self, name: str, window: Window) -> pd.DataFrame:
        """The rows of an operation that were meant to go in the window."""
        rows = self.rows
        return rows[(rows.operation == name) & (rows.intended_s >= window.start_s) & (rows.intended_s < window.end_s)]

    def operation_samples(self, name: str, window: Window) -> Samples:
        """Latencies of those that were answered well."""
        rows = self.operation(name, window)
        values_s = rows.latency_s[rows.outcome == "ok"].to_numpy(dtype=float)
        return Samples(values_s, np.ones(len(values_s)))

    def milestone_samples(self, name: str, window: Window) -> Samples:
        """Times of a milestone that was reached in the window."""
        rows = self.milestones
        rows = rows[(rows["name"] == name) & (rows.reached_s >= window.start_s) & (rows.reached_s < window.end_s)]
        took_s = (rows.reached_s - rows.started_s).to_numpy(dtype=float)
        return Samples(took_s, rows.weight.to_numpy(dtype=float))


def _ratio(model: float | None, reference: float | None) -> float | None:
    return None if model is None or not reference else model / reference


def _row(kind: str, name: str, figures: dict[str, dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": kind, "name": name}
    for side in SIDES:
        row |= {f"{side}_{key}": value for key, value in figures[side].items()}
    for key in ("per_s", *(f"{name}_ms" for name in QUANTILES)):
        row[f"ratio_{key}"] = _ratio(figures["model"][key], figures["reference"][key])
    return row


def compare(sides: dict[str, Side], window: Window, seed: int) -> list[dict[str, Any]]:
    """One row per operation and per milestone; keys `reference_…`, `model_…` and `ratio_…` (model over reference).

    `n` are samples (for milestones: batches or events), `per_s` what was answered well per second (for milestones: the
    weight, deliveries or events), `not_ok` requests of the window that were answered otherwise.
    """
    rng = np.random.default_rng(seed)
    rows = []
    operations = sorted(set().union(*(side.rows.operation.unique() for side in sides.values())))
    for name in operations:
        figures = {}
        for side, run in sides.items():
            samples = run.operation_samples(name, window)
            asked = run.operation(name, window)
            figures[side] = {
                "n": samples.n,
                "per_s": samples.n / window.length_s,
                "not_ok": int((~asked.outcome.isin(["ok", UNFINISHED])).sum()),
            }
            figures[side] |= quantile_figures(samples, rng)
        # A milestone among the rows of requests is what users saw of it from outside.
        rows.append(_row("probe" if name in MILESTONES else "operation", name, figures))
    for name in MILESTONES:
        figures = {}
        for side, run in sides.items():
            samples = run.milestone_samples(name, window)
            figures[side] = {"n": samples.n, "per_s": float(samples.weights.sum()) / window.length_s, "not_ok": 0}
            figures[side] |= quantile_figures(samples, rng)
        rows.append(_row("milestone", name, figures))
    return rows


def throughput(sides: dict[str, Side], window: Window) -> list[dict[str, Any]]:
    """Writes as accepted and as applied, deliveries, and all requests, per second of the window."""
    rows = []

    def add(name: str, per_s: dict[str, float]) -> None:
        rows.append({"name": name, **per_s, "ratio": _ratio(per_s["model"], per_s["reference"])})

    def answered(names: tuple[str, ...] | list[str]) -> dict[str, float]:
        return {s: sum(run.operation_samples(n, window).n for n in names) / window.length_s for s, run in sides.items()}

    def reached(name: str) -> dict[str, float]:
        return {
            s: float(run.milestone_samples(name, window).weights.sum()) / window.length_s for s, run in sides.items()
        }

    add("requests answered", answered(sorted(set().union(*(run.rows.operation.unique() for run in sides.values())))))
    add("interactions accepted", answered([name for name in WRITES if name != "feed.publish"]))
    add("interactions applied", reached(APPLIED))
    add("posts accepted", answered(["feed.publish"]))
    add("feed rows delivered", reached(DELIVERED))
    add("uploads ready", reached(READY))
    add("posts searchable", reached(SEARCHABLE))
    return rows


def document(
    rows: list[dict[str, Any]], totals: list[dict[str, Any]], sides: dict[str, Side], window: Window
) -> dict[str, Any]:
    """Everything as data for JSON; times as their names say."""
    return {
        "window": asdict(window),
        "confidence": CONFIDENCE,
        "summary": {side: run.summary for side, run in sides.items()},
        "throughput_per_s": totals,
        "rows": rows,
    }
