"""Figures of a run: latencies from raw samples, stations, topics, objectives and the audit. The warm-up is left out.

A request counts when it was *answered* in the window from the end of the warm-up to the end of the run. Percentiles are
linear interpolations between raw samples. `Results.document` is the one JSON form; its shape is public.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from model.engines.order import OK, REJECTED, TIMED_OUT
from model.part import Floats
from model.recording import Recording
from model.scenario import Scenario

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
LATENCY = ("mean", *QUANTILES, "max")
AT_LEAST = (".throughput_per_s", ".hit_ratio")  # objectives that more is better for
GROWTH_RATIO = 0.02  # of a window's arrivals: more than this left over at its end is a trend, not a fluctuation
GROWTH_LEAST = 50  # requests or events: fewer prove nothing


def summarize(values_s: Floats, weights: Floats | None = None) -> dict[str, float | None]:
    """Mean, percentiles and maximum of raw samples in seconds; None where there is no sample.

    With `weights` (followers per batch) a sample counts that many times.
    """
    if len(values_s) == 0:
        return dict.fromkeys(LATENCY)
    if weights is None or np.all(weights == 1.0):
        quantiles = np.quantile(values_s, list(QUANTILES.values()))
        mean = float(np.mean(values_s))
    else:
        order = np.argsort(values_s, kind="stable")
        reached = np.cumsum(weights[order])
        places = np.searchsorted(reached, np.array(list(QUANTILES.values())) * reached[-1])
        quantiles = values_s[order][np.minimum(places, len(values_s) - 1)]
        mean = float(np.average(values_s, weights=weights))
    named = dict(zip(QUANTILES, quantiles.tolist(), strict=True))
    return {"mean": mean, **named, "max": float(np.max(values_s))}


@dataclass(frozen=True)
class Results:
    """The figures of one run of one scenario."""

    scenario: Scenario
    recording: Recording
    seed: int

    @property
    def window_s(self) -> float:
        """The length of the window that the figures cover."""
        return self.recording.end_s - self.recording.warmup_s

    @cached_property
    def _answered(self) -> np.ndarray:
        record = self.recording
        return record.responded_s >= record.warmup_s

    def latencies_s(self, operation: str) -> Floats:
        """Raw latencies of an operation's requests that were answered well in the window, in order of arrival."""
        record = self.recording
        number = record.tables.network.names("operations").index(operation)
        chosen = self._answered & (record.operation == number) & (record.outcome == OK)
        return np.asarray(record.responded_s[chosen] - record.arrived_s[chosen])

    def milestone_samples(self, milestone: str) -> tuple[Floats, Floats]:
        """Raw times in seconds and weights of a milestone reached in the window."""
        took_s, reached_s, weights = self.milestone_times(milestone)
        inside = reached_s >= self.recording.warmup_s
        return took_s[inside], weights[inside]

    def milestone_times(self, milestone: str) -> tuple[Floats, Floats, Floats]:
        """How long a milestone took, when it was reached, and its weights, the warm-up's included."""
        record = self.recording
        network = record.tables.network
        marks = record.marks[record.marks["milestone"] == record.tables.milestones.index(milestone)]
        since = {item.name: item.since for item in network.milestones}.get(milestone, "arrival")
        start_s = record.arrived_s[marks["request"]]
        if since == "answer":
            answered_s = record.responded_s[marks["request"]]
            start_s = np.where(answered_s <= marks["time_s"], answered_s, start_s)
        return marks["time_s"] - start_s, marks["time_s"], marks["weight"].astype(float)

    @cached_property
    def operation_figures(self) -> dict[str, dict[str, Any]]:
        """Per operation: answers, rate, refusals, and latency of those answered well."""
        record, figures = self.recording, {}
        for number, name in enumerate(record.tables.network.names("operations")):
            chosen = self._answered & (record.operation == number)
            latencies_s = self.latencies_s(name)
            figures[name] = {
                "count": len(latencies_s),
                "throughput_per_s": len(latencies_s) / self.window_s,
                "rejected": int(np.sum(record.outcome[chosen] == REJECTED)),
                "timed_out": int(np.sum(record.outcome[chosen] == TIMED_OUT)),
                "latency_s": summarize(latencies_s),
            }
        return figures

    @cached_property
    def milestone_figures(self) -> dict[str, dict[str, Any]]:
        """Per milestone, the same; `weight` is what its samples stand for (followers), and percentiles are weighted by it."""
        figures = {}
        for name in self.recording.tables.milestones:
            values_s, weights = self.milestone_samples(name)
            figures[name] = {
                "count": len(values_s),
                "weight": float(np.sum(weights)),
                "throughput_per_s": len(values_s) / self.window_s,
                "rejected": 0,
                "timed_out": 0,
                "latency_s": summarize(values_s, weights),
            }
        return figures

    @cached_property
    def station_figures(self) -> dict[str, dict[str, Any]]:
        """Per station, and per consumer group that has a name of its own (its queue is the lag of its topic)."""
        record, window_s = self.recording, self.window_s
        network, figures = record.tables.network, {}
        for station, row in zip(network.stations, record.stations, strict=True):
            # Whether they wait is counted for sharers as they come, for others as their service begins.
            sharing = station.discipline == "processor_sharing"
            asked = row["arrived"] - row["rejected"] if sharing else row["waits"]
            figures[station.name] = {
                "servers": int(row["servers"]),
                "utilisation": _ratio(row["busy_area"], row["capacity_area"]),
                "mean_queue": _ratio(row["queue_area"], window_s),
                "mean_wait_s": _ratio(row["wait_s"], row["waits"]),
                "wait_probability": _ratio(row["waited"], asked),
                "throughput_per_s": _ratio(row["completed"], window_s),
                "rejected": int(row["rejected"]),
            }
        for topic, row in zip(network.topics, record.topics, strict=True):
            if topic.workers is not None:
                figures[topic.workers] = {
                    "servers": int(row["consumers"]),
                    "utilisation": _ratio(row["busy_area"], row["consumers"] * window_s),
                    "mean_queue": _ratio(row["lag_area"], window_s),
                    "mean_wait_s": _ratio(row["wait_s"], row["batch_events"]),
                    "wait_probability": None,
                    "throughput_per_s": _ratio(row["batches"], window_s),
                    "rejected": 0,
                }
        return figures

    @cached_property
    def host_figures(self) -> dict[str, dict[str, Any]]:
        """Per host: how busy its cores were, how many processes waited for one, and how often processes woke and were pre-empted."""
        record, window_s = self.recording, self.window_s
        return {
            host.name: {
                "cores": int(row["cores"]),
                "utilisation": _ratio(row["busy_area"], row["cores"] * window_s),
                "mean_queue": _ratio(row["queue_area"], window_s),
                "woken_per_s": _ratio(row["woken"], window_s),
                "preempted_per_s": _ratio(row["preempted"], window_s),
            }
            for host, row in zip(record.tables.network.hosts, record.hosts, strict=True)
        }

    @cached_property
    def topic_figures(self) -> dict[str, dict[str, Any]]:
        """Per topic: what went through it, and how far behind its consumers were."""
        record, window_s = self.recording, self.window_s
        return {
            topic.name: {
                "published": int(row["published"]),
                "consumed": int(row["consumed"]),
                "redelivered": int(row["redelivered"]),
                "duplicates_applied": int(row["duplicates_applied"]),
                "lost": int(row["backlog_start"] + row["published"] - row["consumed"] - row["backlog_end"]),
                "max_lag": int(row["max_lag"]),
                "mean_batch": _ratio(row["batch_events"], row["batches"]),
                "mean_lag": _ratio(row["lag_area"], window_s),
                "utilisation": _ratio(row["busy_area"], row["consumers"] * window_s),
            }
            for topic, row in zip(record.tables.network.topics, record.topics, strict=True)
        }

    @cached_property
    def cache_figures(self) -> dict[str, dict[str, Any]]:
        """Per cache: lookups that found their entry, that did not, and that waited for another one's miss."""
        return {
            cache.name: {
                **{name: int(row[name]) for name in ("hits", "misses", "waits")},
                "hit_ratio": _ratio(row["hits"], row["hits"] + row["misses"] + row["waits"]),
            }
            for cache, row in zip(self.recording.tables.network.caches, self.recording.caches, strict=True)
        }

    @cached_property
    def audit(self) -> dict[str, Any]:
        """Little's law at every station (L by state against the visits' own sojourns), and conservation everywhere."""
        stations, topics = self.recording.stations, self.recording.topics
        area = stations["busy_area"] + stations["queue_area"]
        errors = np.abs(area - stations["sojourn_s"]) / np.maximum(area, 1e-300)
        came = stations["present_start"] + stations["arrived"]
        went = stations["completed"] + stations["rejected"] + stations["withdrawn"] + stations["present_end"]
        kept = topics["backlog_start"] + topics["published"] == topics["consumed"] + topics["backlog_end"]
        return {
            "littles_law_max_error_ratio": float(np.max(errors[area > 0], initial=0.0)),
            "conserved": bool(np.all(came == went) and np.all(kept)),
        }

    @cached_property
    def stationarity(self) -> str:
        """`overloaded` where a queue grows at full utilisation, `backlogged` where one is longer at the end, else `stable`."""
        verdict = "stable"
        stations, topics = self.recording.stations, self.recording.topics
        busy = np.concatenate(
            [
                stations["busy_area"] / np.maximum(stations["capacity_area"], 1e-300),
                topics["busy_area"] / np.maximum(topics["consumers"] * self.window_s, 1e-300),
            ]
        )
        grown = np.concatenate(
            [stations["present_end"] - stations["present_start"], topics["backlog_end"] - topics["backlog_start"]]
        )
        came = np.concatenate([stations["arrived"], topics["published"]])
        for utilisation, growth, arrived in zip(busy, grown, came, strict=True):
            if growth > max(GROWTH_LEAST, GROWTH_RATIO * arrived):
                if utilisation > 0.98:
                    return "overloaded"
                verdict = "backlogged"
        return verdict

    @cached_property
    def slo(self) -> list[dict[str, Any]]:
        """Every objective with its value; met if at most the target (throughput and hit ratios: at least)."""
        verdicts = []
        for name, target in self.scenario.slo.items():
            value = self.figure(name)
            at_least = name.endswith(AT_LEAST)
            met = value is not None and (value >= target if at_least else value <= target)
            verdicts.append({"name": name, "target": target, "value": value, "met": bool(met)})
        return verdicts

    def figure(self, name: str) -> float | None:
        """A figure by the name objectives use: "feed.open.p99_s", "stations.api.utilisation", "topics.fanout.max_lag"."""
        subject, _, what = name.rpartition(".")
        kind, _, part = subject.partition(".")
        parts = {"stations": self.station_figures, "topics": self.topic_figures, "caches": self.cache_figures}
        if kind in parts and subject not in self.operation_figures:
            return _number(parts[kind].get(part, {}).get(what))  # None: a setting may have left it out of the network
        figures = (self.operation_figures | self.milestone_figures)[subject]
        if what == "throughput_per_s":
            return _number(figures[what])
        if what in ("rejected_ratio", "timed_out_ratio"):
            asked = figures["count"] + figures["rejected"] + figures["timed_out"]
            return _ratio(figures[what.removesuffix("_ratio")], asked)
        return _number(figures["latency_s"][what.removesuffix("_s")])

    def document(self) -> dict[str, Any]:
        """Everything as one JSON document (the shape is described in scenarios/README.md). No NaN: null instead."""
        return {
            "scenario": self.scenario.name,
            "seed": self.seed,
            "engine": self.recording.engine,
            "duration_s": self.recording.end_s,
            "operations": self.operation_figures,
            "milestones": self.milestone_figures,
            "stations": self.station_figures,
            "topics": self.topic_figures,
            "hosts": self.host_figures,
            "caches": self.cache_figures,
            "audit": self.audit,
            "stationarity": self.stationarity,
            "slo": self.slo,
        }

    @property
    def operations(self) -> pd.DataFrame:
        """One row per operation, latencies in seconds."""
        return _frame(self.operation_figures)

    @property
    def milestones(self) -> pd.DataFrame:
        """One row per milestone, times in seconds."""
        return _frame(self.milestone_figures)

    @property
    def stations(self) -> pd.DataFrame:
        """One row per station or consumer group."""
        return _frame(self.station_figures)

    @property
    def topics(self) -> pd.DataFrame:
        """One row per topic."""
        return _frame(self.topic_figures)


def _ratio(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole > 0 else None


def _number(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _frame(figures: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    rows = {}
    for name, row in figures.items():
        flat = {key: value for key, value in row.items() if key != "latency_s"}
        rows[name] = flat | {f"{key}_s": value for key, value in row.get("latency_s", {}).items()}
    frame = pd.DataFrame.from_dict(rows, orient="index")
    frame.index.name = "name"
    return frame
