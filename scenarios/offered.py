"""What a scenario's arrivals ask of each part, before anything is simulated."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from model import platform
from model.offered_load import OfferedLoad, Values, offered_loads
from model.population import FollowGraph
from model.scenario import Scenario
from scenarios.documents import Document
from scenarios.fields import ScenarioError

MOST_REQUESTS = 50_000_000  # a schedule takes about a hundred bytes for each


def graph_of(document: Document, scenario: Scenario) -> FollowGraph | None:
    """Who follows whom; None for a declared network. Raises `ScenarioError` for a bad edge list."""
    if scenario.declared is not None:
        return None
    try:
        return platform.build_graph(scenario.population, scenario.run.seed)
    except (ValueError, OSError) as problem:
        place = (
            document.place.at("population", "graph") if scenario.population.graph else document.place.at("population")
        )
        raise place.error(str(problem), "correct it there") from problem


def check_size(document: Document, scenario: Scenario) -> None:
    """Raise `ScenarioError` if a run would have more requests than fit in memory."""
    requests = sum(platform.arrival_rates(scenario).values()) * scenario.run.duration_s
    requests += sum(event.count for event in scenario.events)
    if not requests <= MOST_REQUESTS:
        raise document.place.at("run", "duration_s").error(
            f"the run would have {requests:.3g} requests, more than {MOST_REQUESTS:.3g}",
            "lower duration_s, load_factor or the arrival rates",
        )


def loads_of(scenario: Scenario, graph: FollowGraph | None) -> tuple[OfferedLoad, ...]:
    """Offered load of every station, consumer group and quota; every user of the platform is equally likely."""
    network, rates_per_s = platform.build_network(scenario), platform.arrival_rates(scenario)
    attributes: Mapping[str, Mapping[str, Values]]
    if scenario.declared is not None:
        arrivals = scenario.declared.arrivals
        attributes = {
            name: {key: one.mean_s for key, one in item.attributes.items()} for name, item in arrivals.items()
        }
    else:
        if graph is None:
            raise ValueError("the platform's load depends on its follow graph")
        users = np.arange(graph.users)
        spread = (users + 0.5) / graph.users
        attributes = {name: platform.request_attributes(scenario, graph, name, users, spread) for name in rates_per_s}
    return offered_loads(network, rates_per_s, attributes)


def complaints(document: Document, scenario: Scenario, loads: Sequence[OfferedLoad]) -> list[ScenarioError]:
    """One for each part whose least offered load is more than its capacity."""
    workers = {topic.name: topic.workers for topic in platform.build_network(scenario).topics}
    found = []
    for load in loads:
        if not load.exceeded:
            continue
        group = workers.get(load.name) if load.kind == "consumers" else None
        kind = {"station": "stations", "consumers": "topics", "quota": "quotas", "host": "hosts"}[load.kind]
        path = ("stations", group) if group else (kind, load.name)
        place = document.place.at(*(path if scenario.declared is None else ("network", *path)))
        units = {"station": "servers", "consumers": "consumers", "quota": "tokens per second", "host": "cores"}
        unit = units[load.kind]
        needed = "no finite number of" if math.isinf(load.least) else f"{load.least:.3g}"
        more = "more of both, or less load" if load.kind == "consumers" else "give it more, or less load"
        limited = " (members and partitions)" if load.kind == "consumers" else ""
        found.append(
            place.error(
                f"the offered load needs {needed} {unit}, more than the {load.capacity:g} there are{limited}", more
            )
        )
    return found
