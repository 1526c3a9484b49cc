"""Uploads with an object store of one's own (by URL), which sends no notifications, and which dies."""

import json
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from benchmarks import faults
from benchmarks.faulty_load import Load
from loadtest.upload_client.transfer import Transfer
from reference_impl import embedded, embedded_store, processes, state
from reference_impl.settings import Settings
from reference_impl.uploads.store import ObjectStore
from tests.reference_impl.media import MIB, begin, complete, content, put, send_parts, status
from tests.reference_impl.stack import Stack, eventually

DISK_BYTES = 300 * MIB
USERS = 20
KEYS = ("access", "a secret key of the tests")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """(A folder for a store, whether it is a small disk of its own: that takes a mount, and so root.)"""
    folder = tmp_path_factory.mktemp("external")
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "flashcrowd", str(folder)]
    try:
        is_small = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:  # not a Linux
        is_small = False
    yield folder, is_small
    if is_small:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def external_store(disk):
    """A SeaweedFS that knows nothing of the reference: (its process, its URL)."""
    folder, _ = disk
    child, url, master_port = embedded_store.start_store(folder, folder, processes.free_port(), KEYS, "pictures", None)
    try:
        embedded_store.wait_for_store(url, master_port, "pictures", child)
        yield child, url
    finally:
        processes.stop([child], 0.1, embedded.STOP_SIGNALS)


@pytest.fixture(scope="module")
def own(tmp_path_factory, external_store):
    """A reference that uses it. Abandoned is what is not complete after 8 s."""
    variables = {
        "FLASHCROWD_S3_URL": external_store[1],
        "FLASHCROWD_S3_ACCESS_KEY": KEYS[0],
        "FLASHCROWD_S3_SECRET_KEY": KEYS[1],
        "FLASHCROWD_S3_BUCKET": "pictures",
        "FLASHCROWD_STORE_EVENTS_SECRET": "what we share with the store",
        "FLASHCROWD_UPLOAD_RECONCILE_AFTER_S": "1",
        "FLASHCROWD_UPLOAD_ABANDONED_AFTER_S": "8",
    }
    running = Stack(tmp_path_factory.mktemp("own"), variables)
    try:
        running.command("up")
        running.command("seed", "--users", USERS, "--mean-followees", "4")
        yield running
    finally:
        running.client.close()
        running.command("down")


@pytest.fixture
def reconciler(own):
    return own.process("upload_reconciler")


def counter(own, name):
    return own.status()["counters"][name]


def test_a_lost_notification_is_repaired(own):
    repaired = counter(own, "uploads_repaired")
    data = content(9 * MIB)
    begun = begin(own, 1, len(data))
    complete(send_parts(begun, data))
    eventually(lambda: status(own, 1, begun["id"])["status"] == "success")
    assert counter(own, "uploads_repaired") == repaired + 1
    assert own.ask("GET", f"/v1/posts/{begun['post_id']}", 1, 200)["author_id"] == 1
    followers = [row[0] for row in own.sql("SELECT follower_id FROM followers WHERE followee_id = 1")]
    eventually(lambda: all(begun["post_id"] in own.feed(user) for user in followers))
    assert [weight for *_, weight in own.milestones("uploads.ready")] == [1]
    assert own.view(begun["view_url"]).content == data


def test_a_bad_object_whose_notification_was_lost_is_refused(own):
    data = content(MIB, b"MZ")
    begun = begin(own, 2, len(data))
    complete(send_parts(begun, data))
    assert eventually(lambda: (s := status(own, 2, begun["id"]))["status"] != "pending" and s)["status"] == "refused"


def test_an_event_in_s3s_format_publishes(own, reconciler):
    data = content(MIB, b"\xff\xd8\xff\xe0\x00\x10JFIF\x00")
    begun = begin(own, 3, len(data), media_type="image/jpeg")
    reconciler.suspend()
    try:
        complete(send_parts(begun, data))
        record = {
            "eventName": "ObjectCreated:CompleteMultipartUpload",
            "s3": {"bucket": {"name": "pictures"}, "object": {"key": f"uploads%2F{begun['id']}", "size": len(data)}},
        }
        url, token = own.state["api_url"] + "/v1/store-events", {"Authorization": "Bearer what we share with the store"}
        assert status(own, 3, begun["id"])["status"] == "pending"
        assert httpx.post(url, content=json.dumps({"Records": [record]}), headers=token).status_code == 204
        assert status(own, 3, begun["id"])["status"] == "success"
    finally:
        reconciler.resume()


def test_a_killed_reconciler_is_no_loss(own, reconciler):
    data = content(MIB)
    begun = begin(own, 4, len(data))
    reconciler.send_signal(signal.SIGKILL)
    complete(send_parts(begun, data))
    time.sleep(1.5)
    assert status(own, 4, begun["id"])["status"] == "pending"
    own.command("up")  # starts what has died
    eventually(lambda: status(own, 4, begun["id"])["status"] == "success")
    assert own.sql("SELECT count(*) FROM posts WHERE id = $1", begun["post_id"]) == [(1,)]


