"""Follow graphs: what is read, what is drawn, and what the feed room asks of them."""

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.population import FollowGraph, initial_posts, read_edge_list, synthetic_graph

# 1, 2 and 3 follow 0; 0 and 3 follow 1; 0 follows 2; nobody follows 3; 4 is alone.
EDGES = [(1, 0), (2, 0), (3, 0), (0, 1), (3, 1), (0, 2)]

edge_lists = st.integers(1, 12).flatmap(
    lambda users: st.tuples(
        st.just(users), st.lists(st.tuples(st.integers(0, users - 1), st.integers(0, users - 1)), max_size=60)
    )
)


def graph_of(users, edges):
    return FollowGraph.from_edges(users, [follower for follower, _ in edges], [followee for _, followee in edges])


def edges_of(graph):
    return {(user, followee) for user in range(graph.users) for followee in graph.followees_of(user).tolist()}


def test_small_graph_by_hand():
    graph = graph_of(5, EDGES)
    assert (graph.users, graph.edges) == (5, 6)
    assert [graph.followers_of(u).tolist() for u in range(5)] == [[1, 2, 3], [0, 3], [0], [], []]
    assert [graph.followees_of(u).tolist() for u in range(5)] == [[1, 2], [0], [0], [0, 1], []]
    assert graph.follower_counts.tolist() == [3, 2, 1, 0, 0]
    assert graph.followee_counts.tolist() == [2, 1, 1, 2, 0]


@pytest.mark.parametrize(
    ("threshold", "pushed", "pulled"),
    [
        (0, [0, 0, 0, 0, 0], [2, 1, 1, 2, 0]),  # who has any follower is pulled
        (1, [0, 0, 1, 0, 0], [1, 1, 1, 2, 0]),
        (2, [0, 2, 1, 0, 0], [0, 1, 1, 1, 0]),  # "more than": two followers are still pushed
        (3, [3, 2, 1, 0, 0], [0, 0, 0, 0, 0]),
    ],
)
def test_threshold_divides_pushed_from_pulled(threshold, pushed, pulled):
    graph = graph_of(5, EDGES)
    assert graph.pushed_counts(threshold).tolist() == pushed
    assert graph.pulled_counts(threshold).tolist() == pulled


@given(edge_lists, st.integers(0, 12))
def test_graph_holds_its_edges_once(users_and_edges, threshold):
    users, edges = users_and_edges
    graph = graph_of(users, edges)
    wanted = {(follower, followee) for follower, followee in edges if follower != followee}
    assert edges_of(graph) == wanted
    assert {(int(f), u) for u in range(users) for f in graph.followers_of(u)} == wanted
    assert graph.edges == len(wanted)
    # Every edge is either pushed when a post is published or pulled when a feed is opened.
    assert graph.pushed_counts(threshold).sum() + graph.pulled_counts(threshold).sum() == graph.edges
    for user in range(users):
        pulled = [u for u in graph.followees_of(user).tolist() if graph.follower_counts[u] > threshold]
        assert graph.pulled_followees_of(user, threshold).tolist() == pulled
        assert graph.pulled_counts(threshold)[user] == len(pulled)


def test_graph_cannot_be_changed():
    with pytest.raises(ValueError, match="read-only"):
        graph_of(5, EDGES).followers_of(0)[0] = 4


@pytest.mark.parametrize(
    ("followers", "followees", "message"),
    [([0, 1], [1], "equally long"), ([0], [3], "got an edge with 3"), ([-1], [0], "an edge with -1")],
)
def test_from_edges_refuses_strangers(followers, followees, message):
    with pytest.raises(ValueError, match=message):
        FollowGraph.from_edges(3, followers, followees)


@given(
    st.integers(1, 120),
    st.floats(0, 1),
    st.floats(1.1, 4.0),
    st.integers(0, 2**32),
)
def test_synthetic_graph_is_simple_and_exact_in_size(users, density, exponent, seed):
    mean_followees = density * (users - 1)
    graph = synthetic_graph(users, mean_followees, exponent, seed=seed)
    edges = edges_of(graph)
    assert graph.edges == len(edges) == round(users * mean_followees)
    assert all(follower != followee for follower, followee in edges)


