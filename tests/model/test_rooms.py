"""Feed and interactions on a platform of eight users, every duration worked out by hand."""

import numpy as np
import pytest

from model import platform
from model.results import Results
from model.variates import scramble
from tests.model import runs
from tests.model.runs import answered, at, run, topic
from tests.model.small_platform import GRAPH, scenario

pytestmark = pytest.mark.usefixtures("engine")

INTERACTIONS = platform.build_network(scenario()).names("topics").index("interactions")
NOBODY_NEAR = 100.0  # seconds between requests that shall not meet


def marks(record):
    """The milestones of these two rooms; a new post becomes searchable as well."""
    return [mark for mark in runs.marks(record) if mark[1] != "search.searchable"]


def delivered(record):
    """The rows of `feed.delivered`."""
    names = platform.build_network(scenario()).milestone_names()
    return record.marks[record.marks["milestone"] == names.index("feed.delivered")]


def asked(settings, operation, user, post=None):
    """The attributes of one request."""
    values = platform.request_attributes(settings, GRAPH, operation, np.array([user]), np.array([0.5]))
    attributes = {name: float(value[0]) for name, value in values.items() if not name.startswith("told_")}
    return attributes if post is None else attributes | {"post": float(post)}


def run_platform(settings, requests, control=None):
    """requests: (instant, operation, user) or (instant, operation, user, post)."""
    schedule = [(item[0], item[1], asked(settings, *item[1:])) for item in requests]
    network = platform.build_network(settings)
    return run(network, schedule, control=at(*control) if control else None)


def opened_s(settings, users):
    record = run_platform(settings, [(NOBODY_NEAR * number, "feed.open", user) for number, user in enumerate(users)])
    return [instant - NOBODY_NEAR * number for number, instant in enumerate(answered(record))]


# ---- opening a feed; network 0.125 + 0.25, api 1 + rows/64, database 2 + what the strategy reads


def latency_s(rows, database_s):
    return 0.125 + 1 + rows / 64 + 0.25 + 2 + database_s


def test_naive_scans_every_post_there_is():
    # Every user has three posts: 24 to scan. User 3 follows three, user 7 nobody.
    assert opened_s(scenario("naive"), [3, 7]) == [latency_s(9, 24 / 256 + 9 / 32), latency_s(0, 24 / 256)]


def test_indexed_probes_once_for_each_followee():
    assert opened_s(scenario("indexed"), [3, 1, 7]) == [
        latency_s(9, 3 / 16 + 9 / 32),
        latency_s(3, 1 / 16 + 3 / 32),
        latency_s(0, 0),
    ]


def test_push_reads_a_page_of_rows():
    assert opened_s(scenario("push"), [3, 1, 7]) == [latency_s(2, 2 / 32), latency_s(2, 2 / 32), latency_s(0, 0)]
    assert opened_s(scenario("push", "feed.page_size=20"), [3]) == [latency_s(9, 9 / 32)]


def test_hybrid_pulls_celebrities_and_merges_them_with_rows():
    # User 3: a page of 2 rows by users 1 and 2, and the newest 2 of the celebrity. User 1 follows only the celebrity.
    assert opened_s(scenario("hybrid"), [3, 1, 7]) == [
        latency_s(4, 1 / 8 + 4 / 32),
        latency_s(2, 1 / 8 + 2 / 32),
        latency_s(0, 0),
    ]


def test_hybrid_above_every_threshold_is_push_and_at_zero_pulls_everybody():
    assert opened_s(scenario("hybrid", "feed.threshold=6"), [3, 1]) == opened_s(scenario("push"), [3, 1])
    assert opened_s(scenario("hybrid", "feed.threshold=0"), [3]) == [latency_s(6, 3 / 8 + 6 / 32)]


# ---- publishing: api 1, insert 2, acknowledged by topic `posts` after 0.5


ACCEPTED_S = 0.125 + 1 + 0.25 + 2 + 0.5
DISPATCHED_S = ACCEPTED_S + 0.25 + 2 + 0.5  # followers looked up, batches acknowledged by topic `fanout`


@pytest.mark.parametrize("strategy", ["naive", "indexed", "push", "hybrid"])
def test_a_post_is_accepted_once_it_is_in_the_log(strategy):
    assert answered(run_platform(scenario(strategy), [(0, "feed.publish", 0)])) == [ACCEPTED_S]


