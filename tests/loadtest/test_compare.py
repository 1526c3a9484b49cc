"""`flashcrowd compare` on the real servers, and what it refuses."""

import json
import signal
import subprocess
import sys

import pandas as pd
import pytest

from loadtest import compare, recording
from tests.loadtest.commands import ROOT, environment

SMALL = (
    "--users", "10", "--think-time-s", "0.2", "--set", "population.users=300", "--set", "population.mean_followees=10",
    "--set", "population.celebrities=[]",
)  # fmt: skip


def command(*arguments: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        "import sys; from loadtest.compare import main; sys.exit(main(sys.argv[1:]))",
        *arguments,
    ]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--users", "0"], "no whole number above 0"),
        (["--duration", "soon"], "no duration from 1s to 24h"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate; see flashcrowd compare --help"),
        (["--duration", "10s", "--warm-up", "10s"], "--warm-up 10 s leaves nothing of --duration 10 s"),
        (["--both-ways"], "--both-ways belongs to --graph"),
        (["no_such_scenario"], "no_such_scenario"),
        (["--set", "population.userz=5"], "userz"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, says, capsys, tmp_path):
    try:
        code = compare.main([*arguments, "--out", str(tmp_path / "out")])
    except SystemExit as end:
        code = end.code
    assert code == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_both_sides_are_driven_and_compared(tmp_path):
    state, out = tmp_path / "state", tmp_path / "out"
    done = subprocess.run(
        command(*SMALL, "--duration", "10s", "--state-dir", str(state), "--out", str(out), "--json", str(tmp_path / "c.json")),
        env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "c.json").read_text())
    rows = {row["name"]: row for row in figures["rows"]}
    for name in ("feed.open", "interactions.like", "interactions.applied"):
        assert rows[name]["reference_n"] > 20
        assert rows[name]["reference_n"] == pytest.approx(rows[name]["model_n"], rel=0.3)
        assert rows[name]["reference_p50_ms"] > 0
        assert rows[name]["ratio_p50_ms"] > 0
    assert figures["summary"]["model"]["requests_per_wall_s"] > 0
    raw = {side: recording.read(out / f"{side}.parquet") for side in ("reference", "model")}
    assert set(raw["reference"].user) == set(raw["model"].user)
    assert set(raw["reference"].outcome) <= {"ok", "unfinished"}
    assert (out / "comparison.html").stat().st_size > 10_000
    assert len(pd.read_csv(out / "comparison.csv")) == len(figures["rows"])  # a probe and a milestone share a name
    assert _nothing_is_up(state)


@pytest.mark.slow
def test_ctrl_c_stops_everything(tmp_path):
    state = tmp_path / "state"
    full = command(*SMALL, "--duration", "5m", "--state-dir", str(state), "--out", str(tmp_path / "out"))
    process = subprocess.Popen(full, env=environment(), cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        if "locust is running" in line:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=180)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert _nothing_is_up(state)


def _nothing_is_up(state) -> bool:
    status = subprocess.run(
        [sys.executable, "-m", "reference_impl", "status", "--state-dir", str(state)],
        env=environment(), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return status.returncode != 0 and "nothing is up" in status.stderr
