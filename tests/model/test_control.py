"""Faults and autoscaling, with exact clocks."""

import math
from dataclasses import replace

import numpy as np
import pytest

from model.arrivals import schedule
from model.control import lost_servers, start, wanted_servers
from model.engines.choose import engine_for, make_environment
from model.platform import build_network
from model.scenario import Autoscaling, Fault
from model.simulation import simulate
from model.tables import lower
from scenarios.fields import ScenarioError
from scenarios.loader import load_scenario

# Every second a request of 2.5 s: 2.5 of three servers are busy, or two members.
SHOP = """
question = "?"
[run]
duration_s = 60
warmup_s = 0
[network.stations.till]
servers = 3
[network.topics.parcels]
consumers = 3
partitions = 3
service_time = { distribution = "constant", mean_ms = 20 }
session_timeout_s = 4
steps = [{ mark = "shop.shipped" }]
[network.operations."shop.buy"]
interarrival = { distribution = "constant", mean_s = 1 }
steps = [
  { serve = "till", service_time = { distribution = "constant", mean_s = 2.5 } },
  { publish = "parcels" },
  { respond = true },
]
"""


@pytest.fixture
def shop(tmp_path):
    path = tmp_path / "shop.toml"
    path.write_text(SHOP)
    return load_scenario(str(path))


@pytest.mark.parametrize(
    ("servers", "share", "lost"), [(3, 1 / 3, 1), (4, 1 / 3, 2), (3, 1, 3), (1, 0.1, 1), (6, 0.5, 3)]
)
def test_a_zone_has_whole_machines(servers, share, lost):
    assert lost_servers(servers, share) == lost


@pytest.mark.parametrize("engine", ["plain", "compiled"])
def test_a_lost_zone_takes_its_share_of_stations_and_groups(shop, engine):
    fault = Fault("zone_loss", 10, "", 0, 0, 20, targets=("till", "parcels"), share_ratio=0.5)
    results = simulate(replace(shop, faults=(fault,)), engine=engine)
    # One server of three is left for twenty seconds: three servers but for that time.
    assert results.recording.stations["capacity_area"][0] == pytest.approx(60 * 3 - 20 * 2)
    assert results.topic_figures["parcels"]["lost"] == 0
    # While two of three members are gone their partitions wait for the session: up to four seconds and a batch.
    assert (
        3 < results.figure("shop.shipped.max_s") - results.figure("shop.buy.max_s") < 4.1
        or results.figure("shop.shipped.max_s") > 4
    )
    assert results.audit["conserved"]


def test_an_outage_is_a_capacity_of_none(shop):
    results = simulate(replace(shop, faults=(Fault("capacity", 10.25, "till", 0, 0, 5),)))
    latencies_s = results.latencies_s("shop.buy")
    assert latencies_s[:9] == pytest.approx([2.5] * 9)  # what had begun before is finished
    assert latencies_s[10] == pytest.approx(15.25 - 11 + 2.5)  # who came at 11 s waits for the return at 15.25 s


@pytest.mark.parametrize(
    ("servers", "busy", "wanted"), [(4, 0.9, 6), (4, 0.6, 4), (4, 0.1, 2), (4, 1.0, 7), (20, 1.0, 10)]
)
def test_kubernetes_rule(servers, busy, wanted):
    rule = Autoscaling("till", 0.6, 2, 10, 15, 60, 300)
    assert wanted_servers(servers, busy, rule) == wanted


@pytest.mark.parametrize("engine", ["plain", "compiled"])
def test_autoscaling_looks_waits_and_rests(shop, engine):
    """Two and a half busy servers of three at a target of 0.5: five are wanted; seen at 10 s, there at 14 s."""
    rule = Autoscaling("till", 0.5, 1, 5, interval_s=10, delay_s=4, cooldown_s=100)
    results = simulate(replace(shop, autoscaling=(rule,)), engine=engine)
    row = results.recording.stations[0]
    assert int(row["servers"]) == 5
    assert row["capacity_area"] == pytest.approx(14 * 3 + 46 * 5)


