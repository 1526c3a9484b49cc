"""Closing the loop: on the calibration's own runs, the model must use the CPU that was measured.

What a role's work costs while nothing sleeps, how much more it costs after idleness, and after how much of it, become CPU per request
only by the model's own idle times, on the host as it is: while others have the core, a process sleeps longer. The runs at two loads and
in bursts say what that CPU was. It is linear in the first two, so they are found by least squares without negative costs, for each of
some idle times after which half of the extra work is there; the best one stays. More than `MOST_EXTRA` is not believed: a long idle time
with a huge factor fits a few loads as well, and none beyond them.
Latencies are not looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from loadtest.cold import MOST_EXTRA, Cold
from loadtest.estimates import Floats, least_squares

if TYPE_CHECKING:
    from loadtest.observed_run import Observed
    from model.scenario import Scenario

HALVES_S = tuple(0.0005 * 2**step for step in range(6))
"""Idle times that are tried for `Cold.half_s`: 0.5 to 16 ms."""
REFINEMENTS = 2
"""With the extra work that was found: it makes idleness shorter, so that CPU is linear only nearby."""


@dataclasses.dataclass(frozen=True)
class Level:
    """By what a role's times are to be multiplied, its work after idleness, and how far CPU is off (root mean square, relative)."""

    scale: float
    cold: Cold | None
    off_ratio: float


def levels(
    scenario: Scenario, runs: Sequence[Observed], stations: Mapping[str, str], sleepers: Collection[str]
) -> dict[str, Level]:
    """Role -> its level. `scenario`: calibrated from the runs; `stations`: role -> where it works; `sleepers`: whose idleness counts."""
    measured = {role: np.array([run.cpu_s.get(role, 0.0) / max(run.requests, 1) for run in runs]) for role in stations}
    awake = _cpu_s(scenario, runs, stations, dict.fromkeys(sleepers))
    found = {role: _fitted([awake[role]], measured[role]) for role in stations if role not in sleepers}

    def with_idleness(cold: Mapping[str, Cold]) -> dict[str, Level]:
        asleep = _cpu_s(scenario, runs, stations, cold)
        return {role: _fitted([awake[role], asleep[role] - awake[role]], measured[role], one) for role, one in cold.items()}

    for half_s in HALVES_S if sleepers else ():
        for role, level in with_idleness(dict.fromkeys(sleepers, Cold(1.0, half_s, 1.0))).items():
            if role not in found or level.off_ratio < found[role].off_ratio:
                found[role] = level
    for _ in range(REFINEMENTS if sleepers else 0):
        found |= with_idleness({role: found[role].cold or Cold(1.0, HALVES_S[0], 1.0) for role in sleepers})
    return found


def _fitted(columns: Sequence[Floats], measured: Floats, tried: Cold | None = None) -> Level:
    scale, *more = least_squares(columns, measured)
    off = np.column_stack(columns) @ np.array([scale, *more]) - measured
    off_ratio = float(np.sqrt(np.mean(off**2)) / max(measured.mean(), 1e-12))
    if scale <= 0:
        return Level(1.0, None, np.inf)
    cold = dataclasses.replace(tried, extra=tried.extra * float(more[0] / scale)) if tried and more[0] > 0 else None
    if tried and cold and cold.extra > MOST_EXTRA:
        most = MOST_EXTRA / tried.extra
        level = _fitted([columns[0] + most * columns[1]], measured)
        return dataclasses.replace(level, cold=dataclasses.replace(tried, extra=MOST_EXTRA))
    return Level(float(scale), cold, off_ratio)


def _cpu_s(
    scenario: Scenario, runs: Sequence[Observed], stations: Mapping[str, str], cold: Mapping[str, Cold | None]
) -> dict[str, Floats]:
    """Role -> CPU per request of each run, replayed in the model on a host of steady speed."""
    from loadtest.replay import replay

    settings = dict(scenario.stations)
    for role, one in cold.items():
        points = tuple((point["idle_ms"] / 1000, point["factor"]) for point in one.points()) if one else ()
        settings[stations[role]] = dataclasses.replace(settings[stations[role]], cold=points)
    hosts = tuple(dataclasses.replace(host, speed_varies=()) for host in scenario.hosts)
    cpu_s: dict[str, list[float]] = {role: [] for role in stations}
    for run in runs:
        length = dataclasses.replace(scenario.run, duration_s=run.trace.duration_s)
        worked_s = replay(run.trace, dataclasses.replace(scenario, stations=settings, hosts=hosts, run=length)).header["cpu_s"]
        for role, station in stations.items():
            cpu_s[role].append(worked_s.get(station, 0.0) / max(len(run.trace.rows), 1))
    return {role: np.array(values) for role, values in cpu_s.items()}
