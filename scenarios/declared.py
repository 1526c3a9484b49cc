"""Networks of one's own: `[network.stations.X]`, `[network.operations."a.b"]`, `[network.topics.X]`, caches, quotas and hosts.

A step is a table with one verb:

    { serve = "api", service_time = { distribution = "exponential", mean_ms = 10 }, per_ms = { rows = 0.1 } }
    { delay = { distribution = "constant", mean_ms = 5 }, per_ms = { rows = 0.1 } }
    { scatter = { count = 3, join = true, steps = [ … ] } }          # or each_event = true in a topic; join = "any",
                                                                      # stagger = { … }: a hedged request
    { publish = "topic", key = "attribute", weight = "attribute" }
    { branch = [ { probability = 0.1, steps = [ … ] }, … ] }
    { lookup = "cache", key = "attribute", hit = [ … ], miss = [ … ] }
    { evict = "cache", key = "attribute" }                            # what the entry was made of has changed
    { acquire = "quota" }                                             # or wait = false, otherwise = [ … ]: refused, failed
    { hold = "station", steps = [ … ] }                              # a server is kept while they run
    { fail = 0.01 }                                                   # or an attribute; a try around it runs again
    { try = [ … ], timeout_ms = 100, attempts = 3, backoff = { … }, growth = 2, otherwise = [ … ],
      jitter = "full", backoff_max_ms = 500, budget = "NAME", breaker = "NAME" }
    { respond = true }
    { mark = "milestone" }
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from model import network as net
from model.distributions import NEVER, Distribution, exponential
from model.scenario import DeclaredNetwork, OperationArrivals
from scenarios.durations import amount, duration
from scenarios.fields import (
    Field,
    Place,
    ScenarioError,
    Spec,
    as_list,
    as_table,
    choice,
    flag,
    hint,
    name,
    number,
    read_fields,
    text,
    whole,
)
from scenarios.hosts import processes, read_hosts
from scenarios.units import one_of

_KINDS = ("stations", "operations", "topics", "caches", "quotas", "milestones", "hosts", "budgets", "breakers")
_NEVER_PER_S = 1e-12  # a rate of 0: only closed users ask
STATION: Spec = {
    "servers": Field(whole(), 1),
    "discipline": Field(choice(net.DISCIPLINES), "fifo"),
    "queue_limit": Field(whole(0), None),
    "shed_above": Field(whole(0), None),
    "shed_keeps": Field(whole(-1000, 1000), 0),
    "ageing_s": Field(number(), 0.0),
    "growth_per_1k": Field(number(), 0.0),
}


def read_network(place: Place, value: Any) -> DeclaredNetwork:
    """The `[network]` section as a network and its arrivals. Raises `ScenarioError`."""
    sections = {kind: Field(_named, {}) for kind in _KINDS}
    tables = read_fields(place, value, sections)
    words = _Words({kind: tuple(tables[kind]) for kind in _KINDS})
    if not tables["operations"]:
        raise place.error("has no operations", 'declare one, [network.operations."shop.buy"]')
    attributes: dict[str, None] = {}
    arrivals: dict[str, OperationArrivals] = {}
    operations = []
    for title, table in tables["operations"].items():
        here = place.at("operations", title)
        read = read_fields(here, table, words.operation())
        arrivals[title] = OperationArrivals(_interarrival(here, read), read["attributes"])
        attributes.update(dict.fromkeys(read["attributes"]))
        operations.append(net.Operation(title, read["steps"], read["priority"]))

    def each(kind: str, make: Callable[..., Any], spec: Spec) -> tuple[Any, ...]:
        return tuple(
            make(title, read_fields(place.at(kind, title), table, spec)) for title, table in tables[kind].items()
        )

    station = {**STATION, **processes(words.names["hosts"])}
    cache: Spec = {
        "ttl_s": Field(number(above=True)),
        "capacity": Field(whole(), None),
        "coalesce": Field(flag, False),
        "stampede": Field(flag, False),
    }
    quota: Spec = {"rate_per_s": Field(number(above=True)), "burst": Field(number(1), 1.0)}
    budget: Spec = {"ratio": Field(number(), 0.1), "burst": Field(number(), 10.0)}
    breaker: Spec = {
        "window": Field(whole(1, 1_000_000), 100),
        "failure_ratio": Field(number(0, 1, above=True), 0.5),
        "pause_s": Field(number(above=True), 60.0),
    }
    milestone: Spec = {"since": Field(choice(("arrival", "answer")), "arrival")}
    try:
        network = net.Network(
            operations=tuple(operations),
            stations=each("stations", lambda title, read: net.Station(title, **read), station),
            topics=each("topics", lambda title, read: _topic(place.at("topics", title), title, read), words.topic()),
            caches=each("caches", lambda title, read: net.Cache(title, **read), cache),
            quotas=each("quotas", lambda title, read: net.Quota(title, **read), quota),
            milestones=each("milestones", lambda title, read: net.Milestone(title, **read), milestone),
            budgets=each("budgets", lambda title, read: net.RetryBudget(title, **read), budget),
            breakers=each("breakers", lambda title, read: net.Breaker(title, **read), breaker),
            attributes=tuple(attributes),
            hosts=read_hosts(place.at("hosts"), tables["hosts"]),
        )
    except ScenarioError:
        raise
    except ValueError as problem:
        wrong, _, right = str(problem).partition(" (")
        raise place.error(wrong, right.rstrip(")") or "correct this step") from problem
    return DeclaredNetwork(network, arrivals)


def _named(place: Place, value: Any) -> dict[str, Any]:
    tables = as_table(place, value)
    for title in tables:
        name(place.at(title), title)
    return tables


def _interarrival(place: Place, read: dict[str, Any]) -> Distribution:
    rate_per_s, gap = read["arrivals"], read["interarrival"]
    if (rate_per_s is None) == (gap is None):
        wrong = "has no arrivals" if gap is None else "has both arrivals and interarrival"
        raise place.error(wrong, "give arrivals = { rate_per_s = … } or interarrival = { distribution = … }")
    if rate_per_s is not None:
        return exponential(1 / max(rate_per_s["rate_per_s"], _NEVER_PER_S))
    if not gap.mean_s > 0:
        raise place.at("interarrival").error("has a mean of 0", "give a mean above 0")
    interarrival: Distribution = gap
    return interarrival


def _topic(place: Place, title: str, read: dict[str, Any]) -> net.Topic:
    service_time, per_event_s, steps = (read.pop(key) for key in ("service_time", "per_event_s", "steps"))
    if service_time is None and not per_event_s and not steps:
        raise place.error("its consumers do nothing", "give service_time or steps")
    if service_time is not None or per_event_s:
        per = {"events": per_event_s} if per_event_s else {}
        steps = (net.Delay(service_time or NEVER, per), *steps)
    return net.Topic(title, steps, **read)


def _rate(place: Place, value: Any) -> dict[str, Any]:
    return read_fields(place, value, {"rate_per_s": Field(number(0, 1e9))})


def _attributes(place: Place, value: Any) -> dict[str, Distribution]:
    return {title: amount(place.at(title), given) for title, given in _named(place, value).items()}


def _per(place: Place, value: Any) -> dict[str, Any]:
    return {attribute: number()(place.at(attribute), cost) for attribute, cost in as_table(place, value).items()}


def _count_or_attribute(place: Place, value: Any) -> int | str:
    return value if isinstance(value, str) else int(whole(0, 1_000_000)(place, value))


def _join(place: Place, value: Any) -> bool | str:
    return value if value == "any" else flag(place, value)


def _probability(place: Place, value: Any) -> float | str:
    return value if isinstance(value, str) else float(number(0, 1)(place, value))


@dataclass(frozen=True)
class _Words:
    """The names that exist, by kind; the specs and readers that need them."""

    names: Mapping[str, tuple[str, ...]]

    def one(self, kind: str) -> Field:
        """The name of something declared."""
        names = self.names[kind]
        return Field(choice(names, right=None if names else f"declare it, [network.{kind}.NAME]"))

    def one_or_none(self, kind: str) -> Field:
        """The same, or nothing."""
        return Field(self.one(kind).read, None)

    def operation(self) -> Spec:
        return {
            "arrivals": Field(_rate, None),
            "interarrival": Field(duration, None),
            "priority": Field(whole(-1000, 1000), 0),
            "attributes": Field(_attributes, {}),
            "steps": Field(self.steps),
        }

    def topic(self) -> Spec:
        return {
            "partitions": Field(whole(1, 100_000), 1),
            "linger_s": Field(number(), 0.0),
            "batch_max": Field(whole(), 1),
            "acknowledgement": Field(duration, NEVER),
            "fetch": Field(duration, NEVER),
            "consumers": Field(whole(1, 100_000), 1),
            "poll_max": Field(whole(), 500),
            "poll_wait_s": Field(number(), 0.0),
            "session_timeout_s": Field(number(), 45.0),  # source: Kafka ConsumerConfig session.timeout.ms
            "retry_s": Field(number(above=True), 0.1),  # assumption
            "idempotent": Field(flag, True),
            "lag_limit": Field(whole(), None),
            "service_time": Field(duration, None),
            "per_event_s": Field(number(), 0.0),
            "steps": Field(self.steps, ()),
        }

    def verbs(self) -> dict[str, tuple[Spec, Callable[..., net.Step]]]:
        """For each verb the keys of its step, and what becomes of them."""
        per = Field(_per, {})
        attribute = Field(text, None)
        scatter: Spec = {
            "count": Field(_count_or_attribute, 1),
            "join": Field(_join, True),
            "each_event": Field(flag, False),
            "steps": Field(self.steps),
            "stagger": Field(duration, NEVER),
        }
        serve: Spec = {"serve": self.one("stations"), "service_time": Field(duration), "per_s": per}
        lookup: Spec = {
            "lookup": self.one("caches"),
            "key": Field(text),
            "hit": Field(self.steps, ()),
            "miss": Field(self.steps),
        }
        acquire: Spec = {
            "acquire": self.one("quotas"),
            "wait": Field(flag, True),
            "otherwise": Field(self.steps, ()),
        }
        attempt: Spec = {
            "try": Field(self.steps),
            "timeout_s": Field(number(), 0.0),
            "attempts": Field(whole(1, 100), 1),
            "backoff": Field(duration, NEVER),
            "growth": Field(number(0, 100, above=True), 1.0),
            "jitter": Field(choice(net.JITTERS), "none"),
            "backoff_max_s": Field(number(), math.inf),
            "budget": self.one_or_none("budgets"),
            "breaker": self.one_or_none("breakers"),
            "otherwise": Field(self.steps, ()),
        }
        return {
            "serve": (serve, lambda r: net.Serve(r["serve"], r["service_time"], r["per_s"])),
            "delay": ({"delay": Field(duration), "per_s": per}, lambda r: net.Delay(r["delay"], r["per_s"])),
            "scatter": (
                {"scatter": Field(lambda place, value: read_fields(place, value, scatter))},
                lambda r: net.Scatter(**r["scatter"]),
            ),
            "publish": (
                {"publish": self.one("topics"), "key": attribute, "weight": attribute},
                lambda r: net.Publish(r["publish"], r["key"], r["weight"]),
            ),
            "branch": ({"branch": Field(self.arms)}, lambda r: net.Branch(r["branch"])),
            "lookup": (lookup, lambda r: net.Lookup(r["lookup"], r["key"], r["miss"], r["hit"])),
            "evict": ({"evict": self.one("caches"), "key": Field(text)}, lambda r: net.Evict(r["evict"], r["key"])),
            "acquire": (acquire, lambda r: net.Acquire(r["acquire"], r["wait"], r["otherwise"])),
            "hold": (
                {"hold": self.one("stations"), "steps": Field(self.steps)},
                lambda r: net.Hold(r["hold"], r["steps"]),
            ),
            "fail": ({"fail": Field(_probability)}, lambda r: net.Fail(r["fail"])),
            "try": (attempt, lambda r: net.Try(r.pop("try"), **r)),
            "respond": ({"respond": Field(_true)}, lambda r: net.Respond()),
            "mark": ({"mark": Field(name)}, lambda r: net.Mark(r["mark"])),
        }

    def steps(self, place: Place, value: Any) -> tuple[net.Step, ...]:
        """A list of steps."""
        return tuple(self.step(place.at(index), item) for index, item in enumerate(as_list(place, value), 1))

    def step(self, place: Place, value: Any) -> net.Step:
        """One step: a table with exactly one verb."""
        verbs = self.verbs()
        table = as_table(place, value)
        found = [key for key in table if key in verbs]
        if len(found) != 1:
            key = next((key for key in table), "")
            if found:
                raise place.error(f"has the verbs {' and '.join(found)}", "give each its own step")
            raise place.error(
                f"has no verb{f', only {key}' if key else ''}", hint(key, verbs) if key else one_of(tuple(verbs))
            )
        spec, make = verbs[found[0]]
        return make(read_fields(place, table, spec))

    def arms(self, place: Place, value: Any) -> tuple[net.Arm, ...]:
        """The arms of a branch."""
        spec: Spec = {"probability": Field(_probability), "steps": Field(self.steps)}
        return tuple(
            net.Arm(**read_fields(place.at(index), item, spec)) for index, item in enumerate(as_list(place, value), 1)
        )


def _true(place: Place, value: Any) -> bool:
    if not flag(place, value):
        raise place.error("is false", "write respond = true or leave the step out")
    return True