def test_an_abandoned_upload_is_ended_and_its_parts_deleted(own):
    data = content(9 * MIB)
    begun = begin(own, 5, len(data), key="never finished")
    transfer = send_parts(begun, data, numbers={1})
    ended = eventually(lambda: (s := status(own, 5, begun["id"]))["status"] != "pending" and s)
    assert (ended["status"], ended["reason"]) == ("refused", "it was not completed in time")
    eventually(lambda: httpx.get(transfer.list_url).status_code == 404)
    assert 400 <= httpx.put(transfer.parts[1].url, content=data[8 * MIB :]).status_code < 500
    assert begin(own, 5, len(data), key="never finished")["status"] == "refused"


def test_an_upload_that_no_row_knows_of_is_aborted(own):
    import asyncio

    settings: Settings = state.read(own.state_dir).to_settings()
    store = ObjectStore(settings)
    orphan = asyncio.run(store.begin("uploads/999999", "video/mp4"))

    def uploads():
        return {upload.upload_id for upload in asyncio.run(store.unfinished())}

    assert orphan in uploads()
    pending = begin(own, 6, 9 * MIB)  # younger than that, and known
    eventually(lambda: orphan not in uploads())
    assert status(own, 6, pending["id"])["status"] in ("pending", "refused")


def begin_answer(own):
    body = {"title": "t", "content": "", "media_type": "video/mp4", "size_bytes": 9 * MIB}
    return own.request("POST", "/v1/uploads", 7, headers={"Idempotency-Key": "now"}, json=body)


def test_a_store_that_hangs_holds_up_nothing_else(own, external_store):
    process = psutil.Process(external_store[0].pid)
    process.suspend()
    try:
        with ThreadPoolExecutor(12) as threads:
            hanging = [threads.submit(begin_answer, own) for _ in range(12)]  # more than the API has threads for it
            for _ in range(20):
                own.ask("GET", "/v1/feed", 7, 200)
            assert not any(answer.done() for answer in hanging)
            assert {answer.result().status_code for answer in hanging} == {503}
    finally:
        process.resume()
    assert eventually(lambda: (answer := begin_answer(own)).status_code == 201 and answer)


def fill(path):
    """Take all that is left of the disk, to the last byte."""
    with path.open("wb", buffering=0) as file:
        size_bytes = MIB
        while size_bytes:
            try:
                file.write(bytes(size_bytes))
            except OSError:
                size_bytes //= 2


def test_a_full_disk_of_the_store_takes_no_part_and_loses_none(own, disk, reconciler):
    folder, is_small = disk
    if not is_small:
        pytest.skip("a disk that can be filled takes a mount, which takes root on Linux")
    data, filler = content(2 * MIB), folder / "filler"
    load = Load(state.read(own.state_dir), USERS, 3 * USERS, writers=2)
    load.start()
    eventually(lambda: load.accepted.uploads)
    reconciler.suspend()  # it would call them abandoned
    try:
        uploads = [begin(own, user, len(data)) for user in (8, 9)]
        stored, late = send_parts(uploads[0], data), Transfer.of(uploads[1])
        [part] = late.parts
        fill(filler)
        try:
            assert put(part, data).status_code >= 500
            own.ask("GET", "/v1/feed", 8, 200)
            own.publish(8)
            health = httpx.get(own.state["api_url"] + "/healthz", timeout=10).json()
            assert health["status"] == "degraded" and health["dependencies"]["store"] != "ok"
            eventually(lambda: load.refused("uploads"))
        finally:
            filler.unlink()
        complete(stored)

        def sent():
            answer = put(part, data)
            late.etags[part.number] = answer.headers.get("etag", "")
            return answer.status_code == 200

        eventually(sent, 90)  # the store looks at its disk once a minute
        complete(late)
    finally:
        load.stop()
        reconciler.resume()
    count = faults.settled(state.read(own.state_dir), load)
    assert count.clean, count
    assert count.applied == load.accepted.total()
    assert load.refused(*faults.WITHOUT_UPLOADS) == 0
    for upload, owner in zip(uploads, (8, 9), strict=True):
        eventually(lambda upload=upload, owner=owner: status(own, owner, upload["id"])["status"] == "success")
        assert own.view(upload["view_url"]).content == data
        assert own.sql("SELECT count(*) FROM posts WHERE id = $1", upload["post_id"]) == [(1,)]
    assert httpx.get(own.state["api_url"] + "/healthz", timeout=10).json()["dependencies"]["store"] == "ok"


def test_without_its_store_the_platform_goes_on(own, external_store):
    """The last one here: the store does not come back."""
    data = content(MIB)
    begun = begin(own, 7, len(data))
    complete(send_parts(begun, data))
    eventually(lambda: status(own, 7, begun["id"])["status"] == "success")
    assert own.view(begun["view_url"]).content == data
    processes.stop([external_store[0]], 0.1, embedded.STOP_SIGNALS)
    own.sql("DELETE FROM post_media WHERE idempotency_key = 'now'")
    answer = begin_answer(own)
    assert (answer.status_code, list(answer.json())) == (503, ["error"])
    own.ask("GET", "/v1/feed", 7, 200)
    own.publish(7)
    assert own.view(begun["view_url"]).content == data  # the edge has it
    health = httpx.get(own.state["api_url"] + "/healthz", timeout=10)
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert health.json()["dependencies"]["store"] != "ok"
    assert own.status(code=1)["up"] is False
