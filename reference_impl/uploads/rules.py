"""What may be uploaded, and in what parts."""

from __future__ import annotations

import filetype

LEAST_BYTES, MOST_BYTES = 1_000_000, 2_000_000_000
"""1 MB to 2 GB, as the platform's design says."""
MEDIA_TYPES = (
    "image/gif", "image/heic", "image/jpeg", "image/png", "image/webp", "video/mp4", "video/quicktime", "video/webm",
)  # fmt: skip
MOST_PARTS = 100
"""Larger files get larger parts, so that an answer with all their URLs stays small."""
MIB = 2**20
SNIFFED_BYTES = 4096
"""Of an object's beginning; its type is told by them."""


def complaint(media_type: str, size_bytes: int) -> str | None:
    """Why such a file may not be uploaded; None if it may."""
    if media_type not in MEDIA_TYPES:
        return f"media_type has to be one of {', '.join(MEDIA_TYPES)}"
    if not LEAST_BYTES <= size_bytes <= MOST_BYTES:
        return f"size_bytes is {size_bytes}; it has to be from {LEAST_BYTES} (1 MB) to {MOST_BYTES} (2 GB)"
    return None


def part_bytes(size_bytes: int, wanted_bytes: int) -> int:
    """The length of every part but the last: as wanted, or in whole MiB what ``MOST_PARTS`` of them need."""
    needed = -(-size_bytes // MOST_PARTS)
    return max(wanted_bytes, -(-needed // MIB) * MIB)


def part_lengths(size_bytes: int, each_bytes: int) -> list[int]:
    """The length of each part, in order; the last one is what is left."""
    whole, rest = divmod(size_bytes, each_bytes)
    return [each_bytes] * whole + ([rest] if rest else [])


def violation(media_type: str, size_bytes: int, stored_bytes: int, first_bytes: bytes) -> str | None:
    """What is wrong with a stored object whose owner announced ``media_type`` and ``size_bytes``; None if nothing is."""
    if stored_bytes != size_bytes:
        return f"the object has {stored_bytes} bytes, not the {size_bytes} that were announced"
    found = filetype.guess_mime(first_bytes)
    if found != media_type:
        return f"the object begins like {found or 'no type that is known'}, not like {media_type}"
    return None
