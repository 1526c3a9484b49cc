"""The course of the arrivals: the hours of a day, surges, sessions, cascades of likes, and traces of real ones.

Rates that change with time come by inversion: arrivals are drawn at an even rate in *operational time* and put where the
cumulated rate has grown as far (Çinlar, *Introduction to Stochastic Processes*, 1975, 4.7). So a run without any surge has the arrivals
it would have had before, and a surge later in a run moves nothing before it.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.part import Floats, Ids
from model.scenario import Cascade, Scenario, Surge, Workload
from model.variates import stream_of

_GRID_S = 0.25  # rates are even for as long; edges of surges are kept exactly
_LEAST_CELLS, _MOST_CELLS = 400, 200_000
FOLLOW_UPS = (
    "uploads.view", "interactions.read", "interactions.like", "interactions.unlike", "interactions.comment", "search.query",
)  # fmt: skip
AFTER_A_LOOK = ("interactions.like", "interactions.unlike", "interactions.comment")
_MOST_GENERATIONS = 10_000


# ---- rates that change with time
@dataclass(frozen=True)
class Course:
    """How often more than by its rate something is asked for, in cells of time: `factors[i]` from `edges_s[i]` to the next."""

    edges_s: Floats
    factors: Floats

    @property
    def cumulated_s(self) -> Floats:
        """Operational time at each edge: how long an even rate would have taken for as many arrivals."""
        return np.concatenate(([0.0], np.cumsum(self.factors * np.diff(self.edges_s))))

    @property
    def mean(self) -> float:
        """The mean factor."""
        return float(self.cumulated_s[-1] / self.edges_s[-1])

    def instants(self, operational_s: Floats) -> Floats:
        """The instants at which operational time has come that far."""
        return np.interp(operational_s, self.cumulated_s, self.edges_s)


def course(scenario: Scenario, operation: str) -> Course | None:
    """The course of an operation's arrivals over the run; None where the rate is even."""
    surges = [one for one in scenario.surges if not one.operations or operation in one.operations]
    if not surges and not scenario.workload.daily_amplitude_ratio:
        return None
    end_s = scenario.run.duration_s
    cells = int(np.clip(end_s / _GRID_S, _LEAST_CELLS, _MOST_CELLS))
    edges = {one.at_s + offset_s for one in surges for offset_s in (0.0, one.rise_s, one.rise_s + one.hold_s)}
    kept = [edge_s for edge_s in edges if 0 < edge_s < end_s]
    edges_s = np.unique(np.concatenate((np.linspace(0.0, end_s, cells + 1), kept)))
    middles_s = (edges_s[1:] + edges_s[:-1]) / 2
    factors = daily_factor(scenario.workload, middles_s)
    for one in surges:
        factors = factors * surge_factor(one, middles_s)
    return Course(edges_s, factors)


def daily_factor(workload: Workload, at_s: Floats) -> Floats:
    """The day's factor at some instants: a cosine whose mean over a day is 1."""
    turns = (at_s - workload.daily_peak_s) / workload.daily_period_s
    return np.asarray(1 + workload.daily_amplitude_ratio * np.cos(2 * np.pi * turns))


def surge_factor(surge: Surge, at_s: Floats) -> Floats:
    """A surge's factor at some instants: 1 before it."""
    since_s = at_s - surge.at_s
    risen = np.clip(since_s / surge.rise_s, 0, 1) if surge.rise_s > 0 else (since_s >= 0).astype(float)
    over_s = np.maximum(since_s - surge.rise_s - surge.hold_s, 0.0)
    left = np.exp(-over_s / surge.decay_s) if surge.decay_s > 0 else (over_s == 0).astype(float)
    return np.asarray(1 + (surge.factor - 1) * risen * left)


