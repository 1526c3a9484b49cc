"""Search of the live platform: what a query finds by now. Words and prefixes are as in the reference; typing errors find nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any
from zlib import crc32

from model.live.asked import Asked, Outcome
from model.live.posts import LivePosts, Post

KINDS = ("users", "posts")
LIMIT_DEFAULT, LIMIT_MAX = 10, 50  # source: the reference
QUERY_MAX = 100  # source: the reference, in characters
LOOKED_AT = 1_000  # of the posts, at most: an answer shows the first few, and nobody waits for the rest
USER = "user"


class LiveSearch:
    """The index: users by name, initial posts by rule, published ones once they are visible."""

    goes_on: frozenset[str] = frozenset()

    def __init__(self, posts: LivePosts) -> None:
        self.posts = posts
        self.visible: list[Asked] = []  # requests whose post can be found, the oldest first

    def attributes(self, asked: Asked) -> dict[str, float]:
        """The cache's key."""
        text, kind, limit = self._parameters(asked)
        return {"query": float(crc32(f"{kind}:{limit}:{text}".encode()))}

    def _parameters(self, asked: Asked) -> tuple[str, str, str]:
        given = asked.arguments
        text = " ".join(str(given.get("q") or "").casefold().split())
        return text, str(given.get("kind") or ""), str(given.get("limit") or LIMIT_DEFAULT)

    def answer(self, asked: Asked, now_s: float) -> Outcome:
        """The first matches. The cache is no older than this answer: how old a cached one is, is not kept."""
        text, kind, limit = self._parameters(asked)
        proper = limit.isascii() and limit.isdigit() and 1 <= int(limit) <= LIMIT_MAX
        if not (proper and kind in KINDS and 0 < len(text) <= QUERY_MAX):
            return Outcome("invalid", {})
        results: Iterator[dict[str, Any]]
        if kind == "users":
            results = ({"id": user, "name": f"{USER}{user}"} for user in self._users(text.split()))
        else:
            results = (post.row() for post in self._posts(text.split()))
        return Outcome("ok", {"results": list(islice(results, int(limit)))})

    def marked(self, milestone: str, asked: Asked, ordinal: int, now_s: float) -> None:
        """The post can be found. Its answer may still be on the way, so the request is kept, not the post."""
        self.visible.append(asked)

    def _users(self, words: list[str]) -> Iterator[int]:
        """Users whose name begins with the one word there is, an exact match first."""
        if len(words) == 1:
            yield from numbers_from(words[0], self.posts.users)

    def _posts(self, words: list[str]) -> Iterator[Post]:
        published = (asked.kept["post"] for asked in reversed(self.visible) if "post" in asked.kept)
        looked_at = islice(chain(published, self._initial(words)), LOOKED_AT)
        return (post for post in looked_at if matches(post.title.casefold().split(), words))

    def _initial(self, words: list[str]) -> Iterator[Post]:
        """Initial posts that may match: those of the author who is named, else of everybody."""
        named = [word for word in words if word.startswith(USER) and word != USER]
        authors: Iterable[int] = range(self.posts.users)
        if named:
            number = named[0].removeprefix(USER)
            exact = named[0] != words[-1] and number.isdigit()
            authors = [int(number)] if exact else numbers_from(named[0], self.posts.users)
        for author in authors:
            if author < self.posts.users:
                for round_ in range(self.posts.rounds):
                    yield self.posts.initial(1 + round_ * self.posts.users + author)


def matches(title: list[str], words: list[str]) -> bool:
    """Whether all `words` are in a title, the last one as a prefix of one of its words."""
    return all(word in title for word in words[:-1]) and any(word.startswith(words[-1]) for word in title)


def numbers_from(prefix: str, users: int) -> Iterator[int]:
    """The users whose name ("user" and a number) begins with `prefix`, shorter names first."""
    digits = prefix.removeprefix(USER)
    if USER.startswith(prefix):
        yield from range(users)
    elif prefix.startswith(USER) and digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0"):
        first, width = int(digits), 1
        while first < users:
            yield from range(first, min(first + width, users))
            if first == 0:
                return
            first, width = first * 10, width * 10
