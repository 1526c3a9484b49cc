import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from loadtest import figures, recording, report
from loadtest.figures import Samples, Side, Window, quantile_figures, weighted_quantiles

WINDOW = Window(10.0, 60.0)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 5)), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_a_weight_counts_like_that_many_samples(pairs, level):
    pairs.sort()
    values, weights = np.array([p[0] for p in pairs]), np.array([float(p[1]) for p in pairs])
    repeated = np.repeat(values, weights.astype(int))
    expected = np.quantile(repeated, level, method="inverted_cdf")
    assert weighted_quantiles(values, weights, np.array([level]))[0] == expected


def test_intervals_cover_the_truth_as_often_as_they_say():
    """Exponential samples: the true median is ln 2. Of 60 intervals of 95 % at least 51 hold it (p < 0.001 otherwise)."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(60):
        samples = Samples(rng.exponential(1.0, 300), np.ones(300))
        row = quantile_figures(samples, rng)
        held += row["p50_low_ms"] <= 1000 * np.log(2) <= row["p50_high_ms"]
        assert row["p50_low_ms"] <= row["p50_ms"] <= row["p50_high_ms"]
    assert held >= 51


def test_few_samples_have_percentiles_but_no_interval_and_none_have_nothing():
    few = quantile_figures(Samples(np.array([0.001, 0.003]), np.ones(2)), np.random.default_rng(1))
    assert (few["p50_ms"], few["p99_ms"], few["p50_low_ms"]) == (1.0, 3.0, None)
    none = quantile_figures(Samples(np.array([]), np.array([])), np.random.default_rng(1))
    assert set(none.values()) == {None}


def side(factor: float) -> Side:
    """One feed opened per second in `factor` times 10 ms (from 1 s on 20 ms), every tenth refused, and two batches delivered."""
    rows = []
    for second in range(60):
        outcome = "rejected" if second % 10 == 0 else "ok"
        rows.append(("feed.open", 1, second, second, second + 1, 0.01 * factor * (1 + second % 2), outcome, 200))
        rows.append(("interactions.like", 1, second, second, second + 1, 0.001, "ok", 202))
    rows.append(("feed.open", 1, 59.5, 59.5, 60.0, 0.5, recording.UNFINISHED, 0))
    milestones = [
        ("feed.delivered", 19.0, 20.0, 10.0),
        ("feed.delivered", 29.0, 32.0, 40.0),
        ("feed.delivered", 5.0, 9.0, 1000.0),
        ("interactions.applied", 55.0, 61.0, 1.0),
    ]
    return Side(
        pd.DataFrame(rows, columns=list(recording.COLUMNS)),
        pd.DataFrame(milestones, columns=list(recording.MILESTONE_COLUMNS)),
        {"requests_per_wall_s": 5000.0},
    )


@pytest.fixture(scope="module")
def compared():
    sides = {"reference": side(1.0), "model": side(2.0)}
    return sides, figures.compare(sides, WINDOW, 1), figures.throughput(sides, WINDOW)


def test_rows_of_a_comparison(compared):
    _, rows, _ = compared
    named = {row["name"]: row for row in rows}
    assert list(named) == ["feed.open", "interactions.like", *figures.MILESTONES]
    opened = named["feed.open"]
    assert (opened["reference_n"], opened["model_n"]) == (45, 45)
    assert opened["reference_not_ok"] == 5
    assert opened["reference_p50_ms"] == pytest.approx(20.0)
    assert opened["ratio_p50_ms"] == pytest.approx(2.0)
    assert opened["ratio_per_s"] == 1.0
    delivered = named["feed.delivered"]
    assert delivered["reference_n"] == 2
    assert delivered["reference_p50_ms"] == 3000.0
    assert delivered["reference_per_s"] == 1.0
    applied = named["interactions.applied"]
    assert applied["model_n"] == 0
    assert applied["ratio_p99_ms"] is None


def test_writes_are_told_as_accepted_and_as_applied(compared):
    totals = {total["name"]: total for total in compared[2]}
    assert totals["interactions accepted"]["model"] == 1.0
    assert totals["interactions applied"]["model"] == 0.0
    assert totals["interactions applied"]["ratio"] is None
    assert totals["feed rows delivered"]["reference"] == 1.0


def test_files_for_people_and_machines(compared, tmp_path):
    sides, rows, totals = compared
    report.write_csv(tmp_path / "c.csv", rows)
    assert pd.read_csv(tmp_path / "c.csv").set_index("name").loc["feed.open", "model_p50_ms"] == pytest.approx(40.0)
    for _ in range(2):
        report.write_html(tmp_path / "c.html", "a <title>", "about", rows, totals, sides, WINDOW)
        page = (tmp_path / "c.html").read_text()
    assert "a &lt;title&gt;" in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/svg+xml") == 1
    assert json.loads(json.dumps(figures.document(rows, totals, sides, WINDOW)))["window"] == {
        "start_s": 10.0,
        "end_s": 60.0,
    }
    console = Console(width=120, record=True, quiet=True)
    report.print_tables(console, rows, totals, 5000.0)


def test_what_the_terminal_shows(compared, capsys):
    _, rows, totals = compared
    report.print_tables(Console(width=120), rows, totals, 5000.0)
    shown = capsys.readouterr().out
    assert "feed.open" in shown
    assert "not ok: 5 | 5" in shown
    assert "20 | 40 | 2" in shown
    assert "5,000 requests per wall second" in shown
