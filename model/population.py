"""Users and who follows whom: the ground on which the rooms stand.

A follow graph is synthetic (a heavy tail of follower counts and explicit celebrities) or read from an edge list.
Users are 0 … n−1.
"""

from __future__ import annotations

import gzip
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

INITIAL_POST_ROUND_S = 60.0  # assumption: a minute between rounds, enough to tell them apart in a feed
INITIAL_POST_USER_S = 0.001  # assumption: a millisecond between users, so that no two posts of a round are simultaneous


@dataclass(frozen=True, eq=False)
class FollowGraph:
    """Who follows whom, both ways, in compressed sparse rows. All arrays are read-only.

    `follower_ids[follower_offsets[u]:follower_offsets[u + 1]]` are the followers of u in ascending order; the same for
    followees. Offsets have shape (users + 1,), ids have shape (edges,).
    """

    follower_offsets: Counts
    follower_ids: Ids
    followee_offsets: Counts
    followee_ids: Ids

    @classmethod
    def from_edges(cls, users: int, followers: npt.ArrayLike, followees: npt.ArrayLike) -> FollowGraph:
        """The graph in which `followers[i]` follows `followees[i]`. Duplicates and self-loops are dropped.

        Raises ValueError when the arrays differ in length or name a user outside 0 … users − 1.
        """
        source = np.asarray(followers, dtype=np.int64)
        target = np.asarray(followees, dtype=np.int64)
        if source.shape != target.shape or source.ndim != 1:
            raise ValueError(f"followers and followees must be equally long, got {source.shape} and {target.shape}")
        for ids in (source, target):
            if ids.size and (ids.min() < 0 or ids.max() >= users):
                stranger = ids.min() if ids.min() < 0 else ids.max()
                raise ValueError(f"users are 0 to {users - 1}, got an edge with {stranger}")
        loopless = source != target
        # One sortable number per edge, follower-major.
        return cls._from_sorted_keys(users, _sorted_distinct(source[loopless] * users + target[loopless]))

    @classmethod
    def _from_sorted_keys(cls, users: int, keys: Counts) -> FollowGraph:
        source, target = np.divmod(keys, max(users, 1))
        by_target = np.argsort(target, kind="stable")
        graph = cls(
            follower_offsets=_offsets(np.bincount(target, minlength=users)),
            follower_ids=source[by_target].astype(np.int32),
            followee_offsets=_offsets(np.bincount(source, minlength=users)),
            followee_ids=target.astype(np.int32),
        )
        for values in (graph.follower_offsets, graph.follower_ids, graph.followee_offsets, graph.followee_ids):
            values.setflags(write=False)
        return graph

    @property
    def users(self) -> int:
        """Number of users."""
        return len(self.follower_offsets) - 1

    @property
    def edges(self) -> int:
        """Number of follows."""
        return len(self.follower_ids)

    @property
    def follower_counts(self) -> Counts:
        """Followers of each user, shape (users,)."""
        return np.diff(self.follower_offsets)

    @property
    def followee_counts(self) -> Counts:
        """How many each user follows, shape (users,)."""
        return np.diff(self.followee_offsets)

    def followers_of(self, user: int) -> Ids:
        """Who follows `user`, ascending; a read-only view."""
        return self.follower_ids[self.follower_offsets[user] : self.follower_offsets[user + 1]]

    def followees_of(self, user: int) -> Ids:
        """Whom `user` follows, ascending; a read-only view."""
        return self.followee_ids[self.followee_offsets[user] : self.followee_offsets[user + 1]]

    def is_precomputed(self, threshold: int) -> npt.NDArray[np.bool_]:
        """Whether each user's posts are pushed: not with more than `threshold` followers. Shape (users,)."""
        return self.follower_counts <= threshold

    def pushed_counts(self, threshold: int) -> Counts:
        """Feeds that one post of each user is written to: all followers', none above the threshold. Shape (users,)."""
        counts = self.follower_counts
        return np.where(counts <= threshold, counts, 0)

    def pulled_counts(self, threshold: int) -> Counts:
        """Followees of each user with more than `threshold` followers, read when a feed is opened. Shape (users,)."""
        pulled = ~self.is_precomputed(threshold)[self.followee_ids]
        return np.diff(_offsets(pulled)[self.followee_offsets])

    def most_followed_pulled(self, threshold: int) -> Counts:
        """Of each user's followees with more than `threshold` followers the one with the most; -1 for none. Shape (users,)."""
        counts = self.follower_counts[self.followee_ids]
        users = np.repeat(np.arange(self.users), self.followee_counts)
        chosen = counts > threshold
        order = np.argsort(counts[chosen], kind="stable")  # the last assignment to a place stays
        most = np.full(self.users, -1, np.int64)
        most[users[chosen][order]] = self.followee_ids[chosen][order]
        return most

    def pulled_followees_of(self, user: int, threshold: int) -> Ids:
        """Those whom `user` follows and who have more than `threshold` followers, ascending."""
        followees = self.followees_of(user)
        sizes = self.follower_offsets[followees + 1] - self.follower_offsets[followees]
        return followees[sizes > threshold]


