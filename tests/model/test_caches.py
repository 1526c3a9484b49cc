"""Caches that are full, that coalesce, that are flushed: exact clocks on both engines."""

import pytest

from model.distributions import constant
from model.network import Cache, Delay, Evict, Fail, Lookup, Network, Operation, Serve, Station, Try
from tests.model.runs import answers, at, marks, probe, run

pytestmark = pytest.mark.usefixtures("engine")
FETCH = (probe("miss"), Delay(constant(1.0)))


def network(cache, miss=FETCH, around=lambda lookup: lookup):
    lookup = Lookup("pages", "page", miss=miss, hit=(probe("hit"),))
    return Network(
        (Operation("ask", (around(lookup),)),), (Station("desk", queue_limit=0),), caches=(cache,), attributes=("page",)
    )


def asks(*pairs):
    return [(instant, "ask", {"page": page}) for instant, page in pairs]


def found(record):
    return "".join(name[0] for _, name, _ in sorted(marks(record), key=lambda mark: (mark[0], mark[2])))


def test_a_full_cache_drives_out_what_was_used_longest_ago():
    lru = network(Cache("pages", ttl_s=100.0, capacity=2))
    # 1 and 2 come; 1 is used; 3 drives out 2; 1 is still there; 2 drives out 3.
    assert found(run(lru, asks((0, 1), (1, 2), (2, 1), (3, 3), (4, 1), (5, 2), (6, 3)))) == "mmhmhmm"
    assert (
        found(run(network(Cache("pages", 100.0)), asks((0, 1), (1, 2), (2, 1), (3, 3), (4, 1), (5, 2), (6, 3))))
        == "mmhmhhh"
    )


def test_an_expired_entry_keeps_its_place_until_it_is_driven_out():
    lru = network(Cache("pages", ttl_s=2.0, capacity=2))
    assert found(run(lru, asks((0, 1), (1.5, 2), (2.5, 3), (3, 2), (3, 1)))) == "mmmhm"


def test_who_misses_a_key_that_is_being_filled_waits_for_it():
    record = run(
        network(Cache("pages", ttl_s=10.0, coalesce=True)),
        asks((0, 1), (0.25, 1), (0.5, 2), (0.75, 1), (10.5, 1), (11, 1)),
    )
    assert marks(record) == [
        (0, "miss", 0),
        (0.5, "miss", 2),
        (1, "hit", 1),  # in the order in which they came
        (1, "hit", 3),
        (10.5, "hit", 4),  # it lives from when it was filled
        (11, "miss", 5),
    ]
    assert [answered for _, answered, _ in answers(record)] == [1, 1, 1.5, 1, 10.5, 12]


def test_if_the_fetch_fails_the_first_who_waits_fetches():
    coalescing = Cache("pages", ttl_s=10.0, coalesce=True)
    record = run(network(coalescing, (*FETCH, Fail())), asks((0, 1), (0.25, 1), (0.5, 1)))
    assert marks(record) == [(0, "miss", 0), (1, "miss", 1), (2, "miss", 2)]
    assert answers(record) == [(0, 1, "rejected"), (0.25, 2, "rejected"), (0.5, 3, "rejected")]
    within = network(coalescing, FETCH, lambda lookup: Try((lookup,), timeout_s=0.75))
    record = run(within, asks((0, 1), (0.25, 1), (0.5, 1)))
    # The first gives up at 0.75, the second fetches from then to its own deadline, the third to its own.
    assert marks(record) == [(0, "miss", 0), (0.75, "miss", 1), (1, "miss", 2)]
    assert [outcome for *_, outcome in answers(record)] == ["timed_out"] * 3


def test_a_try_inside_the_miss_steps_keeps_the_lease():
    fetch = (probe("miss"), Try((Serve("desk", constant(1.0)),), attempts=9, backoff=constant(0.5)))
    record = run(network(Cache("pages", 10.0, coalesce=True), fetch), asks((0, 2), (0.25, 1), (0.5, 1)))
    assert marks(record) == [
        (0, "miss", 0),
        (0.25, "miss", 1),
        (2.25, "hit", 2),
    ]  # rejected at 0.25 and 0.75, served from 1.25


