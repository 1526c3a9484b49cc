"""What theory knows in closed form, to hold the simulator against.

Pure functions. Times in seconds, rates per second, ratios and probabilities in 0..1. An offered load is in Erlang:
arrival rate × mean service time, the mean number of busy servers. `cv2` is a squared coefficient of variation:
1 exponential, 0 constant.

Every function raises ValueError, with the offending value, for an input that has no answer: a negative time, an
unstable queue.

Sources, by name in the docstrings: Kleinrock, *Queueing Systems* I and II (1975, 1976); Harchol-Balter, *Performance
Modeling and Design of Computer Systems* (2013); Lazowska et al., *Quantitative System Performance* (1984).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def _require(good: bool, what: str) -> None:
    if not good:  # also for NaN, which fails every comparison
        raise ValueError(what)


def _require_rate_and_service(arrival_rate_per_s: float, mean_service_s: float) -> None:
    _require(0 <= arrival_rate_per_s < math.inf, f"arrival rate must be zero or more, got {arrival_rate_per_s}/s")
    _require(0 < mean_service_s < math.inf, f"mean service time must be above zero, got {mean_service_s} s")


def _stable_utilisation(offered_load: float, servers: int) -> float:
    _require(servers >= 1, f"a station has at least one server, got {servers}")
    _require(offered_load >= 0, f"offered load must be zero or more Erlang, got {offered_load}")
    _require(offered_load < servers, f"unstable: {offered_load:g} Erlang offered to {servers} server(s)")
    return offered_load / servers


# --- Open stations, first come first served ---------------------------------------------------------------------------


def erlang_b(offered_load: float, servers: int) -> float:
    """Probability that an arrival finds all servers busy and is lost (M/G/c/c). Erlang 1917, by recursion."""
    _require(servers >= 0, f"servers must be zero or more, got {servers}")
    _require(0 <= offered_load < math.inf, f"offered load must be zero or more Erlang, got {offered_load}")
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered_load * blocked / (n + offered_load * blocked)
    return blocked


def erlang_c(offered_load: float, servers: int) -> float:
    """Probability that an arrival must wait (M/M/c), from Erlang B (Harchol-Balter, ch. 14)."""
    utilisation = _stable_utilisation(offered_load, servers)
    blocked = erlang_b(offered_load, servers)
    return blocked / (1 - utilisation * (1 - blocked))


@dataclass(frozen=True)
class MMc:
    """A station with Poisson arrivals, exponential service and `servers` servers, first come first served."""

    arrival_rate_per_s: float
    mean_service_s: float
    servers: int

    def __post_init__(self) -> None:
        _require_rate_and_service(self.arrival_rate_per_s, self.mean_service_s)
        _stable_utilisation(self.offered_load, self.servers)

    @property
    def offered_load(self) -> float:
        """Mean number of busy servers, in Erlang."""
        return self.arrival_rate_per_s * self.mean_service_s

    @property
    def utilisation_ratio(self) -> float:
        """Busy share of the servers."""
        return self.offered_load / self.servers

    @property
    def waiting_probability(self) -> float:
        """Share of arrivals that wait."""
        return erlang_c(self.offered_load, self.servers)

    @property
    def mean_wait_s(self) -> float:
        """Mean time in the queue over all arrivals, those that do not wait included (Wq)."""
        return self.waiting_probability * self.mean_service_s / (self.servers - self.offered_load)

    @property
    def mean_sojourn_s(self) -> float:
        """Mean time in queue and service."""
        return self.mean_wait_s + self.mean_service_s

    @property
    def mean_queue_length(self) -> float:
        """Mean number waiting, those in service not counted (Lq), by Little's law."""
        return self.arrival_rate_per_s * self.mean_wait_s

    def wait_quantile_s(self, quantile: float) -> float:
        """The wait that the share `quantile` (0 ≤ q < 1) of arrivals does not exceed: P(W > t) = C exp(−(cμ − λ)t)."""
        _require(0 <= quantile < 1, f"quantile must be in 0 <= q < 1, got {quantile}")
        waiting = self.waiting_probability
        if 1 - quantile >= waiting:
            return 0.0
        return math.log(waiting / (1 - quantile)) * self.mean_service_s / (self.servers - self.offered_load)


