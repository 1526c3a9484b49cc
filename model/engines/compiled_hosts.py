"""Processes and hosts of the compiled engine; what each function means is said in `plain_hosts.py` and `plain_cores.py`.

A process is a row of `processes`. While it works for a task, that task stands for it on the host: in the run queue, which is a
line of tasks, or in the heap of those who share the cores. A task in a run queue has a core if it waits for an event (`wake`).
A task whose work is over stays in its place until another takes it (`start`, `before`) or the process sleeps (`stop`).
"""

from __future__ import annotations

from typing import Any

from model.engines.compiled_cores import first_burst, get_core, lose_core, warmed
from model.engines.compiled_events import MACHINERY, schedule, what_of_machinery
from model.engines.compiled_fair import set_cores_fair, start_fair, stop_fair
from model.engines.compiled_lists import append, join_heap, leave_heap, prepend, take
from model.engines.compiled_tables import hosts, lines, processes, stations, tasks
from model.engines.order import CORES
from model.kernel_cache import part, seldom
from model.tables import CORES_SHARED, FAIR, WAKE_PREEMPTION


@part
def catch_up_host(sim: Any, host: Any) -> None:
    """Time has gone on since the host last changed."""
    step_s = sim.now - host.since_s
    working = host.working
    if host.discipline == CORES_SHARED and working > 0:
        host.virtual_s += step_s * share_of_core(host)
    busy = min(working, host.cores)
    host.busy_area += step_s * busy
    host.queue_area += step_s * (working - busy)
    host.since_s = sim.now


@part
def open_host(sim: Any, host: Any) -> None:
    """Forget the warm-up."""
    catch_up_host(sim, host)
    host.woken = host.preempted = 0
    host.busy_area = host.queue_area = 0.0


@part
def share_of_core(host: Any) -> float:
    """How fast each of those who share the cores gets on."""
    return float(min(1.0, host.cores / host.working))


# ---- processes
@part
def take_process(sim: Any, s: int) -> int:
    """The process that was given back last, or one that never ran."""
    station = stations(sim, s)
    p = station.idle
    if p >= 0:
        station.idle = processes(sim, p).next
    else:
        p = sim.processes_used
        sim.processes_used += 1
        processes(sim, p).station = s
    return int(p)


@part
def demand_of(sim: Any, p: int, work_s: float) -> float:
    """What a piece of work comes to for this process."""
    process = processes(sim, p)
    station = stations(sim, process.station)
    process.cold_s = 0.0
    if station.colds > 0:
        process.cold_s = work_s / hosts(sim, station.host).speed if station.host >= 0 else work_s
    if not process.awake:
        work_s += station.wake_s
    if station.gc_every > 0:
        process.collected += 1
        if process.collected >= station.gc_every:
            process.collected = 0
            work_s += station.gc_pause_s
    station.cpu_s += work_s
    if station.host >= 0:
        work_s /= hosts(sim, station.host).speed
    return work_s


# ---- cores
@part
def run_queue(sim: Any, h: int) -> int:
    """The line that is a host's run queue."""
    return int(sim.run_queues) + h


@part
def take_place(sim: Any, line_index: int, before: int, i: int) -> None:
    """Task i stands where another stood."""
    line, old, new = lines(sim, line_index), tasks(sim, before), tasks(sim, i)
    new.prev, new.next = old.prev, old.next
    if old.prev < 0:
        line.head = i
    else:
        tasks(sim, old.prev).next = i
    if old.next < 0:
        line.tail = i
    else:
        tasks(sim, old.next).prev = i


@part
def plan_host(sim: Any, h: int) -> None:
    """Whose work is done first goes first; what was planned before is void."""
    host = hosts(sim, h)
    host.plan = 0
    if host.root >= 0 and host.cores > 0:
        left_s = max(0.0, (tasks(sim, host.root).work_s - host.virtual_s) / share_of_core(host))
        host.plan = schedule(sim, left_s, MACHINERY, what_of_machinery(h, 0, 0, CORES), h)


