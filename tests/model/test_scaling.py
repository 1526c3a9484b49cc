"""Larger graphs keep their degrees; cells keep their load."""

from dataclasses import replace

import numpy as np
import pytest

from model.platform import arrival_rates, build_graph
from model.population import FollowGraph, synthetic_graph
from model.scaling import Cells, scale_up, scaled_largest
from model.simulation import simulate
from model.summary import told
from scenarios.fields import ScenarioError
from scenarios.loader import load_scenario


def test_every_degree_is_kept():
    small = synthetic_graph(500, 12, celebrities=[300], seed=2)
    large = scale_up(small, 4, seed=1)
    assert (large.users, large.edges) == (2000, 4 * small.edges)
    assert large.followee_counts.tolist() == small.followee_counts.tolist() * 4
    assert large.follower_counts.tolist() == small.follower_counts.tolist() * 4


def test_copies_are_one_graph():
    small = FollowGraph.from_edges(50, np.arange(1, 50), np.zeros(49, int))
    large = scale_up(small, 3, seed=1)
    copies = [set((large.followers_of(50 * copy) // 50).tolist()) for copy in range(3)]
    assert copies == [{0, 1, 2}] * 3
    assert scale_up(small, 1).follower_ids.tolist() == small.follower_ids.tolist()
    with pytest.raises(ValueError, match="copies"):
        scale_up(small, 0)


def test_the_largest_grows_with_the_natural_cutoff():
    assert scaled_largest(1000, 1, 2.3) == 1000
    assert scaled_largest(1000, 10, 2.0) == 10_000
    assert scaled_largest(1000, 1000, 4.0) == 10_000


def test_a_cell_has_its_share():
    platform = load_scenario("baseline", ["population.users=100_000", "population.celebrities=[80_000]", "load.feed_opens_per_s=1_000"])
    cell = Cells(10).cell_of(platform)
    assert (cell.population.users, cell.population.celebrities) == (10_000, (8_000,))
    assert sum(arrival_rates(cell).values()) == pytest.approx(sum(arrival_rates(platform).values()) / 10)
    assert cell.notifications.push_quota_per_s == platform.notifications.push_quota_per_s / 10
    assert cell.stations == platform.stations
    assert Cells(100).quantile_of_last(0.99) == pytest.approx(0.9998995, abs=1e-7)
    with pytest.raises(ValueError, match="too small"):
        Cells(60_000).cell_of(platform)


def test_a_file_can_describe_a_billion_users_and_a_cell_is_simulated():
    whole = ["population.users=1_000_000_000", "population.celebrities=[600_000_000]", "load.feed_opens_per_s=5_000_000"]
    cell = load_scenario("baseline", [*whole, "population.cells=50_000"])
    assert (cell.population.users, cell.population.celebrities, cell.load.feed_opens_per_s) == (20_000, (12_000,), 100.0)
    document = told(simulate(replace(cell, run=replace(cell.run, duration_s=3, warmup_s=1))))
    assert document["cells"] == 50_000
    with pytest.raises(ScenarioError, match="more than one simulation holds; take 10 cells or more"):
        load_scenario("baseline", whole)
    with pytest.raises(ScenarioError, match="a cell of 1 users is too small"):
        load_scenario("baseline", [*whole, "population.cells=1_000_000", "population.users=1_500_000", "population.celebrities=[]"])


def test_a_graph_from_a_file_grows_by_copies(tmp_path):
    path = tmp_path / "edges.txt"
    path.write_text("0 1\n1 2\n2 0\n0 2\n")
    scenario = load_scenario("baseline", ["population.copies=5"], graph=str(path))
    graph, single = (build_graph(replace(scenario.population, copies=copies), 1) for copies in (5, 1))
    assert graph.users == 5 * single.users
    assert graph.follower_counts.tolist() == single.follower_counts.tolist() * 5
    with pytest.raises(ScenarioError, match="goes with a drawn population"):
        load_scenario("baseline", ["population.cells=5"], graph=str(path))
