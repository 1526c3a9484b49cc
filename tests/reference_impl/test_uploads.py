"""The room of photos and videos on a real object store: what is published, what is refused, and what can't be forged."""

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from xml.etree import ElementTree

import httpx
import psutil
import pytest

from reference_impl import embedded, processes, state
from reference_impl.auth import Tokens
from reference_impl.uploads import nginx, rules
from reference_impl.uploads.store import ObjectStore, object_key
from tests.reference_impl.media import (
    JPEG,
    MIB,
    begin,
    complete,
    content,
    filer_event,
    nginx_before,
    put,
    send_parts,
    status,
)
from tests.reference_impl.stack import eventually

TWO_PARTS = 9 * MIB  # parts of 8 MiB


@pytest.fixture(scope="module")
def store(stack):
    """The object store, with the platform's own keys."""
    return ObjectStore(state.read(stack.state_dir).to_settings())


@pytest.fixture(scope="module")
def film(stack):
    """(id, post, bytes, transfer) of an upload by user 5 that is ready."""
    data = content(TWO_PARTS)
    begun = begin(stack, 5, len(data))
    transfer = send_parts(begun, data)
    complete(transfer)
    done = ended(stack, 5, begun["id"])
    assert done["status"] == "success", done
    return begun["id"], done["post_id"], data, transfer


def ended(stack, owner, upload):
    """The upload's status once it is not pending any more."""
    return eventually(lambda: (s := status(stack, owner, upload))["status"] != "pending" and s, what="the end")


def events_url(stack):
    return stack.state["api_url"] + "/v1/store-events"


def notify(stack, body, token=None):
    token = stack.state["settings"]["store_events_secret"] if token is None else token
    return httpx.post(events_url(stack), content=body, headers={"Authorization": f"Bearer {token}"})


# ---- what is meant to happen


@pytest.mark.cluster
def test_an_upload_is_published_when_the_store_has_told_of_it(stack):
    before = time.time()
    data = content(TWO_PARTS)
    begun = begin(stack, 4, len(data), title="my film")
    assert [part["size_bytes"] for part in begun["parts"]] == [8 * MIB, MIB]
    assert (begun["status"], begun["reason"]) == ("pending", None)
    transfer = send_parts(begun, data)
    stack.ask("GET", f"/v1/posts/{begun['post_id']}", 1, 404)  # not published yet
    stack.ask("GET", f"/v1/media/{begun['id']}", 1, 404)
    complete(transfer)
    assert ended(stack, 4, begun["id"])["status"] == "success"
    post = stack.ask("GET", f"/v1/posts/{begun['post_id']}", 1, 200)
    assert (post["author_id"], post["title"]) == (4, "my film")
    followers = [row[0] for row in stack.sql("SELECT follower_id FROM followers WHERE followee_id = 4")]
    eventually(lambda: all(begun["post_id"] in stack.feed(user) for user in followers))
    assert len(followers) == 2
    samples = [m for m in stack.milestones("uploads.ready") if m[0] >= before]
    assert [(weight, started <= reached) for started, reached, weight in samples] == [(1, True)]


def test_beginning_again_with_the_same_key_is_the_same_upload_with_new_urls(stack):
    first = begin(stack, 6, TWO_PARTS, key="one key")
    time.sleep(1.1)  # signatures know seconds
    again = begin(stack, 6, TWO_PARTS, key="one key")
    assert (again["id"], again["post_id"]) == (first["id"], first["post_id"])
    assert again["parts"][0]["url"] != first["parts"][0]["url"]
    assert begin(stack, 7, TWO_PARTS, key="one key")["id"] != first["id"]  # another user's
    begin(stack, 6, TWO_PARTS + 1, key="one key", code=409)
    begin(stack, 6, TWO_PARTS, media_type="video/webm", key="one key", code=409)


