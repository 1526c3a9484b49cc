"""The composition root: a scenario becomes the network of all rooms, and arrivals get the attributes the rooms read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from model import feed, interactions, log, notifications, search, uploads
from model.distributions import constant
from model.network import Breaker, Delay, Hold, Network, Operation, Respond, RetryBudget, Serve, Try, walk
from model.part import Floats, Ids, Part
from model.population import FollowGraph, read_edge_list, synthetic_graph
from model.scaling import scale_up
from model.scenario import Population, Scenario

OPERATIONS = (
    "feed.publish",
    "feed.open",
    "interactions.like",
    "interactions.unlike",
    "interactions.comment",
    "interactions.read",
    "uploads.begin",
    "uploads.part",
    "uploads.complete",
    "uploads.status",
    "uploads.view",
    "search.query",
    "graph.follow",
    "graph.unfollow",
    "notifications.subscribe",
    "notifications.stream",
)
MILESTONES = (
    feed.DELIVERED,
    interactions.APPLIED,
    uploads.READY,
    notifications.COMMENT_DELIVERED,
    notifications.LIKE_DELIVERED,
    search.SEARCHABLE,
)
CACHES = (*feed.CACHES, *uploads.CACHES, *search.CACHES, *notifications.CACHES)
# The other stations of a scenario are consumer groups.
PROCESSES = ("dispatcher_processes", "fanout_processes", "interaction_processes", "broker", "producer_threads")
"""CPU of workers, broker and the API's producer, where the scenario says that it costs something: they are there if they are used."""
STATIONS = ("api", "database", "object_store", "edge", *log.BROKERS, *search.STATIONS, *notifications.STATIONS)


_BUDGET = "clients"


def build_network(scenario: Scenario) -> Network:
    """The scenario's own network, or the platform with all its rooms."""
    if scenario.declared is not None:
        return scenario.declared.network
    committed = (*feed.changed(scenario), *search.captured(scenario))
    parts = (
        feed.declare(scenario, committed),
        interactions.declare(scenario, notifications.told(scenario)),
        uploads.declare(scenario, committed),
        notifications.declare(scenario),
        search.declare(scenario),
        _ground(scenario),
    )
    used = {
        step.station
        for part in parts
        for routes in (part.operations, part.topics)
        for one in routes
        for step in walk(one.steps)
        if isinstance(step, Serve | Hold)
    }
    stations = tuple(
        settings.station(name) for name, settings in scenario.stations.items() if name in STATIONS or name in used
    )
    operations = tuple(
        replace(_asked_by_clients(scenario, operation), priority=_priority(scenario, operation.name))
        for part in parts
        for operation in part.operations
    )
    return Network(
        operations=operations,
        stations=stations,
        topics=tuple(topic for part in parts for topic in part.topics),
        caches=tuple(cache for part in parts for cache in part.caches),
        quotas=tuple(quota for part in parts for quota in part.quotas),
        attributes=tuple(attribute for part in parts for attribute in part.attributes),
        milestones=tuple(milestone for part in parts for milestone in part.milestones),
        hosts=scenario.hosts,
        breakers=_breakers(scenario, operations),
        budgets=() if scenario.clients.budget_ratio is None else (RetryBudget(_BUDGET, scenario.clients.budget_ratio),),
    )


def _asked_by_clients(scenario: Scenario, operation: Operation) -> Operation:
    """What a client waits for, within its patience; an upload's writes have tries of their own where the store refuses some."""
    clients, steps = scenario.clients, tuple(operation.steps)
    until = next(number for number, step in enumerate(steps) if isinstance(step, Respond))
    waited_for = steps[:until]
    patient = clients.timeout_s == 0 and clients.attempts == 1
    if patient or any(isinstance(step, Try) for step in walk(waited_for)):
        return operation
    tries = Try(
        waited_for,
        timeout_s=clients.timeout_s,
        attempts=clients.attempts,
        backoff=constant(clients.backoff_s),
        growth=2.0,
        jitter="full",
        budget=None if clients.budget_ratio is None else _BUDGET,
        breaker=None if clients.breaker_failure_ratio is None else operation.name,
    )
    return replace(operation, steps=(tries, *steps[until:]))


def _breakers(scenario: Scenario, operations: Sequence[Operation]) -> tuple[Breaker, ...]:
    """Of the operations that clients ask for behind one."""
    clients = scenario.clients
    guarded = {step.breaker for operation in operations for step in walk(operation.steps) if isinstance(step, Try)}
    return tuple(
        Breaker(name, clients.breaker_window, clients.breaker_failure_ratio or 1.0, clients.breaker_pause_s)
        for name in sorted(name for name in guarded if name is not None)
    )


