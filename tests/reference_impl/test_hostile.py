"""What a stranger may send: each case is refused with a clear 4xx, and the service is healthy after.

Presigned URLs that were changed, have expired or are used for something else are in test_uploads.py, and so are files that are not
what was announced; what a device must not say on its stream is in test_notifications.py.
"""

import contextlib
import json
import re
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from reference_impl.auth import ALGORITHM, ISSUER
from reference_impl.web import MAX_BODY_BYTES
from tests.reference_impl.media import MIB, begin
from tests.reference_impl.stack import eventually

ME, OTHER = 33, 34
POST = b'{"title": "t", "content": "c"}'
UPLOAD = {"title": "t", "content": "", "media_type": "video/mp4", "size_bytes": 10 * MIB}
NOW = int(time.time())
CLAIMS = {"iss": ISSUER, "sub": str(ME), "iat": NOW, "exp": NOW + 3600}


def tampered(stack):
    head, claims, signature = stack.bearer(ME)["Authorization"].split(".")
    other = jwt.encode(CLAIMS | {"sub": str(OTHER)}, "x" * 32, ALGORITHM).split(".")[1]
    assert other != claims
    return f"{head}.{other}.{signature}"


def signed(stack, **changes):
    return "Bearer " + jwt.encode(CLAIMS | changes, stack.state["settings"]["token_secret"], ALGORITHM)


TOKENS = {
    "no token": lambda stack: None,
    "tampered": tampered,
    "cut short": lambda stack: stack.bearer(ME)["Authorization"][:-4],
    "expired": lambda stack: signed(stack, exp=NOW - 10),
    "without end": lambda stack: signed(stack, exp=None),
    "foreign-signed": lambda stack: "Bearer " + jwt.encode(CLAIMS, "f" * 40, ALGORITHM),
    "unsigned": lambda stack: "Bearer " + jwt.encode(CLAIMS, None, "none"),
    "signed by a public text": lambda stack: "Bearer " + jwt.encode(CLAIMS, "-----BEGIN PUBLIC KEY-----" * 2, ALGORITHM),
    "of another platform": lambda stack: signed(stack, iss="elsewhere"),
    "of nobody": lambda stack: signed(stack, sub="../33"),
    "the store's": lambda stack: "Bearer " + stack.state["settings"]["store_events_secret"],
    "a password": lambda stack: "Basic dXNlcjMzOmZsYXNoY3Jvd2Q=",
    "bytes": lambda stack: b"Bearer \xff\xfe\xe4".decode("latin-1"),
}
PLACES = [("GET", "/v1/feed"), ("PUT", "/v1/posts/1/like"), ("POST", "/v1/uploads"), ("GET", "/v1/media/1")]


@pytest.fixture(scope="module", autouse=True)
def healthy_after(stack):
    """After all that: healthy, nothing answered with 5xx, no traceback in the log, no secret in any log."""
    yield
    health = stack.ask("GET", "/healthz", None, 200)
    assert health["status"] == "ok"
    assert stack.feed(ME) is not None
    lines = httpx.get(stack.state["api_url"] + "/metrics").text.splitlines()
    assert [line for line in lines if re.match(r'flashcrowd_requests_total\{.*status="500"', line)] == []
    logs = {path.name: path.read_text(errors="replace") for path in stack.state_dir.glob("*.log")}
    assert "api.log" in logs
    settings = stack.state["settings"]
    secrets = [settings[name] for name in ("token_secret", "s3_secret_key", "store_events_secret")]
    secrets += [urlsplit(settings[name]).password for name in ("database_url", "redis_url")]
    assert all(len(secret) >= 16 for secret in secrets)
    assert [name for name, text in logs.items() for secret in secrets if secret in text] == []


def refused(answer, codes):
    """The answer is one line of JSON that gives nothing away."""
    assert answer.status_code in codes, (answer.status_code, answer.text)
    assert list(answer.json()) == ["error"]
    assert re.search(r"Traceback|File \"|asyncpg|SELECT|/site-packages/", answer.text) is None
    assert answer.headers["x-content-type-options"] == "nosniff"
    return answer


