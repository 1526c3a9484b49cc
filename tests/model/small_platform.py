"""A platform of eight users whose every duration is a round binary number, so that instants can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from model.distributions import constant
from model.population import FollowGraph
from model.scenario import Scenario
from scenarios.loader import load_scenario

# User 0 is a celebrity: 1 to 6 follow. 2 and 3 follow 1, 3 follows 2; 7 follows nobody and nobody follows 7.
EDGES = [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0), (2, 1), (3, 1), (3, 2)]
GRAPH = FollowGraph.from_edges(8, *zip(*EDGES, strict=True))

TIMES_S = {
    "network_client": 0.125,
    "network_database": 0.25,
    "api_feed_open": 1.0,
    "api_publish": 1.0,
    "api_write": 1.0,
    "api_read": 1.0,
    "database_feed_page": 2.0,
    "database_insert_post": 2.0,
    "database_followers": 2.0,
    "database_fanout_batch": 2.0,
    "database_apply_batch": 2.0,
    "database_read_post": 2.0,
    "database_follow": 2.0,
    "api_search": 1.0,
    "network_cache": 0.125,
    "cache_operation": 0.125,
    "network_search": 0.25,
    "engine_query": 2.0,
    "engine_bulk": 2.0,
    "cdc_poll": 0.5,
    "kafka_acknowledgement": 0.5,
    "kafka_commit": 0.25,
    "database_subscribe": 2.0,
    "database_connect": 2.0,
    "database_notify_batch": 2.0,
    "api_notify": 1.0,
    "network_notice": 0.25,
    "network_push": 4.0,
}
COSTS_S = {
    "api_feed_row": 1 / 64,
    "database_feed_row": 1 / 32,
    "database_followee": 1 / 16,
    "database_pulled": 1 / 8,
    "database_scanned_post": 1 / 256,
    "database_fanout_row": 1 / 16,
    "database_interaction": 1 / 8,
    "database_hot_post": 1 / 4,
    "database_notification": 1 / 8,
    "engine_document": 1 / 8,
}
SIZES = [
    "feed.threshold=2",
    "feed.page_size=2",
    "feed.fanout_batch_followers=4",
    "topics.fanout.linger_ms=0",
    "topics.interactions.linger_ms=0",
    "topics.interactions.poll_wait_ms=0",
    "topics.interactions.session_timeout_s=8",
    "topics.search.linger_ms=0",
    "topics.search.poll_wait_ms=0",
]


def scenario(strategy: str = "hybrid", *overrides: str, costs: float = 1.0, **times_s: float) -> Scenario:
    """The small platform's scenario; `times_s` are durations that differ, `costs` multiplies those per row, post or event."""
    loaded: Any = load_scenario("baseline", [*SIZES, f"feed.strategy='{strategy}'", *overrides])
    assert set(loaded.service_times) >= set(TIMES_S)
    assert set(loaded.costs_s) >= set(COSTS_S)
    known = TIMES_S | times_s
    times = {name: constant(known.get(name, 0.0)) for name in loaded.service_times}  # other rooms' take no time
    costs_s = {name: costs * COSTS_S.get(name, 0.0) for name in loaded.costs_s}
    return replace(loaded, service_times=times, costs_s=costs_s, slo={})
