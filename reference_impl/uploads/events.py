"""Notifications of object stores: which objects have come to be. Everything else in them is noise.

Two formats: SeaweedFS' filer (its webhook cannot speak S3's), and S3's own, which AWS, MinIO and others send. An event is
only a hint where to look: size and type are read from the store itself, so a forged event could claim nothing.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote_plus

import msgspec

from reference_impl.uploads.store import media_id_of

FILER_EVENTS = ("create", "rename")


class FilerEvent(msgspec.Struct):
    """SeaweedFS: one event a request."""

    key: str
    event_type: str
    message: dict[str, Any] = {}


class S3Name(msgspec.Struct):
    """A bucket's name."""

    name: str


class S3Key(msgspec.Struct):
    """An object's key, encoded as in a form."""

    key: str


class S3Place(msgspec.Struct):
    """Where."""

    bucket: S3Name
    object: S3Key


class S3Record(msgspec.Struct, rename="camel"):
    """One event of S3."""

    event_name: str
    s3: S3Place


class S3Event(msgspec.Struct):
    """S3: several records a request. MinIO adds fields of its own, which are not read."""

    records: list[S3Record] = msgspec.field(name="Records")


_filer = msgspec.json.Decoder(FilerEvent)
_s3 = msgspec.json.Decoder(S3Event)


def created_media(body: bytes, bucket: str) -> list[int]:
    """Ids of the uploads whose objects, says the notification, were created in ``bucket``.

    Raises:
        msgspec.DecodeError: it is neither of the two formats.
    """
    try:
        records = _s3.decode(body).records
    except msgspec.ValidationError:
        event = _filer.decode(body)
        if event.event_type not in FILER_EVENTS:
            return []
        # A rename is told under the old key; the entry's new place is its parent and name.
        key = event.key
        if event.event_type == "rename":
            entry = event.message.get("new_entry") or {}
            key = f"{event.message.get('new_parent_path', '')}/{entry.get('name', '')}"
        prefix = f"/buckets/{bucket}/"
        keys = [key.removeprefix(prefix)] if key.startswith(prefix) else []
    else:
        keys = [
            unquote_plus(record.s3.object.key)
            for record in records
            if record.event_name.removeprefix("s3:").startswith("ObjectCreated:") and record.s3.bucket.name == bucket
        ]
    # Parts on their way (SeaweedFS keeps them as files in .uploads/) have no key of ours.
    return [media_id for media_id in map(media_id_of, keys) if media_id is not None]
