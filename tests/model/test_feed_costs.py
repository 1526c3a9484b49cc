"""Push or pull, on a graph small enough to count on fingers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.feed_costs import FanOut, cheapest, logarithmic_rates, push_pull_costs, threshold_cost, threshold_study
from model.population import FollowGraph, synthetic_graph

# 1, 2 and 3 follow 0; 0 and 3 follow 1.
SMALL = FollowGraph.from_edges(4, [1, 2, 3, 0, 3], [0, 0, 0, 1, 1])


def test_costs_by_hand():
    # Edges (follower → followee) with open and publish rates: 1→0: 4, 3 · 2→0: 2, 3 · 3→0: 3, 3 · 0→1: 1, 5 · 3→1: 3, 5
    costs = push_pull_costs(SMALL, publish_rates_per_s=[3, 5, 0, 0], open_rates_per_s=[1, 4, 2, 3])
    assert costs.push_all_per_s == 3 + 3 + 3 + 5 + 5
    assert costs.pull_all_per_s == 4 + 2 + 3 + 1 + 3
    assert costs.per_edge_optimum_per_s == 3 + 2 + 3 + 1 + 3
    assert costs.pushed_edges_ratio == 2 / 5  # 1→0, and 3→0 where both cost the same


def test_dear_pushes_are_avoided():
    costs = push_pull_costs(SMALL, [3, 5, 0, 0], [1, 4, 2, 3], push_cost=100.0, pull_cost=2.0)
    assert costs.pushed_edges_ratio == 0
    assert costs.per_edge_optimum_per_s == costs.pull_all_per_s == 2 * 13


def test_logarithmic_rates_by_hand():
    publish, opened = logarithmic_rates(SMALL, opens_per_publish=5.0)
    assert publish == pytest.approx([math.log(4), math.log(3), 0, 0])
    assert opened.sum() == pytest.approx(5 * publish.sum())
    assert opened / opened[0] == pytest.approx([1, 1, 1, math.log(3) / math.log(2)])


@pytest.mark.parametrize(
    ("threshold", "cost"),
    [
        (0, 0.6 * 5 / 4),  # all pulled: five edges, four users; no precomputed feed to read
        (2, 0.1 * 2 / 4 + 0.6 * (3 / 4 + 1)),  # user 1 is pushed, user 0 pulled by three
        (3, 0.1 * 5 / 4 + 0.6 * 1),  # all pushed
    ],
)
def test_threshold_cost_by_hand(threshold, cost):
    assert threshold_cost(SMALL, threshold, publish_share=0.1, open_share=0.6) == pytest.approx(cost)


@given(st.integers(0, 1000), st.floats(0.01, 100), st.floats(0.1, 10), st.floats(0.1, 10))
def test_optimum_is_no_dearer_than_either(seed, ratio, push_cost, pull_cost):
    graph = synthetic_graph(60, 5, seed=seed)
    costs = push_pull_costs(graph, *logarithmic_rates(graph, ratio), push_cost, pull_cost)
    assert costs.per_edge_optimum_per_s <= min(costs.push_all_per_s, costs.pull_all_per_s) * (1 + 1e-12)
    assert 0 <= costs.pushed_edges_ratio <= 1


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="open rates must be 4 numbers"):
        push_pull_costs(SMALL, np.ones(4), np.ones(3))
    with pytest.raises(ValueError, match="publish rates must be 4 numbers of zero or more"):
        push_pull_costs(SMALL, [1, 1, 1, -1], np.ones(4))
    with pytest.raises(ValueError, match="costs must be above zero"):
        push_pull_costs(SMALL, np.ones(4), np.ones(4), push_cost=0)
    with pytest.raises(ValueError, match="without edges"):
        logarithmic_rates(FollowGraph.from_edges(2, [], []), 5.0)


# ---- thresholds
def test_a_threshold_above_all_pushes_and_one_of_zero_pulls():
    graph = FollowGraph.from_edges(4, [1, 2, 3, 2], [0, 0, 0, 1])
    publish, opened = [2.0, 1.0, 1.0, 1.0], [1.0, 3.0, 1.0, 4.0]
    workers = FanOut(workers=2, batch_followers=2, batch_s=1.0, row_s=0.25)
    rows = threshold_study(graph, publish, opened, [0, 1, 3], workers)
    both = push_pull_costs(graph, publish, opened)
    assert (rows[0].cost_per_s, rows[2].cost_per_s) == (both.pull_all_per_s, both.push_all_per_s)
    # Only user 1, with one follower, is pushed: 1; the three followers of user 0 open 3 + 1 + 4 times.
    assert rows[1].cost_per_s == 1 + 8
    assert rows[1].regret_ratio == pytest.approx(9 / (2 + 1 + 2 + 1) - 1)
    assert [row.pushed_edges_ratio for row in rows] == [0, 0.25, 1]
    # One batch of one row; two batches of two rows on two workers at once.
    assert [row.last_delivery_s for row in rows] == [0, 1.25, 1.5]
    assert cheapest(rows).threshold == 3
    assert cheapest(rows, 1.3).threshold == 0  # as dear as 1, and first


def test_pushes_to_the_inactive_are_wasted_unless_they_are_skipped():
    graph = FollowGraph.from_edges(3, [1, 2], [0, 0])
    asleep = np.array([False, False, True])
    workers = FanOut(1, 10, 1.0, 0.0)
    written, skipped = (
        threshold_study(graph, [1, 0, 0], [0, 5, 5], [9], workers, inactive=asleep, push_to_inactive=push)[0]
        for push in (True, False)
    )
    assert (written.cost_per_s, written.wasted_pushes_ratio, written.regret_ratio) == (2, 0.5, 1)
    assert (skipped.cost_per_s, skipped.wasted_pushes_ratio, skipped.regret_ratio) == (1, 0, 0)


def test_no_threshold_beats_the_choice_for_each_edge():
    graph = synthetic_graph(400, 10, celebrities=[300], seed=4)
    publish, opened = logarithmic_rates(graph, 5)
    rows = threshold_study(graph, publish, opened, [0, 3, 10, 30, 100, 300], FanOut(2, 100, 0.01, 0.0))
    assert all(row.regret_ratio >= 0 for row in rows)
    lags_s = [row.last_delivery_s for row in rows]
    assert lags_s == sorted(lags_s)
