"""What can be given more of: the servers of stations and the members of consumer groups, and what closed forms say of each.

Scenarios are changed here, never run: another capacity, a faster station, another load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from model import network as net
from model import platform
from model.offered_load import OfferedLoad
from model.queueing_theory import asymptotic_bounds, closed_network, erlang_c
from model.scenario import DeclaredNetwork, Scenario

_MOST_USERS = 400  # for exact mean-value analysis, whose cost grows with their square


@dataclass(frozen=True)
class Capacity:
    """Servers of a station, or members of a consumer group of which at most `most` (the partitions) can work.

    `least` and `most_load` bound the offered load, in busy servers.
    """

    name: str
    kind: str  # "station" or "consumers"
    servers: int
    least: float
    most_load: float
    most: int | None = None

    @property
    def too_few(self) -> int:
        """The largest number of servers that can't hold whatever happens: the offered load is as much or more."""
        return math.floor(self.least) if math.isfinite(self.least) else 2**31

    @property
    def utilisation_ratio(self) -> float:
        """The least utilisation, by the utilisation law."""
        return self.least / self.servers

    @property
    def wait_probability(self) -> float | None:
        """Erlang C: exact for Poisson arrivals and exponential service, a first guess otherwise. None if overloaded."""
        return erlang_c(self.least, self.servers) if self.least < self.servers else None

    @property
    def wait_in_services(self) -> float | None:
        """The mean wait of M/M/c, in mean service times; None if overloaded."""
        waiting = self.wait_probability
        return None if waiting is None else waiting / (self.servers - self.least)


def capacities(scenario: Scenario, loads: Sequence[OfferedLoad]) -> list[Capacity]:
    """Every station and consumer group of a scenario, with its offered load."""
    network = platform.build_network(scenario)
    stations = {station.name: station for station in network.stations}
    topics = {topic.name: topic for topic in network.topics}
    found = []
    for load in loads:
        if load.kind == "station":
            found.append(Capacity(load.name, "station", stations[load.name].servers, load.least, load.most))
        elif load.kind == "consumers":
            topic = topics[load.name]
            members = min(topic.consumers, topic.partitions)
            name = topic.workers or topic.name
            if scenario.declared is None and name not in scenario.stations:
                continue  # nothing in the scenario says how many there are
            found.append(Capacity(name, "consumers", members, load.least, load.most, topic.partitions))
    return found


def with_servers(scenario: Scenario, servers: Mapping[str, int]) -> Scenario:
    """The scenario with other numbers of servers or members, by the names of `capacities`."""
    if scenario.declared is None:
        changed = {name: replace(scenario.stations[name], servers=count) for name, count in servers.items()}
        return replace(scenario, stations={**scenario.stations, **changed})
    network = scenario.declared.network
    network = replace(
        network,
        stations=tuple(replace(one, servers=servers.get(one.name, one.servers)) for one in network.stations),
        topics=tuple(
            replace(one, consumers=servers.get(one.workers or one.name, one.consumers)) for one in network.topics
        ),
    )
    return replace(scenario, declared=DeclaredNetwork(network, scenario.declared.arrivals))


def with_faster(scenario: Scenario, station: str, factor: float) -> Scenario:
    """The scenario with every service time of a station times `factor`.

    In the platform these are the service times and costs whose names begin with the station's.
    """
    if scenario.declared is None:
        prefix = f"{station}_"
        times = {
            name: one.scaled(factor) if name.startswith(prefix) else one
            for name, one in scenario.service_times.items()
        }
        costs_s = {
            name: cost_s * (factor if name.startswith(prefix) else 1.0) for name, cost_s in scenario.costs_s.items()
        }
        return replace(scenario, service_times=times, costs_s=costs_s)

    def change(steps: net.Steps) -> net.Steps:
        return tuple(_faster(step, station, factor, change) for step in steps)

    network = scenario.declared.network
    network = replace(
        network,
        operations=tuple(replace(one, steps=change(one.steps)) for one in network.operations),
        topics=tuple(replace(one, steps=change(one.steps)) for one in network.topics),
    )
    return replace(scenario, declared=DeclaredNetwork(network, scenario.declared.arrivals))


