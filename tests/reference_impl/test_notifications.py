"""The room of notifications: streams over two API processes, push with quotas, priority, coalescing, killed workers."""

import contextlib
import json
import re
import time
import uuid
from itertools import pairwise

import httpx
import psutil
import pytest
import websocket

from reference_impl import inspection, state
from reference_impl.auth import Tokens
from reference_impl.notifications.streams import UNAUTHORIZED
from reference_impl.sessions import SIGN_OUTS_READ_EVERY_S
from tests.reference_impl.stack import eventually

TOPICS = ("notifications_high", "notifications_low")


@pytest.fixture(scope="module", autouse=True)
def nothing_waits(stack):
    """What other tests have set going is delivered."""
    eventually(lambda: not any(stack.status()["lag_records"].values()))
    eventually(lambda: undelivered(stack) == 0)


@pytest.fixture
def gateway(stack):
    return Gateway(stack.state["settings"]["fcm_url"])


class Gateway:
    def __init__(self, url):
        self.url = url

    def messages(self, user):
        return httpx.get(f"{self.url}/local/messages", params={"token": token(user)}).json()

    def everything(self):
        return httpx.get(f"{self.url}/local/messages").json()

    def token(self, name, state):
        assert httpx.put(f"{self.url}/local/tokens/{name}", json={"state": state}).status_code == 204

    @contextlib.contextmanager
    def quota(self, rate_per_s, burst=1):
        self._set(rate_per_s, burst)
        try:
            yield
        finally:
            self._set(10_000, 10_000)

    def _set(self, rate_per_s, burst):
        answer = httpx.put(f"{self.url}/local/quota", json={"rate_per_s": rate_per_s, "burst": burst})
        assert answer.status_code == 204

    def refusals(self):
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if "_answers_total{" in line and 'status="429"' in line)


class Device:
    """A device on a stream: acknowledges what it gets (unless told not to) and drops what it has."""

    def __init__(self, stack, user, api="api", acknowledges=True, headers=None):
        url = next(c["metrics_url"] for c in stack.state["processes"] if c["name"] == api)
        url = url.replace("http", "ws").replace("/metrics", "/v1/notifications")
        headers = headers or ({} if user is None else stack.bearer(user))
        self.socket = websocket.create_connection(url, header=headers, timeout=15)
        self.connection = self.socket.sock
        self.acknowledges = acknowledges
        self.seen = {}
        assert json.loads(self.socket.recv()) == {"type": "ready"}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
        self.connection.close()  # which the library does not when the server was the first to close

    def get(self):
        """The next notification that is new to this device."""
        while True:
            message = json.loads(self.socket.recv())
            assert message["type"] == "notification"
            if self.acknowledges:
                self.socket.send(json.dumps({"ack": [message["id"]]}))
            if self.seen.setdefault(message["id"], message) is message:
                return message

    def closed(self):
        """Wait for the server to end the stream; (code, reason)."""
        opcode, data = self.socket.recv_data()
        assert opcode == websocket.ABNF.OPCODE_CLOSE
        return int.from_bytes(data[:2], "big"), data[2:].decode()


def token(user):
    return f"seeded-{user}"


def subscribe(stack, device, user, code=204, **body):
    body = {"token": token(user), "platform": "fcm" if user % 2 == 0 else "apns"} | body
    return stack.ask("PUT", f"/v1/devices/{device}", user, code, json=body)


def like(stack, post, user, method="PUT"):
    stack.ask(method, f"/v1/posts/{post}/like", user, 202)


def comment(stack, post, user):
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    return stack.ask("POST", f"/v1/posts/{post}/comments", user, 202, json={"text": "well"}, headers=headers)["id"]


def pushed(gateway, user, post):
    return [one for one in gateway.messages(user) if one["post_id"] == str(post)]


def undelivered(stack):
    return stack.sql("SELECT count(*) FROM notifications WHERE delivered_at IS NULL")[0][0]


