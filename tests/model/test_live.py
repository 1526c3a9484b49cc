"""The platform as a running system: what is visible to whom, and from when on."""

from dataclasses import replace

import pytest

from model.engines.clock import Clock
from model.live import LivePlatform
from model.network import Network, Operation
from model.scenario import DeclaredNetwork
from tests.model.small_platform import GRAPH, scenario

ACCEPTED_S = 0.125 + 1 + 0.25 + 2 + 0.5
LIKED_S = 0.125 + 1 + 0.5
APPLIED_S = LIKED_S + 0.25 + 2 + 1 / 8 + 1 / 4


class Client:
    """Asks, waits, and remembers when it was answered."""

    def __init__(self, *args, **settings):
        self.env = Clock()
        self.platform = LivePlatform(scenario(*args, **settings), self.env, 1, GRAPH)

    def go_to(self, instant):
        while self.env.advance(instant):
            pass

    def ask(self, operation, user, **arguments):
        """The outcome, at the instant of the answer."""
        answers = []
        self.platform.perform(operation, user, arguments, answers.append)
        while not answers:
            assert self.env.advance(self.env.now + 1000)
        return answers[0]

    def later(self, operation, user, **arguments):
        """Ask and go on without waiting."""
        self.platform.perform(operation, user, arguments, lambda outcome: None)

    def feed(self, user, **arguments):
        outcome = self.ask("feed.open", user, **arguments)
        assert outcome.status == "ok"
        return [(post["id"], post["author_id"]) for post in outcome.body["posts"]]

    def likes(self, post):
        return self.ask("interactions.read", 7, post=post).body["likes"]


# Reading takes no time, so that looking does not move the clock.
QUICK = {
    "costs": 0.0,
    "network_client": 0.0,
    "api_feed_open": 0.0,
    "api_read": 0.0,
    "network_database": 0.0,
    "database_feed_page": 0.0,
    "database_read_post": 0.0,
}


def test_initial_feeds_show_the_newest_first():
    client = Client("hybrid", "feed.page_size=20")
    # Post 1 + round × 8 + user; in a round the smaller user number is the newer post.
    expected = [(17, 0), (18, 1), (19, 2), (9, 0), (10, 1), (11, 2), (1, 0), (2, 1), (3, 2)]
    assert client.feed(3) == expected
    assert client.feed(7) == []
    for strategy in ("naive", "indexed", "push"):
        assert Client(strategy, "feed.page_size=20").feed(3) == expected


def test_a_pushed_post_is_seen_when_its_batch_is_written():
    client = Client("hybrid", **QUICK)
    client.later("feed.publish", 1, title="hello")
    published_s = 1 + 2 + 0.5
    written_s = published_s + 2 + 0.5 + 2
    for instant, seen in [(published_s, False), (written_s - 1 / 64, False), (written_s, True)]:
        client.go_to(instant)
        assert ((25, 1) in client.feed(2)) == seen, instant
    assert client.feed(2)[0] == (25, 1)


def test_a_celebritys_post_is_pulled_as_soon_as_it_is_accepted():
    client = Client("hybrid", **QUICK)
    client.later("feed.publish", 0, title="hello")
    for instant, seen in [(3.5 - 1 / 64, False), (3.5, True)]:
        client.go_to(instant)
        assert ((25, 0) in client.feed(4)) == seen, instant
    client.go_to(100)
    assert client.feed(4)[:1] == [(25, 0)]
    assert client.feed(7) == []


def test_a_published_post_can_be_read_at_once():
    client = Client()
    outcome = client.ask("feed.publish", 1, title="a title", content="some text")
    assert (outcome.status, client.env.now) == ("ok", ACCEPTED_S)
    assert outcome.body == {"id": 25, "created_at": ACCEPTED_S}
    read = client.ask("interactions.read", 7, post=25)
    assert read.body == {
        "id": 25, "author_id": 1, "title": "a title", "content": "some text", "created_at": ACCEPTED_S, "likes": 0, "comments": [],
    }  # fmt: skip


def test_pages_follow_each_other_without_gaps_though_posts_come_in_between():
    client = Client("hybrid")
    whole = [post for post, _ in client.feed(3, limit=100)]
    seen, cursor = [], None
    while True:
        body = client.ask("feed.open", 3, limit=2, cursor=cursor).body
        seen += [post["id"] for post in body["posts"]]
        cursor = body["next_cursor"]
        client.ask("feed.publish", 0)  # newer than everything on later pages
        if cursor is None:
            break
    assert seen == whole
    assert len(whole) == 9


