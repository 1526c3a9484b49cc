"""The room of likes and comments: accepted into the log, applied once, whatever dies meanwhile."""

import asyncio
import contextlib
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest
from confluent_kafka import Consumer, TopicPartition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference_impl import inspection, state
from reference_impl.interactions.records import Interaction
from reference_impl.interactions.worker import GENERATION_SHIFT, Batch, InteractionWorker
from reference_impl.topics import GROUPS, INTERACTIONS, committed_offsets
from tests.reference_impl.stack import USERS, eventually

PARTITIONS = 8
LIKED = "SELECT count(*) FROM likes WHERE post_id = $1 AND liked"


def like(stack, post, user, method="PUT"):
    stack.ask(method, f"/v1/posts/{post}/like", user, 202)


def comment(stack, post, user, text, key):
    headers = {"Idempotency-Key": key}
    return stack.ask("POST", f"/v1/posts/{post}/comments", user, 202, json={"text": text}, headers=headers)["id"]


@pytest.mark.cluster
def test_like_and_unlike_count_each_user_once(stack):
    post = stack.publish(1)
    before = time.time()
    for user in (1, 2, 3, 3, 3):
        like(stack, post, user)
    eventually(lambda: stack.likes(post) == 3)
    like(stack, post, 2, "DELETE")
    like(stack, post, 2, "DELETE")
    like(stack, post, 9, "DELETE")  # never liked it
    eventually(lambda: stack.likes(post) == 2)
    like(stack, post, 2)
    eventually(lambda: stack.likes(post) == 3)
    assert stack.sql(LIKED, post) == [(3,)]
    samples = eventually(
        lambda: (s := [m for m in stack.milestones("interactions.applied") if m[0] >= before])[8:] and s
    )
    assert len(samples) == 9  # one for each accepted event
    assert all(started <= reached and weight == 1 for started, reached, weight in samples)


@pytest.mark.cluster
def test_comment_with_the_same_key_is_the_same_comment(stack):
    post = stack.publish(1)
    first = comment(stack, post, 5, "once", "key")
    assert comment(stack, post, 5, "again", "key") == first
    others = [comment(stack, post, 6, "another user", "key"), comment(stack, post, 5, "another key", "key2")]
    assert len({first, *others}) == 3
    eventually(lambda: len(stack.ask("GET", f"/v1/posts/{post}", 1, 200)["comments"]) == 3)
    shown = stack.ask("GET", f"/v1/posts/{post}", 1, 200)["comments"]
    assert {c["id"]: (c["author_id"], c["text"]) for c in shown} == {
        first: (5, "once"),
        others[0]: (6, "another user"),
        others[1]: (5, "another key"),
    }


def test_read_shows_the_newest_twenty_comments(stack):
    post = stack.publish(1)
    for number in range(25):
        comment(stack, post, 7, f"number {number}", f"key{number}")
    eventually(lambda: stack.sql("SELECT count(*) FROM comments WHERE post_id = $1", post) == [(25,)])
    shown = stack.ask("GET", f"/v1/posts/{post}", 1, 200)["comments"]
    assert [c["text"] for c in shown] == [f"number {number}" for number in range(24, 4, -1)]


def test_events_of_a_post_that_does_not_exist_are_dropped(stack):
    like(stack, 987_654_321, 1)
    comment(stack, 987_654_321, 1, "to nobody", "key")
    eventually(lambda: stack.status()["lag_records"]["interactions"] == 0)
    assert stack.sql("SELECT count(*) FROM likes WHERE post_id = 987654321") == [(0,)]
    assert stack.sql("SELECT count(*) FROM comments WHERE post_id = 987654321") == [(0,)]


class NoMilestones:
    """Stands where the file of milestones does; these tests look at the database."""

    def record(self, name, samples):
        pass


def event(kind, user, post=1):
    return Interaction(kind, post, user, 1_750_000_000.0)