@pytest.mark.parametrize("cache", [Cache("pages", 100.0), Cache("pages", 100.0, capacity=5)])
def test_a_flush_empties_a_cache(cache):
    record = run(network(cache), asks((0, 1), (2, 1), (3, 1), (4, 1)), control=at((2.5, "flush", 0)))
    assert found(record) == "mhmh"


def test_what_is_being_filled_survives_a_flush():
    record = run(
        network(Cache("pages", 100.0, coalesce=True)), asks((0, 1), (0.5, 1), (2, 1)), control=at((0.75, "flush", 0))
    )
    assert found(record) == "mhh"


# ---- herds
HERD = [(0, 1), (0.25, 1), (0.5, 1), (1, 1), (1.25, 1)]  # a fetch takes a second


@pytest.mark.parametrize(
    ("cache", "said", "counts"),
    [
        (Cache("pages", 10.0), "mhhhh", (4, 1, 0)),  # there at once: no herd is seen
        (Cache("pages", 10.0, stampede=True), "mmmhh", (2, 3, 0)),  # all that come before the first fetch is over
        (Cache("pages", 10.0, coalesce=True), "mhhhh", (2, 1, 2)),  # who asks at 1 comes after it is filled
    ],
)
def test_a_herd_fetches_each_for_himself_or_waits_for_one(cache, said, counts):
    record = run(network(cache), asks(*HERD))
    by_request = sorted(marks(record), key=lambda mark: mark[2])
    assert "".join(name[0] for _, name, _ in by_request) == said
    assert record.caches[0].item() == counts


def test_a_stampede_renews_the_entry_with_every_fetch_that_ends():
    record = run(network(Cache("pages", 2.0, stampede=True)), asks((0, 1), (0.5, 1), (3.25, 1), (3.75, 1)))
    # Filled at 1 and again at 1.5: it lives until 3.5.
    assert found(record) == "mmhm"


def test_a_fetch_that_fails_fills_nothing():
    record = run(network(Cache("pages", 10.0, stampede=True), (*FETCH, Fail())), asks((0, 1), (2, 1)))
    assert found(record) == "mm"


@pytest.mark.parametrize("more", [{}, {"capacity": 2}, {"stampede": True}, {"coalesce": True, "capacity": 2}])
def test_a_write_takes_an_entry_away(more):
    ask = Operation("ask", (Lookup("pages", "page", miss=FETCH, hit=(probe("hit"),)),))
    write = Operation("write", (Evict("pages", "page"),))
    changing = Network((ask, write), caches=(Cache("pages", 100.0, **more),), attributes=("page",))
    calls = [(0, "ask", 1), (2, "ask", 2), (4, "write", 1), (5, "ask", 2), (6, "ask", 1), (8, "ask", 2), (9, "write", 7)]
    record = run(changing, [(at_s, name, {"page": page}) for at_s, name, page in calls])
    assert found(record) == "mmhmh"


def test_counts_begin_with_the_window():
    record = run(network(Cache("pages", 10.0)), asks((0, 1), (1, 1), (3, 1), (4, 2)), warmup_s=2.0)
    assert record.caches[0].item() == (1, 1, 0)


def test_a_cache_is_one_or_the_other():
    with pytest.raises(ValueError, match="who coalesces does not stampede"):
        network(Cache("pages", 1.0, coalesce=True, stampede=True))


def test_a_coalescing_lookup_in_another_ones_miss_steps_is_refused():
    inner = Lookup("pages", "page", miss=FETCH)
    with pytest.raises(ValueError, match="coalesces inside the miss steps"):
        network(Cache("pages", 1.0, coalesce=True), (inner,))
    with pytest.raises(ValueError, match="capacity must be 1 or more, not 0"):
        network(Cache("pages", 1.0, capacity=0))
