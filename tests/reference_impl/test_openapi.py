"""The OpenAPI document is the API: no route beside it, and schemathesis finds nothing that differs, nor any 5xx."""

import json
import os
import subprocess
import sys

import httpx
import pytest

from reference_impl.app import create_app
from reference_impl.openapi import MEANINGS, document, refusals
from reference_impl.operations import DOORS, OPERATIONS
from reference_impl.settings import Settings

EXAMPLES = "4"  # of each operation, at random; those of the coverage phase, at every limit of every schema, are 500 more
NOT_CHECKED = "positive_data_acceptance"
"""JSON Schema counts 1.0 as an integer, which we do not; and that a cursor has to be one that we gave no schema can say."""

SIGNS_OUT = "sessions.close"
"""It would refuse everything after."""


def test_every_route_is_in_the_document():
    described = {(method.upper(), path) for path, methods in document()["paths"].items() for method in methods}
    routes = {
        (method, route.path)
        for route in create_app(Settings(token_secret="s" * 32)).routes
        for method in (getattr(route, "methods", None) or {"WS"}) - {"HEAD"}
    }
    assert routes - described == {("GET", path) for path in ("/openapi.json", "/healthz", "/metrics")} | {
        ("WS", "/v1/notifications")
    }
    assert described <= routes


def test_every_operation_says_what_it_is_and_how_it_refuses():
    ids = [operation["operationId"] for methods in document()["paths"].values() for operation in methods.values()]
    assert sorted(ids) == sorted(row.name for row in (*OPERATIONS, *DOORS) if row.method != "WS")
    for row in (*OPERATIONS, *DOORS):
        assert row.handler.__doc__
        assert set(refusals(row)) <= set(MEANINGS)
        assert row.is_open == (401 not in refusals(row)) or row in DOORS
    described = document()["paths"]["/v1/posts"]["post"]
    assert described["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/NewPost"}
    assert "security" not in described  # the document's own: a token
    assert document()["paths"]["/v1/sessions"]["post"]["security"] == []


@pytest.mark.slow
def test_schemathesis_finds_no_error_and_no_violation(stack, tmp_path):
    assert httpx.get(stack.state["api_url"] + "/openapi.json").json() == document()
    report = tmp_path / "report.json"
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", stack.state["api_url"] + "/openapi.json",
        "--header", f"Authorization: {stack.bearer(35)['Authorization']}",
        "--phases", "coverage,fuzzing", "--max-examples", EXAMPLES, "--seed", "1", "--no-shrink", "--continue-on-failure",
        "--exclude-checks", NOT_CHECKED, "--exclude-operation-id", SIGNS_OUT,
        "--warnings", "off", "--report", "json", "--report-json-path", str(report),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, env=os.environ | {"NO_COLOR": "1"}
    )
    assert done.returncode == 0, done.stdout[-5_000:] + done.stderr[-1_000:]
    found = json.loads(report.read_text())
    assert found["failures"] == found["errors"] == []
    assert found["operations"]["tested"] == len(OPERATIONS) + len(DOORS) - 2  # all but the WebSocket and the way out
    assert found["test_cases"]["generated"] > 300