def apply_all(url, batches, generation=1):
    """Apply batches of (offset, event) by a worker; return the post's count, its likers and the events applied."""

    async def run():
        async with asyncpg.create_pool(url, min_size=1, max_size=1) as pool:
            await pool.execute("TRUNCATE likes, like_counts")
            worker = InteractionWorker(pool, NoMilestones(), generation)
            applied = 0
            for events in batches:
                batch = Batch()
                for offset, happened in events:
                    batch.add(generation << GENERATION_SHIFT | offset, happened)
                applied += len(await worker.apply(batch))
            count = await pool.fetchval("SELECT likes FROM like_counts WHERE post_id = 1")
            likers = {row[0] for row in await pool.fetch("SELECT author_id FROM likes WHERE post_id = 1 AND liked")}
            return count or 0, likers, applied

    return asyncio.run(run())


def test_batch_that_comes_again_late_does_not_undo_newer_state(large_database):
    old = [(0, event("like", 1)), (1, event("like", 2))]
    new = [(2, event("unlike", 1)), (3, event("like", 3))]
    assert apply_all(large_database, [old, new, old]) == (2, {2, 3}, 4)


events = st.lists(st.tuples(st.sampled_from(["like", "unlike"]), st.integers(1, 3)), min_size=1, max_size=12)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events, st.lists(st.tuples(st.integers(0, 11), st.integers(1, 6)), max_size=6))
def test_redelivery_in_any_order_gives_what_the_log_says(large_database, happened, redelivered):
    log = [(offset, event(kind, user)) for offset, (kind, user) in enumerate(happened)]
    wanted = {user for kind, user in {user: (kind, user) for kind, user in happened}.values() if kind == "like"}
    count, likers, applied = apply_all(
        large_database, [log, *(log[a : a + n] for a, n in redelivered if log[a : a + n])]
    )
    assert likers == wanted
    assert count == len(wanted)
    assert applied == len(log)


def test_new_generation_of_the_log_is_newer_than_the_old(large_database):
    async def run():
        async with asyncpg.create_pool(large_database, min_size=1, max_size=1) as pool:
            await pool.execute("TRUNCATE likes, like_counts")
            for generation, offset, kind in ((1, 10**6, "like"), (2, 0, "unlike")):
                batch = Batch()
                batch.add(generation << GENERATION_SHIFT | offset, event(kind, 1))
                await InteractionWorker(pool, NoMilestones(), generation).apply(batch)
            return await pool.fetchval("SELECT likes FROM like_counts WHERE post_id = 1")

    assert asyncio.run(run()) == 0


@pytest.mark.slow
@pytest.mark.embedded
def test_broker_that_stalls_is_a_503_and_a_post_is_kept(stack):
    broker = stack.process("kafka")
    broker.send_signal(signal.SIGSTOP)
    try:
        post = stack.publish(16, "written while the log is away")
        answer = stack.ask("PUT", f"/v1/posts/{post}/like", 1, 503)
        health = stack.ask("GET", "/healthz", None, 503)
    finally:
        broker.send_signal(signal.SIGCONT)
    assert "try again" in answer["error"]
    assert health["dependencies"]["database"] == "ok" != health["dependencies"]["kafka"]
    eventually(lambda: stack.sql("SELECT count(*) FROM feed WHERE post_id = $1", post) == [(2,)], 40)
    eventually(lambda: stack.request("GET", "/healthz").status_code == 200)


def send(stack, requests):
    """Send (method, post, user) by many at once."""
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda r: like(stack, r[1], r[2], r[0]), requests))


