"""A small M/M/c of which everything is known, as a scenario file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from model.scenario import Scenario
from scenarios.loader import load_scenario

MEAN = '"shop.buy.mean_ms"'


def desk_file(
    folder: Path,
    *,
    servers: int = 5,
    rate_per_s: float = 40.0,
    mean_ms: float = 100.0,
    duration_s: float = 50.0,
    slo: Mapping[str, float] | None = None,
) -> str:
    """The path of a scenario: Poisson arrivals, exponential service, one station `desk`, one operation `shop.buy`."""
    objectives = "\n".join(f"{name} = {target}" for name, target in ({MEAN: 130.0} if slo is None else slo).items())
    path = folder / "desk.toml"
    path.write_text(f"""
question = "How many clerks?"
[run]
duration_s = {duration_s}
warmup_s = {duration_s / 10}
seed = 1
[network.stations.desk]
servers = {servers}
[network.operations."shop.buy"]
arrivals = {{ rate_per_s = {rate_per_s} }}
steps = [ {{ serve = "desk", service_time = {{ distribution = "exponential", mean_ms = {mean_ms} }} }}, {{ respond = true }} ]
[slo]
{objectives}
""")
    return str(path)


def desk(folder: Path, overrides: tuple[str, ...] = (), **settings: float) -> Scenario:
    """The same, loaded."""
    return load_scenario(desk_file(folder, **settings), overrides)
