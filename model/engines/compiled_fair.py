"""Fair hosts of the compiled engine, as Linux shares its cores; what each function means is said in `plain_cores.FairQueue`.

The processes of a host that are here are linked in the order of coming, from `host.root` to `host.last`; one that lingers has no task.
"""

from __future__ import annotations

from typing import Any

from model.engines import order
from model.engines.compiled_cores import get_core, lose_core
from model.engines.compiled_events import MACHINERY, schedule, what_of_machinery
from model.engines.compiled_lists import NONE
from model.engines.compiled_tables import hosts, processes, tasks
from model.engines.order import CORES
from model.kernel_cache import part, seldom

GONE, LINGERS, WAITS, RUNS = range(4)
"""Where a process is."""


until_tick_s = part(order.until_tick_s)


@part
def had_of(sim: Any, p: int) -> float:
    """What the process has had of the cores."""
    process = processes(sim, p)
    if process.place == RUNS:
        return float(process.had_s + (sim.now - tasks(sim, process.task).alone_s))
    return float(process.had_s)


@part
def mean_had(sim: Any, host: Any) -> float:
    """What everybody here has had on the average."""
    total_s, present, p = 0.0, 0, host.root
    while p >= 0:
        total_s += had_of(sim, p)
        present += 1
        p = processes(sim, p).after
    return float(total_s / present)


@part
def leave(sim: Any, host: Any, p: int) -> None:
    """The process is not here any more."""
    process = processes(sim, p)
    if process.before < 0:
        host.root = process.after
    else:
        processes(sim, process.before).after = process.after
    if process.after < 0:
        host.last = process.before
    else:
        processes(sim, process.after).before = process.before
    process.place = GONE
    host.present -= 1


@part
def join(sim: Any, host: Any, p: int) -> None:
    """The process wakes."""
    process = processes(sim, p)
    if process.place == LINGERS:
        if mean_had(sim, host) <= process.had_s:
            process.place = WAITS
            return
        leave(sim, host, p)
        process.owed_s = 0.0
    process.had_s = 0.0
    if host.present > 0:
        process.had_s = mean_had(sim, host) - process.owed_s * float(host.present + 1) / float(host.present)
    process.due_s = process.had_s + host.slice_s
    process.place, process.before, process.after = WAITS, host.last, NONE
    if host.last < 0:
        host.root = p
    else:
        processes(sim, host.last).after = p
    host.last = p
    host.present += 1


@part
def first_of(sim: Any, host: Any, also: int) -> int:
    """Of those without a core, and `also` one with a core, who is owed time and has the earliest deadline; NONE if nobody is there."""
    found, least, due_s, least_s, p = NONE, NONE, 0.0, 0.0, host.root
    mean_s = mean_had(sim, host) if p >= 0 else 0.0
    while p >= 0:
        process = processes(sim, p)
        if process.place != RUNS or p == also:
            had_s = had_of(sim, p)
            if least < 0 or had_s < least_s:
                least, least_s = p, had_s
            if had_s <= mean_s and (found < 0 or process.due_s < due_s):
                found, due_s = p, process.due_s
        p = process.after
    return int(found if found >= 0 else least)


@part
def next_of(sim: Any, host: Any, also: int) -> int:
    """Whose turn it is; who lingers and would have had it goes."""
    p = first_of(sim, host, also)
    while p >= 0 and processes(sim, p).place == LINGERS:
        leave(sim, host, p)
        processes(sim, p).owed_s = 0.0
        p = first_of(sim, host, also)
    return int(p)


@part
def soonest(sim: Any, host: Any) -> int:
    """Whose deadline is reached first of those who run; NONE if nobody does."""
    p, found, least_s = host.root, NONE, 0.0
    while p >= 0:
        process = processes(sim, p)
        if process.place == RUNS:
            left_s = process.due_s - had_of(sim, p)
            if found < 0 or left_s < least_s:
                found, least_s = p, left_s
        p = process.after
    return int(found)


