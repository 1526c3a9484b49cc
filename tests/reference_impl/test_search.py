"""The room of search: from the database's log to an answer."""

import asyncio
import contextlib
import csv
import os
import socket
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from reference_impl.search import cache as answer_cache
from reference_impl.search.cache import AnswerCache
from reference_impl.search.cdc import readable
from reference_impl.search.pgoutput import Decoder
from reference_impl.settings import Settings
from tests.reference_impl.searching import (
    found,
    indexed,
    metric,
    rows,
    search,
    settings_of,
    wait_until_searchable,
    word,
)
from tests.reference_impl.stack import ROOT, USERS, eventually


@pytest.mark.cluster
def test_seeded_rows_are_searchable(stack):
    wait_until_searchable(stack)
    assert indexed(stack, "users") == rows(stack, "users") == USERS
    assert indexed(stack) == rows(stack)
    answer = search(stack, "post 1 user7", limit=1).json()["results"][0]
    [row] = stack.sql("SELECT id, title, author_id, created_at FROM posts WHERE id = 8")
    assert answer == {"id": row[0], "title": row[1], "author_id": row[2], "created_at": row[3].timestamp()}


@pytest.mark.cluster
def test_new_post_becomes_searchable(stack):
    before = time.time()
    posts = {stack.publish(3, f"{title} of a new post"): title for title in (word(), word())}
    for post, title in posts.items():
        eventually(lambda post=post, title=title: found(stack, title) == [post])
    samples = eventually(lambda: (s := [m for m in stack.milestones("search.searchable") if m[0] >= before])[1:] and s)
    assert len(samples) == 2  # publishing updates the row, which is not its second birth
    assert all(started <= reached and weight == 1 for started, reached, weight in samples)


@pytest.mark.slow
def test_load_tests_probe_sees_from_outside_when_posts_are_found(stack, tmp_path):
    wait_until_searchable(stack)
    environment = os.environ | {"FLASHCROWD_STATE_DIR": str(stack.state_dir)}
    command = [sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "SearchableProbe"]
    options = ["--target", "reference", "--host", stack.state["api_url"], "--headless", "-u", "1", "-t", "5s"]
    options += ["--users-in-platform", str(USERS), "--think-time-s", "0.1"]
    raw = tmp_path / "raw.csv"
    done = subprocess.run(
        [*command, *options, "--raw", str(raw)], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with raw.open() as file:
        rows = [row for row in csv.DictReader(file) if row["operation"] == "search.searchable"]
    assert rows
    assert {row["outcome"] for row in rows} == {"ok"}
    # From inside the same takes from the database's commit to the engine's answer; from outside nothing can be shorter.
    inside = sorted(reached - started for started, reached, _ in stack.milestones("search.searchable"))
    assert min(float(row["latency_s"]) for row in rows) > inside[0] - 0.05  # how exactly it is known from outside


@pytest.mark.cluster
def test_words_prefixes_and_typing_errors_find_a_user_in_this_order(stack):
    wait_until_searchable(stack)
    users = found(stack, "user4", "users")
    assert users[0] == 4
    assert set(users[1:11]) == set(range(40, 50))  # by the prefix
    assert set(found(stack, "USER42", "users")[:1]) == {42}
    assert 42 in found(stack, "usre42", "users")
    assert found(stack, "suer 42x", "users") == []
    assert found(stack, "!?", "users") == []


@pytest.mark.cluster
def test_all_words_of_a_title_have_to_match(stack):
    first, second = word(), word()
    post, other = stack.publish(3, f"{first} and {second}"), stack.publish(3, f"{first} alone")
    eventually(lambda: set(found(stack, first)) == {post, other})
    assert found(stack, f"{second} {first}") == [post]
    assert found(stack, f"{first} {second[:5]}") == [post]
    assert found(stack, f"{first} {second[:3]}q{second[4:]}") == [post]
    assert found(stack, f"{first} nothing") == []


@pytest.mark.cluster
def test_change_and_deletion_of_a_row_follow(stack):
    old, new = word(), word()
    stack.sql("INSERT INTO users (id, name, email, password_hash) VALUES (9000, $1, 'e', 'h')", old)
    eventually(lambda: found(stack, old, "users") == [9000])
    stack.sql("UPDATE users SET name = $1 WHERE id = 9000", new)
    eventually(lambda: found(stack, new, "users") == [9000])
    assert found(stack, old, "users") == []
    stack.sql("UPDATE users SET id = 9001 WHERE id = 9000")
    eventually(lambda: found(stack, new, "users") == [9001])
    stack.sql("DELETE FROM users WHERE id = 9001")
    eventually(lambda: found(stack, new, "users") == [])


def test_large_title_that_an_update_leaves_out_of_the_log_stays_searchable(stack):
    wanted = word()
    title = wanted + " " + " ".join(uuid.uuid4().hex for _ in range(250))  # does not compress: stored apart
    post = stack.publish(3, title)
    eventually(lambda: stack.sql("SELECT published_at IS NOT NULL FROM posts WHERE id = $1", post) == [(True,)])
    stack.kill("cdc")  # so that it no longer knows what it sent
    stack.sql("UPDATE posts SET content = 'changed' WHERE id = $1", post)
    stack.command("up")
    wait_until_searchable(stack)
    assert found(stack, wanted) == [post]
    assert search(stack, wanted).json()["results"][0]["title"] == title


def test_answer_comes_from_the_cache_until_it_expires(stack):
    text = word()
    assert [search(stack, query).headers["X-Cache"] for query in (text, text.upper(), f" {text} ")] == [
        "miss", "hit", "hit",
    ]  # fmt: skip
    cache = redis.Redis.from_url(settings_of(stack).redis_url)
    key = f"search:posts:10:{text}"
    assert 0 < cache.pttl(key) <= settings_of(stack).search_cache_ttl_s * 1000
    assert not cache.exists(f"{key}:lock")
    cache.delete(key)
    assert search(stack, text).headers["X-Cache"] == "miss"


@pytest.mark.embedded
def test_stampede_asks_the_engine_once(stack):
    wait_until_searchable(stack)
    before = metric(stack, "search_engine", "flashcrowd_engine_search_seconds_count")
    text = word()
    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(lambda _: search(stack, text).headers["X-Cache"], range(60)))
    assert outcomes.count("miss") == 1
    assert set(outcomes) <= {"miss", "joined", "hit"}
    assert metric(stack, "search_engine", "flashcrowd_engine_search_seconds_count") == before + 1


