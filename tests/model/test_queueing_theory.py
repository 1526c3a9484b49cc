"""Numbers that others computed, then properties that must hold for any input."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import queueing_theory as theory

utilisations = st.floats(0.01, 0.98)
services_s = st.floats(1e-6, 100.0)
servers = st.integers(1, 60)
demands = st.lists(st.floats(0.001, 1.0), min_size=1, max_size=4)


def station(utilisation: float, service_s: float, count: int) -> theory.MMc:
    return theory.MMc(utilisation * count / service_s, service_s, count)


@pytest.mark.parametrize(
    ("count", "utilisation", "waiting", "mean_wait"),
    [
        (4, 0.8, 0.596432, 0.745541),
        (8, 0.9, 0.701533, 0.876916),
        (16, 0.9, 0.591343, 0.369590),
        (100, 0.95, 0.506457, 0.101291),
    ],
)
def test_mmc_as_published(count, utilisation, waiting, mean_wait):
    mmc = station(utilisation, 1.0, count)
    assert mmc.waiting_probability == pytest.approx(waiting, abs=1e-6)
    assert mmc.mean_wait_s == pytest.approx(mean_wait, abs=1e-6)
    assert mmc.mean_sojourn_s == pytest.approx(mean_wait + 1, abs=1e-6)
    assert mmc.mean_queue_length == pytest.approx(mean_wait * utilisation * count, abs=1e-4)


def test_mmc_wait_quantile_as_published():
    mmc = station(0.8, 1.0, 4)
    assert mmc.wait_quantile_s(0.99) == pytest.approx(5.11048, abs=5e-6)
    assert mmc.wait_quantile_s(0.4) == 0.0  # 59.6 % wait


def test_erlang_b_as_published():
    assert theory.erlang_b(8, 10) == pytest.approx(0.121661, abs=1e-6)
    assert theory.erlang_b(8, 0) == 1.0


def test_single_servers_as_published():
    assert theory.md1_mean_wait_s(0.8, 1.0) == pytest.approx(2.0)
    assert theory.mg1_mean_wait_s(0.8, 1.0, cv2=4.0) == pytest.approx(10.0)
    assert theory.ps_mean_sojourn_s(8.0, 0.1) == pytest.approx(0.5)
    assert theory.ps_conditional_sojourn_s(8.0, 0.1, 0.3) == pytest.approx(1.5)


def test_open_against_closed_as_published():
    assert station(0.8, 0.1, 1).mean_sojourn_s == pytest.approx(0.5)
    assert 0.1 + theory.mg1_mean_wait_s(8.0, 0.1, theory.weibull_cv2(2.0)) == pytest.approx(0.35465, abs=5e-6)
    assert theory.closed_network([0.1], users=10, think_s=1.145).response_s == pytest.approx(0.24196, abs=5e-6)


def test_fork_join_as_published():
    assert theory.fork_join_two_mean_s(0.5, 1.0) == pytest.approx(2.875)
    assert theory.fork_join_two_mean_s(0.8, 1.0) == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("utilisation", "sojourn"),
    [(0.5, 1.2657), (0.7, 1.6145), (0.8, 1.9474), (0.9, 2.6141), (0.95, 3.3830), (0.99, 5.4320)],
)
def test_power_of_two_choices_as_published(utilisation, sojourn):
    assert theory.power_of_choices_mean_sojourn_s(utilisation) == pytest.approx(sojourn, abs=5e-5)


@pytest.mark.parametrize(
    ("users", "throughput", "response_s"), [(10, 8.75354, 0.14240), (20, 15.97515, 0.25194), (50, 19.99993, 1.50001)]
)
def test_closed_network_as_published(users, throughput, response_s):
    network = theory.closed_network([0.05, 0.02, 0.03], users, think_s=1.0)
    assert network.throughput_per_s == pytest.approx(throughput, abs=5e-6)
    assert network.response_s == pytest.approx(response_s, abs=5e-6)


def test_tail_at_scale_as_published():
    assert theory.any_slow_probability(0.01, 100) == pytest.approx(0.634, abs=5e-4)
    assert theory.part_quantile(0.99, 100) == pytest.approx(0.9999, abs=1e-6)
    assert theory.any_slow_probability(1.0, 3) == 1.0
    assert theory.any_slow_probability(1.0, 0) == 0.0


def test_two_priority_classes_by_hand():
    # Residual work .6 × 1 s (exponential, ρ = .2 + .4): .6 / .8 = .75 s, then .6 / (.8 × .4) = 1.875 s.
    assert theory.priority_mean_waits_s([0.2, 0.4], [1.0, 1.0]) == pytest.approx([0.75, 1.875])


def test_only_the_overloaded_class_waits_for_ever():
    urgent, rest = theory.priority_mean_waits_s([0.5, 3.0], [1.0, 1.0])
    # The server is never idle: the residual is one mean service time, the urgent wait 1 / (1 − .5).
    assert (urgent, rest) == (pytest.approx(2.0), math.inf)


def mean_value_analysis(demands_s: list[float], users: int, think_s: float) -> tuple[float, list[float]]:
    """Exact MVA as in the textbook, for stations with one server: an independent way to the same numbers."""
    queues = [0.0] * len(demands_s)
    throughput = 0.0
    for n in range(1, users + 1):
        responses = [d * (1 + q) for d, q in zip(demands_s, queues, strict=True)]
        throughput = n / (think_s + sum(responses))
        queues = [throughput * r for r in responses]
    return throughput, queues


@given(demands, st.integers(1, 40), st.floats(0.0, 20.0))
def test_convolution_and_mean_value_analysis_agree(demands_s, users, think_s):
    network = theory.closed_network(demands_s, users, think_s)
    throughput, queues = mean_value_analysis(demands_s, users, think_s)
    assert network.throughput_per_s == pytest.approx(throughput, rel=1e-9)
    assert network.queue_lengths == pytest.approx(queues, rel=1e-8, abs=1e-12)


@given(st.floats(0.01, 1.0), st.integers(1, 8), st.integers(1, 40), st.floats(0.01, 20.0))
def test_closed_multiserver_is_the_birth_and_death_chain(service_s, count, users, think_s):
    # The machine repairman: n users at the station, arrivals (N − n)/Z, departures min(n, c)/S.
    weights = [1.0]
    for n in range(users):
        weights.append(weights[-1] * (users - n) / think_s * service_s / min(n + 1, count))
    chain = np.array(weights) / sum(weights)
    busy = sum(min(n, count) * p for n, p in enumerate(chain))
    network = theory.closed_network([service_s], users, think_s, servers=[count])
    assert network.throughput_per_s == pytest.approx(busy / service_s, rel=1e-9)
    assert network.queue_lengths[0] == pytest.approx(float(np.arange(users + 1) @ chain), rel=1e-8)
    assert network.utilisations_ratio[0] == pytest.approx(busy / count, rel=1e-9)


@given(demands, st.lists(st.integers(1, 5), min_size=4, max_size=4), st.integers(1, 40), st.floats(0.0, 20.0))
def test_closed_network_keeps_its_users(demands_s, counts, users, think_s):
    network = theory.closed_network(demands_s, users, think_s, servers=counts[: len(demands_s)])
    assert sum(network.queue_lengths) + network.throughput_per_s * think_s == pytest.approx(users, rel=1e-8)
    assert sum(network.queue_lengths) == pytest.approx(network.throughput_per_s * network.response_s, rel=1e-6)
    assert max(network.utilisations_ratio) <= 1 + 1e-12


def test_saturated_multiserver_station_keeps_its_digits():
    network = theory.closed_network([1.0, 0.01], users=400, think_s=1.0, servers=[16, 1])
    assert network.throughput_per_s == pytest.approx(16.0, rel=1e-9)


@given(demands, st.integers(1, 40), st.floats(0.0, 20.0))
def test_closed_network_lies_within_the_asymptotic_bounds(demands_s, users, think_s):
    network = theory.closed_network(demands_s, users, think_s)
    bounds = theory.asymptotic_bounds(demands_s, users, think_s)
    slack = 1 + 1e-9
    assert bounds.throughput_min_per_s <= network.throughput_per_s * slack
    assert network.throughput_per_s <= bounds.throughput_max_per_s * slack
    assert bounds.response_min_s <= network.response_s * slack + 1e-9
    assert network.response_s <= bounds.response_max_s * slack + 1e-9


def test_saturation_point_is_where_the_bounds_meet():
    assert theory.asymptotic_bounds([0.05, 0.02, 0.03], users=1, think_s=1.0).saturation_users == pytest.approx(22.0)


@given(utilisations, services_s)
def test_one_server_is_one_server_by_every_formula(utilisation, service_s):
    rate = utilisation / service_s
    wait_s = station(utilisation, service_s, 1).mean_wait_s
    assert wait_s == pytest.approx(utilisation * service_s / (1 - utilisation), rel=1e-9)
    assert theory.mg1_mean_wait_s(rate, service_s, cv2=1.0) == pytest.approx(wait_s, rel=1e-9)
    assert theory.priority_mean_waits_s([rate], [service_s]) == pytest.approx([wait_s], rel=1e-9)
    assert theory.ps_mean_sojourn_s(rate, service_s) == pytest.approx(service_s + wait_s, rel=1e-9)
    one_choice_s = theory.power_of_choices_mean_sojourn_s(utilisation, service_s, choices=1)
    assert one_choice_s == pytest.approx(service_s + wait_s, rel=1e-9)
    assert theory.weibull_cv2(1.0) == pytest.approx(1.0)


@given(st.floats(0.01, 0.9), services_s, servers)
def test_waits_grow_with_load_and_shrink_with_servers(utilisation, service_s, count):
    here = station(utilisation, service_s, count)
    assert station(utilisation + 0.05, service_s, count).mean_wait_s > here.mean_wait_s
    assert theory.MMc(here.arrival_rate_per_s, service_s, count + 1).mean_wait_s < here.mean_wait_s
    assert theory.erlang_b(here.offered_load, count) <= here.waiting_probability
    rate = utilisation / service_s
    assert theory.md1_mean_wait_s(rate, service_s) < theory.mg1_mean_wait_s(rate, service_s, 0.5)


@given(utilisations, servers, st.floats(0.0, 0.999))
def test_wait_quantile_inverts_the_distribution(utilisation, count, quantile):
    mmc = station(utilisation, 1.0, count)
    wait_s = mmc.wait_quantile_s(quantile)
    exceeding = mmc.waiting_probability * math.exp(-(count - mmc.offered_load) * wait_s)
    assert exceeding <= 1 - quantile + 1e-12
    assert wait_s == 0.0 or exceeding == pytest.approx(1 - quantile, rel=1e-9)


@given(st.lists(st.tuples(st.floats(0.001, 0.2), st.floats(0.01, 2.0), st.floats(0.0, 5.0)), min_size=1, max_size=5))
def test_priorities_conserve_work(classes):
    # Kleinrock's conservation law: Σ ρ W is what it would be without priorities.
    shares, means, cv2s = zip(*classes, strict=True)
    loads = [0.9 * s / sum(shares) for s in shares]
    rates = [load / mean for load, mean in zip(loads, means, strict=True)]
    waits = theory.priority_mean_waits_s(rates, means, cv2s)
    residual_s = sum(load * mean * (1 + cv2) / 2 for load, mean, cv2 in zip(loads, means, cv2s, strict=True))
    work = sum(load * wait for load, wait in zip(loads, waits, strict=True))
    assert work == pytest.approx(0.9 * residual_s / 0.1, rel=1e-6)
    assert waits == sorted(waits)


@given(utilisations, st.integers(2, 6))
def test_more_choices_never_wait_longer(utilisation, choices):
    more = theory.power_of_choices_mean_sojourn_s(utilisation, choices=choices + 1)
    assert 1 <= more <= theory.power_of_choices_mean_sojourn_s(utilisation, choices=choices)


def simulated_lru_hit_ratio(popularity: np.ndarray, capacity: int, requests: int, seed: int) -> float:
    asked = np.random.default_rng(seed).choice(len(popularity), size=requests, p=popularity).tolist()
    cache: dict[int, None] = {}
    hits = counted = 0
    for position, item in enumerate(asked):
        hit = item in cache
        cache.pop(item, None)
        cache[item] = None
        if len(cache) > capacity:
            del cache[next(iter(cache))]
        if position >= requests // 4:
            counted += 1
            hits += hit
    return hits / counted


@pytest.mark.parametrize(("exponent", "capacity"), [(0.6, 100), (0.8, 50), (1.0, 200)])
def test_lru_approximation_against_a_simulated_cache(exponent, capacity):
    popularity = theory.zipf_popularity(1000, exponent)
    simulated = simulated_lru_hit_ratio(popularity, capacity, requests=200_000, seed=1)
    assert theory.lru_hit_ratio(popularity, capacity) == pytest.approx(simulated, abs=0.01)


@given(st.integers(2, 200), st.floats(0.0, 1.5), st.data())
def test_lru_hits_more_with_more_room_and_never_more_than_the_best_items(items, exponent, data):
    capacity = data.draw(st.integers(1, items - 1))
    popularity = theory.zipf_popularity(items, exponent)
    ratio = theory.lru_hit_ratio(popularity, capacity)
    assert theory.lru_hit_ratio(popularity, capacity - 1) <= ratio <= theory.lru_hit_ratio(popularity, capacity + 1)
    assert ratio <= popularity[:capacity].sum() + 1e-9
    assert theory.lru_hit_ratio(popularity, items) == 1.0


def test_equally_popular_items_hit_by_their_share():
    assert theory.lru_hit_ratio(np.ones(100), 25) == pytest.approx(0.25)


def test_ttl_cache_by_hand():
    assert theory.ttl_hit_ratio([2.0], 1.5) == pytest.approx(0.75)
    assert theory.ttl_hit_ratio([2.0], 1.5, renewed_by_hits=True) == pytest.approx(1 - math.exp(-3))
    assert theory.ttl_hit_ratio([1.0, 3.0], 1.0) == pytest.approx((1 * 0.5 + 3 * 0.75) / 4)
    assert theory.ttl_hit_ratio([1.0, 3.0], 0.0) == 0.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.MMc(5.0, 1.0, 4), "unstable: 5 Erlang offered to 4"),
        (lambda: theory.MMc(-1.0, 1.0, 4), "arrival rate"),
        (lambda: theory.MMc(1.0, 0.0, 4), "mean service time"),
        (lambda: theory.MMc(math.nan, 1.0, 4), "arrival rate"),
        (lambda: theory.erlang_c(1.0, 0), "at least one server"),
        (lambda: theory.erlang_b(-1.0, 2), "offered load"),
        (lambda: station(0.5, 1.0, 1).wait_quantile_s(1.0), "quantile"),
        (lambda: theory.mg1_mean_wait_s(1.0, 1.0, 1.0), "unstable"),
        (lambda: theory.mg1_mean_wait_s(0.5, 1.0, -1.0), "cv2"),
        (lambda: theory.weibull_cv2(0.0), "shape"),
        (lambda: theory.ps_conditional_sojourn_s(0.5, 1.0, -1.0), "service time"),
        (lambda: theory.priority_mean_waits_s([], []), "at least one priority class"),
        (lambda: theory.priority_mean_waits_s([0.1], [1.0, 2.0]), "per class"),
        (lambda: theory.fork_join_two_mean_s(1.0, 1.0), "unstable"),
        (lambda: theory.power_of_choices_mean_sojourn_s(1.0), "unstable"),
        (lambda: theory.power_of_choices_mean_sojourn_s(0.5, choices=0), "choice"),
        (lambda: theory.closed_network([], 1), "station"),
        (lambda: theory.closed_network([0.1], 0), "at least one user"),
        (lambda: theory.closed_network([0.1], 1, servers=[1, 2]), "numbers of servers"),
        (lambda: theory.closed_network([0.0], 1), "demands"),
        (lambda: theory.asymptotic_bounds([0.1], 1, think_s=-1.0), "think time"),
        (lambda: theory.zipf_popularity(0, 1.0), "item"),
        (lambda: theory.lru_hit_ratio([0.5, -0.5], 1), "popularity"),
        (lambda: theory.lru_hit_ratio([0.5, 0.5], -1), "capacity"),
        (lambda: theory.ttl_hit_ratio([1.0], -1.0), "TTL"),
        (lambda: theory.any_slow_probability(1.5, 2), "probability"),
        (lambda: theory.part_quantile(0.5, 0), "fan-out"),
    ],
)
def test_what_has_no_answer_says_why(call, message):
    with pytest.raises(ValueError, match=message):
        call()
