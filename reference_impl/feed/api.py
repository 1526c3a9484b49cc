"""``feed.publish`` and ``feed.open``."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from reference_impl.feed.strategies import START, STRATEGIES, Cursor, page
from reference_impl.published import announce
from reference_impl.spans import name_statements
from reference_impl.web import (
    ApiError,
    Platform,
    Text,
    TextOrNone,
    caller,
    clean_text,
    json_response,
    limit_of,
    read_body,
)

LIMIT_DEFAULT, LIMIT_MAX = 20, 100


class NewPost(msgspec.Struct):
    """Body of ``feed.publish``."""

    title: Text
    content: TextOrNone


class Published(msgspec.Struct):
    """Answer of ``feed.publish``; times are epoch seconds."""

    id: int
    created_at: float


class PostOfFeed(msgspec.Struct):
    """A post as a feed shows it."""

    id: int
    author_id: int
    title: str
    created_at: float


class Page(msgspec.Struct):
    """Answer of ``feed.open``."""

    posts: list[PostOfFeed]
    next_cursor: str | None
    """For the page after this one; null: there is none."""


new_post = msgspec.json.Decoder(NewPost)

INSERT_POST = """
INSERT INTO posts (author_id, title, content)
SELECT $1, $2, $3 WHERE EXISTS (SELECT FROM users WHERE id = $1)
RETURNING id, created_at"""


name_statements({INSERT_POST: "database_insert_post"})


async def publish(request: Request, platform: Platform) -> Response:
    """Store a post and hand it to fan-out; 201 once the log has it, and also if it has not: see ``announce``."""
    author = caller(request)
    body = await read_body(request, new_post)
    title = clean_text(body.title, "title")
    content = clean_text(body.content, "content", empty=True)
    row = await platform.pool.fetchrow(INSERT_POST, author, title, content)
    if row is None:
        raise ApiError(404, f"there is no user {author}")
    post_id, created_at = row
    await announce(platform.producer, post_id, author, created_at)
    return json_response(Published(post_id, created_at.timestamp()), 201)


async def open_feed(request: Request, platform: Platform) -> Response:
    """A page of the caller's feed, newest first."""
    user = caller(request)
    limit, after = limit_of(request, LIMIT_DEFAULT, LIMIT_MAX), START
    if cursor := request.query_params.get("cursor"):
        try:
            after = Cursor.decode(cursor)
        except ValueError as error:
            raise ApiError(400, str(error)) from None
    strategy = STRATEGIES[platform.settings.feed_strategy]
    entries, following = await page(strategy, platform.pool, user, after, limit)
    posts = [PostOfFeed(e.id, e.author_id, e.title, e.created_at.timestamp()) for e in entries]
    return json_response(Page(posts, following.encode() if following else None))
