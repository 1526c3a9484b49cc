"""Figures of many runs for people: with their units, and ± what is not known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from model import platform
from model.figures import figure_names
from model.scenario import Scenario
from model.statistics import Interval
from scenarios.fields import ScenarioError, hint
from scenarios.report import figure

_SHARES = ("utilisation", "_ratio", "wait_probability")


def unit_of(name: str) -> tuple[float, str]:
    """What a figure is multiplied by to be shown, and the unit then: times in ms, shares in percent."""
    if name.endswith("_per_s"):
        return 1.0, "per s"
    if name.endswith("_s"):
        return 1000.0, "ms"
    return (100.0, "%") if name.endswith(_SHARES) else (1.0, "")


def shown(name: str, value: float | None) -> str:
    """A figure's value with its unit."""
    factor, unit = unit_of(name)
    known = value is not None and math.isfinite(value)
    return f"{figure(value * factor if known and value is not None else None)} {unit}".rstrip()


def shown_interval(name: str, found: Interval) -> str:
    """A mean ± half its interval, with the unit."""
    factor, unit = unit_of(name)
    if found.n == 0:
        return "–"
    half = f" ± {figure(found.half_width * factor)}" if found.n > 1 else ""
    return f"{figure(found.mean * factor)}{half} {unit}".rstrip()


def chosen_figures(texts: Sequence[str], scenarios: Iterable[Scenario], default: Sequence[str]) -> list[str]:
    """The figures that `--figures a,b` asks for, or `default`. Raises `ScenarioError` for one that a scenario does not have."""
    asked = [name.strip() for text in texts for name in text.split(",") if name.strip()]
    known: list[str] | None = None
    for scenario in scenarios:
        names = figure_names(platform.build_network(scenario))
        known = names if known is None else [name for name in known if name in set(names)]
    for name in asked:
        if name not in (known or ()):
            raise ScenarioError(f"--figures: no figure {name!r}; {hint(name, known or ())}")
    return list(dict.fromkeys(asked)) or [name for name in dict.fromkeys(default) if name in (known or ())]


def usual_figures(scenario: Scenario) -> list[str]:
    """Objectives, mean and p99 of everything that takes time, and utilisations."""
    network = platform.build_network(scenario)
    groups = [topic.workers for topic in network.topics if topic.workers is not None]
    timed = [*network.names("operations"), *network.milestone_names()]
    return [
        *scenario.slo,
        *(f"{name}.{what}" for name in timed for what in ("mean_s", "p99_s")),
        *(f"stations.{name}.utilisation" for name in (*network.names("stations"), *groups)),
    ]
