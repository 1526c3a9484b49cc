"""The platform as a running system in virtual time: it answers requests with what is visible by now.

The network says how long things take; this file keeps what they do. A post is in a follower's precomputed feed from the
instant its batch is written, in a puller's feed from its acceptance; a like counts from the instant it is applied. So a user
who likes what he has just read does so here as on a real system, and a read that misses its own write is seen on both.

As in the reference, following or unfollowing changes what is pushed and pulled from then on; rows written before stay.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from model import platform
from model.engines.clock import Clock
from model.engines.order import OK, OUTCOMES
from model.engines.plain import Plain
from model.feed import pull_threshold
from model.population import INITIAL_POST_ROUND_S, INITIAL_POST_USER_S, FollowGraph
from model.results import Results
from model.scenario import Scenario
from model.tables import lower

FEED_ROWS_SEEDED = 100  # the newest initial posts per follower that the Feed table is loaded with, as in the reference
COMMENTS_SHOWN = 20


@dataclass(frozen=True)
class Outcome:
    """What the client gets. `status`: ok, rejected, timed_out, not_found or invalid; `body` is empty unless ok."""

    status: str
    body: dict[str, Any]


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


@dataclass
class Asked:
    """A request under way: what was asked, who wants the answer, and what a milestone will make visible."""

    operation: str
    user: int
    arguments: dict[str, Any]
    done: Callable[[Outcome], None] | None
    post: Post | None = None
    followers: np.ndarray | None = None
    batches: int = 0


class LivePlatform:
    """Performs operations at the clock's present instant; times are seconds of that clock.

    `graph` defaults to the scenario's population. Raises `ValueError` for a scenario that declares a network of its own:
    there is no platform to talk to.
    """

    def __init__(self, scenario: Scenario, env: Clock, seed: int, graph: FollowGraph | None = None) -> None:
        if scenario.declared is not None:
            raise ValueError(
                f"scenario {scenario.name}: it declares a network of its own; only the platform can be asked"
            )
        self.scenario, self.env, self.seed = scenario, env, seed
        self.graph = graph if graph is not None else platform.build_graph(scenario.population, seed)
        network = platform.build_network(scenario)
        self._numbers = {name: number for number, name in enumerate(network.names("operations"))}
        self._columns = {name: column for column, name in enumerate(network.attributes)}
        self.engine = Plain(lower(network, seed), env, observer=self)
        self._milestones = self.engine.tables.milestones
        self._asked: dict[int, Asked] = {}
        self._threshold = pull_threshold(scenario)
        self._rounds = scenario.population.initial_posts_per_user
        self._published: dict[int, Post] = {}
        self._posts_of: defaultdict[int, list[Post]] = defaultdict(list)
        self._delivered: defaultdict[int, list[Post]] = defaultdict(list)
        self._users = self.graph.users
        self._followers = self.graph.follower_counts
        self._pulled_by: dict[
            int, tuple[int, ...]
        ] = {}  # as far as asked for; forgotten when the user's follows change
        self._seeded: dict[int, np.ndarray] = {}
        self._followed: defaultdict[int, set[int]] = defaultdict(set)  # changes against the graph, by follower
        self._unfollowed: defaultdict[int, set[int]] = defaultdict(set)
        self._likes: defaultdict[int, set[int]] = defaultdict(set)
        self._comments: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)

    @property
    def users(self) -> int:
        """How many users there are: 0 ... users - 1."""
        return self._users

    def results(self) -> Results:
        """Everything up to now; no warm-up is cut."""
        return Results(self.scenario, self.engine.record(), self.seed)

    # ---- asking
    def perform(self, operation: str, user: int, arguments: dict[str, Any], done: Callable[[Outcome], None]) -> int:
        """Begin an operation; `done` is called at the instant of the answer. Returns the request's number."""
        asked = Asked(operation, user, arguments, done)
        values = [0.0] * len(self._columns)
        for name, value in self._attributes(asked).items():
            values[self._columns[name]] = value
        request = self.engine.submit(self._numbers[operation], values)
        self._asked[request] = asked
        return request

    def _attributes(self, asked: Asked) -> dict[str, float]:
        match asked.operation:
            case "feed.open":
                return self._open_attributes(asked.user, self._limit(asked))
            case "feed.publish":
                asked.followers = self._pushed_followers(asked.user)
                asked.batches = -(-len(asked.followers) // self.scenario.feed.fanout_batch_followers)
                share = len(asked.followers) / max(1, asked.batches)
                return {"batches": float(asked.batches), "batch_followers": share}
            case "graph.follow" | "graph.unfollow":
                return {}
        return {"post": float(asked.arguments["post"])}

    def _limit(self, asked: Asked) -> int:
        return int(asked.arguments.get("limit") or self.scenario.feed.page_size)

    def _open_attributes(self, user: int, limit: int) -> dict[str, float]:
        pulled = self._pulled(user)
        fetched = sum(min(limit, self._rounds + len(self._posts_of.get(author, ()))) for author in pulled)
        written = 0 if self._threshold is None else len(self._seeded_ids(user)) + len(self._delivered.get(user, ()))
        posts = self.users * self._rounds + len(self._published)
        return {
            "followees": float(self._followee_count(user)),
            "pulled": float(0 if self._threshold is None else len(pulled)),
            "rows": float(min(limit, written) + fetched),
            "scanned_posts": float(posts),
        }

    # ---- what the engine tells
    def responded(self, request: int, outcome: int) -> None:
        """The client's answer, with what is visible now."""
        asked = self._asked[request]
        done, asked.done = asked.done, None
        if outcome != OK:
            answer = Outcome(OUTCOMES[outcome], {})
        else:
            answer = self._answer(request, asked)
        if asked.operation not in ("feed.publish", "interactions.like", "interactions.unlike", "interactions.comment"):
            del self._asked[request]
        if done is not None:
            done(answer)

    def _answer(self, request: int, asked: Asked) -> Outcome:
        user, arguments = asked.user, asked.arguments
        match asked.operation:
            case "feed.open":
                return Outcome("ok", self._page(user, arguments.get("cursor"), self._limit(asked)))
            case "feed.publish":
                number = self.users * self._rounds + len(self._published) + 1
                title, content = str(arguments.get("title", "")), str(arguments.get("content", ""))
                post = Post(-float(self.env.now), -number, user, title, content)
                asked.post = self._published[number] = post
                self._posts_of[user].append(post)
                return Outcome("ok", {"id": number, "created_at": -post.minus_created_s})
            case "interactions.read":
                return self._read(int(arguments["post"]))
            case "interactions.comment":
                return Outcome("ok", {"id": str(arguments.get("key") or request)})
            case "graph.follow":
                self._unfollowed[user].discard(arguments["followee"])
                self._followed[user].add(arguments["followee"])
                self._pulled_by.pop(user, None)
            case "graph.unfollow":
                self._followed[user].discard(arguments["followee"])
                self._unfollowed[user].add(arguments["followee"])
                self._pulled_by.pop(user, None)
        return Outcome("ok", {})

    def marked(self, milestone: int, request: int, ordinal: int, weight: float) -> None:
        """A batch of followers has a post in its feeds, or an interaction is in the database."""
        asked = self._asked[request]
        if self._milestones[milestone] == "feed.delivered":
            assert asked.post is not None and asked.followers is not None
            first, last = (
                (ordinal - 1) * len(asked.followers) // asked.batches,
                ordinal * len(asked.followers) // asked.batches,
            )
            for follower in asked.followers[first:last].tolist():
                self._delivered[follower].append(asked.post)
            return
        post, user = int(asked.arguments["post"]), asked.user
        if asked.operation == "interactions.like":
            self._likes[post].add(user)
        elif asked.operation == "interactions.unlike":
            self._likes[post].discard(user)
        else:
            text = str(asked.arguments.get("text", ""))
            self._comments[post].append(
                {"id": str(request), "author_id": user, "text": text, "commented_at": float(self.env.now)}
            )
        del self._asked[request]

    # ---- what is visible
    def _followees(self, user: int) -> set[int]:
        base = set(self.graph.followees_of(user).tolist())
        return (base | self._followed.get(user, set())) - self._unfollowed.get(user, set())

    def _followee_count(self, user: int) -> int:
        if user in self._followed or user in self._unfollowed:
            return len(self._followees(user))
        return len(self.graph.followees_of(user))

    def _is_pulled(self, author: int) -> bool:
        return self._threshold is None or bool(self._followers[author] > self._threshold)

    def _pulled(self, user: int) -> tuple[int, ...]:
        """The followees whose posts are fetched when the feed is opened, in ascending order."""
        pulled = self._pulled_by.get(user)
        if pulled is None:
            followees = np.array(sorted(self._followees(user)), np.int64)
            chosen = followees if self._threshold is None else followees[self._followers[followees] > self._threshold]
            pulled = tuple(chosen.tolist())
            self._pulled_by[user] = pulled
        return pulled

    def _pushed_followers(self, author: int) -> np.ndarray:
        if self._threshold is None or self._is_pulled(author):
            return np.zeros(0, np.int64)
        gone = [user for user, authors in self._unfollowed.items() if author in authors]
        added = [user for user, authors in self._followed.items() if author in authors]
        return np.union1d(np.setdiff1d(self.graph.followers_of(author), gone), added).astype(np.int64)

    def _initial_post(self, number: int) -> Post:
        """An initial post by its id; the rule is `population.initial_posts`, time 0 being the start."""
        round_, author = divmod(number - 1, self.users)
        age_s = (self._rounds - round_) * INITIAL_POST_ROUND_S + author * INITIAL_POST_USER_S
        return Post(age_s, -number, author, f"post {number}")

    def _initial_ids(self, authors: np.ndarray) -> np.ndarray:
        """The ids of the initial posts of some authors in feed order."""
        rounds = np.repeat(np.arange(self._rounds), len(authors))
        everybody = np.tile(authors, self._rounds)
        ids = 1 + rounds * self.users + everybody
        return ids[np.lexsort((-ids, everybody * INITIAL_POST_USER_S - rounds * INITIAL_POST_ROUND_S))]

    def _seeded_ids(self, user: int) -> np.ndarray:
        """The rows that a user's precomputed feed was loaded with."""
        ids = self._seeded.get(user)
        if ids is None:
            followees = self.graph.followees_of(user).astype(np.int64)
            ids = self._initial_ids(followees[self._followers[followees] <= (self._threshold or 0)])[:FEED_ROWS_SEEDED]
            self._seeded[user] = ids
        return ids

    def _in_feed_order(self, user: int, pulled: tuple[int, ...]) -> Iterator[Post]:
        """What a user's feed holds now, the newest first, made as far as it is read."""
        new = sorted(post for author in pulled for post in self._posts_of.get(author, ()))
        sources = [iter(new), map(self._initial_post, self._initial_ids(np.array(pulled, np.int64)).tolist())]
        if self._threshold is not None:
            written = sorted(self._delivered.get(user, ()))
            sources += [iter(written), map(self._initial_post, self._seeded_ids(user).tolist())]
        return merge(*sources)

    def _page(self, user: int, cursor: str | None, limit: int) -> dict[str, Any]:
        posts: Iterable[Post] = self._in_feed_order(user, self._pulled(user))
        if cursor:
            created_s, number = cursor.split("_")
            after = (-float(created_s), -int(number))
            posts = (post for post in posts if (post.minus_created_s, post.minus_id) > after)
        page = list(islice(posts, limit + 1))
        last = page[limit - 1] if len(page) > limit else None
        following = f"{-last.minus_created_s!r}_{-last.minus_id}" if last is not None else None
        return {"posts": [post.row() for post in page[:limit]], "next_cursor": following}

    def _read(self, number: int) -> Outcome:
        first_new = self.users * self._rounds + 1
        if number in self._published:
            post = self._published[number]
        elif 1 <= number < first_new:
            post = self._initial_post(number)
        else:
            return Outcome("not_found", {})
        newest = self._comments.get(number, [])[-COMMENTS_SHOWN:][::-1]
        shown = {"content": post.content, "likes": len(self._likes.get(number, ())), "comments": newest}
        return Outcome("ok", post.row() | shown)
