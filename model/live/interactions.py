"""Likes and comments of the live platform: they count from the instant they are applied."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from model import log
from model.live.asked import Asked, Outcome
from model.live.posts import LivePosts

COMMENTS_SHOWN = 20
_TOLD = {"interactions.comment": "told_comment", "interactions.like": "told_like"}


class LiveInteractions:
    """Who likes what, and what was said, as the database has it."""

    goes_on = frozenset({"interactions.like", "interactions.unlike", "interactions.comment"})

    def __init__(self, posts: LivePosts, is_online: Callable[[int], bool]) -> None:
        self.posts, self.is_online = posts, is_online
        self.told: set[tuple[int, int]] = set()
        self.likes: defaultdict[int, set[int]] = defaultdict(set)
        self.comments: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)

    def attributes(self, asked: Asked) -> dict[str, float]:
        """The post is the key of the log's partition; its author is told of a like or comment, if it is another's."""
        number = int(asked.arguments["post"])
        read = {"post": float(number)} | {name: float(value) for name, value in log.leaders(np.array(number)).items()}
        post = self.posts.find(number) if asked.operation in _TOLD else None
        if post is None or post.author == asked.user:
            return read
        if asked.operation == "interactions.like":
            if (number, asked.user) in self.told:
                return read  # an event's id is that of the like: its author has been told
            self.told.add((number, asked.user))
        asked.kept["online"] = self.is_online(post.author)
        online = float(asked.kept["online"])
        return read | {"author": float(post.author), _TOLD[asked.operation]: 1.0, "online": online}

    def answer(self, asked: Asked, now_s: float) -> Outcome:
        """Accepted, or what a reader sees now. As in the reference nobody looks whether a liked post exists."""
        asked.kept["answered_s"] = now_s
        if asked.operation == "interactions.comment":
            return Outcome("ok", {"id": str(asked.request)})
        if asked.operation != "interactions.read":
            return Outcome("ok", {})
        number = int(asked.arguments["post"])
        post = self.posts.find(number)
        if post is None:
            return Outcome("not_found", {})
        newest = self.comments.get(number, [])[-COMMENTS_SHOWN:][::-1]
        seen = {"content": post.content, "likes": len(self.likes.get(number, ())), "comments": newest}
        return Outcome("ok", post.row() | seen)

    def marked(self, milestone: str, asked: Asked, ordinal: int, now_s: float) -> None:
        """The event is in the database."""
        post, user = int(asked.arguments["post"]), asked.user
        if asked.operation == "interactions.like":
            self.likes[post].add(user)
        elif asked.operation == "interactions.unlike":
            self.likes[post].discard(user)
        else:
            text = str(asked.arguments.get("text", ""))
            comment = {"id": str(asked.request), "author_id": user, "text": text, "commented_at": now_s}
            self.comments[post].append(comment)