@contextlib.contextmanager
def row_held(stack, post):
    """Hold the lock on a post's count, so that the worker that applies its likes stops in mid-transaction."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(stack.state["database_url"]))
    transaction = connection.transaction()
    loop.run_until_complete(transaction.start())
    loop.run_until_complete(connection.execute("SELECT FROM like_counts WHERE post_id = $1 FOR UPDATE", post))
    try:
        yield
    finally:
        loop.run_until_complete(transaction.rollback())
        loop.run_until_complete(connection.close())
        loop.close()


WAITING = """SELECT application_name FROM pg_stat_activity
             WHERE application_name LIKE 'interaction_worker%' AND wait_event_type = 'Lock'"""


def blocked_worker(stack):
    [[name]] = eventually(lambda: stack.sql(WAITING), what="a worker blocked in its transaction")
    return name


def check_counts(stack, wanted):
    """Every post has exactly the likers that it should, and its count says so."""
    posts = list(wanted)
    counts = dict(stack.sql("SELECT post_id, likes FROM like_counts WHERE post_id = ANY($1::bigint[])", posts))
    rows = stack.sql("SELECT post_id, author_id FROM likes WHERE liked AND post_id = ANY($1::bigint[])", posts)
    assert {post: {author for p, author in rows if p == post} for post in posts} == wanted
    assert {post: counts.get(post, 0) for post in posts} == {post: len(users) for post, users in wanted.items()}


@pytest.mark.slow
@pytest.mark.cluster
def test_nothing_is_lost_or_doubled_when_workers_are_killed(stack):
    users = range(USERS)
    posts = [stack.publish(40) for _ in range(12)]
    hot = posts[0]
    like(stack, hot, 0)
    eventually(lambda: stack.likes(hot) == 1)

    # First: killed in mid-transaction. Nothing of its batch is in the database, nothing is committed to the log.
    with row_held(stack, hot):
        send(stack, [("PUT", post, user) for user in users for post in posts])
        victim = blocked_worker(stack)
        stack.kill(victim)
    wanted = {post: set(users) for post in posts}
    eventually(lambda: stack.sql(LIKED, hot) == [(USERS,)], 40, "the takeover")
    eventually(lambda: all(stack.likes(post) == USERS for post in posts))
    check_counts(stack, wanted)
    assert stack.status(code=1)["up"] is False
    assert victim in stack.command("up", "--json").stderr  # starts it again
    assert stack.status()["up"] is True

    # Second: what a death between the database's commit and the log's leaves behind. Both workers are killed, and the
    # group's offsets are put back to the beginning: every event of this session comes again, old unlikes and all.
    send(stack, [("DELETE", hot, user) for user in range(20)])
    wanted[hot] = set(range(20, USERS))
    eventually(lambda: stack.likes(hot) == USERS - 20)
    everything = stack.sql("SELECT post_id, author_id, liked, version FROM likes ORDER BY 1, 2")
    counts = stack.sql("SELECT post_id, likes FROM like_counts ORDER BY 1")
    stack.kill("interaction_worker_1", "interaction_worker_2")
    put_back(stack)
    stack.command("up")
    eventually(lambda: inspection.lag(state.read(stack.state_dir))["interactions"] == 0, 40, "catching up")
    counters = stack.status()["counters"]
    assert counters["interactions_unchanged"] >= USERS * len(posts) + 20
    assert counters["interactions_applied"] == 0
    assert stack.sql("SELECT post_id, author_id, liked, version FROM likes ORDER BY 1, 2") == everything
    assert stack.sql("SELECT post_id, likes FROM like_counts ORDER BY 1") == counts
    check_counts(stack, wanted)
    like(stack, hot, 0)
    eventually(lambda: stack.likes(hot) == USERS - 19)


def put_back(stack):
    """Join the workers' group once the dead are forgotten, and put its offsets back to the beginning."""
    settings = state.read(stack.state_dir).to_settings()
    topic, group = settings.name_prefix + INTERACTIONS, settings.name_prefix + GROUPS[INTERACTIONS]
    member = Consumer(
        {"bootstrap.servers": settings.kafka_bootstrap, "group.id": group, "session.timeout.ms": 6000}
        | {"enable.auto.commit": False}
    )
    member.subscribe([topic])
    try:
        eventually(lambda: member.poll(0.1) is None and len(member.assignment()) == PARTITIONS, 40, "the takeover")
        beginning = [TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)]
        member.commit(offsets=beginning, asynchronous=False)
    finally:
        member.close()
    assert set(committed_offsets(settings, INTERACTIONS).values()) == {0}


def test_comment_ids_are_uuids(stack):
    assert uuid.UUID(comment(stack, 1, 1, "text", "some key")).version == 5
