"""Caches of feeds: pages by reader, newest posts by author; durations by hand, herds and hit ratios against closed forms."""

from dataclasses import replace

import numpy as np
import pytest

from model import platform
from model.distributions import constant, exponential
from model.engines.clock import Clock
from model.live import LivePlatform
from model.network import Cache, Delay, Evict, Lookup, Network, Operation
from model.queueing_theory import ttl_hit_ratio
from model.simulation import simulate
from scenarios.loader import load_scenario
from tests.model.runs import answered, run, run_many
from tests.model.small_platform import GRAPH, scenario

FAR_S = 100.0
PAGE_S = 0.125 + (1 + 4 / 64) + 0.25 + (2 + 4 / 32)  # user 3: two rows, the celebrity's two newest, nobody else is pulled
ASK_S = 0.125 + 0.125
READ_S = 0.25 + 2.0 + ASK_S  # the author's newest posts, put into the cache


def requests(settings, *calls):
    schedule = []
    for instant, operation, user in calls:
        values = platform.request_attributes(settings, GRAPH, operation, np.array([user]), np.array([0.5]))
        schedule.append((instant, operation, {name: float(value[0]) for name, value in values.items()}))
    return run(platform.build_network(settings), schedule)


def took_s(record):
    return [answer - FAR_S * number for number, answer in enumerate(answered(record))]


@pytest.mark.usefixtures("engine")
class TestDurations:
    def test_an_authors_posts_are_read_once_and_again_after_he_has_posted(self):
        settings = scenario("hybrid", "feed.author_cache_ttl_s=1_000", database_author_posts=2.0)
        calls = [(0, "feed.open", 3), (1, "feed.open", 3), (2, "feed.publish", 0), (3, "feed.open", 1), (4, "feed.open", 7)]
        found = took_s(requests(settings, *[(FAR_S * at, name, user) for at, name, user in calls]))
        assert found[:2] == [PAGE_S + ASK_S + READ_S, PAGE_S + ASK_S]
        # User 1 has no rows and pulls the same celebrity, whose entry has gone; user 7 follows nobody.
        assert found[3:] == [PAGE_S - 2 / 64 - 2 / 32 + ASK_S + READ_S, 0.125 + 1 + 0.25 + 2]

    def test_the_database_reads_whom_the_cache_does_not_hold(self):
        settings = scenario("hybrid", "feed.author_cache_ttl_s=1_000", "feed.threshold=1")
        values = platform.request_attributes(settings, GRAPH, "feed.open", np.array([3, 2]), np.array([0.5, 0.5]))
        assert values["pulled_author"].tolist() == [0, 0]  # of users 0 and 1 the one whom most follow
        assert values["pulled_others"].tolist() == [1, 1]

    def test_a_cached_page_asks_no_database(self):
        settings = scenario("push", "feed.page_cache_ttl_s=150")
        found = took_s(requests(settings, *[(FAR_S * number, "feed.open", 3) for number in range(3)]))
        page_s = 0.125 + (1 + 2 / 64) + 0.25 + (2 + 2 / 32)
        assert found == [page_s + 2 * ASK_S, 0.125 + (1 + 2 / 64) + ASK_S, page_s + 2 * ASK_S]


@pytest.mark.parametrize("strategy", ["naive", "push"])
def test_where_nobody_is_pulled_nothing_is_looked_up(strategy):
    record = requests(scenario(strategy, "feed.author_cache_ttl_s=1_000"), (0, "feed.open", 3), (50, "feed.publish", 0))
    assert record.caches[0].item() == (0, 0, 0)


@pytest.mark.parametrize(("leases", "reads"), [(False, 1 + 20 * 0.5), (True, 1.0)])
def test_each_post_costs_a_herd_one_read_for_all_who_come_before_the_first_has_ended(leases, reads):
    """With Poisson readers at rate L, and D seconds to read, an eviction costs 1 + L * D reads; with a lease one."""
    read = Lookup("posts", "author", miss=(Delay(constant(0.5)),))
    network = Network(
        (Operation("open", (read,)), Operation("post", (Evict("posts", "author"),))),
        caches=(Cache("posts", 1e9, coalesce=leases, stampede=not leases),), attributes=("author",),
    )  # fmt: skip
    record = run_many(network, {"open": exponential(1 / 20), "post": constant(5.0)}, 20_000, engine="compiled")
    posts = int(np.sum(record.operation == 1)) + 1  # and the cold start
    assert record.caches["misses"][0] / posts == pytest.approx(reads, rel=0.02)


def test_pages_hit_as_a_ttl_cache_does():
    small = ["population.users=200", "population.mean_followees=5", "population.celebrities=[]", "feed.page_cache_ttl_s=4"]
    load = ["load.feed_opens_per_s=100", "load.likes_per_feed_open=0", "run.duration_s=300", "run.warmup_s=20"]
    results = simulate(replace(load_scenario("baseline", [*small, *load]), slo={}))
    assert results.figure("caches.feed_pages.hit_ratio") == pytest.approx(ttl_hit_ratio([0.5], 4.0), abs=0.02)


def test_the_live_platform_asks_for_the_same_keys():
    settings = scenario("hybrid", "feed.author_cache_ttl_s=1_000", "feed.page_cache_ttl_s=50", "feed.threshold=1")
    env = Clock()
    live = LivePlatform(settings, env, 1, GRAPH)
    for user in (3, 7):
        asked = []
        live.perform("feed.open", user, {}, asked.append)
        env.run(until=env.now + 100)
        assert asked[0].status == "ok"
    live.perform("feed.publish", 0, {"title": "t", "content": "c"}, lambda outcome: None)
    env.run(until=env.now + 100)
    live.perform("feed.open", 3, {}, lambda outcome: None)
    env.run(until=env.now + 100)
    caches = live.results().cache_figures
    assert (caches["feed_pages"]["misses"], caches["author_posts"]["misses"]) == (3, 2)
