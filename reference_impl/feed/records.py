"""Records of the topic ``fanout``; that of the topic ``posts`` is in ``reference_impl/published.py``."""

from __future__ import annotations

import msgspec


class FollowerBatch(msgspec.Struct, frozen=True, array_like=True):
    """The followers ``first_follower..last_follower`` of a post's author, whose feeds are to get the post.

    The first four fields are those of ``PublishedPost``.
    """

    post_id: int
    author_id: int
    created_at_us: int
    accepted_at: float
    first_follower: int
    last_follower: int
    followers: int
    """How many they were when the batch was cut."""


encode = msgspec.json.Encoder().encode
decode_batch = msgspec.json.Decoder(FollowerBatch).decode
