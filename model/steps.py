"""The steps of which routes are made; what each means is said once, in `engines/plain_rows.py`.

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
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from model.distributions import NEVER, Distribution

Jitter: TypeAlias = Literal["none", "full", "equal", "decorrelated"]
JITTERS: tuple[Jitter, ...] = ("none", "full", "equal", "decorrelated")
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
