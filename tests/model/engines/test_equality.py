"""The two engines are one: random networks, and what a random network seldom meets."""

import numpy as np
import pytest

from model import distributions as d
from model import network as net
from model.engines.choose import ENGINES, engine_for, make_environment
from model.engines.compiled_features import ALL, KERNELS, covering, needed_by
from model.tables import lower
from tests.model.engines import fuzz


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_random_networks_are_equal_to_the_last_bit(first):
    for seed in range(first, first + 10):
        found, *_ = fuzz.compare(seed)
        assert found == [], f"seed {seed}"


@pytest.mark.parametrize("features", KERNELS[:-1], ids=lambda names: "+".join(sorted(names)))
def test_random_networks_are_equal_on_the_kernels_that_lack_features(features):
    for seed in range(10):
        found, given, *_ = fuzz.compare(seed, features)
        assert found == [], f"seed {seed}"
        assert needed_by(lower(given.network, 1)) <= features


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 1300, 100))
def test_many_more_random_networks_are_equal(first):
    assert fuzz.main(first, first + 100) == 0


def test_a_network_gets_the_smallest_kernel_that_has_what_it_needs():
    serve = net.Serve("s", d.constant(1.0))

    def chosen(*steps, discipline="fifo"):
        network = net.Network((net.Operation("o", steps),), (net.Station("s", 1, discipline),))
        return covering(needed_by(lower(network, 1)))

    assert chosen(serve) == frozenset()
    assert chosen(serve, net.Try((serve,))) == {"topics", "tries"}
    assert chosen(net.Scatter((serve,), 2)) == {"caches", "children", "topics"}
    assert chosen(net.Hold("s", (serve,))) == chosen(serve, discipline="processor_sharing") == ALL
    assert list(KERNELS) == sorted(KERNELS, key=len)


def test_the_random_networks_reach_everything():
    """What would not occur would not be compared."""
    steps, disciplines, outcomes, topics = set(), set(), set(), []
    on_hosts, woken, preempted = set(), 0, 0
    for seed in range(30):
        _, given, recording, _ = fuzz.compare(seed)
        routes = [item.steps for item in (*given.network.operations, *given.network.topics)]
        steps |= {type(step) for route in routes for step in net.walk(route)}
        disciplines |= {station.discipline for station in given.network.stations}
        outcomes |= set(recording.outcome.tolist())
        topics += list(recording.topics)
        on_hosts |= {host.discipline for host in given.network.hosts}
        woken += recording.hosts["woken"].sum()
        preempted += recording.hosts["preempted"].sum()
    assert steps == {
        net.Delay, net.Serve, net.Lookup, net.Branch, net.Scatter, net.Publish, net.Acquire, net.Hold, net.Fail, net.Respond,
        net.Mark, net.Try, net.Evict,
    }  # fmt: skip
    assert disciplines == set(net.DISCIPLINES)
    assert on_hosts == set(net.HOST_DISCIPLINES)
    assert woken > 0 and preempted > 0
    assert outcomes == {0, 1, 2, 3}
    for name in ("redelivered", "duplicates_skipped", "duplicates_applied", "consumed", "backlog_end"):
        assert sum(int(row[name]) for row in topics) > 0, name


def test_a_difference_would_be_found():
    """The comparison sees the last bit of an instant, a mark and a count."""
    given = fuzz.case(3)
    (_, a), _ = fuzz.run(given, fuzz.Plain)
    (_, b), _ = fuzz.run(given, fuzz.Compiled)
    assert fuzz.differences(a, b) == []
    b.finished_s[5] = np.nextafter(b.finished_s[5], 0)
    b.marks["time_s"][7] = np.nextafter(b.marks["time_s"][7], 0)
    b.stations["arrived"][0] += 1
    b.stations["wait_s"][0] *= 1 + 1e-8
    assert fuzz.differences(a, b) == ["finished_s", "marks", "stations arrived", "stations wait_s"]


