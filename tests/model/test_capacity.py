import pytest

from model import platform
from model.capacity import capacities, closed_users, saturation_load_factor, with_faster, with_load, with_servers
from model.network import walk
from model.queueing_theory import MMc, closed_network
from model.simulation import simulate
from scenarios.loader import load_scenario
from scenarios.offered import loads_of
from tests.desk import desk

SMALL = ("population.users=200", "population.mean_followees=5", "population.celebrities=[]", "run.duration_s=10", "run.warmup_s=1")
NESTED = """
[run]
duration_s = 10
seed = 1
[network.stations.a]
[network.stations.b]
[network.caches.c]
ttl_s = 1
[network.topics.t]
partitions = 3
consumers = 2
steps = [ { serve = "a", service_time = { distribution = "constant", mean_ms = 10 } } ]
[network.operations.x]
arrivals = { rate_per_s = 1 }
attributes = { k = { distribution = "constant", mean = 1 } }
steps = [
  { serve = "b", service_time = { distribution = "constant", mean_ms = 10 } },
  { branch = [ { probability = 0.5, steps = [
    { serve = "a", service_time = { distribution = "constant", mean_ms = 10 }, per_ms = { k = 10 } }
  ] } ] },
  { scatter = { count = 2, steps = [ { serve = "a", service_time = { distribution = "constant", mean_ms = 10 } } ] } },
  { lookup = "c", key = "k", miss = [ { serve = "a", service_time = { distribution = "constant", mean_ms = 10 } } ] },
  { try = [ { serve = "a", service_time = { distribution = "constant", mean_ms = 10 } } ], timeout_ms = 100 },
  { publish = "t" },
  { respond = true },
]
"""


@pytest.fixture
def nested(tmp_path):
    path = tmp_path / "nested.toml"
    path.write_text(NESTED)
    return load_scenario(str(path))


def served(scenario):
    """(station, mean time, costs) of every serve step."""
    network = platform.build_network(scenario)
    routes = [*(one.steps for one in network.operations), *(one.steps for one in network.topics)]
    return [
        (step.station, step.time.mean_s, dict(step.per))
        for steps in routes
        for step in walk(steps)
        if hasattr(step, "station")
    ]


def test_the_parts_of_a_declared_network(tmp_path):
    scenario = desk(tmp_path)
    (part,) = capacities(scenario, loads_of(scenario, None))
    assert (part.name, part.servers, part.most, part.too_few) == ("desk", 5, None, 4)
    theory = MMc(40, 0.1, 5)
    assert part.utilisation_ratio == pytest.approx(0.8)
    assert part.wait_probability == pytest.approx(theory.waiting_probability)
    assert part.wait_in_services == pytest.approx(theory.mean_wait_s / 0.1)
    full = with_servers(scenario, {"desk": 3})
    (part,) = capacities(full, loads_of(full, None))
    assert part.wait_probability is None and part.wait_in_services is None


def test_other_servers_reach_the_network_of_the_platform_and_of_a_declared_one(tmp_path, nested):
    wider = with_servers(load_scenario("baseline"), {"database": 11, "fanout_workers": 7})
    network = platform.build_network(wider)
    servers = {one.name: one.servers for one in network.stations}
    assert (servers["api"], servers["database"]) == (4, 11)
    assert {one.workers: one.consumers for one in network.topics}["fanout_workers"] == 7
    network = platform.build_network(with_servers(nested, {"a": 3, "t": 1}))
    assert {one.name: one.servers for one in network.stations} == {"a": 3, "b": 1}
    assert network.topics[0].consumers == 1


def test_consumer_groups_are_limited_by_their_partitions(nested):
    parts = {part.name: part for part in capacities(nested, loads_of(nested, None))}
    assert (parts["t"].kind, parts["t"].servers, parts["t"].most) == ("consumers", 2, 3)


def test_a_faster_station_is_faster_wherever_it_serves(nested):
    before, after = served(nested), served(with_faster(nested, "a", 0.5))
    assert len(before) == 6
    for (station, mean_s, per), (_, faster_s, faster_per) in zip(before, after, strict=True):
        factor = 0.5 if station == "a" else 1.0
        assert faster_s == pytest.approx(mean_s * factor)
        assert faster_per == pytest.approx({name: cost_s * factor for name, cost_s in per.items()})


def test_a_faster_database_takes_its_own_share_of_the_platforms_load():
    scenario = load_scenario("baseline", SMALL)
    graph = platform.build_graph(scenario.population, 1)
    before = {one.name: one.least for one in loads_of(scenario, graph)}
    after = {one.name: one.least for one in loads_of(with_faster(scenario, "database", 0.5), graph)}
    assert after["database"] == pytest.approx(before["database"] / 2)
    assert after["api"] == before["api"]


def test_saturation_is_where_the_busiest_part_is_full(tmp_path):
    scenario = desk(tmp_path)
    assert saturation_load_factor(scenario, loads_of(scenario, None)) == pytest.approx(5 / 4)
    double = with_load(scenario, 2.0)
    assert saturation_load_factor(double, loads_of(double, None)) == pytest.approx(5 / 4)


def test_closed_users_are_those_of_mean_value_analysis(tmp_path):
    scenario = desk(tmp_path)
    found = closed_users(scenario, loads_of(scenario, None))
    exact = closed_network([0.1], 204, 5.0, [5])  # 40 per s × (5 s of thinking + 0.1 s)
    assert isinstance(found, dict)
    assert found["users"] == 204
    assert found["throughput_per_s"] == exact.throughput_per_s < found["throughput_max_per_s"] + 1e-9
    assert found["response_s"] == exact.response_s


def test_closed_users_say_where_they_do_not_apply(tmp_path, nested):
    assert "topics" in closed_users(nested, loads_of(nested, None))
    constant = desk(tmp_path).declared
    assert constant is not None
    path = tmp_path / "desk.toml"
    path.write_text(path.read_text().replace("exponential", "constant"))
    scenario = load_scenario(str(path))
    assert "first in first out" in closed_users(scenario, loads_of(scenario, None))


def test_a_changed_scenario_still_runs(nested):
    results = simulate(with_faster(with_servers(nested, {"a": 2, "t": 3}), "a", 0.9))
    assert results.audit["conserved"]
