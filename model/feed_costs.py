"""Push or pull? Costs of the feed's strategies on a follow graph, in closed form and without queues.

To push is to write a post into each follower's feed when it is published; to pull is to read each followee's posts when
a feed is opened.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.population import Floats, FollowGraph


@dataclass(frozen=True)
class PushPullCosts:
    """Cost per second of pushing every edge, pulling every edge, and choosing the cheaper for each edge."""

    push_all_per_s: float
    pull_all_per_s: float
    per_edge_optimum_per_s: float
    pushed_edges_ratio: float  # share of edges that the optimum pushes; NaN without edges


def push_pull_costs(
    graph: FollowGraph,
    publish_rates_per_s: npt.ArrayLike,
    open_rates_per_s: npt.ArrayLike,
    push_cost: float = 1.0,
    pull_cost: float = 1.0,
) -> PushPullCosts:
    """Costs with every user publishing and opening the feed at the given rates, shape (users,).

    An edge is pushed if and only if open rate of the follower / publish rate of the followee ≥ push cost / pull cost:
    Silberstein et al., *Feeding Frenzy*, SIGMOD 2010. Raises ValueError unless there is a rate of zero or more for each
    user and costs are above zero.
    """
    publish, opened = (np.asarray(rates, dtype=np.float64) for rates in (publish_rates_per_s, open_rates_per_s))
    for name, rates in (("publish", publish), ("open", opened)):
        if rates.shape != (graph.users,) or not np.all(rates >= 0):
            raise ValueError(f"{name} rates must be {graph.users} numbers of zero or more, got shape {rates.shape}")
    if not (push_cost > 0 and pull_cost > 0):
        raise ValueError(f"costs must be above zero, got push {push_cost} and pull {pull_cost}")
    push = push_cost * publish[graph.followee_ids]
    pull = pull_cost * np.repeat(opened, graph.followee_counts)
    return PushPullCosts(
        push_all_per_s=float(push.sum()),
        pull_all_per_s=float(pull.sum()),
        per_edge_optimum_per_s=float(np.minimum(push, pull).sum()),
        pushed_edges_ratio=float(np.mean(pull >= push)) if graph.edges else float("nan"),
    )


def logarithmic_rates(graph: FollowGraph, opens_per_publish: float) -> tuple[Floats, Floats]:
    """Publish rates ln(1 + followers) and open rates k·ln(1 + followees), k such that the means have the ratio given.

    The activity model of Silberstein et al. 2010, in arbitrary units. Raises ValueError for a graph without edges.
    """
    publish, opened = np.log1p(graph.follower_counts), np.log1p(graph.followee_counts)
    if not graph.edges:
        raise ValueError("a graph without edges has no activity by this rule")
    return publish, opened * (opens_per_publish * publish.sum() / opened.sum())


def threshold_cost(graph: FollowGraph, threshold: int, publish_share: float, open_share: float) -> float:
    """Mean cost of a request by uniformly drawn users when only users above `threshold` followers are pulled.

    `publish_share` and `open_share` are shares of all requests. A publish costs one unit for each feed row written, an
    open one for each followee pulled and, unless nothing is pushed (threshold 0), one for the precomputed feed.
    """
    pushed, pulled = graph.pushed_counts(threshold).mean(), graph.pulled_counts(threshold).mean()
    return float(publish_share * pushed + open_share * (pulled + (threshold > 0)))
