"""Uploads on the platform of eight users: durations worked out by hand, and what a running platform shows of them."""

import numpy as np
import pytest

from model import platform, uploads
from model.engines.clock import Clock
from model.live import LivePlatform
from tests.model.runs import answered, marks, run
from tests.model.small_platform import GRAPH, scenario

MIB = 2**20
TIMES_S = {
    "network_store": 0.5,
    "api_upload_begin": 1.0,
    "api_upload_notified": 1.0,
    "object_store_request": 4.0,
    "object_store_complete": 8.0,
    "object_store_notification": 16.0,
    "edge_view": 1.0,
}
COSTS_S = {"object_store_mib": 1.0, "edge_mib": 2.0, "client_link_mib": 4.0}


def small(*overrides):
    """The small platform, with costs per MiB: the client's link 4 s, the store 1 s, the edge 2 s."""
    made = scenario("push", *overrides, **TIMES_S)
    made.costs_s.update(COSTS_S)
    return made


def run_one(settings, *requests):
    return run(platform.build_network(settings), requests)


@pytest.mark.usefixtures("engine")
class TestDurations:
    def test_beginning_costs_the_api_the_store_and_two_statements(self):
        record = run_one(small(), (0.0, "uploads.begin"))
        assert answered(record) == [0.125 + 1 + (0.25 + 2) + (0.5 + 4) + (0.25 + 2)]

    def test_a_part_takes_its_bytes_on_the_clients_link_and_at_the_store(self):
        record = run_one(small(), (0.0, "uploads.part", {"media_bytes": 3.0 * MIB}))
        assert answered(record) == [0.125 + 3 * 4 + 4 + 3 * 1]

    def test_a_completed_upload_is_ready_when_it_was_notified_and_looked_at_and_fans_out_then(self):
        fan_out = {"batches": 1.0, "batch_followers": 6.0}
        record = run_one(small(), (0.0, "uploads.complete", fan_out))
        assert answered(record) == [0.125 + 8]
        ready_s = 0.125 + 8 + 16 + 1 + (0.25 + 2) + 2 * (0.5 + 4) + (0.25 + 2)
        written_s = ready_s + 0.5 + (0.25 + 2) + 0.5 + (0.25 + 2 + 6 / 16)
        ours = [mark for mark in marks(record) if mark[1] in ("uploads.ready", "feed.delivered")]
        assert ours == [(ready_s, "uploads.ready", 0), (written_s, "feed.delivered", 0)]

    def test_the_edge_fetches_a_file_once(self):
        view = {"media": 3.0, "media_bytes": 2.0 * MIB}
        record = run_one(small(), (0.0, "uploads.view", view), (100.0, "uploads.view", view))
        hit_s = 0.125 + 2 * 4 + 1 + 2 * 2
        assert answered(record) == [hit_s + 0.125 + 1 + (0.25 + 2) + (0.5 + 4 + 2 * 1), 100 + hit_s]

    def test_the_edge_forgets(self):
        view = {"media": 3.0, "media_bytes": 0.0}
        settings = small("uploads.edge_ttl_s=50")
        first, second = answered(run_one(settings, (0.0, "uploads.view", view), (100.0, "uploads.view", view)))
        assert second - 100 == first


def test_sizes_are_even_between_their_bounds():
    settings = scenario("push", "uploads.least_mib=1", "uploads.most_mib=3")
    sizes = uploads.sizes_bytes(settings, np.array([0.0, 0.5, 1 - 2**-52]))
    assert sizes.tolist() == [MIB, 2 * MIB, 3 * MIB]


def test_lost_parts_are_sent_again():
    two_parts = ("uploads.least_mib=12", "uploads.most_mib=16", "uploads.part_mib=8")
    assert uploads.parts_per_upload(scenario("push", *two_parts, "uploads.part_loss_ratio=0")) == 2.0
    assert uploads.parts_per_upload(scenario("push", *two_parts, "uploads.part_loss_ratio=0.2")) == 2.5


def test_parts_share_a_file():
    settings = scenario("push", "uploads.least_mib=12", "uploads.most_mib=12", "uploads.part_mib=8")
    assert uploads.part_attributes(settings, np.array([0.3]))["media_bytes"].tolist() == [6 * MIB]


def test_popular_files_are_viewed_most():
    values = uploads.view_attributes(scenario("push", "uploads.viewed_files=100"), np.arange(1000), (np.arange(1000) + 0.5) / 1000)
    counts = np.bincount(values["media"].astype(int), minlength=100)
    assert counts[0] == counts.max()
    assert counts.sum() == 1000 and len(counts) == 100
    sizes = {media: set(values["media_bytes"][values["media"] == media]) for media in (0.0, 1.0)}
    assert [len(each) for each in sizes.values()] == [1, 1]  # a file has one size


