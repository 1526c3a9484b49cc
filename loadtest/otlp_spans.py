"""OTLP JSON lines as spans, whoever wrote them: the reference, or OpenTelemetry's collectors and SDKs.

A line (or a whole file) is an ExportTraceServiceRequest in opentelemetry-proto's JSON mapping. Field names may be in lowerCamelCase
or in the proto's snake_case, 64-bit numbers text or numbers, ids hexadecimal or (protobuf's own JSON) base64: they are only compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Span:
    """One stage; times are epoch seconds. `service` is the resource's `service.name`.

    `stands_for`: of how many as long as it is, it is the one that overlaps no other (`observed_run.alone`).
    """

    service: str
    name: str
    trace: str
    number: str
    parent: str
    start_s: float
    end_s: float
    kind: int
    attributes: dict[str, Any]
    children: list[Span] = field(default_factory=list)
    stands_for: float = 1.0

    @property
    def took_s(self) -> float:
        """Its length."""
        return self.end_s - self.start_s


_KINDS = {"SPAN_KIND_INTERNAL": 1, "SPAN_KIND_SERVER": 2, "SPAN_KIND_CLIENT": 3, "SPAN_KIND_PRODUCER": 4, "SPAN_KIND_CONSUMER": 5}


def _get(table: dict[str, Any], camel: str, snake: str, default: Any = None) -> Any:
    return table.get(camel, table.get(snake, default))


def _attributes(items: list[dict[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in items:
        kind, value = next(iter(item["value"].items()), ("", None))
        if kind in ("intValue", "int_value"):
            value = int(str(value))
        values[item["key"]] = value
    return values


def _spans_of(request: dict[str, Any]) -> Iterator[Span]:
    for resource in _get(request, "resourceSpans", "resource_spans", ()):
        service = str(_attributes(resource.get("resource", {}).get("attributes", [])).get("service.name", ""))
        for scope in _get(resource, "scopeSpans", "scope_spans", ()):
            for span in scope.get("spans", ()):
                kind = span.get("kind", 0)
                yield Span(
                    service,
                    span["name"],
                    _get(span, "traceId", "trace_id"),
                    _get(span, "spanId", "span_id"),
                    _get(span, "parentSpanId", "parent_span_id", ""),
                    float(_get(span, "startTimeUnixNano", "start_time_unix_nano", "")) / 1e9,
                    float(_get(span, "endTimeUnixNano", "end_time_unix_nano", "")) / 1e9,
                    _KINDS.get(kind, 0) if isinstance(kind, str) else int(kind),
                    _attributes(span.get("attributes", [])),
                )


def read_spans(path: Path) -> list[Span]:
    """All spans of a file, each with its children, in order of start. Raises `ValueError`, one line, for what is not OTLP JSON."""
    spans: list[Span] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    spans += _spans_of(json.loads(line))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    what = f"{type(error).__name__} {error}"
                    raise ValueError(f"{path}:{number}: not a line of OTLP JSON traces ({what[:80]})") from None
    spans.sort(key=lambda span: span.start_s)
    by_number = {(span.trace, span.number): span for span in spans}
    for span in spans:
        parent = by_number.get((span.trace, span.parent)) if span.parent else None
        if parent is not None and parent is not span:
            parent.children.append(span)
    return spans