def test_beginning_twice_at_once_is_one_upload(stack):
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: begin(stack, 8, TWO_PARTS, key="at once"), range(8)))
    assert len({answer["id"] for answer in answers}) == 1
    assert stack.sql("SELECT count(*) FROM post_media WHERE owner_id = 8") == [(1,)]


def test_beginning_again_after_the_end_says_how_it_ended(stack, film):
    media, post, data, _ = film
    key = stack.sql("SELECT idempotency_key FROM post_media WHERE id = $1", media)[0][0]
    again = begin(stack, 5, len(data), key=key)
    assert (again["status"], again["post_id"]) == ("success", post)
    assert "parts" not in again


def test_large_files_get_larger_parts(stack):
    begun = begin(stack, 9, rules.MOST_BYTES)
    lengths = [part["size_bytes"] for part in begun["parts"]]
    assert len(lengths) <= rules.MOST_PARTS
    assert sum(lengths) == rules.MOST_BYTES
    assert lengths[0] % MIB == 0


@pytest.mark.cluster
def test_the_stores_list_of_parts_is_what_a_client_resumes_from(stack):
    data = content(TWO_PARTS)
    begun = begin(stack, 9, len(data), key="resumed")
    send_parts(begun, data, numbers={2})
    again = begin(stack, 9, len(data), key="resumed")
    listing = httpx.get(again["list_url"])
    assert listing.status_code == 200
    transfer = send_parts(again, data, numbers=set())
    transfer.resume(listing.content)
    assert [part.number for part in transfer.missing] == [1]
    transfer.etags[1] = put(transfer.parts[0], data).headers["etag"]
    complete(transfer)
    assert ended(stack, 9, begun["id"])["status"] == "success"


# ---- viewing


def test_the_edge_shows_the_very_bytes(stack, film, edge_url):
    media, _, data, _ = film
    assert status(stack, 5, media)["view_url"] == f"{stack.state['settings']['edge_url']}/v1/media/{media}"
    url = f"{edge_url}/v1/media/{media}"
    whole = stack.view(url)
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["content-type"] == "video/mp4"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert stack.view(url, headers={"If-None-Match": whole.headers["etag"]}).status_code == 304
    head = stack.view(url, "HEAD")
    assert (head.headers["content-length"], head.content) == (str(len(data)), b"")


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=1048570-1048580", 1048570, 1048580),  # across two of the cache's blocks
        ("bytes=9437180-", TWO_PARTS - 4, TWO_PARTS - 1),
        ("bytes=-7", TWO_PARTS - 7, TWO_PARTS - 1),
        ("bytes=100-999999999", 100, TWO_PARTS - 1),
        ("bytes=-99999999", 0, TWO_PARTS - 1),
    ],
)
def test_the_edge_answers_ranges(stack, film, edge_url, text, first, last):
    media, _, data, _ = film
    answer = stack.view(f"{edge_url}/v1/media/{media}", headers={"Range": text})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{len(data)}"
    assert answer.content == data[first : last + 1]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"bytes={TWO_PARTS}-", 416), ("bytes=-0", 416),
        ("bytes=5-2", 200), ("bytes=0-1,5-6", 200), ("lines=1-2", 200), ("bytes=-", 200), ("bytes=a-b", 200),
    ],
)  # fmt: skip
def test_the_edge_takes_strange_ranges_as_the_standard_says(stack, film, edge_url, text, code):
    answer = stack.view(f"{edge_url}/v1/media/{film[0]}", headers={"Range": text})
    if text == "bytes=5-2" and edge_url != stack.state["settings"]["edge_url"]:
        code = 416  # nginx refuses what cannot be where RFC 9110 lets it ignore it
    assert answer.status_code == code
    if code == 416:
        assert answer.headers["content-range"] == f"bytes */{TWO_PARTS}"


