"""How a file gets to the store over a client's own link: in parts, with failures, again from the failed part or from the start.

A part of `b` bytes fails with probability 1 - (1 - f) * exp(-k * b): `f` for whatever goes wrong once per request, `k` per byte on
the way. It is noticed at the end of the part, so all its bytes are wasted. `streams` parts are on their way at once and share the
link; each part costs a round trip as well. A whole-file client is one with a single part.

| client | sends again | expected bytes sent for a file of n parts of b bytes |
|---|---|---|
| parts | the failed part alone | n * b / (1 - p(b)) |
| whole file | everything | n * b / (1 - p(n * b)) |
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from model.part import Floats
from model.variates import stream_of

MIB = 2**20
MOST_PARTS = 10_000  # source: AWS S3 multipart limits


@dataclass(frozen=True)
class Link:
    """A client's way to the store."""

    bytes_per_s: float
    round_trip_s: float
    failure_ratio: float  # of attempts, whatever their size
    failures_per_byte: float

    def part_failure_ratio(self, part_bytes: float) -> float:
        """How likely an attempt at a part fails."""
        return 1 - (1 - self.failure_ratio) * math.exp(-self.failures_per_byte * part_bytes)


@dataclass(frozen=True)
class Expected:
    """Means for one file, in closed form (one stream, unlimited attempts)."""

    time_s: float
    sent_bytes: float
    failures: float

    def wasted_bytes(self, size_bytes: float) -> float:
        """Sent in vain."""
        return self.sent_bytes - size_bytes


def expected_upload(link: Link, size_bytes: int, part_bytes: int) -> Expected:
    """What an upload in parts of `part_bytes` takes on average: each part is tried a geometric number of times."""
    whole, rest = divmod(size_bytes, part_bytes)
    parts = [(whole, part_bytes)] + ([(1, rest)] if rest else [])
    time_s = sent = failures = 0.0
    for count, each in parts:
        attempts = 1 / (1 - link.part_failure_ratio(each))
        time_s += count * attempts * (each / link.bytes_per_s + link.round_trip_s)
        sent += count * attempts * each
        failures += count * (attempts - 1)
    return Expected(time_s, sent, failures)


def best_part_bytes(link: Link, size_bytes: int, least_bytes: int = 5 * MIB) -> int:
    """The part size (a power of two MiB, `least_bytes` or more, 10,000 parts at most) with the smallest expected time.

    `least_bytes`: the store's limit, 5 MiB for S3. In theory it is near sqrt(round_trip_s * bytes_per_s / failures_per_byte).
    """
    sizes = [MIB << power for power in range(12)]
    allowed = [one for one in (least_bytes, *sizes) if one >= least_bytes and math.ceil(size_bytes / one) <= MOST_PARTS]
    return min(allowed, key=lambda one: expected_upload(link, size_bytes, one).time_s)


@dataclass(frozen=True)
class Uploaded:
    """Uploads that were simulated, one entry for each file; `given_up` after `patience_s`, or when a URL had expired."""

    time_s: Floats
    sent_bytes: Floats
    failures: Floats
    given_up: np.ndarray
    left_bytes: Floats  # parts in the store of a file that was given up: paid for until they are aborted


def simulate_uploads(
    link_bytes_per_s: Floats,
    link: Link,
    size_bytes: int,
    part_bytes: int,
    *,
    streams: int = 1,
    url_lifetime_s: float = math.inf,
    patience_s: float = math.inf,
    backoff_s: float = 0.0,
    seed: int = 1,
) -> Uploaded:
    """Uploads of one size by clients with links of their own, shape (clients,).

    Up to `streams` parts are under way at once, sharing the link; a failed part is sent again after `backoff_s`. Whoever has not got
    all parts through within `patience_s`, or before the URLs expire after `url_lifetime_s`, has given up. The streams are kept
    apart: client by client, the parts are dealt to them in turn, and the slowest stream decides.
    """
    rng = np.random.default_rng(stream_of(seed, f"uploads of {size_bytes} in {part_bytes} by {streams}"))
    lengths = np.full(math.ceil(size_bytes / part_bytes), float(part_bytes))
    lengths[-1] = size_bytes - part_bytes * (len(lengths) - 1)
    clients = len(link_bytes_per_s)
    chance = np.array([link.part_failure_ratio(one) for one in lengths])
    attempts = rng.geometric(1 - chance, size=(clients, len(lengths)))
    shared = min(streams, len(lengths))
    once_s = lengths[None, :] * shared / link_bytes_per_s[:, None] + link.round_trip_s
    each_s = attempts * once_s + (attempts - 1) * backoff_s
    dealt = np.arange(len(lengths)) % shared
    time_s = np.max([each_s[:, dealt == one].sum(axis=1) for one in range(shared)], axis=0)
    limit_s = min(url_lifetime_s, patience_s)
    given_up = time_s > limit_s
    done_ratio = np.where(given_up, limit_s / time_s, 1.0)
    sent = (attempts * lengths[None, :]).sum(axis=1) * done_ratio
    left = np.where(given_up, np.floor(done_ratio * len(lengths)) * part_bytes, 0.0)
    return Uploaded(np.minimum(time_s, limit_s), sent, (attempts - 1).sum(axis=1).astype(float), given_up, left)


def abandoned_usd_per_month(left_bytes: Floats, uploads_per_s: float, kept_days: float, store_gb_month_usd: float) -> float:
    """What the parts of abandoned uploads cost a month if they are aborted after `kept_days`: Little's law for bytes."""
    gb_per_day = float(np.mean(left_bytes)) * uploads_per_s * 86_400 / 1e9
    return gb_per_day * kept_days * store_gb_month_usd
