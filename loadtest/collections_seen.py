"""Garbage collections of the API that are longer than most requests: how often, how long, and not a second time in what requests cost.

Short ones are part of what a request costs. A long one stops everything that is under way for as long as several requests take, once in
hundreds of requests: told as a part of each, it would be missing where it is felt, in the tail.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.observed_run import Observed, cpu_of
from loadtest.otlp_spans import Span

ROLE = "api"
SERVER = 2
"""The kind of a span that answers a request (OTLP's `SPAN_KIND_SERVER`)."""
LEAST_S = 0.001
"""What counts as long: about what a request costs the API."""


@dataclass(frozen=True)
class Collections:
    """Long collections: their number, mean time, and how many requests came for each."""

    n: int = 0
    pause_s: float = 0.0
    requests_each: float = 0.0


def take_out(runs: Sequence[Observed]) -> Collections:
    """Take long collections out of the CPU of the spans in which they happened; return what they were."""
    pauses_s: list[float] = []
    for run in runs:
        served = [span for span in run.spans if span.kind == SERVER and span.service == ROLE]
        for pause in long_ones(run):
            pauses_s.append(cpu_of(pause))
            for span in [one for one in served if one.start_s <= pause.start_s < one.end_s]:
                span.attributes["cpu_s"] = max(cpu_of(span) - cpu_of(pause), 0.0)
    if not pauses_s:
        return Collections()
    return Collections(len(pauses_s), sum(pauses_s) / len(pauses_s), sum(run.requests for run in runs) / len(pauses_s))


def long_ones(run: Observed) -> list[Span]:
    """The long collections of a run."""
    return [span for span in run.spans if span.name == "gc" and span.service == ROLE and cpu_of(span) >= LEAST_S]