@part
def start(sim: Any, i: int, state: int, work_s: float, before: int) -> None:
    """A task's process wakes with this work, or goes on with it where the task `before` stands."""
    task = tasks(sim, i)
    process = processes(sim, task.process)
    process.awake = 1
    station = stations(sim, process.station)
    work_s = first_burst(sim, task.process, work_s)
    task.state, task.work_s, task.wake = state, work_s, 0
    h = station.host
    if h < 0:
        get_core(sim, i)
        return
    host = hosts(sim, h)
    catch_up_host(sim, host)
    host.woken += before < 0
    if host.discipline == CORES_SHARED:
        task.work_s, task.turn = host.virtual_s + warmed(sim, task.process, work_s), host.turns
        host.turns += 1
        host.working += 1
        host.root = join_heap(sim, host.root, i)
        plan_host(sim, h)
        return
    if host.discipline == FAIR:
        start_fair(sim, h, i)
        return
    line = run_queue(sim, h)
    if before >= 0:
        take_place(sim, line, before, i)
        if host.last == before:
            host.last = i
        if tasks(sim, before).wake > 0:
            get_core(sim, i)
    else:
        join_run_queue(sim, host, line, i, station.preempts)


@part
def last_loses(sim: Any, host: Any) -> None:
    """The last in the run queue who has a core has none any more."""
    i = host.last
    lose_core(sim, i)
    host.last = tasks(sim, i).prev


@part
def next_gets(sim: Any, h: int) -> None:
    """The first in the run queue who has no core gets one."""
    host = hosts(sim, h)
    host.last = tasks(sim, host.last).next if host.last >= 0 else lines(sim, run_queue(sim, h)).head
    get_core(sim, host.last)


@part
def join_run_queue(sim: Any, host: Any, line: int, i: int, preempts: int) -> None:
    """A process wakes; `host.last` is the last in the queue who has a core."""
    host.working += 1
    if host.discipline == WAKE_PREEMPTION and preempts:
        prepend(sim, line, i)
        if host.cores > 0:
            if host.working > host.cores:
                host.preempted += 1
                last_loses(sim, host)
            elif host.working == 1:
                host.last = i
            get_core(sim, i)
        return
    append(sim, line, i)
    if host.working <= host.cores:
        host.last = i
        get_core(sim, i)


@part
def drop(sim: Any, i: int) -> None:
    """A task's work is over, or taken back; it keeps its place in a run queue."""
    process = processes(sim, tasks(sim, i).process)
    if process.cold_s <= 0.0:
        process.ran_s = sim.now
    h = stations(sim, process.station).host
    if h >= 0 and hosts(sim, h).discipline == CORES_SHARED:
        host = hosts(sim, h)
        catch_up_host(sim, host)
        host.root = leave_heap(sim, host.root, i)
        host.working -= 1
        if host.working == 0:
            host.virtual_s = 0.0


@part
def stop(sim: Any, i: int) -> None:
    """The process that worked for this task sleeps; the first that waits for a core gets one, if this one had one."""
    task = tasks(sim, i)
    process = processes(sim, task.process)
    process.awake = 0
    h = stations(sim, process.station).host
    if h < 0:
        return
    host = hosts(sim, h)
    if host.discipline == CORES_SHARED:
        plan_host(sim, h)
        return
    catch_up_host(sim, host)
    if host.discipline == FAIR:
        stop_fair(sim, h, task.process)
        return
    if host.last == i:
        host.last = task.prev
    take(sim, run_queue(sim, h), i)
    host.working -= 1
    if task.wake > 0 and host.working >= host.cores:
        next_gets(sim, h)


@seldom
def set_cores(sim: Any, h: int, cores: int) -> None:
    """From now on so many cores."""
    host = hosts(sim, h)
    catch_up_host(sim, host)
    if host.discipline == FAIR:
        set_cores_fair(sim, h, cores)
        return
    before, host.cores = min(host.working, host.cores), cores
    if host.discipline == CORES_SHARED:
        plan_host(sim, h)
        return
    after = min(host.working, cores)
    for _ in range(after, before):
        last_loses(sim, host)
    for _ in range(before, after):
        next_gets(sim, h)
