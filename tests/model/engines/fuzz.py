"""Random networks, run by both engines and compared to the last bit.

`python -m tests.model.engines.fuzz FIRST LAST [--exactly]` compares the networks of these seeds and prints what it found; with
`--exactly` each on a kernel that has the network's features and no others. About half lie on a
coarse grid of time, where most things happen at the instant of another. Control changes capacities, kills and restores members
and submits requests; observers answer with more of the same.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from model import distributions as d
from model import network as net
from model.engines.clock import Clock
from model.engines.compiled import Compiled, CompiledClock
from model.engines.compiled_features import ALL, KERNELS
from model.engines.order import OUTCOMES
from model.engines.plain import Plain
from model.recording import Recording
from model.tables import lower

ATTRIBUTES = ("key", "count", "size", "chance")
MILESTONES = ("seen", "stored", "sent")
REQUESTS = 150
MOST_SUBMITTED = 60
ACTIONS = 10
NEEDS = {  # the features of the steps that need one
    "lookup": "caches", "evict": "caches", "scatter": "children", "each": "children", "hold": "hosts", "try": "tries",
}  # fmt: skip


@dataclass
class Draw:
    """A random network in the making."""

    seed: int
    features: frozenset[str] = ALL
    rng: np.random.Generator = field(init=False)
    grid: bool = field(init=False)
    topics: int = field(init=False)
    leased: bool = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.grid = bool(self.rng.random() < 0.5)
        self.leased = False  # inside the miss steps of a lookup that coalesces
        self.stations = int(self.rng.integers(1, 5))
        self.topics = int(self.rng.integers(0, 4)) if "topics" in self.features else 0
        self.hosts = int(self.rng.choice([0, 1, 1, 2])) if "hosts" in self.features else 0
        possible = [name for name in net.DISCIPLINES if name != "processor_sharing" or "sharing" in self.features]
        disciplines = [str(self.rng.choice(possible)) for _ in range(self.stations)]
        self.made = [self.station(number, discipline) for number, discipline in enumerate(disciplines)]
        self.held: tuple[str, ...] = ()

    def whole(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, items: Any) -> Any:
        return items[self.whole(0, len(items))]

    def seconds(self, most: float) -> float:
        return self.whole(0, int(most * 4) + 1) / 4 if self.grid else float(self.rng.uniform(0, most))

    def time(self) -> d.Distribution:
        if self.grid:
            return d.constant(self.pick((0.0, 0.25, 0.25, 0.5, 0.75, 1.0)))
        mean = float(self.rng.uniform(0.05, 0.6))
        return self.pick(
            (
                d.constant(mean),
                d.exponential(mean),
                d.exponential(mean),
                d.erlang(mean, 3),
                d.gamma(mean_s=mean, cv=0.6),
                d.gamma(mean_s=mean, cv=1.7),
                d.lognormal(mean_s=mean, cv=1.2),
                d.uniform(mean_s=mean, cv=0.3),
                d.weibull(mean_s=mean, cv=0.8),
                d.pareto(mean_s=mean, cv=2.0),
                d.hyperexponential(mean_s=mean, cv=2.0),
                d.empirical(values_s=[0.1, 0.4, 0.2]),
                d.empirical(quantiles_s=[0.0, 0.1, 0.7]),
            )
        )

    # ---- steps
    def per(self, in_batch: bool) -> dict[str, float]:
        if self.chance(0.7):
            return {}
        names = net.BATCH_ATTRIBUTES if in_batch else ("count", "size")
        return {self.pick(names): 0.25 if self.grid else 0.02}

    def attribute(self, name: str, in_batch: bool) -> str:
        return str(self.pick(net.BATCH_ATTRIBUTES)) if in_batch else name

    def steps(self, depth: int, most: int, **where: Any) -> tuple[net.Step, ...]:
        return tuple(self.step(depth, **where) for _ in range(self.whole(1, most + 1)))

    def step(self, depth: int, *, topic: int, in_batch: bool, in_try: bool, child: bool) -> net.Step:
        """`topic` is the number of the topic whose steps these are, or -1; one publishes only to later topics."""
        where = {"topic": topic, "in_batch": in_batch, "child": child}
        kinds = ["serve"] * 4 + ["delay", "mark", "mark", "acquire", "fail", "evict"]
        if topic < 0 and not child:
            kinds += ["respond"]
        if depth < 3:
            kinds += ["branch", "lookup", "scatter", "scatter", "hold", "hold"] + ([] if in_try else ["try", "try"])
        if topic + 1 < self.topics and not in_batch:
            kinds += ["publish"] * 3
        if in_batch and not child and depth < 3:
            kinds += ["each", "each"]
        kind = self.pick([kind for kind in kinds if NEEDS.get(kind) in (None, *self.features)])
        if kind == "mark" and in_batch and child:
            kind = "delay"
        if kind == "hold":
            return self.hold(depth, in_try=in_try, **where)
        if kind == "delay":
            return net.Delay(self.time(), self.per(in_batch))
        if kind == "mark":
            return net.Mark(self.pick(MILESTONES))
        if kind == "acquire":
            if depth < 3 and self.chance(0.4):
                otherwise = self.steps(depth + 1, 2, in_try=in_try, **where) if self.chance(0.5) else ()
                return net.Acquire("quota", wait=False, otherwise=otherwise)
            return net.Acquire("quota")
        if kind == "fail":
            return net.Fail("chance" if not in_batch and self.chance(0.3) else self.pick((0.05, 0.3)))
        if kind == "evict":
            return net.Evict(f"c{self.whole(0, 6)}", self.attribute("key", in_batch))
        if kind == "respond":
            return net.Respond()
        if kind == "publish":
            key = "key" if self.chance(0.6) else None
            return net.Publish(f"t{self.whole(topic + 1, self.topics)}", key, "size" if self.chance(0.4) else None)
        if kind == "branch":
            arms = tuple(
                net.Arm(
                    "chance" if not in_batch and self.chance(0.3) else 0.4,
                    self.steps(depth + 1, 2, in_try=in_try, **where),
                )
                for _ in range(self.whole(1, 3))
            )
            return net.Branch(arms)
        if kind == "lookup":
            coalesces = not self.leased and self.chance(0.5)
            outer, self.leased = self.leased, self.leased or coalesces
            miss = self.steps(depth + 1, 2, in_try=in_try, **where)
            self.leased = outer
            hit = self.steps(depth + 1, 2, in_try=in_try, **where)
            cache = self.pick(("c2", "c3") if coalesces else ("c0", "c1", "c4", "c5"))
            return net.Lookup(cache, self.attribute("key", in_batch), miss, hit)
        if kind in ("scatter", "each"):
            each = kind == "each"
            inside = {"topic": topic, "in_batch": in_batch and not each, "child": True, "in_try": False}
            count: int | str = "count" if not in_batch and self.chance(0.5) else self.whole(0, 4)
            join = self.pick((False, True, True, "any"))
            stagger = self.time() if self.chance(0.3) else net.NEVER
            held, self.held = self.held, ()
            children = self.steps(depth + 1, 2, **inside)
            self.held = held
            return net.Scatter(children, 1 if each else count, join, each, stagger)
        if kind == "try":
            return net.Try(
                self.steps(depth + 1, 3, in_try=True, **where),
                timeout_s=self.pick((0.0, 0.25, 0.5, 1.0)) if self.grid else float(self.rng.uniform(0.05, 1.5)),
                attempts=self.whole(1, 4),
                backoff=self.time(),
                growth=self.pick((1.0, 2.0)),
                otherwise=self.steps(depth + 1, 1, in_try=False, **where) if self.chance(0.3) else (),
                jitter=self.pick(net.JITTERS),
                backoff_max_s=self.pick((math.inf, 0.5)),
                budget="budget" if self.chance(0.3) else None,
                breaker=self.pick((None, None, "quick", "slow")),
            )
        station = self.pick(self.held) if self.held and self.chance(0.4) else f"s{self.whole(0, self.stations)}"
        return net.Serve(station, self.time(), self.per(in_batch))

    def hold(self, depth: int, **where: Any) -> net.Step:
        """Whoever holds servers takes them in one order, or many would wait for each other for good."""
        last = max(self.held, default="")
        free = [one.name for one in self.made if one.discipline != "processor_sharing" and one.name > last]
        if not free:
            return net.Delay(self.time())
        station = self.pick(free)
        held, self.held = self.held, (*self.held, station)
        steps = self.steps(depth + 1, 3, **where)
        self.held = held
        return net.Hold(station, steps)

    # ---- hosts and stations
    def station(self, number: int, discipline: Any) -> net.Station:
        queue_limit = self.pick((None, None, 0, 2, 5))
        sheds: Any = {"shed_above": self.pick((None, None, 0, 2)), "shed_keeps": self.whole(0, 3)}
        sheds["ageing_s"] = self.pick((0.0, 0.5, 1.3)) if discipline == "priority" else 0.0
        if discipline == "processor_sharing" or "hosts" not in self.features or (self.hosts == 0 and self.chance(0.7)):
            return net.Station(f"s{number}", self.whole(1, 4), discipline, queue_limit, **sheds)
        idle_s = sorted({self.seconds(2.0) for _ in range(self.whole(0, 4))})
        collects = self.chance(0.3)
        servers = self.whole(1, 4)
        host = f"h{self.whole(0, self.hosts)}" if self.hosts and self.chance(0.8) else None
        return net.Station(
            f"s{number}",
            servers,
            discipline,
            queue_limit,
            host=host,
            preempts=self.chance(0.6),
            wake_s=self.pick((0.0, 0.25 if self.grid else 0.013)),
            cold=tuple((at_s, self.pick((0.5, 1.0, 2.0) if self.grid else (0.7, 1.0, 1.9))) for at_s in idle_s),
            cpu_burst_s=self.pick((0.0, 0.0, 0.25 if self.grid else 0.17)) * (host is not None),
            gc_every=self.whole(1, 6) if collects else 0,
            gc_pause_s=self.pick((0.5, 0.77)) if collects else 0.0,
            **sheds,
        )

    def host(self, number: int) -> net.Host:
        return net.Host(
            f"h{number}", self.whole(1, 4), self.pick(net.HOST_DISCIPLINES), self.pick((1.0, 1.0, 0.5, 1.3)),
            slice_s=self.pick((0.25, 1.0) if self.grid else (0.0014, 0.05, 1.0)),
            tick_s=self.pick((0.0, 0.5) if self.grid else (0.0, 0.004, 0.3)),
        )

    def topic(self, number: int) -> net.Topic:
        return net.Topic(
            f"t{number}",
            self.steps(0, 3, topic=number, in_batch=True, in_try=False, child=False),
            partitions=self.whole(1, 6),
            linger_s=self.pick((0.0, self.seconds(1.0))),
            batch_max=self.whole(1, 6),
            acknowledgement=self.pick((net.NEVER, self.time())),
            consumers=self.whole(1, 5),
            poll_max=self.whole(1, 9),
            poll_wait_s=self.pick((0.0, self.seconds(1.0))),
            fetch=self.pick((net.NEVER, net.NEVER, self.time())),
            session_timeout_s=self.seconds(4.0),
            retry_s=0.25 if self.grid else 0.17,
            idempotent=self.chance(0.6),
            lag_limit=self.pick((None, None, 3, 8)),
        )

    def network(self) -> net.Network:
        operations = tuple(
            net.Operation(
                f"o{number}",
                self.steps(0, 6, topic=-1, in_batch=False, in_try=False, child=False),
                self.whole(0, 3),
            )
            for number in range(3)
        )
        return net.Network(
            operations=operations,
            stations=tuple(self.made),
            topics=tuple(self.topic(number) for number in range(self.topics)),
            caches=(
                net.Cache("c0", 1.0),
                net.Cache("c1", 2.5, capacity=3),
                net.Cache("c2", 1.5, coalesce=True),
                net.Cache("c3", 9.0, capacity=2, coalesce=True),
                net.Cache("c4", 1.5, stampede=True),
                net.Cache("c5", 9.0, capacity=2, stampede=True),
            ),
            quotas=(net.Quota("quota", 4.0, 2.0),),
            budgets=(net.RetryBudget("budget", 0.2, 3.0),),
            breakers=(net.Breaker("quick", 3, 0.6, 1.0), net.Breaker("slow", 10, 0.5, 2.5)),
            attributes=ATTRIBUTES,
            milestones=tuple(net.Milestone(name) for name in MILESTONES),
            hosts=tuple(self.host(number) for number in range(self.hosts)),
        )

    def attributes(self, count: int) -> np.ndarray:
        r = self.rng
        return np.column_stack(
            [r.integers(0, 8, count), r.integers(0, 4, count), r.integers(0, 3, count), r.random(count)]
        ).astype(float)


@dataclass
class Case:
    """A network with what comes to it from outside."""

    seed: int
    network: net.Network
    grid: bool
    gaps: np.ndarray
    operation: np.ndarray
    attributes: np.ndarray
    shifts: list[tuple[float, int, int, int]]  # after so long, an action on a part with a value
    feedback: bool
    warmup_s: float
    until_s: float
    halfway_s: float
    by_advancing: bool
    start_s: float


def case(seed: int, features: frozenset[str] = ALL) -> Case:
    """The random case of a seed, with nothing that needs a feature that is not named."""
    draw = Draw(seed, features)
    r = draw.rng
    network = draw.network()
    rate = float(r.choice([0.5, 1.0, 2.0]))
    gaps = r.integers(0, 4, REQUESTS) * 0.25 / rate if draw.grid else r.exponential(0.4 / rate, REQUESTS)
    shifts = [
        (draw.seconds(2.0), draw.whole(0, ACTIONS), draw.whole(0, 100), draw.whole(0, 100))
        for _ in range(draw.whole(0, 40))
    ]
    until_s = float(np.ceil(gaps.sum())) + 30
    return Case(
        seed=seed,
        network=network,
        grid=draw.grid,
        gaps=gaps.astype(float),
        operation=r.integers(0, 3, REQUESTS).astype("i4"),
        attributes=draw.attributes(REQUESTS),
        shifts=shifts,
        feedback=draw.chance(0.5),
        warmup_s=float(r.choice([0.0, 4.0])),
        until_s=until_s,
        halfway_s=float(draw.whole(1, int(until_s))),
        by_advancing=draw.chance(0.3),
        start_s=float(r.choice([0.0, 0.0, 1000.0])),
    )


class Outside:
    """Control and the observer: the same for both engines, and it writes down what it is told, and when."""

    def __init__(self, given: Case, env: Clock) -> None:
        self.given, self.env, self.log, self.submitted, self.told = given, env, [], 0, 0
        self.engine: Any = None

    def act(self, action: int, part: int, value: int) -> None:
        network, engine = self.given.network, self.engine
        if action == 0 and self.submitted < MOST_SUBMITTED:
            self.submitted += 1
            row = self.given.attributes[value % len(self.given.attributes)]
            self.log.append((self.env.now, "submitted", engine.submit(part % 3, row.tolist())))
        elif action == 6:
            engine.flush(part % len(network.caches))
        elif action == 7:
            engine.set_speed(part % len(network.stations), (0.5, 1.0, 2.0)[value % 3])
        elif action == 8:
            engine.set_servers(part % len(network.stations), value % 5, lose_work=True)
        elif action == 9 and network.hosts:
            engine.set_cores(part % len(network.hosts), value % 3)
        elif action <= 2 or not network.topics:
            engine.set_servers(part % len(network.stations), value % 5)
        else:
            topic = part % len(network.topics)
            member = value % network.topics[topic].consumers
            (engine.crash if action in (3, 4) else engine.restore)(topic, member)

    def shifts(self) -> Any:
        for gap_s, action, part, value in self.given.shifts:
            yield self.env.timeout(gap_s)
            self.act(action, part, value)

    def later(self, wait_s: float, number: int) -> Any:
        yield self.env.timeout(wait_s)
        self.log.append((self.env.now, "later", number))
        self.act(number % ACTIONS, number // ACTIONS, number // 3)

    def _react(self) -> None:
        self.told += 1
        if self.given.feedback:
            if self.told % 5 == 0:
                self.act(self.told // 5 % ACTIONS, self.told, self.told // 7)
            if self.told % 11 == 0:
                self.env.process(self.later(self.told % 3 * 0.25, self.told))

    def responded(self, request: int, outcome: int) -> None:
        self.log.append((self.env.now, "responded", request, outcome))
        self._react()

    def marked(self, milestone: int, request: int, ordinal: int, weight: float) -> None:
        self.log.append((self.env.now, "marked", milestone, request, ordinal, weight))
        self._react()


def advance_to(env: Clock, limit_s: float, by_advancing: bool) -> None:
    """Drive the clock as a run does, or as a load generator with timers of its own does."""
    if not by_advancing:
        env.run(until=limit_s)
        return
    while env.now < limit_s:
        timer_s = min(limit_s, env.now + 0.75)
        while env.advance(timer_s):
            assert env.now <= timer_s


def run(given: Case, engine: Callable[..., Plain | Compiled], seed: int = 5) -> tuple[list[Recording], list[Any]]:
    """Recordings halfway and at the end, and what the observer was told."""
    env = Clock(given.start_s) if engine is Plain else CompiledClock(given.start_s)
    outside = Outside(given, env)
    observer = None if given.seed % 7 == 0 else outside
    outside.engine = built = engine(lower(given.network, seed), env, given.start_s + given.warmup_s, observer)
    half = REQUESTS // 2
    env.process(outside.shifts())
    for part in (slice(0, half), slice(half, None)):  # two schedules at once
        built.arrive(given.gaps[part], given.operation[part], given.attributes[part])
    advance_to(env, given.start_s + given.halfway_s, given.by_advancing)
    recordings = [built.record()]
    advance_to(env, given.start_s + given.until_s, given.by_advancing)
    return [*recordings, built.record()], outside.log


def differences(a: Recording, b: Recording) -> list[str]:
    """Names of what differs; numbers of things and instants to the last bit, sums of durations by 1e-9."""
    found = [name for name in ("end_s", "warmup_s") if getattr(a, name) != getattr(b, name)]
    for name in ("operation", "arrived_s", "responded_s", "finished_s", "outcome", "failed_attempts"):
        x, y = getattr(a, name), getattr(b, name)
        if x.dtype != y.dtype or not np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
            found.append(name)
    if a.marks.dtype != b.marks.dtype or a.marks.tobytes() != b.marks.tobytes():
        found.append("marks")
    for kind in ("stations", "topics", "hosts", "caches"):
        x, y = getattr(a, kind), getattr(b, kind)
        for name in x.dtype.names:
            same = (
                np.allclose(x[name], y[name], rtol=1e-9, atol=1e-9)
                if x[name].dtype.kind == "f"
                else (x[name] == y[name]).all()
            )
            if not same:
                found.append(f"{kind} {name}")
    return found


def compare(seed: int, features: frozenset[str] = ALL) -> tuple[list[str], Case, Recording, list[Any]]:
    """What differs between the engines for the case of a seed, on a kernel with these features; nothing, it is hoped."""
    given = case(seed, features)
    plain, told_plain = run(given, Plain)
    compiled, told_compiled = run(given, partial(Compiled, features=features))
    found = [
        f"{when}: {name}"
        for when, a, b in zip(("halfway", "end"), plain, compiled, strict=True)
        for name in differences(a, b)
    ]
    if told_plain != told_compiled:
        found.append("told")
    return found, given, plain[1], told_plain


def features_of_seed(seed: int, exactly: bool) -> frozenset[str]:
    """All for two seeds of three, then those of a smaller kernel; or, if `exactly`, one of the 64 sets that there are."""
    if exactly:
        return frozenset(name for number, name in enumerate(sorted(ALL)) if seed >> number & 1)
    return KERNELS[seed // 3 % (len(KERNELS) - 1)] if seed % 3 == 0 else ALL


def main(first: int, last: int, exactly: bool = False) -> int:
    """Compare the cases first to last - 1. Returns how many differ."""
    began, different = time.perf_counter(), 0
    totals = dict.fromkeys(
        (
            "grid",
            "requests",
            "marks",
            "told",
            "failed attempts",
            "redelivered",
            "duplicates",
            "batches",
            "woken",
            "preempted",
            *OUTCOMES,
        ),
        0,
    )
    for seed in range(first, last):
        found, given, recording, told = compare(seed, features_of_seed(seed, exactly))
        if found:
            different += 1
            print(f"seed {seed} (grid {given.grid}) differs: {', '.join(found)}", flush=True)
        totals["grid"] += given.grid
        totals["requests"] += len(recording.operation)
        totals["marks"] += len(recording.marks)
        totals["told"] += len(told)
        totals["failed attempts"] += int(recording.failed_attempts.sum())
        totals["redelivered"] += int(recording.topics["redelivered"].sum())
        totals["duplicates"] += int(
            (recording.topics["duplicates_skipped"] + recording.topics["duplicates_applied"]).sum()
        )
        totals["woken"] += int(recording.hosts["woken"].sum())
        totals["preempted"] += int(recording.hosts["preempted"].sum())
        totals["batches"] += int(recording.topics["batches"].sum())
        for code, name in enumerate(OUTCOMES):
            totals[name] += int((recording.outcome == code).sum())
    count = last - first
    print(f"{count - different} of {count} networks equal in {time.perf_counter() - began:.0f} s; {totals}", flush=True)
    return different


if __name__ == "__main__":
    sys.exit(1 if main(int(sys.argv[1]), int(sys.argv[2]), "--exactly" in sys.argv) else 0)