def test_the_last_page_ends_the_feed():
    client = Client()
    assert client.ask("feed.open", 1, limit=3).body["next_cursor"] is None
    assert client.ask("feed.open", 1, limit=2).body["next_cursor"] is not None
    assert client.ask("feed.open", 1, cursor="nonsense").status == "invalid"


def test_a_like_is_not_seen_before_it_is_applied():
    client = Client("hybrid", **QUICK)
    client.later("interactions.like", 3, post=5)
    applied_s = 1 + 0.5 + 2
    for instant, count in [
        (1.5, 0),
        (applied_s - 1 / 64, 0),
        (applied_s, 1),
    ]:  # accepted at 1.5: one's own write is missed
        client.go_to(instant)
        assert client.likes(5) == count, instant


def test_liking_twice_is_liking_once():
    client = Client()
    for user, operation in [(3, "like"), (3, "like"), (4, "like"), (5, "unlike"), (4, "unlike")]:
        client.ask(f"interactions.{operation}", user, post=5)
        client.go_to(client.env.now + 100)
    assert client.likes(5) == 1
    assert client.likes(6) == 0


def test_comments_are_seen_the_newest_first_with_their_instant():
    client = Client()
    for number in range(22):
        client.ask("interactions.comment", 3, post=5, text=f"text {number}")
        client.go_to(client.env.now + 100)
    comments = client.ask("interactions.read", 7, post=5).body["comments"]
    assert [comment["text"] for comment in comments] == [f"text {number}" for number in range(21, 1, -1)]
    assert comments[0]["author_id"] == 3
    first = Client()
    first.ask("interactions.comment", 3, post=5, text="x")
    first.go_to(50)
    assert first.ask("interactions.read", 7, post=5).body["comments"][0]["commented_at"] == APPLIED_S


@pytest.mark.parametrize("post", [0, -1, 25, 10**9])
def test_a_post_that_does_not_exist_is_not_found(post):
    outcome = Client().ask("interactions.read", 3, post=post)
    assert (outcome.status, outcome.body) == ("not_found", {})


def test_following_shows_what_was_there_and_what_comes_and_unfollowing_hides_it():
    client = Client("hybrid")
    assert client.ask("graph.follow", 7, followee=1).status == "ok"
    assert [author for _, author in client.feed(7, limit=20)] == [1, 1, 1]
    client.ask("feed.publish", 1)
    client.go_to(client.env.now + 100)
    assert client.feed(7)[0] == (25, 1)
    client.ask("graph.unfollow", 7, followee=1)
    assert client.feed(7) == []
    client.ask("feed.publish", 1)
    client.go_to(client.env.now + 100)
    assert client.feed(7) == []
    assert client.feed(2)[0] == (26, 1)


def test_following_a_celebrity_pulls():
    client = Client("hybrid")
    client.ask("graph.follow", 7, followee=0)
    assert [post for post, _ in client.feed(7, limit=20)] == [17, 9, 1]
    client.ask("graph.unfollow", 7, followee=0)
    assert client.feed(7) == []


def test_a_full_platform_rejects_and_shows_nothing():
    client = Client("hybrid", "stations.api.servers=1", "stations.api.queue_limit=0")
    client.later("feed.open", 3)
    outcome = client.ask("feed.open", 3)
    assert (outcome.status, outcome.body) == ("rejected", {})


def test_results_are_those_of_the_requests():
    client = Client()
    client.ask("interactions.like", 3, post=5)
    client.go_to(100)
    results = client.platform.results()
    assert results.operation_figures["interactions.like"]["latency_s"]["max"] == LIKED_S
    assert results.milestone_figures["interactions.applied"]["latency_s"]["max"] == APPLIED_S - LIKED_S
    assert client.platform.users == 8


def test_a_network_of_ones_own_cannot_be_asked():
    declared = replace(scenario(), declared=DeclaredNetwork(Network((Operation("x", ()),)), {}))
    with pytest.raises(ValueError, match="it declares a network of its own; only the platform can be asked"):
        LivePlatform(declared, Clock(), 1)