@pytest.mark.cluster
def test_online_users_are_told_on_their_streams_across_api_processes(stack, gateway):
    post = stack.publish(10)
    before = time.time()
    with Device(stack, 10, "api") as phone, Device(stack, 10, "api_2") as browser, Device(stack, 11, "api_2") as other:
        said = comment(stack, post, 3)
        for device in (phone, browser):
            got = device.get()
            assert (got["id"], got["kind"], got["post_id"], got["actor_id"], got["others"]) == (
                said,
                "comment",
                post,
                3,
                0,
            )
            assert got["text"] == "user3 commented on your post"
            assert before <= got["accepted_at"] <= time.time()
        like(stack, post, 11)
        assert browser.get()["kind"] == "like"
        comment(stack, stack.publish(11), 10)
        assert other.get()["actor_id"] == 10
        eventually(lambda: undelivered(stack) == 0)
        time.sleep(1.3)  # longer than the acknowledgement's timeout: nothing comes again by push
    assert pushed(gateway, 10, post) == []
    for kind, least in (("comment", 2), ("like", 1)):
        samples = [one for one in stack.milestones(f"notifications.delivered.{kind}") if one[0] >= before]
        assert len(samples) == least
        assert all(started <= reached <= started + 30 and weight == 1 for started, reached, weight in samples)
    eventually(lambda: stack.sql("SELECT count(*) FROM connections") == [(0,)])


@pytest.mark.cluster
@pytest.mark.parametrize("author", [12, 13])  # FCM, APNs
def test_users_who_are_offline_are_pushed(stack, gateway, author):
    post = stack.publish(author)
    said = comment(stack, post, 5)
    like(stack, post, 6)
    like(stack, post, author)  # nobody is told of what he did himself
    messages = eventually(lambda: (m := pushed(gateway, author, post))[1:] and m)
    got = {one["kind"]: one for one in messages}
    assert got["comment"]["id"] == said
    assert got["comment"]["text"] == "user5 commented on your post"
    assert got["like"]["text"] == "user6 liked your post"
    assert [got[kind]["priority"] for kind in ("comment", "like")] == (
        ["HIGH", "NORMAL"] if author == 12 else ["10", "5"]
    )
    eventually(lambda: undelivered(stack) == 0)
    assert len(pushed(gateway, author, post)) == 2


@pytest.mark.cluster
def test_a_stream_that_does_not_acknowledge_is_made_up_for_by_push(stack, gateway):
    post = stack.publish(14)
    with Device(stack, 14, acknowledges=False) as device:
        said = comment(stack, post, 3)
        assert device.get()["id"] == said
        eventually(lambda: [one["id"] for one in pushed(gateway, 14, post)] == [said])
    eventually(lambda: undelivered(stack) == 0)


def test_likes_are_gathered_within_the_window(stack, gateway):
    post = stack.publish(16)
    like(stack, post, 1)
    eventually(lambda: pushed(gateway, 16, post))
    for user in range(20, 41):
        like(stack, post, user)
    like(stack, post, 1, "DELETE")
    like(stack, post, 1)  # its author has been told of it
    eventually(lambda: not any(stack.status()["lag_records"].values()))
    lasted_s = time.time() - pushed(gateway, 16, post)[0]["taken_at"]  # since the first window began

    def gathered():
        texts = [one["text"] for one in pushed(gateway, 16, post)[1:]]
        others = [re.fullmatch(r"user\d+(?: and (\d+) others?)? liked your post", text) for text in texts]
        return sum(1 + int(found[1] or 0) for found in others)

    eventually(lambda: gathered() == 21)
    first, *later = pushed(gateway, 16, post)
    assert first["text"] == "user1 liked your post"
    assert 1 <= len(later) <= 1 + lasted_s / 1.5  # one, unless the machine is slow
    # The windows' two seconds, less what a push before took itself.
    assert all(after["taken_at"] - before["taken_at"] > 1.5 for before, after in pairwise([first, *later]))
    counted = "SELECT count(*) FROM notification_events JOIN notifications ON notification_id = notifications.id WHERE post_id = $1"
    assert stack.sql(counted, post) == [(22,)]
    assert len(stack.sql("SELECT FROM notifications WHERE post_id = $1", post)) == 1 + len(later)


