"""Uploads in parts: simulated clients against closed forms, and what a part size does."""

import math

import numpy as np
import pytest

from model.transfer import MIB, Link, abandoned_usd_per_month, best_part_bytes, expected_upload, simulate_uploads

MOBILE = Link(bytes_per_s=10e6 / 8, round_trip_s=0.1, failure_ratio=0.02, failures_per_byte=0.002 / MIB)


def test_a_part_that_never_fails_is_sent_once():
    sure = Link(MIB, 0.5, 0.0, 0.0)
    assert expected_upload(sure, 10 * MIB, 4 * MIB) == type(expected_upload(sure, MIB, MIB))(11.5, 10 * MIB, 0.0)
    found = simulate_uploads(np.full(3, float(MIB)), sure, 10 * MIB, 4 * MIB)
    assert found.time_s.tolist() == [11.5] * 3
    # Two streams: parts 0 and 2 on one (each byte at half speed), part 1 on the other.
    two = simulate_uploads(np.full(3, float(MIB)), sure, 10 * MIB, 4 * MIB, streams=2)
    assert two.time_s.tolist() == [(4 + 2) * 2 + 2 * 0.5] * 3


@pytest.mark.parametrize("part_mib", [1, 8, 64, 200])
def test_simulated_uploads_have_the_expected_means(part_mib):
    size, clients = 200 * MIB, 20_000 if part_mib > 1 else 2_000
    expected = expected_upload(MOBILE, size, part_mib * MIB)
    found = simulate_uploads(np.full(clients, MOBILE.bytes_per_s), MOBILE, size, part_mib * MIB)
    for values, mean in ((found.time_s, expected.time_s), (found.sent_bytes, expected.sent_bytes), (found.failures, expected.failures)):
        assert np.mean(values) == pytest.approx(mean, abs=5 * np.std(values) / math.sqrt(clients))


def test_the_whole_file_again_wastes_what_a_part_again_does_not():
    """2 GB with half a percent of failures for each of 2,000 MB: in parts 2 % more, in one piece more than fifty times."""
    size = 2_000_000_000
    parts, whole = (expected_upload(MOBILE, size, part) for part in (8 * MIB, size))
    assert parts.wasted_bytes(size) / size == pytest.approx(1 / (0.98 * math.exp(-0.016)) - 1, rel=0.01)
    assert whole.wasted_bytes(size) / size == pytest.approx(1 / (0.98 * math.exp(-0.002 * size / MIB)) - 1)
    assert whole.wasted_bytes(size) > 40 * size


def test_the_best_part_balances_round_trips_and_failures():
    best = best_part_bytes(MOBILE, 500 * MIB, least_bytes=MIB)
    times_s = {part: expected_upload(MOBILE, 500 * MIB, part).time_s for part in (best // 2, best, best * 2)}
    assert times_s[best] == min(times_s.values())
    # In theory sqrt(round trip * rate / failures per byte), to the nearest power of two.
    theory = math.sqrt(0.1 * MOBILE.bytes_per_s / MOBILE.failures_per_byte)
    assert best / theory == pytest.approx(1, rel=0.5)
    assert best_part_bytes(MOBILE, 500 * MIB) == 8 * MIB  # S3 takes five or more


def test_who_runs_out_of_patience_leaves_parts_behind():
    found = simulate_uploads(np.array([1e5, 1e7]), MOBILE, 100 * MIB, 5 * MIB, patience_s=600)
    assert found.given_up.tolist() == [True, False]
    assert found.time_s[0] == 600
    assert 5 * MIB <= found.left_bytes[0] < 60e6 + 5 * MIB
    assert found.left_bytes[1] == 0
    expired = simulate_uploads(np.array([1e5, 1e7]), MOBILE, 100 * MIB, 5 * MIB, url_lifetime_s=60)
    assert expired.given_up.tolist() == [True, False]


def test_abandoned_parts_cost_what_they_weigh():
    # A gigabyte a second left behind, kept a week: 604,800 GB at 0.023 USD a month.
    assert abandoned_usd_per_month(np.array([0.0, 2e9]), 1.0, 7, 0.023) == pytest.approx(604_800 * 0.023)