def test_a_pushed_post_is_written_in_equal_batches_of_followers():
    # So many that the two batches, which go to partitions of their own choice, meet at no worker.
    settings = scenario("push", "topics.fanout.partitions=64", "stations.fanout_workers.servers=64")
    record = run_platform(settings, [(0, "feed.publish", 0)])
    # Six followers, four at most in a batch: two batches of three, for workers of their own.
    written_s = DISPATCHED_S + 0.25 + 2 + 3 / 16
    assert marks(record) == [(written_s, "feed.delivered", 0)] * 2
    assert sorted(delivered(record)["ordinal"].tolist()) == [1, 2]
    assert delivered(record)["weight"].tolist() == [3, 3]
    figures = Results(settings, record, 1).milestone_figures["feed.delivered"]
    assert (figures["count"], figures["weight"]) == (2, 6)
    assert figures["latency_s"]["max"] == written_s - ACCEPTED_S
    assert topic(record, "fanout")["consumed"] == 2


def test_one_worker_writes_one_batch_after_the_other():
    record = run_platform(scenario("push", "stations.fanout_workers.servers=1"), [(0, "feed.publish", 0)])
    first_s = DISPATCHED_S + 0.25 + 2 + 3 / 16
    assert [instant for instant, _, _ in marks(record)] == [first_s, first_s + 0.25 + 0.25 + 2 + 3 / 16]


