"""Feeds: what publishing a post and opening a feed cost under the four strategies.

| strategy | publishing | opening |
|---|---|---|
| `naive` | one row | look up the followees, scan the posts for theirs, merge |
| `indexed` | one row | look up the followees, probe the author index for each, merge |
| `push` | one row, then a Feed row for every follower, by asynchronous workers in follower batches | read Feed rows |
| `hybrid` | as push for authors up to `threshold` followers (`isPrecomputed`), one row for others | Feed rows, merged with the
  newest posts of the followees who are not precomputed |

A published post goes to topic `posts`; a dispatcher cuts the author's followers into batches and puts each on topic `fanout`;
a fan-out worker writes one batch in one transaction. `feed.delivered` is reached then, for every follower of the batch.

Two caches can stand before the database, each if the scenario gives it a TTL:

| cache | key | holds | changes |
|---|---|---|---|
| `feed_pages` | the reader | his page, precomputed and pulled posts merged | with its TTL: a page is up to that much too old |
| `author_posts` | an author who is pulled | his newest posts, which all who follow him read | when he posts, or with its TTL |

A post of somebody whom everybody pulls so takes away an entry that everybody needs: a herd that reads the same from the database at
once, unless the first has a lease and the others wait for him (`leases`; Nishtala et al., *Scaling Memcache at Facebook*, NSDI 2013).
"""

from __future__ import annotations

import numpy as np

