"""Independent replications of a scenario, until a number or a precision is reached, and two scenarios compared in pairs.

Replication 0 has the scenario's own seed, the others seeds that are hashed from it; so one replication is the plain run. The
follow graph stays the same: replications are other days of the same people. A figure's interval is that of its expected value
over such days ("the p99 of a day", averaged), not of a percentile of all days together.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from model.results import AT_LEAST
from model.scenario import Scenario
from model.statistics import CONFIDENCE, Interval, holm, interval, p_value, replications_needed
from model.workers import Failure, Outcome, Runner, Task

FEWEST = 5  # replications before a precision may stop them: an early interval is too often narrow by accident
Progress = Callable[[float], None]
_VERDICTS = ("stable", "backlogged", "overloaded")  # of Results.stationarity, the worst last


def replication_seed(seed: int, replication: int) -> int:
    """The seed of a replication: the scenario's for the first (0), hashed from it for the others."""
    if replication == 0:
        return seed
    digest = hashlib.blake2b(f"replication {replication} of {seed}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(frozen=True)
class Replications:
    """The outcomes of a scenario's replications, in order; `reached` is false if a precision was asked for and not reached."""

    scenario: Scenario
    outcomes: tuple[Outcome, ...]
    reached: bool = True

    @property
    def n(self) -> int:
        """How many there are."""
        return len(self.outcomes)

    @property
    def names(self) -> list[str]:
        """The figures there are."""
        return list(self.outcomes[0].figures)

    def values(self, name: str) -> list[float]:
        """A figure's value in each replication that has one. Raises `KeyError` for a figure that does not exist."""
        found = (outcome.figures[name] for outcome in self.outcomes)
        return [float(value) for value in found if value is not None]

    def interval(self, name: str, confidence: float = CONFIDENCE) -> Interval:
        """A figure's mean over the replications, and its interval."""
        return interval(self.values(name), confidence)

    @property
    def intervals(self) -> pd.DataFrame:
        """One row per figure: mean, low, high, n, half_width_ratio; in seconds, per second, or as the figure's name says."""
        frame = pd.DataFrame.from_dict({name: self.interval(name).row() for name in self.names}, orient="index")
        frame.index.name = "figure"
        return frame

    def meets(self, name: str, confidence: float = CONFIDENCE) -> str:
        """`met` or `missed` if the whole interval is on one side of the objective's target, else `open`."""
        return verdict(self.interval(name, confidence), name, self.scenario.slo[name])

    def document(self) -> dict[str, Any]:
        """The JSON document of a run with means in place of figures, and with `replications` and `intervals` added.

        An objective is met if the mean meets it; its `confidence` says whether the interval is clear of the target.
        """
        document: dict[str, Any] = _pooled([outcome.document for outcome in self.outcomes])
        document["seed"] = self.scenario.run.seed
        errors = [outcome.document["audit"]["littles_law_max_error_ratio"] for outcome in self.outcomes]
        document["audit"]["littles_law_max_error_ratio"] = max(errors)
        document["slo"] = [self._objective(name, target) for name, target in self.scenario.slo.items()]
        document["replications"] = {
            "n": self.n,
            "seeds": [outcome.seed for outcome in self.outcomes],
            "confidence": CONFIDENCE,
            "precision_reached": self.reached,
        }
        document["intervals"] = {name: self.interval(name).row() for name in self.names}
        return document

    def _objective(self, name: str, target: float) -> dict[str, Any]:
        found = self.interval(name)
        met = found.n > 0 and (found.mean >= target if at_least(name) else found.mean <= target)
        return {
            "name": name,
            "target": target,
            "value": found.mean if found.n else None,
            "met": bool(met),
            "low": found.low,
            "high": found.high,
            "confidence": verdict(found, name, target),
        }


def at_least(name: str) -> bool:
    """Whether an objective wants at least its target, as of throughput and hit ratios; all others want at most."""
    return name.endswith(AT_LEAST)


def verdict(found: Interval, name: str, target: float) -> str:
    """`met` or `missed` if the whole interval is on one side of a target, else `open`. No sample at all: missed."""
    if found.n == 0:
        return "missed"
    if at_least(name):
        return "met" if found.low >= target else "missed" if found.high < target else "open"
    return "met" if found.high <= target else "missed" if found.low > target else "open"


@dataclass
class Replicator:
    """Runs replications of scenarios and keeps them, so that more of one can be asked for without running any twice."""

    runner: Runner
    engine: str | None = None
    graph_seed: int | None = None
    kept: dict[tuple[str, int], Outcome] = field(default_factory=dict)
    runs: int = 0

    def first(self, scenario: Scenario, n: int, progress: Progress | None = None) -> Replications:
        """The first `n` replications. Raises `ValueError`, in one line, if the scenario can't be simulated."""
        return self.of_all([scenario], n, progress)[0]

    def of_all(self, scenarios: Sequence[Scenario], n: int, progress: Progress | None = None) -> list[Replications]:
        """The first `n` replications of each of several scenarios, side by side."""
        names = [repr(scenario) for scenario in scenarios]  # frozen dataclasses all the way: the whole text
        wanted: dict[tuple[str, int], Task] = {}
        for name, scenario in zip(names, scenarios, strict=True):
            own = scenario.run.seed
            graph_seed = own if self.graph_seed is None else self.graph_seed
            for seed in (replication_seed(own, number) for number in range(n)):
                wanted[name, seed] = Task(scenario, seed, graph_seed, self.engine)
        missing = [key for key in wanted if key not in self.kept]
        for done, (number, answer) in enumerate(self.runner.run([wanted[key] for key in missing]), 1):
            if isinstance(answer, Failure):
                raise ValueError(answer.reason)
            self.kept[missing[number]] = answer
            self.runs += 1
            if progress is not None:
                progress(1 - (len(missing) - done) / len(wanted))
        return [
            Replications(
                scenario, tuple(self.kept[name, replication_seed(scenario.run.seed, number)] for number in range(n))
            )
            for name, scenario in zip(names, scenarios, strict=True)
        ]

    def until_precise(
        self,
        scenario: Scenario,
        precision_ratio: float,
        figures: Sequence[str] = (),
        most: int = 100,
        progress: Progress | None = None,
    ) -> Replications:
        """Add replications until each of `figures` (default: those of the objectives) is known to ±`precision_ratio` of its mean.

        At least `FEWEST`, at most `most`; `reached` of the answer says which it was. Raises `ValueError` if there is nothing
        to be precise about, or for a figure that does not exist.
        """
        names = tuple(figures) or tuple(scenario.slo)
        if not names:
            raise ValueError("a precision of what? the scenario has no [slo]; name figures")
        n = min(FEWEST, most)
        while True:
            found = self.first(scenario, n, progress)
            unknown = [name for name in names if name not in found.names]
            if unknown:
                raise ValueError(f"no figure {unknown[0]!r} in the results")
            intervals = [found.interval(name) for name in names]
            if all(one.n > 1 and one.half_width_ratio <= precision_ratio for one in intervals):
                return found
            if n >= most:
                return Replications(scenario, found.outcomes, reached=False)
            needed = max(replications_needed(one, precision_ratio) for one in intervals)
            n = min(most, max(n + 1, min(needed, 2 * n)))


@dataclass(frozen=True)
class Difference:
    """A figure in two scenarios: the means, B − A in pairs of runs with common random numbers, and what to believe of it.

    `p_adjusted` is Holm's over all figures compared; `variance_ratio` how many times smaller the variance of the difference
    is than it would be without common random numbers (`inf`: the pairs differ by a constant).
    """

    name: str
    a: float
    b: float
    difference: Interval
    p_adjusted: float
    variance_ratio: float

    @property
    def real(self) -> bool:
        """Whether the difference is real, with at most 5 % risk that any one of those called so is not."""
        return self.p_adjusted <= 1 - CONFIDENCE


def compare(a: Replications, b: Replications, names: Sequence[str]) -> list[Difference]:
    """Paired differences of replications with the same seeds; figures that lack a value in some run are compared where both have."""
    rows: list[tuple[str, np.ndarray, np.ndarray]] = []
    for name in names:
        pairs = [
            (one.figures[name], other.figures[name]) for one, other in zip(a.outcomes, b.outcomes, strict=True)
        ]
        known = np.array([pair for pair in pairs if None not in pair], float).reshape(-1, 2)
        rows.append((name, known[:, 0], known[:, 1]))
    adjusted = holm([p_value(right - left) for _, left, right in rows])
    differences = []
    for (name, left, right), p_adjusted in zip(rows, adjusted, strict=True):
        apart, ratio = interval(right - left), math.nan
        if len(left) > 1:
            together = float(np.var(right - left, ddof=1))
            alone = float(np.var(left, ddof=1) + np.var(right, ddof=1))
            ratio = alone / together if together > 0 else math.inf if alone > 0 else math.nan
        differences.append(
            Difference(name, _mean(left), _mean(right), apart, p_adjusted, ratio)
        )
    return differences


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _pooled(values: Sequence[Any]) -> Any:
    """Documents of one shape as one: numbers become means, truth holds if it holds in all, verdicts are the worst."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if isinstance(known[0], Mapping):
        return {key: _pooled([value[key] for value in known]) for key in known[0] if key != "slo"}
    if isinstance(known[0], bool):
        return all(known)
    if isinstance(known[0], (int, float)):
        return known[0] if all(value == known[0] for value in known) else float(np.mean(known))
    return max(known, key=_VERDICTS.index) if known[0] in _VERDICTS else known[0]
