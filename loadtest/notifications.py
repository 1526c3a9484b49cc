"""Room `notifications`: register a device, hold a stream of live notifications."""

from __future__ import annotations

import time
from typing import Any

from loadtest.platform_user import PlatformUser
from loadtest.streams import Stream

DELIVERED = {"comment": "notifications.delivered.comment", "like": "notifications.delivered.like"}
"""The milestones, as this user sees them from outside: from the first like or the comment to the message here."""
REMEMBERED = 1_000


def subscribe(user: PlatformUser, actor: int | None = None, **options: Any) -> None:
    """Operation `notifications.subscribe`: the actor's device, as the platform was seeded with it."""
    owner = user.platform_user if actor is None else actor
    device = {"token": f"seeded-{owner}", "platform": "apns" if owner % 2 else "fcm"}
    user.ask("notifications.subscribe", "PUT", f"/v1/devices/{owner}", json=device, actor=owner, **options)


def stream(user: PlatformUser, actor: int | None = None, **options: Any) -> Stream | None:
    """Operation `notifications.stream`: a stream that is held until it is closed, or None if it could not be had."""
    owner = user.platform_user if actor is None else actor
    seen: dict[str, None] = {}  # a device drops what it has; as many as it may get once more

    def received(message: dict[str, Any]) -> None:
        if message["id"] in seen:
            return
        seen[message["id"]] = None
        if len(seen) > REMEMBERED:
            del seen[next(iter(seen))]
        user.environment.events.request.fire(
            request_type="PROBE",
            name=DELIVERED[message["kind"]],
            response_time=max(0.0, time.time() - message["accepted_at"]) * 1000,
            response_length=0,
            response=None,
            context={"user": owner},
            exception=None,
            start_time=message["accepted_at"],
        )

    return user.listen("notifications.stream", "WS", "/v1/notifications", received, actor=owner, **options)
