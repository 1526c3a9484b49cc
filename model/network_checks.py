"""What must hold for a network: every name exists, every number is in range, and steps stand where they mean something.

Each fault is a `ValueError` of one line: what, where, what would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from model import steps as s
from model.hosts import DISCIPLINES, host_fault, processes_fault

if TYPE_CHECKING:
    from model.network import Network, Station, Topic


def check(network: Network) -> None:
    """Raises `ValueError`, in one line, for a name that does not exist or a number out of range."""
    for kind in ("operations", "stations", "topics", "caches", "quotas", "milestones", "hosts", "budgets", "breakers"):
        _check_unique(kind, [item.name for item in getattr(network, kind)])
    for host in network.hosts:
        _require(not host_fault(host), host_fault(host))
    for station in network.stations:
        _check_station(station)
        if station.host is not None:
            _check_name(f"station {station.name}", "host", station.host, network.names("hosts"))
    for topic in network.topics:
        _check_topic(topic)
        _check_steps(_Place(network, f"topic {topic.name}", in_batch=True), topic.steps)
    _check_caches_and_limits(network)
    for operation in network.operations:
        _check_steps(_Place(network, f"operation {operation.name}"), operation.steps)


def _check_caches_and_limits(network: Network) -> None:
    for cache in network.caches:
        _require(cache.ttl_s > 0, f"cache {cache.name}: ttl must be more than 0, not {cache.ttl_s}")
        _require(
            cache.capacity is None or cache.capacity >= 1,
            f"cache {cache.name}: capacity must be 1 or more, not {cache.capacity}",
        )
        _require(not (cache.coalesce and cache.stampede), f"cache {cache.name}: who coalesces does not stampede")
    for quota in network.quotas:
        _require(
            quota.rate_per_s > 0 and quota.burst >= 1,
            f"quota {quota.name}: needs a rate above 0 and a burst of 1 or more",
        )
    for budget in network.budgets:
        _require(budget.ratio >= 0 and budget.burst >= 0, f"budget {budget.name}: ratio and burst must be 0 or more")
    for breaker in network.breakers:
        _require(
            breaker.window >= 1 and 0 < breaker.failure_ratio <= 1 and breaker.pause_s > 0,
            f"breaker {breaker.name}: needs a window of 1 or more, a failure ratio above 0 and up to 1, a pause above 0",
        )


def _check_station(station: Station) -> None:
    where = f"station {station.name}"
    _require(station.servers >= 1, f"{where}: servers must be 1 or more, not {station.servers}")
    _require(
        station.discipline in DISCIPLINES,
        f"{where}: no discipline {station.discipline!r}{suggestion(station.discipline, DISCIPLINES)}",
    )
    _require(
        station.queue_limit is None or station.queue_limit >= 0,
        f"{where}: queue_limit must be 0 or more, not {station.queue_limit}",
    )
    plain = station.host is None and not (station.cold or station.wake_s or station.gc_every)
    _require(
        plain or station.discipline != "processor_sharing",
        f"{where}: processes take one piece of work at a time, by fifo or priority (how they share cores is the host's)",
    )
    _require(not processes_fault(station), processes_fault(station))
    _require(station.cpu_burst_s == 0 or station.host is not None, f"{where}: cpu_burst_s belongs to a host, whose cores it gives away")
    _require(
        station.shed_above is None or station.shed_above >= 0,
        f"{where}: shed_above must be 0 or more, not {station.shed_above}",
    )
    _require(station.growth_per_1k >= 0, f"{where}: growth_per_1k must be 0 or more, not {station.growth_per_1k}")
    _require(
        station.ageing_s == 0 or (station.ageing_s > 0 and station.discipline == "priority"),
        f"{where}: ageing_s must be 0 or more, and belongs to discipline priority",
    )


def _check_topic(topic: Topic) -> None:
    where = f"topic {topic.name}"
    for name in ("partitions", "batch_max", "consumers", "poll_max"):
        _require(getattr(topic, name) >= 1, f"{where}: {name} must be 1 or more, not {getattr(topic, name)}")
    for name in ("linger_s", "poll_wait_s", "session_timeout_s"):
        _require(getattr(topic, name) >= 0, f"{where}: {name} must be 0 or more, not {getattr(topic, name)}")
    _require(
        topic.lag_limit is None or topic.lag_limit >= 1, f"{where}: lag_limit must be 1 or more, not {topic.lag_limit}"
    )
    _require(topic.retry_s > 0, f"{where}: retry_s must be more than 0, not {topic.retry_s}")


# ---- steps
@dataclass(frozen=True)
class _Place:
    """Where a step stands."""

    network: Network
    where: str
    in_batch: bool = False  # it acts for a batch as a whole
    in_try: bool = False
    child: bool = False
    held: tuple[str, ...] = ()  # stations of which a server is held

    def require(self, condition: bool, message: str) -> None:
        """Raises `ValueError` with the place unless this holds."""
        _require(condition, f"{self.where}: {message}")

    def name(self, kind: str, name: str) -> None:
        """There is a station, cache, ... (`kind`) of this name."""
        _check_name(self.where, kind, name, [item.name for item in getattr(self.network, _PLURALS[kind])])

    def attribute(self, name: str) -> None:
        """Requests, or here batches, have this attribute."""
        known = s.BATCH_ATTRIBUTES if self.in_batch else self.network.attributes
        _check_name(self.where, "attribute", name, known)

    def probability(self, probability: float | str) -> None:
        """A number from 0 to 1, or an attribute."""
        if isinstance(probability, str):
            self.attribute(probability)
        else:
            self.require(0 <= probability <= 1, f"a probability is from 0 to 1, not {probability}")

    def inner(self, steps: s.Steps, kind: str = "", **changes: Any) -> None:
        """The steps inside this one are right too."""
        _check_steps(replace(self, where=f"{self.where} ({kind})" if kind else self.where, **changes), steps)


_PLURALS = {
    "station": "stations",
    "topic": "topics",
    "quota": "quotas",
    "cache": "caches",
    "budget": "budgets",
    "breaker": "breakers",
}


def _check_steps(place: _Place, steps: s.Steps) -> None:
    for number, step in enumerate(steps, 1):
        _CHECKS[type(step)](replace(place, where=f"{place.where}, step {number}"), step)


def _delay(at: _Place, step: s.Delay | s.Serve) -> None:
    if isinstance(step, s.Serve):
        at.name("station", step.station)
    for attribute, cost_s in step.per.items():
        at.attribute(attribute)
        at.require(cost_s >= 0, f"a cost per {attribute} must be 0 or more, not {cost_s}")


def _publish(at: _Place, step: s.Publish) -> None:
    at.name("topic", step.topic)
    at.require(not at.in_batch, "a batch can't publish as a whole; scatter with each_event first")
    for attribute in filter(None, (step.key, step.weight)):
        at.attribute(attribute)


def _acquire(at: _Place, step: s.Acquire) -> None:
    at.name("quota", step.quota)
    at.require(not (step.wait and step.otherwise), "who waits for a token is never refused")
    at.inner(step.otherwise, "otherwise")


def _hold(at: _Place, step: s.Hold) -> None:
    at.name("station", step.station)
    station = next(each for each in at.network.stations if each.name == step.station)
    at.require(station.discipline != "processor_sharing", f"a server of {step.station} is shared, it can't be held")
    at.require(step.station not in at.held, f"a server of {step.station} is held already")
    at.inner(step.steps, "held", held=(*at.held, step.station))


def _fail(at: _Place, step: s.Fail) -> None:
    at.probability(step.probability)


def _evict(at: _Place, step: s.Evict) -> None:
    at.name("cache", step.cache)
    at.attribute(step.key)


def _lookup(at: _Place, step: s.Lookup) -> None:
    at.name("cache", step.cache)
    at.attribute(step.key)
    coalescing = {cache.name for cache in at.network.caches if cache.coalesce}
    if step.cache in coalescing:
        inside = [each for each in s.walk(step.miss) if isinstance(each, s.Lookup) and each.cache in coalescing]
        at.require(not inside, "a lookup that coalesces inside the miss steps of another one")
    at.inner(step.hit, "hit")
    at.inner(step.miss, "miss")


def _branch(at: _Place, step: s.Branch) -> None:
    total = 0.0
    for arm in step.arms:
        at.probability(arm.probability)
        total += 0.0 if isinstance(arm.probability, str) else arm.probability
        at.inner(arm.steps)
    at.require(total <= 1 + 1e-9, f"the probabilities of a branch add up to {total:g}, more than 1")


def _scatter(at: _Place, step: s.Scatter) -> None:
    at.require(
        not step.each_event or (at.in_batch and not at.child),
        "each_event belongs to the steps of a topic, not to a batch's children",
    )
    if isinstance(step.count, str):
        at.attribute(step.count)
    else:
        at.require(step.count >= 0, f"count must be 0 or more, not {step.count}")
    at.inner(step.steps, in_batch=at.in_batch and not step.each_event, in_try=False, child=True, held=())


def _try(at: _Place, step: s.Try) -> None:
    at.require(not at.in_try, "a try inside a try; put the inner one into a scatter with join")
    if step.budget is not None:
        at.name("budget", step.budget)
    if step.breaker is not None:
        at.name("breaker", step.breaker)
    at.require(step.jitter in s.JITTERS, f"no jitter {step.jitter!r}{suggestion(step.jitter, s.JITTERS)}")
    at.require(step.backoff_max_s >= 0, "the longest backoff must be 0 or more")
    at.require(step.attempts >= 1, f"attempts must be 1 or more, not {step.attempts}")
    at.require(step.timeout_s >= 0 and step.growth > 0, "a timeout is 0 or more and a growth above 0")
    at.inner(step.steps, "try", in_try=True)
    at.inner(step.otherwise, "otherwise", in_try=False)


def _respond(at: _Place, _step: s.Respond) -> None:
    in_topic = at.where.startswith("topic")
    at.require(not in_topic and not at.child, "only an operation's own steps can respond")


def _mark(at: _Place, _step: s.Mark) -> None:
    at.require(not (at.in_batch and at.child), "a batch's children can't mark; scatter with each_event instead")


_CHECKS: Mapping[type, Callable[[_Place, Any], None]] = {
    s.Delay: _delay,
    s.Serve: _delay,
    s.Lookup: _lookup,
    s.Evict: _evict,
    s.Branch: _branch,
    s.Scatter: _scatter,
    s.Publish: _publish,
    s.Acquire: _acquire,
    s.Hold: _hold,
    s.Fail: _fail,
    s.Respond: _respond,
    s.Mark: _mark,
    s.Try: _try,
}


# ---- names and numbers
def suggestion(name: str, known: Iterable[str]) -> str:
    """' (did you mean ...?)' where something known is close, else the names there are."""
    names = [str(item) for item in known]
    close = get_close_matches(name, names, 1)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (there are: {', '.join(names)})" if names else " (there are none)"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _check_name(where: str, kind: str, name: str, known: Iterable[str]) -> None:
    _require(name in known, f"{where}: no {kind} {name!r}{suggestion(name, known)}")


def _check_unique(kind: str, names: Sequence[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    _require(not twice, f"{kind}: {', '.join(sorted(twice))} declared twice")
