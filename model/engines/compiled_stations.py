"""Stations of the compiled engine; what each function means is said at its namesake in `plain_stations.py`.

A task in a station has `place` = the station, `work_s` = the work it brings (with processor sharing: the virtual time at which
its work is done) and `entered_s`.
"""

from __future__ import annotations

from typing import Any

from model.engines.compiled_events import MACHINERY, schedule, what_of_machinery
from model.engines.compiled_fair import tick
from model.engines.compiled_features import HOSTS, SHARING
from model.engines.compiled_hosts import catch_up_host, demand_of, drop, start, stop, take_process
from model.engines.compiled_lists import NONE, append, join_heap, leave_heap, take, take_first
from model.engines.compiled_tables import hosts, lines, processes, stations, tasks
from model.engines.compiled_tasks import ON_HELD, QUEUED, RUNNING, SERVED, SHARED, WORKING, ready, wake_after
from model.engines.order import SHARE
from model.kernel_cache import always, part, seldom
from model.tables import FAIR, PRIORITY, PROCESSOR_SHARING

TO_HOLD = -2  # the `process` of a task that waits for a server to hold


@part
def line_of(sim: Any, s: int, task: Any) -> int:
    """The line in which a task waits: one for each priority class."""
    return 1 + s * int(sim.classes) + (task.priority if stations(sim, s).discipline == PRIORITY else 0)


@part
def rate_of(station: Any) -> float:
    """How fast each of those who share gets on."""
    return float(min(1.0, station.servers / station.present) * station.speed)


@part
def catch_up(sim: Any, station: Any) -> None:
    """Time has gone on since the station last changed."""
    step_s = sim.now - station.since_s
    busy, waiting = station.busy, station.waiting
    if SHARING and station.discipline == PROCESSOR_SHARING:
        if station.present > 0:
            station.virtual_s += step_s * rate_of(station)
        busy = min(station.present, station.servers)
        waiting = station.present - busy
    station.busy_area += step_s * busy
    station.queue_area += step_s * waiting
    station.since_s = sim.now


@part
def catch_up_all(sim: Any, station: Any) -> None:
    """The same, and how long there have been so many servers: that is counted only when they change or somebody asks."""
    catch_up(sim, station)
    station.capacity_area += (sim.now - station.counted_s) * station.servers
    station.counted_s = sim.now


@part
def leave(sim: Any, station: Any, task: Any) -> None:
    """A visit is over, one way or another."""
    station.sojourn_s += sim.now - max(task.entered_s, station.window_s)


# ---- first come first served, and by priority
@part
def count_wait(station: Any, task: Any, wait_s: float) -> None:
    """Another server is busy, and the wait for it is over."""
    station.busy += 1
    station.waits += 1
    if wait_s > 0.0:
        station.waited += 1
        station.wait_s += wait_s
    task.begun = station.begun
    station.begun += 1


@part
def begin(sim: Any, s: int, i: int, wait_s: float) -> None:
    """Service begins."""
    station = stations(sim, s)
    if HOSTS and station.tracked:
        employ(sim, s, i, NONE, NONE)
        return
    task = tasks(sim, i)
    count_wait(station, task, wait_s)
    wake_after(sim, i, at_speed(station, task.work_s), SERVED)


@part
def at_speed(station: Any, work_s: float) -> float:
    """How long work takes. Mostly it need not be divided, which takes longest of all that happens to it."""
    return float(work_s if station.speed == 1.0 else work_s / station.speed)


@part
def next_waiting(sim: Any, s: int) -> int:
    """Take the first who waits, of the most urgent class."""
    station = stations(sim, s)
    station.waiting -= 1
    first = 1 + s * int(sim.classes)
    return take_first(sim, lines(sim, most_urgent(sim, station, first) if station.discipline == PRIORITY else first))


@seldom
def most_urgent(sim: Any, station: Any, first: int) -> int:
    """The line of the most urgent class, of those from `first` on; with ageing, whose first has the most urgent rank."""
    line = first
    while lines(sim, line).head < 0:
        line += 1
    if station.ageing_s > 0.0:
        best_s = tasks(sim, lines(sim, line).head).entered_s + (line - first) * station.ageing_s
        for other in range(line + 1, first + sim.classes):
            head = lines(sim, other).head
            if head >= 0:
                rank_s = tasks(sim, head).entered_s + (other - first) * station.ageing_s
                if rank_s < best_s:
                    line, best_s = other, rank_s
    return int(line)


@always
def serve_next(sim: Any, s: int) -> bool:
    """A free server takes who waits; False if there is no such server or nobody waits."""
    station = stations(sim, s)
    if station.waiting <= 0 or station.busy >= station.servers:
        return False
    i = next_waiting(sim, s)
    begin(sim, s, i, sim.now - tasks(sim, i).entered_s)
    return True


@seldom
def serve_waiting(sim: Any, s: int) -> None:
    """Free servers take those who wait."""
    while serve_next(sim, s):
        continue


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
    serve_next(sim, s)
    ready(sim, i)


# ---- servers that are processes, or are held
@seldom
def employ(sim: Any, s: int, i: int, p: int, before: int) -> None:
    """A task gets a process: p, which has just worked for the task `before` if that is one, or an idle one if p is none."""
    station, task = stations(sim, s), tasks(sim, i)
    count_wait(station, task, sim.now - task.entered_s)
    if p < 0:
        p = take_process(sim, s)
    if task.process == TO_HOLD:
        if before >= 0:
            stop(sim, before)
        process = processes(sim, p)
        process.held, process.entered_s, process.next = 1, task.entered_s, task.held
        task.held = p
        ready(sim, i)
    else:
        task.process = p
        start(sim, i, WORKING, demand_of(sim, p, task.work_s / station.speed), before)