from model.network import (
    Arm,
    Branch,
    Cache,
    Delay,
    Evict,
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
from model.part import (
    Floats,
    Ids,
    Part,
    accepted,
    appended,
    asked,
    connected,
    flushed,
    on_host,
    resumed,
    topic_of,
    work,
)
from model.population import FollowGraph
from model.scenario import Scenario

DELIVERED = Milestone("feed.delivered", since="answer")
ATTRIBUTES = ("followees", "pulled", "rows", "scanned_posts", "batches", "batch_followers")
PAGE_CACHE, AUTHOR_CACHE = CACHES = ("feed_pages", "author_posts")


def declare(scenario: Scenario, committed: Steps = ()) -> Part:
    """The operations `feed.publish` and `feed.open`, and the topics of the fan-out.

    `committed`: what else a post's commit sets going.
    """
    return Part(
        operations=(_publish(scenario, committed), _open(scenario)),
        topics=(_posts(scenario), _fanout(scenario)),
        milestones=(DELIVERED,),
        attributes=(*ATTRIBUTES, *_cache_keys(scenario)),
        caches=_caches(scenario),
    )


def _caches(scenario: Scenario) -> tuple[Cache, ...]:
    feed = scenario.feed
    found = []
    if feed.page_cache_ttl_s is not None:
        found.append(Cache(PAGE_CACHE, feed.page_cache_ttl_s))
    if feed.author_cache_ttl_s is not None:
        found.append(Cache(AUTHOR_CACHE, feed.author_cache_ttl_s, coalesce=feed.leases, stampede=not feed.leases))
    return tuple(found)


def _cache_keys(scenario: Scenario) -> tuple[str, ...]:
    pages = () if scenario.feed.page_cache_ttl_s is None else ("reader",)
    authors = () if scenario.feed.author_cache_ttl_s is None else ("pulls", "pulled_author", "pulled_others", "publisher")
    return (*pages, *authors)


def changed(scenario: Scenario) -> Steps:
    """What the commit of a post does to what is cached: its author's newest posts are others now."""
    return () if scenario.feed.author_cache_ttl_s is None else (Evict(AUTHOR_CACHE, "publisher"),)


def pull_threshold(scenario: Scenario) -> int | None:
    """Followees with more followers than this are pulled when a feed is opened; None: the Feed table is not used at all."""
    match scenario.feed.strategy:
        case "push":
            return np.iinfo(np.int64).max
        case "hybrid":
            return scenario.feed.threshold
    return None


def _open(scenario: Scenario) -> Operation:
    times, costs = scenario.service_times, scenario.costs_s
    row_s = costs["database_feed_row"]
    others = "pulled" if scenario.feed.author_cache_ttl_s is None else "pulled_others"
    per = {
        "naive": {"scanned_posts": costs["database_scanned_post"], "rows": row_s},
        "indexed": {"followees": costs["database_followee"], "rows": row_s},
        "push": {"rows": row_s},
        "hybrid": {others: costs["database_pulled"], "rows": row_s},
    }[scenario.feed.strategy]
    statements = 1 if scenario.feed.strategy == "push" else 2  # of followees or of whom he pulls, and of posts
    cached = scenario.feed.page_cache_ttl_s is not None
    page = asked(
        scenario, "database_feed_page", per, statements=statements, between="api_feed_statement",
        answer="" if cached else "api_feed_answer",
    )  # fmt: skip
    ask_cache = (Delay(times["network_cache"]), Serve("feed_cache", times["cache_operation"]))
    if scenario.feed.author_cache_ttl_s is not None:
        read = asked(scenario, "database_author_posts")
        newest = Lookup(AUTHOR_CACHE, "pulled_author", miss=(*read, *ask_cache))
        page = (Branch((Arm("pulls", (*ask_cache, newest)),)), *page)
    if cached:  # who finds the page there had no connection to give back; who does not is told as if it took no turns
        page = (*ask_cache, Lookup(PAGE_CACHE, "reader", miss=(*page, *ask_cache)), *resumed(scenario, "api_feed_answer"))
    return Operation(
        "feed.open",
        (
            *accepted(scenario),
            Serve("api", times["api_feed_open"], per={"rows": costs["api_feed_row"]}),
            *page,
            Respond(),
        ),
    )


def _publish(scenario: Scenario, committed: Steps) -> Operation:
    times = scenario.service_times
    insert = (Delay(times["network_database"]), Serve("database", times["database_insert_post"]), *flushed(scenario))
    if on_host(scenario):  # half of the handler's work comes once the connection is given back
        write = (Serve("api", times["api_publish"].scaled(0.5)), *connected(scenario, insert, "api_publish", 0.5))
    else:
        write = (Serve("api", times["api_publish"]), *insert)
    return Operation(
        "feed.publish",
        (
            *accepted(scenario),
            *write,
            *committed,
            *appended(scenario, "posts"),
            *resumed(scenario, "api_write_answer"),
            Respond(),
        ),
    )


def _posts(scenario: Scenario) -> Topic:
    """A dispatcher looks up an author's followers once and puts a record per batch of them on `fanout`."""
    times = scenario.service_times
    dispatch = (
        Delay(times["network_database"]),
        *work(scenario, "dispatcher_processes", "worker_dispatch"),
        Serve("database", times["database_followers"]),
        *flushed(scenario),
        Scatter(
            (*work(scenario, "broker", "broker_record"), Publish("fanout", weight="batch_followers")),
            count="batches",
            join=True,
        ),
    )
    return topic_of(
        scenario,
        "posts",
        (Scatter(dispatch, each_event=True), Delay(times["kafka_commit"])),
        workers="fanout_dispatchers",
    )


def _fanout(scenario: Scenario) -> Topic:
    """A worker writes one Feed row for each follower of its batch."""
    times = scenario.service_times
    return topic_of(
        scenario,
        "fanout",
        (
            *work(scenario, "fanout_processes", "worker_fanout_batch"),
            Delay(times["network_database"]),
            Serve("database", times["database_fanout_batch"], per={"weight": scenario.costs_s["database_fanout_row"]}),
            *flushed(scenario),
            Mark(DELIVERED.name),
            Delay(times["kafka_commit"]),
        ),
        workers="fanout_workers",
    )


def open_attributes(scenario: Scenario, graph: FollowGraph, users: Ids, posts_per_author: int) -> dict[str, Floats]:
    """What opening the feed of each of `users` touches, with `posts_per_author` posts of everybody there already."""
    page = scenario.feed.page_size
    followees = graph.followee_counts[users].astype(float)
    threshold = pull_threshold(scenario)
    if threshold is None:  # all posts of all followees, merged in the application
        rows, pulled = followees * posts_per_author, np.zeros(len(users))
    else:
        pulled = graph.pulled_counts(threshold)[users].astype(float)
        rows = np.minimum(page, (followees - pulled) * posts_per_author) + pulled * min(page, posts_per_author)
    scanned = np.full(len(users), float(graph.users * posts_per_author))
    found = {"followees": followees, "pulled": pulled, "rows": rows, "scanned_posts": scanned}
    if threshold is None:
        return found | cache_keys(scenario, users, pulled, np.full(len(users), -1))
    return found | cache_keys(scenario, users, pulled, graph.most_followed_pulled(threshold)[users])


def cache_keys(scenario: Scenario, users: Ids, pulled: Floats, most_followed: Ids) -> dict[str, Floats]:
    """What the caches are asked for as `users` open their feeds; of those they pull only the most followed one's posts are cached."""
    found: dict[str, Floats] = {}
    if scenario.feed.page_cache_ttl_s is not None:
        found["reader"] = users.astype(float)
    if scenario.feed.author_cache_ttl_s is not None:
        pulls = np.asarray(most_followed >= 0, dtype=float)
        found |= {"pulls": pulls, "pulled_author": most_followed.astype(float), "pulled_others": pulled - pulls}
    return found


def publish_attributes(scenario: Scenario, graph: FollowGraph, users: Ids) -> dict[str, Floats]:
    """How many follower batches a post of each of `users` makes, and how many followers are in one (equal shares)."""
    threshold = pull_threshold(scenario)
    pushed = np.zeros(len(users)) if threshold is None else graph.pushed_counts(threshold)[users].astype(float)
    if not scenario.feed.push_to_inactive:
        pushed = np.rint(pushed * (1 - scenario.feed.inactive_ratio))
    batches = np.ceil(pushed / scenario.feed.fanout_batch_followers)
    found = {"batches": batches, "batch_followers": pushed / np.maximum(batches, 1)}
    return found if scenario.feed.author_cache_ttl_s is None else {**found, "publisher": users.astype(float)}
