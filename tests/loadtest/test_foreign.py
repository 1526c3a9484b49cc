"""A team's own traces: a small application instrumented with the real OpenTelemetry SDK, read as OTLP JSON."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from loadtest import calibrate
from loadtest.otlp_spans import read_spans
from model.simulation import simulate
from scenarios.loader import load_scenario

PAGES = 60


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """A shop: every page asks a database, every third also a service of stock, and sends a mail after the answer."""
    kept = InMemorySpanExporter()
    tracers = {}
    for service in ("shop", "stock"):
        provider = TracerProvider(resource=Resource.create({"service.name": service}))
        provider.add_span_processor(SimpleSpanProcessor(kept))
        tracers[service] = provider.get_tracer("test")

    def page(number: int) -> None:
        with tracers["shop"].start_as_current_span("GET /cart", kind=SpanKind.SERVER):
            time.sleep(0.002)
            with tracers["shop"].start_as_current_span("SELECT", kind=SpanKind.CLIENT, attributes={"db.system": "postgresql"}):
                time.sleep(0.003)
            if number % 3 == 0:
                with (
                    tracers["shop"].start_as_current_span("GET /stock", kind=SpanKind.CLIENT),
                    tracers["stock"].start_as_current_span("GET /stock", kind=SpanKind.SERVER),
                ):
                    time.sleep(0.006)

    with ThreadPoolExecutor(2, thread_name_prefix="shop") as pool:
        list(pool.map(page, range(PAGES)))
    assert threading.active_count() >= 1
    path = tmp_path_factory.mktemp("foreign") / "traces.jsonl"
    spans = kept.get_finished_spans()
    halves = (spans[: len(spans) // 2], spans[len(spans) // 2 :])
    path.write_text("".join(json.dumps(MessageToDict(encode_spans(half))) + "\n" for half in halves))
    return path


def test_spans_of_the_sdk_are_read_with_their_tree(traces):
    spans = read_spans(traces)
    roots = [span for span in spans if span.name == "GET /cart"]
    assert len(roots) == PAGES
    assert {len(root.children) for root in roots} == {1, 2}
    assert all(child.start_s >= root.start_s and child.end_s <= root.end_s for root in roots for child in root.children)
    assert {span.service for span in spans} == {"shop", "stock"}


def test_traces_of_others_become_a_network_that_runs(traces, tmp_path, capsys):
    target, figures = tmp_path / "theirs.toml", tmp_path / "theirs.json"
    assert calibrate.main([str(traces), "--out", str(target), "--json", str(figures)]) == 0
    assert "scenario in" in capsys.readouterr().out
    assert any("postgresql" in what for what in json.loads(figures.read_text()))
    # At a tenth of the load nobody waits, however busy the machine was as the spans were made.
    scenario = load_scenario(str(target), ["run.duration_s=600", "run.warmup_s=0", "run.load_factor=0.1"])
    network = scenario.declared.network
    assert network.names("operations") == ("shop.get_cart",)
    assert set(network.names("stations")) == {"shop", "postgresql", "stock"}
    results = simulate(scenario, engine="plain")
    assert results.audit["conserved"]
    took_s = [span.took_s for span in read_spans(traces) if span.name == "GET /cart"]
    assert results.operation_figures["shop.get_cart"]["latency_s"]["mean"] == pytest.approx(np.mean(took_s), rel=0.1)
    asked = results.station_figures["stock"]["throughput_per_s"] / results.station_figures["postgresql"]["throughput_per_s"]
    assert asked == pytest.approx(1 / 3, abs=0.1)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no spans in it"),
        ("not json\n", ":1: not a line of OTLP JSON traces"),
        ('{"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "x"}]}]}]}\n', ":1: not a line of OTLP JSON traces"),
    ],
)
def test_what_is_no_trace_is_refused_in_one_line(text, says, tmp_path, capsys):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    assert calibrate.main([str(path), "--out", str(tmp_path / "out.toml")]) == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert not (tmp_path / "out.toml").exists()
