"""Observe, calibrate and replay: on the real servers for a few seconds, and what they refuse."""

import dataclasses
import http.server
import json
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from loadtest import calibrate, observe, replay, traces
from loadtest.observing import REQUESTS, in_bursts
from loadtest.open_generator import Plan
from model.platform import OPERATIONS
from model.scenario import Fault
from reference_impl import operations
from scenarios.loader import load_scenario
from tests.loadtest.commands import environment

SMALL = ("--set", "population.users=300", "--set", "population.mean_followees=10", "--set", "population.celebrities=[]")


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    made.daemon_threads = True
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def sent_by(plan, tmp_path):
    """What the generator wrote, run as it always is: in a process of its own (Locust took `epoll` out of this one)."""
    plan.write(tmp_path / "plan.npz")
    command = [sys.executable, "-m", "loadtest.open_generator", tmp_path / "plan.npz", tmp_path / "sent.npz"]
    subprocess.run(command, env=environment(), check=True, timeout=60)
    return np.load(tmp_path / "sent.npz")


def test_generator_sends_every_request_once_and_never_early(server, tmp_path):
    at_s = np.linspace(0, 0.5, 40)
    messages = [f"GET /{'missing' if n % 10 == 9 else n} HTTP/1.1\r\nHost: x\r\n\r\n".encode() for n in range(40)]
    plan = Plan("127.0.0.1", server.server_port, at_s, messages, 5.0)
    plan.write(tmp_path / "plan.npz")
    assert Plan.read(tmp_path / "plan.npz").messages == messages
    sent = sent_by(plan, tmp_path)
    assert np.all(sent["sent_s"] >= at_s)
    assert np.all(sent["finished_s"] > sent["sent_s"])
    assert sent["status"].tolist() == [404 if n % 10 == 9 else 200 for n in range(40)]


def test_generator_tells_what_was_never_answered(tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1024)
        plan = Plan("127.0.0.1", silent.getsockname()[1], np.array([0.0, 0.01]), [b"GET / HTTP/1.1\r\n\r\n"] * 2, 0.2)
        sent = sent_by(plan, tmp_path)
    assert np.isnan(sent["finished_s"]).all()
    assert not np.isnan(sent["sent_s"]).any()


