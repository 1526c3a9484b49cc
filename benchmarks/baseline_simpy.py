"""The shipped baseline as somebody would write it in SimPy alone: one process per request, `Resource`s, and a class for topics.

The numbers come from the scenario, by name; the routes are written out as the rooms declare them, for the strategy (push), the one
search shard and the topics' settings of the baseline as shipped. Random numbers are Python's, so the figures agree with the
engines' in distribution and not one by one; `engines.py` prints the mean time to an answer of both.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Generator
from typing import Any

import simpy

from model.arrivals import Schedule
from model.network import Network, Topic
from model.scenario import Scenario

Life = Generator[simpy.Event, Any, None]
Attributes = dict[str, float]
Work = Callable[[list[tuple[Attributes, float]]], Life]
_MIB = 2**20


class Log:
    """A topic: a buffer and a log per partition, and consumers that poll, work and commit."""

    def __init__(self, env: simpy.Environment, of: Topic, acknowledge_s: Callable[[], float], work: Work) -> None:
        self.env, self.of, self.acknowledge_s, self.work = env, of, acknowledge_s, work
        self.buffers: list[list[tuple[Attributes, float, simpy.Event]]] = [[] for _ in range(of.partitions)]
        self.logs: list[list[tuple[Attributes, float]]] = [[] for _ in range(of.partitions)]
        self.more = [env.event() for _ in range(of.consumers)]
        for member in range(of.consumers):
            env.process(self.consume(member))

    def publish(self, attributes: Attributes, key: float | None = None, weight: float = 1.0) -> simpy.Event:
        partition = (random.getrandbits(30) if key is None else hash(int(key) * 2654435761 >> 7)) % self.of.partitions
        acknowledged, buffer = self.env.event(), self.buffers[partition]
        buffer.append((attributes, weight, acknowledged))
        if len(buffer) >= self.of.batch_max or self.of.linger_s == 0:
            self.env.process(self.send(partition))
        elif len(buffer) == 1:
            self.env.process(self.linger(partition, acknowledged))
        return acknowledged

    def linger(self, partition: int, first: simpy.Event) -> Life:
        yield self.env.timeout(self.of.linger_s)
        if self.buffers[partition] and self.buffers[partition][0][2] is first:
            yield from self.send(partition)

    def send(self, partition: int) -> Life:
        batch, self.buffers[partition] = self.buffers[partition], []
        yield self.env.timeout(self.acknowledge_s())
        self.logs[partition] += [(attributes, weight) for attributes, weight, _ in batch]
        for _, _, acknowledged in batch:
            acknowledged.succeed()
        more = self.more[partition % self.of.consumers]
        if not more.triggered:
            more.succeed()

    def consume(self, member: int) -> Life:
        while True:
            mine = range(member, self.of.partitions, self.of.consumers)
            there = sum(len(self.logs[partition]) for partition in mine)
            if there == 0:
                self.more[member] = self.env.event()
                yield self.more[member]
                continue
            if there < self.of.poll_max and self.of.poll_wait_s > 0:
                yield self.env.timeout(self.of.poll_wait_s)
            batch: list[tuple[Attributes, float]] = []
            for partition in mine:
                room = self.of.poll_max - len(batch)
                batch += self.logs[partition][:room]
                del self.logs[partition][:room]
            yield from self.work(batch)


class Platform:
    """All rooms of the baseline."""

    def __init__(self, scenario: Scenario, network: Network) -> None:
        self.env = env = simpy.Environment()
        self.settings, self.costs_s = scenario, scenario.costs_s
        self.stations = {station.name: simpy.Resource(env, station.servers) for station in network.stations}
        self.times = {
            name: (math.log(item.a), item.b) if item.name == "lognormal" else (item.mean_s, None)
            for name, item in scenario.service_times.items()
        }
        self.entries: dict[tuple[str, float], float] = {}
        self.push_due_s = 0.0
        self.answered, self.answer_s, self.delivered = 0, 0.0, 0
        works = {
            "posts": self.dispatch,
            "fanout": self.write_feeds,
            "interactions": self.apply,
            "notifications_high": self.notify_high,
            "notifications_low": self.notify_low,
            "search": self.index,
        }
        self.topics = {
            topic.name: Log(env, topic, lambda: self.seconds("kafka_acknowledgement"), works[topic.name])
            for topic in network.topics
        }

    # ---- the ground
    def seconds(self, name: str) -> float:
        a, sigma = self.times[name]
        return a if sigma is None else random.lognormvariate(a, sigma)

    def pause(self, name: str, more_s: float = 0.0) -> simpy.Event:
        return self.env.timeout(self.seconds(name) + more_s)

    def serve(self, station: str, name: str, more_s: float = 0.0) -> Life:
        with self.stations[station].request() as turn:
            yield turn
            yield self.env.timeout(self.seconds(name) + more_s)

    def database(self, name: str, more_s: float = 0.0) -> Life:
        yield self.pause("network_database")
        yield from self.serve("database", name, more_s)

    def store(self, more_s: float = 0.0) -> Life:
        yield self.pause("network_store")
        yield from self.serve("object_store", "object_store_request", more_s)

    def hit(self, cache: str, key: float, ttl_s: float) -> bool:
        if self.entries.get((cache, key), 0.0) > self.env.now:
            return True
        self.entries[cache, key] = self.env.now + ttl_s
        return False

    def all_of(self, lives: list[Life]) -> simpy.Event:
        return self.env.all_of([self.env.process(life) for life in lives])

    def respond(self, arrived_s: float) -> None:
        self.answered += 1
        self.answer_s += self.env.now - arrived_s

    # ---- operations
    def request(self, operation: str, it: Attributes) -> Life:
        arrived_s, costs_s = self.env.now, self.costs_s
        by_link = (
            costs_s["client_link_mib"] / _MIB * it["media_bytes"]
            if operation in ("uploads.part", "uploads.view")
            else 0.0
        )
        yield self.pause("network_client", by_link)
        if operation == "feed.open":
            yield from self.serve("api", "api_feed_open", costs_s["api_feed_row"] * it["rows"])
            pulled_s = costs_s["database_pulled"] * it["pulled"]
            yield from self.database("database_feed_page", pulled_s + costs_s["database_feed_row"] * it["rows"])
        elif operation == "feed.publish":
            yield from self.serve("api", "api_publish")
            yield from self.database("database_insert_post")
            self.env.process(self.captured(it))
            yield self.topics["posts"].publish(it)
        elif operation in ("interactions.like", "interactions.unlike", "interactions.comment"):
            yield from self.serve("api", "api_write")
            yield self.topics["interactions"].publish(it, it["post"])
        elif operation in ("interactions.read", "uploads.status"):
            yield from self.serve("api", "api_read")
            yield from self.database("database_read_post")
        elif operation == "uploads.begin":
            yield from self.serve("api", "api_upload_begin")
            yield from self.database("database_read_post")
            yield from self.store()
            yield from self.database("database_insert_post")
        elif operation == "uploads.part":
            more_s = costs_s["object_store_mib"] / _MIB * it["media_bytes"]
            yield from self.serve("object_store", "object_store_request", more_s)
        elif operation == "uploads.complete":
            yield from self.serve("object_store", "object_store_complete")
            self.env.process(self.uploaded(it))
        elif operation == "uploads.view":
            yield from self.serve("edge", "edge_view", costs_s["edge_mib"] / _MIB * it["media_bytes"])
            if not self.hit("edge", it["media"], self.settings.uploads.edge_ttl_s):
                yield self.pause("network_client")
                yield from self.serve("api", "api_read")
                yield from self.database("database_read_post")
                yield from self.store(costs_s["object_store_mib"] / _MIB * it["media_bytes"])
        elif operation == "search.query":
            yield from self.serve("api", "api_search")
            yield from self.ask_cache()
            if not self.hit("search", it["query"], self.settings.search.cache_ttl_s):
                yield self.pause("network_search")
                yield self.all_of([self.serve("search_engine", "engine_query")])
                yield from self.ask_cache()
        else:
            statements = {"notifications.subscribe": "subscribe", "notifications.stream": "connect"}
            yield from self.serve("api", "api_write")
            yield from self.database(f"database_{statements.get(operation, 'follow')}")
        self.respond(arrived_s)

    def ask_cache(self) -> Life:
        yield self.pause("network_cache")
        yield from self.serve("search_cache", "cache_operation")

    def uploaded(self, it: Attributes) -> Life:
        yield self.pause("object_store_notification")
        yield from self.serve("api", "api_upload_notified")
        yield from self.database("database_read_post")
        yield from self.store()
        yield from self.store()
        yield from self.database("database_insert_post")
        self.env.process(self.captured(it))
        self.delivered += 1
        yield self.topics["posts"].publish(it)

    def captured(self, it: Attributes) -> Life:
        yield self.pause("cdc_poll")
        yield self.topics["search"].publish(it)

    # ---- what consumers do with a batch
    def dispatch(self, batch: list[tuple[Attributes, float]]) -> Life:
        yield self.all_of([self.dispatch_one(it) for it, _ in batch])
        yield self.pause("kafka_commit")

    def dispatch_one(self, it: Attributes) -> Life:
        yield from self.database("database_followers")
        fanout = self.topics["fanout"]
        yield self.env.all_of([fanout.publish(it, None, it["batch_followers"]) for _ in range(int(it["batches"]))])

    def write_feeds(self, batch: list[tuple[Attributes, float]]) -> Life:
        rows = sum(weight for _, weight in batch)
        yield from self.database("database_fanout_batch", self.costs_s["database_fanout_row"] * rows)
        self.delivered += len(batch)
        yield self.pause("kafka_commit")

    def apply(self, batch: list[tuple[Attributes, float]]) -> Life:
        costs_s, posts = self.costs_s, {it["post"] for it, _ in batch}
        more_s = costs_s["database_interaction"] * len(batch) + costs_s["database_hot_post"] * len(posts)
        yield from self.database("database_apply_batch", more_s)
        self.delivered += len(batch)
        told = []
        for it, _ in batch:
            if it["told_comment"]:
                told.append(self.topics["notifications_high"].publish(it, it["author"]))
            elif it["told_like"]:
                told.append(self.topics["notifications_low"].publish(it, it["author"]))
        yield self.env.all_of(told)
        yield self.pause("kafka_commit")

    def notify_high(self, batch: list[tuple[Attributes, float]]) -> Life:
        yield from self.database("database_notify_batch", self.costs_s["database_notification"] * len(batch))
        yield self.all_of([self.deliver(it) for it, _ in batch])
        yield self.pause("kafka_commit")

    def notify_low(self, batch: list[tuple[Attributes, float]]) -> Life:
        yield from self.database("database_notify_batch", self.costs_s["database_notification"] * len(batch))
        at_once, window_s = [], self.settings.notifications.like_window_s
        for it, _ in batch:
            if not self.hit("told", it["post"], window_s):
                at_once.append(self.deliver(it))
            else:
                first = not self.hit("gathered", it["post"], window_s)
                self.env.process(self.gathered(it, first, random.uniform(0, window_s)))
        yield self.all_of(at_once)
        yield self.pause("kafka_commit")

    def gathered(self, it: Attributes, first: bool, left_s: float) -> Life:
        yield self.env.timeout(left_s)
        if first:
            yield from self.deliver(it)
        else:
            self.delivered += 1

    def deliver(self, it: Attributes) -> Life:
        if it["online"]:
            yield self.pause("network_notice")
            yield from self.serve("api", "api_notify")
            yield self.pause("network_client")
        else:
            settings = self.settings.notifications
            self.push_due_s = max(self.push_due_s, self.env.now) + 1 / settings.push_quota_per_s
            wait_s = self.push_due_s - settings.push_quota_burst / settings.push_quota_per_s - self.env.now
            if wait_s > 0:
                yield self.env.timeout(wait_s)
            yield self.pause("network_push")
        self.delivered += 1

    def index(self, batch: list[tuple[Attributes, float]]) -> Life:
        yield self.pause("network_search")
        yield from self.serve("search_engine", "engine_bulk", self.costs_s["engine_document"] * len(batch))
        for _ in batch:
            self.env.process(self.refreshed())
        yield self.pause("kafka_commit")

    def refreshed(self) -> Life:
        yield self.env.timeout(random.uniform(0, self.settings.search.refresh_s))
        self.delivered += 1


def run(scenario: Scenario, network: Network, plan: Schedule) -> tuple[float, Platform]:
    """Seconds of processor time for a schedule, and the platform as it stands then."""
    random.seed(1)
    platform = Platform(scenario, network)
    names, operations, columns = network.attributes, network.names("operations"), plan.attributes.tolist()
    rows = zip(plan.gap_s.tolist(), plan.operation.tolist(), columns, strict=True)

    def arrivals() -> Life:
        for gap_s, operation, values in rows:
            yield platform.env.timeout(gap_s)
            platform.env.process(platform.request(operations[operation], dict(zip(names, values, strict=True))))

    platform.env.process(arrivals())
    began = time.process_time()
    platform.env.run()
    return time.process_time() - began, platform
