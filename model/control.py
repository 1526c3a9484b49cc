"""What happens to the platform from outside its traffic: ordinary SimPy processes that act on an engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np
import simpy

from model.hosts import Host
from model.network import Network, Station, suggestion
from model.recording import Recording
from model.scenario import Autoscaling, Fault, FaultKind, Scenario
from model.variates import stream_of

Process = Generator[simpy.Event, None, None]
Act = Callable[[], None]
Course = Sequence[tuple[float, float]]
"""(seconds, how long work takes from then on beside the usual) in order; infinitely long: the cores are away."""


class Controllable(Protocol):
    """What control may do to an engine, stations and topics by number."""

    def set_servers(self, station: int, servers: int, lose_work: bool = False) -> None:
        """A station has this many servers from now on; with `lose_work` those that go lose what they have in hand."""

    def set_speed(self, station: int, factor: float) -> None:
        """A station's servers work at `factor` times their normal speed from now on."""

    def set_cores(self, host: int, cores: int) -> None:
        """A host has this many cores from now on."""

    def flush(self, cache: int) -> None:
        """A cache loses all its entries."""

    def crash(self, topic: int, member: int) -> None:
        """A member of a consumer group dies with its batch."""

    def restore(self, topic: int, member: int) -> None:
        """A member of a consumer group is back."""

    def record(self) -> Recording:
        """Everything up to now."""


GROWTH_LOOK_S = 0.25
"""How often the work of a station that grows is set anew."""

Kind = Callable[[Network, Controllable, Fault], Iterator[tuple[Act, Act]]]


def start(
    scenario: Scenario, network: Network, env: simpy.Environment, engine: Controllable, seed: int, course: Course = ()
) -> None:
    """Start a process for every fault, autoscaler, unsteady host and station that grows. Raises `ValueError` for a bad target.

    `course`: how it went with the hosts, as it was seen, in place of draws from `speed_varies`.
    """
    speeds, cores = _Speeds(engine), _Cores(engine)
    for place, host in enumerate(network.hosts):
        if host.away_ratio > 0:
            env.process(_take_away(env, cores, place, host, stream_of(seed, f"host {host.name} away")))
        here = [number for number, station in enumerate(network.stations) if station.host == host.name]
        if course:
            env.process(_follow(env, cores, speeds, place, host, here, course))
        else:
            for number, (cv, holds_s) in enumerate(host.speed_varies):
                cause = f"host {host.name} speed {number}"
                env.process(_wander(env, speeds, cause, here, cv, holds_s, stream_of(seed, cause)))
    for number, station in enumerate(network.stations):
        if station.growth_per_1k > 0:
            env.process(_grow(env, speeds, engine, number, station))
    kinds: dict[FaultKind, Kind] = {**_KINDS, "slow_server": partial(_slow_server, speeds)}
    for fault in scenario.faults:
        for begin, end in kinds[fault.kind](network, engine, fault):
            env.process(_life(env, fault, begin, end))
    for rule in scenario.autoscaling:
        env.process(_autoscale(env, engine, rule, _station(network, rule.target, "autoscaling")))


class _Speeds:
    """A station's speed is the product of what each cause, a fault, its host or its growth, makes of it."""

    def __init__(self, engine: Controllable) -> None:
        self._engine = engine
        self._factors: dict[int, dict[Hashable, float]] = {}

    def set(self, station: int, cause: Hashable, factor: float) -> None:
        """From now on `cause` makes the station `factor` times as fast."""
        factors = self._factors.setdefault(station, {})
        factors[cause] = factor
        self._engine.set_speed(station, math.prod(factors.values()))


class _Cores:
    """A host has the cores that no cause has taken away."""

    def __init__(self, engine: Controllable) -> None:
        self._engine = engine
        self._taken: dict[tuple[int, str], int] = {}

    def take(self, place: int, host: Host, cause: str, cores: int) -> None:
        """From now on `cause` has so many of the host's cores, the one at this `place`."""
        if self._taken.get((place, cause), 0) != cores:
            self._taken[place, cause] = cores
            taken = sum(count for (where, _), count in self._taken.items() if where == place)
            self._engine.set_cores(place, max(host.cores - taken, 0))


def _wander(
    env: simpy.Environment, speeds: _Speeds, cause: str, stations: list[int], cv: float, holds_s: float, stream: int
) -> Process:
    rng = np.random.default_rng(stream)
    sigma = math.sqrt(math.log1p(cv**2))
    while True:
        takes = math.exp(rng.normal(-(sigma**2) / 2, sigma))
        for station in stations:
            speeds.set(station, cause, 1 / takes)
        yield env.timeout(rng.exponential(holds_s))


def _follow(
    env: simpy.Environment, cores: _Cores, speeds: _Speeds, place: int, host: Host, stations: list[int], course: Course
) -> Process:
    for at_s, takes in course:
        yield env.timeout(max(at_s - env.now, 0.0))
        cores.take(place, host, "course", 0 if takes < math.inf else host.cores)
        for station in stations if takes < math.inf else ():
            speeds.set(station, host, 1 / takes)


def _take_away(env: simpy.Environment, cores: _Cores, place: int, host: Host, stream: int) -> Process:
    """Away and there in turn; each is exponential, and the first begins as if it had gone on for ever."""
    rng = np.random.default_rng(stream)
    there_s = host.away_s * (1 - host.away_ratio) / host.away_ratio
    away = rng.random() < host.away_ratio
    while True:
        cores.take(place, host, "others", int(away))
        yield env.timeout(rng.exponential(host.away_s if away else there_s))
        away = not away


