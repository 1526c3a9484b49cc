"""Room `uploads`: upload a file in parts and wait until it is there; look at files that others have uploaded.

Parts go side by side, as from `flashcrowd upload`. One is lost now and then: it arrives, but its answer does not, so the client
sends this part again and no other.
"""

from __future__ import annotations

import time
from random import Random
from typing import Any

import gevent
from gevent.pool import Pool
from locust import events

from loadtest.platform_user import PlatformUser
from loadtest.private_names import order_group
from loadtest.upload_client.transfer import Part, Transfer, completion_error

MEDIA_TYPE = "image/jpeg"
JPEG_BEGINS = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
POLL_S = 0.1  # how exactly `uploads.ready` is known from outside
PATIENCE_S = 20.0
ATTEMPTS = 6  # of a part
PARALLEL = 4  # parts at once, as in `UploadClient`

ready: list[int] = []
"""Media that our own users know to be ready, in that order; what can be viewed."""
_content = bytearray(JPEG_BEGINS)


@events.test_start.add_listener
def _forget(**_others: Any) -> None:
    """The web interface may start a second test, on a fresh model."""
    ready.clear()


def content_of(offset: int, size_bytes: int) -> bytes:
    """Bytes of a file that begins like a JPEG; nobody looks at the rest."""
    if len(_content) < offset + size_bytes:
        _content.extend(bytes(offset + size_bytes - len(_content)))
    return bytes(memoryview(_content)[offset : offset + size_bytes])


def upload(user: PlatformUser, key: str, which: float, **options: Any) -> None:
    """Operations `uploads.begin`, `.part`, `.complete` and `.status`, as often as it takes; `which` decides size and losses.

    `key` makes a repetition harmless. `options` (who asks, and when it was meant to) are of the beginning.
    """
    rng, began_epoch_s, began_s = Random(which), time.time(), time.perf_counter()
    actor = options.get("actor")
    size_bytes = rng.randint(user.settings.upload_least_bytes, user.settings.upload_most_bytes)
    body = {"title": f"a photo of {size_bytes} bytes", "content": "", "media_type": MEDIA_TYPE, "size_bytes": size_bytes}
    begun = user.ask("uploads.begin", "POST", "/v1/uploads", json=body, headers={"Idempotency-Key": key}, **options)
    transfer = Transfer.of(begun) if begun else None
    if transfer is None or not _send_parts(user, transfer, rng, actor) or not _complete(user, transfer, actor):
        return
    while time.perf_counter() < began_s + PATIENCE_S:
        status = user.ask("uploads.status", "GET", f"/v1/uploads/{transfer.upload_id}", actor=actor)
        if status and status["status"] != "pending":
            user.probe("uploads.ready", began_epoch_s, began_s, status["reason"])
            if status["status"] == "success":
                ready.append(transfer.upload_id)
                user.media_url = status["view_url"].rpartition("/")[0]
            return
        gevent.sleep(POLL_S)
    user.probe("uploads.ready", began_epoch_s, began_s, f"not ready after {PATIENCE_S:g} s")


def _send_parts(user: PlatformUser, transfer: Transfer, rng: Random, actor: int | None) -> bool:
    """Whether the store has every part in the end. Each part has chances of its own, in whatever order the answers come."""
    chances = [Random(rng.random()) for _ in transfer.parts]
    pool = order_group(Pool(PARALLEL))
    try:
        sent = [pool.spawn(_send_part, user, transfer, *each, actor) for each in zip(transfer.parts, chances, strict=True)]
        return all(greenlet.get() for greenlet in sent)
    finally:
        pool.kill()  # the parts of a user that is stopped, or whose upload has failed


def _send_part(user: PlatformUser, transfer: Transfer, part: Part, rng: Random, actor: int | None) -> bool:
    """Whether the store has the part, after some attempts."""
    data = content_of(part.offset, part.size_bytes)
    for _ in range(ATTEMPTS):
        lost = rng.random() < user.settings.part_loss_ratio
        response = user.ask("uploads.part", "PUT", part.url, data=data, actor=actor, whole=True, presigned=True)
        if response.status_code == 200 and not lost:
            transfer.etags[part.number] = response.headers.get("ETag") or str(part.number)
            return True
    return False


def _complete(user: PlatformUser, transfer: Transfer, actor: int | None) -> bool:
    response = user.ask(
        "uploads.complete", "POST", transfer.complete_url, data=transfer.completion(), actor=actor, whole=True,
        presigned=True,
        complaint=lambda answer: completion_error(answer.content) if answer.content.startswith(b"<") else None,
    )  # fmt: skip
    return bool(response.ok)


def view(user: PlatformUser, which: float, **options: Any) -> None:
    """Operation `uploads.view`: one of the files that are ready, the newest ones most; nothing if there is none."""
    if ready and user.media_url:
        media = ready[-1 - int(which * which * len(ready))]
        user.ask("uploads.view", "GET", f"{user.media_url}/{media}", whole=True, **options)
