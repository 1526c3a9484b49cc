"""The ground that the rooms stand on: users and who follows whom.

``Followers.is_precomputed`` belongs to a pair of followee and follower. It is false when the followee has more than
``feed_threshold`` followers: then the follower's feed pulls the followee's posts instead of finding them precomputed.

A followee who grows past the threshold is switched for all followers at once. One who shrinks below it again stays
pulled for the followers that are left: their precomputed rows would lack the posts published meanwhile.
"""

from __future__ import annotations

import gzip
import zipfile
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import asyncpg
import numpy as np
import numpy.typing as npt
from starlette.requests import Request
from starlette.responses import Response

from reference_impl.web import ApiError, Platform, caller, path_id

Ids = npt.NDArray[np.int64]

ADD_FOLLOWER = """
INSERT INTO followers (followee_id, follower_id, is_precomputed)
SELECT id, $2, follower_count < $3 FROM users WHERE id = $1 AND EXISTS (SELECT FROM users WHERE id = $2)
ON CONFLICT DO NOTHING RETURNING is_precomputed"""

COUNT_FOLLOWER = "UPDATE users SET follower_count = follower_count + $2 WHERE id = $1 RETURNING follower_count"

# The newest posts of a new followee enter the follower's precomputed feed, as if they had been fanned out to it.
BACKFILL = """
INSERT INTO feed (user_id, post_id, author_id, created_at)
SELECT $2, id, author_id, created_at FROM posts WHERE author_id = $1 ORDER BY created_at DESC, id DESC LIMIT $3
ON CONFLICT DO NOTHING"""


class GraphError(ValueError):
    """A follow graph cannot be read; the message is one line: where, what, what would be right."""


@dataclass(frozen=True, slots=True)
class FollowGraph:
    """Users ``0..users-1`` and the edges among them: ``follower[i]`` follows ``followee[i]``. No pair occurs twice."""

    users: int
    followee: Ids
    follower: Ids


async def follow(request: Request, platform: Platform) -> Response:
    """``graph.follow``: the caller follows the user in the path. Following again changes nothing."""
    followee, follower = path_id(request, "user"), caller(request)
    if followee == follower:
        raise ApiError(422, "nobody can follow himself or herself")
    threshold = platform.settings.feed_threshold
    async with platform.pool.acquire() as connection, connection.transaction():
        precomputed = await connection.fetchval(ADD_FOLLOWER, followee, follower, threshold)
        if precomputed is None:
            await _check_users(connection, followee, follower)
            return Response(status_code=204)
        followers = await connection.fetchval(COUNT_FOLLOWER, followee, 1)
        if followers == threshold + 1:
            await connection.execute(
                "UPDATE followers SET is_precomputed = false WHERE followee_id = $1 AND is_precomputed", followee
            )
        elif precomputed and followers > threshold:  # others were faster: it had grown when this row was counted
            await connection.execute(
                "UPDATE followers SET is_precomputed = false WHERE followee_id = $1 AND follower_id = $2",
                followee,
                follower,
            )
        if followers <= threshold or platform.settings.feed_strategy == "push":
            await connection.execute(BACKFILL, followee, follower, platform.settings.follow_backfill_posts)
    return Response(status_code=204)


async def _check_users(connection: asyncpg.Connection, *users: int) -> None:
    known = {row[0] for row in await connection.fetch("SELECT id FROM users WHERE id = ANY($1::bigint[])", users)}
    for user in users:
        if user not in known:
            raise ApiError(404, f"there is no user {user}")


async def unfollow(request: Request, platform: Platform) -> Response:
    """``graph.unfollow``: the opposite; the followee's posts leave the caller's precomputed feed."""
    followee, follower = path_id(request, "user"), caller(request)
    async with platform.pool.acquire() as connection, connection.transaction():
        status = await connection.execute(
            "DELETE FROM followers WHERE followee_id = $1 AND follower_id = $2", followee, follower
        )
        if status != "DELETE 0":
            await connection.execute(COUNT_FOLLOWER, followee, -1)
            await connection.execute("DELETE FROM feed WHERE user_id = $1 AND author_id = $2", follower, followee)
    return Response(status_code=204)


