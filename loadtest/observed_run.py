"""What one observed run says: CPU of each role from its counters, spans, and which of them overlap no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from loadtest.estimates import Floats
from loadtest.otlp_spans import Span, read_spans

if TYPE_CHECKING:
    from loadtest.traces import Trace

PRODUCER = "api_producer"
"""The threads of the API beside its event loop: they hand records to the log. Told apart where counters know first threads."""
NETWORKED = ("api", PRODUCER, "postgres", "kafka", "interaction_worker", "fanout_worker", "fanout_dispatcher")
"""Roles whose work is in the network; the others are the background."""


@dataclass
class Observed:
    """One trace's window: the share of a core that each role used, idle and busy; how often its threads left one; spans; the probe
    of the host's speed.
    """

    trace: Trace
    window_s: float = 0.0
    busy_ratio: dict[str, float] = field(default_factory=dict)
    idle_ratio: dict[str, float] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    probe_s: float = 0.0
    switches_per_s: dict[str, float] = field(default_factory=dict)
    slow_factor: float = 1.0
    """How many times as long as in the other runs work took: `unsteady.even_out` knows. CPU beyond idleness is divided by it."""

    @property
    def in_bursts(self) -> bool:
        """Whether arrivals came at once, many together."""
        return bool(self.trace.header.get("burst_s"))

    @property
    def cpu_s(self) -> dict[str, float]:
        """CPU seconds of each networked role beyond idleness."""
        return {
            role: max(busy - self.idle_ratio[role], 0.0) * self.window_s / self.slow_factor
            for role, busy in self.busy_ratio.items()
            if role in NETWORKED
        }

    @property
    def background_ratio(self) -> float:
        """Share of a core of what is not asked for: idle networked roles, and all of the others."""
        return sum(
            min(self.idle_ratio[role], busy) if role in NETWORKED else busy for role, busy in self.busy_ratio.items()
        )

    @property
    def requests(self) -> int:
        """How many were asked for in the window."""
        return int((self.trace.rows.intended_s >= self.trace.header["warmup_s"]).sum())

    @property
    def cpu_per_request_s(self) -> float:
        """CPU of all networked processes, beyond idleness, for each request."""
        return sum(self.cpu_s.values()) / max(self.requests, 1)


def observed(trace: Trace, with_spans: bool = True, idle_ratio: dict[str, float] | None = None) -> Observed:
    """Read a trace's counters and spans; `idle_ratio` in place of its own seconds of idleness. Raises `ValueError` if it has none."""
    lines = trace.lines("counters.jsonl")
    start_s = float(trace.header["start_epoch_s"])
    begin_s, end_s = start_s + trace.header["warmup_s"], start_s + trace.duration_s
    if len(lines) < 4:
        raise ValueError(f"{trace.folder}: too few counters")
    at_s = np.array([line["at_s"] for line in lines])

    used = cpu_by_role(lines)
    switches = {role: np.array([line["processes"].get(role, [0.0] * 3)[2] for line in lines]) for role in lines[0]["processes"]}

    def rate(of: Floats, low_s: float, high_s: float) -> float:
        low, high = np.interp([low_s, high_s], at_s, of)
        return float(high - low) / max(high_s - low_s, 1e-9)

    found = Observed(trace, end_s - begin_s)
    idle_from_s, idle_to_s = at_s[0], start_s - 0.15
    for role in used:
        found.busy_ratio[role] = rate(used[role], begin_s, end_s)
        found.idle_ratio[role] = rate(used[role], idle_from_s, idle_to_s)
    found.switches_per_s = {role: rate(of, begin_s, end_s) for role, of in switches.items()}
    found.idle_ratio |= idle_ratio or {}
    inside = (at_s >= begin_s) & (at_s <= end_s)
    found.probe_s = float(np.median([line["probe_s"] for line, one in zip(lines, inside, strict=True) if one]))
    if with_spans:
        spans = read_spans(trace.file("spans.otlp.jsonl"))
        found.spans = [span for span in spans if begin_s <= span.start_s < end_s]
    return found


def cpu_by_role(lines: Sequence[dict[str, Any]]) -> dict[str, Floats]:
    """Role -> the CPU seconds that it had used by each line of counters."""
    used = {role: np.array([line["processes"].get(role, [0.0])[0] for line in lines]) for role in lines[0]["processes"]}
    if len(lines[0]["processes"].get("api", ())) > 3:
        loop = np.array([line["processes"]["api"][3] for line in lines])
        used[PRODUCER], used["api"] = used["api"] - loop, loop
    return used


def pool_idleness(runs: Sequence[Observed]) -> dict[str, float]:
    """Let all runs have the share of a core of each role while nothing is asked of it: their median, since a few seconds tell little."""
    idle_ratio = {role: float(np.median([run.idle_ratio[role] for run in runs])) for role in runs[0].idle_ratio}
    for run in runs:
        run.idle_ratio = idle_ratio
    return idle_ratio


MOST_STANDS_FOR = 10.0
"""Otherwise one rare span would decide."""


def alone(spans: Sequence[Span]) -> list[Span]:
    """Those that overlap no other; `spans` in order of start.

    The longer one is, the seldomer nothing else begins while it lasts: at r starts per second with probability exp(-r t). Each is
    told to stand for as many as that makes it (`Span.stands_for`); without it, distributions would lose their tails.
    """
    latest_s, kept = -np.inf, []
    per_s = (len(spans) - 1) / max(spans[-1].start_s - spans[0].start_s, 1e-9) if len(spans) > 1 else 0.0
    for number, span in enumerate(spans):
        following_s = spans[number + 1].start_s if number + 1 < len(spans) else np.inf
        if span.start_s >= latest_s and following_s >= span.end_s:
            span.stands_for = float(min(np.exp(min(per_s * span.took_s, 50.0)), MOST_STANDS_FOR))
            kept.append(span)
        latest_s = max(latest_s, span.end_s)
    return kept


def own_time_s(span: Span, from_s: float, to_s: float) -> float:
    """How long the span was in none of its children, between two instants."""
    left_s, reached_s = to_s - from_s, from_s
    for child in sorted(span.children, key=lambda child: child.start_s):
        low_s, high_s = max(child.start_s, reached_s), min(child.end_s, to_s)
        if high_s > low_s:
            left_s -= high_s - low_s
            reached_s = high_s
    return max(left_s, 0.0)


def cpu_of(span: Span) -> float:
    """CPU seconds of the span's thread while it lasted."""
    return float(span.attributes.get("cpu_s", 0.0))


def waits_of(span: Span) -> list[Span]:
    """What the span waited for: its children but the acceptance of its request."""
    return [child for child in span.children if child.attributes.get("flashcrowd.time") != "accept"]


def own_parts(span: Span) -> tuple[float, float, float]:
    """Shares of a root's CPU before its first wait, between waits and after the last.

    By wall time outside of the waits, and the thread's time within them: half before what is waited for is handed over, half after.
    """
    waits = [child for child in waits_of(span) if child.attributes.get("flashcrowd.time") != "pool_wait"]
    if not waits:
        return 1.0, 0.0, 0.0
    before_s = max(waits[0].start_s - span.start_s, 0.0) + cpu_of(waits[0]) / 2
    after_s = max(span.end_s - waits[-1].end_s, 0.0) + cpu_of(waits[-1]) / 2
    between_s = sum(
        max(later.start_s - earlier.end_s, 0.0) + (cpu_of(earlier) + cpu_of(later)) / 2 for earlier, later in pairwise(waits)
    )
    total_s = max(before_s + between_s + after_s, 1e-9)
    return before_s / total_s, between_s / total_s, after_s / total_s
