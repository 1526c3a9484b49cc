"""Offered load in closed form: how much work a network's arrivals bring to each station, consumer group and quota.

Work is linear in the arrival rates: what a step does once, times how often it is reached. What a rate does not decide is
bounded both ways: the `least` work has full batches on one key, caches that always hit and tries that succeed at once; the
`most` has batches of one event, caches that never hit and tries that need every attempt and then the other way. A
part that is overloaded even by its least work can't hold, whatever happens.

Attributes may be given as arrays, one value for each of many equally likely requests: then products of attributes (followers
cut into batches of a size) are exact. Of plain means a product is the product of the means.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from model import network as net
from model.distributions import Distribution

Kind = Literal["station", "consumers", "quota", "host"]
Values: TypeAlias = float | npt.NDArray[np.float64]  # an expectation, or one value for each of many requests
Attributes: TypeAlias = Mapping[str, Values]
_ROUNDS = 1000  # of topics that publish to topics; a circle that feeds itself ends here, as overload
_NEGLIGIBLE = 1e-12
_FLOWS = 32  # kept apart on one topic; beyond that their means are taken


@dataclass(frozen=True)
class OfferedLoad:
    """Work offered to one part, in the unit of its `capacity`: busy servers, busy members, tokens per second or busy cores.

    `least` and `most` bound it; `busy_ratio` is least / capacity, the utilisation that must be expected in any case.
    """

    kind: Kind
    name: str
    capacity: float
    least: float
    most: float

    @property
    def busy_ratio(self) -> float:
        """The least share of the capacity that is used; above 1 the part is overloaded."""
        return self.least / self.capacity

    @property
    def exceeded(self) -> bool:
        """Whether even the least work is more than the capacity."""
        return self.least > self.capacity


def offered_loads(
    network: net.Network, rates_per_s: Mapping[str, float], attributes: Mapping[str, Attributes] | None = None
) -> tuple[OfferedLoad, ...]:
    """The offered load of every station, consumer group, quota and host.

    `rates_per_s` maps an operation to its arrival rate, `attributes` an operation to its attributes, each as a mean or as an
    array of one length for the operation; what is not given is zero. A group's capacity is its members, or its partitions
    if they are fewer. Raises `ValueError` for an operation that the network does not have.
    """
    for name in rates_per_s:
        if name not in network.names("operations"):
            raise ValueError(f"no operation {name!r}{net.suggestion(name, network.names('operations'))}")
    least, most = (_Walk(network, best).run(rates_per_s, attributes or {}) for best in (True, False))
    rows: list[OfferedLoad] = []
    for station in network.stations:
        key = ("station", station.name)
        rows.append(OfferedLoad("station", station.name, station.servers, least[key], most[key]))
    for topic in network.topics:
        key = ("consumers", topic.name)
        members = min(topic.consumers, topic.partitions)
        rows.append(OfferedLoad("consumers", topic.name, members, least[key], most[key]))
    for quota in network.quotas:
        key = ("quota", quota.name)
        rows.append(OfferedLoad("quota", quota.name, quota.rate_per_s, least[key], most[key]))
    for host in network.hosts:
        key = ("host", host.name)
        rows.append(OfferedLoad("host", host.name, host.cores, least[key], most[key]))
    return tuple(rows)


@dataclass(frozen=True)
class _Flow:
    """Records that go to a topic: their rates (of each kind of request), their weights and the attributes they carry."""

    rates_per_s: Values
    weight: Values
    attributes: Attributes

    def mean(self, values: Values) -> float:
        """The mean of something over the flow's records."""
        return float(np.sum(self.rates_per_s * values) / self.total_per_s) if self.total_per_s > 0 else 0.0

    @property
    def total_per_s(self) -> float:
        """Records per second."""
        return float(np.sum(self.rates_per_s))