def test_generator_sends_on_while_a_server_takes_no_new_connections(tmp_path):
    """A full queue of new connections answers after a second or never; who waited for it there would send nothing meanwhile."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as full:
        plan = Plan("127.0.0.1", full.getsockname()[1], np.linspace(0, 0.2, 400), [b"GET / HTTP/1.1\r\n\r\n"] * 400, 0.2)
        sent = sent_by(plan, tmp_path)
    assert np.isfinite(sent["sent_s"]).all()
    assert (sent["status"] == 0).all()


def test_generator_leaves_connections_that_a_server_gives_up(tmp_path):
    """A server says 408 on each that is idle and closes it; requests after that are answered on others."""

    def serve(listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    def answer(connection):
        connection.settimeout(0.3)
        with connection:
            try:
                while connection.recv(1000):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            except TimeoutError:
                connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        at_s = np.array([0.0, 0.01, 0.8, 0.81, 0.82, 1.5])
        sent = sent_by(Plan("127.0.0.1", listener.getsockname()[1], at_s, [b"GET / HTTP/1.1\r\n\r\n"] * 6, 3.0), tmp_path)
    assert sent["status"].tolist() == [200] * 6


def test_requests_are_those_of_the_reference():
    routes = {row.name: (row.method, row.path) for row in operations.OPERATIONS}
    for operation, (method, path, _) in REQUESTS.items():
        assert operation in OPERATIONS
        wanted, template = routes[operation]
        assert (method, path.partition("?")[0].replace("{post}", "{id}")) == (wanted, template)


def test_bursts_keep_every_arrival_and_the_order():
    at_s = np.array([0.01, 0.2, 0.25, 0.26, 1.1])
    assert in_bursts(at_s, 0.25).tolist() == [0.25, 0.25, 0.25, 0.5, 1.25]
    assert in_bursts(at_s, 0.0) is at_s


@pytest.mark.parametrize(
    ("command", "arguments", "says"),
    [
        (observe, ["baseline"], "uploads.begin is not sent by the open generator"),
        (observe, ["--arrivals-per-s", "0"], "no number above 0"),
        (observe, ["--duration", "soon"], "no duration from 1s to 24h"),
        (observe, ["--burst-ms", "250ms"], "no whole number from 10 to 5000"),
        (observe, ["--locustfile", "x.py"], "--locustfile needs --host"),
        (observe, ["no_such_scenario"], "no_such_scenario"),
        (replay, ["nowhere"], "nowhere: not a trace"),
        (calibrate, ["nowhere"], "nowhere: not a trace"),
        (calibrate, ["nowhere", "spans.jsonl"], "cannot be mixed"),
    ],
)
def test_bad_input_is_refused_in_one_line(command, arguments, says, capsys, tmp_path):
    try:
        code = command.main([*arguments, "--out", str(tmp_path / "out")])
    except SystemExit as end:
        code = end.code
    assert code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("  ")]
    assert len(lines) == 1
    assert says in lines[0]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_run_is_observed_calibrated_and_replayed(tmp_path, capsys):
    folder = tmp_path / "observed"
    main = "import sys; from loadtest.observe import main; sys.exit(main(sys.argv[1:]))"
    # Few at a time: calibration needs requests that overlap no other, on a slow machine too.
    arguments = ("--arrivals-per-s", "10", "--duration", "25s", "--out", str(folder), "--json", str(tmp_path / "o.json"))
    done = subprocess.run(
        [sys.executable, "-c", main, *SMALL, *arguments], env=environment(), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trace = traces.read(folder)
    assert len(trace.rows) == pytest.approx(250, rel=0.35)
    assert trace.rows.intended_s.is_monotonic_increasing
    assert (trace.rows.sent_s >= trace.rows.intended_s).all()
    assert set(trace.rows.outcome) == {"ok"}
    likes = int(trace.rows.operation.isin(["interactions.like", "interactions.unlike", "interactions.comment"]).sum())
    applied = trace.milestones[trace.milestones["name"] == "interactions.applied"]
    assert 0.9 * likes <= len(applied) <= likes  # superseded by a later one of the batch, or drained too late
    assert (applied.reached_s >= applied.started_s).all()
    counters = [json.loads(line) for line in trace.file("counters.jsonl").read_text().splitlines()]
    assert counters[-1]["processes"]["api"][0] > counters[0]["processes"]["api"][0] > 0
    assert json.loads((tmp_path / "o.json").read_text())["cells"]["feed.open"]["n"] > 20

    target = tmp_path / "calibrated.toml"
    assert calibrate.main([str(folder), "--out", str(target)]) == 0
    assert "api_feed_open" in capsys.readouterr().out
    assert "# source: measured, n = " in target.read_text()
    scenario = load_scenario(str(target))
    assert scenario.stations["api"].host == "machine"
    assert 0.1 < scenario.hosts[0].speed < 1
    assert scenario.service_times["api_feed_open"].mean_s > 1e-4

    replayed = replay.replay(trace, scenario, "plain")
    assert replayed.rows.operation.tolist() == trace.rows.operation.tolist()
    assert np.array_equal(replayed.rows.intended_s, trace.rows.intended_s)
    assert set(replayed.rows.outcome) == {"ok"}
    assert replayed.header["audit"]["conserved"]
    assert len(replayed.milestones[replayed.milestones["name"] == "interactions.applied"]) == likes
    other = replay.replay(trace, scenario, "plain", seed=99)
    assert np.array_equal(other.rows.intended_s, trace.rows.intended_s)
    assert not np.array_equal(other.rows.latency_s, replayed.rows.latency_s)
    slow = dataclasses.replace(scenario, faults=(Fault("slow_server", 0.0, "database", 0, 1, None, speed=0.1),))
    assert replay.replay(trace, slow, "plain").rows.latency_s.mean() > replayed.rows.latency_s.mean()
    replayed.write(tmp_path / "replayed")
    assert replay.main([str(tmp_path / "replayed"), "--scenario", str(target), "--engine", "plain", "--out", str(tmp_path / "r")]) == 0
    again = traces.read(tmp_path / "r")
    assert np.array_equal(again.rows.latency_s, replayed.rows.latency_s)


@pytest.mark.slow
def test_another_system_is_observed_by_its_own_locustfile(server, tmp_path):
    theirs = tmp_path / "theirs.py"
    theirs.write_text(
        "from locust import HttpUser, constant, task\n"
        "class Theirs(HttpUser):\n"
        "    wait_time = constant(0.05)\n"
        "    @task\n"
        "    def page(self):\n"
        '        self.client.get("/page", name="shop.page")\n'
    )
    main = "import sys; from loadtest.observe import main; sys.exit(main(sys.argv[1:]))"
    arguments = ("--locustfile", str(theirs), "--host", f"http://127.0.0.1:{server.server_port}", "--users", "2")
    done = subprocess.run(
        [sys.executable, "-c", main, *arguments, "--duration", "6s", "--out", str(tmp_path / "out")],
        env=environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    trace = traces.read(tmp_path / "out")
    assert set(trace.rows.operation) == {"shop.page"}
    assert set(trace.rows.outcome) <= {"ok", "unfinished"}
    assert len(trace.rows) > 2
    assert "shop.page" in done.stdout
