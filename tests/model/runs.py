"""Tiny and large runs of a network on an engine, and what came of them as plain lists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import simpy

from model.arrivals import draws
from model.distributions import Distribution
from model.engines.choose import engine_for, make_environment
from model.engines.clock import Clock
from model.engines.order import OUTCOMES
from model.network import Mark, Network
from model.recording import Recording
from model.tables import Tables, lower

Attributes: TypeAlias = Mapping[str, float]
Schedule: TypeAlias = Sequence[tuple[Any, ...]]  # (instant, operation) or (instant, operation, attributes)
Control: TypeAlias = Callable[[simpy.Environment, Any], Any]  # a generator: what happens from outside


ENGINES = ("plain", "compiled")
engine_in_use = "plain"  # set by the fixture `engine`


def build(engine: str, tables: Tables, warmup_s: float = 0.0, observer: Any = None) -> tuple[Clock, Any]:
    """A clock and an engine on it, by name."""
    clock = make_environment(engine)
    return clock, engine_for(engine, tables, clock, warmup_s, observer)


def run(
    network: Network,
    schedule: Schedule,
    *,
    engine: str | None = None,
    until_s: float = 1000.0,
    seed: int = 1,
    warmup_s: float = 0.0,
    control: Control | None = None,
    observer: Any = None,
) -> Recording:
    """Run a handful of requests that come at given instants."""
    names = network.names("operations")
    instants = np.array([float(item[0]) for item in schedule])
    operation = np.array([names.index(item[1]) for item in schedule], "i4")
    table = np.zeros((len(schedule), len(network.attributes)))
    for row, item in zip(table, schedule, strict=True):
        for name, value in (item[2] if len(item) > 2 else {}).items():
            row[network.attributes.index(name)] = value
    gaps = np.diff(instants, prepend=0.0)
    return _run(network, gaps, operation, table, engine, until_s, seed, warmup_s, control, observer)


def run_many(
    network: Network,
    arrivals: Mapping[str, Distribution],
    until_s: float,
    *,
    engine: str | None = None,
    seed: int = 1,
    warmup_s: float = 0.0,
    attributes: Mapping[str, Callable[[int], np.ndarray]] | None = None,
) -> Recording:
    """Run open arrivals: for every operation a distribution of its gaps; `attributes` are functions of the number of requests."""
    names = network.names("operations")
    times, operations = [], []
    for name, gap in arrivals.items():
        count = int(until_s / gap.mean_s * 1.2 + 200)
        at_s = np.cumsum(draws(gap, seed, f"arrivals of {name}", 0, count))
        assert at_s[-1] > until_s
        times.append(at_s[at_s < until_s])
        operations.append(np.full(len(times[-1]), names.index(name), "i4"))
    all_times = np.concatenate(times)
    order = np.argsort(all_times, kind="stable")
    table = np.zeros((len(all_times), len(network.attributes)))
    for name, of_count in (attributes or {}).items():
        table[:, network.attributes.index(name)] = of_count(len(all_times))
    gaps = np.diff(all_times[order], prepend=0.0)
    operation = np.concatenate(operations)[order]
    return _run(network, gaps, operation, table, engine, until_s, seed, warmup_s, None, None)


def _run(
    network: Network,
    gaps: np.ndarray,
    operation: np.ndarray,
    table: np.ndarray,
    engine: str | None,
    until_s: float,
    seed: int,
    warmup_s: float,
    control: Control | None,
    observer: Any,
) -> Recording:
    env, runner = build(engine or engine_in_use, lower(network, seed), warmup_s, observer)
    if hasattr(observer, "start"):
        observer.start(env, runner)
    runner.arrive(gaps, operation, table)
    if control is not None:
        env.process(control(env, runner))
    env.run(until=until_s)
    return runner.record()


def at(*actions: tuple[Any, ...]) -> Control:
    """Control by list: `at((2.0, "crash", 0, 1), (5.0, "restore", 0, 1))`."""

    def life(env: simpy.Environment, engine: Any) -> Any:
        for instant, what, *arguments in actions:
            yield env.timeout(instant - env.now)
            getattr(engine, what)(*arguments)

    return life


def answers(record: Recording) -> list[tuple[float, float, str]]:
    """(arrived, answered, outcome) of every request in order of arrival; no answer: -1."""
    answered = np.nan_to_num(record.responded_s, nan=-1.0)
    outcomes = [OUTCOMES[number] for number in record.outcome]
    return list(zip(record.arrived_s.tolist(), answered.tolist(), outcomes, strict=True))


def answered(record: Recording) -> list[float]:
    """The instants of the answers, in order of arrival; no answer: -1."""
    return [instant for _, instant, _ in answers(record)]


def outcomes(record: Recording) -> list[str]:
    """How requests ended, in order of arrival."""
    return [outcome for _, _, outcome in answers(record)]


def marks(record: Recording) -> list[tuple[float, str, int]]:
    """(instant, milestone, request) in the order in which they were reached."""
    return [
        (float(mark["time_s"]), record.tables.milestones[mark["milestone"]], int(mark["request"]))
        for mark in record.marks
    ]


def probe(name: str) -> Mark:
    """A milestone that shows when a task comes by."""
    return Mark(name)


def station(record: Recording, name: str) -> dict[str, float]:
    """A station's counters."""
    row = record.stations[record.tables.network.names("stations").index(name)]
    return {field: row[field].item() for field in row.dtype.names}


def topic(record: Recording, name: str) -> dict[str, float]:
    """A topic's counters."""
    row = record.topics[record.tables.network.names("topics").index(name)]
    return {field: row[field].item() for field in row.dtype.names}


class Log:
    """An observer that writes down what it is told, and when."""

    def __init__(self) -> None:
        self.lines: list[tuple[Any, ...]] = []

    def start(self, env: simpy.Environment, engine: Any) -> None:
        """The run begins."""
        self.env, self.engine = env, engine

    def responded(self, request: int, outcome: int) -> None:
        """An answer."""
        self.lines.append((self.env.now, "responded", request, OUTCOMES[outcome]))

    def marked(self, milestone: int, request: int, ordinal: int, weight: float) -> None:
        """A milestone."""
        self.lines.append((self.env.now, self.engine.tables.milestones[milestone], request, ordinal, weight))
