"""The room of posts and feeds, over HTTP and in the database."""

import asyncio
import contextlib
import time

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impl.database import from_microseconds, microseconds
from reference_impl.feed.strategies import POSTS_BY_INDEX, POSTS_WITHOUT_INDEX, PULLED, START, STRATEGIES, Cursor, page
from tests.reference_impl.stack import CELEBRITY, eventually


def in_pool(url, function):
    """The result of ``await function(pool)``."""

    async def run():
        async with asyncpg.create_pool(url, min_size=1, max_size=2) as pool:
            return await function(pool)

    return asyncio.run(run())


def feeds(url, names, users, count=200):
    async def read(pool):
        return {name: [await STRATEGIES[name](pool, user, START, count) for user in users] for name in names}

    return in_pool(url, read)


def test_every_strategy_gives_the_same_feed(large_database):
    users = range(0, 2_000, 111)
    found = feeds(large_database, STRATEGIES, users)
    assert all(feed == sorted(feed, reverse=True) for feed in found["naive"])
    assert sum(map(len, found["naive"])) > 3 * len(users)
    # Every post is precomputed here, celebrities' too: hybrid has to take one of each although it pulls them as well.
    assert found["indexed"] == found["push"] == found["hybrid"] == found["naive"]


def test_naive_indexed_and_hybrid_agree_on_posts_published_now(stack):
    author, follower = 3, 2
    for number in range(3):
        stack.publish(author, f"post {number}")
        stack.publish(CELEBRITY, f"celebrity's {number}")
    newest = stack.publish(author)
    eventually(lambda: stack.feed(follower)[0] == newest, what="the feed's newest post")
    users = (1, 2, 3, 30, 31, 45)
    found = feeds(stack.state["database_url"], ("naive", "indexed", "hybrid"), users)
    assert found["naive"] == found["indexed"] == found["hybrid"]
    assert len(found["naive"][1]) >= 7
    assert found["naive"][-1] == []  # user 45 follows nobody


def test_pages_cover_every_post_once(large_database):
    async def read(pool):
        followees = "SELECT follower_id FROM followers GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
        user = await pool.fetchval(followees)
        everything = await STRATEGIES["naive"](pool, user, START, 10**6)
        paged = {}
        for name, strategy in STRATEGIES.items():
            paged[name], cursor = [], START
            while cursor:
                entries, cursor = await page(strategy, pool, user, cursor, 7)
                paged[name] += entries
        return everything, paged

    everything, paged = in_pool(large_database, read)
    assert len(everything) > 60
    assert paged["naive"] == paged["indexed"] == everything
    # Precomputed rows were kept for the newest hundred posts only.
    assert paged["push"] == everything[:100]


def test_pages_over_http(stack):
    whole = stack.feed(10)
    seen, cursor = [], ""
    while cursor is not None:
        answer = stack.ask("GET", f"/v1/feed?limit=2&cursor={cursor}", 10, 200)
        assert len(answer["posts"]) <= 2
        seen += [post["id"] for post in answer["posts"]]
        cursor = answer["next_cursor"]
    assert seen == whole
    assert len(seen) >= 9
    created = [post["created_at"] for post in stack.ask("GET", "/v1/feed", 10, 200)["posts"]]
    assert created == sorted(created, reverse=True)


def test_celebritys_post_is_pulled_and_not_fanned_out(stack):
    post = stack.publish(CELEBRITY)
    # The dispatcher has had it once a later post of the same partition, or this one, is marked.
    eventually(lambda: stack.sql("SELECT FROM posts WHERE id = $1 AND published_at IS NOT NULL", post))
    assert stack.sql("SELECT count(*) FROM feed WHERE post_id = $1", post) == [(0,)]
    assert stack.feed(20)[0] == post
    assert post not in stack.feed(35)  # does not follow the celebrity


@pytest.mark.cluster
def test_authors_post_is_fanned_out_and_its_delivery_recorded(stack):
    author = 12
    followers = {row[0] for row in stack.sql("SELECT follower_id FROM followers WHERE followee_id = $1", author)}
    assert len(followers) == 2
    before = time.time()
    post = stack.publish(author)
    rows = eventually(lambda: stack.sql("SELECT user_id FROM feed WHERE post_id = $1", post))
    assert {row[0] for row in rows} == followers
    for follower in followers:
        assert stack.feed(follower)[0] == post
    samples = eventually(lambda: [s for s in stack.milestones("feed.delivered") if s[0] >= before])
    assert sum(weight for *_, weight in samples) == len(followers)
    assert all(started <= reached for started, reached, _ in samples)


