"""Larger follow graphs from real ones, and platforms too large for one simulation as cells.

`scale_up` keeps what a real edge list knows: every degree, in and out, exactly. It makes k copies of the graph and crosses them:
the k copies of edge u → v lead to the k copies of v in a random order. So the copies mix into one graph, whose small circles of friends
are looser than the original's. Nobody gets more followers than he had, though a platform ten times as large has larger celebrities
than that; `scaled_largest` says how large, for `population.celebrities`.

Cells: N equal cells, each with whole servers and 1/N of the users, are simulated as one of them. That assumes that
1. users and their followees are spread over the cells evenly, so that every cell has the same load;
2. no station is shared by cells (what is shared, such as a push quota, is divided by N);
3. a cell's celebrities are those of the platform with 1/N of their followers each: a post is fanned out in all cells at once, so the
   last delivery of the platform is the latest of N cells, for which `Cells.quantile_of_last` is the quantile to look up in one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from model.population import FollowGraph
from model.scenario import Scenario


def scale_up(graph: FollowGraph, copies: int, seed: int = 0) -> FollowGraph:
    """A graph of `copies` times as many users with exactly the degrees of `graph`, over and over.

    User u of copy i is number i * users + u. Raises `ValueError` for fewer than one copy.
    """
    if copies < 1:
        raise ValueError(f"copies must be one or more, got {copies}")
    rng = np.random.default_rng(seed)
    users = graph.users
    follower = np.repeat(np.arange(users), graph.followee_counts)
    followee = graph.followee_ids.astype(np.int64)
    sources, targets = [], []
    shifts = np.argsort(rng.random((graph.edges, copies)), axis=1) if graph.edges else np.zeros((0, copies), np.int64)
    for copy in range(copies):
        sources.append(copy * users + follower)
        # One permutation of the copies for each edge: each copy of the followee gets each edge exactly once.
        targets.append(shifts[:, copy] * users + followee)
    return FollowGraph.from_edges(users * copies, np.concatenate(sources), np.concatenate(targets))


def scaled_largest(largest: int, copies: int, exponent: float) -> int:
    """How many followers the largest account of `copies` times as many users has under a power law of this density exponent.

    The largest of n draws grows with n^(1 / (exponent - 1)): the natural cutoff.
    """
    scaled: float = largest * float(copies) ** (1 / (exponent - 1))
    return round(scaled)


@dataclass(frozen=True)
class Cells:
    """A platform of `count` equal cells, one of which is simulated. One-off events happen in each of them as they are."""

    count: int

    def cell_of(self, platform: Scenario) -> Scenario:
        """One cell of a platform that is described as a whole: users, rates, celebrities and the push quota divided by N.

        Stations and groups are left as they are: they are a cell's, whole servers. Raises `ValueError` if a cell would have
        less than two users or a celebrity more followers than the cell has users.
        """
        n, population = self.count, platform.population
        users = population.users // n
        celebrities = tuple(max(1, followers // n) for followers in population.celebrities)
        if users < 2 or max(celebrities, default=0) >= users:
            raise ValueError(f"{n} cells of {population.users} users: a cell of {users} users is too small")
        notifications = platform.notifications
        return replace(
            platform,
            population=replace(population, users=users, celebrities=celebrities),
            load=replace(platform.load, feed_opens_per_s=platform.load.feed_opens_per_s / n),
            notifications=replace(
                notifications,
                push_quota_per_s=notifications.push_quota_per_s / n,
                push_quota_burst=max(1.0, notifications.push_quota_burst / n),
            ),
        )

    def quantile_of_last(self, quantile: float) -> float:
        """The quantile of one cell's last delivery that is the platform's `quantile`: all N must have delivered, independently."""
        return float(quantile ** (1 / self.count))