@contextlib.asynccontextmanager
async def caches(stack, count, **changes):
    """Caches of several processes, as it were."""
    settings = Settings(**(stack.state["settings"] | changes))
    made = [AnswerCache(settings) for _ in range(count)]
    try:
        yield made
    finally:
        for cache in made:
            await cache.close()


def test_processes_do_not_fetch_the_same_answer_at_once(stack, monkeypatch):
    monkeypatch.setattr(answer_cache, "TIMEOUT_S", 10.0)  # on a busy machine Redis may take longer than a search would wait for it
    fetched = []

    async def fetch():
        fetched.append(1)
        await asyncio.sleep(0.1)
        return b"the answer"

    async def run():
        async with caches(stack, 4) as processes:
            key = word()
            return await asyncio.gather(*(cache.get(key, fetch) for cache in processes for _ in range(3)))

    answers = asyncio.run(run())
    assert len(fetched) == 1
    assert {answer for answer, _ in answers} == {b"the answer"}


def test_failed_fetch_fails_for_all_who_wait_and_leaves_no_lock(stack):
    async def fail():
        await asyncio.sleep(0.05)
        raise RuntimeError("no engine")

    async def succeed():
        return b"fine"

    async def run():
        async with caches(stack, 1) as [cache]:
            key = word()
            failures = await asyncio.gather(*(cache.get(key, fail) for _ in range(3)), return_exceptions=True)
            return failures, await cache.get(key, succeed)

    failures, then = asyncio.run(run())
    assert [str(failure) for failure in failures] == ["no engine"] * 3
    assert then == (b"fine", "miss")