class _Walk:
    """One pass over all routes, with the least (`best`) or the most work."""

    def __init__(self, network: net.Network, best: bool) -> None:
        self.topics = {topic.name: topic for topic in network.topics}
        self.stations = {station.name: station for station in network.stations}
        self.speeds = {host.name: host.speed for host in network.hosts}
        self.held: tuple[str, ...] = ()  # stations of which a server is held on the route that is walked
        self.best = best
        self.work: dict[tuple[str, str], float] = defaultdict(float)
        self.published: dict[str, list[_Flow]] = defaultdict(list)
        self.operations = network.operations

    def run(
        self, rates_per_s: Mapping[str, float], attributes: Mapping[str, Attributes]
    ) -> dict[tuple[str, str], float]:
        """Work per second by (kind, name)."""
        for operation in self.operations:
            rate_per_s = rates_per_s.get(operation.name, 0.0)
            known = attributes.get(operation.name, {})
            kinds = max((np.size(values) for values in known.values()), default=1)
            if rate_per_s > 0:
                self.route(operation.steps, np.full(kinds, rate_per_s / kinds), known, ())
        for _ in range(_ROUNDS):
            waiting, self.published = self.published, defaultdict(list)
            for name, flows in waiting.items():
                self.consume(self.topics[name], flows if len(flows) <= _FLOWS else [_merged(flows)])
            if not waiting:
                break
        for name in self.published:  # topics that feed themselves without end
            self.work["consumers", name] = math.inf
        return self.work

    def consume(self, topic: net.Topic, flows: Sequence[_Flow]) -> None:
        """The group works off records as they come."""
        records_per_s = sum(flow.total_per_s for flow in flows)
        if records_per_s < _NEGLIGIBLE:
            return
        events = topic.poll_max if self.best else 1
        weight = sum(flow.total_per_s * flow.mean(flow.weight) for flow in flows) / records_per_s
        batches_per_s = records_per_s / events
        batch = {"events": float(events), "keys": 1.0, "weight": events * weight}
        batch_s = self.route(topic.steps, batches_per_s, batch, flows)
        self.work["consumers", topic.name] += batches_per_s * float(np.mean(batch_s))

    def route(self, steps: net.Steps, rates_per_s: Values, known: Attributes, flows: Sequence[_Flow]) -> Values:
        """Book the work of a route that is begun at these rates. Returns its expected duration without queueing, in seconds.

        `known` are the task's attributes; `flows` are the records of which its batch is made.
        """
        total_s: Values = 0.0
        for step in steps:
            total_s = total_s + self.step(step, rates_per_s, known, flows)
        return total_s

    def step(self, step: net.Step, rates_per_s: Values, known: Attributes, flows: Sequence[_Flow]) -> Values:
        """The same for one step."""
        match step:
            case net.Delay():
                return _mean_s(step.time, step.per, known)
            case net.Serve():
                return self.serve(step, rates_per_s, known)
            case net.Hold():
                held, self.held = self.held, (*self.held, step.station)
                held_s = self.route(step.steps, rates_per_s, known, flows)
                self.held = held
                self.work["station", step.station] += float(np.sum(rates_per_s * held_s))
                return held_s
            case net.Branch():
                total_s: Values = 0.0
                for arm in step.arms:
                    share = _value(arm.probability, known)
                    total_s = total_s + share * self.route(arm.steps, rates_per_s * share, known, flows)
                return total_s
            case net.Lookup():
                return self.route(step.hit if self.best else step.miss, rates_per_s, known, flows)
            case net.Scatter():
                return self.scatter(step, rates_per_s, known, flows)
            case net.Publish():
                weight = 1.0 if step.weight is None else known.get(step.weight, 0.0)
                self.published[step.topic].append(_Flow(rates_per_s, weight, known))
                topic = self.topics[step.topic]
                return topic.acknowledgement.mean_s + (0.0 if self.best else topic.linger_s)
            case net.Acquire():
                self.work["quota", step.quota] += float(np.sum(rates_per_s))
                if not self.best:
                    return self.route(step.otherwise, rates_per_s, known, flows)
            case net.Try():
                attempts = 1 if self.best else step.attempts
                spent_s = attempts * self.route(step.steps, rates_per_s * attempts, known, flows)
                return spent_s if self.best else spent_s + self.route(step.otherwise, rates_per_s, known, flows)
        return 0.0

    def serve(self, step: net.Serve, rates_per_s: Values, known: Attributes) -> Values:
        """Work at a station and, where its servers are processes, on their host; warm and awake at best."""
        station = self.stations[step.station]
        factors = [factor for _, factor in station.cold] or [1.0]
        demand_s = _mean_s(step.time, step.per, known) * (min(factors) if self.best else max(factors))
        demand_s = demand_s + (station.gc_pause_s / station.gc_every if station.gc_every else 0.0)
        if not self.best:
            demand_s = demand_s + station.wake_s
        if station.host is not None:
            demand_s = demand_s / self.speeds[station.host]
            self.work["host", station.host] += float(np.sum(rates_per_s * demand_s))
        if step.station not in self.held:
            self.work["station", step.station] += float(np.sum(rates_per_s * demand_s))
        return demand_s

    def scatter(self, step: net.Scatter, rates_per_s: Values, known: Attributes, flows: Sequence[_Flow]) -> Values:
        """Children: as many as counted, or one for each record of the batch. They hold nothing of their parent's."""
        held, self.held = self.held, ()
        if step.each_event:
            count: Values = known["events"]
            records_per_s = sum(flow.total_per_s for flow in flows)
            child_s: Values = 0.0
            for flow in flows:
                share = (
                    float(np.sum(rates_per_s * count)) / records_per_s
                )  # of all records, those of batches that get here
                took_s = self.route(step.steps, flow.rates_per_s * share, flow.attributes, ())
                child_s = child_s + flow.mean(took_s) * flow.total_per_s / records_per_s
        else:
            count = _value(step.count, known)
            child_s = self.route(step.steps, rates_per_s * count, known, flows)
        self.held = held
        return child_s * (np.minimum(1.0, count) if self.best else count) if step.join else 0.0


def _merged(flows: Sequence[_Flow]) -> _Flow:
    total_per_s = sum(flow.total_per_s for flow in flows) or 1.0
    shares = [flow.total_per_s / total_per_s for flow in flows]

    def mean(values: Sequence[float]) -> float:
        return sum(share * value for share, value in zip(shares, values, strict=True))

    names = {name for flow in flows for name in flow.attributes}
    attributes = {name: mean([flow.mean(flow.attributes.get(name, 0.0)) for flow in flows]) for name in names}
    return _Flow(total_per_s, mean([flow.mean(flow.weight) for flow in flows]), attributes)


def _mean_s(time: Distribution, per: Mapping[str, float], known: Attributes) -> Values:
    return time.mean_s + sum(cost_s * known.get(name, 0.0) for name, cost_s in per.items())


def _value(number_or_name: float | str, known: Attributes) -> Values:
    return known.get(number_or_name, 0.0) if isinstance(number_or_name, str) else float(number_or_name)
