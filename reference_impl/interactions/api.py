"""``interactions.like``, ``.unlike``, ``.comment`` and ``.read``."""

from __future__ import annotations

import time
import uuid

import msgspec
from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response

from reference_impl.interactions.records import Interaction, encode
from reference_impl.spans import name_statements, note
from reference_impl.topics import INTERACTIONS
from reference_impl.web import (
    ApiError,
    Platform,
    Text,
    caller,
    clean_text,
    idempotency_key,
    json_response,
    path_id,
    read_body,
)

accepted_total = Counter("flashcrowd_interactions_accepted", "Events acknowledged by the log", ["kind"])

NEWEST_COMMENTS = 20
COMMENT_IDS = uuid.UUID("6f1c51f2-2a3e-5b0c-9d43-0e8c9c1f7a55")
"""Namespace of comment ids; any fixed UUID would do."""

POST = """
SELECT posts.id, author_id, title, content, created_at, coalesce(likes, 0) AS likes
FROM posts LEFT JOIN like_counts ON like_counts.post_id = posts.id WHERE posts.id = $1"""

COMMENTS = """
SELECT id, author_id, text, commented_at FROM comments
WHERE post_id = $1 ORDER BY commented_at DESC, id DESC LIMIT $2"""


name_statements({POST: "database_read_post", COMMENTS: "database_read_post"})


class NewComment(msgspec.Struct):
    """Body of ``interactions.comment``."""

    text: Text


class Accepted(msgspec.Struct):
    """Answer of a like and an unlike: the log has it."""


class AcceptedComment(msgspec.Struct):
    """Answer of ``interactions.comment``: the log has it, and so will the database."""

    id: str


class Comment(msgspec.Struct):
    """A comment; times are epoch seconds."""

    id: str
    author_id: int
    text: str
    commented_at: float


class Post(msgspec.Struct):
    """Answer of ``interactions.read``."""

    id: int
    author_id: int
    title: str
    content: str
    created_at: float
    likes: int
    comments: list[Comment]
    """The newest."""


new_comment = msgspec.json.Decoder(NewComment)


async def like(request: Request, platform: Platform) -> Response:
    """Accept a like. Whether the post exists is not looked up here: the worker drops events of posts that do not."""
    await _accept(platform, Interaction("like", path_id(request, "post"), caller(request), time.time()))
    return json_response(Accepted(), 202)


async def unlike(request: Request, platform: Platform) -> Response:
    """Accept an unlike."""
    await _accept(platform, Interaction("unlike", path_id(request, "post"), caller(request), time.time()))
    return json_response(Accepted(), 202)


async def comment(request: Request, platform: Platform) -> Response:
    """Accept a comment. The same idempotency key (of the same user, on the same post) is the same comment."""
    post_id, author = path_id(request, "post"), caller(request)
    key = idempotency_key(request)
    text = clean_text((await read_body(request, new_comment)).text, "text")
    comment_id = str(uuid.uuid5(COMMENT_IDS, f"{post_id}/{author}/{key}"))
    await _accept(platform, Interaction("comment", post_id, author, time.time(), comment_id, text))
    return json_response(AcceptedComment(comment_id), 202)


async def _accept(platform: Platform, event: Interaction) -> None:
    note("accepted_at", event.accepted_at)
    await platform.producer.produce(INTERACTIONS, str(event.post_id), encode(event))
    accepted_total.labels(event.kind).inc()


async def read(request: Request, platform: Platform) -> Response:
    """A post, its like count and newest comments, as the database has them now."""
    post_id = path_id(request, "post")
    async with platform.pool.acquire() as connection:
        post = await connection.fetchrow(POST, post_id)
        if post is None:
            raise ApiError(404, f"there is no post {post_id}")
        comments = await connection.fetch(COMMENTS, post_id, NEWEST_COMMENTS)
    return json_response(
        Post(
            post["id"],
            post["author_id"],
            post["title"],
            post["content"],
            post["created_at"].timestamp(),
            post["likes"],
            [Comment(str(c["id"]), c["author_id"], c["text"], c["commented_at"].timestamp()) for c in comments],
        )
    )
