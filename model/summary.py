"""What a planner reads first: the bottleneck, how far behind the run fell and when it had caught up, and what it costs."""

from __future__ import annotations

from typing import Any

from model.backlogs import backlogs
from model.cost import costs_of
from model.results import Results
from model.staleness import after_faults, own_writes


def bottleneck(results: Results) -> dict[str, Any] | None:
    """The busiest station or consumer group; None if the network has neither."""
    known = {name: row for name, row in results.station_figures.items() if row["utilisation"] is not None}
    if not known:
        return None
    name = max(known, key=lambda one: known[one]["utilisation"])
    return {"name": name, "utilisation": known[name]["utilisation"], "mean_queue": known[name]["mean_queue"]}


def told(results: Results) -> dict[str, Any]:
    """The run's document (`Results.document`) and what sums it up."""
    topics = zip(results.recording.tables.network.topics, results.recording.topics, strict=True)
    return {
        **results.document(),
        "bottleneck": bottleneck(results),
        "backlogs": {one.name: one.row() for one in backlogs(results)},
        "left_in_topics": {topic.name: int(row["backlog_end"]) for topic, row in topics},
        "own_writes_missed": own_writes(results),
        "applied_after_faults_s": after_faults(results),
        "cells": results.scenario.population.cells,
        "cost": costs_of(results).document(),
    }
