"""Model, reference and load test speak of the same things: operations, routes, milestones, graphs."""

import ast
import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.figures import MILESTONES
from loadtest.gateway import ROUTES
from model import uploads
from model.platform import OPERATIONS, build_network
from model.population import initial_posts
from model.population import read_edge_list as read_for_model
from reference_impl import milestones, operations, seeding, topics
from reference_impl.graph import read_edge_list as read_for_reference
from reference_impl.uploads import rules
from scenarios.loader import load_scenario

ROOT = Path(__file__).resolve().parent.parent
ROOM_VERB = re.compile(r"(feed|graph|interactions|uploads|search|notifications)\.[a-z]+")


def calls_of_ask() -> list[tuple[str, str]]:
    """(operation, method) of every request that the load test's rooms make, from the source."""
    found = []
    for path in sorted((ROOT / "loadtest").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("ask", "listen")
            ):
                operation, method = node.args[:2]
                if isinstance(operation, ast.Constant) and isinstance(method, ast.Constant):
                    found.append((operation.value, method.value))
    return found


def test_operations_have_one_vocabulary():
    assert len(set(OPERATIONS)) == len(OPERATIONS)
    assert all(ROOM_VERB.fullmatch(operation) for operation in OPERATIONS)
    assert {operation.name for operation in build_network(load_scenario("baseline")).operations} == set(OPERATIONS)
    assert {row.name for row in operations.OPERATIONS} | {name for name, *_ in operations.STORE_OPERATIONS} == set(OPERATIONS)
    assert {route.operation for route in ROUTES} == set(OPERATIONS)
    assert {operation for operation, _ in calls_of_ask()} == set(OPERATIONS)


def test_milestones_topics_and_workers_have_one_vocabulary():
    network = build_network(load_scenario("baseline"))
    assert set(network.milestone_names()) == {
        milestones.FEED_DELIVERED,
        milestones.INTERACTIONS_APPLIED,
        milestones.UPLOADS_READY,
        *milestones.NOTIFICATIONS_DELIVERED.values(),
        milestones.SEARCH_SEARCHABLE,
    }
    assert set(MILESTONES) == set(network.milestone_names())
    assert {topic.name: topic.workers for topic in network.topics} == topics.GROUPS


def test_routes_are_the_same_at_the_model_and_at_the_reference():
    reference = {(row.name, row.method, row.path) for row in operations.OPERATIONS} | set(operations.STORE_OPERATIONS)
    assert {(route.operation, route.method, route.path) for route in ROUTES} == reference
    assert set(calls_of_ask()) == {(operation, method) for operation, method, _ in reference}


def test_uploads_have_the_same_limits():
    assert (uploads.LEAST_BYTES, uploads.MOST_BYTES) == (rules.LEAST_BYTES, rules.MOST_BYTES)
    assert uploads.MEDIA_TYPES == rules.MEDIA_TYPES


@given(st.integers(1, 10**9), st.integers(1, 10**8))
def test_uploads_have_the_same_parts(size_bytes, each_bytes):
    size_bytes = min(size_bytes, 200 * each_bytes)
    lengths = rules.part_lengths(size_bytes, each_bytes)
    assert uploads.part_lengths(size_bytes, each_bytes) == lengths
    assert sum(lengths) == size_bytes
    assert set(lengths[:-1]) <= {each_bytes}
    assert 0 < lengths[-1] <= each_bytes


@given(st.integers(1, 50), st.integers(0, 5), st.floats(1e9, 2e9))
def test_initial_posts_are_the_same(users, rounds, epoch_s):
    posts = initial_posts(users, rounds, epoch_s)
    created_s = seeding.created_us(users, rounds, epoch_s).ravel() / 1e6
    assert posts.created_at_s == pytest.approx(created_s, rel=0, abs=2e-6)  # a float of 1e9 s has steps of 2e-7
    assert posts.ids.tolist() == list(range(1, users * rounds + 1))


edges_text = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 9), st.integers(0, 10**18 - 1)).map("{0[0]}\t{0[1]}".format),
        st.tuples(st.integers(0, 20), st.integers(0, 20)).map("{0[0]} {0[1]}".format),
        st.sampled_from(["# 1 2", "", "  "]),
    ),
    max_size=30,
).map("\n".join)


@given(edges_text, st.booleans(), st.booleans())
@settings(max_examples=50)  # each writes a file
def test_edge_lists_give_the_same_graph(tmp_path_factory, text, both_ways, compressed):
    path = tmp_path_factory.mktemp("graphs") / ("graph.txt.gz" if compressed else "graph.txt")
    text = f"7 8\n{text}\n"
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    ours = read_for_model(path, both_ways)
    theirs = read_for_reference(path, both_ways, lambda _line: None)
    order = np.lexsort((theirs.followee, theirs.follower))
    assert ours.users == theirs.users
    assert np.repeat(np.arange(ours.users), ours.followee_counts).tolist() == theirs.follower[order].tolist()
    assert ours.followee_ids.tolist() == theirs.followee[order].tolist()


@pytest.mark.parametrize("text", ["1 2\n3\n", "1 2\n1 2 3\n", "1 2\n1 2 # why\n", "1 2\n-1 2\n", "1 2\n1 x\n"])
def test_edge_lists_are_refused_at_the_same_line(tmp_path, text):
    path = tmp_path / "graph.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"graph\.txt:2: "):
        read_for_model(path)
    with pytest.raises(ValueError, match=r"graph\.txt:2: "):
        read_for_reference(path, False, lambda _line: None)
