"""The verdicts of `benchmarks/soak.py`."""

import random

import pytest

from benchmarks.soak import verdict

HOUR_S = 3600.0


def series(first, per_hour, noise=0.0, samples=120, lasts_s=1200.0):
    rng = random.Random(1)
    instants = [number * lasts_s / samples for number in range(samples)]
    return [(at_s, first + per_hour * at_s / HOUR_S + rng.gauss(0, noise)) for at_s in instants]


@pytest.mark.parametrize(
    ("name", "what", "samples", "says"),
    [
        ("api", "memory MiB", series(100, 0), "flat"),
        ("api", "memory MiB", series(100, 20), "flat"),
        ("api", "memory MiB", series(100, 60), "grows"),
        ("api", "memory MiB", series(100, 60, noise=200), "flat"),  # nobody can tell
        ("kafka", "memory MiB", series(100, 60), "keeps data"),
        ("kafka", "files", series(40, 0), "flat"),
        ("api", "files", series(20, 30, noise=1), "grows"),
        ("lag", "interactions", series(0, 0, noise=3), "flat"),
        ("lag", "interactions", series(5, 3600), "grows"),
    ],
)
def test_what_grows_is_told_from_what_does_not(name, what, samples, says):
    assert verdict(name, what, samples) == says
