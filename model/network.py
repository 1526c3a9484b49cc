"""The vocabulary: stations, topics, caches, quotas, and for every operation a route, a sequence of steps.

A room does not run requests. It *declares* them with the words of this file, and an engine gives them time. What each step
means is said once, in `engines/plain.py`; `tables.py` lowers a network to the rows that both engines read.

| step | meaning |
|---|---|
| `Delay(time)` | time without contention: a network round trip, a client's pause |
| `Serve(station, time)` | wait for a server, hold it for a service time |
| `Lookup(cache, key, hit, miss)` | a cache with contents: a key's entry lives for the cache's TTL or until it is driven out |
| `Evict(cache, key)` | a key's entry is gone: what it was made of has changed |
| `Branch(arms)` | the first arm whose share of probability is drawn; else go on |
| `Scatter(steps, count, join)` | child tasks; `join` waits for all of them, or for any; `each_event` starts one per record of a batch |
| `Publish(topic, key, weight)` | append to a partition by producer linger and batch; go on when it is acknowledged |
| `Acquire(quota, wait, otherwise)` | take a token of a rate limit, wait until one is due, or be refused |
| `Hold(station, steps)` | wait for a server, keep it while the inner steps run: a connection of a pool, a slot of a limit |
| `Fail(probability)` | the attempt fails here, as if rejected |
| `Respond()` | the client has its answer here; what follows is asynchronous |
| `Mark(milestone)` | an asynchronous outcome is reached |
| `Try(steps, ...)` | a deadline around steps, attempts with backoff, retry budget and circuit breaker; what to do otherwise |

Times are seconds. A duration may grow with the request: `per={"rows": 0.00001}` adds ten microseconds for each of the
request's `rows` attribute; inside a topic's own steps the batch's `events`, `keys` (distinct keys) and `weight` can be used.

At one instant things happen in this order: control (crashes, capacity changes: ordinary SimPy processes), then the agenda
(tasks that were freed, first in first out), then those who watch for answers and milestones, then timed traffic by content key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal, TypeAlias

from model.distributions import NEVER, Distribution
from model.hosts import HOST_DISCIPLINES as HOST_DISCIPLINES
from model.hosts import Host as Host
from model.hosts import HostDiscipline as HostDiscipline
from model.hosts import IdleFactors, host_fault, processes_fault

Discipline: TypeAlias = Literal["fifo", "priority", "processor_sharing"]
Jitter: TypeAlias = Literal["none", "full", "equal", "decorrelated"]
JITTERS: tuple[Jitter, ...] = ("none", "full", "equal", "decorrelated")
DISCIPLINES: tuple[Discipline, ...] = ("fifo", "priority", "processor_sharing")
BATCH_ATTRIBUTES = ("events", "keys", "weight")


@dataclass(frozen=True)
class Delay:
    """Time without contention."""

    time: Distribution
    per: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Serve:
    """Wait for a server of `station`, hold it for `time` plus `per` seconds for each unit of the named attributes."""

    station: str
    time: Distribution
    per: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Lookup:
    """Look for the value of attribute `key` in `cache`; then the `hit` or the `miss` steps.

    The entry is there as the miss steps begin, so that everybody else hits at once. With a cache that stampedes or coalesces it is
    there when they have ended; who asks meanwhile runs them as well, or waits for that.
    """

    cache: str
    key: str
    miss: Steps
    hit: Steps = ()


@dataclass(frozen=True)
class Evict:
    """The entry for the value of attribute `key` is gone, as after a write to what it was made of.

    One that is being filled by a cache that coalesces or stampedes will be there when it is: as old as what its filler has read.
    """

    cache: str
    key: str


@dataclass(frozen=True)
class Arm:
    """One way of a branch, taken with a probability: a number, or the name of an attribute that holds it."""

    probability: float | str
    steps: Steps


@dataclass(frozen=True)
class Branch:
    """At most one of the arms; what is left of the probability goes straight on."""

    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Scatter:
    """`count` child tasks (a number or an attribute), or one for each event of the batch; with `join` wait until all ended.

    A failed child has ended too; its parent goes on. Children of `each_event` act in the name of their record's request, with its
    priority, at least once: after a redelivery their marks are reached again, whatever the topic's `idempotent` says.

    With `join="any"` the parent goes on as soon as one child has ended without failing, or all have failed; the others go on.
    `stagger` starts the second child so much later than the first, the third twice as much later, and so on, and not at all if
    the parent waits no more by then: `Scatter(steps, 2, "any", stagger=constant(0.05))` is a request hedged after 50 ms.
    """

    steps: Steps
    count: int | str = 1
    join: bool | Literal["any"] = True
    each_event: bool = False
    stagger: Distribution = NEVER


@dataclass(frozen=True)
class Publish:
    """Append a record; the partition follows the attribute `key`, or the task itself where there is none."""

    topic: str
    key: str | None = None
    weight: str | None = None


@dataclass(frozen=True)
class Acquire:
    """Take a token of `quota`, waiting until it is due.

    Without `wait` who finds no token takes none: the `otherwise` steps follow (a 429 has its price too), and then the attempt has
    failed as if rejected. A `Try` around it goes on from there; without one the task has failed.
    """

    quota: str
    wait: bool = True
    otherwise: Steps = ()


@dataclass(frozen=True)
class Fail:
    """The attempt fails here with a probability, a number or an attribute's name, as if a queue had been full.

    A `Try` around it backs off and runs its steps again (a part of an upload that is sent again alone: a scatter with join over
    such tries); without a `Try` the task has failed. Every attempt draws anew.
    """

    probability: float | str = 1.0


@dataclass(frozen=True)
class Hold:
    """Wait for a server of `station` and keep it until the inner steps have ended, well or not.

    An inner `Serve` at this station works on the server that is held, without waiting: a query on the connection one has.
    """

    station: str
    steps: Steps


@dataclass(frozen=True)
class Respond:
    """The client's answer."""


