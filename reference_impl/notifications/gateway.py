"""A local push provider that answers as Google's and Apple's do: quotas, 429 with Retry-After, dead tokens.

It ends where theirs begin: nothing leaves this machine. Load tests measure against it, and tests ask it (``/local/…``) what
it was given. FCM's quota is one token bucket for a project; Apple publishes none, so its devices share the same one here.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from typing import Any, Literal

import msgspec
import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from reference_impl.settings import Settings
from reference_impl.web import json_response

REMEMBERED = 10_000
"""Messages that can be asked for; older ones are forgotten."""
PAYLOAD_MOST_BYTES = 4096
"""Of either provider."""

answers_total = Counter("flashcrowd_push_gateway_answers", "Answers", ["platform", "status"])


class FcmMessage(msgspec.Struct):
    """What of ``projects.messages.send`` is looked at."""

    token: str
    data: dict[str, str] = {}
    notification: dict[str, str] = {}
    android: dict[str, Any] = {}


class FcmBody(msgspec.Struct):
    """Body of ``projects.messages.send``."""

    message: FcmMessage
    validate_only: bool = False


class Quota(msgspec.Struct):
    """Body of ``PUT /local/quota``."""

    rate_per_s: float
    burst: float


class TokenState(msgspec.Struct):
    """Body of ``PUT /local/tokens/{token}``."""

    state: Literal["alive", "dead"]


class Bucket:
    """A token bucket; ``take`` returns 0 or how long to wait for the next token, in seconds."""

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self.rate_per_s, self.burst = rate_per_s, burst
        self._tokens, self._at = burst, time.monotonic()

    def take(self) -> float:
        """One token."""
        now = time.monotonic()
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate_per_s)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self.rate_per_s


class Gateway:
    """The provider's state."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bucket = Bucket(settings.push_quota_per_s, settings.push_quota_burst)
        self._dead: set[str] = set()
        self._messages: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)

    def routes(self) -> list[Route]:
        """Both providers' and the local ones."""
        return [
            Route("/v1/projects/{project}/messages:send", self.send_fcm, methods=["POST"]),
            Route("/3/device/{token}", self.send_apns, methods=["POST"]),
            Route("/local/quota", self.set_quota, methods=["PUT"]),
            Route("/local/tokens/{token}", self.set_token, methods=["PUT"]),
            Route("/local/messages", self.list_messages),
            Route("/healthz", self.healthy),
            Route("/metrics", _metrics),
        ]

    def _take(self, platform: str, token: str, priority: str, message: dict[str, Any]) -> None:
        self._messages.append(
            {"platform": platform, "token": token, "priority": priority, "taken_at": time.time(), **message}
        )

    async def send_fcm(self, request: Request) -> Response:
        """Firebase Cloud Messaging, HTTP v1."""
        body = await request.body()
        if request.headers.get("authorization") != f"Bearer {self._settings.fcm_access_token}":
            return _fcm_error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR")
        try:
            message = msgspec.json.decode(body, type=FcmBody).message
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _fcm_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
        if len(body) > 2 * PAYLOAD_MOST_BYTES or not message.token:
            return _fcm_error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT")
        if wait_s := self._bucket.take():
            answer = _fcm_error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
            answer.headers["retry-after"] = _retry_after(wait_s)
            return answer
        if message.token in self._dead:
            return _fcm_error(404, "NOT_FOUND", "UNREGISTERED")
        answers_total.labels("fcm", 200).inc()
        text = message.notification.get("body", "")
        self._take("fcm", message.token, str(message.android.get("priority", "NORMAL")), {**message.data, "text": text})
        project = request.path_params["project"]
        return json_response({"name": f"projects/{project}/messages/{uuid.uuid4()}"})

    async def send_apns(self, request: Request) -> Response:
        """Apple push notification service."""
        headers, body, token = request.headers, await request.body(), request.path_params["token"]
        if headers.get("authorization") != f"bearer {self._settings.apns_provider_token}":
            return _apns_error(403, "InvalidProviderToken")
        if not headers.get("apns-topic"):
            return _apns_error(400, "MissingTopic")
        if headers.get("apns-priority", "10") not in ("1", "5", "10"):
            return _apns_error(400, "BadPriority")
        if len(body) > PAYLOAD_MOST_BYTES:
            return _apns_error(413, "PayloadTooLarge")
        try:
            payload = msgspec.json.decode(body, type=dict[str, Any])
            text = payload["aps"]["alert"]["body"]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
            return _apns_error(400, "PayloadEmpty")
        if wait_s := self._bucket.take():
            answer = _apns_error(429, "TooManyRequests")
            answer.headers["retry-after"] = _retry_after(wait_s)
            return answer
        if token in self._dead:
            return _apns_error(410, "Unregistered", timestamp=int(time.time() * 1000))
        answers_total.labels("apns", 200).inc()
        told = {key: value for key, value in payload.items() if key != "aps"}
        self._take("apns", token, headers.get("apns-priority", "10"), {**told, "text": text})
        return Response(headers={"apns-id": headers.get("apns-id", str(uuid.uuid4()))})

    async def healthy(self, _request: Request) -> Response:
        """It serves, and whose it is."""
        return json_response({"status": "ok", "instance": self._settings.instance_id})

    async def set_quota(self, request: Request) -> Response:
        """Another rate and burst from now on."""
        try:
            quota = msgspec.json.decode(await request.body(), type=Quota)
        except msgspec.DecodeError as error:
            return json_response({"error": str(error)}, 422)
        if not (quota.rate_per_s > 0 and quota.burst >= 1):
            return json_response({"error": "rate_per_s has to be above 0 and burst 1 or more"}, 422)
        self._bucket = Bucket(quota.rate_per_s, quota.burst)
        return Response(status_code=204)

    async def set_token(self, request: Request) -> Response:
        """A token dies, or lives again."""
        try:
            state = msgspec.json.decode(await request.body(), type=TokenState).state
        except msgspec.DecodeError as error:
            return json_response({"error": str(error)}, 422)
        (self._dead.add if state == "dead" else self._dead.discard)(request.path_params["token"])
        return Response(status_code=204)

    async def list_messages(self, request: Request) -> Response:
        """What was taken, oldest first; ``?token=`` for one device."""
        token = request.query_params.get("token")
        return json_response([one for one in self._messages if token in (None, one["token"])])



async def _metrics(_request: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _retry_after(wait_s: float) -> str:
    return str(max(1, round(wait_s)))  # whole seconds, as HTTP has it


def _fcm_error(status: int, name: str, code: str) -> Response:
    answers_total.labels("fcm", status).inc()
    details = [{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code}]
    return json_response({"error": {"code": status, "message": name, "status": name, "details": details}}, status)


def _apns_error(status: int, reason: str, **more: int) -> Response:
    answers_total.labels("apns", status).inc()
    return json_response({"reason": reason, **more}, status)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM."""
    uvicorn.run(
        Starlette(routes=Gateway(settings).routes()),
        host="127.0.0.1",
        port=settings.push_gateway_port,
        access_log=False,
        log_config=None,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