def test_the_edge_fetches_a_block_once_though_many_ask_at_once(stack, edge_url):
    data = content(3 * MIB)
    begun = begin(stack, 3, len(data))
    complete(send_parts(begun, data))
    ended(stack, 3, begun["id"])
    url = f"{edge_url}/v1/media/{begun['id']}"
    edge = next(child for child in stack.state["processes"] if child["role"] == "edge")

    def fetched():
        found = re.search(r'edge_blocks_total{result="miss"} ([\d.]+)', httpx.get(edge["metrics_url"]).text)
        return float(found.group(1)) if found else 0.0

    before = fetched()
    with ThreadPoolExecutor(10) as threads:
        assert all(answer.content == data for answer in threads.map(lambda _: stack.view(url), range(10)))
    assert fetched() - before <= 2  # block 0 came with the question where the file is


def test_the_edge_has_nothing_but_media_that_are_ready(stack, edge_url):
    pending = begin(stack, 3, TWO_PARTS)["id"]
    for path in (pending, 10**15, "..%2f..%2fetc%2fpasswd", "x", "-1", str(2**70)):
        answer = stack.view(f"{edge_url}/v1/media/{path}")
        assert answer.status_code == 404, path
    assert stack.view(f"{edge_url}/v1/media/1%00").status_code in (400, 404)
    assert httpx.get(f"{edge_url}/v1/posts/1").status_code == 404
    assert httpx.post(f"{edge_url}/v1/media/1").status_code == 405


@pytest.mark.skipif(not nginx.is_installed(), reason="nginx with its slice and auth_request modules is not installed")
def test_a_killed_nginx_is_started_again_at_its_port(stack, film, tmp_path):
    with nginx_before(state.read(stack.state_dir).to_settings(), tmp_path) as (child, url):
        os.kill(child.pid, signal.SIGKILL)  # its worker lives on, and holds the port
        eventually(lambda: not processes.alive(child))
        again = processes.start_again(child)
        try:
            processes.wait_for_port(urlsplit(url).port, again)
            eventually(lambda: stack.view(f"{url}/v1/media/{film[0]}", "HEAD").status_code == 200)
            assert processes.alive(again)
            workers = psutil.Process(again.pid).children()
            assert workers
        finally:
            assert processes.stop([again], 2, embedded.STOP_SIGNALS) == []
        assert not any(worker.is_running() for worker in workers)


def test_who_may_not_look_sees_nothing_of_what_the_edge_has(stack, film, edge_url):
    url = f"{edge_url}/v1/media/{film[0]}"
    assert stack.view(url).status_code == 200  # it is in the cache
    short = Tokens(stack.state["settings"]["token_secret"], lifetime_s=1)
    expired = {"Authorization": f"Bearer {short.issue(1)}"}
    eventually(lambda: httpx.get(url, headers=expired).status_code == 401)
    for headers in ({}, expired, {"Authorization": "Bearer x"}):
        for more in ({}, {"Range": "bytes=0-9"}, {"If-None-Match": "*"}):
            for method in ("GET", "HEAD"):
                answer = httpx.request(method, url, headers=headers | more)
                assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
                assert answer.headers["x-content-type-options"] == "nosniff"
            assert "token" in httpx.get(url, headers=headers | more).json()["error"]


# ---- what is refused at the door


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"size_bytes": rules.LEAST_BYTES - 1}, 422, "1 MB"),
        ({"size_bytes": rules.MOST_BYTES + 1}, 422, "2 GB"),
        ({"size_bytes": -1}, 422, "1 MB"),
        ({"size_bytes": 2**70}, 422, ""),
        ({"size_bytes": "many"}, 422, "int"),
        ({"media_type": "application/pdf"}, 422, "image/jpeg"),
        ({"media_type": "video/mp4; charset=x"}, 422, "image/jpeg"),
        ({"media_type": "../../etc/passwd"}, 422, "image/jpeg"),
        ({"title": ""}, 422, "title"),
        ({"title": "a\x00b"}, 422, "NUL"),
    ],
)
def test_begin_refuses_what_may_not_be_uploaded(stack, changes, code, message):
    size_bytes = changes.pop("size_bytes", TWO_PARTS)
    assert message in begin(stack, 1, size_bytes, code=code, **changes)["error"]


