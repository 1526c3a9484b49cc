"""The smallest capacity that meets the objectives, and the highest load that does, by searches that know of noise.

A point (a capacity, a load) is *judged* by replications: 3, 6, 12, … of them, until the interval of every objective's figure is
on one side of its target, or the budget is spent and the point stays open. A point is wrongly called met, or missed, with a
probability of at most 2.5 %, all looks together; so a smallest number N, met while N − 1 is missed, is known with 95 % confidence.
An objective is about the expected figure of a run: its mean over replications. Searches assume that more servers never hurt
and more load never helps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from model.capacity import Capacity, with_load, with_servers
from model.replications import Replications, Replicator, at_least, verdict
from model.scenario import Scenario
from model.statistics import Interval

RISK = 0.025  # of a wrong verdict on one point; two edges make 5 %
FIRST_LOOK = 3  # replications
_STEPS_DOWN = 10  # halvings of the load before it is given up
_STEPS_UP = 20  # doublings


@dataclass(frozen=True)
class Judgement:
    """What is known of a point: `met`, `missed` or `open`, from so many replications (0: by the offered load alone)."""

    verdict: str
    replications: int
    figures: Mapping[str, Interval]
    why: str = ""


Tell = Callable[[str, Judgement], None]


@dataclass
class Judge:
    """Judges scenarios by their objectives, with at most `most` replications each. `tell` hears of every point judged."""

    replicator: Replicator
    most: int = 24
    tell: Tell = lambda point, judgement: None
    judged: dict[str, Judgement] = field(default_factory=dict)

    def __call__(self, point: str, scenario: Scenario, parts: Sequence[Capacity] = ()) -> Judgement:
        """The judgement of a scenario; a part whose offered load is its capacity or more needs no run to be missed.

        `point` names it for people. Raises `ValueError` if it can't be simulated or has no objective.
        """
        if not scenario.slo:
            raise ValueError("no objectives")
        key = repr(scenario)
        if key not in self.judged:
            full = [part for part in parts if part.least >= part.servers]
            if full:
                why = f"{full[0].name}: {full[0].least:.3g} servers are busy on average, {full[0].servers} are there"
                self.judged[key] = Judgement("missed", 0, {}, why)
            else:
                self.judged[key] = self._look(scenario)
            self.tell(point, self.judged[key])
        return self.judged[key]

    def _look(self, scenario: Scenario) -> Judgement:
        looks = [min(FIRST_LOOK, self.most)]
        while looks[-1] < self.most:
            looks.append(min(2 * looks[-1], self.most))
        risk = RISK / len(looks)
        for n in looks:
            found = self.replicator.first(scenario, n)
            called = _called(found, risk)
            if called != "open":
                break
        return Judgement(called, n, {name: found.interval(name) for name in scenario.slo})


def _called(found: Replications, risk: float) -> str:
    """Met if every figure is clearly so (each must err for a wrong verdict); missed if any is, at its share of the risk."""
    slo = found.scenario.slo

    def one(name: str, of_risk: float) -> str:
        return verdict(found.interval(name, 1 - 2 * of_risk), name, slo[name])

    if all(one(name, risk) == "met" for name in slo):
        return "met"
    if any(one(name, risk / len(slo)) == "missed" for name in slo):
        return "missed"
    return "open"


def edges(test: Callable[[int], str], missed: int, met: int) -> tuple[int, int]:
    """The largest point called missed and the smallest called met, between two that are; points between them stay open.

    Bisection of `test` over whole numbers, twice where points are open: once for each edge.
    """
    low, high = missed, met
    while high - low > 1:
        middle = (low + high) // 2
        called = test(middle)
        if called == "met":
            high = middle
        else:
            low = middle
            if called == "missed":
                missed = middle
    while low - missed > 1:  # low is open
        middle = (low + missed) // 2
        if test(middle) == "missed":
            missed = middle
        else:
            low = middle
    return missed, high


@dataclass(frozen=True)
class Size:
    """The capacities that meet the objectives, and for each part the largest number that is known to be too few.

    `servers` is None if no number does; `why` says what stands in the way.
    """

    servers: Mapping[str, int] | None
    too_few: Mapping[str, int]
    why: str = ""

    @property
    def sure(self) -> bool:
        """Whether one server less is known to be too few, for every part."""
        return self.servers is not None and all(self.too_few[name] == n - 1 for name, n in self.servers.items())


class Sizer:
    """Searches over the capacities of one scenario."""

    def __init__(
        self, judge: Judge, scenario: Scenario, parts: Sequence[Capacity], prices: Mapping[str, float] | None = None
    ) -> None:
        """`parts` are the scenario's, from `capacities`. With `prices` of a server by part, `all` saves money, not servers."""
        self.judge, self.scenario = judge, scenario
        self.prices = prices or {}
        self.parts = {part.name: part for part in parts}

    def at(self, servers: Mapping[str, int]) -> Judgement:
        """The judgement of the scenario with these numbers of servers."""
        point = ", ".join(f"{name} = {count}" for name, count in servers.items())
        parts = [replace(one, servers=servers.get(one.name, one.servers)) for one in self.parts.values()]
        return self.judge(point, with_servers(self.scenario, servers), parts)

    def one(self, name: str, fixed: Mapping[str, int] | None = None) -> Size:
        """The smallest number of servers of one part, the others as they are (or `fixed`)."""
        part, fixed = self.parts[name], dict(fixed or {})
        fewest, step = part.too_few, 1
        count = max(part.servers, fewest + 1)
        before: Judgement | None = None
        while True:
            if part.most is not None and count > part.most:
                count = part.most
            now = self.at({**fixed, name: count})
            if now.verdict == "met":
                break
            if now.verdict == "missed":
                fewest = max(fewest, count)
            # Common random numbers: what more servers do not change at all, still more of them will not.
            helpless = before is not None and now.figures == before.figures and now.replications > 0
            if helpless or count == part.most or (now.replications == 0 and count > part.too_few):
                return Size(None, {name: fewest}, now.why or self._obstacle(now, part, count))
            before, count, step = now, count + step, 2 * step
        too_few, enough = edges(lambda n: self.at({**fixed, name: n}).verdict, fewest, count)
        return Size({name: enough}, {name: too_few})

    def _obstacle(self, judgement: Judgement, part: Capacity, count: int) -> str:
        slo = self.scenario.slo
        bad = [name for name, found in judgement.figures.items() if verdict(found, name, slo[name]) != "met"]
        limit = f"; more than its {part.most} partitions can't work" if part.most == count else ""
        return f"{', '.join(bad) or 'an objective'} does not depend on more than {count} of {part.name}{limit}"

    def all(self) -> Size:
        """Capacities of all parts from which no single server can be taken away, by coordinate descent.

        From the offered load up, all together, until the objectives are met; then down, part by part, the largest first (with
        prices: the dearest), until nothing changes. With prices a dear server is then traded for a cheaper one where that holds.
        The total is a local minimum: trading a server of one part for two of another is not tried.
        """
        servers: dict[str, int] = {}
        for busy_ratio in (0.9, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05, 0.02):
            wanted = {name: self._at_ratio(part, busy_ratio) for name, part in self.parts.items()}
            if wanted != servers and self.at(wanted).verdict == "met":
                servers = wanted
                break
            servers = wanted
        else:
            why = self.at(servers).why or "not even with a fiftieth of the capacity busy"
            return Size(None, {name: part.too_few for name, part in self.parts.items()}, why)
        too_few: dict[str, int] = {}
        while True:
            before = dict(servers)
            for name in sorted(servers, key=lambda one: -servers[one] * self.prices.get(one, 1.0)):
                fewest = min(self.parts[name].too_few, servers[name] - 1)
                too_few[name], servers[name] = edges(self._others_as(servers, name), fewest, servers[name])
            if servers == before and not self._trade(servers):
                return Size(servers, too_few)

    def _trade(self, servers: dict[str, int]) -> bool:
        """One dear server less and one cheaper one more, if the objectives still hold; True if `servers` were changed."""
        for dear in sorted(self.prices, key=lambda one: -self.prices[one]):
            for cheap in sorted(self.prices, key=lambda one: self.prices[one]):
                part = self.parts[cheap]
                if self.prices[cheap] >= self.prices[dear] or servers[dear] - 1 <= self.parts[dear].too_few or servers[dear] < 2:
                    continue
                if part.most is not None and servers[cheap] >= part.most:
                    continue
                changed = {**servers, dear: servers[dear] - 1, cheap: servers[cheap] + 1}
                if self.at(changed).verdict == "met":
                    servers.update(changed)
                    return True
        return False

    def _others_as(self, servers: Mapping[str, int], name: str) -> Callable[[int], str]:
        return lambda count: self.at({**servers, name: count}).verdict

    @staticmethod
    def _at_ratio(part: Capacity, busy_ratio: float) -> int:
        wanted = max(part.too_few + 1, math.ceil(part.least / busy_ratio))
        return wanted if part.most is None else min(wanted, part.most)