@pytest.mark.parametrize("which", TOKENS)
def test_bad_tokens_open_nothing(stack, edge_url, which):
    token = TOKENS[which](stack)
    for method, path in PLACES:
        headers = {"X-User-Id": str(ME)} | ({} if token is None else {"Authorization": token.encode("latin-1")})
        for url in [stack.state["api_url"], *([edge_url] if "media" in path else [])]:
            answer = refused(stack.client.request(method, url + path, headers=headers, params={"access_token": token}), {401})
            assert answer.headers["www-authenticate"] == "Bearer"


def chunks(count, size=64 * 1024):
    for _ in range(count):
        yield b"x" * size


DEEP = b"[" * 100_000
CASES = {
    # bodies
    "a body longer than is allowed": ("POST", "/v1/posts", {"content": b"x" * (MAX_BODY_BYTES + 1)}, 413),
    "the same, of no stated length": ("POST", "/v1/posts", {"content": chunks(8)}, 413),
    "a text longer than is allowed": ("POST", "/v1/posts", {"json": {"title": "x" * 10_001, "content": ""}}, 422),
    "broken UTF-8": ("POST", "/v1/posts", {"content": b'{"title": "\xff\xfe", "content": ""}'}, 400),
    "half a surrogate pair": ("POST", "/v1/posts", {"content": b'{"title": "\\ud800", "content": ""}'}, 400),
    "another encoding": ("POST", "/v1/posts", {"content": POST.decode().encode("utf-16")}, 400),
    "deep JSON": ("POST", "/v1/posts", {"content": DEEP}, 422),
    "deep JSON in a field": ("POST", "/v1/posts", {"content": b'{"title": ' + DEEP}, 422),
    "deep JSON in an unknown field": ("POST", "/v1/posts", {"content": b'{"more": ' + DEEP}, 400),
    "deep objects": ("POST", "/v1/posts", {"content": b'{"a":' * 50_000}, 400),
    "not JSON": ("POST", "/v1/posts", {"content": b"<title>t</title>"}, 400),
    "a form": ("POST", "/v1/posts", {"data": {"title": "t", "content": "c"}}, 400),
    "a list": ("POST", "/v1/posts", {"content": b"[]"}, 422),
    "nothing": ("POST", "/v1/posts", {"content": b""}, 400),
    "a NUL": ("POST", "/v1/posts", {"json": {"title": "a\x00b", "content": ""}}, 422),
    "a huge number": ("POST", "/v1/uploads", {"json": UPLOAD | {"size_bytes": 10**400}}, 422),
    "not a number": ("POST", "/v1/uploads", {"content": b'{"size_bytes": NaN}'}, 400),
    # files
    "a file too large": ("POST", "/v1/uploads", {"json": UPLOAD | {"size_bytes": 2_000_000_001}}, 422),
    "a file too small": ("POST", "/v1/uploads", {"json": UPLOAD | {"size_bytes": 0}}, 422),
    "a program": ("POST", "/v1/uploads", {"json": UPLOAD | {"media_type": "application/x-msdownload"}}, 422),
    "a type with a parameter": ("POST", "/v1/uploads", {"json": UPLOAD | {"media_type": "image/png;x=y"}}, 422),
    "a type that breaks the header": ("POST", "/v1/uploads", {"json": UPLOAD | {"media_type": "image/png\r\nA: b"}}, 422),
    # keys
    "no idempotency key": ("POST", "/v1/uploads", {"json": UPLOAD, "headers": {"Idempotency-Key": ""}}, 400),
    "a long key": ("POST", "/v1/uploads", {"json": UPLOAD, "headers": {"Idempotency-Key": "k" * 201}}, 400),
    "a key of bytes": ("POST", "/v1/uploads", {"json": UPLOAD, "headers": {"Idempotency-Key": b"\xe4\xff"}}, 400),
    # names that climb, ids that are none
    "a name that climbs": ("GET", "/v1/media/..%2f..%2fetc%2fpasswd", {}, 404),
    "a name that climbs, twice encoded": ("GET", "/v1/media/%252e%252e%252fetc", {}, 404),
    "a NUL in a name": ("GET", "/v1/uploads/1%00", {}, 404),
    "digits of another script": ("GET", "/v1/posts/%D9%A7", {}, 404),
    "beyond all ids": ("GET", f"/v1/posts/{2**63}", {}, 404),
    "a very long id": ("GET", "/v1/posts/" + "9" * 5_000, {}, 404),
    "below zero": ("PUT", "/v1/posts/-1/like", {}, 404),
    "an injection in the path": ("GET", "/v1/posts/1%20OR%201=1", {}, 404),
    # queries
    "an injection in a query": ("GET", "/v1/feed?limit=1;DROP TABLE users", {}, 422),
    "a page of a million": ("GET", "/v1/feed?limit=1000000", {}, 422),
    "a cursor of ours, changed": ("GET", "/v1/feed?cursor=OTk5OTk5OTk5OTk5OTk5OTk5OTk5LjE", {}, 400),
    "an infinite query": ("GET", "/v1/search?kind=users&q=" + "a" * 101, {}, 422),
    "a table that is nobody's business": ("GET", "/v1/search?kind=devices&q=a", {}, 422),
    "a search for nothing": ("GET", "/v1/search?kind=users&q=%20%09", {}, 422),
    # what is not there
    "a method that is not there": ("PATCH", "/v1/feed", {}, 405),
    "a path that is not there": ("GET", "/v1/../../etc/passwd", {}, 404),
    "the stream, without upgrading": ("GET", "/v1/notifications", {}, 404),
    # the store's door
    "a forged notification": ("POST", "/v1/store-events", {"content": b"{}"}, 401),  # with a user's token
    # sessions
    "an injection for a name": ("POST", "/v1/sessions", {"json": {"name": "user33' OR '1'='1", "password": "x"}}, 401),
    "a name that is a list": ("POST", "/v1/sessions", {"json": {"name": ["user33"], "password": "x"}}, 422),
    "a long password": ("POST", "/v1/sessions", {"json": {"name": "user33", "password": "x" * 100_000}}, 422),
}


