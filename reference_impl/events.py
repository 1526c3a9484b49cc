"""What one room tells another: records of the topics that lie between rooms, which never import each other."""

from __future__ import annotations

from typing import Literal

import msgspec


class NotificationEvent(msgspec.Struct, frozen=True):
    """Somebody liked or commented on somebody's post; on the topic ``notifications_high`` or ``notifications_low``.

    The key is the recipient: all that concerns a user is in one partition, in order.
    """

    id: str
    """A UUID that is the same whenever the same like or comment is told again."""
    kind: Literal["comment", "like"]
    user_id: int
    """The recipient, the post's author."""
    post_id: int
    actor_id: int
    """Who liked or commented."""
    accepted_at: float
    """Epoch seconds, when the API handed the like or comment to the log."""


encode_notification = msgspec.json.Encoder().encode
decode_notification = msgspec.json.Decoder(NotificationEvent).decode