def _offsets(counts: npt.NDArray[np.generic]) -> Counts:
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)))


def _sorted_distinct(values: Counts) -> Counts:
    """As np.unique, which hashes since NumPy 2.3 and is ten times slower on a million keys than sorting them."""
    ordered = np.sort(values)
    is_first = np.ones(len(ordered), dtype=np.bool_)
    is_first[1:] = ordered[1:] != ordered[:-1]
    return np.compress(is_first, ordered)


# --- Synthetic --------------------------------------------------------------------------------------------------------


def synthetic_graph(
    users: int,
    mean_followees: float,
    follower_exponent: float = 2.3,  # source: Kwak et al. 2010 (bulk of Twitter 2.276)
    celebrities: Sequence[int] = (),
    seed: int = 0,
) -> FollowGraph:
    """A random graph with a heavy tail of follower counts.

    Counts follow a power law of density exponent `follower_exponent`, truncated at users − 1 and scaled so that users
    follow `mean_followees` others in the mean (the number of edges is exact). `celebrities` are explicit follower
    counts of the users 0 … k−1, capped at users − 1 and part of that mean; nobody else has as many as the largest of
    them. Who follows whom is otherwise uniform, so followee counts are not heavy-tailed (assumption). The same arguments
    give the same graph.

    Raises ValueError for arguments that no graph can satisfy.
    """
    most = users - 1
    if users < 1:
        raise ValueError(f"users must be one or more, got {users}")
    if not 0 <= mean_followees <= most:
        raise ValueError(f"mean_followees must be in 0 to {most} for {users} users, got {mean_followees}")
    if not follower_exponent > 1:
        raise ValueError(f"follower_exponent must be above 1, got {follower_exponent}")
    if len(celebrities) > users or any(count < 0 for count in celebrities):
        raise ValueError(f"celebrities must be at most {users} counts of zero or more, got {list(celebrities)}")
    rng = np.random.default_rng(seed)
    edges = round(users * mean_followees)
    famous = np.minimum(np.asarray(celebrities, dtype=np.int64), most)
    left, ordinary = edges - int(famous.sum()), users - len(famous)
    largest = max(int(famous.max()) - 1, 0) if len(famous) else most
    if not 0 <= left <= ordinary * largest:
        raise ValueError(
            f"celebrities with {famous.sum()} followers do not fit {edges} follows "
            f"({users} users × {mean_followees:g} mean_followees)"
        )
    counts = np.concatenate((famous, _power_law_counts(rng, ordinary, left, largest, follower_exponent)))
    return FollowGraph._from_sorted_keys(users, _distinct_followers(rng, counts))


def _power_law_counts(rng: np.random.Generator, size: int, total: int, most: int, exponent: float) -> Counts:
    """`size` whole numbers of at most `most` with sum `total`, distributed by a truncated power law."""
    if total == 0:
        return np.zeros(size, dtype=np.int64)
    # Inverse of the truncated distribution function on 1 … most.
    power = 1 - exponent
    shape = (1 - rng.random(size) * (1 - float(most) ** power)) ** (1 / power)
    low, high = 0.0, float(most)  # the scale at which the capped sum is the total: bisection
    for _ in range(100):
        scale = (low + high) / 2
        low, high = (scale, high) if np.minimum(shape * scale, most).sum() < total else (low, scale)
    # Rounding the running sum keeps the total; the rank of a user among equals stays random.
    running = np.rint(np.cumsum(np.minimum(shape * high, most)))
    running[-1] = total
    counts = np.diff(running, prepend=0.0).astype(np.int64)
    return _spread_excess(counts, most)