def make_graph(users: int, followee: Ids, follower: Ids, both_ways: bool = False) -> FollowGraph:
    """A graph from edges of any order: pairs that occur twice and users who follow themselves are left out."""
    if both_ways:
        followee, follower = np.concatenate([followee, follower]), np.concatenate([follower, followee])
    other = followee != follower
    pairs = np.sort(followee[other] * np.int64(users) + follower[other])
    pairs = pairs[np.diff(pairs, prepend=-1) > 0]  # np.unique hashes, which takes ten times as long
    return FollowGraph(users, pairs // users, pairs % users)


def read_edge_list(path: Path, both_ways: bool, progress: Callable[[str], None]) -> FollowGraph:
    """Read lines ``follower followee`` (SNAP's format, ``#`` begins a comment; ``.gz`` may be compressed).

    The ids are renumbered 0..n-1 in the order of the original ids.

    Raises:
        GraphError: the file cannot be read, has no edges, or a line is not two whole numbers (named ``file:line``).
    """
    ends = array("q")
    number = 0
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for number, line in enumerate(lines, 1):
                fields = line.split()
                if not fields or fields[0].startswith("#"):
                    continue
                if len(fields) != 2 or not all(f.isascii() and f.isdigit() and len(f) < 19 for f in fields):
                    shown = line.strip()[:40]
                    raise GraphError(f"{path}:{number}: {shown!r} is no edge; wanted two user ids, 'follower followee'")
                ends.extend(map(int, fields))
                if number % 2_000_000 == 0:
                    progress(f"read {number:,} lines of {path.name}")
    except UnicodeDecodeError:
        raise GraphError(f"{path}:{number + 1}: not text; wanted lines 'follower followee'") from None
    except (OSError, EOFError) as error:
        raise GraphError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if not ends:
        raise GraphError(f"{path}: no edges in it; wanted lines 'follower followee'")
    ids, dense = np.unique(np.frombuffer(ends, dtype=np.int64), return_inverse=True)
    follower, followee = dense.reshape(-1, 2).T
    return make_graph(len(ids), followee, follower, both_ways)


def read_arrays(path: Path) -> FollowGraph:
    """Read a NumPy archive with the arrays ``followee`` and ``follower`` (int64, edges) and ``users`` (a count).

    Raises:
        GraphError: the file is no such archive, or an id is outside 0..users-1.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:  # it would leave a broken one open
            users = int(archive["users"])
            edges = [archive[name] for name in ("followee", "follower")]
    except KeyError as error:
        raise GraphError(f"{path}: {error.args[0]}; wanted the arrays followee, follower and users") from None
    except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise GraphError(f"{path}: no NumPy archive (.npz) with followee, follower and users: {error}") from None
    for name, ids in zip(("followee", "follower"), edges, strict=True):
        if ids.ndim != 1 or ids.dtype.kind not in "iu" or ids.shape != edges[0].shape:
            raise GraphError(f"{path}: {name} has to be a list of whole numbers, as long as the other one")
        if ids.size and (ids.min() < 0 or ids.max() >= users):
            raise GraphError(f"{path}: {name} has ids outside 0..{users - 1}")
    return make_graph(users, cast(Ids, edges[0].astype(np.int64)), cast(Ids, edges[1].astype(np.int64)))


def synthetic_graph(users: int, mean_followees: float, seed: int) -> FollowGraph:
    """A graph with few celebrities and many small users.

    Followees per user are geometric; who is followed is drawn by Zipf's law (exponent 1) over a random order of the
    users. Pairs drawn twice are dropped, so the mean comes out somewhat below ``mean_followees``.
    """
    random = np.random.default_rng(seed)
    followees = np.minimum(random.geometric(1 / max(mean_followees, 1.0), users), users - 1)
    popularity = np.cumsum(1 / np.arange(1, users + 1))
    rank = np.searchsorted(popularity / popularity[-1], random.random(int(followees.sum())))
    followee = random.permutation(users)[rank].astype(np.int64)
    return make_graph(users, followee, np.repeat(np.arange(users, dtype=np.int64), followees))
