"""Feeds of the live platform: what is precomputed for whom, what is pulled, and pages of both.

As in the reference, following backfills the newest posts of a followee who is pushed, unfollowing deletes his rows, and both
change what is pushed and pulled from then on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from typing import Any

import numpy as np

from model.feed import cache_keys, pull_threshold
from model.live.asked import Asked, Outcome
from model.live.posts import LivePosts, Post
from model.part import Ids
from model.population import FollowGraph
from model.scenario import Scenario

FEED_ROWS_SEEDED = 100  # source: the reference's setting feed_seed_rows
FOLLOW_BACKFILL_POSTS = 20  # source: the reference's setting follow_backfill_posts


class LiveFeed:
    """The follow graph as it changes, the Feed table, and the pages made of it."""

    goes_on = frozenset({"feed.publish"})

    def __init__(self, scenario: Scenario, graph: FollowGraph, posts: LivePosts) -> None:
        self.scenario, self.settings, self.graph, self.posts = scenario, scenario.feed, graph, posts
        self.threshold = pull_threshold(scenario)
        self.follower_counts = graph.follower_counts
        self.written: defaultdict[int, list[Post]] = defaultdict(list)  # Feed rows since the start, by follower
        self.seeded: dict[int, Ids] = {}  # and before it; made as far as it is asked for
        self.pulled: dict[int, Ids] = {}  # likewise; forgotten when the user's follows change
        self.followed: defaultdict[int, set[int]] = defaultdict(set)  # changes against the graph, by follower
        self.unfollowed: defaultdict[int, set[int]] = defaultdict(set)

    def attributes(self, asked: Asked) -> dict[str, float]:
        """What opening this feed touches, or how this post's followers are cut into batches."""
        match asked.operation:
            case "feed.open":
                return self._open_attributes(asked.user, self._limit(asked))
            case "feed.publish":
                return self.fan_out(asked)
        return {}

    def fan_out(self, asked: Asked) -> dict[str, float]:
        """How the followers of a post by this user are cut into batches; kept for the marks of `feed.delivered`."""
        followers = self._pushed_followers(asked.user)
        batches = -(-len(followers) // self.settings.fanout_batch_followers)
        asked.kept = {"followers": followers, "batches": batches}
        found = {"batches": float(batches), "batch_followers": len(followers) / max(1, batches)}
        return found if self.settings.author_cache_ttl_s is None else {**found, "publisher": float(asked.user)}

    def _limit(self, asked: Asked) -> int:
        return int(asked.arguments.get("limit") or self.settings.page_size)

    def _open_attributes(self, user: int, limit: int) -> dict[str, float]:
        pulled = self._pulled(user).tolist()
        if self.threshold is None:
            rows = sum(self.posts.count_of(author) for author in pulled)
        else:
            written = len(self._seeded_ids(user)) + len(self.written.get(user, ()))
            rows = min(limit, written) + sum(min(limit, self.posts.count_of(author)) for author in pulled)
        most = -1
        if self.threshold is not None and pulled:
            most = max(pulled, key=lambda author: (self.follower_counts[author], author))
        known = 0.0 if self.threshold is None else float(len(pulled))
        keys = cache_keys(self.scenario, np.array([user]), np.array([known]), np.array([most]))
        return {
            **{name: float(value[0]) for name, value in keys.items()},
            "followees": float(len(self._followees(user))),
            "pulled": known,
            "rows": float(rows),
            "scanned_posts": float(self.posts.count),
        }

    def answer(self, asked: Asked, now_s: float) -> Outcome:
        """A page, the new post's id, or nothing for a follow."""
        user, arguments = asked.user, asked.arguments
        match asked.operation:
            case "feed.open":
                return self._page(user, arguments.get("cursor"), self._limit(asked))
            case "feed.publish":
                title, content = str(arguments.get("title", "")), str(arguments.get("content", ""))
                post = self.posts.publish(user, now_s, title, content)
                asked.kept["post"] = post
                return Outcome("ok", {"id": -post.minus_id, "created_at": now_s})
            case "graph.follow":
                self._follow(user, int(arguments["followee"]))
            case "graph.unfollow":
                self._unfollow(user, int(arguments["followee"]))
        return Outcome("ok", {})

    def marked(self, milestone: str, asked: Asked, ordinal: int, now_s: float) -> None:
        """Follower batch number `ordinal` has the post in its feeds."""
        followers, batches = asked.kept["followers"], asked.kept["batches"]
        first, last = (ordinal - 1) * len(followers) // batches, ordinal * len(followers) // batches
        for follower in followers[first:last].tolist():
            self.written[follower].append(asked.kept["post"])

    # ---- who follows whom now
    def _followees(self, user: int) -> Ids:
        base = self.graph.followees_of(user)
        if user not in self.followed and user not in self.unfollowed:
            return base.astype(np.int64)
        now = (set(base.tolist()) | self.followed.get(user, set())) - self.unfollowed.get(user, set())
        return np.array(sorted(now), np.int64)

    def _is_pulled(self, author: int) -> bool:
        return self.threshold is None or bool(self.follower_counts[author] > self.threshold)

    def _pulled(self, user: int) -> Ids:
        """The followees whose posts are fetched when the feed is opened, in ascending order."""
        pulled = self.pulled.get(user)
        if pulled is None:
            followees = self._followees(user)
            pulled = (
                followees if self.threshold is None else followees[self.follower_counts[followees] > self.threshold]
            )
            self.pulled[user] = pulled
        return pulled

    def _pushed_followers(self, author: int) -> Ids:
        if self._is_pulled(author):
            return np.zeros(0, np.int64)
        gone = [user for user, authors in self.unfollowed.items() if author in authors]
        added = [user for user, authors in self.followed.items() if author in authors]
        return np.union1d(np.setdiff1d(self.graph.followers_of(author), gone), added).astype(np.int64)

    def _follow(self, user: int, followee: int) -> None:
        known = followee in self._followees(user)
        self.unfollowed[user].discard(followee)
        self.followed[user].add(followee)
        self.pulled.pop(user, None)
        if not known and not self._is_pulled(followee):
            old = map(self.posts.initial, self.posts.initial_ids(np.array([followee], np.int64)).tolist())
            new = self.posts.by_author.get(followee, [])[::-1]
            self.written[user] += [*new, *old][:FOLLOW_BACKFILL_POSTS]

    def _unfollow(self, user: int, followee: int) -> None:
        seeded = self._seeded_ids(user)
        self.followed[user].discard(followee)
        self.unfollowed[user].add(followee)
        self.pulled.pop(user, None)
        self.seeded[user] = seeded[(seeded - 1) % self.posts.users != followee]
        self.written[user] = [post for post in self.written[user] if post.author != followee]

    # ---- pages
    def _seeded_ids(self, user: int) -> Ids:
        """The rows that a user's precomputed feed was loaded with."""
        ids = self.seeded.get(user)
        if ids is None:
            followees = self.graph.followees_of(user).astype(np.int64)
            if self.threshold is not None:
                followees = followees[self.follower_counts[followees] <= self.threshold]
            ids = self.seeded[user] = self.posts.initial_ids(followees)[:FEED_ROWS_SEEDED]
        return ids

    def _in_feed_order(self, user: int) -> Iterator[Post]:
        """What a user's feed holds now, the newest first, made as far as it is read."""
        pulled = self._pulled(user)
        new = sorted(post for author in pulled.tolist() for post in self.posts.by_author.get(author, ()))
        sources = [iter(new), map(self.posts.initial, self.posts.initial_ids(pulled).tolist())]
        if self.threshold is not None:
            written = sorted(self.written.get(user, ()))
            sources += [iter(written), map(self.posts.initial, self._seeded_ids(user).tolist())]
        return merge(*sources)

    def _page(self, user: int, cursor: str | None, limit: int) -> Outcome:
        posts: Iterable[Post] = self._in_feed_order(user)
        if cursor:
            try:
                created_s, number = cursor.split("_")
                after = (-float(created_s), -int(number))
            except ValueError:
                return Outcome("invalid", {})
            posts = (post for post in posts if (post.minus_created_s, post.minus_id) > after)
        page = list(islice(posts, limit + 1))
        rows: list[dict[str, Any]] = [post.row() for post in page[:limit]]
        last = page[limit - 1] if len(page) > limit else None
        following = f"{-last.minus_created_s!r}_{-last.minus_id}" if last is not None else None
        return Outcome("ok", {"posts": rows, "next_cursor": following})
