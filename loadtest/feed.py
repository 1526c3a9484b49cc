"""Room `feed`: open one's feed, page by page; publish."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from loadtest.platform_user import PlatformUser

LETTERS = "lorem ipsum dolor sit amet "


@dataclass
class Page:
    """What a user has on the screen: ids of posts, newest first, their authors, and where the next page begins."""

    posts: list[int] = field(default_factory=list)
    authors: list[int] = field(default_factory=list)
    next_cursor: str | None = None


def open_feed(user: PlatformUser, cursor: str | None = None, **options: Any) -> Page:
    """Operation `feed.open`: a page of the user's feed, empty when it could not be had."""
    query = {"limit": user.settings.feed_limit} | ({"cursor": cursor} if cursor else {})
    body = user.ask("feed.open", "GET", f"/v1/feed?{urlencode(query)}", **options)
    if not body:
        return Page()
    posts = body["posts"]
    return Page([post["id"] for post in posts], [post["author_id"] for post in posts], body.get("next_cursor"))


def publish(user: PlatformUser, content_bytes: int, title: str = "", **options: Any) -> int | None:
    """Operation `feed.publish`: a post with that much text, by default its beginning as the title; returns its id."""
    text = (LETTERS * (content_bytes // len(LETTERS) + 1))[:content_bytes]
    body = user.ask("feed.publish", "POST", "/v1/posts", json={"title": title or text[:40], "content": text}, **options)
    return body["id"] if body else None
