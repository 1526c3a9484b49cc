"""Notifications on the platform of eight users: durations worked out by hand, and what a running platform tells its users."""

from dataclasses import replace

import numpy as np
import pytest

from model import notifications, platform
from model.distributions import constant
from model.engines.clock import Clock
from model.live import LivePlatform
from tests.model.runs import answered, marks, run, topic
from tests.model.small_platform import GRAPH, scenario

SIZES = [f"topics.notifications_{tier}.{key}=0" for tier in ("high", "low") for key in ("linger_ms", "poll_wait_ms")]
ACCEPTED_S = 0.125 + 1 + 0.5
APPLIED_S = ACCEPTED_S + 0.25 + 2 + 1 / 8 + 1 / 4
STORED_S = APPLIED_S + 0.5 + 0.25 + 2 + 1 / 8  # told by the log, in the inbox
BY_STREAM_S = 0.25 + 1 + 0.125
BY_PUSH_S = 4.0
COMMENT, LIKE = "notifications.delivered.comment", "notifications.delivered.like"
NOBODY_NEAR = 100.0


def small(*overrides):
    return scenario("push", *SIZES, *overrides)


def told(kind, post=5, online=0.0):
    return {"post": float(post), "author": 1.0, f"told_{kind}": 1.0, "online": online}


def delivered(record, milestone):
    return [instant for instant, name, _ in marks(record) if name == milestone]


def run_small(settings, *requests):
    return run(platform.build_network(settings), requests)


@pytest.mark.usefixtures("engine")
class TestDurations:
    def test_registering_and_connecting_cost_one_statement(self):
        record = run_small(small(), (0, "notifications.subscribe"), (NOBODY_NEAR, "notifications.stream"))
        took_s = 0.125 + 1 + 0.25 + 2
        assert answered(record) == [took_s, NOBODY_NEAR + took_s]

    @pytest.mark.parametrize(("kind", "milestone", "tier"), [("comment", COMMENT, "high"), ("like", LIKE, "low")])
    @pytest.mark.parametrize(("online", "way_s"), [(1.0, BY_STREAM_S), (0.0, BY_PUSH_S)])
    def test_each_tier_goes_by_stream_or_by_push(self, kind, milestone, tier, online, way_s):
        record = run_small(small(), (0, f"interactions.{kind}", told(kind, online=online)))
        assert delivered(record, milestone) == [STORED_S + way_s]
        assert topic(record, f"notifications_{tier}")["consumed"] == 1

    def test_a_broker_works_for_each_that_is_told(self):
        """0.5 s for the record of the like, and as much for the record of who is told."""
        plain = small()
        works = replace(plain, service_times={**plain.service_times, "broker_record": constant(0.5)})
        request = (0, "interactions.like", told("like", online=1.0))
        assert delivered(run_small(works, request), LIKE) == [STORED_S + BY_STREAM_S + 1.0]

    def test_a_shared_topic_delivers_both_with_all_workers(self):
        settings = small("notifications.tiers='shared'")
        record = run_small(settings, (0, "interactions.like", told("like")), (100, "interactions.comment", told("comment")))
        assert delivered(record, LIKE) == [STORED_S + BY_PUSH_S]
        assert delivered(record, COMMENT) == [100 + STORED_S + BY_PUSH_S]
        assert record.tables.network.names("topics").count("notifications_high") == 0
        assert topic(record, "notifications_low")["consumers"] == 4

    @pytest.mark.parametrize(("ageing_s", "order"), [(0.0, "clcl"), (30.0, "clcl"), (3.0, "cllc")])
    def test_in_a_queue_comments_go_first_unless_likes_have_waited_long(self, ageing_s, order):
        settings = small(
            "notifications.tiers='queue'", "stations.notification_dispatchers.servers=1", "notifications.like_window_s=0.001",
            f"stations.notification_dispatchers.ageing_s={ageing_s}", "notifications.push_quota_per_s=1_000",
        )  # fmt: skip
        calls = [(0, "comment", 5), (4, "like", 6), (8, "like", 8), (12, "comment", 7)]  # while the first is told
        record = run_small(settings, *[(at_s, f"interactions.{kind}", told(kind, post)) for at_s, kind, post in calls])
        both = sorted((instant, name) for instant, name, _ in marks(record) if name in (COMMENT, LIKE))
        assert "".join(name.rpartition(".")[2][0] for _, name in both) == order
        each_s = 0.25 + 2 + 1 / 8 + BY_PUSH_S  # one at a time: stored and delivered
        first_s = APPLIED_S + 0.5 + each_s
        assert [instant for instant, _ in both] == [first_s + each_s * number for number in range(4)]

    @pytest.mark.parametrize("operation", ["interactions.unlike", "interactions.like"])
    def test_who_is_not_told_costs_nothing(self, operation):
        record = run_small(small(), (0, operation, {"post": 5.0, "author": 1.0}))
        assert [name for _, name, _ in marks(record)] == ["interactions.applied"]
        assert topic(record, "notifications_low")["published"] == 0

    def test_likes_within_the_window_are_gathered_and_the_next_window_begins_anew(self):
        settings = small("notifications.like_window_s=32", "notifications.push_quota_per_s=1000")
        likes = [(instant, "interactions.like", told("like")) for instant in (0.0, 10.0, 20.0, 200.0)]
        instants = delivered(run_small(settings, *likes), LIKE)
        first_s, last_s = STORED_S + BY_PUSH_S, 200.0 + STORED_S + BY_PUSH_S
        assert instants[0] == first_s
        assert instants[-1] == last_s
        gathered = instants[1:-1]
        assert len(gathered) == 2
        assert all(10 + STORED_S < instant < 20 + STORED_S + 32 + BY_PUSH_S for instant in gathered)

    def test_comments_are_never_gathered(self):
        comments = [(instant, "interactions.comment", told("comment")) for instant in (0.0, 30.0)]
        assert delivered(run_small(small(), *comments), COMMENT) == [STORED_S + BY_PUSH_S, 30 + STORED_S + BY_PUSH_S]

    def test_the_quota_holds_pushes_back_and_not_streams(self):
        settings = small("notifications.push_quota_per_s=0.0625", "notifications.push_quota_burst=1")
        requests = [(NOBODY_NEAR, "interactions.comment", told("comment", online=1.0))]
        requests = [(0, "interactions.comment", told("comment", post)) for post in (1, 1)] + requests
        instants = delivered(run_small(settings, *requests), COMMENT)
        stored_s = instants[0] - BY_PUSH_S
        assert instants == [stored_s + 4, stored_s + 16 + 4, NOBODY_NEAR + STORED_S + BY_STREAM_S]

    def test_comments_overtake_a_backlog_of_likes_at_the_quota(self):
        # Four likes at once per worker: of forty likes at one in eight seconds, only those few are ahead of the comment.
        overrides = ["push_quota_per_s=0.125", "push_quota_burst=1"]
        settings = small(
            *(f"notifications.{override}" for override in overrides),
            "topics.notifications_low.poll_max=4", "stations.notification_workers_low.servers=1",
        )  # fmt: skip
        likes = [(0.0, "interactions.like", told("like", post)) for post in range(1, 41)]
        record = run_small(settings, *likes, (20.0, "interactions.comment", told("comment", 1)))
        likes_before = [instant for instant in delivered(record, LIKE) if instant < delivered(record, COMMENT)[0]]
        assert len(delivered(record, LIKE)) == 40
        assert len(likes_before) <= 8


