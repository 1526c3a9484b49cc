"""Stations of the compiled engine; what each function means is said at its namesake in `plain_stations.py`.

A task in a station has `place` = the station, `work_s` = the work it brings (with processor sharing: the virtual time at which
its work is done) and `entered_s`.
"""

from __future__ import annotations

from typing import Any

from model.engines.compiled_lists import (
    MACHINERY,
    append,
    join_heap,
    leave_heap,
    schedule,
    take,
    what_of_machinery,
)
from model.engines.compiled_tables import lines, stations, tasks
from model.engines.compiled_tasks import QUEUED, RUNNING, SERVED, SHARED, ready, wake_after
from model.engines.order import SHARE
from model.kernel_cache import part
from model.tables import PRIORITY, PROCESSOR_SHARING


@part
def line_of(sim: Any, s: int, task: Any) -> int:
    """The line in which a task waits: one for each priority class."""
    return 1 + s * int(sim.classes) + (task.priority if stations(sim, s).discipline == PRIORITY else 0)


@part
def rate_of(station: Any) -> float:
    """How fast each of those who share gets on."""
    return float(min(1.0, station.servers / station.present))


@part
def catch_up(sim: Any, station: Any) -> None:
    """Time has gone on since the station last changed."""
    step_s = sim.now - station.since_s
    busy, waiting = station.busy, station.waiting
    if station.discipline == PROCESSOR_SHARING:
        if station.present > 0:
            station.virtual_s += step_s * rate_of(station)
        busy = min(station.present, station.servers)
        waiting = station.present - busy
    station.busy_area += step_s * busy
    station.queue_area += step_s * waiting
    station.capacity_area += step_s * station.servers
    station.since_s = sim.now


@part
def leave(sim: Any, station: Any, task: Any) -> None:
    """A visit is over, one way or another."""
    station.sojourn_s += sim.now - max(task.entered_s, station.window_s)


# ---- first come first served, and by priority
@part
def begin(sim: Any, station: Any, i: int) -> None:
    """Service begins."""
    task = tasks(sim, i)
    station.busy += 1
    wait_s = sim.now - task.entered_s
    station.waits += 1
    station.waited += wait_s > 0
    station.wait_s += wait_s
    wake_after(sim, i, task.work_s, SERVED)


@part
def serve_waiting(sim: Any, s: int) -> None:
    """Free servers take those who wait, the most urgent class first."""
    station = stations(sim, s)
    while station.busy < station.servers and station.waiting > 0:
        line = 1 + s * sim.classes
        while lines(sim, line).head < 0:
            line += 1
        i = lines(sim, line).head
        take(sim, line, i)
        station.waiting -= 1
        begin(sim, station, i)


@part
def complete(sim: Any, i: int) -> None:
    """Service ends."""
    task = tasks(sim, i)
    s = task.place
    station = stations(sim, s)
    catch_up(sim, station)
    leave(sim, station, task)
    station.completed += 1
    station.busy -= 1
    serve_waiting(sim, s)
    ready(sim, i)


# ---- processor sharing, planned in virtual time
@part
def plan(sim: Any, s: int) -> None:
    """Whose work is done first goes first; what was planned before is void."""
    station = stations(sim, s)
    station.plan = 0
    if station.root >= 0 and station.servers > 0:
        left_s = max(0.0, (tasks(sim, station.root).work_s - station.virtual_s) / rate_of(station))
        station.plan = schedule(sim, left_s, MACHINERY, what_of_machinery(s, 0, 0, SHARE), s)


@part
def leave_shared(sim: Any, s: int, i: int) -> None:
    """One fewer shares the station."""
    station = stations(sim, s)
    leave(sim, station, tasks(sim, i))
    station.root = leave_heap(sim, station.root, i)
    station.present -= 1
    if station.present == 0:
        station.virtual_s = 0.0
    plan(sim, s)


@part
def first_done(sim: Any, s: int) -> None:
    """The planned event has come."""
    station = stations(sim, s)
    catch_up(sim, station)
    i = station.root
    task = tasks(sim, i)
    station.completed += 1
    station.waits += 1
    station.wait_s += max(0.0, sim.now - task.entered_s - task.alone_s)
    leave_shared(sim, s, i)
    ready(sim, i)


# ---- all
@part
def enter(sim: Any, s: int, i: int, work_s: float) -> bool:
    """Begin service, or wait for it; False when the waiting room is full."""
    station, task = stations(sim, s), tasks(sim, i)
    catch_up(sim, station)
    station.arrived += 1
    sharing = station.discipline == PROCESSOR_SHARING
    in_line = station.present - station.servers if sharing else station.waiting
    full = sharing or station.busy >= station.servers
    if full and 0 <= station.queue_limit <= in_line:
        station.rejected += 1
        return False
    task.place, task.entered_s, task.work_s = s, sim.now, work_s
    if sharing:
        station.waited += station.present >= station.servers
        task.state, task.alone_s = SHARED, work_s
        task.work_s, task.turn = station.virtual_s + work_s, station.turns
        station.turns += 1
        station.present += 1
        station.root = join_heap(sim, station.root, i)
        plan(sim, s)
    elif full:
        task.state = QUEUED
        station.waiting += 1
        append(sim, line_of(sim, s, task), i)
    else:
        begin(sim, station, i)
    return True


@part
def give_up(sim: Any, i: int) -> None:
    """A task leaves before its service is over."""
    task = tasks(sim, i)
    s, state = task.place, task.state
    station = stations(sim, s)
    catch_up(sim, station)
    station.withdrawn += 1
    task.state, task.wake = RUNNING, 0
    if state == SHARED:
        leave_shared(sim, s, i)
        return
    leave(sim, station, task)
    if state == SERVED:
        station.busy -= 1
        serve_waiting(sim, s)
    else:
        station.waiting -= 1
        take(sim, line_of(sim, s, task), i)


@part
def set_servers(sim: Any, s: int, servers: int) -> None:
    """From now on this many servers."""
    station = stations(sim, s)
    catch_up(sim, station)
    station.servers = servers
    if station.discipline == PROCESSOR_SHARING:
        plan(sim, s)
    else:
        serve_waiting(sim, s)


@part
def open_station(sim: Any, station: Any) -> None:
    """Forget the warm-up."""
    if station.discipline == PROCESSOR_SHARING:
        catch_up(sim, station)
    station.arrived = station.waits = station.waited = station.completed = station.rejected = station.withdrawn = 0
    station.wait_s = station.sojourn_s = station.busy_area = station.queue_area = station.capacity_area = 0.0
    station.present_start = station.busy + station.waiting + station.present
    station.since_s = station.window_s = sim.now
