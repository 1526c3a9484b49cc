"""Push or pull? Costs of the feed's strategies on a follow graph, in closed form and without queues.

To push is to write a post into each follower's feed when it is published; to pull is to read each followee's posts when
a feed is opened.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
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


# ---- what a threshold costs beside the per-edge optimum
@dataclass(frozen=True)
class ThresholdCosts:
    """One follower threshold: authors above it are pulled. Costs per second in the unit of the push and pull costs given."""

    threshold: int
    cost_per_s: float
    regret_ratio: float  # more than the per-edge optimum, as a share of it
    pushed_authors_ratio: float
    pushed_edges_ratio: float
    wasted_pushes_ratio: float  # of rows written, those for followers who never open their feeds
    last_delivery_s: float  # for the largest author who is pushed, if nothing else is under way
    pulled_per_open: float  # followees read when a feed is opened, on average over openings


@dataclass(frozen=True)
class FanOut:
    """The workers that write feeds: how many, followers in a batch, seconds for a batch and for each row of it."""

    workers: int
    batch_followers: int
    batch_s: float
    row_s: float

    def last_delivery_s(self, followers: int) -> float:
        """Until the last of `followers` has a post, on idle workers: the batches are dealt out in rounds."""
        if followers == 0:
            return 0.0
        batches = math.ceil(followers / self.batch_followers)
        return math.ceil(batches / self.workers) * (self.batch_s + self.row_s * min(followers, self.batch_followers))


def threshold_study(
    graph: FollowGraph,
    publish_rates_per_s: npt.ArrayLike,
    open_rates_per_s: npt.ArrayLike,
    thresholds: Sequence[int],
    fan_out: FanOut,
    push_cost: float = 1.0,
    pull_cost: float = 1.0,
    inactive: npt.NDArray[np.bool_] | None = None,
    push_to_inactive: bool = True,
) -> list[ThresholdCosts]:
    """Each threshold's cost, regret, waste and lag. `inactive` users, shape (users,), open nothing; pushes to them are wasted.

    With `push_to_inactive` false they are skipped. The optimum of the regret knows who is inactive: their edges cost nothing.
    """
    publish = np.asarray(publish_rates_per_s, dtype=np.float64)
    opened = np.asarray(open_rates_per_s, dtype=np.float64).copy()
    asleep = np.zeros(graph.users, np.bool_) if inactive is None else inactive
    opened[asleep] = 0.0
    optimum_per_s = push_pull_costs(graph, publish, opened, push_cost, pull_cost).per_edge_optimum_per_s
    push = push_cost * publish[graph.followee_ids]
    pull = pull_cost * np.repeat(opened, graph.followee_counts)
    edge_asleep = np.repeat(asleep, graph.followee_counts)
    followers = graph.follower_counts
    rows = []
    for threshold in thresholds:
        pushed = (followers <= threshold)[graph.followee_ids]
        written = pushed if push_to_inactive else pushed & ~edge_asleep
        cost_per_s = float(push[written].sum() + pull[~pushed].sum())
        writes_per_s = float(push[written].sum())
        largest = int(followers[followers <= threshold].max(initial=0))
        rows.append(
            ThresholdCosts(
                threshold=threshold,
                cost_per_s=cost_per_s,
                regret_ratio=cost_per_s / optimum_per_s - 1 if optimum_per_s > 0 else math.nan,
                pushed_authors_ratio=float(np.mean(followers <= threshold)),
                pushed_edges_ratio=float(np.mean(pushed)) if graph.edges else math.nan,
                wasted_pushes_ratio=float(push[written & edge_asleep].sum()) / writes_per_s if writes_per_s else 0.0,
                last_delivery_s=fan_out.last_delivery_s(largest),
                pulled_per_open=float(np.average(graph.pulled_counts(threshold), weights=opened)) if opened.sum() else 0.0,
            )
        )
    return rows


def cheapest(rows: Sequence[ThresholdCosts], delivery_goal_s: float = math.inf) -> ThresholdCosts | None:
    """The cheapest threshold whose last delivery meets a goal; None if there is none."""
    good = [row for row in rows if row.last_delivery_s <= delivery_goal_s]
    return min(good, key=lambda row: row.cost_per_s, default=None)