def test_a_fixed_share_of_users_is_online():
    users = np.arange(100_000)
    for ratio in (0.0, 0.1, 1.0):
        online = notifications.online(scenario("push", f"notifications.online_ratio={ratio}"), users)
        assert online.mean() == pytest.approx(ratio, abs=1e-3)
        assert set(online) <= {0.0, 1.0}


def test_authors_are_told_of_others_only():
    users = np.array([1, 2])
    for kind in ("like", "comment"):
        values = platform.request_attributes(small(), GRAPH, f"interactions.{kind}", users, np.array([0.0, 0.0]))
        author = values["author"][0]
        assert author == (values["post"][0] - 1) % 8
        assert values[f"told_{kind}"].tolist() == [float(user != author) for user in users]
        assert not values[{"like": "told_comment", "comment": "told_like"}[kind]].any()


class TestRunning:
    def setup_method(self):
        self.env = Clock()
        self.platform = LivePlatform(small("notifications.like_window_s=32"), self.env, 1, GRAPH)

    def ask(self, operation, user, **arguments):
        outcomes = []
        self.platform.perform(operation, user, arguments, outcomes.append)
        while not outcomes:
            assert self.env.advance(self.env.now + 1000)
        return outcomes[0]

    def go_to(self, instant):
        while self.env.advance(instant):
            pass

    def test_who_listens_hears_of_comments_and_likes_until_he_hangs_up(self):
        heard = []
        assert self.ask("notifications.stream", 4).body == {"type": "ready"}
        stop = self.platform.listen(4, heard.append)
        self.ask("interactions.comment", 3, post=5, text="well")
        answered_s = float(self.env.now)
        self.go_to(NOBODY_NEAR)
        assert [(one["kind"], one["actor_id"], one["post_id"]) for one in heard] == [("comment", 3, 5)]
        assert heard[0]["accepted_at"] == answered_s
        for user in (2, 2, 3, 4):  # a second like of the same user, and one's own, are no news
            self.ask("interactions.like", user, post=5)
        self.go_to(2 * NOBODY_NEAR)
        assert heard[1]["kind"] == "like"
        stop()
        self.ask("interactions.comment", 2, post=5, text="and more")
        self.go_to(3 * NOBODY_NEAR)
        assert len([one for one in heard if one["kind"] == "comment"]) == 1
        figures = self.platform.results().milestone_figures
        assert (figures[COMMENT]["count"], figures[LIKE]["count"]) == (2, 2)

    def test_platforms_are_checked(self):
        assert self.ask("notifications.subscribe", 4, device=4, token="t", platform="fcm").status == "ok"
        assert self.ask("notifications.subscribe", 4, device=4, token="t", platform="pigeon").status == "invalid"

    def test_comments_on_a_post_that_does_not_exist_are_told_to_nobody(self):
        self.ask("interactions.comment", 4, post=999, text="to nobody")
        self.go_to(NOBODY_NEAR)
        assert self.platform.results().milestone_figures[COMMENT]["count"] == 0
