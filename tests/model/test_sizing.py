import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.bottlenecks import effects
from model.capacity import capacities, saturation_load_factor
from model.queueing_theory import MMc
from model.replications import Replicator
from model.sizing import RISK, Judge, Judgement, Sizer, edges, knee
from model.workers import LocalWorkers, Outcome
from scenarios.loader import load_scenario
from scenarios.offered import loads_of
from tests.desk import desk, desk_file

MEAN = "shop.buy.mean_s"
TWO_STATIONS = """
[run]
duration_s = 60
warmup_s = 6
seed = 1
[network.stations.front]
servers = 3
[network.stations.back]
servers = 20
[network.operations.order]
arrivals = { rate_per_s = 30 }
steps = [
  { serve = "front", service_time = { distribution = "exponential", mean_ms = 70 } },
  { serve = "back", service_time = { distribution = "exponential", mean_ms = 30 } },
  { respond = true },
]
[slo]
"order.mean_ms" = 160
"""


@pytest.fixture
def replicator():
    with LocalWorkers(1) as workers:
        yield Replicator(workers)


@pytest.fixture
def two_stations(tmp_path):
    path = tmp_path / "two.toml"
    path.write_text(TWO_STATIONS)
    return load_scenario(str(path))


def sizer_of(scenario, replicator, most=24):
    return Sizer(Judge(replicator, most), scenario, capacities(scenario, loads_of(scenario, None)))


@given(st.integers(0, 40), st.integers(0, 5), st.integers(0, 40))
def test_edges_are_found_whatever_is_open_between_them(missed_up_to, opens, more):
    met_from, end = missed_up_to + opens + 1, missed_up_to + opens + 1 + more
    asked: list[int] = []

    def test(point: int) -> str:
        asked.append(point)
        return "missed" if point <= missed_up_to else "met" if point >= met_from else "open"

    assert edges(test, 0, end) == (missed_up_to, met_from)
    assert all(0 < point < end for point in asked)
    assert len(asked) <= 2 * math.ceil(math.log2(end + 1)) + 1


class NoisyFigure:
    """Runs tasks at once: the objective's figure of a seed is normal around `mean`."""

    def __init__(self, mean: float, seed: int) -> None:
        self.mean, self.rng = mean, np.random.default_rng(seed)

    def run(self, tasks):
        for number, task in enumerate(tasks):
            yield number, Outcome(task.seed, {}, {MEAN: float(self.rng.normal(self.mean, 0.02))}, None)


def test_a_judge_is_wrong_as_rarely_as_it_says(tmp_path):
    scenario = desk(tmp_path)  # the target is 0.13
    trials, allowed = 400, 400 * RISK + 4 * math.sqrt(400 * RISK)
    slightly_bad = [Judge(Replicator(NoisyFigure(0.1301, seed)))("", scenario).verdict for seed in range(trials)]
    slightly_good = [Judge(Replicator(NoisyFigure(0.1299, seed)))("", scenario).verdict for seed in range(trials)]
    assert slightly_bad.count("met") < allowed and slightly_good.count("missed") < allowed
    assert slightly_bad.count("open") > trials / 2  # too close to call is called so
    clear = Judge(Replicator(NoisyFigure(0.3, 1)))("", scenario)
    assert (clear.verdict, clear.replications) == ("missed", 3)  # and what is clear costs little


@pytest.mark.parametrize(
    ("name", "target_ms", "enough"),
    [
        # M/M/c at 4 Erlang and 100 ms: the mean is 155.4 ms with 5 servers, 114.2 with 6, 104.5 with 7.
        (MEAN, 130.0, 6),
        (MEAN, 108.5, 7),
    ],
)
def test_the_size_is_the_one_that_erlang_c_gives(tmp_path, replicator, name, target_ms, enough):
    assert MMc(40, 0.1, enough).mean_sojourn_s * 1000 < target_ms < MMc(40, 0.1, enough - 1).mean_sojourn_s * 1000
    scenario = desk(tmp_path, duration_s=150, slo={'"shop.buy.mean_ms"': target_ms})
    found = sizer_of(scenario, replicator).one("desk")
    assert (found.servers, found.too_few, found.sure) == ({"desk": enough}, {"desk": enough - 1}, True)


def test_a_size_goes_down_from_too_many_and_needs_no_run_below_the_offered_load(tmp_path, replicator):
    scenario = desk(tmp_path, servers=30, duration_s=100, slo={'"shop.buy.mean_ms"': 5000})
    found = sizer_of(scenario, replicator).one("desk")
    assert (found.servers, found.too_few, found.sure) == ({"desk": 5}, {"desk": 4}, True)


def test_a_boundary_that_noise_hides_is_told_as_a_range(tmp_path, replicator):
    scenario = desk(tmp_path, duration_s=50, slo={'"shop.buy.mean_ms"': 155.4})
    found = sizer_of(scenario, replicator, most=6).one("desk")
    assert (found.servers, found.too_few, found.sure) == ({"desk": 6}, {"desk": 4}, False)


