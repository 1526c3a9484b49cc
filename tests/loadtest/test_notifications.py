"""Streams of the load test's users: on the model in virtual time, and over a real WebSocket server."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import wsproto
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, Request, TextMessage

from loadtest import recording
from loadtest.both_sides import LOCUSTFILE
from tests.loadtest.commands import ROOT, environment

SMALL = (
    "population.users=40",
    "population.mean_followees=5",
    "population.celebrities=[]",
    "notifications.like_window_s=1",
)
BUSY = ("load.streams_per_feed_open=0.5", "load.comments_per_like=0.3", "load.subscribes_per_feed_open=0.2")


def run_model(raw: Path, *arguments: str):
    overrides = [part for one in (*SMALL, *BUSY) for part in ("--set", one)]
    command = [
        sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", "--exit-code-on-error", "0",
        "-r", "20", "-t", "60s", "--target", "model", "--seed", "3", "--raw", str(raw), *overrides, *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return recording.read(raw)


@pytest.mark.parametrize(
    "arguments", [("-u", "20", "--think-time-s", "1"), ("-u", "1", "--arrivals-per-s", "20")], ids=["closed", "open"]
)
def test_users_hear_of_what_others_do_and_the_same_again(tmp_path, arguments):
    rows = run_model(tmp_path / "raw.csv", *arguments)
    assert set(rows.outcome) <= {"ok", "unfinished"}
    for operation in ("notifications.subscribe", "notifications.stream"):
        assert len(rows[rows.operation == operation]) > 20
    heard = rows[rows.operation.str.startswith("notifications.delivered.")]
    assert set(heard.operation) == {"notifications.delivered.comment", "notifications.delivered.like"}
    comments = heard[heard.operation == "notifications.delivered.comment"]
    assert comments.latency_s.between(0.001, 5).all()
    assert run_model(tmp_path / "again.csv", *arguments).equals(rows)


MESSAGES = [
    {"type": "notification", "id": name, "kind": "like", "accepted_at": 1_700_000_000.0} for name in ("a", "b", "a")
]


@pytest.fixture
def server():
    """A server that speaks to one client after the other: MESSAGES, then acknowledgements until they hang up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        said: list[str] = []
        thread = threading.Thread(target=_serve, args=(listener, said), daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/v1/notifications", said
    thread.join(10)


def _serve(listener, said):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # the test is over
            return
        with connection, contextlib.suppress(ConnectionResetError):  # a client that hangs up with something unread
            protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
            while data := connection.recv(65536):
                protocol.receive_data(data)
                for event in protocol.events():
                    answer = _answer(protocol, event, said)
                    if answer:
                        connection.sendall(answer)


def _answer(protocol, event, said):
    match event:
        case Request():
            if (b"authorization", b"Bearer 7") not in event.extra_headers:
                return protocol.send(RejectConnection(status_code=401))
            texts = [json.dumps(message) for message in ({"type": "ready"}, *MESSAGES)]
            accepted = protocol.send(AcceptConnection())
            return accepted + b"".join(protocol.send(TextMessage(text)) for text in texts)
        case TextMessage():
            said.append(event.data)
        case CloseConnection():
            said.append("closed")
            return protocol.send(event.response())
    return b""


CLIENT = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from loadtest.streams import StreamRefused, WebSocketStream
heard = []
try:
    stream = WebSocketStream(sys.argv[1], {"Authorization": f"Bearer {sys.argv[2]}"}, lambda message: heard.append(message["id"]))
except StreamRefused as refusal:
    print(refusal.status)
else:
    with gevent.Timeout(10):
        while len(heard) < 3:
            gevent.sleep(0.01)
    gevent.sleep(0.1)
    stream.close()
    stream.close()
    print(heard)
"""


def client(url, user):
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, url, user],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_stream_acknowledges_what_comes_and_hangs_up(server):
    url, said = server
    assert client(url, "7") == "['a', 'b', 'a']"
    assert said == ['{"ack": ["a"]}', '{"ack": ["b"]}', '{"ack": ["a"]}', "closed"]


def test_a_refused_stream_says_why(server):
    url, _ = server
    assert client(url, "8") == "401"
    assert client("ws://127.0.0.1:9/v1/notifications", "7") == "0"  # nobody listens there