def test_preferences_and_topics_are_kept(stack, gateway):
    subscribe(stack, 18, 18, preferences={"likes": False})
    post = stack.publish(18)
    like(stack, post, 1)
    said = comment(stack, post, 2)
    assert [one["id"] for one in eventually(lambda: pushed(gateway, 18, post))] == [said]
    eventually(lambda: not any(stack.status()["lag_records"][topic] for topic in TOPICS))
    assert [kind for (kind,) in stack.sql("SELECT kind FROM notifications WHERE user_id = 18")] == ["comment"]
    # A device that wants no comments is not pushed any; they wait for a stream.
    subscribe(stack, 18, 18, topics=["likes"], preferences={"likes": True, "comments": True})
    said = comment(stack, post, 3)
    waits = "SELECT count(*) FROM notifications WHERE user_id = 18 AND try_at = 'infinity'"
    eventually(lambda: stack.sql(waits) == [(1,)])
    with Device(stack, 18) as device:
        assert device.get()["id"] == said
    eventually(lambda: undelivered(stack) == 0)


@pytest.mark.parametrize("author", [22, 23])  # 404 of FCM, 410 of APNs
def test_dead_tokens_are_removed_and_nothing_is_lost(stack, gateway, author):
    gateway.token(token(author), "dead")
    post = stack.publish(author)
    said = comment(stack, post, 1)
    eventually(lambda: stack.sql("SELECT FROM devices WHERE user_id = $1", author) == [])
    assert pushed(gateway, author, post) == []
    gateway.token("new", "alive")
    subscribe(stack, 1_000 + author, author, token=f"new-{author}")
    eventually(lambda: [one["id"] for one in gateway.everything() if one["token"] == f"new-{author}"] == [said])
    eventually(lambda: undelivered(stack) == 0)


def test_a_quota_is_respected_comments_overtake_likes_and_all_arrive(stack, gateway):
    authors = range(24, 32)
    posts = {author: [stack.publish(author) for _ in range(4)] for author in authors}
    refused = gateway.refusals()
    with gateway.quota(rate_per_s=1, burst=2):  # while they are made, however long that takes
        began = time.time()
        for author in authors:
            for post in posts[author]:
                like(stack, post, 1)
        eventually(lambda: len([one for one in gateway.everything() if one["taken_at"] >= began]) >= 2)
        said = [comment(stack, posts[author][0], 2) for author in authors[:3]]
        with gateway.quota(rate_per_s=4, burst=4):
            faster_at = time.time()
            eventually(lambda: set(said) <= {one["id"] for one in gateway.everything()})
            taken = [one for one in gateway.everything() if one["taken_at"] >= began]
    last_comment = max(one["taken_at"] for one in taken if one["id"] in said)
    slow_s, fast_s = faster_at - began, taken[-1]["taken_at"] - faster_at
    assert len(taken) <= 2 + 1 * slow_s + 4 + 4 * fast_s + 1  # the provider's buckets, of which nothing was passed by
    assert gateway.refusals() > refused
    eventually(lambda: undelivered(stack) == 0)
    later = [one for one in gateway.everything() if one["taken_at"] > last_comment]
    assert len([one for one in later if one["kind"] == "like"]) > 5  # likes that came first
    likes = [one for one in gateway.everything() if one["taken_at"] >= began and one["kind"] == "like"]
    assert len({one["id"] for one in likes}) == 32


@pytest.mark.slow
@pytest.mark.cluster
def test_killed_workers_lose_nothing(stack, gateway):
    authors = range(32, 50)
    posts = {author: stack.publish(author) for author in authors}
    began = time.time()
    with gateway.quota(rate_per_s=10, burst=10):
        said = {comment(stack, posts[author], user) for author in authors for user in (1, 2, 3)}
        for author in authors:
            like(stack, posts[author], 4)
        eventually(lambda: len([one for one in gateway.everything() if one["taken_at"] >= began]) > 5)
        stack.kill("notification_worker_1", "notification_worker_2")
        report = inspection.report(state.read(stack.state_dir))
    stack.command("up")
    assert report["up"] is False
    eventually(lambda: stack.sql("SELECT count(*) FROM notifications WHERE post_id = ANY($1::bigint[])", list(posts.values()))
               == [(4 * len(authors),)], 40, "the takeover")  # fmt: skip
    eventually(lambda: undelivered(stack) == 0, 40)
    taken = [one for one in gateway.everything() if one["taken_at"] >= began]
    assert {one["id"] for one in taken if one["kind"] == "comment"} == said
    assert {one["post_id"] for one in taken if one["kind"] == "like"} == {str(post) for post in posts.values()}
    # A device may get something twice, under the same id; an event is a notification once.
    counted = stack.sql(
        "SELECT count(*), count(DISTINCT e.id) FROM notification_events e JOIN notifications n ON n.id = notification_id "
        "WHERE post_id = ANY($1::bigint[])", list(posts.values()),
    )  # fmt: skip
    assert counted == [(72, 72)]


