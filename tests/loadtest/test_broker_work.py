"""What a broker works for is found again where it is known; no server is needed."""

import json

import numpy as np
import pandas as pd
import pytest

from loadtest.broker_work import FEWEST, ROLE, broker_work
from loadtest.observed_run import Observed
from loadtest.otlp_spans import Span
from loadtest.traces import Trace

IDLE_RATIO, WARMUP_S, STEP_S = 0.06, 3.0, 0.25


def span(name, at_s, **attributes):
    return Span("api", name, "", "", "", 1000 + at_s, 1000 + at_s + 0.001, 1, attributes)


def run_of(folder, seed, length_s, records_per_s, fetches_per_s, record_s, fetch_s, growth_per_1k):
    """A run whose broker's CPU is made of that, from the first second on."""
    rng = np.random.default_rng(seed)
    at_s = {"record": np.sort(rng.uniform(0, length_s, int(records_per_s * length_s)))}
    at_s["fetch"] = np.sort(rng.uniform(0, length_s, int(fetches_per_s * length_s)))
    visits = sorted((when_s, cost_s) for kind, cost_s in (("record", record_s), ("fetch", fetch_s)) for when_s in at_s[kind])
    when_s = np.array([visit[0] for visit in visits])
    used_s = np.cumsum([cost_s * (1 + growth_per_1k * before / 1000) for before, (_, cost_s) in enumerate(visits)])
    lines = []
    for look_s in np.arange(0, length_s + STEP_S / 2, STEP_S):
        before = int(np.searchsorted(when_s, look_s))
        lines.append({"at_s": 1000 + look_s, "processes": {ROLE: [IDLE_RATIO * look_s + (used_s[before - 1] if before else 0.0)]}})
    folder.mkdir()
    (folder / "counters.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    header = {"start_epoch_s": 1000.0, "warmup_s": WARMUP_S, "duration_s": length_s}
    found = Observed(Trace(header, pd.DataFrame(), pd.DataFrame(), folder), length_s - WARMUP_S, idle_ratio={ROLE: IDLE_RATIO})
    found.spans = [span("interactions", one, **{"flashcrowd.time": "kafka_acknowledgement"}) for one in at_s["record"] if one >= WARMUP_S]
    found.spans += [span("interaction_workers", one) for one in at_s["fetch"] if one >= WARMUP_S]
    return found


@pytest.mark.parametrize("growth_per_1k", [0.0, 0.08, 0.2])
def test_costs_and_growth_that_are_known_are_found_again(tmp_path, growth_per_1k):
    rates = ((100, 28), (380, 29), (300, 8), (210, 28))
    runs = [
        run_of(tmp_path / str(number), number, 18.0, *rate, 90e-6, 1.3e-3, growth_per_1k) for number, rate in enumerate(rates)
    ]
    found = broker_work(runs)
    assert found.growth_per_1k == pytest.approx(growth_per_1k, abs=0.021)
    assert (found.record_s, found.fetch_s) == (pytest.approx(90e-6, rel=0.08), pytest.approx(1.3e-3, rel=0.08))
    assert found.explained > 0.95
    assert found.records == pytest.approx(990 * 15, rel=0.02)
    assert found.fetches == pytest.approx(93 * 15, rel=0.05)


def test_what_too_few_seconds_show_is_the_records(tmp_path):
    run = run_of(tmp_path / "short", 1, WARMUP_S + FEWEST / 2, 200, 25, 90e-6, 1.3e-3, 0.0)
    run.busy_ratio, run.switches_per_s = {ROLE: 0.2}, {ROLE: 2500.0}
    found = broker_work([run])
    assert found.burst_s == pytest.approx(80e-6)
    assert (found.fetch_s, found.growth_per_1k) == (0.0, 0.0)
    assert found.record_s == pytest.approx(90e-6 + 1.3e-3 / 8, rel=0.1)