@pytest.mark.parametrize(
    "parameters",
    [
        {}, {"q": "a"}, {"kind": "users"}, {"q": "", "kind": "users"}, {"q": "   ", "kind": "users"},
        {"q": "a", "kind": "likes"}, {"q": "a", "kind": ""}, {"q": "a" * 101, "kind": "users"},
        {"q": "a", "kind": "users", "limit": "0"}, {"q": "a", "kind": "users", "limit": "51"},
        {"q": "a", "kind": "users", "limit": "-1"}, {"q": "a", "kind": "users", "limit": "x"},
        {"q": "a", "kind": "users", "limit": "9" * 30},
    ],
)  # fmt: skip
def test_bad_query_is_refused(stack, parameters):
    answer = stack.request("GET", "/v1/search", 1, params=parameters)
    assert answer.status_code == 422
    assert answer.json()["error"]


@pytest.mark.parametrize("text", ["\0", "*", "a:b", '"', "(a OR", "%00", "\ud7ff", "a" * 100, "/.*/", "{}", "名前"])
def test_odd_query_is_only_text(stack, text):
    assert search(stack, text).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/flashcrowd-posts/_search", b"{", 400),
        ("POST", "/flashcrowd-posts/_search", b'{"query": {"script": {}}}', 400),
        ("POST", "/flashcrowd-posts/_search", b'{"query": {"match": {"nowhere": {"query": "a"}}}}', 400),
        ("POST", "/flashcrowd-posts/_search", b'{"size": -1}', 400),
        ("POST", "/nowhere/_search", b"{}", 404),
        ("POST", "/_bulk", b'{"index": {"_index": "nowhere", "_id": "1"}}\n{}\n', 404),
        ("POST", "/_bulk", b'{"index": {"_index": "flashcrowd-posts", "_id": "1"}}\n', 400),
        ("PUT", "/flashcrowd-posts", b'{"mappings": {"properties": {}}}', 400),
        ("PUT", "/new", b'{"mappings": {"properties": {"a": {"type": "geo_point"}}}}', 400),
        ("DELETE", "/flashcrowd-posts", b"", 405),
    ],
)
@pytest.mark.embedded
def test_embedded_engine_refuses_as_elasticsearch_does(stack, method, path, body, status):
    answer = httpx.request(method, settings_of(stack).elasticsearch_url + path, content=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["reason"]
    assert answer.json()["status"] == status


@pytest.mark.embedded
def test_document_that_is_refused_does_not_stop_the_others(stack):
    url = settings_of(stack).elasticsearch_url
    lines = [
        b'{"index": {"_index": "flashcrowd-users", "_id": "a"}}', b'{"unknown": 1}',
        b'{"index": {"_index": "flashcrowd-users", "_id": "b"}}', b'{"name": "' + (good := word()).encode() + b'"}',
        b'{"delete": {"_index": "flashcrowd-users", "_id": "c"}}',
    ]  # fmt: skip
    answer = httpx.post(f"{url}/_bulk", content=b"\n".join(lines) + b"\n").json()
    assert answer["errors"] is True
    assert [next(iter(item.values()))["status"] for item in answer["items"]] == [400, 200, 200]
    httpx.post(f"{url}/flashcrowd-users/_refresh")
    assert [hit["name"] for hit in search(stack, good, "users").json()["results"]] == [good]
    httpx.post(f"{url}/_bulk", content=b'{"delete": {"_index": "flashcrowd-users", "_id": "b"}}\n')


def test_capture_does_not_turn_in_circles_over_what_it_has_not_read_yet():
    """While it waits for the broker; what is there already counts as soon as it asks again."""
    ours, theirs = socket.socketpair()

    async def run():
        theirs.send(b"a")
        await readable(ours.fileno(), 10)
        watched_on = asyncio.get_running_loop().remove_reader(ours.fileno())
        await readable(ours.fileno(), 10)
        ours.recv(1)
        with pytest.raises(TimeoutError):
            await readable(ours.fileno(), 0.01)
        return watched_on

    with ours, theirs:
        assert not asyncio.run(run())


@given(st.binary(max_size=60), st.sampled_from(b"BCRIUDTOYMX"))
def test_damaged_message_of_the_database_is_a_value_error(data, kind):
    decoder = Decoder()
    decoder.decode(b"R" + bytes(3) + b"\x01public\0users\0d" + b"\0\x01" + b"\x01id\0" + bytes(8))
    with contextlib.suppress(ValueError):
        decoder.decode(bytes([kind]) + data)
