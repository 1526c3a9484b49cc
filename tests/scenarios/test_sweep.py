"""`flashcrowd sweep`: tables, resuming, failures; on this machine and on a Dask cluster that loses a worker."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from model.simulation import simulate
from scenarios.cli import main
from scenarios.loader import load_scenario
from tests.desk import desk_file

ROOT = Path(__file__).resolve().parents[2]
SERVERS = "network.stations.desk.servers"
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "PATH": "", "MPLBACKEND": "agg"}


def start(*arguments, cwd, program=("scenarios.cli",)):
    return subprocess.Popen(
        [sys.executable, "-m", *program, *arguments],
        cwd=cwd,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def lines_of(path):
    return path.read_text().count("\n") if path.exists() else 0


def wait_for(condition, process=None, limit_s=120):
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, "gave up waiting"
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_a_table_with_a_row_for_every_run(tmp_path, capsys):
    path, out = desk_file(tmp_path, duration_s=5), tmp_path / "out"
    vary = ["--vary", f"{SERVERS}=5..6", "--vary", "run.load_factor=0.5,1"]
    assert main(["sweep", path, *vary, "--seeds", "2", "--out", str(out), "--jobs", "1", "--json", "-"]) == 0
    document = json.loads(capsys.readouterr().out)
    table = pd.read_parquet(out / "sweep.parquet")
    assert len(table) == document["runs"] == 8
    assert list(table.columns[:4]) == [SERVERS, "run.load_factor", "replication", "seed"]
    assert table["error"].isna().all() and document["failed"] == 0
    row = table.iloc[0]
    alone = simulate(load_scenario(path, (f"{SERVERS}=5", "run.load_factor=0.5")))
    assert (row[SERVERS], row["run.load_factor"], row["seed"]) == (5, 0.5, 1)
    assert row["shop.buy.p99_s"] == alone.figure("shop.buy.p99_s")
    assert row["stations.desk.utilisation"] == alone.figure("stations.desk.utilisation")
    assert len(document["points"]) == 4
    assert document["points"][0]["figures"]["shop.buy.mean_s"]["n"] == 2
    assert (out / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert {one.name for one in out.iterdir()} == {"journal.jsonl", "sweep.parquet", "sweep.png"}


def test_finished_runs_are_not_run_again(tmp_path, capsys):
    path, out = desk_file(tmp_path, duration_s=5), tmp_path / "out"
    common = ["--out", str(out), "--jobs", "1", "--format", "csv"]
    assert main(["sweep", path, "--vary", f"{SERVERS}=5,6", *common]) == 0
    first = (out / "journal.jsonl").read_text()
    capsys.readouterr()
    assert main(["sweep", path, "--vary", f"{SERVERS}=5..7", *common]) == 0
    assert "2 of 3 runs are kept from before" in capsys.readouterr().err
    second = (out / "journal.jsonl").read_text()
    assert second.startswith(first) and second.count("\n") == 3
    assert pd.read_csv(out / "sweep.csv")[SERVERS].tolist() == [5, 6, 7]


def test_failed_points_are_rows_and_told(tmp_path, capsys):
    path, out = desk_file(tmp_path, duration_s=5), tmp_path / "out"
    vary = ["--vary", "run.warmup_s=1,9", "--vary", f"{SERVERS}=5,6"]
    assert main(["sweep", path, *vary, "--out", str(out), "--jobs", "1"]) == 1
    said = capsys.readouterr().err
    assert said.count("failed: ") == 2 and f"run.warmup_s = 9, {SERVERS} = 6: --vary: run.warmup_s: is 9 s" in said
    table = pd.read_parquet(out / "sweep.parquet")
    assert table["error"].notna().tolist() == [False, False, True, True]
    assert table["shop.buy.mean_s"].isna().tolist() == [False, False, True, True]


def test_values_of_any_kind_are_columns_and_panels(tmp_path, capsys):
    out = tmp_path / "out"
    small = ["population.users=100", "population.celebrities=[]", "population.mean_followees=5", "run.duration_s=2", "run.warmup_s=0.5"]
    vary = ["population.celebrities=[],[50]", "feed.strategy=push,hybrid", "feed.threshold=10,1_000"]
    options = [*(word for one in small for word in ("--set", one)), *(word for one in vary for word in ("--vary", one))]
    arguments = ["--figures", "feed.open.p99_s,stations.api.utilisation", "--out", str(out), "--jobs", "1"]
    assert main(["sweep", "baseline", *options, *arguments]) == 0
    assert "feed.strategy" in capsys.readouterr().out
    table = pd.read_parquet(out / "sweep.parquet")
    assert table["population.celebrities"].tolist() == ["[]"] * 4 + ["[50]"] * 4
    assert table["feed.strategy"].tolist() == ["push", "push", "hybrid", "hybrid"] * 2
    assert table["feed.open.p99_s"].notna().all()
    assert (out / "sweep.png").exists()


def test_an_engine_that_does_not_exist_fails_every_run(tmp_path, capsys):
    path, out = desk_file(tmp_path, duration_s=5), tmp_path / "out"
    assert main(["sweep", path, "--vary", f"{SERVERS}=5,6", "--out", str(out), "--jobs", "1", "--engine", "steam"]) == 1
    assert capsys.readouterr().err.count("no engine 'steam'") == 2
    assert lines_of(out / "journal.jsonl") == 0
    assert main(["sweep", path, "--vary", f"{SERVERS}=5,6", "--out", str(out), "--jobs", "1"]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--vary", f"{SERVERS}=none"], f'--vary: {SERVERS}: is "none"'),
        (["--vary", "run.sed=1"], 'run.sed: unknown key; did you mean "seed"?'),
        ([], "--vary"),
        (["--vary", f"{SERVERS}=5", "--figures", "shop.buy.p98_s"], 'did you mean "shop.buy.p99_s"?'),
        (["--vary", f"{SERVERS}=5", "--jobs", "0"], "--jobs"),
        (["--vary", f"{SERVERS}=5", "--out", "desk.toml"], "is a file"),
        (["--vary", f"{SERVERS}=5", "--out", "."], "holds something else"),
        (["--vary", f"{SERVERS}=5", "--json", "nowhere/x.json"], "folder does not exist"),
        (["--vary", f"{SERVERS}=5", "--cluster", "tcp://127.0.0.1:1", "--jobs", "2"], "--jobs means nothing"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, monkeypatch, capsys, arguments, says):
    path = desk_file(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", path, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and says in captured.err
    assert [one.name for one in tmp_path.iterdir()] == ["desk.toml"]


def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(tmp_path, capsys):
    path = desk_file(tmp_path, duration_s=40)
    command = ["sweep", path, "--vary", f"{SERVERS}=5..8", "--seeds", "4", "--jobs", "2", "--out"]
    process = start(*command, "out", cwd=tmp_path)
    journal = tmp_path / "out" / "journal.jsonl"
    wait_for(lambda: lines_of(journal) >= 2, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    kept = lines_of(journal)
    assert 2 <= kept < 16
    assert f"interrupted: {kept} of 16 runs are kept in out; the same command goes on from there" in said
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "sweep.parquet").exists()

    command = ["sweep", path, "--vary", f"{SERVERS}=5..8", "--seeds", "4", "--jobs", "1", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    assert f"{kept} of 16 runs are kept from before" in capsys.readouterr().err
    assert lines_of(journal) == 16
    assert main([*command, str(tmp_path / "whole")]) == 0
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "out" / "sweep.parquet"), pd.read_parquet(tmp_path / "whole" / "sweep.parquet")
    )


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler and two workers on loopback: (address, worker processes)."""
    where = tmp_path / "scheduler.json"
    scheduler = start(
        "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(where),
        cwd=tmp_path, program=("distributed.cli.dask_scheduler",),
    )  # fmt: skip
    started = [scheduler]
    try:
        wait_for(lambda: where.exists() and where.read_text().strip().endswith("}"), scheduler)
        address = json.loads(where.read_text())["address"]
        for number in range(2):
            started.append(
                start(
                    address, "--no-nanny", "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard",
                    "--local-directory", str(tmp_path / f"worker{number}"),
                    cwd=tmp_path, program=("distributed.cli.dask_worker",),
                )
            )  # fmt: skip
        wait_for(lambda: count_workers(address) == 2, limit_s=120)
        yield address, started[1:]
    finally:
        for process in reversed(started):
            process.kill()
            process.communicate()


