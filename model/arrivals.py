"""Open arrivals: when each request of a run comes, of which operation, by whom, and with which attributes.

Every operation has streams of its own, named after it, so that changing one operation's rate moves no other's arrivals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model import platform
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


def schedule(scenario: Scenario, network: Network, graph: FollowGraph | None, seed: int) -> Schedule:
    """All arrivals of a run. `graph` is needed for the platform, not for a declared network."""
    times: list[Floats] = []
    operations: list[np.ndarray] = []
    users: list[Ids] = []
    attributes: list[np.ndarray] = []

    def add(name: str, at_s: Floats, who: Ids, stream: str) -> None:
        table = np.zeros((len(at_s), len(network.attributes)))
        for attribute, values in _attributes(scenario, graph, name, who, seed, stream).items():
            table[:, network.attributes.index(attribute)] = values
        times.append(at_s)
        operations.append(np.full(len(at_s), network.names("operations").index(name), "i4"))
        users.append(who)
        attributes.append(table)

    for name, rate_per_s in platform.arrival_rates(scenario).items():
        if rate_per_s > 0:
            gap = exponential(1 / rate_per_s) if scenario.declared is None else _declared_gap(scenario, name)
            at_s = renewal_times(gap, seed, f"arrivals of {name}", scenario.run.duration_s)
            people = graph.users if graph is not None else 1
            add(name, at_s, (uniforms(seed, f"users of {name}", len(at_s)) * people).astype(np.int64), name)
    for number, event in enumerate(scenario.events):
        offsets_s = (np.arange(event.count) + 0.5) * (event.over_s / event.count)
        who = np.full(event.count, _person(event, graph), np.int64)
        add(event.operation, np.asarray(event.at_s + offsets_s), who, f"{event.operation} of event {number}")
    if not times:
        return Schedule(np.zeros(0), np.zeros(0, "i4"), np.zeros(0, np.int64), np.zeros((0, len(network.attributes))))
    all_times = np.concatenate(times)
    order = np.argsort(all_times, kind="stable")
    gaps = np.diff(all_times[order], prepend=0.0)
    return Schedule(
        gaps, np.concatenate(operations)[order], np.concatenate(users)[order], np.concatenate(attributes)[order]
    )


def _declared_gap(scenario: Scenario, name: str) -> Distribution:
    assert scenario.declared is not None
    return scenario.declared.arrivals[name].interarrival.scaled(1 / scenario.run.load_factor)


def _attributes(
    scenario: Scenario, graph: FollowGraph | None, name: str, who: Ids, seed: int, stream: str
) -> dict[str, Floats]:
    if scenario.declared is not None:
        named = scenario.declared.arrivals[name].attributes if name in scenario.declared.arrivals else {}
        return {key: draws(item, seed, f"{key} of {stream}", 0, len(who)) for key, item in named.items()}
    assert graph is not None
    chosen = uniforms(seed, f"posts of {stream}", len(who))
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
