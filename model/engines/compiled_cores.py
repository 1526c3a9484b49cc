"""A process of the compiled engine gets a core, or loses it; what each function means is said in `plain_hosts.py` and `plain_cores.py`."""

from __future__ import annotations

from typing import Any

from model.engines.compiled_events import schedule, what_of_task, whose_task
from model.engines.compiled_tables import colds, hosts, processes, stations, tasks
from model.engines.order import WAKE
from model.kernel_cache import part


@part
def factor_after(sim: Any, station: Any, idle_s: float) -> float:
    """The work's factor after so long a time without a core."""
    first = colds(sim, station.first_cold)
    before_s, before = first.idle_s, first.factor
    for number in range(station.first_cold, station.first_cold + station.colds):
        point = colds(sim, number)
        if idle_s < point.idle_s:
            if point.idle_s == before_s:
                return float(before)
            return float(before + (point.factor - before) * ((idle_s - before_s) / (point.idle_s - before_s)))
        before_s, before = point.idle_s, point.factor
    return float(before)


@part
def first_burst(sim: Any, p: int, work_s: float) -> float:
    """Of this work, what the process does until it waits for another for an instant."""
    process = processes(sim, p)
    burst_s = stations(sim, process.station).cpu_burst_s
    process.left_s = 0.0
    if 0.0 < burst_s < work_s:
        process.left_s = work_s - burst_s
        return float(burst_s)
    return work_s


@part
def warmed(sim: Any, p: int, work_s: float) -> float:
    """The burst's work, now that the process has a core: as a piece begins, longer by the time since it last had one."""
    process = processes(sim, p)
    if process.cold_s <= 0.0:
        return work_s
    station = stations(sim, process.station)
    more_s = process.cold_s * (factor_after(sim, station, sim.now - process.ran_s) - 1.0)
    process.cold_s = 0.0
    if station.host >= 0:
        station.cpu_s += more_s * hosts(sim, station.host).speed
    else:
        station.cpu_s += more_s
    return first_burst(sim, p, max(0.0, work_s + process.left_s + more_s))


@part
def get_core(sim: Any, i: int) -> None:
    """The task's work goes on from now."""
    task = tasks(sim, i)
    task.work_s = warmed(sim, task.process, task.work_s)
    task.alone_s = sim.now
    task.wake = schedule(sim, task.work_s, whose_task(task.origin), what_of_task(task.path, WAKE), i)


@part
def lose_core(sim: Any, i: int) -> None:
    """The task's process has no core any more, and what is left of its work."""
    task = tasks(sim, i)
    processes(sim, task.process).ran_s = sim.now
    task.work_s = max(0.0, task.work_s - (sim.now - task.alone_s))
    task.wake = 0
