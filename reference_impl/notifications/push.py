"""Push by a provider: Firebase Cloud Messaging's HTTP v1 API, and Apple's push notification service.

What they answer is one of a few things to us: taken, slow down (429, with Retry-After), this token is dead (404 or 410), or
no luck this time. A provider that says "slow down" is left alone until then by the whole process.

Sources: firebase.google.com/docs/reference/fcm/rest/v1 (projects.messages.send, ErrorCode); developer.apple.com,
"Sending notification requests to APNs" and "Handling notification responses from APNs".
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Literal

import httpx
import structlog
from prometheus_client import Counter, Histogram

from reference_impl.notifications.inbox import Notification
from reference_impl.settings import Settings

Outcome = Literal["sent", "slow_down", "dead", "failed"]
RETRY_AFTER_LEAST_S, RETRY_AFTER_MOST_S = 0.05, 600.0
FAILED_PAUSE_S = 0.5
"""No request to a provider that did not answer, or with a 5xx, for so long."""
DEAD = {"fcm": (404,), "apns": (410,)}
APNS_PRIORITY = {"comment": "10", "like": "5"}
"""5: the device may be spared; Apple may deliver later."""
FCM_PRIORITY = {"comment": "HIGH", "like": "NORMAL"}

log = structlog.get_logger()
pushes_total = Counter("flashcrowd_pushes", "Answers of the push providers", ["platform", "outcome"])
push_seconds = Histogram("flashcrowd_push_seconds", "Time to a provider's answer", ["platform"])


@dataclass(frozen=True, slots=True)
class Target:
    """A device that can be pushed."""

    platform: Literal["fcm", "apns"]
    token: str


class Providers:
    """The push providers, as far as one worker process uses them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        # HTTP/2, which Apple insists on, is agreed upon by TLS; the local gateway speaks HTTP/1.1.
        limits = httpx.Limits(max_connections=settings.push_concurrency)
        self._client = httpx.AsyncClient(http2=True, timeout=settings.push_timeout_s, limits=limits)
        self._at_once = asyncio.Semaphore(settings.push_concurrency)
        self._closed_until: dict[str, float] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def closed_for_s(self, platform: str) -> float:
        """How long a provider is to be left alone, 0 if not at all."""
        return max(0.0, self._closed_until.get(platform, 0.0) - time.monotonic())

    def closed(self) -> list[str]:
        """The providers that are to be left alone."""
        return [platform for platform in DEAD if self.closed_for_s(platform)]

    async def send(self, target: Target, notification: Notification) -> Outcome:
        """Push ``notification`` to one device."""
        async with self._at_once:
            if self.closed_for_s(target.platform):
                return "slow_down"
            outcome: Outcome
            began = time.perf_counter()
            try:
                answer = await self._client.send(self._request(target, notification))
            except httpx.HTTPError as error:
                log.warning("push.failed", platform=target.platform, error=repr(error))
                outcome, pause_s = "failed", FAILED_PAUSE_S
            else:
                push_seconds.labels(target.platform).observe(time.perf_counter() - began)
                outcome, pause_s = self._judge(target, answer)
        if pause_s:
            self._closed_until[target.platform] = max(
                self._closed_until.get(target.platform, 0.0), time.monotonic() + pause_s
            )
        pushes_total.labels(target.platform, outcome).inc()
        return outcome

    def _judge(self, target: Target, answer: httpx.Response) -> tuple[Outcome, float]:
        """What an answer means, and for how long the provider wants to be left alone."""
        if answer.status_code == 200:
            return "sent", 0.0
        if answer.status_code in DEAD[target.platform] or (
            answer.status_code == 400 and "BadDeviceToken" in answer.text
        ):
            return "dead", 0.0
        if answer.status_code in (429, 503):
            try:
                asked_s = float(answer.headers.get("retry-after", FAILED_PAUSE_S))
            except ValueError:  # a date, as HTTP allows as well
                asked_s = FAILED_PAUSE_S
            return "slow_down", min(max(asked_s, RETRY_AFTER_LEAST_S), RETRY_AFTER_MOST_S)
        log.error("push.refused", platform=target.platform, status=answer.status_code, answer=answer.text[:200])
        return "failed", FAILED_PAUSE_S if answer.status_code >= 500 else 0.0

    def _request(self, target: Target, one: Notification) -> httpx.Request:
        settings = self._settings
        data = {"id": one.id, "kind": one.kind, "post_id": str(one.post_id)}
        if target.platform == "fcm":
            message = {
                "token": target.token,
                "notification": {"body": one.text()},
                "data": data,
                "android": {"priority": FCM_PRIORITY[one.kind], "collapse_key": f"{one.kind}-{one.post_id}"},
            }
            return self._client.build_request(
                "POST",
                f"{settings.fcm_url}/v1/projects/{settings.fcm_project}/messages:send",
                headers={"Authorization": f"Bearer {settings.fcm_access_token}"},
                json={"message": message},
            )
        return self._client.build_request(
            "POST",
            f"{settings.apns_url}/3/device/{target.token}",
            headers={
                "authorization": f"bearer {settings.apns_provider_token}",
                "apns-topic": settings.apns_topic,
                "apns-push-type": "alert",
                "apns-priority": APNS_PRIORITY[one.kind],
                "apns-id": one.id,
                "apns-collapse-id": f"{one.kind}-{one.post_id}",
            },
            json={"aps": {"alert": {"body": one.text()}}, **data},
        )