@dataclass(frozen=True)
class Mark:
    """A milestone is reached, measured from the request's arrival or from its answer."""

    milestone: str


@dataclass(frozen=True)
class Try:
    """Run `steps` with a deadline of `timeout_s` (none if 0), at most `attempts` times, waiting `backoff` * growth^(n-1) between.

    - `jitter`, with w for that pause, but at most `backoff_max_s`: "none" waits w, "full" between 0 and w, "equal" between w/2
      and w, "decorrelated" between `backoff` and three times the pause before (source: Brooker, Exponential Backoff And Jitter,
      AWS Architecture Blog 2015), at most `backoff_max_s` and without growth.
    - `budget` names a `RetryBudget`: if it is spent, there is no further attempt.
    - `breaker` names a `Breaker`: while it is open, the try has failed at once, as if rejected, and is not repeated.

    When the last attempt fails, by deadline or by a full queue, the `otherwise` steps follow and then, unless they respond
    themselves, the request has failed.
    """

    steps: Steps
    timeout_s: float = 0.0
    attempts: int = 1
    backoff: Distribution = NEVER
    growth: float = 1.0
    otherwise: Steps = ()
    jitter: Jitter = "none"
    backoff_max_s: float = math.inf
    budget: str | None = None
    breaker: str | None = None


Step: TypeAlias = (
    Delay | Serve | Lookup | Evict | Branch | Scatter | Publish | Acquire | Hold | Fail | Respond | Mark | Try
)
Steps: TypeAlias = Sequence[Step]


@dataclass(frozen=True)
class Station:
    """Servers with one queue. `queue_limit` is the waiting room (None: unlimited); who finds it full is rejected.

    With `processor_sharing` all present share the servers equally, none getting more than one; the waiting room is then what
    may be present beyond the number of servers.

    Load shedding: where `shed_above` wait already, who has a `priority` above `shed_keeps` is rejected.

    Ageing: with `priority` and `ageing_s` above 0 who waits counts as one class more urgent for each `ageing_s` that he has waited
    (classes: the priorities that operations have, in order), so that nobody waits for ever. With 0 priority is strict.

    With a `host` its servers are processes that share the host's cores (`hosts.py`); without one each has a core of its own.
    What makes a process's work longer, each off by default:

    - `cold`: the work's factor by how long this process has been idle, (seconds, factor) in rising order, with lines between
      and the first and last factor beyond; a process that never ran is as cold as can be.
    - `wake_s`: work of waking up, when the process was asleep.
    - `gc_every`, `gc_pause_s`: every so many pieces of work a process collects its garbage, for so long, within that work.
    """

    name: str
    servers: int = 1
    discipline: Discipline = "fifo"
    queue_limit: int | None = None
    host: str | None = None
    preempts: bool = True  # as it wakes, on a host with wake_preemption
    wake_s: float = 0.0
    cold: IdleFactors = ()
    gc_every: int = 0
    gc_pause_s: float = 0.0
    shed_above: int | None = None
    shed_keeps: int = 0
    ageing_s: float = 0.0


