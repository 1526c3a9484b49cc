"""Search: users by name and posts by title, from a cache or from the search engine, which follows the database at a distance.

A query looks for its answer in the cache. On a miss the engine is asked: every shard of the index searches its part, and the
slowest one decides. What a post's commit sets going is change data capture: the row is read from the database's log
(`cdc_poll`), appended to topic `search`, written to the engine in bulk by the indexers, and visible after the engine's next
refresh, somewhere within its interval. `search.searchable` is reached then. A cached answer is older still, by up to its TTL.

Until an answer is there everybody who misses it asks the engine: a cold cache lets a herd through. With `single_flight` they wait for
the first one's answer. The cache holds `cache_answers`, and drives out what was used longest ago.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from model.distributions import constant, uniform
from model.network import (
    Cache,
    Delay,
    Lookup,
    Mark,
    Milestone,
    Operation,
    Publish,
    Respond,
    Scatter,
    Serve,
    Steps,
    Topic,
)
from model.part import Floats, Part, topic_of
from model.scenario import Scenario

SEARCHABLE = Milestone("search.searchable", since="answer")
ATTRIBUTES = ("query",)
STATIONS = ("search_engine", "search_cache")
CACHES = ("search_answers",)


def declare(scenario: Scenario) -> Part:
    """The operation `search.query`, its cache, and the topic between the database's log and the engine."""
    return Part(
        operations=(_query(scenario),),
        topics=(_search(scenario),),
        milestones=(SEARCHABLE,),
        attributes=ATTRIBUTES,
        caches=(
            Cache(
                CACHES[0],
                scenario.search.cache_ttl_s,
                scenario.search.cache_answers,
                coalesce=scenario.search.single_flight,
                stampede=not scenario.search.single_flight,
            ),
        ),
    )


def captured(scenario: Scenario) -> Steps:
    """What the commit of a searchable row sets going, while its request goes on."""
    return (Scatter((Delay(scenario.service_times["cdc_poll"]), Publish("search")), join=False),)


def _query(scenario: Scenario) -> Operation:
    times = scenario.service_times
    ask_cache = (Delay(times["network_cache"]), Serve("search_cache", times["cache_operation"]))
    shard: Steps = (Serve("search_engine", times["engine_query"]),)
    if scenario.search.hedge_after_s is not None:
        shard = (Scatter(shard, count=2, join="any", stagger=constant(scenario.search.hedge_after_s)),)
    ask_engine = (
        Delay(times["network_search"]),
        Scatter(shard, count=scenario.search.shards, join=True),
        *ask_cache,  # to put the answer there
    )
    return Operation(
        "search.query",
        (
            Delay(times["network_client"]),
            Serve("api", times["api_search"]),
            *ask_cache,
            Lookup("search_answers", key="query", miss=ask_engine),
            Respond(),
        ),
    )


def _search(scenario: Scenario) -> Topic:
    """An indexer is done with a batch when the engine has it; that a refresh shows it holds nobody up."""
    times = scenario.service_times
    until_refresh = uniform(low_s=0.0, high_s=scenario.search.refresh_s)
    return topic_of(
        scenario,
        "search",
        (
            Delay(times["network_search"]),
            Serve("search_engine", times["engine_bulk"], per={"events": scenario.costs_s["engine_document"]}),
            Scatter((Delay(until_refresh), Mark(SEARCHABLE.name)), each_event=True, join=False),
            Delay(times["kafka_commit"]),
        ),
        workers="indexers",
    )


@lru_cache(maxsize=8)
def _popularity(queries: int, exponent: float) -> Floats:
    return np.asarray(np.cumsum(np.arange(1, queries + 1, dtype=float) ** -exponent))


def popular_queries(queries: int, exponent: float, uniforms: npt.ArrayLike) -> Floats:
    """The number of a query (1 ... `queries`, the most frequent one first) for each uniform: Zipf with `exponent`."""
    cumulative = _popularity(queries, exponent)
    rank = np.searchsorted(cumulative, np.asarray(uniforms) * cumulative[-1], side="right")
    return np.asarray(np.minimum(rank, queries - 1) + 1.0)