def recordings(network, arrivals, control=None, until_s=1000.0, seed=3):
    """The same schedule of (instant, operation number, attributes) on both engines."""
    made = []
    for name in ENGINES:
        env = make_environment(name)
        engine = engine_for(name, lower(network, seed), env)
        instants = np.array([item[0] for item in arrivals])
        attributes = np.array([item[2] for item in arrivals], float).reshape(len(arrivals), len(network.attributes))
        engine.arrive(np.diff(instants, prepend=0.0), np.array([item[1] for item in arrivals], "i4"), attributes)
        if control is not None:
            env.process(control(env, engine))
        env.run(until=until_s)
        made.append(engine.record())
    assert [recording.engine for recording in made] == list(ENGINES)
    assert fuzz.differences(*made) == []
    return made


def test_a_group_that_died_as_a_whole_comes_back_before_its_session_timed_out():
    """The first member back takes everything: also what dead members, none with more than it has itself, still hold."""
    network = net.Network(
        operations=(net.Operation("post", (net.Publish("posts", "key"),)),),
        topics=(net.Topic("posts", (net.Mark("seen"),), partitions=4, consumers=4, session_timeout_s=45.0),),
        attributes=("key",),
    )

    def control(env, engine):
        yield env.timeout(1.0)
        for member in range(4):
            engine.crash(0, member)
        yield env.timeout(1.0)
        engine.restore(0, 0)

    for recording in recordings(network, [(1.5, 0, [key]) for key in range(40)], control, until_s=10.0):
        assert len(recording.marks) == 40
        assert (recording.marks["time_s"] == 2.0).all()


def test_a_thousand_children_and_a_large_batch_find_room():
    """Far more than the tables' first rows, in one turn."""
    children = net.Scatter((net.Serve("s", d.exponential(0.1)), net.Publish("t", "key")), "count")
    network = net.Network(
        operations=(net.Operation("post", (children, children, net.Respond())),),
        stations=(net.Station("s", 7),),
        topics=(
            net.Topic(
                "t", (net.Mark("seen"), net.Serve("s", d.constant(0.1), {"keys": 0.5})), linger_s=500.0, batch_max=9999
            ),
        ),
        attributes=("key", "count"),
    )
    arrivals = [(float(n), 0, [n % 5, 1000]) for n in range(5)]
    for recording in recordings(network, arrivals, until_s=2000.0):
        assert len(recording.marks) == 10_000
        assert (recording.outcome == 0).all()


def test_a_cache_with_many_keys_is_exact():
    network = net.Network(
        operations=(net.Operation("read", (net.Lookup("c", "key", (net.Mark("miss"),), (net.Mark("hit"),)),)),),
        caches=(net.Cache("c", 50.0),),
        attributes=("key",),
    )
    keys = np.random.default_rng(4).integers(-4000, 4000, 20_000) / 4
    for recording in recordings(network, [(n / 100, 0, [key]) for n, key in enumerate(keys)]):
        assert 1000 < (recording.marks["milestone"] == 0).sum() < 19_000


def test_a_long_line_with_priorities_and_a_crowd_that_shares():
    network = net.Network(
        operations=tuple(
            net.Operation(
                f"o{n}", (net.Serve("line", d.exponential(1.0)), net.Serve("crowd", d.exponential(1.0))), n % 3
            )
            for n in range(6)
        ),
        stations=(net.Station("line", 3, "priority"), net.Station("crowd", 2, "processor_sharing")),
    )
    arrivals = [(n / 50, n * 7 % 6, []) for n in range(3000)]

    def control(env, engine):
        yield env.timeout(30.0)
        engine.set_servers(0, 2000)
        yield env.timeout(30.0)
        engine.set_servers(1, 0)
        yield env.timeout(30.0)
        engine.set_servers(1, 40)

    for recording in recordings(network, arrivals, control):
        assert np.isfinite(recording.finished_s).all()