@dataclass(frozen=True)
class Knee:
    """The highest load factor that meets the objectives: known to be met at `low` and missed at `high`.

    `low` 0: no load meets them. `high` infinite: none that was tried misses them. `estimate` is between the two.
    """

    low: float
    high: float
    estimate: float
    at_low: Judgement | None
    at_high: Judgement | None


def knee(judge: Judge, scenario: Scenario, saturation: float, most: float, tolerance_ratio: float = 0.02) -> Knee:
    """Search the highest load factor that meets the objectives, to `tolerance_ratio` where the noise allows.

    `saturation` is the bound by the offered load, `most` the highest load that may be tried. Objectives of throughput are left
    out, as less load can only lower it; raises `ValueError` if there are no others.
    """
    slo = {name: target for name, target in scenario.slo.items() if not at_least(name)}
    scenario = replace(scenario, slo=slo)

    def at(load_factor: float) -> Judgement:
        if load_factor >= saturation:
            return Judgement("missed", 0, {}, "the offered load is the capacity")
        return judge(f"load factor {load_factor:.4g}", with_load(scenario, load_factor))

    low = high = min(scenario.run.load_factor, saturation / 2, most)
    for _ in range(_STEPS_DOWN):
        if at(low).verdict == "met":
            break
        low /= 2
    else:
        return Knee(0.0, 2 * low, 0.0, None, at(2 * low))
    for _ in range(_STEPS_UP):
        if at(high).verdict == "missed":
            break
        if high >= most:
            return Knee(high, math.inf, high, at(high), None)
        low = high if at(high).verdict == "met" else low
        high = min(2 * high, saturation, most)
    steps = max(1, math.ceil(math.log(high / low) / math.log1p(tolerance_ratio)))

    def load(number: int) -> float:
        return float(high * (low / high) ** (number / steps))

    missed, met = edges(lambda number: at(load(number)).verdict, 0, steps)
    at_low, at_high = at(load(met)), at(load(missed))
    return Knee(load(met), load(missed), _between(slo, load(met), load(missed), at_low, at_high), at_low, at_high)


def _between(slo: Mapping[str, float], low: float, high: float, at_low: Judgement, at_high: Judgement) -> float:
    """Where the tightest objective crosses its target, by interpolation; the middle where one side was not run."""
    middle = math.sqrt(low * high)
    places = []
    for name, target in slo.items():
        below, above = at_low.figures.get(name), at_high.figures.get(name)
        if below and above and target > 0 and below.mean < target < above.mean and below.mean > 0:
            share = math.log(target / below.mean) / math.log(above.mean / below.mean)
            places.append(low * (high / low) ** share)
    return min(places, default=middle)