def count_workers(address):
    code = (
        "import sys, distributed\nwith distributed.Client(sys.argv[1]) as client:\n"
        "    print(len(client.scheduler_info(n_workers=-1)['workers']))"
    )
    done = subprocess.run([sys.executable, "-c", code, address], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    return int(done.stdout or 0)


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_loses_and_doubles_no_run(tmp_path, cluster):
    address, workers = cluster
    path = desk_file(tmp_path, duration_s=60)
    command = ["sweep", path, "--vary", f"{SERVERS}=5..8", "--seeds", "6", "--out"]
    process = start(*command, "out", "--cluster", address, cwd=tmp_path)
    journal = tmp_path / "out" / "journal.jsonl"
    wait_for(lambda: lines_of(journal) >= 3, process)
    os.kill(workers[0].pid, signal.SIGKILL)
    before = lines_of(journal)
    out, said = process.communicate(timeout=240)
    assert process.returncode == 0, said + out
    assert before < 24
    keys = [json.loads(line)["key"] for line in journal.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 24
    found = pd.read_parquet(tmp_path / "out" / "sweep.parquet")
    assert not found.duplicated([SERVERS, "replication"]).any()
    assert main([*command, str(tmp_path / "here"), "--jobs", "1"]) == 0
    pd.testing.assert_frame_equal(found, pd.read_parquet(tmp_path / "here" / "sweep.parquet"))


def test_a_cluster_that_is_not_there_is_one_line(tmp_path):
    # In a process of its own: where Locust has patched this one's threads, Dask's client can't tell its event loop from ours.
    nobody = "tcp://127.0.0.1:1"
    process = start("sweep", desk_file(tmp_path), "--vary", f"{SERVERS}=5", "--cluster", nobody, cwd=tmp_path)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 2 and out == "" and said.count("\n") == 1, said + out
    assert f"no Dask scheduler answers at {nobody}" in said
    assert not (tmp_path / "results").exists()


def test_without_dask_the_missing_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert main(["sweep", desk_file(tmp_path), "--vary", f"{SERVERS}=5", "--cluster", "tcp://127.0.0.1:1"]) == 2
    assert 'pip install "flashcrowd[cluster]"' in capsys.readouterr().err