@pytest.mark.parametrize("key", ["", "k" * 201, "a\tb"])
def test_begin_refuses_without_a_good_key(stack, key):
    body = {"title": "t", "content": "", "media_type": "video/mp4", "size_bytes": TWO_PARTS}
    stack.ask("POST", "/v1/uploads", 1, 400, json=body, headers={"Idempotency-Key": key})


def test_begin_refuses_unknown_users_and_leaves_nothing(stack):
    rows = stack.sql("SELECT count(*) FROM post_media")
    begin(stack, 999_999, TWO_PARTS, code=404)
    assert stack.sql("SELECT count(*) FROM post_media") == rows


def test_only_the_owner_sees_how_an_upload_stands(stack, film):
    stack.ask("GET", f"/v1/uploads/{film[0]}", 6, 404)
    stack.ask("GET", "/v1/uploads/999999999", 5, 404)
    stack.ask("GET", "/v1/uploads/..%2f1", 5, 404)
    stack.ask("GET", f"/v1/uploads/{film[0]}", None, 401)


# ---- what the store refuses: presigned URLs cannot be widened


@pytest.fixture(scope="module")
def pending(stack):
    return send_parts(begin(stack, 2, TWO_PARTS), b"", numbers=set())


def widened(url):
    """The URL with more than it was signed for."""
    return {
        "another part": url.replace("partNumber=1", "partNumber=2"),
        "another object": re.sub(r"/uploads/\d+", "/uploads/1", url),
        "a name that climbs": re.sub(r"/uploads/\d+", "/uploads/../../other/1", url),
        "a name that climbs, encoded": re.sub(r"/uploads/\d+", "/uploads/..%2f..%2fother", url),
        "another bucket": url.replace("/media/", "/other/"),
        "a longer life": re.sub(r"X-Amz-Expires=\d+", "X-Amz-Expires=604800", url),
        "a later day": re.sub(r"X-Amz-Date=\d{8}", "X-Amz-Date=20991231", url),
        "another signature": url[:-8] + "0" * 8,
        "no signature": url.partition("&X-Amz")[0],
        "another upload": re.sub(r"uploadId=[^&]+", "uploadId=another", url),
    }


@pytest.mark.parametrize("how", list(widened("")))
def test_a_url_that_was_changed_is_refused(pending, how):
    changed = widened(pending.parts[0].url)[how]
    assert changed != pending.parts[0].url
    answer = httpx.put(changed, content=bytes(pending.parts[0].size_bytes), timeout=60)
    assert 400 <= answer.status_code < 500, answer.text


@pytest.mark.parametrize("size_bytes", [1, 8 * MIB - 1, 8 * MIB + 1])
def test_a_part_of_another_length_is_refused(pending, size_bytes):
    assert httpx.put(pending.parts[0].url, content=bytes(size_bytes), timeout=60).status_code == 403


def test_a_part_without_a_length_is_refused(pending):
    answer = httpx.put(pending.parts[0].url, content=iter([bytes(MIB)] * 8), timeout=60)
    assert 400 <= answer.status_code < 500


def test_a_parts_url_is_for_nothing_else(pending):
    url = pending.parts[0].url
    for method in ("GET", "POST", "DELETE"):
        assert 400 <= httpx.request(method, url).status_code < 500
    assert 400 <= httpx.get(url.partition("?")[0]).status_code < 500  # the bucket is not public


def test_an_expired_url_is_refused(stack, store, pending):
    upload_id = re.search("uploadId=([^&]+)", pending.parts[0].url).group(1)
    url = store.part_url(object_key(pending.upload_id), upload_id, 1, 10, 1)
    time.sleep(2.1)
    answer = httpx.put(url, content=bytes(10))
    assert answer.status_code == 403
    assert ElementTree.fromstring(answer.content).findtext("Code") in ("AccessDenied", "ExpiredToken", "SignatureDoesNotMatch")