@seldom
def free_process(sim: Any, s: int, p: int, before: int) -> None:
    """A process is free: who waits is taken up at once, else it sleeps."""
    station = stations(sim, s)
    station.busy -= 1
    if station.busy < station.servers and station.waiting > 0:
        employ(sim, s, next_waiting(sim, s), p, before)
        serve_waiting(sim, s)
        return
    if before >= 0:
        stop(sim, before)
    processes(sim, p).next = station.idle
    station.idle = p


@seldom
def worked(sim: Any, i: int) -> None:
    """A process has done its work for a task."""
    task = tasks(sim, i)
    drop(sim, i)
    left_s = processes(sim, task.process).left_s
    if left_s > 0:
        stop(sim, i)
        start(sim, i, task.state, left_s, NONE)
        return
    if task.state == ON_HELD:
        stop(sim, i)
    else:
        s = task.place
        station = stations(sim, s)
        catch_up(sim, station)
        leave(sim, station, task)
        station.completed += 1
        free_process(sim, s, task.process, i)
    ready(sim, i)


@seldom
def cores_done(sim: Any, h: int) -> None:
    """The planned event of a host has come."""
    host = hosts(sim, h)
    if host.discipline == FAIR:
        catch_up_host(sim, host)
        tick(sim, h)
    else:
        worked(sim, host.root)


@seldom
def work_on_held(sim: Any, i: int, s: int, work_s: float) -> None:
    """Work on the server of station s that the task holds, without waiting."""
    task = tasks(sim, i)
    p = task.held
    while processes(sim, p).station != s:
        p = processes(sim, p).next
    task.process = p
    start(sim, i, ON_HELD, demand_of(sim, p, work_s / stations(sim, s).speed), NONE)


@seldom
def release(sim: Any, i: int, ended: bool) -> None:
    """The server that was taken last is held no more, because the steps have `ended`, or because their task gave up."""
    task = tasks(sim, i)
    p = task.held
    process = processes(sim, p)
    s = process.station
    station = stations(sim, s)
    catch_up(sim, station)
    task.held, process.held = process.next, 0
    station.sojourn_s += sim.now - max(process.entered_s, station.window_s)
    station.completed += ended
    station.withdrawn += not ended
    free_process(sim, s, p, NONE)


@seldom
def release_down_to(sim: Any, i: int, kept: int) -> None:
    """Give up the servers held, those from `kept` on apart."""
    while tasks(sim, i).held != kept:
        release(sim, i, False)


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
def turned_away(station: Any, task: Any, in_line: int) -> bool:
    """Is there no room for one more, or none for a task as unimportant?"""
    sheds = 0 <= station.shed_above <= in_line and task.priority >= station.shed_class
    return bool(sheds or 0 <= station.queue_limit <= in_line)


@part
def enter(sim: Any, s: int, i: int, work_s: float, process: int) -> bool:
    """Begin service or hold a server (`process` says which), or wait for one; False when the waiting room is full."""
    station, task = stations(sim, s), tasks(sim, i)
    catch_up(sim, station)
    station.arrived += 1
    sharing = SHARING and station.discipline == PROCESSOR_SHARING
    full = sharing or station.busy >= station.servers
    if full and turned_away(station, task, station.present - station.servers if sharing else station.waiting):
        station.rejected += 1
        return False
    task.place, task.entered_s, task.work_s = s, sim.now, work_s
    if HOSTS:
        task.process = process
    if SHARING and sharing:
        station.waited += station.present >= station.servers
        task.state, task.alone_s = SHARED, work_s
        task.work_s, task.turn, task.begun = station.virtual_s + work_s, station.turns, station.turns
        station.turns += 1
        station.present += 1
        station.root = join_heap(sim, station.root, i)
        plan(sim, s)
    elif full:
        task.state = QUEUED
        station.waiting += 1
        append(sim, line_of(sim, s, task), i)
    else:
        begin(sim, s, i, 0.0)
    return True


@part
def give_up(sim: Any, i: int) -> None:
    """A task leaves before its service is over."""
    task = tasks(sim, i)
    s, state = task.place, task.state
    if HOSTS and state == ON_HELD:
        drop(sim, i)
        stop(sim, i)
        return
    station = stations(sim, s)
    catch_up(sim, station)
    station.withdrawn += 1
    if HOSTS and state == WORKING:
        leave(sim, station, task)
        drop(sim, i)
        free_process(sim, s, task.process, i)
        return
    task.state, task.wake = RUNNING, 0
    if SHARING and state == SHARED:
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
    catch_up_all(sim, station)
    station.servers = servers
    if SHARING and station.discipline == PROCESSOR_SHARING:
        plan(sim, s)
    else:
        serve_waiting(sim, s)


@part
def set_speed(sim: Any, s: int, factor: float) -> None:
    """What begins from now on, or what is shared, is done at this speed."""
    station = stations(sim, s)
    catch_up(sim, station)
    station.speed = factor
    if SHARING and station.discipline == PROCESSOR_SHARING:
        plan(sim, s)


@part
def open_station(sim: Any, station: Any) -> None:
    """Forget the warm-up."""
    if SHARING and station.discipline == PROCESSOR_SHARING:
        catch_up(sim, station)
    station.arrived = station.waits = station.waited = station.completed = station.rejected = station.withdrawn = 0
    station.wait_s = station.sojourn_s = station.busy_area = station.queue_area = station.capacity_area = station.cpu_s = 0.0
    station.present_start = station.busy + station.waiting + station.present
    station.since_s = station.counted_s = station.window_s = sim.now
