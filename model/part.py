"""What a room contributes to the platform's network. Rooms never see each other; `platform.py` puts the parts together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.network import Cache, Delay, Hold, Milestone, Operation, Publish, Quota, Serve, Steps, Topic
from model.scenario import Scenario

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Operations, topics, caches and quotas that a room declares, the milestones they reach, the attributes they read."""

    operations: tuple[Operation, ...]
    topics: tuple[Topic, ...] = ()
    milestones: tuple[Milestone, ...] = ()
    attributes: tuple[str, ...] = ()
    caches: tuple[Cache, ...] = ()
    quotas: tuple[Quota, ...] = ()


def work(scenario: Scenario, station: str, time: str, per: Mapping[str, float] | None = None) -> Steps:
    """Serve `time` at `station`; no step at all where the scenario says that it costs nothing."""
    costs = {attribute: cost_s for attribute, cost_s in (per or {}).items() if cost_s > 0}
    taken = scenario.service_times[time]
    return (Serve(station, taken, costs),) if taken.mean_s > 0 or costs else ()


def accepted(scenario: Scenario) -> Steps:
    """A request crosses to the API and is read: an event loop does so before any handler's turn."""
    return Delay(scenario.service_times["network_client"]), *work(scenario, "api", "api_accept")


def resumed(scenario: Scenario, time: str, turns: int = 2, share_ratio: float = 1.0) -> Steps:
    """What the API does once something it waited for has come: on an event loop that has one turn, and the handler it wakes another.

    `time`, or a share of it, is divided among the turns; whatever else the loop has to do comes between them.
    """
    taken = scenario.service_times[time]
    return turns * (Serve("api", taken.scaled(share_ratio / turns)),) if taken.mean_s > 0 else ()


def asked(
    scenario: Scenario,
    time: str,
    per: Mapping[str, float] | None = None,
    *,
    statements: int = 1,
    between: str = "",
    answer: str = "",
) -> Steps:
    """An operation's statements at the database, on one connection, and what the API does then (`answer`, if given).

    Where `between` takes time, the API goes on between two statements, and `time` is divided among them; else they are one.
    """
    turn = resumed(scenario, between) if between else ()
    count = statements if turn else 1
    part = {attribute: cost_s / count for attribute, cost_s in (per or {}).items()}
    one = (
        Delay(scenario.service_times["network_database"]),
        Serve("database", scenario.service_times[time].scaled(1 / count), part),
    )
    steps: Steps = one
    for _ in range(count - 1):
        steps = (*steps, *turn, *one)
    return connected(scenario, steps, answer)


def on_host(scenario: Scenario) -> bool:
    """Are the database's connections backends that share a host?"""
    return scenario.stations["database"].host is not None


def flushed(scenario: Scenario) -> Steps:
    """Until the database's log is on disk: a commit waits, and takes no CPU meanwhile."""
    taken = scenario.service_times["database_commit"]
    return (Delay(taken),) if taken.mean_s > 0 else ()


def connected(scenario: Scenario, steps: Steps, answer: str = "", share_ratio: float = 1.0) -> Steps:
    """On a connection of the API's pool, where connections are backends that share a host; else as if there were always one.

    Then a share of `answer` is done. asyncpg's pool takes a connection back in a task of its own, shielded from its caller's end: the
    connection is free three turns of the event loop after the database has answered, and the caller goes on in the fifth.
    """
    if not on_host(scenario):
        return (*steps, *resumed(scenario, answer, 2, share_ratio)) if answer else steps
    if not answer:
        return (Hold("api_connections", steps),)
    giving_back = resumed(scenario, answer, 3, share_ratio * 3 / 5)
    return (Hold("api_connections", (*steps, *giving_back)), *resumed(scenario, answer, 2, share_ratio * 2 / 5))


def appended(scenario: Scenario, topic: str, key: str | None = None) -> Steps:
    """The API hands a record to the log and waits until it is acknowledged: a thread beside the event loop sends it and hears of it."""
    taken = scenario.service_times["producer_record"]
    thread = (Serve("producer_threads", taken.scaled(0.5)),) if taken.mean_s > 0 else ()
    return (*thread, *work(scenario, "broker", "broker_record"), Publish(topic, key=key), *thread)


def topic_of(scenario: Scenario, name: str, steps: Steps, *, workers: str, fetch: str = "kafka_fetch") -> Topic:
    """A topic with the scenario's settings; its group is as large as the station `workers` has servers. `fetch`: a service time."""
    settings = scenario.topics[name]
    return Topic(
        name,
        steps,
        partitions=settings.partitions,
        linger_s=settings.linger_s,
        batch_max=settings.batch_max,
        acknowledgement=scenario.service_times["kafka_acknowledgement"],
        consumers=scenario.stations[workers].servers,
        poll_max=settings.poll_max,
        poll_wait_s=settings.poll_wait_s,
        fetch=scenario.service_times[fetch],
        session_timeout_s=settings.session_timeout_s,
        lag_limit=settings.lag_limit,
        workers=workers,
    )
