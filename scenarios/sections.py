"""The sections of a scenario of the platform, and `[run]`, which every scenario has."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from model.distributions import Distribution
from model.hosts import Host
from model.network import DISCIPLINES, Network
from model.scenario import (
    STRATEGIES,
    TIERS,
    Clients,
    Feed,
    Load,
    Notifications,
    Population,
    Run,
    Search,
    StationSettings,
    TopicSettings,
    Uploads,
    Workload,
)
from model.uploads import LEAST_BYTES, MOST_BYTES
from scenarios.documents import Document
from scenarios.durations import duration
from scenarios.fields import (
    Field,
    Place,
    Spec,
    as_list,
    as_table,
    choice,
    flag,
    hint,
    number,
    read_fields,
    text,
    whole,
)
from scenarios.hosts import processes
from scenarios.units import split_unit

# The platform's consumer groups: their members are reported as stations of these names.
WORKERS = {
    "fanout_dispatchers": "posts",
    "fanout_workers": "fanout",
    "interaction_workers": "interactions",
    "notification_workers_high": "notifications_high",
    "notification_workers_low": "notifications_low",
    "indexers": "search",
}

_MOST_SIMULATED = 100_000_000  # users

_RUN: Spec = {
    "duration_s": Field(number(above=True)),
    "warmup_s": Field(number(), None),
    "seed": Field(whole(0, 2**63 - 1)),
    "load_factor": Field(number(0, 1e6, above=True)),
}
_POPULATION: Spec = {
    "users": Field(whole(2, 100_000_000_000)),
    "mean_followees": Field(number()),
    "follower_exponent": Field(number(1, 10, above=True)),
    "celebrities": Field(
        lambda place, value: tuple(
            whole(1, 100_000_000_000)(place.at(index), item) for index, item in enumerate(as_list(place, value), 1)
        )
    ),
    "initial_posts_per_user": Field(whole(0, 10_000)),
    "graph": Field(text),
    "both_ways": Field(flag),
    "copies": Field(whole(1, 10_000)),
    "cells": Field(whole(1, 1_000_000)),
}
_LOAD: Spec = {
    "feed_opens_per_s": Field(number()),
    "publishes_per_feed_open": Field(number()),
    "likes_per_feed_open": Field(number()),
    "reads_per_feed_open": Field(number()),
    "searches_per_feed_open": Field(number()),
    "follows_per_feed_open": Field(number()),
    "uploads_per_feed_open": Field(number()),
    "views_per_feed_open": Field(number()),
    "comments_per_like": Field(number()),
    "unlikes_per_like": Field(number()),
    "post_popularity_exponent": Field(number(0, 10)),
    "think_time_s": Field(number()),
    "subscribes_per_feed_open": Field(number()),
    "streams_per_feed_open": Field(number()),
}
_CLIENTS: Spec = {
    "timeout_s": Field(number()),
    "attempts": Field(whole(1, 100)),
    "backoff_s": Field(number()),
    "budget_ratio": Field(number(), None),
    "breaker_failure_ratio": Field(number(), None),
    "breaker_window": Field(whole(1, 100_000)),
    "breaker_pause_s": Field(number()),
}
_FEED: Spec = {
    "strategy": Field(choice(STRATEGIES)),
    "threshold": Field(whole(0)),
    "page_size": Field(whole(1, 100)),
    "fanout_batch_followers": Field(whole(1)),
    "inactive_ratio": Field(number(0, 1)),
    "push_to_inactive": Field(flag),
    "page_cache_ttl_s": Field(number(above=True), None),
    "author_cache_ttl_s": Field(number(above=True), None),
    "leases": Field(flag),
}
_UPLOADS: Spec = {
    "least_bytes": Field(number(above=True)),
    "most_bytes": Field(number(above=True)),
    "part_bytes": Field(number(above=True)),
    "part_loss_ratio": Field(number(0, 0.9)),
    "edge_ttl_s": Field(number(above=True)),
    "viewed_files": Field(whole(1, 100_000_000)),
    "part_failures_per_gib": Field(number()),
    "resume": Field(flag),
    "notification_loss_ratio": Field(number(0, 1)),
    "sweep_s": Field(number(above=True)),
    "url_lifetime_s": Field(number(above=True), None),
    "shield_ttl_s": Field(number(above=True), None),
    "browsers": Field(flag),
    "notification_again_ratio": Field(number(0, 1)),
    "abandoned_ratio": Field(number(0, 0.99)),
    "abandoned_kept_s": Field(number()),
    "store_rate_per_s": Field(number(above=True), None),
    "edge_files": Field(whole(), None),
    "shield_files": Field(whole(), None),
    "single_flight": Field(flag),
}
_NOTIFICATIONS: Spec = {
    "online_ratio": Field(number(0, 1)),
    "like_window_s": Field(number(above=True)),
    "push_quota_per_s": Field(number(above=True)),
    "push_quota_burst": Field(number(1)),
    "tiers": Field(choice(TIERS)),
}
_WORKLOAD: Spec = {
    "daily_amplitude_ratio": Field(number(0, 1)),
    "daily_period_s": Field(number(above=True)),
    "daily_peak_s": Field(number()),
    "sessions": Field(flag),
    "dwell_s": Field(number(above=True)),
    "trace": Field(text),
}
_SEARCH: Spec = {
    "shards": Field(whole(1, 1_000)),
    "refresh_s": Field(number(above=True)),
    "cache_ttl_s": Field(number(above=True)),
    "distinct_queries": Field(whole(1, 10_000_000)),
    "query_popularity_exponent": Field(number(0, 10)),
    "cache_answers": Field(whole(), None),
    "single_flight": Field(flag),
    "hedge_after_s": Field(number(), None),
}
_STATION: Spec = {
    "servers": Field(whole(1, 1_000_000)),
    "discipline": Field(choice(DISCIPLINES), "fifo"),
    "queue_limit": Field(whole(0), None),
    "shed_above": Field(whole(0), None),
    "shed_keeps": Field(whole(-1000, 1000), 0),
    "ageing_s": Field(number(), 0.0),
    "growth_per_1k": Field(number(), 0.0),
}
_MEMBERS: Spec = {"servers": _STATION["servers"]}
_TOPIC: Spec = {
    "partitions": Field(whole(1, 100_000)),
    "linger_s": Field(number()),
    "batch_max": Field(whole()),
    "poll_max": Field(whole()),
    "poll_wait_s": Field(number()),
    "session_timeout_s": Field(number()),
    "lag_limit": Field(whole(), None),
}


def read_run(place: Place, value: Any) -> Run:
    """`[run]`; the warm-up is shorter than the run, a tenth of it where none is given."""
    read = read_fields(place, value, _RUN)
    if read["warmup_s"] is None:
        read["warmup_s"] = read["duration_s"] / 10  # assumption, said in defaults.toml
    run = Run(**read)
    if run.warmup_s >= run.duration_s:
        raise place.at("warmup_s").error(
            f"is {run.warmup_s:g} s of a run of {run.duration_s:g} s", "give a warm-up shorter than duration_s"
        )
    return run


def read_population(document: Document, value: Any) -> Population:
    """`[population]`; a relative path of a graph counts from the file that names it."""
    place = document.place.at("population")
    read = read_fields(place, value, _POPULATION)
    users = read["users"]
    if users / read["cells"] > _MOST_SIMULATED:
        right = f"take {math.ceil(users / _MOST_SIMULATED)} cells or more (population.cells)"
        raise place.at("users").error(f"is {users:,}, more than one simulation holds", right)
    read["graph"] = _file(document, place.at("graph"), read["graph"], "name an edge list, or leave it out to draw a graph")
    if read["graph"] is None:
        for key, most in (
            ("mean_followees", read["mean_followees"]),
            ("celebrities", max(read["celebrities"], default=0)),
        ):
            if most > users - 1:
                raise place.at(key).error(f"is {most:g} of {users} users", "nobody has more than all others")
    return Population(**read)


def _file(document: Document, place: Place, name: str, right: str) -> str | None:
    if not name:
        return None
    path = document.folders.get(place.file, Path()) / name
    try:
        if path.is_file():
            return str(path)
    except (OSError, ValueError):  # a name that no file can have
        pass
    raise place.error(f"no file {name!r}", right)


def read_workload(document: Document, value: Any) -> Workload:
    """`[workload]`; a relative path of a trace counts from the file that names it."""
    place = document.place.at("workload")
    read = read_fields(place, value, _WORKLOAD)
    read["trace"] = _file(document, place.at("trace"), read["trace"], "name a CSV file of arrivals, or leave it out to draw them")
    return Workload(**read)


def read_prices(place: Place, value: Any, known: Mapping[str, Any], servers: Iterable[str]) -> dict[str, float]:
    """`[prices]`, and prices of the `servers` of one station or group each."""
    own = [f"{name}_usd_per_hour" for name in servers]
    table = as_table(place, value)
    for key in table:
        if key not in known and key not in own:
            raise place.at(key).error("unknown name", hint(key, (*known, *own)))
    return {key: number()(place.at(key), price) for key, price in table.items()}


def read_load(place: Place, value: Any) -> Load:
    """`[load]`."""
    return Load(**read_fields(place, value, _LOAD))


def read_clients(place: Place, value: Any) -> Clients:
    """`[clients]`."""
    return Clients(**read_fields(place, value, _CLIENTS))


def read_feed(place: Place, value: Any) -> Feed:
    """`[feed]`."""
    return Feed(**read_fields(place, value, _FEED))


def read_uploads(place: Place, value: Any) -> Uploads:
    """`[uploads]`."""
    read = read_fields(place, value, _UPLOADS)
    for key in ("least_bytes", "most_bytes", "part_bytes"):
        read[key] = round(read[key])  # written in MiB it may have been a fraction
        least = 1 if key == "part_bytes" else LEAST_BYTES
        if not least <= read[key] <= MOST_BYTES:
            raise place.at(key).error(f"is {read[key]} bytes", f"write {least} to {MOST_BYTES} bytes")
    uploads = Uploads(**read)
    if uploads.least_bytes > uploads.most_bytes:
        raise place.at("least_bytes").error("is more than most_bytes", "give the smaller size first")
    return uploads


def read_notifications(place: Place, value: Any) -> Notifications:
    """`[notifications]`."""
    return Notifications(**read_fields(place, value, _NOTIFICATIONS))


def read_search(place: Place, value: Any) -> Search:
    """`[search]`."""
    return Search(**read_fields(place, value, _SEARCH))


def read_stations(
    place: Place, value: Any, known: Mapping[str, Any], hosts: Sequence[Host]
) -> dict[str, StationSettings]:
    """`[stations.NAME]`; worker kinds have servers only."""
    as_processes = processes(tuple(host.name for host in hosts))

    def station(here: Place, table: Any) -> StationSettings:
        spec = _MEMBERS if here.path[-1] in WORKERS else {**_STATION, **as_processes}
        settings = StationSettings(**{"discipline": "fifo", "queue_limit": None, **read_fields(here, table, spec)})
        try:
            Network((), (settings.station(str(here.path[-1])),), hosts=tuple(hosts))
        except ValueError as problem:
            wrong, _, right = str(problem).partition("; ")
            raise here.error(wrong, right or "correct this station") from problem
        return settings

    return _named(place, value, known, station)


def read_priorities(place: Place, value: Any, operations: Sequence[str]) -> dict[str, int]:
    """`[priorities]`: operations and how urgent they are; a smaller number goes first."""
    table = as_table(place, value)
    for key in table:
        choice(tuple(operations))(place.at(key), key)
    return {key: int(whole(-1000, 1000)(place.at(key), one)) for key, one in table.items()}


def read_topics(place: Place, value: Any, known: Mapping[str, Any]) -> dict[str, TopicSettings]:
    """`[topics.NAME]`."""
    return _named(place, value, known, lambda here, table: TopicSettings(**read_fields(here, table, _TOPIC)))


def read_service_times(place: Place, value: Any, known: Mapping[str, Any]) -> dict[str, Distribution]:
    """`[service_times]`: distributions by name."""
    return _named(place, value, known, duration)


def read_costs_s(place: Place, value: Any, known: Mapping[str, Any]) -> dict[str, float]:
    """`[costs]` in seconds, by name without its unit ("database_feed_row")."""
    spec = {f"{split_unit(key)[0]}_s": Field(number()) for key in known}
    return {split_unit(key)[0]: cost_s for key, cost_s in read_fields(place, value, spec).items()}


def _named(place: Place, value: Any, known: Mapping[str, Any], read: Callable[[Place, Any], Any]) -> dict[str, Any]:
    table = as_table(place, value)
    for key in table:
        if key not in known:
            raise place.at(key).error("unknown name", hint(key, known))
    return {key: read(place.at(key), item) for key, item in table.items()}
