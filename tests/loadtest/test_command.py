"""The command `locust` with this plugin: refusals, ends that are not as planned, the web interface."""

import signal
import subprocess
import time

import httpx
import pytest

from loadtest import gateway, recording
from tests.loadtest.commands import ROOT, command, environment


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--target", "model", "--master"), "--target model runs in one process"),
        (("--target", "model", "--worker"), "leave out --master, --worker and --processes"),
        (("--target", "model", "--processes", "2"), "replications with different --seed"),
        (("--raw", "rows.txt"), "--raw rows.txt: the name must end in .csv or .parquet"),
        (("--graph", "nowhere.txt"), "--graph nowhere.txt: no such file"),
        (("--target", "model", "--think-time-s", "-1"), "--think-time-s must be at least 0, not -1"),
        (("--target", "model", "--users-in-platform", "0"), "--users-in-platform must be at least 1, not 0"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, says):
    full = command("locustfile_platform.py", "--headless", "--skip-log-setup", "-t", "1s", *arguments)
    done = subprocess.run(full, env=environment(), cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("sleepless", "virtual time stands still at 0.000000 s: a task without any latency or waiting time"),
        ("immediate", "virtual time stands still"),
        ("broken", "the model failed at virtual time 0.000000 s: RuntimeError('the model has a bug')"),
    ],
)
def test_a_run_that_cannot_go_on_ends_with_a_clear_error(run_locust, task, says):
    run = run_locust("locustfile_clients.py", "--target", "model", "-u", "3", "-t", "10s", FC_TASK=task)
    assert run.code == 3
    assert says in run.errors
    assert run.figures["summary"]["failed"]


def test_our_users_ask_for_every_operation_of_the_contract_and_nothing_else(run_locust):
    for arguments in [("-u", "50", "-r", "50"), ("-u", "1", "--arrivals-per-s", "50")]:
        run = run_locust("locustfile_platform.py", "--target", "model", "-t", "60s", *arguments, FC_UPLOADS="0.2")
        assert run.code == 0
        rows = recording.read(run.raw)
        assert set(rows.operation) == gateway.OPERATIONS | {"uploads.ready"}
        assert set(rows.outcome) <= {"ok", "unfinished"}
        counts = rows.operation.value_counts()
        assert counts["interactions.like"] / counts["feed.open"] == pytest.approx(1.75, rel=0.2)
        # Two parts each; a fifth of the answers is lost, and only that part is sent again.
        assert counts["uploads.part"] / counts["uploads.begin"] == pytest.approx(2 / 0.8, rel=0.2)
        parts = rows[(rows.operation == "uploads.part") & (rows.outcome == "ok")]
        beginning = parts.groupby("sent_s").user.value_counts().to_numpy()
        assert (beginning == 2).sum() > 0.5 * counts["uploads.begin"]  # side by side, not one after the other
        assert counts["uploads.complete"] == pytest.approx(counts["uploads.begin"], abs=3)
        assert rows.user.between(0, 49).all()
        assert rows.user.nunique() > 25


def test_the_stock_command_writes_locusts_own_files(run_locust, tmp_path):
    files = ("--csv", str(tmp_path / "out"), "--html", str(tmp_path / "out.html"))
    run_locust("locustfile_platform.py", "--target", "model", "-u", "5", "-t", "30s", *files)
    assert "feed.open" in (tmp_path / "out_stats.csv").read_text()
    assert "<html" in (tmp_path / "out.html").read_text()


def test_ctrl_c_ends_a_run_with_its_rows_written(tmp_path):
    raw = tmp_path / "raw.parquet"
    full = command(
        "locustfile_platform.py", "--target", "model", "--headless", "-u", "200", "-r", "200", "--raw", str(raw)
    )
    process = subprocess.Popen(
        full, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    for line in process.stderr:
        if "All users spawned" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert len(recording.read(raw)) > 20


def test_the_web_interface_starts_and_stops_tests_in_virtual_time(free_port):
    full = command(
        "locustfile_platform.py", "--target", "model", "--web-host", "127.0.0.1", "--web-port", str(free_port)
    )
    process = subprocess.Popen(
        full, env=environment(), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{free_port}", timeout=30, trust_env=False) as client:
            _until(lambda: client.get("/").status_code == 200)
            for _ in range(2):  # the second test gets a fresh model
                assert client.post("/swarm", data={"user_count": 20, "spawn_rate": 20}).json()["success"]
                _until(lambda: client.get("/stats/requests").json()["stats"][-1]["num_requests"] > 1000)
                assert client.post("/stop").json()["success"]
                _until(lambda: client.get("/stats/requests").json()["state"] == "stopped")  # Locust caches it for 2 s
                assert not client.get("/stats/requests").json()["errors"]
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=180)
    assert process.returncode == 0
    assert errors.count("flashcrowd: ") == 2


def _until(condition) -> None:
    for _ in range(300):
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("it did not happen within 30 s")
