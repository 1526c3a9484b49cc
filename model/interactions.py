"""Likes and comments: accepted when they are in the log, applied by workers in batches, seen eventually.

The API appends an event to topic `interactions`, keyed by its post, and answers. Workers poll batches; a hot post's events
are merged, so a batch costs something for each event and something for each distinct post. `interactions.applied` is reached
when the batch is committed in the database. Then the posts' authors are told, in the way that notifications want it
(`told`). The offset is committed after that, so a worker that dies between the two leaves
events that are delivered again and change nothing.
"""

from __future__ import annotations

import numpy as np

from model import log
from model.network import (
    Arm,
    Branch,
    Delay,
    Mark,
    Milestone,
    Operation,
    Respond,
    Scatter,
    Serve,
    Steps,
    Topic,
)
from model.part import Floats, Ids, Part, accepted, appended, asked, flushed, resumed, topic_of, work
from model.scenario import Scenario

APPLIED = Milestone("interactions.applied", since="answer")
ATTRIBUTES = ("post", "author", "told_comment", "told_like", *log.ATTRIBUTES)
EVENTS = ("interactions.like", "interactions.unlike", "interactions.comment")


def declare(scenario: Scenario, told: tuple[Steps, Steps] = ((), ())) -> Part:
    """The operations like, unlike, comment and read, and the topic between the API and the database.

    `told`: what telling an author of a comment and of a like takes.
    """
    return Part(
        operations=(*(Operation(name, _accept(scenario)) for name in EVENTS), _read(scenario)),
        topics=(_interactions(scenario, told),),
        milestones=(APPLIED,),
        attributes=ATTRIBUTES,
    )


def _accept(scenario: Scenario) -> Steps:
    times = scenario.service_times
    return (
        *accepted(scenario),
        Serve("api", times["api_write"]),
        log.append(scenario),
        *appended(scenario, "interactions", "post"),
        *resumed(scenario, "api_write_answer"),
        Respond(),
    )


def _read(scenario: Scenario) -> Operation:
    times = scenario.service_times
    return Operation(
        "interactions.read",
        (
            *accepted(scenario),
            Serve("api", times["api_read"]),
            *asked(scenario, "database_read_post", statements=2, between="api_read_statement", answer="api_read_answer"),
            Respond(),
        ),
    )


def _interactions(scenario: Scenario, told: tuple[Steps, Steps]) -> Topic:
    times, costs = scenario.service_times, scenario.costs_s
    per = {"events": costs["database_interaction"], "keys": costs["database_hot_post"]}
    return topic_of(
        scenario,
        "interactions",
        (
            *work(scenario, "broker", "broker_fetch"),
            *work(scenario, "interaction_processes", "worker_apply_batch", {"events": costs["worker_interaction"]}),
            Delay(times["network_database"]),
            Serve("database", times["database_apply_batch"], per=per),
            *flushed(scenario),
            Mark(APPLIED.name),
            *work(scenario, "database", "database_authors"),
            *work(scenario, "interaction_processes", "worker_tell", {"events": costs["worker_event_told"]}),
            Scatter((Branch((Arm("told_comment", told[0]), Arm("told_like", told[1]))),), each_event=True),
            Delay(times["kafka_commit"]),
        ),
        workers="interaction_workers",
        fetch="kafka_fetch_steady",
    )


def event_attributes(operation: str, users: Ids, posts: Floats, authors: Ids) -> dict[str, Floats]:
    """What `operation` by `users` on `posts` of `authors` sets going; nobody is told of what he did himself."""
    told = (users != authors).astype(float)
    nobody = np.zeros(len(users))
    return {
        "post": posts,
        "author": authors.astype(float),
        "told_comment": told if operation == "interactions.comment" else nobody,
        "told_like": told if operation == "interactions.like" else nobody,
        **log.leaders(posts),
    }


def popular_posts(scenario: Scenario, posts: int, uniforms: Floats) -> Floats:
    """A post id (1 ... posts) for each uniform: Zipf by rank with the scenario's exponent, the newest post first."""
    weights = np.arange(1, posts + 1, dtype=float) ** -scenario.load.post_popularity_exponent
    cumulative = np.cumsum(weights)
    rank = np.searchsorted(cumulative, uniforms * cumulative[-1])
    return np.asarray(posts - np.minimum(rank, posts - 1), dtype=float)