def mg1_mean_wait_s(arrival_rate_per_s: float, mean_service_s: float, cv2: float) -> float:
    """Mean wait at one server with any service-time distribution (Pollaczek–Khinchine; Kleinrock I, ch. 5)."""
    _require_rate_and_service(arrival_rate_per_s, mean_service_s)
    _require(cv2 >= 0, f"cv2 must be zero or more, got {cv2}")
    utilisation = _stable_utilisation(arrival_rate_per_s * mean_service_s, 1)
    return utilisation / (1 - utilisation) * mean_service_s * (1 + cv2) / 2


def md1_mean_wait_s(arrival_rate_per_s: float, service_s: float) -> float:
    """Mean wait at one server with a constant service time: half of that with an exponential one."""
    return mg1_mean_wait_s(arrival_rate_per_s, service_s, cv2=0.0)


def weibull_cv2(shape: float) -> float:
    """Squared coefficient of variation of a Weibull distribution; shape 1 is exponential."""
    _require(shape > 0, f"Weibull shape must be above zero, got {shape}")
    return math.gamma(1 + 2 / shape) / math.gamma(1 + 1 / shape) ** 2 - 1


# --- Other disciplines ------------------------------------------------------------------------------------------------


def ps_mean_sojourn_s(arrival_rate_per_s: float, mean_service_s: float, servers: int = 1) -> float:
    """Mean sojourn under processor sharing, Poisson arrivals, *any* service distribution (M/G/c-PS).

    Up to `servers` jobs run at full speed; more share them equally. The number present is that of M/M/c whatever the
    distribution (insensitivity; Kelly, *Reversibility and Stochastic Networks*, 1979), so one server gives S / (1 − ρ).
    """
    return MMc(arrival_rate_per_s, mean_service_s, servers).mean_sojourn_s


def ps_conditional_sojourn_s(arrival_rate_per_s: float, mean_service_s: float, service_s: float) -> float:
    """Mean sojourn in M/G/1-PS of a job that needs `service_s` itself: slowed by 1 / (1 − ρ) (Kleinrock II, ch. 4)."""
    _require_rate_and_service(arrival_rate_per_s, mean_service_s)
    _require(service_s >= 0, f"service time must be zero seconds or more, got {service_s}")
    return service_s / (1 - _stable_utilisation(arrival_rate_per_s * mean_service_s, 1))


def priority_mean_waits_s(
    arrival_rates_per_s: Sequence[float], mean_services_s: Sequence[float], cv2s: Sequence[float] | None = None
) -> list[float]:
    """Mean wait of each class at one server that never interrupts a service; class 0 is the most urgent.

    `cv2s` defaults to exponential. A class whose load, together with that of the more urgent ones, reaches 1 waits for
    ever (`inf`); so overload of the least urgent class is an answer here, not an error. Cobham, *Operations Research* 2
    (1954).
    """
    count = len(arrival_rates_per_s)
    variations = [1.0] * count if cv2s is None else list(cv2s)
    _require(count >= 1, "at least one priority class is needed")
    _require(
        len(mean_services_s) == len(variations) == count,
        f"one service time and one cv2 per class: got {count}, {len(mean_services_s)} and {len(variations)}",
    )
    loads, residual_s, spent = [], 0.0, 0.0
    for rate, service_s, cv2 in zip(arrival_rates_per_s, mean_services_s, variations, strict=True):
        _require_rate_and_service(rate, service_s)
        _require(cv2 >= 0, f"cv2 must be zero or more, got {cv2}")
        # The server can spend no more than all of its time: a class past saturation is served with what is left.
        served = min(rate * service_s, 1 - spent)
        spent += served
        loads.append(rate * service_s)
        residual_s += served * service_s * (1 + cv2) / 2
    waits, before = [], 0.0
    for load in loads:
        upto = before + load
        waits.append(residual_s / ((1 - before) * (1 - upto)) if upto < 1 else math.inf)
        before = upto
    return waits


def fork_join_two_mean_s(arrival_rate_per_s: float, mean_service_s: float) -> float:
    """Mean time until both halves of a job are done: two parallel M/M/1 queues, each job forked to both.

    T = (12 − ρ) / 8 × S / (1 − ρ): Flatto and Hahn 1984; Nelson and Tantawi 1988.
    """
    _require_rate_and_service(arrival_rate_per_s, mean_service_s)
    utilisation = _stable_utilisation(arrival_rate_per_s * mean_service_s, 1)
    return (12 - utilisation) / 8 * mean_service_s / (1 - utilisation)


