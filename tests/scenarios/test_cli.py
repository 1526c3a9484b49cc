"""The command, as a user meets it: exit codes, JSON, files, and one line for whatever is wrong."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from scenarios import cli
from scenarios.documents import shipped
from scenarios.loader import load_scenario

ROOT = Path(__file__).resolve().parents[2]
# Everything is constant: a request each second from 1 s on, 100 ms at the one server, 20 ms in the topic's only batch.
TINY = """
question = "How long is a constant?"
[run]
duration_s = 10.5
warmup_s = 0.5
[network.stations.till]
[network.topics.parcels]
service_time = { distribution = "constant", mean_ms = 20 }
steps = [{ mark = "shop.shipped" }]
[network.operations."shop.buy"]
interarrival = { distribution = "constant", mean_s = 1 }
steps = [
  { serve = "till", service_time = { distribution = "constant", mean_ms = 100 } },
  { respond = true },
  { publish = "parcels" },
]
[slo]
"shop.buy.p99_ms" = 150
"shop.buy.throughput_per_s" = 0.9
"""


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return str(path)


def flashcrowd(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-m", "scenarios.cli", *arguments],
        cwd=cwd,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_json_has_the_public_shape(tiny):
    done = flashcrowd("run", tiny, "--json", "-", "--seed", "3", "--engine", "plain")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    buy, shipped = pytest.approx(0.1), pytest.approx(0.12)
    statistics = ["mean", "p50", "p90", "p95", "p99", "p999", "max"]
    assert {key: document[key] for key in ("scenario", "seed", "engine", "duration_s", "stationarity")} == {
        "scenario": "tiny",
        "seed": 3,
        "engine": "plain",
        "duration_s": 10.5,
        "stationarity": "stable",
    }
    assert document["operations"] == {
        "shop.buy": {
            "count": 10,
            "throughput_per_s": 1.0,
            "rejected": 0,
            "timed_out": 0,
            "latency_s": dict.fromkeys(statistics, buy),
        }
    }
    milestone = document["milestones"]["shop.shipped"]
    assert milestone["count"] == 10
    assert milestone["latency_s"] == dict.fromkeys(statistics, shipped)
    assert document["stations"]["till"] == {
        "servers": 1,
        "utilisation": buy,
        "mean_queue": 0.0,
        "mean_wait_s": 0.0,
        "wait_probability": 0.0,
        "throughput_per_s": 1.0,
        "rejected": 0,
    }
    expected = {"published": 10, "consumed": 10, "redelivered": 0, "duplicates_applied": 0, "lost": 0, "max_lag": 1}
    assert expected.items() <= document["topics"]["parcels"].items()
    assert document["topics"]["parcels"]["mean_batch"] == 1.0
    assert document["audit"] == {"littles_law_max_error_ratio": pytest.approx(0.0, abs=1e-12), "conserved": True}
    assert document["slo"] == [
        {"name": "shop.buy.p99_s", "target": 0.15, "value": buy, "met": True},
        {"name": "shop.buy.throughput_per_s", "target": 0.9, "value": 1.0, "met": True},
    ]
    assert list(document) == [
        *("scenario", "seed", "engine", "duration_s", "operations", "milestones", "stations", "topics", "hosts", "caches", "audit"),
        *("stationarity", "slo", "bottleneck", "backlogs", "left_in_topics", "own_writes_missed"),
        *("applied_after_faults_s", "cells", "cost"),
    ]


def test_a_missed_objective_is_exit_code_1(tiny):
    done = flashcrowd("run", tiny, "--set", 'slo."shop.buy.p99_ms"=50')
    assert (done.returncode, done.stderr) == (1, "")
    assert "MISSED" in done.stdout and "≤ 50.0 ms" in done.stdout and "-100.0 %" in done.stdout


BAD = [
    (["run", "baselin"], 'baselin: no scenario of this name; did you mean "baseline"?'),
    (["runn"], "flashcrowd: no command 'runn'; did you mean \"run\"?"),
    (["run"], "flashcrowd run: the following arguments are required: S; see flashcrowd run --help"),
    (["run", "baseline", "--sed", "1"], "flashcrowd run: unrecognized arguments: --sed 1; see flashcrowd run --help"),
    (["check", "baseline", "--set", "feed.treshold=1"], '--set: feed.treshold: unknown key; did you mean "threshold"?'),
    (["show", "baseline", "--diff", "basline"], 'basline: no scenario of this name; did you mean "baseline"?'),
    (["run", "baseline", "--seed", "-1"], "--seed: run.seed: is -1; write a whole number from 0 up"),
    (["run", "baseline", "--graph", "no"], "--graph: population.graph: no file 'no'; name an edge list, or leave it out to draw a graph"),
    (["run", "baseline", "--json", "no/x"], "no/x: its folder does not exist; name a file in a folder that exists"),
    (["run", "baseline", "--out", "scenarios"], "scenarios: holds something else, no earlier result; name a new or an empty folder"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "line"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_exit_code_2_and_one_line(arguments, line):
    done = flashcrowd(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{line}\n")


def test_a_run_that_would_never_end_is_bad_input(tiny):
    done = flashcrowd("run", tiny, "--set", "run.duration_s=1e9")
    line = "the run would have 1e+09 requests, more than 5e+07; lower duration_s, load_factor or the arrival rates"
    assert (done.returncode, done.stderr) == (2, f"--set: run.duration_s: {line}\n")


def test_a_malformed_edge_list_is_bad_input(tmp_path):
    (tmp_path / "edges.txt").write_text("1 2\nthree\n")
    done = flashcrowd("run", "baseline", "--graph", str(tmp_path / "edges.txt"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("--graph: population.graph: ")


def test_check_names_what_is_overloaded(tiny):
    assert flashcrowd("check", tiny).returncode == 0
    done = flashcrowd("check", tiny, "--set", "run.load_factor=15")
    line = "network.stations.till: the offered load needs 1.5 servers, more than the 1 there are; give it more, or less load"
    assert (done.returncode, done.stderr) == (2, f"{tiny}: {line}\n")
    assert "exceeded" in done.stdout


def test_check_knows_the_platform():
    load = ["--set", "load.feed_opens_per_s=2000", "--set", "stations.api.servers=99"]
    assert flashcrowd("check", "baseline", *load).returncode == 0
    done = flashcrowd("check", "baseline", *load, "--set", "feed.strategy=naive")  # scans 60,000 posts for each feed
    assert done.returncode == 2
    assert done.stderr.startswith("defaults.toml: stations.database: the offered load needs ")
    assert done.stderr.count("\n") == 1


def test_out_writes_everything_and_only_whole(tiny, tmp_path):
    out = tmp_path / "results"
    assert flashcrowd("run", tiny, "--out", str(out), "--json", str(tmp_path / "r.json")).returncode == 0
    assert sorted(path.name for path in out.iterdir()) == [
        *(
            "latency.png",
            "milestones.csv",
            "operations.csv",
            "result.json",
            "scenario.toml",
            "stations.csv",
            "topics.csv",
        )
    ]
    assert (out / "result.json").read_text() == (tmp_path / "r.json").read_text()
    assert (out / "latency.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "operations.csv").read_text().startswith("name,count,throughput_per_s,rejected,timed_out,mean_s,")
    again = out / "scenario.toml"
    assert load_scenario(str(again)).declared == load_scenario(tiny).declared
    assert flashcrowd("run", tiny, "--out", str(out), "--seed", "8").returncode == 0  # replaces its own
    assert json.loads((out / "result.json").read_text())["seed"] == 8
    assert {path.name for path in tmp_path.iterdir()} == {"results", "r.json", "tiny.toml"}


def test_ctrl_c_leaves_nothing_behind(tiny, tmp_path, monkeypatch, capsys):
    def interrupted(*arguments, progress, **options):
        progress(0.5)
        raise KeyboardInterrupt

    monkeypatch.setattr("model.simulation.simulate", interrupted)
    out = tmp_path / "results"
    assert cli.main(["run", tiny, "--out", str(out), "--json", str(tmp_path / "r.json")]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


def test_list_shows_every_question():
    done = flashcrowd("list")
    assert done.returncode == 0
    questions = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in questions] == sorted(shipped())
    assert all(line.endswith("?") for line in questions)
    answers = [line for line in done.stdout.splitlines() if line.startswith(" ")]
    assert len(answers) == len(questions)
    assert all(line.endswith(".") for line in answers)


def test_show_prints_toml_that_marks_differences():
    done = flashcrowd("show", "celebrity_post", "--set", "feed.page_size=7")
    assert tomllib.loads(done.stdout)["feed"]["page_size"] == 7
    assert "page_size = 7  # default: 20\n" in done.stdout
    assert 'discipline = "fifo"\n' in done.stdout
    changes = flashcrowd("show", "worker_crash", "--diff", "baseline").stdout
    assert "topics.interactions.poll_wait_ms" in changes
    assert "feed.strategy" not in changes


@pytest.mark.parametrize("command", ["list", "show", "check", "run"])
def test_every_subcommand_has_examples(command):
    done = flashcrowd(command, "--help")
    assert done.returncode == 0
    assert f"examples:\n  flashcrowd {command}" in done.stdout


def test_help_names_every_command_and_loads_nothing_heavy():
    heavy = (
        "import sys; from scenarios.cli import main; main(['--help']); "
        "print(sorted({'numpy', 'simpy', 'rich', 'locust'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n[]\n")
    assert all(f"\n  {name} " in done.stdout for name in cli.COMMANDS)


def test_a_worker_that_crashes_loses_nothing(tmp_path):
    """The scenario's own question, and that its crash hits a batch."""
    done = flashcrowd("run", "worker_crash", "--json", str(tmp_path / "r.json"))
    document = json.loads((tmp_path / "r.json").read_text())
    topic = document["topics"]["interactions"]
    assert done.returncode == 0
    assert topic["redelivered"] > 0
    assert (topic["lost"], topic["duplicates_applied"]) == (0, 0)
    assert 45 < document["milestones"]["interactions.applied"]["latency_s"]["max"] < 50


@pytest.mark.slow
def test_a_celebrity_is_not_fanned_out_under_hybrid(tmp_path):
    lags = []
    for strategy in ("push", "hybrid"):
        path = tmp_path / f"{strategy}.json"
        done = flashcrowd("run", "celebrity_post", "--set", f"feed.strategy={strategy}", "--json", str(path))
        assert done.returncode == 0
        lags.append(json.loads(path.read_text())["topics"]["fanout"]["max_lag"])
    assert lags[0] >= 140 > 10 > lags[1]