def test_synthetic_graph_is_reproducible_by_seed():
    first, again, other = (edges_of(synthetic_graph(300, 8, celebrities=[200], seed=seed)) for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_celebrities_have_the_followers_asked_for_and_at_most_everybody():
    graph = synthetic_graph(2000, 20, celebrities=[10**9, 1000, 0], seed=3)
    assert graph.follower_counts[:3].tolist() == [1999, 1000, 0]
    assert graph.followers_of(0).tolist() == list(range(1, 2000))
    assert graph.edges == 40_000


@pytest.mark.parametrize("exponent", [2.1, 2.3, 2.8])
def test_follower_tail_has_the_exponent_asked_for(exponent):
    counts = synthetic_graph(60_000, 12, exponent, seed=5).follower_counts
    cut = 30.0
    tail = counts[counts >= cut]
    # Maximum likelihood for a discrete tail (Clauset, Shalizi and Newman 2009, eq. 3.7), standard error (γ − 1)/√n.
    estimate = 1 + len(tail) / np.log(tail / (cut - 0.5)).sum()
    assert len(tail) > 1000
    assert estimate == pytest.approx(exponent, abs=4 * (exponent - 1) / np.sqrt(len(tail)) + 0.05)


def test_followers_are_drawn_evenly():
    # Followee counts are sums of independent choices: mean 40, variance near it; a bias to low ids shows in halves.
    graph = synthetic_graph(20_000, 40, seed=11)
    counts = graph.followee_counts
    assert counts.std() == pytest.approx(np.sqrt(40), rel=0.05)
    assert counts[:10_000].mean() == pytest.approx(counts[10_000:].mean(), rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"users": 0, "mean_followees": 0}, "users must be one or more"),
        ({"users": 10, "mean_followees": 10}, "mean_followees must be in 0 to 9"),
        ({"users": 10, "mean_followees": float("nan")}, "mean_followees"),
        ({"users": 10, "mean_followees": 2, "follower_exponent": 1.0}, "follower_exponent must be above 1"),
        ({"users": 10, "mean_followees": 2, "celebrities": [-1]}, "celebrities must be at most 10"),
        ({"users": 10, "mean_followees": 1, "celebrities": [9, 9]}, "with 18 followers do not fit 10 follows"),
        ({"users": 2, "mean_followees": 1, "celebrities": [0]}, "do not fit 2 follows"),
    ],
)
def test_impossible_populations_say_why(arguments, message):
    with pytest.raises(ValueError, match=message):
        synthetic_graph(**arguments)


SNAP = "# Directed graph\n# FromNodeId\tToNodeId\n30\t1412\n\n30 3\n1412 30\n3 3\n30\t1412\n"


def test_edge_list_is_read_with_dense_ids_in_sorted_order(tmp_path):
    path = tmp_path / "graph.txt"
    path.write_text(SNAP)
    graph = read_edge_list(path)
    assert edges_of(graph) == {(1, 2), (1, 0), (2, 1)}  # 3, 30, 1412 → 0, 1, 2
    assert graph.users == 3


def test_edge_list_both_ways(tmp_path):
    path = tmp_path / "graph.txt"
    path.write_text(SNAP)
    assert edges_of(read_edge_list(path, both_ways=True)) == {(1, 2), (2, 1), (1, 0), (0, 1)}


def test_edge_list_may_be_gzipped(tmp_path):
    path = tmp_path / "graph.txt.gz"
    path.write_bytes(gzip.compress(SNAP.encode()))
    assert edges_of(read_edge_list(path)) == {(1, 2), (1, 0), (2, 1)}
    path.write_bytes(gzip.compress(SNAP.encode())[:-6])
    with pytest.raises(ValueError, match=r"graph\.txt\.gz: the compressed file ends too early"):
        read_edge_list(path)


@pytest.mark.parametrize(
    "line", ["1", "1 2 3", "1 two", "1,2", "1.5 2", "99999999999999999999 1", "-1 2", "1_0 2", "1 2 # why", "\x00\xff"]
)
def test_malformed_line_is_named(tmp_path, line):
    path = tmp_path / "graph.txt"
    path.write_bytes(b"# head\n1 2\n" + line.encode("latin-1") + b"\n")
    with pytest.raises(ValueError, match=r"graph\.txt:3: expected two integers"):
        read_edge_list(path)


def test_file_without_edges_is_refused(tmp_path):
    path = tmp_path / "graph.txt"
    path.write_text("# nothing\n")
    with pytest.raises(ValueError, match="holds no edges"):
        read_edge_list(path)


def test_initial_posts_by_hand():
    posts = initial_posts(users=2, rounds=3, epoch_s=1000.0)
    assert posts.ids.tolist() == [1, 2, 3, 4, 5, 6]
    assert posts.author_ids.tolist() == [0, 1, 0, 1, 0, 1]
    assert posts.created_at_s == pytest.approx([820.0, 819.999, 880.0, 879.999, 940.0, 939.999])


def test_initial_posts_may_be_none():
    assert len(initial_posts(users=5, rounds=0).ids) == 0
    with pytest.raises(ValueError, match="zero or more"):
        initial_posts(users=5, rounds=-1)
