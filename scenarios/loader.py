"""From a scenario file to `model.scenario.Scenario`: the only way that configuration enters the model.

Everything rests on `defaults.toml`; `extends` names a shipped scenario or a file beside it. A file describes the platform, in
the sections of `defaults.toml`, or declares a network of its own (`declared.py`). Units are in the keys (`units.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from model.network import Network
from model.platform import CACHES, MILESTONES, OPERATIONS
from model.scenario import Run, Scenario
from scenarios import sections
from scenarios.declared import read_network
from scenarios.documents import DEFAULTS, Document, assemble, read_toml
from scenarios.fields import Path, Place, ScenarioError, hint, text
from scenarios.happenings import (
    read_autoscaling,
    read_cascades,
    read_closed_users,
    read_events,
    read_faults,
    read_surges,
)
from scenarios.hosts import read_hosts
from scenarios.objectives import Names, read_slo

_EVERYWHERE = ("question", "run", "slo", "faults", "surges", "closed_users", "autoscaling", "prices", "events")
_PLATFORM = (
    "population", "workload", "cascades", "load", "feed", "uploads", "notifications", "search",
    "hosts", "stations", "topics", "service_times", "costs", "priorities",
    "clients",
)  # fmt: skip
Read = TypeVar("Read")


def load_scenario(
    name_or_path: str, overrides: Sequence[str] = (), seed: int | None = None, graph: str | None = None
) -> Scenario:
    """The scenario of a shipped name or a path, with `overrides` such as "feed.threshold=5000".

    `seed` and `graph` (a path) go before the file's. Raises `ScenarioError`, one line, for whatever is wrong.
    """
    return scenario_of(load_document(name_or_path, overrides, seed, graph))


def load_document(
    name_or_path: str,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    graph: str | None = None,
    both_ways: bool = False,
) -> Document:
    """The same as a table with origins, not yet checked. With `both_ways` whoever is followed in `graph` follows back."""
    options: dict[str, tuple[Path, Any]] = {}
    if seed is not None:
        options["--seed"] = (("run", "seed"), seed)
    if graph is not None:
        options["--graph"] = (("population", "graph"), graph)
    if both_ways:
        options["--both-ways"] = (("population", "both_ways"), True)
    return assemble(name_or_path, overrides, options)


def scenario_of(document: Document) -> Scenario:
    """A document, checked and converted. Raises `ScenarioError`."""
    try:
        return _declared(document) if document.declared else _platform(document)
    except RecursionError as problem:
        raise ScenarioError(f"{document.place.file}: nested too deep; write fewer levels") from problem


def _section(document: Document, key: str, read: Callable[..., Read], *more: Any) -> Read:
    return read(document.place.at(key), document.values[key], *more)


def _check_sections(document: Document, known: tuple[str, ...]) -> None:
    for key in document.values:
        place = document.place.at(key)
        if key in known:
            continue
        if key in _PLATFORM:
            raise place.error(
                "belongs to the platform, and this file declares a network", f"leave [{key}] or [network] out"
            )
        raise place.error("unknown section", hint(key, known))


def _platform(document: Document) -> Scenario:
    defaults = read_toml(DEFAULTS, DEFAULTS.name)
    _check_sections(document, (*_EVERYWHERE, *_PLATFORM))
    run = _section(document, "run", sections.read_run)
    population = sections.read_population(document, document.values["population"])
    hosts = read_hosts(document.place.at("hosts"), document.values.get("hosts", {}))
    stations = _section(document, "stations", sections.read_stations, defaults["stations"], hosts)
    topics = _section(document, "topics", sections.read_topics, defaults["topics"])
    members = {name: stations[name].servers for name in sections.WORKERS}
    members |= {topic: members[workers] for workers, topic in sections.WORKERS.items()}
    names = Names(
        OPERATIONS,
        tuple(one.name for one in MILESTONES),
        tuple(stations),
        tuple(topics),
        members,
        tuple(sections.WORKERS),
        CACHES,
    )
    users = population.users if population.graph is None else 2**31
    place = document.place
    whole = Scenario(
        name=document.name,
        question=_section(document, "question", text),
        run=run,
        population=population,
        load=_section(document, "load", sections.read_load),
        feed=_section(document, "feed", sections.read_feed),
        uploads=_section(document, "uploads", sections.read_uploads),
        notifications=_section(document, "notifications", sections.read_notifications),
        search=_section(document, "search", sections.read_search),
        hosts=hosts,
        stations=stations,
        topics=topics,
        service_times=_section(document, "service_times", sections.read_service_times, defaults["service_times"]),
        costs_s=_section(document, "costs", sections.read_costs_s, defaults["costs"]),
        workload=sections.read_workload(document, document.values["workload"]),
        clients=_section(document, "clients", sections.read_clients),
        priorities=sections.read_priorities(place.at("priorities"), document.values.get("priorities", {}), OPERATIONS),
        cascades=read_cascades(place.at("cascades"), document.values.get("cascades", []), names, run.duration_s),
        **_happenings(document, run, names, defaults["prices"], users, len(population.celebrities)),
    )
    return whole if population.cells == 1 else _cell(document, whole)


def _cell(document: Document, whole: Scenario) -> Scenario:
    """One of the cells of the platform that the document describes as a whole."""
    from model.scaling import Cells  # not before it is needed: NumPy

    place, population = document.place.at("population", "cells"), whole.population
    if population.graph is not None:
        raise place.error("goes with a drawn population, not with a graph", "leave one of the two out")
    try:
        return Cells(population.cells).cell_of(whole)
    except ValueError as problem:
        raise place.error(str(problem), "take fewer cells, or smaller celebrities") from problem


def _happenings(
    document: Document, run: Run, names: Names, known_prices: Mapping[str, Any], users: int, celebrities: int
) -> dict[str, Any]:
    """What platforms and declared networks have in common."""
    place, values = document.place, document.values
    return {
        "events": read_events(place.at("events"), values.get("events", []), names, run.duration_s, users, celebrities),
        "faults": read_faults(place.at("faults"), values.get("faults", []), names, run.duration_s),
        "surges": read_surges(place.at("surges"), values.get("surges", []), names, run.duration_s),
        "closed_users": read_closed_users(place.at("closed_users"), values.get("closed_users", []), names),
        "autoscaling": read_autoscaling(place.at("autoscaling"), values.get("autoscaling", []), names),
        "slo": read_slo(place.at("slo"), values.get("slo", {}), names),
        "prices": sections.read_prices(place.at("prices"), values["prices"], known_prices, names.stations),
    }


def _declared(document: Document) -> Scenario:
    _check_sections(document, (*_EVERYWHERE, "network"))
    run = _section(document, "run", sections.read_run)
    declared = _section(document, "network", read_network)
    names = _names_of(declared.network)
    defaults = read_toml(DEFAULTS, DEFAULTS.name)
    unused = Document("defaults", defaults, {}, {})
    return Scenario(
        name=document.name,
        question=_section(document, "question", text),
        run=run,
        population=sections.read_population(unused, defaults["population"]),
        load=sections.read_load(Place({}), defaults["load"]),
        feed=sections.read_feed(Place({}), defaults["feed"]),
        uploads=sections.read_uploads(Place({}), defaults["uploads"]),
        notifications=sections.read_notifications(Place({}), defaults["notifications"]),
        search=sections.read_search(Place({}), defaults["search"]),
        hosts=(),
        stations={},
        topics={},
        service_times={},
        costs_s={},
        declared=declared,
        **_happenings(document, run, names, defaults["prices"], 1, 0),
    )


def _names_of(network: Network) -> Names:
    members = {topic.name: topic.consumers for topic in network.topics}
    return Names(
        network.names("operations"),
        network.milestone_names(),
        network.names("stations"),
        network.names("topics"),
        members,
        caches=network.names("caches"),
    )