@pytest.mark.parametrize("what", CASES)
def test_each_is_refused_with_a_clear_answer(stack, what):
    method, path, options, code = CASES[what]
    headers = {"Idempotency-Key": "a key"} | options.get("headers", {})
    refused(stack.request(method, path, ME, **(options | {"headers": headers})), {code})


def test_what_is_somebody_elses_stays_so(stack):
    upload = begin(stack, OTHER, 10 * MIB, key="mine")["id"]
    refused(stack.request("GET", f"/v1/uploads/{upload}", ME), {404})
    assert begin(stack, ME, 10 * MIB, key="mine")["id"] != upload  # the same key, of another user
    device = {"token": "another-phone", "platform": "fcm"}
    refused(stack.request("PUT", f"/v1/devices/{OTHER}", ME, json=device), {403})


def test_a_user_has_a_limited_number_of_pending_uploads(stack):
    most = stack.state["settings"]["upload_pending_most"]
    stack.sql(
        """INSERT INTO post_media (post_id, owner_id, idempotency_key, title, content, media_type, size_bytes, part_bytes, upload_id)
           SELECT -1, 36, 'of the test ' || n, '', '', 'video/mp4', 1000000, 8388608, '' FROM generate_series(1, $1::int) AS n""",
        most,
    )
    try:
        answer = stack.request("POST", "/v1/uploads", 36, json=UPLOAD, headers={"Idempotency-Key": "one more"})
        assert int(refused(answer, {429}).headers["retry-after"]) > 0
    finally:
        stack.sql("DELETE FROM post_media WHERE owner_id = 36")
    assert begin(stack, 36, 10 * MIB)["status"] == "pending"


