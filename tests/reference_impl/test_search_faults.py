"""The room of search when something dies or stops: slower, or a 503, and nothing missing afterwards."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.reference_impl.searching import (
    ask_index,
    found,
    indexed,
    rows,
    search,
    wait_until_searchable,
    word,
)
from tests.reference_impl.stack import eventually


@pytest.mark.cluster
def test_indexer_that_was_stopped_catches_up_with_nothing_missing(stack):
    wait_until_searchable(stack)
    stack.kill("indexer_1")
    titles = {stack.publish(5, f"{title} waits"): title for title in (word() for _ in range(30))}
    assert stack.status(code=1)["lag_records"]["search"] >= 30
    stack.command("up")
    wait_until_searchable(stack)
    assert all(found(stack, title) == [post] for post, title in titles.items())
    assert indexed(stack) == rows(stack)


@pytest.mark.slow
def test_capture_that_is_killed_under_load_loses_nothing(stack):
    wait_until_searchable(stack)
    with ThreadPoolExecutor(8) as pool:
        published = [pool.submit(stack.publish, 6, f"title {number} under load") for number in range(400)]
        for at in (80, 200):
            published[at].result()
            stack.kill("cdc")
            stack.command("up")
        posts = {future.result() for future in published}
    wait_until_searchable(stack)
    assert len(posts) == 400
    assert ask_index(stack, lambda index: index.count("posts", sorted(posts))) == 400
    assert indexed(stack) == rows(stack)


@pytest.mark.slow
def test_slot_keeps_the_log_while_nobody_reads_it_and_status_tells(stack):
    wait_until_searchable(stack)
    stack.kill("cdc")
    title = word()
    post = stack.publish(7, title)
    status = stack.status(code=1)
    assert status["search_lag"]["slot_lag_bytes"] > 0
    assert "cdc" in [process["name"] for process in status["processes"] if process["state"] == "dead"]
    stack.command("up")
    eventually(lambda: found(stack, title) == [post])
    wait_until_searchable(stack)
    assert stack.status()["search_lag"] == {"slot_lag_bytes": 0, "batches_unseen": 0}


@pytest.mark.slow
def test_capture_begins_anew_when_the_database_has_given_up_its_slot(stack):
    wait_until_searchable(stack)
    title, capture = word(), stack.process("cdc")
    capture.suspend()
    try:
        post = stack.publish(8, title)
        stack.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'")
        stack.sql("SELECT pg_reload_conf()")
        for _ in range(4):  # four segments of the log, of which one may be kept
            stack.sql("SELECT pg_logical_emit_message(false, 'a test', 'much')")
            stack.sql("SELECT pg_switch_wal()")
        stack.sql("CHECKPOINT")
        lost = "SELECT count(*) FROM pg_replication_slots WHERE wal_status = 'lost'"
        eventually(lambda: stack.sql(lost) == [(1,)])
    finally:
        stack.sql("ALTER SYSTEM RESET max_slot_wal_keep_size")
        stack.sql("SELECT pg_reload_conf()")
        capture.resume()
    eventually(lambda: found(stack, title) == [post], within_s=60)
    wait_until_searchable(stack)
    assert indexed(stack) == rows(stack)
    assert stack.sql(lost) == [(0,)]


@pytest.mark.slow
def test_without_redis_search_goes_on(stack):
    text = word()
    assert [search(stack, text).headers["X-Cache"] for _ in range(2)] == ["miss", "hit"]
    stack.kill("redis")
    for _ in range(3):
        answer = search(stack, text)
        assert (answer.status_code, answer.headers["X-Cache"]) == (200, "away")
    health = stack.ask("GET", "/healthz", None, 200)
    assert health["status"] == "degraded"
    assert health["dependencies"]["redis"] != "ok" == health["dependencies"]["search_engine"]
    assert "redis" in stack.command("up").stderr
    eventually(lambda: search(stack, text).headers["X-Cache"] == "hit")
    assert stack.ask("GET", "/healthz", None, 200)["status"] == "ok"


@pytest.mark.slow
@pytest.mark.embedded
def test_without_the_engine_search_is_a_503_and_the_feed_is_not_affected(stack):
    wait_until_searchable(stack)
    titles = {stack.publish(8, f"{title} early"): title for title in (word() for _ in range(5))}
    eventually(lambda: stack.status()["lag_records"]["search"] == 0)  # acknowledged by the engine, perhaps not refreshed
    stack.kill("search_engine")
    answer = search(stack, word())
    assert answer.status_code == 503
    assert "try again" in answer.json()["error"]
    assert stack.ask("GET", "/healthz", None, 200)["dependencies"]["search_engine"] != "ok"
    titles |= {stack.publish(8, f"{title} late"): title for title in (word() for _ in range(5))}
    assert stack.request("GET", "/v1/feed", 7).status_code == 200
    assert "search_engine" in stack.command("up").stderr
    wait_until_searchable(stack)
    assert all(found(stack, title) == [post] for post, title in titles.items())
    assert indexed(stack) == rows(stack)