# ---- a post that goes viral
def cascade_times(cascade: Cascade, until_s: float, seed: int, stream: str) -> Floats:
    """When the requests of a cascade come, in order: generation by generation, each a Poisson number per request of the last.

    The cluster form of a Hawkes process with an exponential kernel (Hawkes and Oakes 1974).
    """
    rng = np.random.default_rng(stream_of(seed, stream))
    generation = np.full(cascade.first, cascade.at_s)
    found = [generation]
    for _ in range(_MOST_GENERATIONS):
        children = rng.poisson(cascade.branching_ratio, len(generation))
        generation = np.repeat(generation, children) + rng.exponential(cascade.delay_s, int(children.sum()))
        generation = generation[generation < until_s]
        if not len(generation):
            break
        found.append(generation)
    times = np.concatenate(found)
    return np.sort(times[times < until_s])


# ---- sessions
@dataclass(frozen=True)
class FollowUp:
    """Requests of one operation that follow openings of the feed: instants in order, and the opening each belongs to."""

    at_s: Floats
    opening: Ids


def follow_up(
    operation: str, opened_s: Floats, mean_per_open: float, dwell_s: float, until_s: float, seed: int
) -> FollowUp:
    """What the users who opened their feeds at `opened_s` ask next: a Poisson number each, `dwell_s` (mean) apart.

    A like, and what is like it, comes one dwell later still: after a look.
    """
    rng = np.random.default_rng(stream_of(seed, f"sessions of {operation}"))
    counts = rng.poisson(mean_per_open, len(opened_s))
    opening = np.repeat(np.arange(len(opened_s)), counts)
    place = np.arange(len(opening)) - np.repeat(np.cumsum(counts) - counts, counts) + 1
    if operation in AFTER_A_LOOK:
        place = place + 1
    at_s = opened_s[opening] + rng.gamma(place, dwell_s) if len(opening) else np.zeros(0)
    order = np.argsort(at_s, kind="stable")
    kept = order[at_s[order] < until_s]
    return FollowUp(at_s[kept], opening[kept].astype(np.int64))


# ---- traces
@dataclass(frozen=True)
class Trace:
    """Arrivals from a file, in order of time: instants, operations by name, users, and further attributes by name."""

    at_s: Floats
    operation: np.ndarray  # of str
    user: Ids
    attributes: Mapping[str, Floats]


def read_trace(path: str, operations: Sequence[str], attributes: Sequence[str] = ()) -> Trace:
    """A CSV file with a header: `at_s`, `operation`, `user`, and columns of the network's attributes, in any order.

    Users beyond the population wrap around. Raises `ValueError` with file and line for what can't be used, `OSError` if the file can't
    be read.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        for wanted in ("at_s", "operation", "user"):
            if wanted not in header:
                raise ValueError(f"{path}:1: no column {wanted!r}; the header names at_s, operation, user")
        for name in header:
            if name not in ("at_s", "operation", "user", *attributes):
                raise ValueError(f"{path}:1: unknown column {name!r}; leave it out")
        place = {name: header.index(name) for name in header}
        times, names, users = [], [], []
        columns: dict[str, list[float]] = {name: [] for name in header if name in attributes}
        for number, row in enumerate(rows, 2):
            try:
                times.append(float(row[place["at_s"]]))
                users.append(int(row[place["user"]]))
                for name, column in columns.items():
                    column.append(float(row[place[name]]))
            except (ValueError, IndexError):
                raise ValueError(
                    f"{path}:{number}: expected numbers under at_s and user, got {','.join(row)!r}"
                ) from None
            if not (np.isfinite(times[-1]) and times[-1] >= 0 and users[-1] >= 0):
                raise ValueError(f"{path}:{number}: at_s and user are 0 or more, got {','.join(row)!r}")
            if row[place["operation"]] not in operations:
                raise ValueError(
                    f"{path}:{number}: no operation {row[place['operation']]!r}; there are: {', '.join(operations)}"
                )
            names.append(row[place["operation"]])
    order = np.argsort(times, kind="stable")
    return Trace(
        np.array(times)[order],
        np.array(names)[order],
        np.array(users, np.int64)[order],
        {name: np.array(column)[order] for name, column in columns.items()},
    )