def power_of_choices_mean_sojourn_s(utilisation_ratio: float, mean_service_s: float = 1.0, choices: int = 2) -> float:
    """Mean sojourn with infinitely many servers, each arrival joining the shortest of `choices` queues drawn at random.

    S Σ ρ^((dⁱ − d)/(d − 1)), i ≥ 1; for two choices Σ ρ^(2ⁱ − 2). One choice is M/M/1.
    Vvedenskaya et al. 1996, Mitzenmacher 2001.
    """
    _require(choices >= 1, f"at least one choice is needed, got {choices}")
    _require(mean_service_s > 0, f"mean service time must be above zero seconds, got {mean_service_s}")
    _stable_utilisation(utilisation_ratio, 1)
    if choices == 1:
        return mean_service_s / (1 - utilisation_ratio)
    total, exponent, term = 0.0, 0.0, 1.0  # exponents 0, d, d + d², …
    while term > 1e-17 * (1 + total):
        total += term
        exponent = (exponent + 1) * choices
        term = utilisation_ratio**exponent
    return mean_service_s * total


# --- Closed networks --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClosedNetwork:
    """The steady state of a fixed number of users who think, then visit the stations, then think again."""

    throughput_per_s: float
    response_s: float  # mean, thinking not included
    queue_lengths: tuple[float, ...]  # mean number at each station, those in service included
    utilisations_ratio: tuple[float, ...]  # busy share of each station's servers


def _log_convolve(a: Floats, b: Floats) -> Floats:
    """Convolution of two equally long series given by their logarithms, cut to that length."""
    out = np.empty_like(a)
    for n in range(len(a)):
        terms = a[: n + 1] + b[n::-1]
        largest = terms.max()
        out[n] = largest + math.log(np.exp(terms - largest).sum()) if largest > -math.inf else -math.inf
    return out


def closed_network(
    demands_s: Sequence[float], users: int, think_s: float = 0.0, servers: Sequence[int] | None = None
) -> ClosedNetwork:
    """Exact steady state of a closed product-form network with one class of users.

    `demands_s`: seconds of service that one pass needs at each station; `servers` defaults to one each. The numbers are
    those of exact mean-value analysis (Reiser and Lavenberg 1980). They are computed by Buzen's convolution (1973) on
    logarithms instead, because it never subtracts: load-dependent MVA loses all digits at a saturated station with
    several servers. O(stations² × users²).
    """
    counts = [1] * len(demands_s) if servers is None else list(servers)
    _require(users >= 1, f"a closed network has at least one user, got {users}")
    _require(0 <= think_s < math.inf, f"think time must be zero seconds or more, got {think_s}")
    _require(len(demands_s) >= 1, "at least one station is needed")
    _require(len(counts) == len(demands_s), f"{len(demands_s)} demands but {len(counts)} numbers of servers")
    _require(all(c >= 1 for c in counts), f"a station has at least one server, got {counts}")
    _require(all(0 < d < math.inf for d in demands_s), f"demands must be above zero seconds, got {list(demands_s)}")

    n = np.arange(1, users + 1)
    log_factors = []
    for demand_s, count in zip(demands_s, counts, strict=True):
        log_factors.append(np.concatenate(([0.0], np.cumsum(math.log(demand_s) - np.log(np.minimum(n, count))))))
    nobody = np.concatenate(([0.0], np.full(users, -math.inf)))
    thinking = np.concatenate(([0.0], np.cumsum(math.log(think_s) - np.log(n)))) if think_s > 0 else nobody

    queue_lengths = []
    whole = nobody
    for chosen in range(len(log_factors)):
        others = thinking
        for position, factor in enumerate(log_factors):
            if position != chosen:
                others = _log_convolve(others, factor)
        whole = _log_convolve(others, log_factors[chosen])
        present = np.exp(log_factors[chosen] + others[::-1] - whole[users])  # P(j users at this station)
        queue_lengths.append(float(np.arange(users + 1) @ present))
    throughput = math.exp(whole[users - 1] - whole[users])
    return ClosedNetwork(
        throughput_per_s=throughput,
        response_s=users / throughput - think_s,
        queue_lengths=tuple(queue_lengths),
        utilisations_ratio=tuple(throughput * d / c for d, c in zip(demands_s, counts, strict=True)),
    )


@dataclass(frozen=True)
class AsymptoticBounds:
    """What no closed network with these demands can leave, whatever its distributions (operational analysis)."""

    throughput_max_per_s: float
    throughput_min_per_s: float
    response_min_s: float
    response_max_s: float
    saturation_users: float  # N*: with more users than this the bottleneck must be queued for