def _faster(step: net.Step, station: str, factor: float, change: Any) -> net.Step:
    match step:
        case net.Serve() if step.station == station:
            per = {name: cost_s * factor for name, cost_s in step.per.items()}
            return replace(step, time=step.time.scaled(factor), per=per)
        case net.Lookup():
            return replace(step, hit=change(step.hit), miss=change(step.miss))
        case net.Branch():
            return replace(step, arms=tuple(replace(arm, steps=change(arm.steps)) for arm in step.arms))
        case net.Scatter() | net.Hold():
            return replace(step, steps=change(step.steps))
        case net.Acquire():
            return replace(step, otherwise=change(step.otherwise))
        case net.Try():
            return replace(step, steps=change(step.steps), otherwise=change(step.otherwise))
    return step


def with_load(scenario: Scenario, load_factor: float) -> Scenario:
    """The scenario at another load; one-off events stay as they are."""
    return replace(scenario, run=replace(scenario.run, load_factor=load_factor))


def saturation_load_factor(scenario: Scenario, loads: Sequence[OfferedLoad]) -> float:
    """The load factor at which some part's least offered load is its capacity: no higher one can hold for long.

    The asymptotic bound of operational analysis (Lazowska et al., ch. 5); `inf` if nothing is asked of anything.
    """
    headrooms = [load.capacity / load.least for load in loads if load.least > 0]
    return scenario.run.load_factor * min(headrooms, default=math.inf)


def closed_users(scenario: Scenario, loads: Sequence[OfferedLoad]) -> dict[str, float] | str:
    """The same load by users who think between requests: exact mean-value analysis and asymptotic bounds, where they apply.

    As many users as bring the scenario's rate without queueing. Says why if the network has no product form.
    """
    network, rate_per_s = platform.build_network(scenario), sum(platform.arrival_rates(scenario).values())
    reason = _no_product_form(network)
    if reason or not rate_per_s:
        return reason or "there are no arrivals"
    rows = [(load.least / rate_per_s, int(load.capacity)) for load in loads if load.least > 0]
    if not rows:
        return "no station is visited"
    demands_s, servers = [row[0] for row in rows], [row[1] for row in rows]
    think_s = scenario.load.think_time_s
    users = max(1, round(rate_per_s * (think_s + sum(demands_s))))
    if users > _MOST_USERS:
        return f"{users:,} users are too many for the exact recursion"
    exact = closed_network(demands_s, users, think_s, servers)
    bounds = asymptotic_bounds([d / c for d, c in rows], users, think_s + sum(d - d / c for d, c in rows))
    return {
        "users": users,
        "think_s": think_s,
        "throughput_per_s": exact.throughput_per_s,
        "response_s": exact.response_s,
        "throughput_max_per_s": bounds.throughput_max_per_s,
        "saturation_users": bounds.saturation_users,
    }


def _no_product_form(network: net.Network) -> str:
    """Why mean-value analysis would not be exact for a network; empty if it is (Baskett et al. 1975)."""
    for kind in ("topics", "caches", "quotas", "hosts"):
        if getattr(network, kind):
            return f"the network has {kind}"
    stations = {station.name: station for station in network.stations}
    means_s: dict[str, set[float]] = {}
    for operation in network.operations:
        for step in net.walk(operation.steps):
            if isinstance(step, net.Scatter | net.Try | net.Fail | net.Delay | net.Hold):
                return f"{operation.name} has a {type(step).__name__.lower()} step"
            if isinstance(step, net.Serve):
                station = stations[step.station]
                if station.cold or station.wake_s or station.gc_every:
                    return f"the service of station {station.name} depends on what its servers did before"
                if station.queue_limit is not None or station.shed_above is not None or station.discipline == "priority":
                    return f"station {station.name} has a queue limit or priorities"
                means_s.setdefault(station.name, set()).add(step.time.mean_s)
                if station.discipline == "fifo" and (
                    step.time.name != "exponential" or step.per or len(means_s[station.name]) > 1
                ):
                    return f"station {station.name} is first in first out, and not with one exponential service time"
    return ""