def _spread_excess(counts: Counts, most: int) -> Counts:
    """Moves what rounding put above `most` to whoever has room, so that the sum stays."""
    excess = int(np.maximum(counts - most, 0).sum())
    counts = np.minimum(counts, most)
    roomy = np.flatnonzero(counts < most)[:excess]
    counts[roomy] += 1
    return counts


def _distinct_followers(rng: np.random.Generator, counts: Counts) -> Counts:
    """Sorted edge keys (follower × users + followee): each user gets that many distinct followers, never itself."""
    users = len(counts)
    kept = [np.zeros(0, dtype=np.int64)]
    # Whoever is followed by a good part of all gets a sample without replacement; for the many others, redrawing the
    # few duplicates is faster and gives every set of followers the same chance too.
    large = counts > max(users // 16, 16)
    for user in np.flatnonzero(large):
        chosen = rng.choice(users - 1, size=counts[user], replace=False, shuffle=False)
        kept.append((chosen + (chosen >= user)) * users + user)
    wanted = np.where(large, 0, counts)
    missing = wanted
    keys = np.zeros(0, dtype=np.int64)
    while missing.any():
        followees = np.repeat(np.arange(users), missing)
        drawn = rng.integers(0, users - 1, size=len(followees))
        drawn += drawn >= followees  # skips the user itself
        keys = _sorted_distinct(np.concatenate((keys, drawn * users + followees)))
        missing = wanted - np.bincount(keys % users, minlength=users)
    return np.sort(np.concatenate((*kept, keys)))


# --- From a file ------------------------------------------------------------------------------------------------------


def read_edge_list(path: str | Path, both_ways: bool = False) -> FollowGraph:
    """Reads SNAP's edge-list format, plain or gzipped (`.gz`): `follower followee` on a line, `#` before a comment.

    User ids become 0 … n−1 in the order of the original ids. Duplicates and self-loops are dropped; whoever appears in
    a line is a user, though. `both_ways`: each line is a friendship, in which both follow.

    Raises ValueError with file and line for a line that is not two integers, or with the file if it holds no edge;
    OSError if it cannot be read.
    """
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8", errors="replace") as lines:
        try:
            ends = _parse_edges(lines, str(path))
        except EOFError:
            raise ValueError(f"{path}: the compressed file ends too early; download it again") from None
    if not ends.size:
        raise ValueError(f"{path}: holds no edges; expected lines of two integers, follower and followee")
    originals, dense = np.unique(ends, return_inverse=True)
    followers, followees = dense.reshape(-1, 2).T
    if both_ways:
        followers, followees = np.concatenate((followers, followees)), np.concatenate((followees, followers))
    return FollowGraph.from_edges(len(originals), followers, followees)


def _parse_edges(lines: Iterable[str], name: str) -> Counts:
    ends = array("q")
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        # isdigit, because int() would also take "1_000" and "-1"; with 18 digits an id fits 64 bits.
        if len(fields) != 2 or not all(id_.isascii() and id_.isdigit() and len(id_) <= 18 for id_ in fields):
            expected = "expected two integers (follower followee)"
            raise ValueError(f"{name}:{number}: {expected}, got {line.strip()[:40]!r}")
        ends.extend(map(int, fields))
    return np.frombuffer(ends, dtype=np.int64) if ends else np.zeros(0, dtype=np.int64)


# --- Initial posts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class InitialPosts:
    """Posts that exist before a run, by ascending id; every array has shape (users × rounds,)."""

    ids: Counts
    author_ids: Counts
    created_at_s: Floats


def initial_posts(users: int, rounds: int, epoch_s: float = 0.0) -> InitialPosts:
    """`rounds` posts of every user from before `epoch_s`, by the rule that model and reference share.

    Round r (0 is the oldest) of user u is post 1 + r × users + u, created at epoch − (rounds − r) × 60 s − u × 1 ms.
    """
    if users < 0 or rounds < 0:
        raise ValueError(f"users and rounds must be zero or more, got {users} and {rounds}")
    round_, author = np.divmod(np.arange(users * rounds, dtype=np.int64), max(users, 1))
    return InitialPosts(
        ids=1 + round_ * users + author,
        author_ids=author,
        created_at_s=epoch_s - (rounds - round_) * INITIAL_POST_ROUND_S - author * INITIAL_POST_USER_S,
    )