def test_hybrid_pushes_ordinary_posts_and_not_a_celebritys():
    record = run_platform(scenario("hybrid"), [(0, "feed.publish", 0), (NOBODY_NEAR, "feed.publish", 1)])
    assert marks(record) == [(NOBODY_NEAR + DISPATCHED_S + 0.25 + 2 + 2 / 16, "feed.delivered", 1)]
    assert delivered(record)["weight"].tolist() == [2]
    assert (topic(record, "posts")["consumed"], topic(record, "fanout")["published"]) == (2, 1)
    # What is not pushed is pulled by every follower.
    assert [asked(scenario("hybrid"), "feed.open", user)["pulled"] for user in range(8)] == [0, 1, 1, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("strategy", ["naive", "indexed"])
def test_without_a_feed_table_nothing_is_fanned_out(strategy):
    record = run_platform(scenario(strategy), [(0, "feed.publish", 0)])
    assert marks(record) == []
    assert topic(record, "fanout")["published"] == 0


def test_an_author_without_followers_costs_a_lookup_and_no_batch():
    record = run_platform(scenario("push"), [(0, "feed.publish", 7)])
    assert marks(record) == []
    assert topic(record, "posts")["consumed"] == 1
    assert topic(record, "posts")["busy_area"] == 0.25 + 2 + 0.25


# ---- likes and comments: api 1, acknowledged after 0.5; a batch costs 2 + events/8 + posts/4, then its commit 0.25


LIKED_S = 0.125 + 1 + 0.5


def posts_of_member(member, consumers=2, partitions=8):
    """Posts whose partition belongs to a member at first."""
    return [post for post in range(1, 25) if int(scramble(post, 0)) % partitions % consumers == member]


def test_an_acknowledgement_and_the_answer_after_it_are_two_turns_of_the_api():
    settings = scenario("hybrid", "stations.api.servers=1", api_write_answer=1.0)
    alone, both = (answered(run_platform(settings, [(at_s, "interactions.like", 3) for at_s in when])) for when in ([0], [0, 1.625]))
    assert alone == [0.125 + 1 + 0.5 + 0.5 + 0.5]
    # The second comes at 1.75, as the first one's report has its turn, and is taken up at 2.125, before the first one's answer.
    assert both == [3.625, 3.625 + 0.5 + 0.5]


@pytest.mark.parametrize("operation", ["interactions.like", "interactions.unlike", "interactions.comment"])
def test_an_interaction_is_accepted_and_then_applied(operation):
    settings = scenario()
    record = run_platform(settings, [(0, operation, 3, 5)])
    assert answered(record) == [LIKED_S]
    applied_s = LIKED_S + 0.25 + 2 + 1 / 8 + 1 / 4
    assert marks(record) == [(applied_s, "interactions.applied", 0)]
    figures = Results(settings, record, 1).milestone_figures["interactions.applied"]
    assert figures["latency_s"]["max"] == applied_s - LIKED_S
    assert topic(record, "interactions")["busy_area"] == applied_s - LIKED_S + 0.25


def test_events_of_a_hot_post_are_merged():
    hot, cold = posts_of_member(0)[:2]
    likes = [
        (0, "interactions.like", 3, cold),
        *[(1 + n / 64, "interactions.like", n, hot) for n in range(3)],
        (2, "interactions.like", 4, cold),
    ]
    record = run_platform(scenario(), likes)
    first_s = LIKED_S + 0.25 + 2 + 1 / 8 + 1 / 4
    begins_s = first_s + 0.25  # the commit
    merged_s = begins_s + 0.25 + 2 + 4 / 8 + 2 / 4
    assert [instant for instant, _, _ in marks(record)] == [first_s] + [merged_s] * 4


def test_a_worker_that_dies_between_applying_and_committing_leaves_events_applied_once():
    post = posts_of_member(0)[0]
    applied_s = LIKED_S + 0.25 + 2 + 1 / 8 + 1 / 4
    crash_s = applied_s + 0.125  # half of the commit
    record = run_platform(
        scenario(), [(0, "interactions.like", 3, post)], control=[(crash_s, "crash", INTERACTIONS, 0)]
    )
    assert marks(record) == [(applied_s, "interactions.applied", 0)]
    counts = topic(record, "interactions")
    assert (counts["redelivered"], counts["duplicates_skipped"], counts["duplicates_applied"]) == (1, 1, 0)
    assert (counts["published"], counts["consumed"], counts["backlog_end"]) == (1, 1, 0)


def test_a_worker_that_dies_before_applying_is_replaced_after_the_session_timeout():
    post = posts_of_member(0)[0]
    record = run_platform(scenario(), [(0, "interactions.like", 3, post)], control=[(3.0, "crash", INTERACTIONS, 0)])
    assert marks(record) == [(3 + 8 + 0.25 + 2 + 1 / 8 + 1 / 4, "interactions.applied", 0)]
    assert topic(record, "interactions")["duplicates_skipped"] == 0


def test_reading_a_post_and_following_cost_one_statement():
    record = run_platform(
        scenario(),
        [(0, "interactions.read", 1, 5), (NOBODY_NEAR, "graph.follow", 1), (2 * NOBODY_NEAR, "graph.unfollow", 1)],
    )
    took_s = 0.125 + 1 + 0.25 + 2
    assert answered(record) == [took_s, NOBODY_NEAR + took_s, 2 * NOBODY_NEAR + took_s]


# ---- clients who do not wait for ever


def impatient(*overrides):
    settings = scenario("hybrid", "stations.api.servers=1", "clients.backoff_ms=0", *overrides)
    calls = [(at_s, "interactions.read", user, asked(settings, "interactions.read", user)) for at_s, user in ((0, 3), (0, 4))]
    return run(platform.build_network(settings), [(at_s, name, attributes) for at_s, name, _, attributes in calls])


def test_a_client_gives_up_and_asks_again():
    # Alone a read takes 0.125 + 1 + 0.25 + 2. The second waits a second for the API, and has given up at 4.25 - 0.25.
    assert runs.answers(impatient()) == [(0, 3.375, "ok"), (0, 4.375, "ok")]
    assert runs.answers(impatient("clients.timeout_s=4")) == [(0, 3.375, "ok"), (0, 4.0, "timed_out")]
    assert runs.answers(impatient("clients.timeout_s=4", "clients.attempts=2")) == [(0, 3.375, "ok"), (0, 7.375, "ok")]


def test_a_breaker_refuses_at_once_while_the_api_is_behind():
    settings = scenario(
        "hybrid", "stations.api.servers=1", "clients.timeout_s=1",
        "clients.breaker_failure_ratio=1", "clients.breaker_window=2", "clients.breaker_pause_s=10",
    )  # fmt: skip
    calls = [(at_s, "interactions.read", asked(settings, "interactions.read", 3)) for at_s in (0, 0, 2, 20)]
    record = run(platform.build_network(settings), calls)
    # Two have failed at 1: the breaker is open until 11. The one at 20 is let through, and fails as well.
    assert runs.answers(record) == [(0, 1.0, "timed_out"), (0, 1.0, "timed_out"), (2, 2.0, "rejected"), (20, 21.0, "timed_out")]


def test_a_budget_spares_the_server_further_attempts():
    record = impatient("clients.timeout_s=1", "clients.attempts=50", "clients.budget_ratio=0")
    # Nobody can be served within a second; the budget begins with ten further attempts for all.
    assert int(record.failed_attempts.sum()) == 2 + 10
    assert runs.outcomes(record) == ["timed_out", "timed_out"]