def test_autoscaling_shrinks_at_once(shop):
    rule = Autoscaling("till", 0.95, 1, 5, interval_s=10, delay_s=4, cooldown_s=100)
    slow = replace(shop, autoscaling=(replace(rule, utilisation=1.0, least=1),))
    results = simulate(slow)
    assert int(results.recording.stations[0]["servers"]) == 3  # ceil(2.5 or so): nothing to take away
    idle = replace(shop, run=replace(shop.run, load_factor=0.2), autoscaling=(rule,))
    results = simulate(idle)
    assert int(results.recording.stations[0]["servers"]) == 1
    assert results.recording.stations["capacity_area"][0] == pytest.approx(10 * 3 + 50)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"faults": (Fault("capacity", 1, "tll", 0, 0, None),)}, "no station 'tll'"),
        ({"faults": (Fault("consumer_crash", 1, "parcel", 0, 0, None),)}, "no consumer group 'parcel'"),
        ({"autoscaling": (Autoscaling("tll", 0.5, 1, 5, 10, 0, 0),)}, "autoscaling: no station 'tll'"),
    ],
)
def test_a_target_must_exist(shop, change, says):
    with pytest.raises(ValueError, match=says):
        simulate(replace(shop, **change))


@pytest.mark.parametrize("engine", ["plain", "compiled"])
def test_servers_that_crash_lose_their_work_and_slow_ones_take_longer(shop, engine):
    crash = Fault("server_crash", 10.25, "till", 0, 0, 5)
    recording = simulate(replace(shop, faults=(crash,)), engine=engine).recording
    assert recording.outcome[:14].tolist() == [0] * 7 + [1] * 3 + [0] * 4  # those that came at 8, 9 and 10 s
    assert recording.responded_s[10] == pytest.approx(15.25 + 2.5)
    slow = Fault("slow_server", 10.25, "till", 0, 0, 5, speed=0.5)
    recording = simulate(replace(shop, faults=(slow,)), engine=engine).recording
    assert recording.responded_s[9] == pytest.approx(12.5)
    assert recording.responded_s[10] == pytest.approx(16)


PAGES = """
question = "?"
faults = [{ kind = "cache_flush", at_s = 20.5, target = "pages" }]
[run]
duration_s = 60
warmup_s = 0
[network.caches.pages]
ttl_s = 1000
[network.operations.ask]
interarrival = { distribution = "constant", mean_s = 1 }
attributes = { page = { distribution = "constant", mean = 1 } }
steps = [{ lookup = "pages", key = "page", miss = [{ mark = "missed" }] }]
"""


def test_a_flushed_cache_misses_again(tmp_path):
    path = tmp_path / "pages.toml"
    path.write_text(PAGES)
    assert simulate(load_scenario(str(path))).recording.marks["time_s"].tolist() == [1, 21]
    path.write_text(PAGES.replace('target = "pages"', 'target = "page"'))
    with pytest.raises(ScenarioError, match=r'is "page"; did you mean "pages"'):
        simulate(load_scenario(str(path)))
    path.write_text(PAGES.replace("at_s = 20.5", "at_s = 20.5, speed = 2"))
    with pytest.raises(ValueError, match="speed: means nothing to a cache_flush"):
        load_scenario(str(path))


# Ten processes that are never all busy, on a host of ten cores: an answer takes as long as the host is slow.
UNSTEADY = """
question = "?"
[run]
duration_s = 2000
warmup_s = 0
[network.hosts.machine]
cores = 10
speed_varies = [{ cv = 0.5, holds_ms = 500 }]
[network.stations.till]
servers = 10
host = "machine"
[network.operations."shop.buy"]
interarrival = { distribution = "constant", mean_ms = 100 }
steps = [ { serve = "till", service_time = { distribution = "constant", mean_ms = 10 } }, { respond = true } ]
"""


@pytest.fixture
def unsteady(tmp_path):
    path = tmp_path / "unsteady.toml"
    path.write_text(UNSTEADY)
    return load_scenario(str(path))