@pytest.mark.slow
def test_a_killed_api_process_is_no_longer_online(stack, gateway):
    post = stack.publish(50)
    device = Device(stack, 50, "api_2")
    stack.kill("api_2")
    with contextlib.suppress(OSError, websocket.WebSocketException):
        device.socket.close()
    said = comment(stack, post, 1)
    eventually(lambda: [one["id"] for one in pushed(gateway, 50, post)] == [said])
    stack.command("up")
    with Device(stack, 50, "api_2") as device:
        said = comment(stack, post, 2)
        assert device.get()["id"] == said


def test_without_redis_notices_are_lost_and_notifications_are_not(stack, gateway):
    valkey = next(child for child in stack.state["processes"] if "valkey" in child["name"] or "redis" in child["name"])
    process = psutil.Process(valkey["pid"])
    post = stack.publish(52)
    with Device(stack, 52):
        process.suspend()
        try:
            said = comment(stack, post, 1)
            time.sleep(0.5)
        finally:
            process.resume()
        eventually(
            lambda: stack.sql(
                "SELECT FROM notifications WHERE id = $1::uuid AND delivered_at IS NOT NULL", uuid.UUID(said)
            )
        )


BAD_DEVICES = [
    (b"{", 400),
    (b"\xff\xfe", 400),
    (b"[]", 422),
    (b"{}", 422),
    (b'{"token": "", "platform": "fcm"}', 422),
    (b'{"token": "a/../b", "platform": "apns"}', 422),
    (b'{"token": "a", "platform": "carrier pigeon"}', 422),
    (b'{"token": "a", "platform": "fcm", "topics": ["everything"]}', 422),
    (b'{"token": "a", "platform": "fcm", "topics": ["likes", "likes", "likes"]}', 422),
    (b'{"token": "a", "platform": "fcm", "preferences": {"likes": "never"}}', 422),
    (b'{"token": "' + b"a" * 2000 + b'", "platform": "fcm"}', 422),
]


@pytest.mark.parametrize(("body", "code"), BAD_DEVICES)
def test_bad_devices_are_refused(stack, body, code):
    assert "error" in stack.ask("PUT", "/v1/devices/7", 7, code, content=body)


def test_devices_belong_to_their_users(stack):
    subscribe(stack, 55, 54, 403, token="somebody-elses")
    assert stack.sql("SELECT user_id, token FROM devices WHERE id = 55") == [(55, "seeded-55")]
    assert "no user" in subscribe(stack, 900, 987_654, 404)["error"]
    assert "error" in stack.ask("PUT", "/v1/devices/7", None, 401, json={"token": "a", "platform": "fcm"})
    assert "error" in stack.ask("PUT", "/v1/devices/x7", 7, 404, json={"token": "a", "platform": "fcm"})
    subscribe(stack, 55, 54, token="seeded-55")  # the same phone, and somebody else has logged in
    assert stack.sql("SELECT user_id FROM devices WHERE id = 55") == [(54,)]
    subscribe(stack, 56_000, 56, token="seeded-56")  # the app was installed anew
    assert stack.sql("SELECT id FROM devices WHERE token = 'seeded-56'") == [(56_000,)]


@pytest.mark.parametrize("user", [None, "x", -1, 2**63])
def test_streams_without_a_user_are_refused_in_http(stack, user):
    with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
        Device(stack, user)
    assert refusal.value.status_code == 401
    assert "token" in json.loads(refusal.value.resp_body)["error"]


@pytest.mark.parametrize(
    "said", ["no JSON", '"ack"', '{"ack": ["no uuid"]}', '{"ack": [], "more": 1}', b"\xff\xfe", "9" * 20_000]
)
def test_what_a_device_must_not_say_ends_its_stream(stack, said):
    with Device(stack, 57) as device:
        device.socket.send(
            said, websocket.ABNF.OPCODE_BINARY if isinstance(said, bytes) else websocket.ABNF.OPCODE_TEXT
        )
        assert device.closed()[0] in (1007, 1008, 1009)


