"""Spans of the running reference: what is recorded, and that it is OTLP."""

import http.server
import json
import threading
import time

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from reference_impl import otlp
from tests.reference_impl.stack import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"


def spans_of(lines):
    """(process, span, attributes) of each span."""
    for line in lines:
        for resource in json.loads(line)["resourceSpans"]:
            process = resource["resource"]["attributes"][0]["value"]["stringValue"]
            for span in resource["scopeSpans"][0]["spans"]:
                yield process, span, {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}


@pytest.fixture(scope="module")
def before(stack):
    """(Epoch seconds, span file → bytes) before these tests: what the tests of other files did is not looked through."""
    return time.time(), {path: path.stat().st_size for path in otlp.files(stack.state_dir)}


@pytest.fixture(scope="module")
def written(stack, before, tmp_path_factory):
    """The OTLP lines after a read and a like were asked for under one trace."""
    target = tmp_path_factory.mktemp("spans") / "spans.otlp.jsonl"
    header = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    post = stack.publish(3)
    for method, path in (("PUT", f"/v1/posts/{post}/like"), ("GET", f"/v1/posts/{post}")):
        assert stack.request(method, path, 5, header).is_success
    eventually(lambda: stack.likes(post) == 1)

    def lines():
        stack.command("spans", "--out", target, "--since", before[0])
        found = list(spans_of(target.read_text().splitlines()))
        traced = {span["name"] for _, span, _ in found if span["traceId"] == TRACE}
        committed = any(
            span["name"] == "interactions" and a.get("flashcrowd.time") == "kafka_commit" for _, span, a in found
        )
        return (
            target.read_text().splitlines()
            if committed and {"interactions.like", "interactions.read"} <= traced
            else None
        )

    return eventually(lines)


def test_stages_are_children_of_their_operation_and_carry_the_callers_trace(written):
    spans = [(span, attributes) for _, span, attributes in spans_of(written) if span["traceId"] == TRACE]
    roots = {span["name"]: span for span, _ in spans if span.get("parentSpanId") == PARENT}
    assert roots.keys() == {"interactions.like", "interactions.read"}

    def stages(operation):
        return [
            (span["name"], a["flashcrowd.time"])
            for span, a in spans
            if span.get("parentSpanId") == roots[operation]["spanId"]
        ]

    assert stages("interactions.like") == [("api", "accept"), ("interactions", "kafka_acknowledgement")]
    assert stages("interactions.read") == [
        ("api", "accept"), ("database", "pool_wait"), ("database", "database_read_post"), ("database", "database_read_post"),
    ]  # fmt: skip
    for span, _ in spans:
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])


def test_batches_say_how_many_events_and_keys_they_had(written):
    batches = {span["spanId"]: a for _, span, a in spans_of(written) if span["name"] == "interaction_workers"}
    assert batches
    assert all(int(a["events"]) >= int(a["keys"]) >= 1 for a in batches.values())
    applied = [
        span for _, span, a in spans_of(written)
        if a.get("flashcrowd.time") == "database_apply_batch" and span["parentSpanId"] in batches
    ]  # fmt: skip
    assert len(applied) >= 1
    assert any(a.get("statement") == "COMMIT;" for _, span, a in spans_of(written) if span["name"] == "database")


def test_lines_are_otlp_requests(written):
    for line in written:
        message = ParseDict(json.loads(line), ExportTraceServiceRequest())  # an unknown field would be an error
        span = message.resource_spans[0].scope_spans[0].spans[0]
        assert span.name
        assert span.end_time_unix_nano >= span.start_time_unix_nano > 0


def test_a_collector_gets_each_span_once(stack, written, before, monkeypatch):
    got = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            got.append((self.path, self.headers["api-key"], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20key")
    server = http.server.HTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
        read = dict(before[1])
        assert otlp.send_new(stack.state_dir, otlp.endpoint(), read) == 0
        first = len(got)
        assert otlp.send_new(stack.state_dir, otlp.endpoint(), read) == 0
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert first >= 3
    assert {(path, key) for path, key, _ in got} == {("/v1/traces", "a key")}
    sent = [(span["spanId"], span["name"]) for _, span, _ in spans_of(body for _, _, body in got)]
    assert len(sent) == len(set(sent))
    assert {"interactions.like", "interactions.read"} <= {name for _, name in sent}
