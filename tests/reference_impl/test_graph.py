"""Users, follow graph and seeding."""

import asyncio
import gzip
from collections import Counter
from pathlib import Path

import asyncpg
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference_impl import graph, seeding
from reference_impl.__main__ import main
from reference_impl.settings import Settings, SettingsError
from tests.reference_impl.stack import CELEBRITY, THRESHOLD, USERS, eventually


def quiet(_text):
    pass


def is_precomputed(stack, followee):
    query = "SELECT follower_id, is_precomputed FROM followers WHERE followee_id = $1"
    return dict(stack.sql(query, followee))


def followers_counted(stack, user):
    return stack.sql("SELECT follower_count FROM users WHERE id = $1", user)[0][0]


def test_seeded_pairs_are_precomputed_up_to_the_threshold(stack):
    assert set(is_precomputed(stack, CELEBRITY).values()) == {False}
    assert set(is_precomputed(stack, 20).values()) == {True}
    assert followers_counted(stack, CELEBRITY) == 30


def test_follow_marks_the_pair_by_the_followees_size(stack):
    followee, followers = 57, list(range(40, 40 + THRESHOLD))
    post = stack.publish(followee)
    for follower in followers:
        stack.ask("PUT", f"/v1/users/{followee}/follow", follower, 204)
        stack.ask("PUT", f"/v1/users/{followee}/follow", follower, 204)  # again: nothing changes
    assert is_precomputed(stack, followee) == dict.fromkeys(followers, True)
    assert followers_counted(stack, followee) == THRESHOLD
    assert post in stack.feed(followers[0])

    stack.ask("PUT", f"/v1/users/{followee}/follow", 46, 204)  # one above the threshold: all of them are pulled now
    assert is_precomputed(stack, followee) == dict.fromkeys([*followers, 46], False)
    late = stack.publish(followee)
    for follower in (*followers, 46):
        feed = stack.feed(follower)
        assert feed[0] == late
        assert feed.count(post) == 1  # precomputed and pulled, shown once
    eventually(lambda: stack.sql("SELECT FROM posts WHERE id = $1 AND published_at IS NOT NULL", late))
    assert stack.sql("SELECT count(*) FROM feed WHERE post_id = $1", late) == [(0,)]


def test_unfollow_takes_the_pair_and_its_feed_rows(stack):
    followee, follower = 30, 29
    assert follower in is_precomputed(stack, followee)
    counted = followers_counted(stack, followee)
    assert {row[0] for row in stack.sql("SELECT author_id FROM feed WHERE user_id = $1", follower)} >= {followee}
    for _ in range(2):
        stack.ask("DELETE", f"/v1/users/{followee}/follow", follower, 204)
        assert follower not in is_precomputed(stack, followee)
        assert followers_counted(stack, followee) == counted - 1
    assert followee not in {row[0] for row in stack.sql("SELECT author_id FROM feed WHERE user_id = $1", follower)}
    stack.ask("PUT", f"/v1/users/{followee}/follow", follower, 204)
    assert followers_counted(stack, followee) == counted
    # What was seeded is there again: following puts the followee's newest posts in the feed.
    assert stack.sql("SELECT count(*) FROM feed WHERE user_id = $1 AND author_id = $2", follower, followee) == [(3,)]


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), min_size=1, max_size=120), st.integers(1, 9))
def test_seeded_feed_rows_are_the_newest_posts_of_each_followee(pairs, most):
    follows = graph.make_graph(20, np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]))
    rounds, epoch_s = 3, 1_750_000_000.0
    created = seeding.created_us(20, rounds, epoch_s)
    everything = [
        (int(user), int(created[r, author]), 1 + r * 20 + int(author), int(author))
        for author, user in zip(follows.followee, follows.follower, strict=True)
        for r in range(rounds)
    ]
    wanted = {row for user in range(20) for row in sorted((r for r in everything if r[0] == user), reverse=True)[:most]}
    found = Counter()
    for rows in seeding.feed_rows(follows, np.ones(len(follows.followee), bool), rounds, epoch_s, most):
        columns = (rows["user_id"], rows["created_at"].astype(np.int64), rows["post_id"], rows["author_id"])
        found.update(tuple(map(int, row)) for row in zip(*columns, strict=True))
    assert found == Counter(wanted)


