"""Hosts: machines whose cores are shared by the processes of several stations.

A station that names a `host` has *processes* for servers: a `Serve` takes one of them as ever, and then its work runs on the
host's cores beside that of every other process there. An event loop is a station of one server: first in, first out within its
process. N database backends are a station of N, each with one query at a time.

A process runs from the moment it has work (it *wakes*) until it finds nobody waiting for it as it finishes (it *sleeps*); who
waits is taken up at once, without giving the core away. The server that was freed last is taken first, as connection pools do.

Which structure predicts a real system, and what each effect was worth in a trial on one core, from the median errors of the mean
response time: stations without a host 51 %, processor sharing among processes 5.6 %, a first-in-first-out run queue 4.4 %, a run queue
whose just-woken database backends pre-empt the application 2.8 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

Discipline: TypeAlias = Literal["fifo", "priority", "processor_sharing"]  # of a station's line
DISCIPLINES: tuple[Discipline, ...] = ("fifo", "priority", "processor_sharing")
HostDiscipline: TypeAlias = Literal["processor_sharing", "fifo", "wake_preemption", "fair"]
HOST_DISCIPLINES: tuple[HostDiscipline, ...] = ("processor_sharing", "fifo", "wake_preemption", "fair")
IdleFactors: TypeAlias = tuple[tuple[float, float], ...]  # (seconds without a core, factor), by rising time


LINUX_TICK_S = 0.004
"""Of a kernel with `CONFIG_HZ=250`."""


def linux_slice_s(cores: int) -> float:
    """The slice of a machine with so many cores: 0.7 ms times 1 + log2(cores), of at most 8 (`base_slice_ns`, kernel/sched/fair.c)."""
    return 0.0007 * (1 + int(math.log2(min(cores, 8))))


@dataclass(frozen=True)
class Host:
    """`cores` that are shared by all processes with work; a `speed` of 2 does the work of two seconds in one.

    - `processor_sharing`: all processes with work get on equally fast, none faster than a core.
    - `fifo`: a run queue; the first `cores` of it run until they have nothing to do, in the order of waking.
    - `wake_preemption`: the same, but a process that wakes goes to the head of the run queue, if its station `preempts`; who
      is pushed out beyond the last core goes on later with what is left of its work.
    - `fair`: as Linux since 6.6 (EEVDF, kernel/sched/fair.c). Who has had less of the cores than those with work on the average is owed
      time; of those the one runs whose deadline is the earliest, and a deadline is `slice_s` more of the cores than it had as it woke or
      as the last one passed. Who runs is looked at as another wakes: it is pre-empted once its deadline has passed, or if it is owed
      nothing and the other comes first. Without that it is looked at by the first tick after its deadline (`tick_s` apart; 0: at
      once). Who sleeps is owed what it was owed as it wakes; who has had more than the others counts among them until it has not.
      `processor_sharing` is its limit for short slices and no ticks.

    A machine that others use as well is not equally fast at all times. Each of `speed_varies`, (coefficient of variation, seconds), is
    a factor by which work takes longer: lognormal with mean 1, drawn anew after exponentially distributed times of that mean. There may
    be several, since some of what others do lasts for moments and some for minutes; work takes their product. What begins between two
    draws is done at one speed.

    What is not in the network, other processes and what the machine below takes, takes a core away: `away_ratio` of the time, for
    exponentially distributed times of mean `away_s` (and as long on the average between them as the ratio says). Meanwhile who ran there
    stands still. In the mean that slows the host as a `speed` of 1 - `away_ratio` does; who meets it waits for all of it.
    """

    name: str
    cores: int = 1
    discipline: HostDiscipline = "processor_sharing"
    speed: float = 1.0
    speed_varies: tuple[tuple[float, float], ...] = ()
    slice_s: float = linux_slice_s(2)
    tick_s: float = LINUX_TICK_S
    away_ratio: float = 0.0
    away_s: float = 0.0


class Processes(Protocol):
    """What a station says of its servers as processes; see `network.Station`."""

    @property
    def name(self) -> str:
        """The station's."""

    @property
    def wake_s(self) -> float:
        """Work of waking."""

    @property
    def cold(self) -> IdleFactors:
        """Work by idle time."""

    @property
    def cpu_burst_s(self) -> float:
        """Of a piece of work between two waits."""

    @property
    def gc_every(self) -> int:
        """Pieces of work between two collections."""

    @property
    def gc_pause_s(self) -> float:
        """Work of a collection."""


def host_fault(host: Host) -> str:
    """What is wrong with a host; empty if nothing is."""
    where = f"host {host.name}"
    if host.cores < 1:
        return f"{where}: cores must be 1 or more, not {host.cores}"
    if host.discipline not in HOST_DISCIPLINES:
        return f"{where}: no discipline {host.discipline!r} (there are: {', '.join(HOST_DISCIPLINES)})"
    if not 0 < host.speed < math.inf:
        return f"{where}: speed must be more than 0, not {host.speed}"
    if not 0 < host.slice_s < math.inf:
        return f"{where}: slice_s must be more than 0, not {host.slice_s}"
    for name in ("tick_s", "away_ratio", "away_s"):
        value = getattr(host, name)
        if not 0 <= value < math.inf:
            return f"{where}: {name} must be 0 or more, not {value}"
    for cv, holds_s in host.speed_varies:
        if not (0 < cv < math.inf and 0 < holds_s < math.inf):
            return f"{where}: speed_varies: a cv and the time for which it holds must be more than 0, not {cv} and {holds_s}"
    if (host.away_ratio > 0) != (host.away_s > 0):
        return f"{where}: away_ratio and away_s belong together; give both or none"
    if host.away_ratio >= 1:
        return f"{where}: away_ratio must be less than 1, not {host.away_ratio}"
    return ""


def processes_fault(station: Processes) -> str:
    """What is wrong with what a station says of its processes; empty if nothing is."""
    where = f"station {station.name}"
    for name in ("wake_s", "cpu_burst_s", "gc_pause_s", "gc_every"):
        value = getattr(station, name)
        if not 0 <= value < math.inf:
            return f"{where}: {name} must be 0 or more, not {value}"
    if (station.gc_every > 0) != (station.gc_pause_s > 0):
        return f"{where}: gc_every and gc_pause belong together; give both or none"
    before_s = -1.0
    for idle_s, factor in station.cold:
        if not 0 <= idle_s < math.inf or idle_s <= before_s:
            return f"{where}: idle times of cold must be 0 or more and rise, {idle_s} does not"
        if not 0 < factor < math.inf:
            return f"{where}: a factor of cold must be more than 0, not {factor}"
        before_s = idle_s
    return ""
