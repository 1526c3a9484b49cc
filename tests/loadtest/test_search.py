"""What the users of the load test search for."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.search import typed
from loadtest.settings import LoadSettings


def settings(users=50, queries=1000, exponent=1.0):
    return LoadSettings(
        users, 3, 1.0, 10, 0.1, 1.0, 0.5, 0.1, 0.1, 0.1,
        searches_per_feed_open=0.2, distinct_queries=queries, query_popularity_exponent=exponent,
    )  # fmt: skip


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 10**6), st.integers(1, 10**5))
def test_query_is_what_somebody_would_type(which, users, queries):
    kind, text = typed(which, settings(users, queries))
    name = text.split()[-1]
    assert kind in ("users", "posts")
    assert name.startswith("user") and name[4].isdigit()
    assert int(name[4:]) < users
    assert 5 <= len(text) <= 100
    if kind == "posts":
        assert text.split()[:-1] in (["post", "1"], ["post", "2"], ["post", "3"])


def test_few_queries_are_frequent():
    rng = random.Random(1)
    counts = Counter(typed(rng.random(), settings(users=10_000)) for _ in range(5000))
    assert counts.most_common(1)[0][1] > 5000 * 0.1  # 1 / (1 + 1/2 + … + 1/1000) = 0.134
    assert len(counts) > 300


def test_searches_are_a_part_of_the_mix():
    assert settings().per_feed_open()["search.query"] == 0.2
    with pytest.raises(ValueError, match="distinct-queries"):
        settings(queries=0)
