"""What idleness costs is found again where it is known; no server is needed."""

import numpy as np
import pandas as pd
import pytest

from loadtest.cold import cold_of, gaps_s
from loadtest.observed_run import Observed
from loadtest.otlp_spans import Span
from loadtest.traces import Trace

WARM_S, EXTRA, HALF_S = 0.001, 1.2, 0.002


def factor(idle_s):
    return 1 + EXTRA * idle_s / (idle_s + HALF_S)


def run_of(rate_per_s, burst_s=0.0, seed=1, requests=2000):
    """Operations of one piece, each as long as its CPU; those that come in bursts never find the process asleep."""
    rng = np.random.default_rng(seed)
    clock_s, free_s, used_s, spans = 0.0, 0.0, 0.0, []
    for number in range(requests):
        clock_s += rng.exponential(1 / rate_per_s)
        start_s = max(clock_s, free_s)
        cpu_s = WARM_S * (1.0 if burst_s else factor(start_s - free_s)) * rng.uniform(0.8, 1.2)
        free_s, used_s = start_s + cpu_s, used_s + cpu_s
        spans.append(Span("api", "feed.open", "", str(number), "", start_s, free_s, 1, {"cpu_s": cpu_s}))
    rows = pd.DataFrame({"intended_s": np.zeros(requests)})
    trace = Trace({"burst_s": burst_s, "warmup_s": 0.0}, rows, pd.DataFrame())
    used = {"api": used_s / clock_s, "postgres": used_s / clock_s / 2}
    return Observed(trace, clock_s, used, dict.fromkeys(used, 0.0), spans)


def test_extra_work_after_idleness_is_found():
    calm = [run_of(100, seed=1), run_of(300, seed=2)]
    found = cold_of(calm, [run_of(200, burst_s=0.25, seed=3)], ("feed.open",), (1.0, 0.0))
    for role in ("api", "postgres"):
        assert found[role].half_s == pytest.approx(HALF_S)
        assert found[role].extra == pytest.approx(EXTRA, rel=0.1)
    mean = np.average([factor(gap_s) for run in calm for gap_s in gaps_s(run.spans)])
    assert found["api"].mean == pytest.approx(mean, rel=0.05)
    points = found["api"].points()
    assert points[0] == {"idle_ms": 0.0, "factor": 1.0}
    assert [point["factor"] for point in points] == sorted(point["factor"] for point in points)


def test_without_bursts_nothing_is_known_of_idleness():
    assert cold_of([run_of(100)], [], ("feed.open",), (1.0, 0.0)) == {}