def test_what_servers_can_not_mend_is_said(tmp_path, replicator):
    scenario = desk(tmp_path, duration_s=20, slo={'"shop.buy.mean_ms"': 50})  # less than the service alone
    found = sizer_of(scenario, replicator).one("desk")
    assert found.servers is None
    assert MEAN in found.why and "desk" in found.why


def test_all_parts_together_keep_none_that_could_go(two_stations, replicator):
    sizer = sizer_of(two_stations, replicator)
    found = sizer.all()
    # 2.1 and 0.9 Erlang. The mean of M/M/3 at 2.1 is 105.8 ms, of M/M/4 75.4; M/M/1 at 0.9 300 ms, M/M/2 37.6.
    assert found.servers == {"front": 3, "back": 2}
    assert found.too_few == {"front": 2, "back": 1}
    theory_s = MMc(30, 0.07, 3).mean_sojourn_s + MMc(30, 0.03, 2).mean_sojourn_s
    figure = sizer.at(found.servers).figures["order.mean_s"]
    assert figure.mean == pytest.approx(theory_s, rel=0.1) and theory_s < 0.16


class ByTheory:
    """Judges the two stations by M/M/c in place of runs."""

    def __init__(self, target_s):
        self.target_s = target_s

    def __call__(self, point, scenario, parts=()):
        front, back = (next(part.servers for part in parts if part.name == name) for name in ("front", "back"))
        if front < 3 or back < 1:
            return Judgement("missed", 0, {}, "overloaded")
        mean_s = MMc(30, 0.07, front).mean_sojourn_s + MMc(30, 0.03, back).mean_sojourn_s
        return Judgement("met" if mean_s <= self.target_s else "missed", 3, {})


@pytest.mark.parametrize(
    ("prices", "servers"),
    [
        (None, {"front": 4, "back": 2}),
        ({"front": 1.0, "back": 0.1}, {"front": 3, "back": 3}),
        ({"front": 0.1, "back": 1.0}, {"front": 4, "back": 2}),
    ],
)
def test_a_dear_server_is_traded_for_a_cheap_one(two_stations, prices, servers):
    # At 140 ms: 3 + 2 take 143 ms; 4 + 2 take 113, 3 + 3 take 137, so both will do, and neither with one less.
    parts = capacities(two_stations, loads_of(two_stations, None))
    assert Sizer(ByTheory(0.14), two_stations, parts, prices).all().servers == servers


def test_the_knee_is_the_load_that_theory_gives(tmp_path, replicator):
    # M/M/1, 30 ms: a mean sojourn of 60 ms is reached at a utilisation of one half, 16.67 per s.
    path = desk_file(tmp_path, servers=1, rate_per_s=20, mean_ms=30, duration_s=150, slo={'"shop.buy.mean_ms"': 60})
    scenario = load_scenario(path)
    saturation = saturation_load_factor(scenario, loads_of(scenario, None))
    assert saturation == pytest.approx(1 / 0.6)
    found = knee(Judge(replicator, 12), scenario, saturation, 100.0, 0.05)
    theory = (0.5 / 0.03) / 20
    assert found.low < theory < found.high < saturation
    assert found.high / found.low < 1.35
    assert found.estimate == pytest.approx(theory, rel=0.1)


def test_knees_beyond_what_is_tried(tmp_path, replicator):
    fast = desk(tmp_path, duration_s=20, slo={'"shop.buy.mean_ms"': 5000})
    near = knee(Judge(replicator, 3), fast, 1.25, 1.1)
    assert (near.low, near.high) == (1.1, math.inf)
    never = knee(Judge(replicator, 3), replace(fast, slo={MEAN: 0.01}), 1.25, 10.0)
    assert never.low == 0 and never.at_low is None
    only_more = knee(Judge(replicator, 3), replace(fast, slo={MEAN: 5.0, "shop.buy.throughput_per_s": 1e6}), 1.25, 1.1)
    assert only_more.low == 1.1  # less load can't help an objective of throughput: it is left out


def test_the_bottleneck_has_the_elasticity(two_stations, replicator):
    parts = capacities(two_stations, loads_of(two_stations, None))
    found = effects(replicator, two_stations, parts, ["order.mean_s"], 5)
    assert {(one.part, one.change) for one in found} == {
        (part, change) for part in ("front", "back") for change in ("one more server", "10 % faster")
    }
    assert found[0].part == "front" and found[0].real and found[0].difference.high < 0
    by_change = {(one.part, one.change): one for one in found}
    assert by_change["back", "one more server"].difference.mean == 0.0 and not by_change["back", "one more server"].real
    # A tenth faster where nobody waits is a tenth of its own service time, whatever the rest does.
    assert by_change["back", "10 % faster"].difference.mean == pytest.approx(-0.003, rel=0.1)
    one_more_s = MMc(30, 0.07, 4).mean_sojourn_s - MMc(30, 0.07, 3).mean_sojourn_s
    assert by_change["front", "one more server"].difference.mean == pytest.approx(one_more_s, rel=0.3)
    with pytest.raises(ValueError, match="no figure"):
        effects(replicator, two_stations, parts, ["order.p98_s"], 2)
