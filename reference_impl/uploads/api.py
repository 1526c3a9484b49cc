"""``uploads.begin``, ``uploads.status``, ``uploads.view``, and the door for the store's notifications.

``uploads.part`` and ``uploads.complete`` are no business of the API: clients send them to the object store, by the presigned
URLs that ``uploads.begin`` gives. A URL is good for one part of one length, or for completing this one upload; it expires;
and beginning again with the same idempotency key gives new ones, which is how a client resumes.

Until the store has an object that is what was announced, the post's text waits beside its media and its id is reserved; its
row in ``posts`` comes with the success. So nobody has to know of posts that are not to be seen.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import Annotated, Literal

import asyncpg
import msgspec
from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from reference_impl.uploads import rules
from reference_impl.uploads.events import created_media
from reference_impl.uploads.settle import Settler
from reference_impl.uploads.store import ObjectStore, object_key
from reference_impl.web import (
    ApiError,
    Platform,
    Text,
    TextOrNone,
    caller,
    clean_text,
    idempotency_key,
    json_response,
    path_id,
    read_body,
    read_bytes,
)

begun_total = Counter("flashcrowd_uploads_begun", "Uploads begun")
notified_total = Counter("flashcrowd_uploads_notified", "Objects that the store told of", ["outcome"])
forged_total = Counter("flashcrowd_uploads_forged", "Notifications without the right token")
VIEW_EXPIRES_S = 300
MAX_NOTIFICATION_BYTES = 2 * 2**20
"""A filer's event lists the object's chunks: some 300 bytes for every 4 MiB of it."""


class NewUpload(msgspec.Struct):
    """Body of ``uploads.begin``."""

    title: Text
    content: TextOrNone
    media_type: Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(rules.MEDIA_TYPES)})]
    size_bytes: Annotated[
        int, msgspec.Meta(extra_json_schema={"minimum": rules.LEAST_BYTES, "maximum": rules.MOST_BYTES})
    ]


class Part(msgspec.Struct):
    """Where one part goes, by PUT."""

    number: int
    size_bytes: int
    url: str


class Upload(msgspec.Struct, omit_defaults=True):
    """How an upload stands; the URLs are for its owner, while it is pending and has just begun (again)."""

    id: int
    post_id: int
    status: Literal["pending", "success", "refused"]
    reason: str | None
    """Of a refusal."""
    view_url: str
    parts: list[Part] | msgspec.UnsetType = msgspec.UNSET
    list_url: str | msgspec.UnsetType = msgspec.UNSET
    complete_url: str | msgspec.UnsetType = msgspec.UNSET
    expires_in_s: int | msgspec.UnsetType = msgspec.UNSET


new_upload = msgspec.json.Decoder(NewUpload)

FIND = """
SELECT id, post_id, media_type, size_bytes, part_bytes, upload_id, upload_status, reason FROM post_media
WHERE owner_id = $1 AND idempotency_key = $2"""

RESERVE = """
SELECT nextval(pg_get_serial_sequence('post_media', 'id')), nextval(pg_get_serial_sequence('posts', 'id')),
    (SELECT count(*) FROM post_media WHERE owner_id = $1 AND upload_status = 'pending')
