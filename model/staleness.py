"""What users see of eventual consistency: their own likes that are not there yet, and when all are."""

from __future__ import annotations

import numpy as np

from model.results import Results

APPLIED = "interactions.applied"


READ_AFTER_S = {"after_100_ms": 0.1, "after_1_s": 1.0, "after_5_s": 5.0}


def own_writes(results: Results) -> dict[str, float | None]:
    """`own_write_misses` for who reads at once, and for whom an optimistic user interface spares that until he reloads."""
    if APPLIED not in results.recording.tables.milestones:
        return {}
    return {name: own_write_misses(results, after_s) for name, after_s in READ_AFTER_S.items()}


def after_faults(results: Results) -> dict[str, float | None]:
    """How long after the end of each fault what had been accepted before it was applied; faults without an end are left out."""
    if APPLIED not in results.recording.tables.milestones:
        return {}
    ends = {
        f"{fault.kind} at {fault.at_s:g} s": fault.at_s + fault.back_after_s
        for fault in results.scenario.faults
        if fault.back_after_s is not None
    }
    return {name: converged_s(results, end_s) for name, end_s in ends.items() if end_s < results.recording.end_s}


def own_write_misses(results: Results, read_after_s: float, milestone: str = APPLIED) -> float | None:
    """The share of users who, `read_after_s` after the answer to their like, read a count without it; None without samples.

    An optimistic user interface shows the like all the same, so its users miss none until they reload: then `read_after_s` is the
    time until the reload. What has not been applied by the end of the run is not among the samples.
    """
    took_s, _ = results.milestone_samples(milestone)
    return float(np.mean(took_s > read_after_s)) if len(took_s) else None


def converged_s(results: Results, after_s: float, milestone: str = APPLIED) -> float | None:
    """How long after the instant `after_s` everything that was accepted before it had reached the milestone; None if nothing was.

    The time to converge after a crash: with `after_s` the instant of the crash's end.
    """
    took_s, reached_s, _ = results.milestone_times(milestone)
    before = reached_s - took_s <= after_s
    return max(0.0, float(np.max(reached_s[before])) - after_s) if np.any(before) else None