@dataclass(frozen=True)
class Topic:
    """A log in partitions, with the producer's buffer before it and one consumer group behind it.

    - The producer keeps a buffer per partition and sends it when it holds `batch_max` records or `linger_s` after the first.
      `acknowledgement` later the records are in the log and their publishers go on.
    - The group has `consumers` members; a partition belongs to one of them. A member that is free takes up to `poll_max`
      records of its partitions at once; if fewer are there it waits for more, `poll_wait_s` at most from the first. It runs
      `steps` for the batch, then commits per partition and polls again.
    - A member that crashes loses its batch; `session_timeout_s` later its partitions go to the others, who get the same
      records again, nothing being committed. Marks of a record that was applied already count once if `idempotent`.
    - A batch that fails (a full queue) is not committed; the member gets it again after `retry_s`.
    - Back-pressure: while `lag_limit` records or more are in the log and not committed, who publishes is refused, as if rejected.
    - `workers` is the name under which the members are reported among the stations.
    """

    name: str
    steps: Steps
    partitions: int = 1
    linger_s: float = 0.0
    batch_max: int = 1
    acknowledgement: Distribution = NEVER
    consumers: int = 1
    poll_max: int = 500
    poll_wait_s: float = 0.0
    session_timeout_s: float = 45.0  # source: Kafka ConsumerConfig session.timeout.ms
    retry_s: float = 0.1  # assumption
    idempotent: bool = True
    workers: str | None = None
    lag_limit: int | None = None


@dataclass(frozen=True)
class Cache:
    """Entries by key that live for `ttl_s` from when they are filled.

    - `capacity`: so many entries at most (None: no limit); one more drives out the one that was hit or filled longest ago. An entry
      that has expired keeps its place until it is driven out or filled again.
    - `coalesce`: a miss takes a lease on its key, and others who miss that key wait until the miss steps have ended; then they
      hit. If the one with the lease fails, the first who waits gets the lease and runs the miss steps. Such a lookup cannot
      stand inside the miss steps of another one: they could wait for each other for ever.
    - `stampede`: an entry is there only once somebody's miss steps have ended, and until then everybody who misses runs them too.
      (With neither it is there from the instant of the first miss: the load of misses is right, a herd is not seen.)
    """

    name: str
    ttl_s: float
    capacity: int | None = None
    coalesce: bool = False
    stampede: bool = False


@dataclass(frozen=True)
class Quota:
    """A token bucket: `rate_per_s`, and `burst` tokens at most saved up."""

    name: str
    rate_per_s: float
    burst: float = 1.0


@dataclass(frozen=True)
class RetryBudget:
    """Tokens for attempts after the first, shared by all tries that name it, as in gRPC's retry throttling and Finagle's budgets.

    It begins with `burst` tokens, which is the most it can hold. Every first attempt adds `ratio`; every further one takes 1, and
    where there is less than 1 it is not made.
    """

    name: str
    ratio: float = 0.1
    burst: float = 10.0


@dataclass(frozen=True)
class Breaker:
    """A circuit breaker, shared by all tries that name it.

    It opens when of the last `window` attempts (not before there were so many) `failure_ratio` or more have failed. For `pause_s`
    it then refuses all; after that it lets one attempt through: if that fails it is open for another `pause_s`, else it closes and
    counts anew. Attempts that began before it opened or closed do not count.
    """

    name: str
    window: int = 100  # source for the defaults: resilience4j, CircuitBreakerConfig
    failure_ratio: float = 0.5
    pause_s: float = 60.0


@dataclass(frozen=True)
class Operation:
    """What a client can ask for; a smaller `priority` is served first at priority stations."""

    name: str
    steps: Steps
    priority: int = 0


@dataclass(frozen=True)
class Milestone:
    """An asynchronous outcome; its time counts `since` the request's arrival or its answer."""

    name: str
    since: Literal["arrival", "answer"] = "arrival"


