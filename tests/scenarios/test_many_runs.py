"""`run --replications`, `compare-runs`, `size`, `knee` and `bottlenecks`, as a user meets them."""

import json

import pandas as pd
import pytest

from model.queueing_theory import MMc
from scenarios.cli import COMMANDS, main
from tests.desk import desk_file

NEW = ("compare-runs", "sweep", "size", "knee", "bottlenecks")


def refuse_constant(text):
    raise AssertionError(f"{text} is no JSON")


def answer(capsys, *arguments):
    """Exit code, JSON document and standard error of a command run with one job."""
    code = main([*arguments, "--jobs", "1", "--json", "-"])
    captured = capsys.readouterr()
    return code, json.loads(captured.out, parse_constant=refuse_constant), captured.err


@pytest.mark.parametrize("command", NEW)
def test_help_has_examples(command, capsys):
    assert command in COMMANDS
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    assert f"flashcrowd {command}" in capsys.readouterr().out


def test_a_replicated_run_keeps_the_documents_shape(tmp_path, capsys):
    path = desk_file(tmp_path, duration_s=10, slo={'"shop.buy.mean_ms"': 1000})
    code, document, said = answer(capsys, "run", path, "--replications", "4")
    assert (code, said) == (0, "")
    main(["run", path, "--json", "-"])
    single = json.loads(capsys.readouterr().out)
    assert set(document) - set(single) == {"replications", "intervals"}
    assert set(document["operations"]["shop.buy"]) == set(single["operations"]["shop.buy"])
    assert document["replications"]["n"] == 4
    found = document["intervals"]["shop.buy.p99_s"]
    assert found["low"] < found["mean"] < found["high"] and found["n"] == 4
    assert document["slo"][0]["confidence"] == "met"


def test_a_replicated_run_shows_plus_minus_and_writes_a_folder(tmp_path, capsys):
    path, out = desk_file(tmp_path, duration_s=10, slo={'"shop.buy.mean_ms"': 1}), tmp_path / "out"
    assert main(["run", path, "--replications", "3", "--jobs", "1", "--out", str(out)]) == 1
    shown = capsys.readouterr().out
    assert "±" in shown and "3 replications of 10 s" in shown and "MISSED" in shown
    assert {one.name for one in out.iterdir()} == {"result.json", "scenario.toml", "intervals.csv", "replications.csv"}
    assert len(pd.read_csv(out / "replications.csv")) == 3
    assert "shop.buy.p99_s" in pd.read_csv(out / "intervals.csv")["figure"].tolist()


def test_a_precision_that_is_not_reached_is_said(tmp_path, capsys):
    path = desk_file(tmp_path, duration_s=10)
    _, document, said = answer(capsys, "run", path, "--precision", "0.001", "--max-replications", "6")
    assert document["replications"] == {**document["replications"], "n": 6, "precision_reached": False}
    assert "after 6 replications the interval is still wider than ±0.001 of the mean for shop.buy.mean_s" in said
    _, document, said = answer(capsys, "run", path, "--precision", "0.5")
    assert document["replications"]["precision_reached"] is True
    assert document["intervals"]["shop.buy.mean_s"]["half_width_ratio"] <= 0.5 and said == ""
    _, document, _ = answer(capsys, "run", path, "--precision", "0.2", "--figures", "shop.buy.p99_s")
    assert document["intervals"]["shop.buy.p99_s"]["half_width_ratio"] <= 0.2


def test_a_run_too_short_to_be_stationary_is_warned_of(tmp_path, capsys):
    path = desk_file(tmp_path, servers=3, duration_s=50)
    main(["run", path])
    assert "MSER-5 finds no steady state in the run of 50 s" in capsys.readouterr().err
    main(["run", desk_file(tmp_path, servers=8, duration_s=100)])
    assert "warm-up: MSER-5 sees" in capsys.readouterr().out