def test_a_replayed_key_does_a_thing_once_and_never_another_thing(stack):
    first, again = (begin(stack, ME, 10 * MIB, key="replayed") for _ in range(2))
    assert again["id"] == first["id"]
    begin(stack, ME, 11 * MIB, key="replayed", code=409)
    begin(stack, ME, 10 * MIB, media_type="image/png", key="replayed", code=409)
    post = stack.publish(OTHER)
    said = [
        stack.ask(
            "POST", f"/v1/posts/{post}/comments", ME, 202, json={"text": text}, headers={"Idempotency-Key": "replayed"}
        )["id"]
        for text in ("once", "once", "another text")
    ]
    assert len(set(said)) == 1
    eventually(lambda: stack.sql("SELECT text FROM comments WHERE post_id = $1", post) == [("once",)])


# ---- below HTTP


def connect(stack):
    url = urlsplit(stack.state["api_url"])
    return socket.create_connection((url.hostname, url.port), timeout=30)


def said_by(connection):
    """All that the server says until it hangs up."""
    said = b""
    try:
        while data := connection.recv(65_536):
            said += data
    except ConnectionResetError:  # it hung up while we were sending
        pass
    return said


HEAD = b"GET /v1/feed HTTP/1.1\r\nHost: a\r\n"
RAW = {
    "a huge header": (HEAD + b"X-A: " + b"x" * 100_000 + b"\r\n\r\n", b"431"),
    "many headers": (HEAD + b"".join(b"X-%d: a\r\n" % number for number in range(10_000)) + b"\r\n", b"431"),
    "a huge header without end": (HEAD + b"X-A: " + b"x" * 100_000, b"431"),
    "a huge path": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"431"),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10, b"400"),
    "no header": (HEAD + b"no colon\r\n\r\n", b"400"),
    "two lengths": (HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", b"400"),
    "length and chunks": (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"400"),
    "a length below zero": (HEAD + b"Content-Length: -5\r\n\r\n", b"400"),
    "a chunk of no length": (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
    "a body without end": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 80, None),
}


@pytest.mark.parametrize("what", RAW)
def test_what_is_no_request_of_ours_ends_the_connection(stack, what):
    sent, code = RAW[what]
    with connect(stack) as connection:
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(sent)
        said = said_by(connection)
    if code is None:  # it may have been answered before there was too much of it
        assert b" 500 " not in said
    else:
        assert said.startswith(b"HTTP/1.1 " + code)
        assert list(json.loads(said.partition(b"\r\n\r\n")[2])) == ["error"]


def drip(stack, first, drop):
    """Send ``first``, then ``drop`` every half second, until the server hangs up; return what it said."""
    with connect(stack) as connection:
        connection.sendall(first)
        connection.settimeout(0.5)
        said, deadline = b"", time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                data = connection.recv(65_536)
                if not data:
                    return said
                said += data
            except TimeoutError:
                if drop:
                    connection.sendall(drop)
            except ConnectionError:
                return said
    return None


def test_slow_clients_are_cut_off_and_the_others_are_served(stack):
    token = stack.bearer(ME)["Authorization"].encode()
    body = b"POST /v1/posts HTTP/1.1\r\nHost: a\r\nAuthorization: " + token + b"\r\nContent-Length: 1000\r\n\r\n"
    slow = {"headers": (HEAD, b"X-A: b\r\n"), "body": (body, b"x"), "nothing at all": (b"", b""), "a word": (b"GE", b"")}
    with ThreadPoolExecutor(20) as threads:
        many = [(name, threads.submit(drip, stack, *slow[name])) for name in slow for _ in range(5)]
        assert stack.feed(ME) is not None  # meanwhile
        said = [(name, one.result()) for name, one in many]
    assert [name for name, text in said if text is None] == []
    assert {text[:12] for _, text in said} == {b"HTTP/1.1 408"}


def test_a_client_that_is_gone_harms_nobody(stack):
    for sent in (HEAD, b"POST /v1/posts HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{", b""):
        connection = connect(stack)
        connection.sendall(sent)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # reset it, rather than close
        connection.close()
    assert stack.feed(ME) is not None
