"""Records of the topic ``interactions``; the key is the post's id: its events are in one partition, in order."""

from __future__ import annotations

from typing import Literal

import msgspec


class Interaction(msgspec.Struct, frozen=True, omit_defaults=True):
    """A like, an unlike or a comment that was accepted."""

    kind: Literal["like", "unlike", "comment"]
    post_id: int
    author_id: int
    accepted_at: float
    """Epoch seconds, when the API handed the event to the log."""
    comment_id: str = ""
    text: str = ""


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Interaction).decode
