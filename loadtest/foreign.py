"""A network from OTLP traces that are not ours: who does not know Flashcrowd's names gets a station for each service.

- A root span's name is an operation; its arrivals are as many per second as there were, Poisson.
- A span's own time (less its children's) is service at the station of its `service.name`. A client's span without children is service at
  whoever it asks (`db.system`, `peer.service`, `server.address`); one with children is a delay, the network between the two.
- Children follow each other in the order of their typical start, as often as there were, with a probability where they are not always
  there. Children that overlap are told as if they followed each other, with the time that the parent saw.
- What begins after the root has ended comes after the answer.

Own times hold whatever a span waited for inside its service, so that traces of light load are best. A station has as many servers as
spans of it were under way at once at most: say how many there are, where you know.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from loadtest.estimates import Estimate, estimate
from loadtest.observed_run import own_time_s
from loadtest.otlp_spans import Span, read_spans

CLIENT = 3
PEERS = ("db.system.name", "db.system", "peer.service", "messaging.system", "server.address", "net.peer.name")
ALWAYS, NEVER_RATIO = 0.995, 0.005
MOST_REPEATS = 50


@dataclass
class Stage:
    """Spans at one place of an operation's tree, and the stages inside."""

    name: str
    spans: list[Span] = field(default_factory=list)
    inner: dict[tuple[str, str], Stage] = field(default_factory=dict)


def plain(text: str) -> str:
    """A name as scenarios have it."""
    return re.sub(r"[^a-z0-9_]+", "_", text.lower()).strip("_") or "unnamed"


def station_of(span: Span) -> str:
    """Who does the span's own work; empty for a client that waits for a server whose spans are there."""
    if span.kind != CLIENT:
        return plain(span.service or "service")
    if span.children:
        return ""
    peer = next((span.attributes[key] for key in PEERS if span.attributes.get(key)), span.name.split(" ")[0])
    return plain(str(peer))


def _add(stage: Stage, span: Span) -> None:
    stage.spans.append(span)
    for child in span.children:
        key = (child.service, child.name)
        _add(stage.inner.setdefault(key, Stage(child.name)), child)


def _work(span: Span, samples: Sequence[float], said: dict[str, str], what: str) -> list[dict[str, Any]]:
    made: Estimate = estimate(samples)
    if made.mean_s < 1e-6:
        return []
    station = station_of(span)
    said[f"{what} at {station or 'the network'}"] = made.says()
    if not station:
        return [{"delay": made.entry()}]
    return [{"serve": station, "service_time": made.entry()}]


def _steps(stage: Stage, said: dict[str, str], where: str, late: bool | None = None) -> list[dict[str, Any]]:
    """The steps of a stage; with `late` only those inside that begin after the root has ended, or only the others."""
    first = [min((child.start_s for child in span.children), default=span.end_s) for span in stage.spans]
    before = [own_time_s(s, s.start_s, min(at_s, s.end_s)) for s, at_s in zip(stage.spans, first, strict=True)]
    after = [own_time_s(s, min(at_s, s.end_s), s.end_s) for s, at_s in zip(stage.spans, first, strict=True)]
    steps = [] if late else _work(stage.spans[0], before, said, f"{where}: {stage.name}")
    by_span = {id(child): span for span in stage.spans for child in span.children}

    def offset(one: Stage) -> float:
        return float(np.median([child.start_s - by_span[id(child)].start_s for child in one.spans]))

    for inner in sorted(stage.inner.values(), key=offset):
        is_late = all(child.start_s >= by_span[id(child)].end_s for child in inner.spans)
        if late is not None and is_late != late:
            continue
        ratio = len(inner.spans) / len(stage.spans)
        parents = len({id(by_span[id(child)]) for child in inner.spans}) / len(stage.spans)
        if parents < NEVER_RATIO:
            continue
        repeats = min(max(round(ratio / parents), 1), MOST_REPEATS)
        mine = _steps(inner, said, f"{where}: {stage.name}") * repeats
        if parents < ALWAYS:
            mine = [{"branch": [{"probability": round(parents, 4), "steps": mine}]}] if mine else []
        steps += mine
    return steps if late else steps + _work(stage.spans[0], after, said, f"{where}: {stage.name}, then")


def most_at_once(spans: Sequence[Span]) -> int:
    """How many spans were under way at once, at most."""
    edges = sorted([(span.start_s, 1) for span in spans] + [(span.end_s, -1) for span in spans])
    return int(max(np.cumsum([step for _, step in edges]), default=1))


def network_text(paths: Sequence[Path]) -> tuple[str, dict[str, str]]:
    """A scenario with a network of its own, as TOML, and what was measured. Raises `ValueError` if there is no trace."""
    from scenarios.documents import Document
    from scenarios.toml_text import as_toml

    by_file = [read_spans(path) for path in paths]
    spans = [span for found in by_file for span in found]
    children = {id(child) for span in spans for child in span.children}
    roots = [span for span in spans if id(span) not in children]
    if not roots:
        raise ValueError(f"{paths[0]}: no spans in it")
    length_s = sum(max(s.end_s for s in found) - min(s.start_s for s in found) for found in by_file if found)
    trees: dict[str, Stage] = {}
    for root in roots:
        name = f"{plain(root.service or 'service')}.{plain(root.name)}"
        _add(trees.setdefault(name, Stage(root.name)), root)
    said: dict[str, str] = {}
    operations = {}
    for name, tree in sorted(trees.items()):
        steps = [*_steps(tree, said, name, late=False), {"respond": True}, *_steps(tree, said, name, late=True)]
        rate = len(tree.spans) / max(length_s, 1e-3)
        operations[name] = {"arrivals": {"rate_per_s": float(f"{rate:.4g}")}, "steps": steps}
    at: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        if station := station_of(span):
            at[station].append(span)
    stations = {name: {"servers": most_at_once(found)} for name, found in sorted(at.items())}
    document = {
        "question": "What does this system do under more load?",
        "run": {"duration_s": 600, "seed": 1},
        "network": {"stations": stations, "operations": operations},
    }
    about = [
        f"# A network of {len(stations)} stations, from {len(spans):,} spans of {len(roots):,} traces.",
        "# source of all times: own times of the spans; servers: as many as were seen at work at once, an assumption to be replaced.",
    ]
    return "\n".join(about) + "\n\n" + as_toml(Document("foreign", document, {}, {})), said
