"""Whoever answers, and how fast: each user asks for the same things in the same order."""

import base64
import hashlib
import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadtest import recording, user_streams
from loadtest.gateway import parse
from loadtest.tokens import MODEL_SECRET
from tests.loadtest.stand_in import feed_body

READY = b'{"type": "ready"}'
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of RFC 6455
ASKED: dict[int, list] = defaultdict(list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        route, user, arguments = parse(self.command, self.path, body, self.headers)
        arguments.pop("key", None)  # it tells runs apart
        ASKED[user].append([route.operation, arguments])
        answer = {"feed.open": feed_body(list(range(141, 151))[::-1]), "feed.publish": {"id": 151}}.get(
            route.operation, {}
        )
        content = b"" if route.status_ok == 204 else json.dumps(answer).encode()
        self.send_response(route.status_ok)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_POST = do_DELETE = answer

    def do_GET(self) -> None:
        if self.headers.get("Upgrade") != "websocket":
            self.answer()
            return
        route, user, arguments = parse("WS", self.path, None, self.headers)
        ASKED[user].append([route.operation, arguments])
        accepted = hashlib.sha1((self.headers["Sec-WebSocket-Key"] + WEBSOCKET_GUID).encode()).digest()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(accepted).decode())
        self.end_headers()
        self.wfile.write(bytes([0x81, len(READY)]) + READY)
        self.rfile.read()  # until the user hangs up
        self.close_connection = True

    def log_message(self, *_args) -> None:
        pass


@pytest.fixture
def server():
    ASKED.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_per_user_streams_are_equal_on_both_targets(run_locust, server):
    users = ("-u", "8", "-r", "8", "--users-in-platform", "100000", "--think-time-s", "0.05", "-t", "4s")
    model = run_locust("locustfile_platform.py", "--target", "model", *users, FC_FROZEN="1")
    reference = ("--target", "reference", "--host", server)
    real = run_locust("locustfile_platform.py", *reference, *users, FC_FROZEN="1", FLASHCROWD_TOKEN_SECRET=MODEL_SECRET)
    assert (model.code, real.code) == (0, 0)
    on_model = defaultdict(list)
    for operation, user, arguments in model.figures["asked"]:
        arguments.pop("key", None)
        on_model[user].append([operation, arguments])
    assert set(on_model) == set(ASKED)
    for user, asked in ASKED.items():
        common = min(len(asked), len(on_model[user]))
        assert common > 5
        assert asked[:common] == on_model[user][:common]
    rows = recording.read(real.raw)
    assert set(rows.outcome) <= {"ok", "unfinished"}
    assert (rows.sent_s > -0.01).all()


def test_open_arrivals_ask_the_same_on_both_targets_and_keep_their_schedule(run_locust, server):
    arrivals = ("-u", "1", "--arrivals-per-s", "40", "-t", "3s")
    model = run_locust("locustfile_platform.py", "--target", "model", *arrivals, FC_FROZEN="1")
    reference = ("--target", "reference", "--host", server)
    real = run_locust("locustfile_platform.py", *reference, *arrivals, FC_FROZEN="1", FLASHCROWD_TOKEN_SECRET=MODEL_SECRET)
    one, two = (recording.read(run.raw).sort_values("intended_s") for run in (model, real))
    common = min(len(one), len(two))
    assert common > 20
    assert (one.operation.to_numpy()[:common] == two.operation.to_numpy()[:common]).all()
    assert (one.user.to_numpy()[:common] == two.user.to_numpy()[:common]).all()
    offset_s = two.intended_s.to_numpy()[:common] - one.intended_s.to_numpy()[:common]
    assert offset_s - offset_s[0] == pytest.approx(0, abs=1e-5)


def test_paced_users_are_out_of_step(run_locust):
    """Users of `constant_throughput(0.5)` who start together do not ask together."""
    run = run_locust("locustfile_clients.py", "--target", "model", "-u", "100", "-r", "100", "-t", "20s")
    rows = recording.read(run.raw)
    phases_s = rows[rows.operation == "graph.follow"].sent_s.to_numpy() % 2.0
    assert len(set((phases_s * 4).astype(int))) > 4


def test_streams_depend_on_seed_and_name_only():
    assert user_streams.stream(1, "Reader", 17).random() == user_streams.stream(1, "Reader", 17).random()
    assert user_streams.stream(1, "Reader", 17).random() != user_streams.stream(1, "Reader", 18).random()
    assert user_streams.stream(2, "Reader", 17).random() != user_streams.stream(1, "Reader", 17).random()
