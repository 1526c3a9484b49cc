"""Figures by the names that objectives use, "feed.open.p99_s" or "stations.api.utilisation", flat: one row of a table of runs."""

from __future__ import annotations

from typing import Any

from model.network import Network
from model.results import LATENCY

_STATION = ("servers", "utilisation", "mean_queue", "mean_wait_s", "wait_probability", "throughput_per_s", "rejected")
_TOPIC = (
    "published",
    "consumed",
    "redelivered",
    "duplicates_applied",
    "lost",
    "max_lag",
    "mean_batch",
    "mean_lag",
    "utilisation",
)


_CACHE = ("hits", "misses", "waits", "hit_ratio")


def figure_names(network: Network) -> list[str]:
    """The figures that every run of a network has, before it is run; `figures_of` gives the same names."""
    times = [f"{statistic}_s" for statistic in LATENCY]
    common = ["count", "throughput_per_s", *times]
    groups = [topic.workers for topic in network.topics if topic.workers is not None]
    subjects = [
        *((name, [*common, "rejected_ratio", "timed_out_ratio"]) for name in network.names("operations")),
        *((name, common) for name in network.milestone_names()),
        *((f"stations.{name}", _STATION) for name in (*network.names("stations"), *groups)),
        *((f"topics.{name}", _TOPIC) for name in network.names("topics")),
        *((f"caches.{name}", _CACHE) for name in network.names("caches")),
    ]
    return [f"{subject}.{what}" for subject, figures in subjects for what in figures]


def figures_of(document: dict[str, Any]) -> dict[str, float | None]:
    """A result's JSON document as figures under the names that objectives use: "feed.open.p99_s", "stations.api.utilisation"."""
    figures: dict[str, float | None] = {}
    for kind in ("operations", "milestones"):
        for name, row in document[kind].items():
            figures[f"{name}.count"] = row["count"]
            figures[f"{name}.throughput_per_s"] = row["throughput_per_s"]
            figures |= {f"{name}.{key}_s": value for key, value in row["latency_s"].items()}
            if kind == "operations":
                asked = row["count"] + row["rejected"] + row["timed_out"]
                for what in ("rejected", "timed_out"):
                    figures[f"{name}.{what}_ratio"] = row[what] / asked if asked else None
    for kind in ("stations", "topics", "caches"):
        for name, row in document[kind].items():
            figures |= {f"{kind}.{name}.{key}": value for key, value in row.items()}
    return figures