def test_a_hosts_speed_varies_as_declared_and_alike_in_both_engines(unsteady):
    took_s = [simulate(unsteady, engine=engine).recording.responded_s for engine in ("plain", "compiled")]
    assert np.array_equal(*took_s, equal_nan=True)
    factors = (took_s[0] - np.arange(1, len(took_s[0]) + 1) * 0.1) / 0.010
    factors = factors[np.isfinite(factors)]
    assert len(factors) > 19_000
    assert factors.mean() == pytest.approx(1.0, abs=0.05)  # 4,000 draws: four standard errors are 0.03
    assert factors.std() == pytest.approx(0.5, rel=0.15)
    ahead = [float(np.corrcoef(factors[:-lag], factors[lag:])[0, 1]) for lag in (5, 10)]
    assert ahead == pytest.approx([np.exp(-1), np.exp(-2)], abs=0.08)  # half a second and a second of half a second's mean
    assert not np.array_equal(took_s[0], simulate(unsteady, seed=2).recording.responded_s, equal_nan=True)


@pytest.mark.parametrize("engine", ["plain", "compiled"])
def test_a_slow_server_of_an_unsteady_host_is_slow_by_both_factors(unsteady, engine):
    slow = Fault("slow_server", 10, "till", 0, 0, 20, speed=0.5)
    asked_s = np.arange(1, 1001) * 0.1
    alone_s, both_s = (
        simulate(replace(unsteady, faults=faults), engine=engine).recording.responded_s[:1000] - asked_s for faults in ((), (slow,))
    )
    ratios = both_s / alone_s
    meanwhile = (asked_s > 10.1) & (asked_s < 29.9)
    assert np.median(ratios[meanwhile]) == pytest.approx(2.0)
    assert np.mean(np.isclose(ratios[meanwhile], 2.0)) > 0.9  # the others saw the host change
    assert ratios[(asked_s < 9.9) | (asked_s > 30.1)] == pytest.approx(1.0)


@pytest.mark.parametrize(("factor", "problem"), [("cv = 0.5", "holds_s"), ("holds_s = 1", "cv"), ("cv = 0, holds_s = 1", "above 0")])
def test_how_much_and_how_long_belong_together(unsteady, tmp_path, factor, problem):
    (tmp_path / "half.toml").write_text(UNSTEADY.replace("cv = 0.5, holds_ms = 500", factor))
    with pytest.raises(ScenarioError, match=problem):
        load_scenario(str(tmp_path / "half.toml"))


def test_a_speed_may_vary_for_moments_and_for_long_at_once(unsteady):
    """The variance is that of the product, and after a time that is long for the one and short for the other, only the other's is left."""
    assert unsteady.declared is not None
    network = unsteady.declared.network
    hosts = (replace(network.hosts[0], speed_varies=((0.3, 0.2), (0.3, 20.0))),)
    both = replace(unsteady, declared=replace(unsteady.declared, network=replace(network, hosts=hosts)))
    took_s = [simulate(both, engine=engine).recording.responded_s for engine in ("plain", "compiled")]
    assert np.array_equal(*took_s, equal_nan=True)
    logs = np.log((took_s[0] - np.arange(1, len(took_s[0]) + 1) * 0.1) / 0.010)
    logs = logs[np.isfinite(logs)] - np.nanmean(logs)
    variance = np.log1p(0.3**2)
    assert np.var(logs) == pytest.approx(2 * variance, rel=0.25)
    assert np.mean(logs[:-20] * logs[20:]) == pytest.approx(variance * np.exp(-2 / 20), rel=0.35)  # two seconds later


# A request every ten seconds, of a second.
GROWING = """
question = "?"
[run]
duration_s = 100
warmup_s = 0
[network.stations.broker]
growth_per_1k = 100
[network.operations."log.write"]
interarrival = { distribution = "constant", mean_s = 10 }
steps = [ { serve = "broker", service_time = { distribution = "constant", mean_s = 1 } }, { respond = true } ]
"""