def test_followers_are_cut_into_batches(stack):
    author = 50
    for follower in range(51, 56):
        stack.ask("PUT", f"/v1/users/{author}/follow", follower, 204)
    before = time.time()
    post = stack.publish(author)
    eventually(lambda: stack.sql("SELECT count(*) FROM feed WHERE post_id = $1", post) == [(5,)])
    samples = eventually(lambda: (s := [m for m in stack.milestones("feed.delivered") if m[0] >= before])[2:] and s)
    assert sorted(weight for *_, weight in samples) == [1, 2, 2]  # the setting is two followers a batch


@pytest.mark.cluster
def test_post_that_never_reached_the_log_is_delivered_from_its_row(stack):
    query = """INSERT INTO posts (author_id, title, content, created_at)
               VALUES (14, 'left behind', '', now() - interval '1 minute') RETURNING id"""
    [(post,)] = stack.sql(query)
    eventually(lambda: stack.sql("SELECT count(*) FROM feed WHERE post_id = $1", post) == [(2,)])
    assert stack.sql("SELECT count(*) FROM posts WHERE id = $1 AND published_at IS NULL", post) == [(0,)]


def plan(url, query, *arguments):
    async def read(pool):
        return "\n".join(row[0] for row in await pool.fetch("EXPLAIN " + query, *arguments))

    return in_pool(url, read)


def test_strategies_use_the_plans_they_claim(large_database):
    after = (START.created_at, START.id)
    naive = plan(large_database, POSTS_WITHOUT_INDEX, [5, 6, 7], *after)
    assert "Seq Scan on posts" in naive
    assert "Index" not in naive
    assert "posts_by_author" in plan(large_database, POSTS_BY_INDEX, [5, 6, 7], *after)
    pulled = plan(large_database, PULLED, 5, *after, 20)
    assert "posts_by_author" in pulled
    assert "followers_pulled" in pulled
    assert "Seq Scan" not in pulled


@given(st.integers(0, 2**55), st.integers(0, 2**63 - 1))
def test_cursor_survives_its_encoding(created_us, post):
    cursor = Cursor(from_microseconds(created_us), post)
    assert microseconds(cursor.created_at) == created_us
    assert Cursor.decode(cursor.encode()) == cursor


@given(st.text(max_size=40))
def test_foreign_cursor_raises_nothing_but_value_error(text):
    with contextlib.suppress(ValueError):
        assert Cursor.decode(text).id >= 0


@pytest.mark.parametrize(
    ("method", "path", "options", "code"),
    [
        ("GET", "/v1/feed", {}, 401),
        ("GET", "/v1/feed", {"headers": {"X-User-Id": "1"}}, 401),
        ("GET", "/v1/feed?cursor=%00nonsense", {"user": 1}, 400),
        ("GET", "/v1/feed?limit=0", {"user": 1}, 422),
        ("GET", "/v1/feed?limit=101", {"user": 1}, 422),
        ("POST", "/v1/posts", {"user": 1, "content": b"{"}, 400),
        ("POST", "/v1/posts", {"user": 1, "content": b"\xff\xfe"}, 400),
        ("POST", "/v1/posts", {"user": 1, "json": {"title": "no content"}}, 422),
        ("POST", "/v1/posts", {"user": 1, "json": {"title": 5, "content": ""}}, 422),
        ("POST", "/v1/posts", {"user": 1, "json": {"title": "", "content": ""}}, 422),
        ("POST", "/v1/posts", {"user": 1, "json": {"title": "nul\x00", "content": ""}}, 422),
        ("POST", "/v1/posts", {"user": 1, "content": b'{"title": "\\ud800", "content": ""}'}, 400),
        ("POST", "/v1/posts", {"user": 1, "json": {"title": "x" * 10_001, "content": ""}}, 422),
        ("POST", "/v1/posts", {"user": 10**9, "json": {"title": "a", "content": ""}}, 404),
        ("PUT", "/v1/users/1/follow", {"user": 1}, 422),
        ("PUT", "/v1/users/123456789/follow", {"user": 1}, 404),
        ("PUT", "/v1/users/1/follow", {"user": 123456789}, 404),
        ("PUT", "/v1/users/-1/follow", {"user": 1}, 404),
        ("GET", "/v1/posts/999999999", {"user": 1}, 404),
        ("PUT", "/v1/posts/x/like", {"user": 1}, 404),
        ("PUT", "/v1/posts/1/like", {}, 401),
        ("POST", "/v1/posts/1/comments", {"user": 1, "json": {"text": "no key"}}, 400),
        ("POST", "/v1/posts/1/comments", {"user": 1, "headers": {"Idempotency-Key": "k"}, "json": {"text": ""}}, 422),
        ("GET", "/v1/nothing", {}, 404),
        ("DELETE", "/v1/feed", {}, 405),
    ],
)
def test_bad_input_is_answered_in_one_line_of_json(stack, method, path, options, code):
    answer = stack.request(method, path, **options)
    assert answer.status_code == code
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"]
    assert "\n" not in answer.json()["error"]
