"""What the same work costs more after idleness: a process that slept finds its caches, and its core, cold.

Two things are observed. **How much**: requests that come in bursts find processes that never slept; what a request costs a role there,
beside what it costs at moderate Poisson loads, by counters of CPU time. **How fast it sets in**: thread CPU of operations that overlapped
no other against the time for which the process had slept before. The factor is 1 + extra · idle / (idle + half).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from loadtest.estimates import LEAST_S, Floats
from loadtest.observed_run import PRODUCER, Observed, alone, cpu_of, own_parts, waits_of
from loadtest.otlp_spans import Span

HALVES_S = tuple(0.000125 * 2**step for step in range(9))
"""Idle times that are tried for `half`: 0.125 to 32 ms."""
POINTS_S = (0.0, 0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)
FEWEST = 50
MOST_EXTRA = 5.0
"""More is not believed: with a long `half_s` a huge factor fits a few loads as well, and none beyond them."""
ROLES = ("api", PRODUCER, "postgres")


@dataclass(frozen=True)
class Cold:
    """The factor of a role's work by idle time; `mean` is its mean over the work at moderate load."""

    extra: float
    half_s: float
    mean: float

    def points(self) -> list[dict[str, float]]:
        """As a station's `cold` in a scenario."""
        return [
            {"idle_ms": at_s * 1000, "factor": round(float(1 + self.extra * at_s / (at_s + self.half_s)), 4)} for at_s in POINTS_S
        ]


def _part(idle_s: Floats, half_s: float) -> Floats:
    return np.asarray(idle_s / (idle_s + half_s), dtype=float)


def gaps_s(spans: Sequence[Span]) -> Floats:
    """For how long nothing had been under way as each span began; `spans` in order of start."""
    reached_s = np.maximum.accumulate([span.end_s for span in spans])
    starts_s = np.array([span.start_s for span in spans])
    return np.maximum(starts_s[1:] - reached_s[:-1], 0.0)


def pieces(runs: Iterable[Observed], names: Iterable[str]) -> Floats:
    """A row per lone operation: idle time before its first piece and before each later one, the later share, CPU over its kind's median."""
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in names}
    for run in runs:
        spans = [span for span in run.spans if span.name in found]
        lone = {id(span) for span in alone(spans)}
        for span, idle_s in zip(spans[1:], gaps_s(spans) if len(spans) > 1 else (), strict=True):
            if id(span) in lone:
                waits = [child.took_s for child in waits_of(span) if child.attributes.get("flashcrowd.time") != "pool_wait"]
                later = 1 - own_parts(span)[0]
                found[span.name].append((float(idle_s), sum(waits) / max(len(waits), 1), later, cpu_of(span)))
    rows = [np.array(rows) / np.array([1.0, 1.0, 1.0, max(np.median([r[3] for r in rows]), LEAST_S)]) for rows in found.values() if rows]
    return np.vstack(rows) if rows else np.zeros((0, 4))


def half_s(rows: Floats, ratio: float) -> float:
    """The idle time after which half of the extra work is there: the one that leaves the least absolute error of the CPU's logarithm."""
    def error(half: float) -> float:
        parts = (1 - rows[:, 2]) * _part(rows[:, 0], half) + rows[:, 2] * _part(rows[:, 1], half)
        wrong = np.log(np.maximum(rows[:, 3], 1e-3)) - np.log1p((ratio - 1) / max(parts.mean(), 0.05) * parts)
        return float(np.abs(wrong - np.median(wrong)).mean())

    return min(HALVES_S, key=error)


def cold_of(
    calm: Sequence[Observed], bursts: Sequence[Observed], names: Sequence[str], waking: tuple[float, float]
) -> dict[str, Cold]:
    """Role -> its factor: API, its producer and database by their counters. Empty without bursts.

    `waking` are the shares of the API's work that may find it asleep: as a request comes, and as what it waited for is there.
    """
    rows = pieces(calm, names)
    if not bursts or len(rows) < FEWEST:
        return {}

    def per_request_s(runs: Sequence[Observed], role: str) -> float:
        return sum(run.cpu_s.get(role, 0.0) for run in runs) / max(sum(run.requests for run in runs), 1)

    ratios = {
        role: max(per_request_s(calm, role) / max(per_request_s(bursts, role), LEAST_S), 1.0) for role in ROLES
    }
    half = half_s(rows, ratios["api"])
    asleep_s = np.concatenate([gaps_s([s for s in run.spans if s.name in names]) for run in calm])
    before, after = _part(asleep_s, half).mean(), _part(rows[:, 1], half).mean()
    api = min((ratios["api"] - 1) / max(waking[0] * before + waking[1] * after, 0.05), MOST_EXTRA)
    extras = {role: min((ratio - 1) / max(before, 0.05), MOST_EXTRA) for role, ratio in ratios.items()} | {"api": api}
    return {role: Cold(extras[role], half, ratio) for role, ratio in ratios.items()}
