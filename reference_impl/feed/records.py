"""Records of the topics ``posts`` and ``fanout``."""

from __future__ import annotations

import msgspec


class PublishedPost(msgspec.Struct, frozen=True, array_like=True):
    """A post to dispatch. Times are microseconds since the epoch: exact, unlike a float's seconds."""

    post_id: int
    author_id: int
    created_at_us: int
    accepted_at: float
    """Epoch seconds, when the API handed the post to the log."""


class FollowerBatch(msgspec.Struct, frozen=True, array_like=True):
    """The followers ``first_follower..last_follower`` of a post's author, whose feeds are to get the post."""

    post_id: int
    author_id: int
    created_at_us: int
    accepted_at: float
    first_follower: int
    last_follower: int
    followers: int
    """How many they were when the batch was cut."""


encode = msgspec.json.Encoder().encode
decode_post = msgspec.json.Decoder(PublishedPost).decode
decode_batch = msgspec.json.Decoder(FollowerBatch).decode
