"""How far behind a run fell, and how long it took to catch up: from raw samples, for operations and milestones.

What is asked for and not yet answered (or answered and not yet applied, delivered, found) is a backlog. Its *peak* is read
against what is usual, its lower quartile over the window; it has *drained* when it is first back at that level, give or take
what chance does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from model.part import Floats
from model.results import Results

_LOOKS = 2000  # instants at which the backlog is read
_SPREADS = 6.0  # standard deviations of a Poisson number that count as chance, batches included (assumption)
LEAST_PEAK = 25.0  # requests or events: less is no backlog to speak of


@dataclass(frozen=True)
class Backlog:
    """The backlog of one operation or milestone. `drain_s` counts from the peak, None if it has not drained."""

    name: str
    usual: float
    peak: float
    peak_at_s: float
    drain_s: float | None

    def row(self) -> dict[str, Any]:
        """For JSON."""
        return {"usual": self.usual, "peak": self.peak, "peak_at_s": self.peak_at_s, "drain_s": self.drain_s}


def backlog(name: str, began_s: Floats, ended_s: Floats, from_s: float, to_s: float) -> Backlog:
    """The backlog between two instants of what began and ended then; what has not ended has `ended_s` NaN."""
    looks_s = np.linspace(from_s, to_s, _LOOKS)
    begun = np.searchsorted(np.sort(began_s), looks_s, side="right")
    ended = np.searchsorted(np.sort(ended_s[np.isfinite(ended_s)]), looks_s, side="right")
    here = (begun - ended).astype(float)
    usual, place = float(np.quantile(here, 0.25)), int(np.argmax(here))
    back = np.flatnonzero(here[place:] <= _unusual(usual))
    drain_s = float(looks_s[place + back[0]] - looks_s[place]) if len(back) else None
    return Backlog(name, usual, float(here[place]), float(looks_s[place]), drain_s)


def _unusual(usual: float) -> float:
    """More than this is no chance."""
    return max(1.5 * usual, usual + _SPREADS * float(np.sqrt(usual + 1)))


def backlogs(results: Results) -> list[Backlog]:
    """Of every operation and milestone that ever stood out of what is usual, the largest first."""
    record = results.recording
    found = []
    for number, name in enumerate(record.tables.network.names("operations")):
        chosen = record.operation == number
        found.append(backlog(name, record.arrived_s[chosen], record.responded_s[chosen], record.warmup_s, record.end_s))
    for name in record.tables.milestones:
        took_s, reached_s, _ = results.milestone_times(name)
        found.append(backlog(name, reached_s - took_s, reached_s, record.warmup_s, record.end_s))
    stands_out = [one for one in found if one.peak >= LEAST_PEAK and one.peak > _unusual(one.usual)]
    return sorted(stands_out, key=lambda one: -one.peak)