FROM users WHERE id = $1"""

INSERT = """
INSERT INTO post_media (id, post_id, owner_id, idempotency_key, title, content, media_type, size_bytes, part_bytes, upload_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (owner_id, idempotency_key) DO NOTHING"""

STATUS = "SELECT id, post_id, upload_status, reason FROM post_media WHERE id = $1 AND owner_id = $2"

VIEWABLE = "SELECT media_type FROM post_media WHERE id = $1 AND upload_status = 'success'"


async def begin(request: Request, platform: Platform) -> Response:
    """Begin an upload, or with a known idempotency key resume it: new URLs while it is pending, else only how it ended."""
    owner = caller(request)
    key = idempotency_key(request)
    body = await read_body(request, new_upload)
    title, content = clean_text(body.title, "title"), clean_text(body.content, "content", empty=True)
    if wrong := rules.complaint(body.media_type, body.size_bytes):
        raise ApiError(422, wrong)
    row = await platform.pool.fetchrow(FIND, owner, key)
    if row is None:
        await _insert(platform, owner, key, title, content, body)
        row = await platform.pool.fetchrow(FIND, owner, key)
    if (row["media_type"], row["size_bytes"]) != (body.media_type, body.size_bytes):
        raise ApiError(409, "this idempotency key belongs to an upload of another type or size")
    answer = _status(platform, row)
    if row["upload_status"] == "pending":
        await asyncio.to_thread(_add_urls, answer, platform.store, row, platform.settings.upload_url_expires_s)
    return json_response(answer, 201)


async def _insert(platform: Platform, owner: int, key: str, title: str, content: str, body: NewUpload) -> None:
    ids = await platform.pool.fetchrow(RESERVE, owner)
    if ids is None:
        raise ApiError(404, f"there is no user {owner}")
    media_id, post_id, pending = ids
    if pending >= platform.settings.upload_pending_most:  # those that begin at the same moment may be a few more
        raise ApiError(429, f"{pending} uploads are pending; complete some of them first", {"retry-after": "60"})
    stored_at = object_key(media_id)
    upload_id = await platform.store.begin(stored_at, body.media_type)
    part_bytes = rules.part_bytes(body.size_bytes, platform.settings.upload_part_bytes)
    inserted = await platform.pool.execute(
        INSERT, media_id, post_id, owner, key, title, content, body.media_type, body.size_bytes, part_bytes, upload_id
    )
    if inserted == "INSERT 0 0":  # the same request came twice at once, and the other one was first
        await platform.store.abort(stored_at, upload_id)
    else:
        begun_total.inc()


def _status(platform: Platform, row: asyncpg.Record) -> Upload:
    media_id = row["id"]
    view_url = f"{platform.settings.edge_url}/v1/media/{media_id}"
    return Upload(media_id, row["post_id"], row["upload_status"], row["reason"], view_url)


def _add_urls(upload: Upload, store: ObjectStore, row: asyncpg.Record, expires_s: float) -> None:
    stored_at, upload_id, whole_s = object_key(row["id"]), row["upload_id"], max(1, round(expires_s))
    upload.parts = [
        Part(number, length_bytes, store.part_url(stored_at, upload_id, number, length_bytes, whole_s))
        for number, length_bytes in enumerate(rules.part_lengths(row["size_bytes"], row["part_bytes"]), 1)
    ]
    upload.list_url = store.list_url(stored_at, upload_id, whole_s)
    upload.complete_url = store.complete_url(stored_at, upload_id, whole_s)
    upload.expires_in_s = whole_s


async def status(request: Request, platform: Platform) -> Response:
    """How the caller's own upload stands: ``pending``, ``success`` or ``refused``."""
    media_id = path_id(request, "upload")
    row = await platform.pool.fetchrow(STATUS, media_id, caller(request))
    if row is None:
        raise ApiError(404, f"you have no upload {media_id}")
    return json_response(_status(platform, row))


async def view(request: Request, platform: Platform) -> Response:
    """Where an edge that has not got a media file finds it: a redirect to the store, by a URL that expires soon."""
    media_id = path_id(request, "media")
    row = await platform.pool.fetchrow(VIEWABLE, media_id)
    if row is None:
        raise ApiError(404, f"there is no media {media_id}")
    url = platform.store.view_url(object_key(media_id), row["media_type"], VIEW_EXPIRES_S)
    return RedirectResponse(url, 302)


async def notified(request: Request, platform: Platform) -> Response:
    """Take the store's notification; anything but 2xx makes the store send it again.

    The token is a shared secret: SeaweedFS and MinIO send it as ``Authorization: Bearer``, as can what stands between AWS and
    us (an EventBridge API destination, say).
    """
    expected = f"Bearer {platform.settings.store_events_secret}"
    given = request.headers.get("authorization", "")
    if not platform.settings.store_events_secret or not hmac.compare_digest(given.encode(), expected.encode()):
        forged_total.inc()
        raise ApiError(401, "the notification has not got the token that we share with the store")
    body = await read_bytes(request, MAX_NOTIFICATION_BYTES)
    try:
        # Without a body somebody only tries whether we are here; MinIO does when it is configured.
        media_ids = created_media(body, platform.settings.s3_bucket) if body.strip() else []
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ApiError(400, "neither an event of S3 nor one of SeaweedFS' filer") from None
    settler = Settler(platform.pool, platform.store, platform.producer, platform.milestones)
    for media_id in media_ids:
        notified_total.labels(await settler.settle(media_id)).inc()
    return Response(status_code=204)
