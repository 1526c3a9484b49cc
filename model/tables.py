"""Lowering: a network as the rows that both engines read.

A route becomes rows of `steps`; `next` is the row that follows, `miss` the other way (a cache miss, a branch not taken, a try
that gave up). Row 0 ends a task, row 1 ends it as failed. Every row that draws has a `stream`, a hash of the seed and of the
step's place in its operation, so that two scenarios that differ elsewhere draw the same numbers. The last row fails: whoever's work was
lost goes there.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from model import network as net
from model.distributions import NEVER, Distribution
from model.variates import stream_of

(
    DELAY, SERVE, BRANCH, LOOKUP, SCATTER, PUBLISH, ACQUIRE, RESPOND, MARK, TRY, END_TRY,
    HOLD, SERVE_HELD, RELEASE, FILL, FAULT, STAGGER, IF_WANTED, EVICT, FINISH, FAIL,
) = range(21)  # fmt: skip
FIFO, PRIORITY, PROCESSOR_SHARING = range(3)
CORES_SHARED, RUN_QUEUE, WAKE_PREEMPTION, FAIR = range(4)  # disciplines of hosts
EVENTS, KEYS, WEIGHT, NO_ATTRIBUTE = -2, -3, -4, -1
END_ROW, FAILED_ROW = 0, 1
ANY = 2  # a join that waits for one child
NO_JITTER, FULL_JITTER, EQUAL_JITTER, DECORRELATED_JITTER = range(4)
JITTER_DRAW = 1 << 32  # added to the attempt, where a pause needs a second number

STEP = np.dtype(
    [
        ("op", "i4"),
        ("next", "i4"),
        ("miss", "i4"),
        ("target", "i4"),  # station, cache, topic, quota, milestone, or the first row of children
        ("distribution", "i4"),
        ("first_cost", "i4"),
        ("costs", "i4"),
        ("attribute", "i4"),  # count, key or probability: a column, or EVENTS, KEYS, WEIGHT
        ("weight", "i4"),
        ("count", "i4"),  # children, or attempts
        ("join", "i4"),  # the parent waits, for all or for ANY; or who acquires does
        ("jitter", "i4"),
        ("budget", "i4"),
        ("breaker", "i4"),
        ("each_event", "i4"),
        ("stream", "u8"),
        ("seconds", "f8"),  # a deadline
        ("growth", "f8"),
        ("most_s", "f8"),  # the longest backoff
        ("probability", "f8"),
    ],
    align=True,
)
COST = np.dtype([("attribute", "i4"), ("seconds", "f8")], align=True)
DISTRIBUTION = np.dtype(
    [("kind", "i4"), ("first", "i4"), ("count", "i4"), ("a", "f8"), ("b", "f8"), ("c", "f8")], align=True
)
STATION = np.dtype(
    [
        ("servers", "i4"),
        ("discipline", "i4"),
        ("queue_limit", "i4"),
        ("shed_above", "i4"),  # -1: never
        ("shed_class", "i4"),  # the first priority class that is shed
        ("host", "i4"),
        ("tracked", "i4"),  # its servers are processes, each with a history
        ("preempts", "i4"),
        ("gc_every", "i4"),
        ("first_cold", "i4"),
        ("colds", "i4"),
        ("gc_pause_s", "f8"),
        ("wake_s", "f8"),
        ("cpu_burst_s", "f8"),
        ("ageing_s", "f8"),  # 0: strict priority
    ],
    align=True,
)
HOST = np.dtype([("cores", "i4"), ("discipline", "i4"), ("speed", "f8"), ("slice_s", "f8"), ("tick_s", "f8")], align=True)
COLD = np.dtype([("idle_s", "f8"), ("factor", "f8")], align=True)
BUDGET = np.dtype([("ratio", "f8"), ("burst", "f8")], align=True)
BREAKER = np.dtype([("window", "i4"), ("failures", "i4"), ("pause_s", "f8")], align=True)  # failures: so many open it
TOPIC = np.dtype(
    [
        ("first_row", "i4"),
        ("partitions", "i4"),
        ("batch_max", "i4"),
        ("consumers", "i4"),
        ("poll_max", "i4"),
        ("idempotent", "i4"),
        ("acknowledgement", "i4"),
        ("fetch", "i4"),  # -1: at once
        ("lag_limit", "i4"),  # -1: none
        ("stream", "u8"),
        ("linger_s", "f8"),
        ("poll_wait_s", "f8"),
        ("session_timeout_s", "f8"),
        ("retry_s", "f8"),
    ],
    align=True,
)
CACHE = np.dtype(
    [("ttl_s", "f8"), ("capacity", "i4"), ("coalesce", "i4"), ("stampede", "i4")], align=True
)  # capacity 0: no limit
QUOTA = np.dtype([("interval_s", "f8"), ("burst_s", "f8")], align=True)


@dataclass(frozen=True)
class Tables:
    """The rows of a network, for one seed. Arrays are read-only in spirit: an engine copies what it changes."""

    network: net.Network
    seed: int
    steps: np.ndarray
    costs: np.ndarray
    distributions: np.ndarray
    values: np.ndarray  # f8: the numbers of empirical distributions, one after the other
    stations: np.ndarray
    topics: np.ndarray
    quotas: np.ndarray
    hosts: np.ndarray
    colds: np.ndarray  # of all stations, one after the other
    budgets: np.ndarray
    breakers: np.ndarray
    caches: np.ndarray
    first_row: np.ndarray  # i4, one per operation
    priority_class: np.ndarray  # i4, one per operation: 0 is served first, without gaps
    milestones: tuple[str, ...]
    row_names: tuple[str, ...]  # what each row is, for people: "feed.open/3 serve database"


@dataclass
class _Lowering:
    tables_of: net.Network
    seed: int
    rows: list[dict[str, float | int]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    costs: list[tuple[int, float]] = field(default_factory=list)
    distributions: dict[Distribution, int] = field(default_factory=dict)
    held: tuple[str, ...] = ()  # stations of which a server is held by whoever goes through these rows

    def add(self, name: str, op: int, **fields: float | int) -> int:
        fields.setdefault("attribute", NO_ATTRIBUTE)
        fields.setdefault("weight", NO_ATTRIBUTE)
        fields.setdefault("budget", -1)
        fields.setdefault("breaker", -1)
        self.rows.append({"op": op, "stream": stream_of(self.seed, name), **fields})
        self.names.append(name)
        return len(self.rows) - 1

    def distribution(self, distribution: Distribution) -> int:
        return self.distributions.setdefault(distribution, len(self.distributions))

    def attribute(self, name: str | None, in_batch: bool) -> int:
        if name is None:
            return NO_ATTRIBUTE
        return (
            {"events": EVENTS, "keys": KEYS, "weight": WEIGHT}[name]
            if in_batch
            else self.tables_of.attributes.index(name)
        )

    def route(self, where: str, steps: net.Steps, end: int, in_batch: bool) -> int:
        """Write the rows of a route, the last step first, so that each knows its successor. Returns the first row."""
        following = end
        for number in range(len(steps), 0, -1):
            following = self.step(f"{where}/{number}", steps[number - 1], following, in_batch)
        return following

    def step(self, name: str, step: net.Step, following: int, in_batch: bool) -> int:
        """Write the rows of a step. Returns the first one."""
        network = self.tables_of
        match step:
            case net.Delay() | net.Serve():
                return self.timed(name, step, following, in_batch)
            case net.Lookup():
                return self.lookup(name, step, following, in_batch)
            case net.Evict():
                cache, key = network.names("caches").index(step.cache), self.attribute(step.key, in_batch)
                return self.add(name, EVICT, next=following, target=cache, attribute=key)
            case net.Branch():
                return self.branch(name, step, following, in_batch)
            case net.Scatter():
                return self.scatter(name, step, following, in_batch)
            case net.Publish():
                topic = network.names("topics").index(step.topic)
                key, weight = self.attribute(step.key, in_batch), self.attribute(step.weight, in_batch)
                return self.add(name, PUBLISH, next=following, target=topic, attribute=key, weight=weight)
            case net.Acquire():
                return self.acquire(name, step, following, in_batch)
            case net.Hold():
                return self.hold(name, step, following, in_batch)
            case net.Fail():
                return self.fault(name, step, following, in_batch)
            case net.Respond():
                return self.add(name, RESPOND, next=following)
            case net.Mark():
                return self.add(name, MARK, next=following, target=network.milestone_names().index(step.milestone))
            case net.Try():
                return self.attempts(name, step, following, in_batch)

    def timed(self, name: str, step: net.Delay | net.Serve, following: int, in_batch: bool) -> int:
        first = len(self.costs)
        self.costs += [(self.attribute(key, in_batch), cost_s) for key, cost_s in step.per.items()]
        shared: dict[str, float | int] = {
            "next": following,
            "distribution": self.distribution(step.time),
            "first_cost": first,
            "costs": len(step.per),
        }
        if isinstance(step, net.Delay):
            return self.add(name, DELAY, **shared)
        op = SERVE_HELD if step.station in self.held else SERVE
        return self.add(name, op, target=self.tables_of.names("stations").index(step.station), **shared)

    def lookup(self, name: str, step: net.Lookup, following: int, in_batch: bool) -> int:
        cache, key = self.tables_of.names("caches").index(step.cache), self.attribute(step.key, in_batch)
        filled = following
        if self.tables_of.caches[cache].coalesce or self.tables_of.caches[cache].stampede:
            filled = self.add(f"{name}/fill", FILL, next=following, target=cache, attribute=key)
        miss = self.route(f"{name}/miss", step.miss, filled, in_batch)
        hit = self.route(f"{name}/hit", step.hit, following, in_batch)
        return self.add(name, LOOKUP, next=hit, miss=miss, target=cache, attribute=key)

    def scatter(self, name: str, step: net.Scatter, following: int, in_batch: bool) -> int:
        inside = in_batch and not step.each_event
        held, self.held = self.held, ()
        first_child = self.route(f"{name}/child", step.steps, END_ROW, inside)
        self.held = held
        if step.stagger != NEVER:
            wanted = self.add(f"{name}/if wanted", IF_WANTED, next=first_child, miss=END_ROW)
            after = self.distribution(step.stagger)
            first_child = self.add(f"{name}/stagger", STAGGER, next=wanted, distribution=after)
        by_name = isinstance(step.count, str)
        return self.add(
            name,
            SCATTER,
            next=following,
            target=first_child,
            attribute=self.attribute(str(step.count), in_batch) if by_name else NO_ATTRIBUTE,
            count=0 if isinstance(step.count, str) else step.count,
            join=ANY if step.join == "any" else int(step.join),
            each_event=int(step.each_event),
        )

    def acquire(self, name: str, step: net.Acquire, following: int, in_batch: bool) -> int:
        quota = self.tables_of.names("quotas").index(step.quota)
        if step.wait:
            return self.add(name, ACQUIRE, next=following, target=quota, join=1)
        refused = self.route(f"{name}/refused", (*step.otherwise, net.Fail()), FAILED_ROW, in_batch)
        return self.add(name, ACQUIRE, next=following, target=quota, miss=refused)

    def hold(self, name: str, step: net.Hold, following: int, in_batch: bool) -> int:
        station = self.tables_of.names("stations").index(step.station)
        end = self.add(f"{name}/release", RELEASE, next=following, target=station)
        held, self.held = self.held, (*self.held, step.station)
        first = self.route(f"{name}/held", step.steps, end, in_batch)
        self.held = held
        return self.add(name, HOLD, next=first, target=station)

    def fault(self, name: str, step: net.Fail, following: int, in_batch: bool) -> int:
        by_name = isinstance(step.probability, str)
        return self.add(
            name,
            FAULT,
            next=following,
            attribute=self.attribute(str(step.probability), in_batch) if by_name else NO_ATTRIBUTE,
            probability=0.0 if isinstance(step.probability, str) else step.probability,
        )

    def attempts(self, name: str, step: net.Try, following: int, in_batch: bool) -> int:
        otherwise = self.route(f"{name}/otherwise", step.otherwise, FAILED_ROW, in_batch)
        end = self.add(f"{name}/end", END_TRY, next=following)
        first = self.route(f"{name}/try", step.steps, end, in_batch)
        backoff = self.distribution(step.backoff)
        return self.add(
            name,
            TRY,
            next=first,
            miss=otherwise,
            count=step.attempts,
            seconds=step.timeout_s,
            distribution=backoff,
            growth=step.growth,
            jitter=net.JITTERS.index(step.jitter),
            most_s=step.backoff_max_s,
            budget=-1 if step.budget is None else self.tables_of.names("budgets").index(step.budget),
            breaker=-1 if step.breaker is None else self.tables_of.names("breakers").index(step.breaker),
        )

    def branch(self, name: str, step: net.Branch, following: int, in_batch: bool) -> int:
        """Arms are asked in turn with the same uniform and the probability so far; with attributes each arm draws its own."""
        otherwise = following
        fixed = [float(arm.probability) if not isinstance(arm.probability, str) else 0.0 for arm in step.arms]
        for number in range(len(step.arms), 0, -1):
            arm = step.arms[number - 1]
            taken = self.route(f"{name}/arm {number}", arm.steps, following, in_batch)
            attribute = self.attribute(arm.probability, in_batch) if isinstance(arm.probability, str) else NO_ATTRIBUTE
            stream_name = name if attribute == NO_ATTRIBUTE else f"{name}/arm {number}"
            otherwise = self.add(
                stream_name, BRANCH, next=taken, miss=otherwise, attribute=attribute, probability=sum(fixed[:number])
            )
        return otherwise


def lower(network: net.Network, seed: int) -> Tables:
    """The tables of a network for one seed."""
    work = _Lowering(network, seed)
    work.add("end", FINISH)
    work.add("failed", FAIL)
    first_row = [
        work.route(operation.name, operation.steps, END_ROW, in_batch=False) for operation in network.operations
    ]
    topics = np.zeros(len(network.topics), TOPIC)
    for row, topic in zip(topics, network.topics, strict=True):
        row["first_row"] = work.route(f"topic {topic.name}", topic.steps, END_ROW, in_batch=True)
        row["acknowledgement"] = work.distribution(topic.acknowledgement)
        row["fetch"] = work.distribution(topic.fetch) if topic.fetch.mean_s > 0 else -1
        row["stream"] = stream_of(seed, f"topic {topic.name}")
        row["lag_limit"] = -1 if topic.lag_limit is None else topic.lag_limit
        for name in (
            "partitions",
            "batch_max",
            "consumers",
            "poll_max",
            "idempotent",
            "linger_s",
            "poll_wait_s",
            "session_timeout_s",
            "retry_s",
        ):
            row[name] = getattr(topic, name)
    work.add("lost", FAULT, probability=1.0)
    priorities = sorted({operation.priority for operation in network.operations})
    steps = np.zeros(len(work.rows), STEP)
    for row, fields in zip(steps, work.rows, strict=True):
        for name, value in fields.items():
            row[name] = value
    distributions = np.zeros(max(1, len(work.distributions)), DISTRIBUTION)
    values: list[float] = []
    for row, item in zip(distributions, work.distributions, strict=False):
        row["kind"], row["a"], row["b"], row["c"] = item.code, item.a, item.b, item.c
        row["first"], row["count"] = len(values), len(item.values)
        values += item.values
    return Tables(
        network=network,
        seed=seed,
        steps=steps,
        costs=np.array(work.costs, COST),
        distributions=distributions,
        values=np.array(values or [0.0]),
        stations=_stations(network, priorities, {row["target"] for row in work.rows if row["op"] == HOLD}),
        topics=topics,
        hosts=np.array(
            [
                (host.cores, net.HOST_DISCIPLINES.index(host.discipline), host.speed, host.slice_s, host.tick_s)
                for host in network.hosts
            ],
            HOST,
        ),
        colds=np.array([point for station in network.stations for point in station.cold], COLD),
        quotas=np.array([(1 / quota.rate_per_s, quota.burst / quota.rate_per_s) for quota in network.quotas], QUOTA),
        budgets=np.array([(budget.ratio, budget.burst) for budget in network.budgets], BUDGET),
        breakers=np.array(
            [
                (one.window, max(1, math.ceil(one.failure_ratio * one.window - 1e-9)), one.pause_s)
                for one in network.breakers
            ],
            BREAKER,
        ),
        caches=np.array([(one.ttl_s, one.capacity or 0, one.coalesce, one.stampede) for one in network.caches], CACHE),
        first_row=np.array(first_row, "i4"),
        priority_class=np.array([priorities.index(operation.priority) for operation in network.operations], "i4"),
        milestones=network.milestone_names(),
        row_names=tuple(work.names),
    )


def _stations(network: net.Network, priorities: list[int], held: set[float | int]) -> np.ndarray:
    """The rows of stations; `held` are those of which servers are held."""
    rows, colds = np.zeros(len(network.stations), STATION), 0
    for number, (row, station) in enumerate(zip(rows, network.stations, strict=True)):
        for name in ("servers", "preempts", "gc_every", "gc_pause_s", "wake_s", "cpu_burst_s", "ageing_s"):
            row[name] = getattr(station, name)
        row["discipline"] = net.DISCIPLINES.index(station.discipline)
        row["queue_limit"] = -1 if station.queue_limit is None else station.queue_limit
        row["shed_above"] = -1 if station.shed_above is None else station.shed_above
        row["shed_class"] = bisect_right(priorities, station.shed_keeps)
        row["host"] = -1 if station.host is None else network.names("hosts").index(station.host)
        row["first_cold"], row["colds"] = colds, len(station.cold)
        colds += len(station.cold)
        alters = station.cold or station.wake_s or station.gc_every
        row["tracked"] = bool(station.host is not None or alters or number in held)
    return rows