@dataclass(frozen=True)
class Network:
    """A complete declaration. Raises `ValueError`, in one line, for a name that does not exist or a number out of range."""

    operations: tuple[Operation, ...]
    stations: tuple[Station, ...] = ()
    topics: tuple[Topic, ...] = ()
    caches: tuple[Cache, ...] = ()
    quotas: tuple[Quota, ...] = ()
    attributes: tuple[str, ...] = ()
    milestones: tuple[Milestone, ...] = ()
    hosts: tuple[Host, ...] = ()
    budgets: tuple[RetryBudget, ...] = ()
    breakers: tuple[Breaker, ...] = ()

    def __post_init__(self) -> None:
        for kind in (
            "operations",
            "stations",
            "topics",
            "caches",
            "quotas",
            "milestones",
            "hosts",
            "budgets",
            "breakers",
        ):
            _check_unique(kind, [item.name for item in getattr(self, kind)])
        for host in self.hosts:
            _require(not host_fault(host), host_fault(host))
        for station in self.stations:
            _check_station(station)
            if station.host is not None:
                _check_name(f"station {station.name}", "host", station.host, self.names("hosts"))
        for topic in self.topics:
            _check_topic(topic)
            self._check_steps(f"topic {topic.name}", topic.steps, in_batch=True)
        for cache in self.caches:
            _require(cache.ttl_s > 0, f"cache {cache.name}: ttl must be more than 0, not {cache.ttl_s}")
            _require(
                cache.capacity is None or cache.capacity >= 1,
                f"cache {cache.name}: capacity must be 1 or more, not {cache.capacity}",
            )
            _require(not (cache.coalesce and cache.stampede), f"cache {cache.name}: who coalesces does not stampede")
        for quota in self.quotas:
            _require(
                quota.rate_per_s > 0 and quota.burst >= 1,
                f"quota {quota.name}: needs a rate above 0 and a burst of 1 or more",
            )
        for budget in self.budgets:
            _require(
                budget.ratio >= 0 and budget.burst >= 0, f"budget {budget.name}: ratio and burst must be 0 or more"
            )
        for breaker in self.breakers:
            _require(
                breaker.window >= 1 and 0 < breaker.failure_ratio <= 1 and breaker.pause_s > 0,
                f"breaker {breaker.name}: needs a window of 1 or more, a failure ratio above 0 and up to 1, a pause above 0",
            )
        for operation in self.operations:
            self._check_steps(f"operation {operation.name}", operation.steps)

    def names(
        self, kind: Literal["stations", "topics", "caches", "quotas", "operations", "hosts", "budgets", "breakers"]
    ) -> tuple[str, ...]:
        """The names of one kind, in order."""
        return tuple(item.name for item in getattr(self, kind))

    def milestone_names(self) -> tuple[str, ...]:
        """All milestones, the declared ones first, then those that only appear in steps (measured from arrival)."""
        names = dict.fromkeys(milestone.name for milestone in self.milestones)
        for steps in [topic.steps for topic in self.topics] + [operation.steps for operation in self.operations]:
            names.update(dict.fromkeys(step.milestone for step in walk(steps) if isinstance(step, Mark)))
        return tuple(names)

    def _check_steps(
        self,
        where: str,
        steps: Steps,
        in_batch: bool = False,
        in_try: bool = False,
        child: bool = False,
        held: tuple[str, ...] = (),
    ) -> None:
        for number, step in enumerate(steps, 1):
            here = f"{where}, step {number}"
            in_topic = where.startswith("topic")
            known = BATCH_ATTRIBUTES if in_batch else self.attributes
            match step:
                case Delay() | Serve():
                    if isinstance(step, Serve):
                        _check_name(here, "station", step.station, self.names("stations"))
                    for attribute, cost_s in step.per.items():
                        _check_name(here, "attribute", attribute, known)
                        _require(cost_s >= 0, f"{here}: a cost per {attribute} must be 0 or more, not {cost_s}")
                case Publish():
                    _check_name(here, "topic", step.topic, self.names("topics"))
                    _require(not in_batch, f"{here}: a batch can't publish as a whole; scatter with each_event first")
                    for attribute in filter(None, (step.key, step.weight)):
                        _check_name(here, "attribute", attribute, known)
                case Acquire():
                    _check_name(here, "quota", step.quota, self.names("quotas"))
                    _require(not (step.wait and step.otherwise), f"{here}: who waits for a token is never refused")
                    self._check_steps(f"{here} (otherwise)", step.otherwise, in_batch, in_try, child, held)
                case Hold():
                    _check_name(here, "station", step.station, self.names("stations"))
                    shared = self.stations[self.names("stations").index(step.station)].discipline == "processor_sharing"
                    _require(not shared, f"{here}: a server of {step.station} is shared, it can't be held")
                    _require(step.station not in held, f"{here}: a server of {step.station} is held already")
                    self._check_steps(f"{here} (held)", step.steps, in_batch, in_try, child, (*held, step.station))
                case Fail():
                    _check_probability(here, step.probability, known)
                case Evict():
                    _check_name(here, "cache", step.cache, self.names("caches"))
                    _check_name(here, "attribute", step.key, known)
                case Respond():
                    _require(not in_topic and not child, f"{here}: only an operation's own steps can respond")
                case Lookup():
                    _check_name(here, "cache", step.cache, self.names("caches"))
                    _check_name(here, "attribute", step.key, known)
                    if self._coalesces(step):
                        nested = [
                            inner for inner in walk(step.miss) if isinstance(inner, Lookup) and self._coalesces(inner)
                        ]
                        _require(not nested, f"{here}: a lookup that coalesces inside the miss steps of another one")
                    self._check_steps(f"{here} (hit)", step.hit, in_batch, in_try, child, held)
                    self._check_steps(f"{here} (miss)", step.miss, in_batch, in_try, child, held)
                case Branch():
                    total = 0.0
                    for arm in step.arms:
                        _check_probability(here, arm.probability, known)
                        total += 0.0 if isinstance(arm.probability, str) else arm.probability
                        self._check_steps(here, arm.steps, in_batch, in_try, child, held)
                    _require(
                        total <= 1 + 1e-9, f"{here}: the probabilities of a branch add up to {total:g}, more than 1"
                    )
                case Scatter():
                    _require(
                        not step.each_event or (in_batch and not child),
                        f"{here}: each_event belongs to the steps of a topic, not to a batch's children",
                    )
                    if isinstance(step.count, str):
                        _check_name(here, "attribute", step.count, known)
                    else:
                        _require(step.count >= 0, f"{here}: count must be 0 or more, not {step.count}")
                    inside = in_batch and not step.each_event
                    self._check_steps(here, step.steps, in_batch=inside, in_try=False, child=True)
                case Try():
                    _require(not in_try, f"{here}: a try inside a try; put the inner one into a scatter with join")
                    if step.budget is not None:
                        _check_name(here, "budget", step.budget, self.names("budgets"))
                    if step.breaker is not None:
                        _check_name(here, "breaker", step.breaker, self.names("breakers"))
                    _require(
                        step.jitter in JITTERS, f"{here}: no jitter {step.jitter!r}{suggestion(step.jitter, JITTERS)}"
                    )
                    _require(step.backoff_max_s >= 0, f"{here}: the longest backoff must be 0 or more")
                    _require(step.attempts >= 1, f"{here}: attempts must be 1 or more, not {step.attempts}")
                    _require(
                        step.timeout_s >= 0 and step.growth > 0, f"{here}: a timeout is 0 or more and a growth above 0"
                    )
                    self._check_steps(f"{here} (try)", step.steps, in_batch, True, child, held)
                    self._check_steps(f"{here} (otherwise)", step.otherwise, in_batch, False, child, held)
                case Mark():
                    _require(
                        not (in_batch and child),
                        f"{here}: a batch's children can't mark; scatter with each_event instead",
                    )

    def _coalesces(self, step: Lookup) -> bool:
        return any(cache.coalesce for cache in self.caches if cache.name == step.cache)


