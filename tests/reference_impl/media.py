"""Files to upload, and uploading them step by step as any client would."""

import contextlib
import dataclasses
import json
import os
import shutil
import uuid

import httpx

from loadtest.upload_client.transfer import Transfer
from reference_impl import embedded, processes
from reference_impl.uploads.nginx import start_nginx

MIB = 2**20
MP4 = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"


def content(size_bytes, begins=MP4):
    return begins + os.urandom(size_bytes - len(begins))


def begin(stack, owner, size_bytes, media_type="video/mp4", key=None, code=201, **changes):
    body = {"title": "a film", "content": "", "media_type": media_type, "size_bytes": size_bytes} | changes
    headers = {"Idempotency-Key": key or uuid.uuid4().hex}
    return stack.ask("POST", "/v1/uploads", owner, code, json=body, headers=headers)


def put(part, data, **options):
    return httpx.put(part.url, content=data[part.offset : part.offset + part.size_bytes], timeout=60, **options)


def send_parts(answer, data, numbers=None):
    """Send the parts (those of ``numbers``); the transfer knows them then."""
    transfer = Transfer.of(answer)
    for part in transfer.parts:
        if numbers is None or part.number in numbers:
            stored = put(part, data)
            assert stored.status_code == 200, stored.text
            transfer.etags[part.number] = stored.headers["etag"]
    return transfer


def complete(transfer):
    answer = httpx.post(transfer.complete_url, content=transfer.completion(), timeout=60)
    assert answer.status_code == 200, answer.text
    return answer


def status(stack, owner, upload):
    return stack.ask("GET", f"/v1/uploads/{upload}", owner, 200)


def filer_event(media_id):
    """The notification of the embedded store that an upload is whole."""
    return json.dumps({"event_type": "create", "key": f"/buckets/media/uploads/{media_id}", "message": {}}).encode()


@contextlib.contextmanager
def nginx_before(settings, log_dir):
    """nginx before the embedded edge of these settings, as `up` starts it: (its process, its URL)."""
    scratch, port = embedded.make_scratch_directory(), processes.free_port()
    child = start_nginx(scratch, log_dir, dataclasses.replace(settings, edge_port=port, edge_gate_port=settings.edge_port))
    try:
        yield child, f"http://{settings.api_host}:{port}"
    finally:
        assert processes.stop([child], 2, embedded.STOP_SIGNALS) == []
        shutil.rmtree(scratch)