def asymptotic_bounds(demands_s: Sequence[float], users: int, think_s: float = 0.0) -> AsymptoticBounds:
    """Bounds for single-server stations from total and largest demand (Lazowska et al., ch. 5)."""
    _require(users >= 1, f"a closed network has at least one user, got {users}")
    _require(0 <= think_s < math.inf, f"think time must be zero seconds or more, got {think_s}")
    _require(len(demands_s) >= 1, "at least one station is needed")
    _require(all(0 < d < math.inf for d in demands_s), f"demands must be above zero seconds, got {list(demands_s)}")
    total_s, largest_s = sum(demands_s), max(demands_s)
    return AsymptoticBounds(
        throughput_max_per_s=min(users / (total_s + think_s), 1 / largest_s),
        throughput_min_per_s=users / (users * total_s + think_s),
        response_min_s=max(total_s, users * largest_s - think_s),
        response_max_s=users * total_s,
        saturation_users=(total_s + think_s) / largest_s,
    )


# --- Caches and fan-out -----------------------------------------------------------------------------------------------


def _require_weights(what: str, weights: Floats) -> None:
    good = weights.ndim == 1 and bool(np.all(weights >= 0)) and 0 < weights.sum() < math.inf
    _require(good, f"{what} must be a list of numbers of zero or more, not all of them zero")


def zipf_popularity(items: int, exponent: float) -> Floats:
    """Shares of requests, most popular first, proportional to rank^−exponent; shape (items,), sum 1."""
    _require(items >= 1, f"at least one item is needed, got {items}")
    _require(0 <= exponent < math.inf, f"Zipf exponent must be zero or more, got {exponent}")
    weights = np.arange(1, items + 1, dtype=np.float64) ** -exponent
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def lru_hit_ratio(popularity: npt.ArrayLike, capacity_items: int) -> float:
    """Hit ratio of an LRU cache by Che's approximation (Che, Tung and Wang 2002), requests independent.

    An item stays for the characteristic time t with Σ (1 − exp(−pᵢ t)) = capacity; it is hit with probability
    1 − exp(−pᵢ t). An approximation: good to about a percent under Zipf for caches of more than some tens of items
    (Fricker et al. 2012).
    """
    shares = np.asarray(popularity, dtype=np.float64)
    _require_weights("popularity shares", shares)
    _require(capacity_items >= 0, f"capacity must be zero items or more, got {capacity_items}")
    shares = shares[shares > 0] / shares.sum()
    if capacity_items >= shares.size:
        return 1.0
    low, high = 0.0, 1.0
    while -np.expm1(-shares * high).sum() < capacity_items:
        low, high = high, 2 * high
    for _ in range(100):  # each halves the interval; floats have no more bits
        middle = (low + high) / 2
        if -np.expm1(-shares * middle).sum() < capacity_items:
            low = middle
        else:
            high = middle
    return float(-(shares * np.expm1(-shares * low)).sum())


def ttl_hit_ratio(rates_per_s: npt.ArrayLike, ttl_s: float, renewed_by_hits: bool = False) -> float:
    """Hit ratio over all requests of a cache that holds each item for `ttl_s`; Poisson requests, a rate per item.

    Counted from the fetch, a miss is followed by λT hits: λT / (1 + λT). Renewed by every hit: 1 − exp(−λT).
    Fofack et al. 2012.
    """
    rates = np.asarray(rates_per_s, dtype=np.float64)
    _require_weights("request rates", rates)
    _require(0 <= ttl_s < math.inf, f"TTL must be zero seconds or more, got {ttl_s}")
    hits = -np.expm1(-rates * ttl_s) if renewed_by_hits else rates * ttl_s / (1 + rates * ttl_s)
    return float((rates * hits).sum() / rates.sum())


def any_slow_probability(slow_probability: float, fan_out: int) -> float:
    """Probability that one of `fan_out` independent parts is slow: 1 − (1 − p)ⁿ (Dean and Barroso 2013)."""
    _require(0 <= slow_probability <= 1, f"a probability is in 0..1, got {slow_probability}")
    _require(fan_out >= 0, f"fan-out must be zero or more, got {fan_out}")
    return 1 - (1 - slow_probability) ** fan_out


def part_quantile(quantile: float, fan_out: int) -> float:
    """The quantile of one part that decides the whole's `quantile` when all `fan_out` parts are waited for: q^(1/n)."""
    _require(0 <= quantile <= 1, f"quantile must be in 0..1, got {quantile}")
    _require(fan_out >= 1, f"fan-out must be one or more, got {fan_out}")
    return float(quantile ** (1 / fan_out))
