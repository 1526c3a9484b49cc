"""Notifications: who likes or comments is told of to the post's author, comments before likes.

| recipient | way |
|---|---|
| online | notice to the API process that holds the stream, message on the WebSocket |
| offline | push by a provider with a quota for all of the platform |

How comments get ahead is the scenario's choice of `tiers`:

| tiers | comments and likes |
|---|---|
| `topics` | topic `notifications_high` and `notifications_low`, each with workers of its own: Kafka has no priorities |
| `shared` | topic `notifications_low` for both, with all workers: a comment waits behind the likes that are ahead in the log |
| `queue` | a queue with priorities, as of RabbitMQ: `notification_dispatchers` take one message at a time, comments first; with the
  station's `ageing_s` a like that has waited so long goes before a comment that comes now |

A worker of a topic stores a batch of events in the recipients' inboxes, then delivers each. At the provider's quota both tiers stand
in one line, but each group has at most `consumers` * `poll_max` messages in it: so many likes can be ahead of a comment.

The first like of a post is delivered at once. Later ones are gathered until the window ends and cost one message: "and 20
others". `notifications.delivered.comment` and `.like` are reached for each event, when the device's channel has it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from model.distributions import uniform
from model.network import (
    Acquire,
    Arm,
    Branch,
    Cache,
    Delay,
    Hold,
    Lookup,
    Mark,
    Milestone,
    Operation,
    Publish,
    Quota,
    Respond,
    Scatter,
    Serve,
    Steps,
    Topic,
)
from model.part import Floats, Ids, Part, topic_of, work
from model.scenario import Scenario

COMMENT_DELIVERED = Milestone("notifications.delivered.comment", since="answer")
LIKE_DELIVERED = Milestone("notifications.delivered.like", since="answer")
ATTRIBUTES = ("online",)
BEHIND = ("interactions.like", "interactions.unlike")  # in a queue with priorities
STATIONS = ("push_provider",)
CACHES = ("told_of_likes", "gathered_likes")
_SPREAD = 2_654_435_761  # Knuth's multiplicative hash, modulo 2^32
_HASHES = 2**32


def declare(scenario: Scenario) -> Part:
    """The operations subscribe and stream, and a topic for each priority."""
    settings = scenario.notifications
    return Part(
        operations=(
            Operation("notifications.subscribe", _register(scenario, "database_subscribe")),
            Operation("notifications.stream", _register(scenario, "database_connect")),
        ),
        topics=_topics(scenario),
        milestones=(COMMENT_DELIVERED, LIKE_DELIVERED),
        attributes=ATTRIBUTES,
        caches=(
            Cache("told_of_likes", settings.like_window_s),
            Cache("gathered_likes", settings.like_window_s),
        ),
        quotas=(Quota("push", settings.push_quota_per_s, settings.push_quota_burst),),
    )


def _of_comment(scenario: Scenario) -> Steps:
    return (*_deliver(scenario), Mark(COMMENT_DELIVERED.name))


def _topics(scenario: Scenario) -> tuple[Topic, ...]:
    of_comment, of_like = _of_comment(scenario), (_gather(scenario),)
    match scenario.notifications.tiers:
        case "topics":
            return _topic(scenario, "notifications_high", of_comment), _topic(scenario, "notifications_low", of_like)
        case "shared":
            of_both = (Branch((Arm("told_comment", of_comment), Arm("told_like", of_like))),)
            both = _topic(scenario, "notifications_low", of_both)
            return (replace(both, consumers=both.consumers + scenario.stations["notification_workers_high"].servers),)
    return ()


def told(scenario: Scenario) -> tuple[Steps, Steps]:
    """What telling an author of a comment, and of a like, takes whoever has applied it."""
    match scenario.notifications.tiers:
        case "topics":
            return _append(scenario, "notifications_high"), _append(scenario, "notifications_low")
        case "shared":
            return _append(scenario, "notifications_low"), _append(scenario, "notifications_low")
    return _dispatch(scenario, "told_comment", _of_comment(scenario)), _dispatch(scenario, "told_like", (_gather(scenario),))


def _append(scenario: Scenario, topic: str) -> Steps:
    return (*work(scenario, "broker", "broker_record"), Publish(topic, key="author"))


def _dispatch(scenario: Scenario, event: str, deliver: Steps) -> Steps:
    """Put it into the queue; a dispatcher stores and delivers it, one at a time. Attribute `event` is 1."""
    times = scenario.service_times
    per = {event: scenario.costs_s["database_notification"]}
    store = (Delay(times["network_database"]), Serve("database", times["database_notify_batch"], per=per))
    handed = Scatter((Hold("notification_dispatchers", (*store, *deliver)),), join=False)
    return (Delay(times["kafka_acknowledgement"]), handed)


def _register(scenario: Scenario, statement: str) -> Steps:
    times = scenario.service_times
    return (
        Delay(times["network_client"]),
        Serve("api", times["api_write"]),
        Delay(times["network_database"]),
        Serve("database", times[statement]),
        Respond(),
    )


def _topic(scenario: Scenario, name: str, of_each: Steps) -> Topic:
    """Workers that store a batch with one commit and deliver it before they commit its offsets."""
    times = scenario.service_times
    workers = name.replace("notifications", "notification_workers")
    return topic_of(
        scenario,
        name,
        (
            Delay(times["network_database"]),
            Serve(
                "database", times["database_notify_batch"], per={"events": scenario.costs_s["database_notification"]}
            ),
            Scatter(of_each, each_event=True),
            Delay(times["kafka_commit"]),
        ),
        workers=workers,
    )


def _deliver(scenario: Scenario) -> Steps:
    """By stream to who is online, by push to everybody else."""
    times = scenario.service_times
    by_stream = (
        Delay(times["network_notice"]),
        Serve("api", times["api_notify"]),
        Delay(times["network_client"]),
    )
    by_push = (Acquire("push"), Serve("push_provider", times["network_push"]))
    return (Branch((Arm("online", by_stream), Arm(1.0, by_push))),)


def _gather(scenario: Scenario) -> Lookup:
    """The first like is delivered; one that comes within the window of it opens a gathering, or joins the one there is.

    The worker does not wait for a gathering: it stands in the inbox until it is due, and what is left of the window then is
    as likely short as long.
    """
    window_s = scenario.notifications.like_window_s
    delivered = Mark(LIKE_DELIVERED.name)
    left = Delay(uniform(0.0, window_s))
    return Lookup(
        "told_of_likes",
        "post",
        miss=(*_deliver(scenario), delivered),
        hit=(
            Lookup(
                "gathered_likes",
                "post",
                miss=(Scatter((left, *_deliver(scenario), delivered), join=False),),
                hit=(Scatter((left, delivered), join=False),),
            ),
        ),
    )


def online(scenario: Scenario, users: Ids) -> Floats:
    """1 for the users who hold a stream, 0 for the others: a fixed share, spread evenly."""
    hashed = users.astype(np.int64) * _SPREAD % _HASHES
    return np.asarray(hashed < scenario.notifications.online_ratio * _HASHES, dtype=float)