def test_what_is_published_cannot_be_changed_by_its_old_urls(stack, film):
    media, _, data, transfer = film
    other = content(len(data))
    assert 400 <= put(transfer.parts[0], other).status_code < 500
    httpx.post(transfer.complete_url, content=transfer.completion())  # whatever it answers
    store_view = httpx.get(f"{stack.state['api_url']}/v1/media/{media}", headers=stack.bearer(1), follow_redirects=True)
    assert store_view.content == data
    assert stack.sql("SELECT count(*) FROM posts WHERE id = $1", film[1]) == [(1,)]


# ---- what is refused once it is stored


def refused(stack, owner, begun, transfer):
    complete(transfer)
    done = ended(stack, owner, begun["id"])
    assert done["status"] == "refused"
    assert 400 <= stack.view(begun["view_url"]).status_code < 500
    stack.ask("GET", f"/v1/posts/{begun['post_id']}", 1, 404)
    return done["reason"]


@pytest.mark.parametrize(
    ("begins", "media_type"),
    [(b"MZ\x90\x00", "image/jpeg"), (b"%PDF-1.7", "video/mp4"), (JPEG, "image/png"), (b"<html><script>", "image/gif")],
)
def test_another_type_than_announced_is_deleted(stack, begins, media_type):
    data = content(MIB, begins)
    begun = begin(stack, 10, len(data), media_type=media_type)
    reason = refused(stack, 10, begun, send_parts(begun, data))
    assert media_type in reason
    deleted = httpx.get(f"{stack.state['settings']['s3_url']}/media/uploads/{begun['id']}")
    assert deleted.status_code in (403, 404)


def test_another_size_than_announced_is_deleted(stack, store):
    data = content(TWO_PARTS)
    begun = begin(stack, 10, len(data))
    transfer = send_parts(begun, data, numbers={1})
    transfer.parts = transfer.parts[:1]  # the last part never comes
    assert f"{8 * MIB} bytes" in refused(stack, 10, begun, transfer)
    gone = store.view_url(object_key(begun["id"]), "video/mp4", 60)
    assert httpx.get(gone).status_code == 404


# ---- notifications


@pytest.mark.parametrize("token", ["x", "wrong", "wrong" * 100, "\xe4\xf6"])
def test_a_forged_notification_is_refused(stack, token):
    upload = begin(stack, 11, TWO_PARTS)["id"]
    answer = httpx.post(
        events_url(stack), content=filer_event(upload), headers={"Authorization": f"Bearer {token}".encode("latin-1")}
    )
    assert answer.status_code == 401
    assert httpx.post(events_url(stack), content=filer_event(upload)).status_code == 401
    assert status(stack, 11, upload)["status"] == "pending"


def test_a_notification_without_an_object_changes_nothing(stack):
    upload = begin(stack, 11, TWO_PARTS)["id"]
    assert notify(stack, filer_event(upload)).status_code == 204
    assert notify(stack, filer_event(10**15)).status_code == 204
    assert status(stack, 11, upload)["status"] == "pending"


@pytest.mark.cluster
def test_a_notification_that_comes_again_publishes_nothing_again(stack, film):
    media, post, _, _ = film
    posts = stack.sql("SELECT count(*), max(id) FROM posts WHERE author_id = 5")
    with ThreadPoolExecutor(5) as threads:
        answers = threads.map(lambda _: notify(stack, filer_event(media)).status_code, range(5))
        assert set(answers) == {204}
    assert stack.sql("SELECT count(*), max(id) FROM posts WHERE author_id = 5") == posts
    assert posts[0][1] >= post


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 204), (b"{", 400), (b"\xff\xfe", 400), (b"[]", 400), (b'"uploads/1"', 400), (b'{"Records": 7}', 400),
        (b'{"Records": []}', 204), (b"x" * (3 * MIB), 413),
    ],
)  # fmt: skip
def test_a_notification_that_is_none_is_a_clear_answer(stack, body, code):
    assert notify(stack, body).status_code == code
