"""Search on a platform of eight users, every duration worked out by hand."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from model import platform
from model.distributions import empirical
from model.live.search import matches, numbers_from
from model.results import Results
from model.search import popular_queries
from tests.model.runs import answered, at, marks, run, topic
from tests.model.small_platform import scenario
from tests.model.test_live import Client

# network 0.125, api 1, cache 0.125 + 0.125; then the engine 0.25 + 2 for each shard and the cache again
HIT_S = 0.125 + 1 + 0.25
MISS_S = HIT_S + 0.25 + 2 + 0.25
COMMITTED_S = 0.125 + 1 + 0.25 + 2
ANSWERED_S = COMMITTED_S + 0.5
# the log's reader 0.5, acknowledged after 0.5, network 0.25, bulk 2 and 1/8 for each document
INDEXED_S = COMMITTED_S + 0.5 + 0.5 + 0.25 + 2 + 1 / 8


TOPICS = platform.build_network(scenario()).names("topics")


def run_platform(settings, requests, control=None):
    """requests: (instant, operation, attributes)."""
    return run(platform.build_network(settings), requests, control=at(*control) if control else None)


def queries(*instants_and_numbers):
    return [(instant, "search.query", {"query": float(number)}) for instant, number in instants_and_numbers]


@pytest.mark.usefixtures("engine")
def test_answer_is_cached_until_its_ttl_ends():
    settings = scenario("hybrid", "search.cache_ttl_s=50")
    asked = queries((0, 1), (20, 1), (20, 2), (70, 1))
    record = run_platform(settings, asked)
    latencies = [instant - item[0] for instant, item in zip(answered(record), asked, strict=True)]
    # The two at 20 share the one thread of the cache, and one CPU each of the API.
    assert latencies == [MISS_S, HIT_S, MISS_S + 0.125, MISS_S]


@pytest.mark.usefixtures("engine")
def test_slowest_shard_decides():
    settings = scenario("hybrid", "search.shards=3", "stations.search_engine.servers=2")
    assert answered(run_platform(settings, queries((0, 1)))) == [MISS_S + 2]


@pytest.mark.usefixtures("engine")
def test_a_slow_shard_is_asked_again_at_another_copy():
    asked = queries(*((50.0 * number, number) for number in range(19)))

    def latencies(*more):
        settings = scenario("hybrid", "stations.search_engine.servers=9", *more)
        settings = replace(settings, service_times=settings.service_times | {"engine_query": empirical(values_s=[2, 40])})
        record = run_platform(settings, asked)
        return Counter(instant - item[0] for instant, item in zip(answered(record), asked, strict=True))

    plain, hedged = latencies(), latencies("search.hedge_after_s=1")
    assert set(plain) == {MISS_S, MISS_S + 38}
    # The first copy is fast; or the second, a second later; or neither: the first is through before the second.
    assert set(hedged) == {MISS_S, MISS_S + 1, MISS_S + 38}
    assert hedged[MISS_S] == plain[MISS_S]
    assert hedged[MISS_S + 1] + hedged[MISS_S + 38] == plain[MISS_S + 38]


@pytest.mark.usefixtures("engine")
def test_post_is_searchable_at_the_refresh_after_it_is_indexed():
    settings = scenario("hybrid", "search.refresh_s=64")
    record = run_platform(settings, [(100 * n, "feed.publish", {}) for n in range(9)])
    seen = [instant for instant, name, _ in marks(record) if name == "search.searchable"]
    waited_s = [instant - 100 * n - INDEXED_S for n, instant in enumerate(seen)]
    assert len(waited_s) == 9
    assert all(0 <= wait_s <= 64 for wait_s in waited_s)
    assert len(set(waited_s)) == 9
    figures = Results(settings, record, 1).milestone_figures["search.searchable"]
    assert figures["latency_s"]["max"] == pytest.approx(max(waited_s) + INDEXED_S - ANSWERED_S)


@pytest.mark.usefixtures("engine")
def test_reading_the_log_holds_up_neither_the_author_nor_the_followers():
    settings = scenario("hybrid", cdc_poll=200.0)
    record = run_platform(settings, [(0, "feed.publish", {"batches": 1.0, "batch_followers": 2.0})])
    assert answered(record) == [ANSWERED_S]
    assert [name for _, name, _ in marks(record)] == ["feed.delivered", "search.searchable"]


@pytest.mark.usefixtures("engine")
def test_indexer_that_dies_is_replaced_and_every_post_becomes_searchable():
    settings = scenario(
        "hybrid", "stations.indexers.servers=2", "topics.search.partitions=2", "topics.search.session_timeout_s=8"
    )
    record = run_platform(
        settings,
        [(n, "feed.publish", {}) for n in range(8)],
        [(INDEXED_S + 3, "crash", TOPICS.index("search"), 0)],  # in the midst of a batch
    )
    found = Counter(request for _, name, request in marks(record) if name == "search.searchable")
    assert set(found) == set(range(8))
    assert topic(record, "search")["redelivered"] >= 1


def test_queries_are_popular_by_zipfs_law():
    uniforms = (np.arange(100_000) + 0.5) / 100_000
    drawn = popular_queries(50, 1.0, uniforms)
    counts = np.bincount(drawn.astype(int), minlength=51)[1:]
    expected = 1 / np.arange(1, 51)
    assert counts / 100_000 == pytest.approx(expected / expected.sum(), abs=2e-5)
    assert popular_queries(50, 1.0, [0.0, 1 - 1e-16]).tolist() == [1, 50]


# ---- what the live platform finds


def found(client, kind, text, **more):
    outcome = client.ask("search.query", 1, q=text, kind=kind, **more)
    assert outcome.status == "ok"
    return [result["id"] for result in outcome.body["results"]]


def test_users_are_found_by_name_and_prefix():
    client = Client()
    assert found(client, "users", "User3 ") == [3]
    assert found(client, "users", "us", limit="5") == [0, 1, 2, 3, 4]
    assert found(client, "users", "user9") == found(client, "users", "nobody") == found(client, "users", "user 3") == []


def test_initial_posts_are_found_by_their_words():
    client = Client()
    assert found(client, "posts", "post 2 of user3") == [1 + 8 + 3]
    assert found(client, "posts", "user3") == [1 + 3, 1 + 8 + 3, 1 + 16 + 3]
    assert found(client, "posts", "user3 post 9") == []
    assert len(found(client, "posts", "post", limit="50")) == 24


def test_new_post_is_found_from_its_refresh_on_and_not_before():
    client = Client("hybrid", "search.refresh_s=1", cdc_poll=100.0)
    post = client.ask("feed.publish", 2, title="Zebra crossing", content="").body["id"]
    assert found(client, "posts", "zebra") == []
    client.go_to(INDEXED_S + 100.51)
    assert found(client, "posts", "zebra") == found(client, "posts", "zebra cross") == [post]


@pytest.mark.parametrize(
    "arguments",
    [
        {"q": "", "kind": "users"}, {"q": "a", "kind": "likes"}, {"q": "a", "kind": "users", "limit": "0"},
        {"q": "a", "kind": "users", "limit": "x"}, {"q": "a" * 101, "kind": "users"}, {"kind": "users"}, {"q": "a"},
    ],
)  # fmt: skip
def test_bad_query_is_invalid(arguments):
    assert Client().ask("search.query", 1, **arguments).status == "invalid"


@pytest.mark.parametrize("prefix", ["user", "user0", "user1", "user12", "user120", "us", "user01", "userx", "x", "user9"])
def test_names_by_prefix_are_those_of_a_scan(prefix):
    scanned = {number for number in range(1234) if f"user{number}".startswith(prefix)}
    listed = list(numbers_from(prefix, 1234))
    assert set(listed) == scanned
    assert listed == sorted(listed, key=lambda number: (len(str(number)), number)) or prefix in ("user", "us")


def test_last_word_matches_as_a_prefix():
    title = ["post", "1", "of", "user12"]
    assert matches(title, ["post", "user1"])
    assert matches(title, ["user12"])
    assert not matches(title, ["user1", "post"])
