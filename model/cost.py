"""What a run would cost: US dollars per hour and per thousand requests, part by part, from the scenario's price table.

A price list is an excerpt: compute, the store, the CDN. Salaries, support and traffic between zones are not in it.
Every default price carries its source in `scenarios/defaults.toml`; a scenario's `[prices]` go before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.results import Results
from model.scenario import Scenario

HOUR_S = 3600.0
MONTH_HOURS = 730.0
_GIGABYTE = 1e9
_CORE, _BROKER = "core_usd_per_hour", "broker_usd_per_hour"


@dataclass(frozen=True)
class CostLine:
    """One part's cost, and what it is reckoned from."""

    part: str
    basis: str
    usd_per_hour: float


@dataclass(frozen=True)
class Costs:
    """The bill of a run, per hour of what it simulates; `requests_per_s` are those answered."""

    lines: tuple[CostLine, ...]
    requests_per_s: float

    @property
    def usd_per_hour(self) -> float:
        """The whole bill."""
        return math.fsum(line.usd_per_hour for line in self.lines)

    @property
    def usd_per_1k_requests(self) -> float | None:
        """For each thousand answered requests; None without any."""
        return self.usd_per_hour / (self.requests_per_s * HOUR_S / 1000) if self.requests_per_s > 0 else None

    def document(self) -> dict[str, Any]:
        """For JSON."""
        lines = [{"part": one.part, "basis": one.basis, "usd_per_hour": one.usd_per_hour} for one in self.lines]
        return {"usd_per_hour": self.usd_per_hour, "usd_per_1k_requests": self.usd_per_1k_requests, "lines": lines}


def server_usd_per_hour(prices: Mapping[str, float], name: str) -> float:
    """The price of one server of a station or group: its own, `NAME_usd_per_hour`, or a core's."""
    return prices.get(f"{name}_usd_per_hour", prices[_CORE])


def compute_usd_per_hour(scenario: Scenario, servers: Mapping[str, int]) -> float:
    """What these servers and group members cost."""
    return math.fsum(count * server_usd_per_hour(scenario.prices, name) for name, count in servers.items())


def costs_of(results: Results) -> Costs:
    """The bill of a run. Raises `KeyError` for a scenario without prices."""
    scenario, prices = results.scenario, results.scenario.prices
    lines = [_servers(results, name, row) for name, row in results.station_figures.items() if name not in _SERVICES]
    if scenario.declared is None:
        lines.append(CostLine("brokers", f"{prices['brokers']:g} machines", prices["brokers"] * prices[_BROKER]))
        lines += _media(results)
    answered = sum(row["throughput_per_s"] for row in results.operation_figures.values())
    return Costs(tuple(lines), answered)


# Paid by use, not by the server.
_SERVICES = ("object_store", "edge", "edge_shield", "push_provider", "broker_a", "broker_b", "broker_c")


def _servers(results: Results, name: str, row: Mapping[str, Any]) -> CostLine:
    """Servers by the hour; where their number changed, the mean over the window."""
    stations = results.recording.tables.network.names("stations")
    servers = float(row["servers"])
    if name in stations:
        servers = float(results.recording.stations[stations.index(name)]["capacity_area"]) / results.window_s
    price = server_usd_per_hour(results.scenario.prices, name)
    return CostLine(name, f"{servers:.4g} servers", servers * price)


def _media(results: Results) -> list[CostLine]:
    """The store by requests and what a month's uploads would hold, the CDN by requests and bytes."""
    prices, uploads, figures = results.scenario.prices, results.scenario.uploads, results.operation_figures

    def per_hour(name: str) -> float:
        return float(figures[name]["throughput_per_s"]) * HOUR_S

    mean_bytes = (uploads.least_bytes + uploads.most_bytes) / 2
    writes = per_hour("uploads.begin") + per_hour("uploads.part") + per_hour("uploads.complete")
    handled = float(results.station_figures["object_store"]["throughput_per_s"] or 0.0) * HOUR_S
    reads = max(0.0, handled - writes)
    views = per_hour("uploads.view")
    # Little's law for bytes: half a file each, kept until it is aborted.
    left_gb = per_hour("uploads.begin") * uploads.abandoned_ratio * mean_bytes / 2 * uploads.abandoned_kept_s / HOUR_S / _GIGABYTE
    stored_gb = per_hour("uploads.complete") * MONTH_HOURS * mean_bytes / _GIGABYTE  # a month's uploads, kept
    return [
        CostLine("object_store, writes", f"{writes:.3g} per hour", writes / 1000 * prices["store_put_per_1k_usd"]),
        CostLine("object_store, reads", f"{reads:.3g} per hour", reads / 1000 * prices["store_get_per_1k_usd"]),
        CostLine(
            "object_store, kept",
            f"{stored_gb:.3g} GB, a month's uploads",
            stored_gb * prices["store_gb_month_usd"] / MONTH_HOURS,
        ),
        CostLine(
            "object_store, abandoned parts", f"{left_gb:.3g} GB", left_gb * prices["store_gb_month_usd"] / MONTH_HOURS
        ),
        CostLine("cdn, requests", f"{views:.3g} per hour", views / 1000 * prices["cdn_per_1k_requests_usd"]),
        CostLine(
            "cdn, bytes",
            f"{views * mean_bytes / _GIGABYTE:.3g} GB per hour",
            views * mean_bytes / _GIGABYTE * prices["cdn_gb_usd"],
        ),
    ]
