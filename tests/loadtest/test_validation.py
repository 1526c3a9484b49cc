"""What validate decides before it looks, and how it judges; no server is needed for either."""

import json
import re

import numpy as np
import pytest

from loadtest import validate, validate_found, validate_report, validation
from loadtest.cells import median_cells
from loadtest.estimates import Estimate, estimate, least_squares
from loadtest.observed_run import alone, own_time_s
from loadtest.otlp_spans import Span
from loadtest.stalls import Stalls
from loadtest.validate_document import knee
from loadtest.validation import Plan, Ranking, Run


def run_at(load=0.3, mean_s=0.010, *, answered=1.0, late=0.0, busy=0.3, probe_s=1e-4, design="", steal=0.0, away=None, per_s=50.0):
    times = {f"{name}_s": mean_s for name in ("mean", "p50", "p90", "p95", "p99")}
    cells = {"feed.open": {"kind": "operation", "n": 1000, "per_s": per_s, "not_ok": 0, **times}}
    return Run(load, design, cells, 0.002, busy, answered, late, steal, probe_s, away)


def test_a_plan_runs_every_load_in_every_round_in_an_order_of_its_seed():
    plans = [Plan.make((0.2, 0.5, 0.9), 3, 10.0, seed, ("push", "pool 1"), 2) for seed in (1, 1, 2, 3)]
    assert plans[0] == plans[1]
    assert len({plan.order for plan in plans}) > 1
    for plan in plans:
        for around in range(3):
            ours = [run for run in plan.order if run.repeat == around]
            assert {run.load for run in ours if not run.beside} == {0.2, 0.5, 0.9}
            assert {(run.load, run.burst_s) for run in ours if run.beside} == set(validation.BESIDE_RUNS)
    assert set(validation.LOADS).isdisjoint(ratio for ratio, _ in (*validation.CALIBRATION_RUNS, *validation.BESIDE_RUNS))


def test_the_plan_of_an_interrupted_validation_is_what_it_was(tmp_path):
    plan = Plan.make((0.2, 0.5), 2, 10.0, 3, ("push", "pool 1"), 2)
    (tmp_path / "plan.json").write_text(json.dumps(plan.document()))
    with pytest.raises(ValueError, match="nothing that was foreseen could be judged"):
        validate_found.plan_of(tmp_path)
    (tmp_path / "predictions.json").write_text('{"designs": {"push": {"feed.open": {}}}}')
    with pytest.raises(ValueError, match="has no draws of the designs"):
        validate_found.plan_of(tmp_path)
    (tmp_path / "predictions.json").write_text('{"designs": {"push": [{"feed.open": {}}]}}')
    assert validate_found.plan_of(tmp_path) == plan


def test_runs_are_rejected_by_the_rules_alone():
    little, much = Stalls(n=9, ratio=0.004, longest_s=0.02, slow_ratio=0.05), Stalls(n=9, ratio=0.021, longest_s=0.08, slow_ratio=0.05)
    runs = [run_at() for _ in range(5)] + [run_at(away=little)]
    runs += [run_at(late=0.5), run_at(steal=0.2), run_at(probe_s=2e-4), run_at(away=much)]
    validation.reject(runs)
    assert [run.rejected for run in runs] == [""] * 6 + ["generator saturated", "steal 20.0%", "probe +100%", "core away for 2.1%"]


def test_rejected_runs_are_made_again_where_that_can_help():
    runs = [run_at(0.3), run_at(0.6, steal=0.2), run_at(0.3, late=0.5), run_at(1.1, late=0.5), run_at(1.1, steal=0.2), run_at()]
    assert validation.again(runs, (0.3, 0.6, 1.1)) == [0.3, 0.6, 1.1]
    assert not any(run.rejected for run in runs)
    assert len(validation.again([run_at(steal=0.2)] * 20, (0.3,))) == validation.AGAIN_MOST


@pytest.mark.parametrize(
    ("runs", "predicted_s", "verdict"),
    [
        ([run_at(mean_s=m) for m in (0.010, 0.011, 0.009)], 0.0105, "within noise"),
        ([run_at(mean_s=m) for m in (0.010, 0.011, 0.009)], 0.0150, "model error"),
        ([run_at(answered=0.8)] * 2, 0.010, "reference saturated"),
        ([run_at(busy=0.99)] * 2, 0.010, "reference saturated"),
        ([run_at(late=0.5) for _ in range(2)], 0.010, "generator saturated"),
    ],
)
def test_verdicts(runs, predicted_s, verdict):
    validation.reject(runs)
    predicted = run_at(mean_s=predicted_s).cells
    rows = validation.cell_rows(0.3, "", runs, predicted)
    found = {row["statistic"]: row for row in rows}
    assert found["mean"]["verdict"] == verdict
    assert found["mean"]["error"] == pytest.approx(predicted_s / 0.010 - 1)
    assert "per_s" in found