def walk(steps: Steps) -> Iterator[Step]:
    """Every step of a route, inner ones included, in the order of the text."""
    for step in steps:
        yield step
        for inner in inner_routes(step):
            yield from walk(inner)


def inner_routes(step: Step) -> tuple[Steps, ...]:
    """The routes inside a step."""
    match step:
        case Lookup():
            return (step.hit, step.miss)
        case Branch():
            return tuple(arm.steps for arm in step.arms)
        case Scatter() | Hold():
            return (step.steps,)
        case Acquire():
            return (step.otherwise,)
        case Try():
            return (step.steps, step.otherwise)
    return ()


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


def _check_probability(where: str, probability: float | str, attributes: Iterable[str]) -> None:
    if isinstance(probability, str):
        _check_name(where, "attribute", probability, attributes)
    else:
        _require(0 <= probability <= 1, f"{where}: a probability is from 0 to 1, not {probability}")


def _check_unique(kind: str, names: Sequence[str]) -> None:
    twice = {name for name in names if names.count(name) > 1}
    _require(not twice, f"{kind}: {', '.join(sorted(twice))} declared twice")


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
    _require(
        station.shed_above is None or station.shed_above >= 0,
        f"{where}: shed_above must be 0 or more, not {station.shed_above}",
    )
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
