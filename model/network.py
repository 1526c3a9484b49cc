"""The vocabulary: stations, topics, caches, quotas, and for every operation a route, a sequence of steps (`steps.py`).

A room does not run requests. It *declares* them with the words of this file, and an engine gives them time. `tables.py` lowers a
network to the rows that both engines read. The steps can be had from here too, so that a room finds all its words in one place.

At one instant things happen in this order: control (crashes, capacity changes: ordinary SimPy processes), then the agenda
(tasks that were freed, first in first out), then those who watch for answers and milestones, then timed traffic by content key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from model.distributions import NEVER, Distribution
from model.hosts import DISCIPLINES as DISCIPLINES
from model.hosts import HOST_DISCIPLINES as HOST_DISCIPLINES
from model.hosts import Discipline as Discipline
from model.hosts import Host as Host
from model.hosts import HostDiscipline as HostDiscipline
from model.hosts import IdleFactors
from model.network_checks import check
from model.network_checks import suggestion as suggestion
from model.steps import BATCH_ATTRIBUTES as BATCH_ATTRIBUTES
from model.steps import JITTERS as JITTERS
from model.steps import Acquire as Acquire
from model.steps import Arm as Arm
from model.steps import Branch as Branch
from model.steps import Delay as Delay
from model.steps import Evict as Evict
from model.steps import Fail as Fail
from model.steps import Hold as Hold
from model.steps import Jitter as Jitter
from model.steps import Lookup as Lookup
from model.steps import Mark as Mark
from model.steps import Publish as Publish
from model.steps import Respond as Respond
from model.steps import Scatter as Scatter
from model.steps import Serve as Serve
from model.steps import Step as Step
from model.steps import Steps as Steps
from model.steps import Try as Try
from model.steps import inner_routes as inner_routes
from model.steps import walk as walk


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

    - `cold`: the factor of a piece of work as the process gets a core for it, by how long it had none, idle or waiting while others ran,
      (seconds, factor) in rising order, with lines between and the first and last factor beyond; a process that never ran is as cold as
      can be.
    - `cpu_burst_s`: for how long it runs at most until it waits for another process for an instant, as a worker between the statements
      of a batch: it gives its core away and wakes at once; belongs to a `host`. 0: a piece of work is one burst.
    - `wake_s`: work of waking up, when the process was asleep.
    - `gc_every`, `gc_pause_s`: every so many pieces of work a process collects its garbage, for so long, within that work.

    Growth: after n visits all work takes 1 + `growth_per_1k` n / 1000 times as long, as of a broker that seeks in a log which grows.
    """

    name: str
    servers: int = 1
    discipline: Discipline = "fifo"
    queue_limit: int | None = None
    host: str | None = None
    preempts: bool = True  # as it wakes, on a host with wake_preemption
    wake_s: float = 0.0
    cold: IdleFactors = ()
    cpu_burst_s: float = 0.0
    gc_every: int = 0
    gc_pause_s: float = 0.0
    shed_above: int | None = None
    shed_keeps: int = 0
    ageing_s: float = 0.0
    growth_per_1k: float = 0.0


@dataclass(frozen=True)
class Topic:
    """A log in partitions, with the producer's buffer before it and one consumer group behind it.

    - The producer keeps a buffer per partition and sends it when it holds `batch_max` records or `linger_s` after the first.
      `acknowledgement` later the records are in the log and their publishers go on.
    - The group has `consumers` members; a partition belongs to one of them. A member that is free takes up to `poll_max`
      records of its partitions at once; if fewer are there it waits for more, `poll_wait_s` at most from the first. It runs
      `steps` for the batch, then commits per partition and polls again. It sees a record only `fetch` after it was
      appended, since a broker may hold a fetch that finds nothing: drawn once for the first record, from when the wait for more
      counts, and once for the last that the batch may have; what was appended later stays for the next.
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
    fetch: Distribution = NEVER


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
        check(self)

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