def test_a_design_of_which_no_run_was_kept_is_unmeasured():
    runs = [run_at(design="push"), run_at(design="push", steal=0.2), run_at(design="pool 1", steal=0.2)]
    assert validation.unmeasured(runs, ("push", "pool 1", "pool 4")) == ["pool 1", "pool 4"]
    assert not any(run.rejected for run in runs)


def test_each_run_is_held_against_the_model_at_its_own_cpu():
    runs = [run_at(mean_s=m) for m in (0.010, 0.020, 0.040)]
    at_their_cpu = [run_at(mean_s=m).cells for m in (0.011, 0.021, 0.080)]
    rows = validation.cell_rows(0.3, "", runs, run_at(mean_s=0.03).cells, at_their_cpu)
    found = {row["statistic"]: row for row in rows}["mean"]
    assert found["error"] == pytest.approx(0.5)
    assert found["error_normalised"] == pytest.approx(0.1)  # +10, +5, +100 %


def test_failed_cells_stay_in_the_table_and_out_of_the_medians():
    good = validation.cell_rows(0.3, "", [run_at(mean_s=m) for m in (0.01, 0.012)], run_at(mean_s=0.02).cells)
    bad = validation.cell_rows(0.6, "", [run_at(0.6, late=0.9)], run_at(mean_s=9.0).cells)
    high = validation.cell_rows(0.9, "", [run_at(0.9, busy=0.7)], run_at(mean_s=9.0).cells)
    slowed = validation.cell_rows(0.7, "", [run_at(0.7, busy=0.9)], run_at(mean_s=9.0).cells)
    assert bad
    for of, others, left_out in (("load", slowed, high), ("busy", high, slowed)):
        medians = {row["statistic"]: row for row in validation.medians([*good, *left_out], of)}
        assert medians["mean"]["cells"] == 1
        assert medians["mean"]["error"] == pytest.approx(0.02 / 0.011 - 1)
        assert validation.medians([*good, *others], of)[0]["cells"] == 2


def test_a_prediction_is_the_median_of_several_draws():
    draws = [run_at(mean_s=m).cells for m in (0.010, 0.030, 0.014)]
    draws[1]["feed.open"]["p99_s"] = None
    made = median_cells(draws)
    assert made["feed.open"]["mean_s"] == 0.014
    assert made["feed.open"]["p99_s"] == pytest.approx(0.012)
    assert made["feed.open"]["n"] == 1000
    assert made["feed.open"]["kind"] == "operation"


def test_rankings_are_right_wrong_or_a_tie():
    ranking = Ranking("?", ("a", "b"), "feed.open", "mean")
    predicted = {"a": [run_at(mean_s=0.01).cells], "b": [run_at(mean_s=0.02).cells]}

    def outcome(a, b, predicted=predicted):
        real = {"a": [run_at(mean_s=m) for m in a], "b": [run_at(mean_s=m) for m in b]}
        return validation.rank(ranking, predicted, real)["outcome"]

    assert outcome((0.010, 0.011), (0.020, 0.030)) == "right"
    assert outcome((0.030, 0.031), (0.010, 0.011)) == "wrong"
    assert outcome((0.010, 0.031), (0.011, 0.012)) == "tie"
    alike = {name: [*cells, run_at(mean_s=0.015).cells] for name, cells in predicted.items()}
    assert outcome((0.030, 0.031), (0.010, 0.011), alike) == "missed"
    assert outcome((0.010, 0.031), (0.011, 0.012), alike) == "right"
    assert outcome((0.010, 0.011), (0.020, 0.030), alike) == "right"
    assert validation.rank(ranking, predicted, {"a": [run_at()]})["outcome"] == "not measured"


def span(start_s, end_s, name="x"):
    return Span("s", name, "t", f"{start_s}", "", start_s, end_s, 1, {})


def test_only_what_overlaps_nothing_is_alone():
    spans = [span(0, 1), span(2, 4), span(3, 5), span(6, 7), span(6.5, 6.6), span(8, 9)]
    assert [(one.start_s, one.end_s) for one in alone(spans)] == [(0, 1), (8, 9)]


def test_what_is_alone_stands_for_those_as_long_that_are_not():
    """Where others begin at random, the long ones are seldom alone; told by how many each stands for, they are as common as they were."""
    rng = np.random.default_rng(3)
    starts_s = np.cumsum(rng.exponential(0.01, 40_000))
    took_s = rng.choice([0.001, 0.02], len(starts_s), p=[0.7, 0.3])
    kept = alone([span(start_s, start_s + length_s) for start_s, length_s in zip(starts_s, took_s, strict=True)])
    long = np.array([one.took_s > 0.01 for one in kept])
    stands_for = np.array([one.stands_for for one in kept])
    assert long.mean() < 0.1
    assert stands_for[long].sum() / stands_for.sum() == pytest.approx(0.3, abs=0.02)
    made = estimate([one.took_s for one in kept], stands_for)
    assert made.mean_s == pytest.approx(took_s.mean(), rel=0.05)
    assert made.low_s < took_s.mean() < made.high_s


