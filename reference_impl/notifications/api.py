"""``notifications.subscribe`` and ``notifications.stream``."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from reference_impl.notifications.inbox import RELEASE
from reference_impl.notifications.streams import TooManyStreams
from reference_impl.web import UNAVAILABLE, ApiError, Platform, admit, caller, error_response, path_id, read_body

Topic = Literal["comments", "likes"]
Token = Annotated[str, msgspec.Meta(min_length=1, max_length=1024, pattern=r"^[A-Za-z0-9_:.\-]+$")]


class Preferences(msgspec.Struct):
    """What a user wants to hear of at all, on whatever device."""

    comments: bool = True
    likes: bool = True


class Device(msgspec.Struct):
    """Body of ``notifications.subscribe``. Without preferences the user's stay as they are."""

    token: Token
    """The provider's name for the app on this device."""
    platform: Literal["fcm", "apns"]
    topics: Annotated[list[Topic], msgspec.Meta(max_length=2)] = msgspec.field(
        default_factory=lambda: ["comments", "likes"]
    )
    """What this device is pushed."""
    preferences: Preferences | None = None


device_body = msgspec.json.Decoder(Device)

# A device is its owner's, or of whoever has its token: somebody else who logs in on the same device.
REGISTER = """
INSERT INTO devices (id, user_id, platform, token, topics)
SELECT $1, $2, $3, $4, $5::text[] WHERE EXISTS (SELECT FROM users WHERE id = $2)
ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id, platform = excluded.platform, token = excluded.token,
    topics = excluded.topics, updated_at = now()
WHERE devices.user_id = excluded.user_id OR devices.token = excluded.token
RETURNING id"""
FORGET_TWINS = "DELETE FROM devices WHERE token = $1 AND platform = $2 AND id <> $3"  # the app was installed anew
PREFER = """
INSERT INTO notification_preferences (user_id, comments, likes) VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO UPDATE SET comments = excluded.comments, likes = excluded.likes"""
USER_EXISTS = "SELECT EXISTS (SELECT FROM users WHERE id = $1)"


async def subscribe(request: Request, platform: Platform) -> Response:
    """Register the caller's device, or change what it and the caller are told of."""
    device_id, user_id = path_id(request, "device"), caller(request)
    device = await read_body(request, device_body)
    async with platform.pool.acquire() as connection, connection.transaction():
        registered = await connection.fetchval(
            REGISTER, device_id, user_id, device.platform, device.token, sorted(set(device.topics))
        )
        if registered is None:
            if await connection.fetchval(USER_EXISTS, user_id):
                raise ApiError(403, f"the device {device_id} belongs to somebody else")
            raise ApiError(404, f"there is no user {user_id}")
        await connection.execute(FORGET_TWINS, device.token, device.platform, device_id)
        if device.preferences is not None:
            await connection.execute(PREFER, user_id, device.preferences.comments, device.preferences.likes)
        await connection.execute(RELEASE, user_id)
    return Response(status_code=204)


async def stream(websocket: WebSocket) -> None:
    """Live notifications for as long as the connection lasts; refused in HTTP before it is one.

    The server sends ``{"type": "ready"}``, then a ``{"type": "notification", …}`` each; the device answers with
    ``{"ack": [id, …]}``. What is not acknowledged in time comes again, by push if there is a device for it. The server closes
    a stream whose user has signed out, or whose token has expired, with code 3000 (Unauthorized) and the reason.
    """
    try:
        user_id = admit(websocket)
        await websocket.app.state.streams.serve(user_id, websocket)
    except ApiError as error:
        await websocket.send_denial_response(error.response())
    except TooManyStreams as error:
        await websocket.send_denial_response(error_response(429, str(error)))
    except UNAVAILABLE:
        await websocket.send_denial_response(error_response(503, "a server behind the API does not answer; try again"))