# ---- the live platform


class Client:
    def __init__(self, *overrides):
        self.env = Clock()
        self.platform = LivePlatform(small("uploads.part_mib=8", *overrides), self.env, 1, GRAPH)

    def ask(self, operation, user, **arguments):
        answers = []
        self.platform.perform(operation, user, arguments, answers.append)
        while not answers:
            assert self.env.advance(self.env.now + 1000)
        return answers[0]

    def wait(self, seconds):
        until = self.env.now + seconds
        while self.env.advance(until):
            pass

    def begin(self, user, size_bytes=9 * MIB, media_type="video/mp4", key="k", **changes):
        body = {"title": "film", "content": "", "media_type": media_type, "size_bytes": size_bytes, "key": key}
        return self.ask("uploads.begin", user, **body | changes)

    def send(self, upload, numbers=(1, 2)):
        lengths = {1: 8 * MIB, 2: MIB}
        for number in numbers:
            part = {"upload": upload, "partNumber": str(number), "bytes": lengths[number]}
            assert self.ask("uploads.part", 0, **part).status == "ok"

    def status(self, user, upload):
        return self.ask("uploads.status", user, upload=upload).body["status"]


def test_an_upload_is_seen_when_its_store_has_told_of_it():
    client = Client()
    begun = client.begin(1).body
    began_s = client.env.now
    assert [part["size_bytes"] for part in begun["parts"]] == [8 * MIB, MIB]
    client.send(begun["id"])
    assert client.ask("uploads.view", 3, media=begun["id"]).status == "not_found"
    assert client.ask("uploads.complete", 1, upload=begun["id"]).status == "ok"
    completed_s = client.env.now
    assert client.status(1, begun["id"]) == "pending"
    client.wait(100)
    assert client.status(1, begun["id"]) == "success"
    post = client.ask("uploads.status", 1, upload=begun["id"]).body["post_id"]
    assert post == 25  # after the three posts of each of eight users
    assert client.ask("interactions.read", 7, post=post).body["title"] == "film"
    feeds = {user: client.ask("feed.open", user).body["posts"][0]["id"] for user in (2, 3)}
    assert feeds == {2: post, 3: post}  # who follow user 1
    assert client.ask("uploads.view", 3, media=begun["id"]).status == "ok"
    assert list(client.platform.began_s.values()) == [began_s]
    took_s = client.platform.results().milestone_samples("uploads.ready")[0]
    assert took_s.tolist() == [8.125 + 16 + 1 + 2.25 + 9 + 2.25]
    assert completed_s > began_s


def test_completing_too_early_or_twice_publishes_nothing():
    client = Client()
    upload = client.begin(1).body["id"]
    client.send(upload, [2])
    assert client.ask("uploads.complete", 1, upload=upload).status == "invalid"
    client.wait(100)
    assert client.status(1, upload) == "pending"
    client.send(upload, [1])
    for _ in range(2):
        assert client.ask("uploads.complete", 1, upload=upload).status == "ok"
    client.wait(200)
    assert client.status(1, upload) == "success"
    assert client.ask("interactions.read", 7, post=25).status == "ok"
    assert client.ask("interactions.read", 7, post=26).status == "not_found"


def test_the_same_key_is_the_same_upload():
    client = Client()
    first = client.begin(1).body
    assert client.begin(1).body["id"] == first["id"]
    assert client.begin(2).body["id"] != first["id"]
    assert client.begin(1, size_bytes=8 * MIB).status == "invalid"


@pytest.mark.parametrize(
    "changes",
    [{"size_bytes": 999_999}, {"size_bytes": 2_000_000_001}, {"media_type": "application/pdf"}],
)
def test_what_the_reference_refuses_is_refused(changes):
    assert Client().begin(1, **changes).status == "invalid"


def test_only_the_owner_sees_how_an_upload_stands():
    client = Client()
    upload = client.begin(1).body["id"]
    assert client.ask("uploads.status", 2, upload=upload).status == "not_found"
    assert client.ask("uploads.status", 1, upload=upload + 1).status == "not_found"


@pytest.mark.parametrize("part", [{"partNumber": "1", "bytes": 5}, {"partNumber": "9", "bytes": MIB}, {"partNumber": None, "bytes": 0}])
def test_a_part_of_another_length_is_refused(part):
    client = Client()
    upload = client.begin(1).body["id"]
    assert client.ask("uploads.part", 1, upload=upload, **part).status == "invalid"
