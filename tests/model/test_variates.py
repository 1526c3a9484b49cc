"""Keyed variates: the same key, the same bits, on every way the text can run."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import distributions as d
from model import variates
from model.arrivals import draws
from model.variates import child_path, draw_many, handed_over, sample, scramble, stream_of, uniform

ROOT = Path(__file__).resolve().parent.parent.parent
words = st.integers(0, 2**64 - 1)
ALL = [
    d.constant(0.25),
    d.exponential(2.0),
    d.uniform(1.0, 3.0),
    d.erlang(3.0, 4),
    d.gamma(2.0, 0.5),
    d.gamma(0.1, 2.0),
    d.lognormal(4.0, 0.5),
    d.weibull(0.1, 0.5),
    d.pareto(2.0, 0.4),
    d.hyperexponential(1.0, 2.0),
    d.empirical(values_s=[1.0, 2.0, 6.0]),
    d.empirical(quantiles_s=[0.0, 1.0, 3.0]),
]
REPORT = """
import json, sys
if sys.argv[1] == "without":
    sys.modules["llvmlite"] = None  # importing it fails
from model import variates
from tests.model.test_variates import ALL, bits_of
print(json.dumps([variates.COMPILED, bits_of()]))
"""


def bits_of():
    """Hexadecimal digits of many draws: every distribution, and every function that Python calls."""
    lines = [[float(x).hex() for x in draws(item, 5, "test", 10, 400)] for item in ALL]
    places = [(n * 7919, n << 40, n % 5) for n in range(200)]
    lines.append([float(uniform(stream_of(1, "x"), origin, path, attempt)).hex() for origin, path, attempt in places])
    lines.append([hex(int(child_path(path, attempt))) for _, path, attempt in places])
    lines.append([hex(int(scramble(origin, path))) for origin, path, _ in places])
    return lines


def report(which):
    done = subprocess.run([sys.executable, "-c", REPORT, which], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_with_and_without_llvm_the_same_bits():
    compiled, plain = report("with"), report("without")
    assert compiled[0] is True
    assert plain[0] is False
    assert compiled[1] == plain[1]


@given(words, words, st.integers(0, 2**60 - 1), st.integers(0, 1000))
def test_a_uniform_lies_strictly_between_0_and_1(stream, origin, path, attempt):
    assert 0 < uniform(stream, origin, path, attempt) < 1


def test_the_extremes_of_64_bits_are_inside_too():
    low, high = variates.unit(variates.WORD(0)), variates.unit(variates.WORD(2**64 - 1))
    assert 0 < low < 1e-15
    assert 1 - 1e-15 < high < 1


@given(words, st.integers(0, 2**40), st.integers(0, 2**60 - 1), st.integers(0, 5))
def test_one_draw_and_many_draws_agree(stream, origin, path, attempt):
    values, item = np.array([0.0]), d.gamma(2.0, 0.5)
    alone = sample(handed_over(values), item.code, item.a, item.b, item.c, 0, 0, stream, origin, 0, 0)
    many = draw_many(values, item.code, item.a, item.b, item.c, 0, stream, max(0, origin - 2), 5)
    assert alone in many.tolist()
    assert sample(handed_over(values), item.code, item.a, item.b, item.c, 0, 0, stream, origin, path + 1, attempt) != alone


def test_a_stream_is_known_by_seed_and_name():
    assert stream_of(1, "feed.open/3") == stream_of(1, "feed.open/3")
    assert len({stream_of(seed, name) for seed in range(50) for name in ("a", "b", "1/a")}) == 150
    assert 0 <= stream_of(2**70, "") < 2**64
    assert stream_of(1, "end") == 7010094375763438517  # another number here: every number of every scenario is another


@pytest.mark.parametrize("lag", [1, 2, 7, 64])
def test_neighbouring_keys_are_not_correlated(lag):
    count = 200_000
    by_origin = np.exp(-draws(d.exponential(1.0), 3, "test", 0, count))
    by_attempt = np.array([uniform(stream_of(3, "test"), 12345, 0, attempt) for attempt in range(20_000)])
    by_path = np.array([uniform(stream_of(3, "test"), 12345, child_path(0, n), 0) for n in range(20_000)])
    for values in (by_origin, by_attempt, by_path):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 4.5 / np.sqrt(len(values))
        assert abs(values.mean() - 0.5) < 4.5 / np.sqrt(12 * len(values))


def test_paths_of_children_are_distinct_and_have_60_bits():
    level = [0]
    seen = {0}
    for _ in range(3):
        level = [int(child_path(path, ordinal)) for path in level for ordinal in range(1, 31)]
        assert max(level) < 2**60
        seen |= set(level)
    assert len(seen) == 1 + 30 + 900 + 27_000


def test_the_normal_quantile_is_known():
    for u, z in [(0.5, 0.0), (0.975, 1.959963984540054), (0.001, -3.090232306167813), (1 - 1e-9, 5.997807015007686)]:
        assert variates.normal_quantile(u) == pytest.approx(z, rel=2e-9, abs=2e-9)
        assert variates.normal_quantile(1 - u) == pytest.approx(-z, rel=1e-7, abs=2e-9)