def test_own_time_leaves_out_children_once():
    parent = span(0, 10)
    parent.children = [span(1, 3), span(2, 4), span(9, 12)]
    assert own_time_s(parent, 0, 10) == pytest.approx(6.0)
    assert own_time_s(parent, 2, 10) == pytest.approx(5.0)


def test_estimates_keep_mean_and_shape():
    values = np.random.default_rng(1).lognormal(-7, 0.5, 5000)
    made = estimate(values)
    assert made.low_s < values.mean() < made.high_s
    entry = made.scaled(2).entry()
    quantiles = np.array(entry["quantiles_us"]) / 1e6
    assert ((quantiles[1:] + quantiles[:-1]) / 2).mean() == pytest.approx(2 * made.mean_s, rel=0.01)
    assert quantiles[20] == pytest.approx(2 * np.median(values), rel=0.05)
    few = estimate(values[:50]).plus(0.001)
    assert few.entry()["distribution"] == "lognormal"
    assert few.mean_s == pytest.approx(values[:50].mean() + 0.001)
    assert estimate([]) == Estimate(0.0, 0, 0.0, 0.0)
    items = np.arange(100.0)
    assert least_squares([np.ones(100), items], 3 + 0.5 * items) == pytest.approx([3, 0.5])


def test_the_knee_is_held_against_the_most_that_was_answered_at_loads_that_saturate():
    of_load = {
        0.85: [run_at(0.85, per_s=500)],
        1.1: [run_at(1.1, per_s=per_s) for per_s in (190, 210, 200)],
        1.3: [run_at(1.3, per_s=per_s) for per_s in (150, 160)],
    }
    cells = {load: run_at(per_s=180).cells for load in of_load}
    given = {load: [run.cells for run in runs] for load, runs in of_load.items()}
    found = knee(190, of_load, cells, given)
    assert found["real_per_s"] == 200
    assert found["error"] == pytest.approx(-0.05)
    assert found["spread"] == pytest.approx(0.05)
    assert [(one["load"], one["real_per_s"], one["model_per_s"]) for one in found["loads"]] == [
        (1.1, [190, 210, 200], 180), (1.3, [150, 160], 180),
    ]  # fmt: skip
    alone = knee(190, {0.85: of_load[0.85]}, cells, given)
    assert (alone["real_per_s"], alone["error"], alone["loads"]) == (None, None, [])


def test_the_page_shows_every_cell_and_escapes(tmp_path):
    runs = [run_at(mean_s=m) for m in (0.01, 0.012)]
    rows = validation.cell_rows(0.3, "<b>", runs, run_at(mean_s=0.02).cells)
    plan = Plan.make((0.3,), 2, 10.0, 1, (), 1)
    made = {
        "made_at": "2026-01-01", "machine": {"processor": "p", "system": "s", "python": "3"}, "plan": plan.document(),
        "calibration": ["30 requests/s"],
        "knee": knee(300, {1.1: [run_at(1.1, per_s=280)]}, {1.1: run_at(per_s=290).cells}, {1.1: [run_at(per_s=284).cells]}),
        "medians": validation.medians(rows), "medians_of_loads": validation.medians(rows, "load"),
        "effects": [{"effect": "the whole model", "medians": validation.medians(rows)}],
        "rankings": [{"question": "a against b", "outcome": "not measured"}], "rejected": 0,
        "runs": [vars(run) for run in runs], "rows": rows,
    }  # fmt: skip
    validate_report.write(tmp_path, made)
    page = (tmp_path / "validation.html").read_text()
    assert page.count("feed.open") == len(rows)
    assert "<td><b>" not in page
    assert not re.search(r"(src|href)=", page)
    lines = (tmp_path / "validation.md").read_text().splitlines()
    assert sum(line.startswith("| <b> | feed.open") for line in lines) == len(rows)
    assert any("the reference 280/s, the model given each run's machine 284/s" in line for line in lines)
    assert json.loads((tmp_path / "validation.json").read_text())["rows"][0]["name"] == "feed.open"
    assert len((tmp_path / "validation.csv").read_text().splitlines()) == len(rows) + 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--loads", "a"], "no list of shares of the knee"),
        (["--designs", "pushy"], "'pushy' is none of: all, none, as calibrated"),
        (["--repeats", "0"], "no whole number from 1 to 99"),
        (["baseline"], "is not sent by the open generator"),
        (["--judge"], "has no plan.json; nothing that was foreseen could be judged"),
    ],
)
def test_bad_input_is_refused_in_one_line(arguments, says, capsys, tmp_path):
    try:
        code = validate.main([*arguments, "--out", str(tmp_path / "out")])
    except SystemExit as end:
        code = end.code
    assert code == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()