def _grow(env: simpy.Environment, speeds: _Speeds, engine: Controllable, number: int, station: Station) -> Process:
    """The more visits a station has had, the longer its work takes; a warm-up's end sets its counts back, not its work."""
    visits, before = 0, 0
    while True:
        yield env.timeout(GROWTH_LOOK_S)
        completed = int(engine.record().stations[number]["completed"])
        visits += completed - before if completed >= before else completed
        before = completed
        speeds.set(number, station, 1 / (1 + station.growth_per_1k * visits / 1000))


def _life(env: simpy.Environment, fault: Fault, begin: Act, end: Act) -> Process:
    yield env.timeout(fault.at_s)
    begin()
    if fault.back_after_s is not None:
        yield env.timeout(fault.back_after_s)
        end()


def _station(network: Network, name: str, where: str = "faults") -> int:
    names = network.names("stations")
    if name not in names:
        raise ValueError(f"{where}: no station {name!r}{suggestion(name, names)}")
    return names.index(name)


def _group(network: Network, name: str) -> int:
    for number, topic in enumerate(network.topics):
        if name in (topic.name, topic.workers):
            return number
    groups = [name for topic in network.topics for name in (topic.name, topic.workers) if name is not None]
    raise ValueError(f"faults: no consumer group {name!r}{suggestion(name, groups)}")


# ---- each kind gives what it does at the beginning and at the end
def _consumer_crash(network: Network, engine: Controllable, fault: Fault) -> Iterator[tuple[Act, Act]]:
    topic = _group(network, fault.target)
    members = network.topics[topic].consumers
    if not 0 <= fault.member < members:
        raise ValueError(f"faults: {fault.target} has members 0 to {members - 1}, no member {fault.member}")
    yield partial(engine.crash, topic, fault.member), partial(engine.restore, topic, fault.member)


def _capacity(network: Network, engine: Controllable, fault: Fault) -> Iterator[tuple[Act, Act]]:
    station = _station(network, fault.target)
    normal = network.stations[station].servers
    yield partial(engine.set_servers, station, fault.servers), partial(engine.set_servers, station, normal)


def _server_crash(network: Network, engine: Controllable, fault: Fault) -> Iterator[tuple[Act, Act]]:
    station = _station(network, fault.target)
    normal = network.stations[station].servers
    yield (
        partial(engine.set_servers, station, fault.servers, lose_work=True),
        partial(engine.set_servers, station, normal),
    )


def _slow_server(speeds: _Speeds, network: Network, _engine: Controllable, fault: Fault) -> Iterator[tuple[Act, Act]]:
    station = _station(network, fault.target)
    yield partial(speeds.set, station, fault, fault.speed), partial(speeds.set, station, fault, 1.0)


def _cache_flush(network: Network, engine: Controllable, fault: Fault) -> Iterator[tuple[Act, Act]]:
    names = network.names("caches")
    if fault.target not in names:
        raise ValueError(f"faults: no cache {fault.target!r}{suggestion(fault.target, names)}")
    flush = partial(engine.flush, names.index(fault.target))
    yield flush, flush


def _zone_loss(network: Network, engine: Controllable, fault: Fault) -> Iterator[tuple[Act, Act]]:
    for name in fault.targets:
        if name in network.names("stations"):
            normal = network.stations[_station(network, name)].servers
            left = normal - lost_servers(normal, fault.share_ratio)
            yield from _server_crash(network, engine, replace(fault, target=name, servers=left))
        else:
            members = network.topics[_group(network, name)].consumers
            for member in range(members - lost_servers(members, fault.share_ratio), members):
                yield from _consumer_crash(network, engine, replace(fault, target=name, member=member))


def lost_servers(servers: int, share_ratio: float) -> int:
    """How many of some servers are in a zone that holds a share of them, rounded up: a zone has no halves of machines."""
    return math.ceil(servers * share_ratio - 1e-9)


_KINDS: dict[FaultKind, Kind] = {
    "consumer_crash": _consumer_crash,
    "capacity": _capacity,
    "server_crash": _server_crash,
    "cache_flush": _cache_flush,
    "zone_loss": _zone_loss,
}


# ---- autoscaling
def wanted_servers(servers: int, busy_ratio: float, rule: Autoscaling) -> int:
    """Servers for a rule's utilisation: ceil(servers * seen / wanted), the rule of Kubernetes' Horizontal Pod Autoscaler."""
    wanted = math.ceil(servers * busy_ratio / rule.utilisation - 1e-9)
    return min(max(wanted, rule.least), rule.most)


def _autoscale(env: simpy.Environment, engine: Controllable, rule: Autoscaling, station: int) -> Process:
    """Look, decide, wait until the new servers are up, cool down. What was begun on a server that goes is finished there."""
    before = (0.0, 0.0)
    resting_until_s = 0.0
    while True:
        yield env.timeout(rule.interval_s)
        row = engine.record().stations[station]
        seen = (float(row["busy_area"]), float(row["capacity_area"]))
        busy_s, capacity_s = seen[0] - before[0], seen[1] - before[1]
        before = seen
        if capacity_s <= 0 or busy_s < 0 or env.now < resting_until_s:  # the warm-up has just ended, or it rests
            continue
        servers = int(row["servers"])
        wanted = wanted_servers(servers, busy_s / capacity_s, rule)
        if wanted != servers:
            yield env.timeout(rule.delay_s if wanted > servers else 0.0)
            engine.set_servers(station, wanted)
            resting_until_s = env.now + rule.cooldown_s
            row = engine.record().stations[station]
            before = (float(row["busy_area"]), float(row["capacity_area"]))