def test_compare_runs_tells_real_differences_from_others(tmp_path, capsys):
    path = desk_file(tmp_path, duration_s=20)
    change = "network.stations.desk.servers=7"
    code, document, _ = answer(capsys, "compare-runs", path, path, "--set-b", change, "--replications", "6")
    rows = {row["name"]: row for row in document["differences"]}
    assert code == 0 and document["b"]["set"] == [change] and document["replications"] == 6
    mean = rows["shop.buy.mean_s"]
    assert mean["real"] and mean["difference"]["high"] < 0 and mean["variance_ratio"] > 1
    assert mean["difference"]["mean"] == pytest.approx(mean["b"] - mean["a"])
    code, document, _ = answer(capsys, "compare-runs", path, path, "--replications", "3", "--figures", "shop.buy.p99_s")
    (row,) = document["differences"]
    assert (row["name"], row["real"], row["difference"]["mean"]) == ("shop.buy.p99_s", False, 0.0)
    assert main(["compare-runs", path, path, "--set-a", change, "--replications", "3", "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "higher" in shown and "common random numbers" in shown


def test_size_is_erlang_cs(tmp_path, capsys):
    assert MMc(40, 0.1, 6).mean_sojourn_s < 0.13 < MMc(40, 0.1, 5).mean_sojourn_s
    path = desk_file(tmp_path, duration_s=100)
    code, document, said = answer(capsys, "size", path)
    assert (code, document["servers"], document["sure"]) == (0, {"desk": 6}, True)
    assert "desk = 5: missed" in said and "desk = 6: met" in said
    cases = {row["case"]: row for row in document["headroom"]}
    assert {name: row["servers"]["desk"] for name, row in cases.items()} == {"N": 6, "N + 1": 7, "N + 2": 8, "a zone lost": 4}
    assert (cases["N + 2"]["verdict"], cases["a zone lost"]["verdict"]) == ("met", "missed")
    (by_hand,) = document["by_hand"]
    assert by_hand["erlang_c"] == pytest.approx(MMc(40, 0.1, 5).waiting_probability)


def test_size_with_objectives_of_the_command_line(tmp_path, capsys):
    path = desk_file(tmp_path, duration_s=50, slo={})
    code, document, _ = answer(capsys, "size", path, "--slo", "shop.buy.mean_s=2", "--station", "desk")
    assert (code, document["slo"], document["servers"]) == (0, {"shop.buy.mean_s": 2.0}, {"desk": 5})
    code, document, _ = answer(capsys, "size", path, "--slo", "shop.buy.mean_ms=10", "--all")
    assert (code, document["servers"]) == (1, None)
    assert main(["size", path, "--slo", "shop.buy.mean_s=2", "--jobs", "1"]) == 0
    shown = capsys.readouterr().out
    assert "desk: 5 servers, with 95 % confidence" in shown and "by hand" in shown and "a zone lost (3)" in shown


def test_knee_brackets_the_analytic_load(tmp_path, capsys):
    # M/M/1, 30 ms: a mean sojourn of 60 ms at a utilisation of one half, 16.67 per s of 20.
    path = desk_file(tmp_path, servers=1, rate_per_s=20, mean_ms=30, duration_s=60, slo={'"shop.buy.mean_ms"': 60})
    code, document, said = answer(capsys, "knee", path, "--tolerance", "0.1", "--max-replications", "6")
    factor = document["load_factor"]
    assert code == 0 and factor["low"] < 0.8333 < factor["high"]
    assert document["arrivals_per_s"]["low"] == pytest.approx(20 * factor["low"])
    assert document["saturation_load_factor"] == pytest.approx(1 / 0.6)
    assert document["closed_users"]["users"] == round(20 * 5.03)
    assert "load factor" in said
    assert main(["knee", path, "--slo", "shop.buy.mean_ms=10", "--max-replications", "3", "--jobs", "1"]) == 1
    assert "no load meets the objectives" in capsys.readouterr().out


def test_bottlenecks_stand_beside_closed_forms(tmp_path, capsys):
    path = desk_file(tmp_path, duration_s=50)
    code, document, _ = answer(capsys, "bottlenecks", path, "--replications", "5")
    assert code == 0
    assert {row["change"] for row in document["effects"]} == {"one more server", "10 % faster"}
    assert all(row["real"] and row["elasticity"] < -1 for row in document["effects"])
    assert document["by_hand"][0]["offered_least"] == pytest.approx(4.0)
    assert main(["bottlenecks", path, "--replications", "2", "--jobs", "1"]) == 0
    assert "elasticity" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["size"], "slo: the scenario has no objective"),
        (["knee"], "slo: the scenario has no objective"),
        (["bottlenecks"], "slo: the scenario has no objective"),
        (["run", "--precision", "0.1"], "--precision has nothing to be precise about"),
        (["run", "--precision", "0.1", "--replications", "3"], "exclude each other"),
        (["run", "--replications", "0"], "--replications"),
        (["run", "--precision", "1.5"], "--precision"),
        (["run", "--replications", "2", "--json", "nowhere/x.json"], "folder does not exist"),
        (["size", "--slo", "shop.buy.mean_ms"], "is no NAME=TARGET"),
        (["size", "--slo", "shop.by.mean_ms=5"], 'did you mean "shop.buy"?'),
        (["size", "--slo", "shop.buy.mean_ms=fast"], "--slo"),
        (["size", "--slo", "shop.buy.mean_ms=5", "--station", "dsk"], 'did you mean "desk"?'),
        (["size", "--slo", "shop.buy.mean_ms=5", "--station", "desk", "--all"], "not allowed with"),
        (["size", "--slo", "shop.buy.mean_ms=500", "--engine", "steam"], "no engine 'steam'"),
        (["knee", "--slo", "shop.buy.throughput_per_s=5"], "only asks for throughput"),
        (["compare-runs"], "B"),
        (["compare-runs", "nowhere.toml"], "nowhere.toml: no such file"),
        (["bottlenecks", "--figures", "shop.buy.p98_s"], 'did you mean "shop.buy.p99_s"?'),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, says):
    path = desk_file(tmp_path, duration_s=5, slo={})
    monkeypatch.chdir(tmp_path)
    assert main([arguments[0], path, *arguments[1:]]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and says in captured.err
    assert [one.name for one in tmp_path.iterdir()] == ["desk.toml"]