def _priority(scenario: Scenario, operation: str) -> int:
    """As the scenario says; where notifications stand in a queue with priorities, likes come after comments."""
    behind = scenario.notifications.tiers == "queue" and operation in notifications.BEHIND
    return scenario.priorities.get(operation, int(behind))


def _ground(scenario: Scenario) -> Part:
    """Following and unfollowing: the graph is no room, it is what the rooms stand on."""
    times = scenario.service_times
    steps = (
        Delay(times["network_client"]),
        Serve("api", times["api_write"]),
        Delay(times["network_database"]),
        Serve("database", times["database_follow"]),
        Respond(),
    )
    return Part((Operation("graph.follow", steps), Operation("graph.unfollow", steps)))


def build_graph(population: Population, seed: int) -> FollowGraph:
    """The follow graph that a scenario names or describes. Raises `ValueError` for a malformed edge list."""
    if population.graph is not None:
        graph = read_edge_list(population.graph, population.both_ways)
        return graph if population.copies == 1 else scale_up(graph, population.copies, seed)
    return synthetic_graph(
        population.users, population.mean_followees, population.follower_exponent, population.celebrities, seed
    )


def arrival_rates(scenario: Scenario) -> dict[str, float]:
    """Arrivals per second of every operation, events excepted."""
    factor = scenario.run.load_factor
    if scenario.declared is not None:
        return {name: factor / item.interarrival.mean_s for name, item in scenario.declared.arrivals.items()}
    load = scenario.load
    opens = load.feed_opens_per_s * factor
    likes = opens * load.likes_per_feed_open
    begun = opens * load.uploads_per_feed_open
    abandoned = scenario.uploads.abandoned_ratio
    return {
        "feed.publish": opens * load.publishes_per_feed_open,
        "feed.open": opens,
        "interactions.like": likes,
        "interactions.unlike": likes * load.unlikes_per_like,
        "interactions.comment": likes * load.comments_per_like,
        "interactions.read": opens * load.reads_per_feed_open,
        "uploads.begin": begun,
        "uploads.part": begun * (1 - abandoned / 2) * uploads.parts_per_upload(scenario),
        "uploads.complete": begun * (1 - abandoned),
        "uploads.status": begun * (1 - abandoned),  # one that finds it ready
        "uploads.view": opens * load.views_per_feed_open,
        "search.query": opens * load.searches_per_feed_open,
        "graph.follow": opens * load.follows_per_feed_open / 2,
        "graph.unfollow": opens * load.follows_per_feed_open / 2,
        "notifications.subscribe": opens * load.subscribes_per_feed_open,
        "notifications.stream": opens * load.streams_per_feed_open,
    }


def request_attributes(
    scenario: Scenario, graph: FollowGraph, operation: str, users: Ids, uniforms: Floats, posts: Floats | None = None
) -> Mapping[str, Floats]:
    """The attributes of requests of one operation by `users`; `uniforms` choose posts (unless they are given) and queries."""
    posts_per_author = max(1, scenario.population.initial_posts_per_user)
    if operation == "feed.open":
        return feed.open_attributes(scenario, graph, users, posts_per_author)
    if operation in ("feed.publish", "uploads.complete"):  # both publish a post
        return feed.publish_attributes(scenario, graph, users)
    if operation == "uploads.part":
        return uploads.part_attributes(scenario, uniforms)
    if operation == "uploads.view":
        return uploads.view_attributes(scenario, users, uniforms)
    if operation.startswith("interactions."):
        if posts is None:
            posts = interactions.popular_posts(scenario, graph.users * posts_per_author, uniforms)
        authors = (posts.astype(np.int64) - 1) % graph.users
        told = {"online": notifications.online(scenario, authors)}
        return interactions.event_attributes(operation, users, posts, authors) | told
    if operation == "search.query":
        asked_for = scenario.search
        return {"query": search.popular_queries(asked_for.distinct_queries, asked_for.query_popularity_exponent, uniforms)}
    return {}


def mean_attributes(scenario: Scenario, graph: FollowGraph) -> dict[str, dict[str, float]]:
    """The mean of every attribute of every operation, over all users."""
    if scenario.declared is not None:
        arrivals = scenario.declared.arrivals
        return {name: {key: item.mean_s for key, item in one.attributes.items()} for name, one in arrivals.items()}
    users = np.arange(graph.users)
    spread = (users + 0.5) / graph.users
    return {
        name: {
            key: float(np.mean(values))
            for key, values in request_attributes(scenario, graph, name, users, spread).items()
        }
        for name in OPERATIONS
    }
