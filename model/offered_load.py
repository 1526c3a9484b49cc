"""Offered load in closed form: how much work a network's arrivals bring to each station, consumer group and quota.

Work is linear in the arrival rates: what a step does once, times how often it is reached. What a rate does not decide is
bounded both ways: the `least` work has full batches on one key, caches that always hit and tries that succeed at once; the
`most` has batches of one event, caches that never hit and tries that need every attempt and then the other way. A
part that is overloaded even by its least work can't hold, whatever happens.

A product of two attributes (a count of children whose cost grows with another attribute) is taken as the product of their means.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from model import network as net
from model.distributions import Distribution

Kind = Literal["station", "consumers", "quota"]
Attributes = Mapping[str, float]
_ROUNDS = 1000  # of topics that publish to topics; a circle that feeds itself ends here, as overload
_NEGLIGIBLE = 1e-12


@dataclass(frozen=True)
class OfferedLoad:
    """Work offered to one part, in the unit of its `capacity`: busy servers, busy members, or tokens per second.

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
    """The offered load of every station, consumer group and quota.

    `rates_per_s` maps an operation to its arrival rate, `attributes` an operation to the mean of each of its attributes (zero
    where not given). A group's capacity is its members, or its partitions if they are fewer. Raises `ValueError` for an
    operation that the network does not have.
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
    return tuple(rows)


@dataclass
class _Records:
    """Records that go to a topic: their rate, and rate times mean of the weight and of each attribute."""

    rate_per_s: float
    weight: float
    attributes: dict[str, float]


class _Walk:
    """One pass over all routes, with the least (`best`) or the most work."""

    def __init__(self, network: net.Network, best: bool) -> None:
        self.topics = {topic.name: topic for topic in network.topics}
        self.best = best
        self.work: dict[tuple[str, str], float] = defaultdict(float)
        self.published: dict[str, _Records] = {}
        self.operations = network.operations

    def run(
        self, rates_per_s: Mapping[str, float], attributes: Mapping[str, Attributes]
    ) -> dict[tuple[str, str], float]:
        """Work per second by (kind, name)."""
        for operation in self.operations:
            rate_per_s = rates_per_s.get(operation.name, 0.0)
            if rate_per_s > 0:
                self.route(operation.steps, rate_per_s, attributes.get(operation.name, {}), {})
        for _ in range(_ROUNDS):
            waiting, self.published = self.published, {}
            for name, records in waiting.items():
                if records.rate_per_s > _NEGLIGIBLE:
                    self.consume(self.topics[name], records)
            if not waiting:
                break
        for name in self.published:  # topics that feed themselves without end
            self.work["consumers", name] = math.inf
        return self.work

    def consume(self, topic: net.Topic, records: _Records) -> None:
        """The group works off records that come at their rate."""
        events = topic.poll_max if self.best else 1
        batch = {"events": events, "keys": 1, "weight": events * records.weight / records.rate_per_s}
        event = {name: total / records.rate_per_s for name, total in records.attributes.items()}
        batches_per_s = records.rate_per_s / events
        self.work["consumers", topic.name] += batches_per_s * self.route(topic.steps, batches_per_s, batch, event)

    def route(self, steps: net.Steps, rate_per_s: float, known: Attributes, event: Attributes) -> float:
        """Book the work of a route that is begun at a rate. Returns its expected duration without queueing, in seconds.

        `known` are the mean attributes of the task, `event` those of one record of its batch.
        """
        return sum(self.step(step, rate_per_s, known, event) for step in steps)

    def step(self, step: net.Step, rate_per_s: float, known: Attributes, event: Attributes) -> float:
        """The same for one step."""
        match step:
            case net.Delay():
                return _mean_s(step.time, step.per, known)
            case net.Serve():
                service_s = _mean_s(step.time, step.per, known)
                self.work["station", step.station] += rate_per_s * service_s
                return service_s
            case net.Branch():
                shares = [_value(arm.probability, known) for arm in step.arms]
                arms = zip(step.arms, shares, strict=True)
                return sum(share * self.route(arm.steps, rate_per_s * share, known, event) for arm, share in arms)
            case net.Lookup():
                return self.route(step.hit if self.best else step.miss, rate_per_s, known, event)
            case net.Scatter():
                count = known["events"] if step.each_event else _value(step.count, known)
                inner = event if step.each_event else known
                child_s = self.route(step.steps, rate_per_s * count, inner, event) if count > 0 else 0.0
                at_once = min(1.0, count) if self.best else count
                return child_s * at_once if step.join else 0.0
            case net.Publish():
                return self.publish(step, rate_per_s, known)
            case net.Acquire():
                self.work["quota", step.quota] += rate_per_s
            case net.Try():
                attempts = 1 if self.best else step.attempts
                spent_s = attempts * self.route(step.steps, rate_per_s * attempts, known, event)
                return spent_s if self.best else spent_s + self.route(step.otherwise, rate_per_s, known, event)
        return 0.0

    def publish(self, step: net.Publish, rate_per_s: float, known: Attributes) -> float:
        """Records on their way; the publisher waits for the acknowledgement."""
        topic = self.topics[step.topic]
        records = self.published.setdefault(step.topic, _Records(0.0, 0.0, defaultdict(float)))
        records.rate_per_s += rate_per_s
        records.weight += rate_per_s * (1.0 if step.weight is None else known.get(step.weight, 0.0))
        for name, value in known.items():
            records.attributes[name] += rate_per_s * value
        return topic.acknowledgement.mean_s + (0.0 if self.best else topic.linger_s)


def _mean_s(time: Distribution, per: Mapping[str, float], known: Attributes) -> float:
    return time.mean_s + sum(cost_s * known.get(name, 0.0) for name, cost_s in per.items())


def _value(number_or_name: float | str, known: Attributes) -> float:
    return known.get(number_or_name, 0.0) if isinstance(number_or_name, str) else float(number_or_name)
