"""The OpenAPI document, made from the table of operations and the types that the handlers decode and encode."""

from __future__ import annotations

from typing import Any

import msgspec

from reference_impl.operations import DOORS, OPERATIONS, Operation
from reference_impl.web import BIGINT_MAX, KEY_PATTERN, MAX_KEY, Refusal

VERSION = "3.1.0"
REFERENCE = "#/components/schemas/{name}"
DESCRIPTION = """The running platform. Every operation wants a token, which `sessions.open` gives for a name and a password.

Any request may also be answered with 400 (not HTTP), 408 (too slow), 413 (too large) or 431 (headers too large) before
its operation is known. `notifications.stream`, a WebSocket at `/v1/notifications` with the same token, has no place in this
format: the server says `{"type": "ready"}`, then sends notifications; the device answers `{"ack": [id, …]}`."""
ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 0, "maximum": BIGINT_MAX},
}
KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "The same key is the same request: it is done once.",
    "schema": {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": KEY_PATTERN},
}
MEANINGS = {
    302: "found, at the store, for a short time",
    400: "malformed",
    401: "no token, or not one that is good",
    403: "somebody else's",
    404: "not there, or not yours to see",
    409: "the idempotency key is of another request",
    413: "the body is too long",
    422: "understood, but not as it has to be",
    429: "too many requests; see Retry-After",
    503: "a server behind the API does not answer; try again",
}


def document() -> dict[str, Any]:
    """OpenAPI 3.1, as data for JSON."""
    described = [operation for operation in (*OPERATIONS, *DOORS) if operation.method != "WS"]
    types = [kind for operation in described for kind in (operation.body, operation.answer) if kind]
    _, components = msgspec.json.schema_components([*types, Refusal], ref_template=REFERENCE)
    paths: dict[str, dict[str, Any]] = {}
    for operation in described:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": VERSION,
        "info": {"title": "Flashcrowd's reference platform", "version": "1", "description": DESCRIPTION},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


def refusals(operation: Operation) -> list[int]:
    """Every status, other than a success, that the operation's handler may answer with."""
    found = {503, *operation.refusals}
    if not operation.is_open:
        found |= {401, 429}
    if "{id}" in operation.path:
        found.add(404)
    if operation.body:
        found |= {400, 413, 422}
    if operation.needs_key:
        found.add(400)
    if operation.query:
        found.add(422)
    return sorted(found)


def _described(operation: Operation) -> dict[str, Any]:
    summary, _, more = (operation.handler.__doc__ or "").replace("``", "`").partition("\n")
    parameters: list[dict[str, Any]] = [ID] if "{id}" in operation.path else []
    parameters += [
        {"name": parameter.name, "in": "query", "required": parameter.required, "schema": parameter.schema}
        for parameter in operation.query
    ]
    if operation.needs_key:
        parameters.append(KEY)
    success: dict[str, Any] = {"description": MEANINGS.get(operation.status, "done")}
    if operation.answer:
        success["content"] = _json(operation.answer)
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.name.partition(".")[0]],
        "summary": summary,
        "description": more.strip(),
        "parameters": parameters,
        "responses": {str(operation.status): success}
        | {
            str(status): {"description": MEANINGS[status], "content": _json(Refusal)} for status in refusals(operation)
        },
    }
    if operation.body:
        described["requestBody"] = {"required": True, "content": _json(operation.body)}
    if operation.is_open:
        described["security"] = []
    return described


def _json(kind: type[msgspec.Struct]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REFERENCE.format(name=kind.__name__)}}}