@part
def run_process(sim: Any, host: Any, p: int) -> None:
    """The process has a core."""
    process = processes(sim, p)
    process.place, process.protected = RUNS, 1
    host.running += 1
    get_core(sim, process.task)


@part
def put_out(sim: Any, host: Any, p: int) -> None:
    """The process waits for a core again."""
    process = processes(sim, p)
    process.had_s = had_of(sim, p)
    process.place = WAITS
    host.running -= 1
    lose_core(sim, process.task)


@seldom
def fill_cores(sim: Any, host: Any) -> None:
    """Nobody waits for a core that is free."""
    p = 0
    while host.running < host.cores and p >= 0:
        p = next_of(sim, host, NONE)
        if p >= 0:
            run_process(sim, host, p)


@part
def look(sim: Any, host: Any, woken: int, at_tick: int) -> None:
    """Is it another's turn?"""
    running = soonest(sim, host)
    process = processes(sim, running)
    had_s = had_of(sim, running)
    if at_tick > 0 or had_s >= process.due_s:
        process.due_s, process.protected = had_s + host.slice_s, 0
    if process.protected > 0:
        if had_s <= mean_had(sim, host):
            return
        following = first_of(sim, host, NONE)
        if following != woken:
            return
    else:
        following = next_of(sim, host, running)
    if following >= 0 and following != running:
        host.preempted += 1
        put_out(sim, host, running)
        run_process(sim, host, following)


@part
def plan_tick(sim: Any, h: int) -> None:
    """When one who runs is looked at while another waits; what was planned before is void."""
    host = hosts(sim, h)
    host.plan = 0
    if host.running > 0 and host.working > host.running:
        p = soonest(sim, host)
        left_s = until_tick_s(sim.now, max(0.0, processes(sim, p).due_s - had_of(sim, p)), host.tick_s)
        host.plan = schedule(sim, left_s, MACHINERY, what_of_machinery(h, 0, 0, CORES), h)


@seldom
def tick(sim: Any, h: int) -> None:
    """The planned event of a fair host has come."""
    look(sim, hosts(sim, h), NONE, 1)
    plan_tick(sim, h)


@seldom
def start_fair(sim: Any, h: int, i: int) -> None:
    """The task's process wakes, or goes on with this task where it is."""
    host, p = hosts(sim, h), tasks(sim, i).process
    process = processes(sim, p)
    if process.place == RUNS:
        process.had_s = had_of(sim, p)
        process.task = i
        get_core(sim, i)
        return
    process.task = i
    if process.place == WAITS:
        return
    join(sim, host, p)
    host.working += 1
    if host.running < host.cores:
        fill_cores(sim, host)
    elif host.running > 0:
        look(sim, host, p, 0)
    plan_tick(sim, h)


@seldom
def stop_fair(sim: Any, h: int, p: int) -> None:
    """The process sleeps, but lingers if it has had more than the others; who is next gets its core, if it had one."""
    host, process = hosts(sim, h), processes(sim, p)
    had_s, mean_s, ran = had_of(sim, p), mean_had(sim, host), process.place == RUNS
    if had_s > mean_s:
        process.place = LINGERS
        if had_s >= process.due_s:
            process.due_s = had_s + host.slice_s
    else:
        process.owed_s = min(max(2.0 * host.slice_s, host.tick_s), mean_s - had_s)
        leave(sim, host, p)
    host.working -= 1
    if ran:
        process.had_s = had_s
        host.running -= 1
        fill_cores(sim, host)
    plan_tick(sim, h)


@seldom
def set_cores_fair(sim: Any, h: int, cores: int) -> None:
    """From now on so many cores."""
    host = hosts(sim, h)
    host.cores = cores
    while host.running > cores:
        put_out(sim, host, soonest(sim, host))
    fill_cores(sim, host)
    plan_tick(sim, h)
