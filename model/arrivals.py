"""Open arrivals: when each request of a run comes, of which operation, by whom, and with which attributes.

Every operation has streams of its own, named after it, so that changing one operation's rate moves no other's arrivals.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from model import platform, workload
from model.distributions import Distribution, exponential
from model.network import Network
from model.part import Floats, Ids
from model.population import FollowGraph
from model.scenario import Event, Scenario
from model.variates import draw_many, stream_of


@dataclass(frozen=True)
class Schedule:
    """Requests in order of time. `gap_s[i]` is the time since the request before; attributes: one column per name."""

    gap_s: Floats
    operation: np.ndarray  # i4, an index into the network's operations
    user: Ids
    attributes: np.ndarray  # f8, shape (requests, attributes)


def draws(distribution: Distribution, seed: int, stream: str, first: int, count: int) -> Floats:
    """`count` variates of a named stream, beginning with number `first`."""
    values = np.array(distribution.values or (0.0,))
    code, a, b, c = distribution.code, distribution.a, distribution.b, distribution.c
    return np.asarray(draw_many(values, code, a, b, c, len(distribution.values), stream_of(seed, stream), first, count))


def uniforms(seed: int, stream: str, count: int) -> Floats:
    """`count` uniforms of a named stream."""
    return np.exp(-draws(exponential(1.0), seed, stream, 0, count))


def renewal_times(interarrival: Distribution, seed: int, stream: str, until_s: float) -> Floats:
    """Instants of a renewal process up to `until_s`. Raises `ValueError` for gaps that are all zero."""
    if not interarrival.mean_s > 0:
        raise ValueError(f"{stream}: a gap between arrivals must have a mean above 0")
    expected = until_s / interarrival.mean_s if np.isfinite(interarrival.mean_s) else 1000.0
    block = int(expected + 6 * np.sqrt(expected * max(1.0, min(interarrival.cv, 10.0))) + 16)
    pieces: list[Floats] = []
    first, now_s = 0, 0.0
    while now_s < until_s:
        gaps = draws(interarrival, seed, stream, first, block)
        pieces.append(np.asarray(now_s + np.cumsum(gaps)))
        now_s, first = float(pieces[-1][-1]), first + block
    times: Floats = np.concatenate([*pieces, np.zeros(0)])
    return times[: np.searchsorted(times, until_s)]


class _Plan:
    """Arrivals as they are gathered, operation by operation."""

    def __init__(self, scenario: Scenario, network: Network, graph: FollowGraph | None, seed: int) -> None:
        self.scenario, self.network, self.graph, self.seed = scenario, network, graph, seed
        self.people = graph.users if graph is not None else 1
        self.names = network.names("operations")
        self.times: list[Floats] = []
        self.operations: list[np.ndarray] = []
        self.users: list[Ids] = []
        self.attributes: list[np.ndarray] = []

    def add(self, name: str, at_s: Floats, who: Ids, stream: str, *, newest: bool = False) -> None:
        """Requests of one operation; with `newest` all of them are about the newest post."""
        chosen = np.zeros(len(who)) if newest else uniforms(self.seed, f"posts of {stream}", len(who))
        found = _attributes(self.scenario, self.graph, name, who, self.seed, stream, chosen)
        self.add_rows(name, at_s, who, found)

    def add_rows(self, name: str, at_s: Floats, who: Ids, attributes: Mapping[str, Floats]) -> None:
        """The same with the attributes given."""
        table = np.zeros((len(at_s), len(self.network.attributes)))
        for attribute, values in attributes.items():
            table[:, self.network.attributes.index(attribute)] = values
        self.times.append(at_s)
        self.operations.append(np.full(len(at_s), self.names.index(name), "i4"))
        self.users.append(who)
        self.attributes.append(table)

    def anybody(self, stream: str, count: int) -> Ids:
        """Users drawn evenly."""
        return (uniforms(self.seed, f"users of {stream}", count) * self.people).astype(np.int64)

    def open_arrivals(self) -> None:
        """By rate, along the course of the day and the surges."""
        scenario, seed = self.scenario, self.seed
        sessions = scenario.workload.sessions and scenario.declared is None
        for name, rate_per_s in platform.arrival_rates(scenario).items():
            if not rate_per_s > 0 or (sessions and name in workload.FOLLOW_UPS):
                continue
            gap = exponential(1 / rate_per_s) if scenario.declared is None else _declared_gap(scenario, name)
            course, stream = workload.course(scenario, name), f"arrivals of {name}"
            if course is None:
                at_s = renewal_times(gap, seed, stream, scenario.run.duration_s)
            else:
                at_s = course.instants(renewal_times(gap, seed, stream, float(course.cumulated_s[-1])))
            self.add(name, at_s, self.anybody(name, len(at_s)), name)
            if sessions and name == "feed.open":
                self.sessions(at_s, self.users[-1])

    def sessions(self, opened_s: Floats, openers: Ids) -> None:
        """What those who opened their feeds do next."""
        rates_per_s = platform.arrival_rates(self.scenario)
        for name in workload.FOLLOW_UPS:
            mean = rates_per_s[name] / rates_per_s["feed.open"]
            dwell_s, end_s = self.scenario.workload.dwell_s, self.scenario.run.duration_s
            found = workload.follow_up(name, opened_s, mean, dwell_s, end_s, self.seed)
            self.add(name, found.at_s, openers[found.opening], name)

    def trace(self, path: str) -> None:
        """Arrivals from a file; attributes that it does not give are drawn."""
        found = workload.read_trace(path, self.names, self.network.attributes)
        within = found.at_s < self.scenario.run.duration_s
        for name in sorted(set(found.operation[within].tolist())):
            chosen = within & (found.operation == name)
            who = found.user[chosen] % self.people
            posts = uniforms(self.seed, f"posts of {name}", len(who))
            drawn = _attributes(self.scenario, self.graph, name, who, self.seed, name, posts)
            given = {key: values[chosen] for key, values in found.attributes.items()}
            self.add_rows(name, found.at_s[chosen], who, {**drawn, **given})

    def one_offs(self) -> None:
        """Events and cascades."""
        for number, event in enumerate(self.scenario.events):
            offsets_s = (np.arange(event.count) + 0.5) * (event.over_s / event.count)
            who = np.full(event.count, _person(event, self.graph), np.int64)
            self.add(event.operation, np.asarray(event.at_s + offsets_s), who, f"{event.operation} of event {number}")
        for number, cascade in enumerate(self.scenario.cascades):
            stream = f"{cascade.operation} of cascade {number}"
            at_s = workload.cascade_times(cascade, self.scenario.run.duration_s, self.seed, stream)
            self.add(cascade.operation, at_s, self.anybody(stream, len(at_s)), stream, newest=True)


def schedule(scenario: Scenario, network: Network, graph: FollowGraph | None, seed: int) -> Schedule:
    """All arrivals of a run but those of closed users. `graph` is needed for the platform, not for a declared network."""
    plan = _Plan(scenario, network, graph, seed)
    if scenario.workload.trace is None:
        plan.open_arrivals()
    else:
        plan.trace(scenario.workload.trace)
    plan.one_offs()
    if not plan.times:
        return Schedule(np.zeros(0), np.zeros(0, "i4"), np.zeros(0, np.int64), np.zeros((0, len(network.attributes))))
    all_times = np.concatenate(plan.times)
    order = np.argsort(all_times, kind="stable")
    gaps = np.diff(all_times[order], prepend=0.0)
    operations, users = np.concatenate(plan.operations), np.concatenate(plan.users)
    return Schedule(gaps, operations[order], users[order], np.concatenate(plan.attributes)[order])


def _declared_gap(scenario: Scenario, name: str) -> Distribution:
    assert scenario.declared is not None
    return scenario.declared.arrivals[name].interarrival.scaled(1 / scenario.run.load_factor)


def _attributes(
    scenario: Scenario, graph: FollowGraph | None, name: str, who: Ids, seed: int, stream: str, chosen: Floats
) -> dict[str, Floats]:
    if scenario.declared is not None:
        named = scenario.declared.arrivals[name].attributes if name in scenario.declared.arrivals else {}
        return {key: draws(item, seed, f"{key} of {stream}", 0, len(who)) for key, item in named.items()}
    assert graph is not None
    return dict(platform.request_attributes(scenario, graph, name, who, chosen))


def _person(event: Event, graph: FollowGraph | None) -> int:
    """The user an event names: a number, or "celebrity:K", the one with the K-th most followers (0 the most)."""
    if graph is None:
        return 0
    if isinstance(event.user, int):
        if not 0 <= event.user < graph.users:
            raise ValueError(f"events: user {event.user} does not exist; users are 0 to {graph.users - 1}")
        return event.user
    ranked = np.argsort(-graph.follower_counts, kind="stable")
    return int(ranked[min(int(event.user.partition(":")[2]), graph.users - 1)])
