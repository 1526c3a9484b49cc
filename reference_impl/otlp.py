"""Span files as OTLP: JSON lines in a file, and to any collector over OTLP/HTTP (JSON, which every collector takes).

The encoding is that of opentelemetry-proto's JSON mapping: ids in hexadecimal, 64-bit numbers as text.
"""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import structlog

from reference_impl.spans import Batch, Row

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
INTERNAL, SERVER, CONSUMER = 1, 2, 5
SEND_EVERY_S = 1.0
SEND_TIMEOUT_S = 5.0

log = structlog.get_logger()
_decode = msgspec.json.Decoder(Batch).decode


def _value(value: Any) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
    return {"stringValue": str(value)}


def _attributes(values: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _span(row: Row) -> dict[str, Any]:
    name, service_time, trace, number, parent, start_ns, end_ns, cpu_ns, attributes = row
    values = dict(attributes or {})
    if service_time:
        values["flashcrowd.time"] = service_time
    if cpu_ns:
        values["cpu_s"] = cpu_ns / 1e9
    kind = INTERNAL
    if "." in name:
        kind = SERVER
    elif name.endswith(("_workers", "_dispatchers", "indexers")):
        kind = CONSUMER
    return {
        "traceId": trace or f"{number:032x}",
        "spanId": f"{number:016x}",
        **({"parentSpanId": parent} if parent else {}),
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(start_ns),
        "endTimeUnixNano": str(end_ns),
        "attributes": _attributes(values),
    }


def request_of(line: bytes, since_ns: int = 0) -> dict[str, Any]:
    """A line of a span file as an ExportTraceServiceRequest; spans that ended before ``since_ns`` are left out.

    Raises:
        msgspec.DecodeError: it is no such line.
    """
    batch = _decode(line)
    resource = {"service.name": batch.process, "process.pid": batch.pid}
    spans = [_span(row) for row in batch.rows if row[6] >= since_ns]
    scope = {"scope": {"name": "flashcrowd.reference"}, "spans": spans}
    return {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}]}


def files(state_dir: Path) -> list[Path]:
    """The span files of a running reference, older ones first."""
    return sorted([*state_dir.glob("spans-*.older"), *state_dir.glob("spans-*.jsonl")], key=lambda p: p.stat().st_mtime)


def write(state_dir: Path, target: Path, since_ns: int = 0) -> int:
    """All spans that ended since ``since_ns`` as OTLP JSON lines in ``target``; return how many there are."""
    count = 0
    partial = target.with_name(f".{target.name}.partial")
    with partial.open("wb") as output:
        for path in files(state_dir):
            for line in path.read_bytes().splitlines():
                request = request_of(line, since_ns)
                spans = len(request["resourceSpans"][0]["scopeSpans"][0]["spans"])
                if spans:
                    output.write(msgspec.json.encode(request) + b"\n")
                    count += spans
    partial.replace(target)
    return count


def endpoint() -> str:
    """Where to send traces, by OpenTelemetry's own variables; empty: nowhere."""
    if url := os.environ.get(TRACES_ENDPOINT, ""):
        return url
    base = os.environ.get(ENDPOINT, "")
    return base.rstrip("/") + "/v1/traces" if base else ""


def _new_lines(state_dir: Path, read: dict[Path, int]) -> Iterator[bytes]:
    for path in state_dir.glob("spans-*.jsonl"):
        with path.open("rb") as file:
            if read.get(path, 0) > path.stat().st_size:
                read[path] = 0  # begun anew
            file.seek(read.get(path, 0))
            for line in file:
                if not line.endswith(b"\n"):
                    break  # being written
                read[path] = read.get(path, 0) + len(line)
                yield line


def send_new(state_dir: Path, url: str, read: dict[Path, int]) -> int:
    """Send what was written since ``read`` (file → bytes, kept up to date); return how many requests a collector refused."""
    pairs = (pair.split("=", 1) for pair in os.environ.get(HEADERS, "").split(",") if "=" in pair)
    headers = {"Content-Type": "application/json", **{unquote(key).strip(): unquote(value) for key, value in pairs}}
    refused = 0
    for line in _new_lines(state_dir, read):
        body = msgspec.json.encode(request_of(line))
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=SEND_TIMEOUT_S):
                pass
        except (urllib.error.URLError, OSError) as error:
            refused += 1
            log.warning("spans.not_sent", url=url, error=str(error))
    return refused


def export(state_dir: Path) -> None:
    """Send spans to the collector as they are written, for ever; ``up`` starts this where an endpoint is given."""
    url = endpoint()
    read: dict[Path, int] = {}
    log.info("spans.export", url=url)
    while True:
        send_new(state_dir, url, read)
        time.sleep(SEND_EVERY_S)