def test_seed_writes_the_agreed_posts(large_database):
    async def read():
        connection = await asyncpg.connect(large_database)
        query = "SELECT id, author_id, extract(epoch FROM created_at)::float8 FROM posts WHERE id = ANY($1::bigint[]) ORDER BY 1"
        rows = await connection.fetch(query, [1, 2_001 + 7, 6_000])
        users = await connection.fetchval("SELECT count(*) FROM users WHERE name = 'user' || id")
        following = await connection.fetchval(
            "INSERT INTO posts (author_id, title, content) VALUES (1, 't', 'c') RETURNING id"
        )
        await connection.execute("DELETE FROM posts WHERE id = $1", following)
        await connection.close()
        return [tuple(row) for row in rows], users, following

    rows, users, following = asyncio.run(read())
    epoch = 1_750_000_000.0
    assert rows == [(1, 0, epoch - 180), (2_008, 7, epoch - 120.007), (6_000, 1_999, epoch - 60 - 1.999)]
    assert users == 2_000
    assert following == 6_001


def test_edge_list_is_renumbered_in_order_of_the_ids(tmp_path):
    path = tmp_path / "graph.txt.gz"
    with gzip.open(path, "wt") as file:
        file.write("# follower followee\n900 7\n7 30\n\n900\t30\n900 7\n30 30\n")
    found = graph.read_edge_list(path, False, quiet)
    assert found.users == 3  # 7, 30, 900
    assert sorted(zip(found.follower.tolist(), found.followee.tolist(), strict=True)) == [(0, 1), (2, 0), (2, 1)]
    both = graph.read_edge_list(path, True, quiet)
    assert len(both.followee) == 6


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (b"1 2\n1 2 3\n", ":2: '1 2 3'"),
        (b"# fine\n1 2\nalice bob\n", ":3: 'alice bob'"),
        (b"1 2\n-1 2\n", ":2: '-1 2'"),
        (b"1,2\n", ":1: '1,2'"),
        (b"1 99999999999999999999\n", ":1: "),
        (b"# only comments\n", ": no edges"),
        (b"1 2\n\xff\xfe\x00", ": not text"),
    ],
)
def test_malformed_edge_list_is_one_line_and_changes_nothing(stack, tmp_path, capsys, text, where):
    path = tmp_path / "graph.txt"
    path.write_bytes(text)
    before = stack.sql("SELECT count(*) FROM users")
    line = refusal(stack, capsys, "--graph", path)
    assert str(path) in line
    assert where in line
    assert stack.sql("SELECT count(*) FROM users") == before == [(USERS,)]


def refusal(stack, capsys, *arguments):
    """The one line that the command ``seed`` says."""
    assert main(["seed", *map(str, arguments), "--state-dir", str(stack.state_dir)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    return line


def test_missing_graph_and_broken_archive_are_one_line(stack, tmp_path, capsys):
    assert "No such file" in refusal(stack, capsys, "--graph", tmp_path / "nothing.txt")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 no archive")
    assert "no NumPy archive" in refusal(stack, capsys, "--arrays", broken)
    np.savez(broken, followee=[0, 5], follower=[1, 0], users=3)
    assert "ids outside 0..2" in refusal(stack, capsys, "--arrays", broken)
    np.savez(broken, followee=[0], users=3)
    assert "wanted the arrays" in refusal(stack, capsys, "--arrays", broken)


def test_synthetic_graph_has_celebrities_and_a_seed():
    first, again, other = (graph.synthetic_graph(3_000, 10, seed) for seed in (1, 1, 2))
    assert np.array_equal(first.followee, again.followee)
    assert not np.array_equal(first.followee[:100], other.followee[:100])
    followers = np.bincount(first.followee, minlength=3_000)
    assert followers.max() > 20 * followers.mean()
    assert 5 < followers.mean() < 10.5
    assert not np.any(first.followee == first.follower)


def test_settings_come_from_the_environment():
    changed = Settings.from_environment({"FLASHCROWD_FEED_STRATEGY": "push", "FLASHCROWD_POLL_MAX": "7", "HOME": "/"})
    assert (changed.feed_strategy, changed.poll_max) == ("push", 7)
    assert Settings.from_environment(changed.to_environment()) == changed
    assert Settings.from_environment({}, state_dir=None).state_dir == Settings().state_dir
    assert not Settings().state_dir.startswith(str(Path(graph.__file__).parent.parent))


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("FLASHCROWD_FEED_STRATEGY", "hybird", "did you mean hybrid"),
        ("FLASHCROWD_POLL_MAX", "many", "has to be a whole number"),
        ("FLASHCROWD_POLL_MAX", "0", "has to be from"),
        ("FLASHCROWD_API_PORT", "70000", "to 65535"),
        ("FLASHCROWD_ELASTICSEARCH_URL", "127.0.0.1:9200", "has to be like http://"),
        ("FLASHCROWD_FEED_THRESHOLDS", "5", "did you mean FLASHCROWD_FEED_THRESHOLD"),
    ],
)
def test_wrong_settings_are_refused(variable, value, message):
    with pytest.raises(SettingsError, match=message) as caught:
        Settings.from_environment({variable: value})
    assert "\n" not in str(caught.value)
    assert variable in str(caught.value)
