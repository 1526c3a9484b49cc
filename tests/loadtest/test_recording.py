import json

import pytest

from loadtest import recording
from loadtest.recording import Recorder


class Response:
    def __init__(self, status: int) -> None:
        self.status_code = status


@pytest.fixture
def recorder() -> Recorder:
    recorder = Recorder(current_user=lambda: 5)
    recorder.start_epoch_s, recorder.start_s = 100.0, 0.0
    recorder.on_request("GET", "feed.open", 250.0, 10, Response(200), {"user": 3}, None, start_time=101.0)
    recorder.on_request(
        "GET", "feed.open", 500.0, 0, Response(503), {"user": 4, "intended_s": 1.5}, OSError(), start_time=101.75
    )
    recorder.on_request("GET", "page", 1.0, 0, None, {}, OSError(), start_time=102.0)
    return recorder


def test_rows(recorder):
    assert recorder.rows == [
        ("feed.open", 3, 1.0, 1.0, 1.25, 0.25, "ok", 200),
        ("feed.open", 4, 1.5, 1.75, 2.0, 0.5, "rejected", 503),
        ("page", 5, 2.0, 2.0, 2.001, 0.001, "failed", 0),
    ]


@pytest.mark.parametrize("suffix", recording.SUFFIXES)
def test_files_hold_the_rows(recorder, tmp_path, suffix):
    path = tmp_path / "new folder" / f"raw{suffix}"
    recorder.write(path)
    assert list(recording.read(path).itertuples(index=False, name=None)) == recorder.rows
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_foreign_file_is_refused(tmp_path):
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv: no raw response times"):
        recording.read(path)


def test_requests_cut_off_by_the_end_are_rows_too(run_locust):
    run = run_locust(
        "locustfile_clients.py",
        "--target",
        "model",
        "-u",
        "20",
        "-r",
        "20",
        "-t",
        "30s",
        FC_SERVERS="1",
        FC_MEAN_S="0.5",
    )
    rows = recording.read(run.raw)
    unfinished = rows[rows.outcome == "unfinished"]
    assert len(unfinished) == run.figures["summary"]["unfinished"] > 5
    assert (unfinished.latency_s == unfinished.finished_s - unfinished.sent_s).all()
    assert len(rows) - len(unfinished) == run.figures["requests"]
    assert rows.finished_s.max() <= 30.0
    assert json.loads(run.raw.with_suffix(".json").read_text())["unfinished"] == len(unfinished)


def test_locusts_stop_timeout_lets_requests_finish(run_locust):
    load = ("--target", "model", "-u", "20", "-r", "20", "-t", "30s", "--stop-timeout", "60")
    run = run_locust("locustfile_clients.py", *load, FC_SERVERS="1", FC_MEAN_S="0.5")
    rows = recording.read(run.raw)
    assert run.figures["summary"]["unfinished"] == 0
    assert rows.finished_s.max() > 30.0
    assert "unfinished" not in set(rows.outcome)
