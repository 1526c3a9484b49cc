"""What users see of eventual consistency: their own likes that are not there yet, and when all are."""

from __future__ import annotations

import numpy as np

from model.results import Results

APPLIED = "interactions.applied"


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