@pytest.mark.parametrize("engine", ["plain", "compiled"])
@pytest.mark.parametrize("warmup_s", [0, 35])
def test_work_that_grows_takes_longer_after_each_visit(tmp_path, engine, warmup_s):
    path = tmp_path / "growing.toml"
    path.write_text(GROWING.replace("warmup_s = 0", f"warmup_s = {warmup_s}"))
    record = simulate(load_scenario(str(path)), engine=engine).recording
    took_s = (record.responded_s - record.arrived_s)[:8]
    assert took_s == pytest.approx([1 + 0.1 * before for before in range(8)])
    path.write_text(GROWING.replace("growth_per_1k = 100", "growth_per_1k = -1"))
    with pytest.raises(ScenarioError, match="growth_per_1k"):
        load_scenario(str(path))


@pytest.mark.parametrize("cores", [1, 2])
def test_others_take_a_core_for_the_declared_share_and_time_and_alike_in_both_engines(tmp_path, cores):
    """Work that always fills all cores gets the rest of them."""
    path = tmp_path / "away.toml"
    text = UNSTEADY.replace("cores = 10\nspeed_varies = [{ cv = 0.5, holds_ms = 500 }]", f"cores = {cores}\naway_ratio = 0.2\naway_ms = 20")
    text = text.replace("servers = 10", f"servers = {cores}").replace("interarrival", "# ").replace("mean_ms = 10 }", "mean_s = 1 }")
    path.write_text(text.replace("steps = [", "arrivals = { rate_per_s = 4 }\nsteps = ["))
    away = load_scenario(str(path))
    records = [simulate(away, engine=engine).recording for engine in ("plain", "compiled")]
    assert np.array_equal(records[0].responded_s, records[1].responded_s, equal_nan=True)
    busy_s = records[0].hosts[0]["busy_area"]
    window_s = records[0].end_s - records[0].warmup_s
    assert busy_s / window_s == pytest.approx(cores - 0.2, abs=0.03)
    for keys, problem in (
        ("away_ratio = 0.2", "belong together"), ("away_ms = 20", "belong together"), ("away_ratio = 1\naway_ms = 20", "less than 1"),
    ):  # fmt: skip
        path.write_text(UNSTEADY.replace("speed_varies = [{ cv = 0.5, holds_ms = 500 }]", keys))
        with pytest.raises(ScenarioError, match=problem):
            load_scenario(str(path))


@pytest.mark.parametrize("engine", ["plain", "compiled"])
def test_a_course_that_was_seen_takes_the_place_of_draws_and_keeps_faults(unsteady, engine):
    slow = replace(unsteady, faults=(Fault("slow_server", 50, "till", 0, 0, 20, speed=0.5),))
    network = build_network(slow)
    env = make_environment(engine)
    runner = engine_for(engine, lower(network, 1), env)
    plan = schedule(slow, network, None, 1)
    runner.arrive(plan.gap_s, plan.operation, plan.attributes)
    start(slow, network, env, runner, 1, course=((0.0, 1.0), (10.05, 3.0), (30.05, 1.5)))
    env.run(until=101.0)
    record = runner.record()
    took_s = (record.responded_s - record.arrived_s)[:1000]
    for from_s, to_s, factor in ((0, 10, 1.0), (10.1, 30, 3.0), (30.1, 50, 1.5), (50.1, 70, 3.0), (70.1, 99, 1.5)):
        among = (record.arrived_s[:1000] > from_s) & (record.arrived_s[:1000] < to_s - 0.05)
        assert took_s[among] == pytest.approx(0.010 * factor)


@pytest.mark.parametrize("engine", ["plain", "compiled"])
def test_where_a_course_is_infinite_the_cores_are_away(unsteady, engine):
    network = build_network(unsteady)
    env = make_environment(engine)
    runner = engine_for(engine, lower(network, 1), env)
    runner.arrive(np.array([1.0]), np.zeros(1, "i4"), np.zeros((1, 0)))
    start(unsteady, network, env, runner, 1, course=((0.0, 1.0), (1.005, math.inf), (1.5, 2.0)))
    env.run(until=3.0)
    assert runner.record().responded_s == pytest.approx([1.505])  # what had begun at one speed ends at that