def test_signing_out_ends_every_stream_of_the_user_and_nobody_elses(stack):
    old = stack.bearer(54)
    with Device(stack, 54, headers=old) as here, Device(stack, 54, "api_2", headers=old) as there, Device(stack, 53) as other:
        stack.ask("DELETE", "/v1/sessions", None, 204, headers=old)
        with Device(stack, 54) as again:  # with a new token
            for device in (here, there):
                assert device.closed() == (UNAUTHORIZED, "the user has signed out; open another session")
            time.sleep(SIGN_OUTS_READ_EVERY_S + 0.5)
            for device in (again, other):
                device.socket.ping()
                assert device.socket.recv_data(control_frame=True)[0] == websocket.ABNF.OPCODE_PONG


def test_a_stream_lasts_no_longer_than_its_token(stack):
    short = Tokens(stack.state["settings"]["token_secret"], lifetime_s=2)
    with Device(stack, 53, headers={"Authorization": f"Bearer {short.issue(53)}"}) as device:
        assert device.closed() == (UNAUTHORIZED, "the token has expired; open another session")


def test_a_user_has_ten_streams_at_most(stack):
    with contextlib.ExitStack() as streams:
        for _ in range(10):
            streams.enter_context(Device(stack, 58))
        with pytest.raises(websocket.WebSocketBadStatusException) as refusal:
            Device(stack, 58)
        assert refusal.value.status_code == 429


def test_nobody_acknowledges_for_somebody_else(stack):
    post = stack.publish(59)
    with Device(stack, 59, acknowledges=False) as mine, Device(stack, 58) as other:
        said = comment(stack, post, 1)
        mine.get()
        other.socket.send(json.dumps({"ack": [said]}))
        time.sleep(0.3)
        assert stack.sql("SELECT delivered_at FROM notifications WHERE id = $1", uuid.UUID(said)) == [(None,)]
        mine.socket.send(json.dumps({"ack": [said]}))
        eventually(lambda: undelivered(stack) == 0)


@pytest.mark.parametrize(
    ("path", "headers", "body", "code"),
    [
        ("/v1/projects/flashcrowd/messages:send", {}, {"message": {"token": "t"}}, 401),
        ("/v1/projects/flashcrowd/messages:send", {"authorization": "Bearer local"}, {"message": {}}, 400),
        ("/3/device/t", {}, {"aps": {"alert": {"body": "b"}}}, 403),
        ("/3/device/t", {"authorization": "bearer local"}, {"aps": {"alert": {"body": "b"}}}, 400),
        ("/3/device/t", {"authorization": "bearer local", "apns-topic": "a"}, {"aps": 1}, 400),
        ("/3/device/t", {"authorization": "bearer local", "apns-topic": "a"}, {"aps": "b" * 5000}, 413),
    ],
)  # fmt: skip
def test_the_local_gateway_refuses_what_the_providers_refuse(gateway, path, headers, body, code):
    assert httpx.post(gateway.url + path, headers=headers, json=body).status_code == code


def test_old_events_are_forgotten_unless_their_notification_waits(stack):
    insert = "INSERT INTO notification_events (id, notification_id, accepted_at) VALUES ($1, $2, $3)"
    waiting, old, young, needed = (uuid.uuid4() for _ in range(4))
    stack.sql(
        """INSERT INTO notifications (id, user_id, post_id, kind, priority, actor_id, others, accepted_at, due_at, try_at)
           VALUES ($1, 59, -1, 'comment', 0, 1, 0, 1, now(), 'infinity')""",
        waiting,
    )
    now = time.time()
    stack.sql(insert, old, uuid.uuid4(), now - 15 * 86_400)
    stack.sql(insert, young, uuid.uuid4(), now - 13 * 86_400)
    stack.sql(insert, needed, waiting, now - 15 * 86_400)
    left = "SELECT id FROM notification_events WHERE id = ANY($1::uuid[])"
    eventually(lambda: set(stack.sql(left, [old, young, needed])) == {(young,), (needed,)})
    stack.sql("DELETE FROM notifications WHERE id = $1", waiting)
