"""Posts: the initial ones by rule, the published ones as they come."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from model.part import Ids
from model.population import INITIAL_POST_ROUND_S, INITIAL_POST_USER_S


class Post(NamedTuple):
    """Ordered as feeds show posts: the newest first, then the larger id."""

    minus_created_s: float
    minus_id: int
    author: int
    title: str = ""
    content: str = ""

    def row(self) -> dict[str, Any]:
        """The post as a feed shows it."""
        return {
            "id": -self.minus_id,
            "author_id": self.author,
            "title": self.title,
            "created_at": -self.minus_created_s,
        }


class LivePosts:
    """All posts of a running platform; ids 1 ... users * rounds are initial (`population.initial_posts`, time 0 the start)."""

    def __init__(self, users: int, rounds: int) -> None:
        self.users, self.rounds = users, rounds
        self.published: dict[int, Post] = {}
        self.by_author: defaultdict[int, list[Post]] = defaultdict(list)

    @property
    def count(self) -> int:
        """How many posts there are."""
        return self.users * self.rounds + len(self.published)

    def count_of(self, author: int) -> int:
        """How many posts an author has."""
        return self.rounds + len(self.by_author.get(author, ()))

    def publish(self, author: int, now_s: float, title: str, content: str) -> Post:
        """A new post."""
        post = Post(-now_s, -(self.count + 1), author, title, content)
        self.published[-post.minus_id] = post
        self.by_author[author].append(post)
        return post

    def find(self, number: int) -> Post | None:
        """The post of an id, or None."""
        if 1 <= number <= self.users * self.rounds:
            return self.initial(number)
        return self.published.get(number)

    def initial(self, number: int) -> Post:
        """An initial post by its id."""
        round_, author = divmod(number - 1, self.users)
        age_s = (self.rounds - round_) * INITIAL_POST_ROUND_S + author * INITIAL_POST_USER_S
        return Post(age_s, -number, author, f"post {round_ + 1} of user{author}")

    def initial_ids(self, authors: Ids) -> Ids:
        """The ids of the initial posts of some authors in feed order."""
        rounds = np.repeat(np.arange(self.rounds), len(authors))
        everybody = np.tile(authors, self.rounds)
        ids = 1 + rounds * self.users + everybody
        return ids[np.lexsort((-ids, everybody * INITIAL_POST_USER_S - rounds * INITIAL_POST_ROUND_S))]
