"""What can happen to uploads and views on their way: the store refuses, notifications are lost, tiers hold what is popular."""

from dataclasses import replace

import numpy as np
import pytest

from model import platform
from model.cost import costs_of
from model.queueing_theory import lru_hit_ratio, zipf_popularity
from model.simulation import simulate
from model.transfer import MIB
from model.uploads import expired_ratio, parts_per_upload
from scenarios.loader import load_scenario

SMALL = ["population.users=200", "population.mean_followees=5", "population.celebrities=[]", "run.warmup_s=20"]
QUIET = ["load.likes_per_feed_open=0", "load.searches_per_feed_open=0", "load.reads_per_feed_open=0"]


def run(*overrides):
    scenario = load_scenario("baseline", [*SMALL, *QUIET, *overrides])
    return simulate(replace(scenario, slo={}))


def test_an_edge_of_limited_size_hits_as_often_as_ches_approximation_says():
    views = ["run.duration_s=120", "load.feed_opens_per_s=1", "load.views_per_feed_open=600", "load.uploads_per_feed_open=0"]
    cache = ["uploads.viewed_files=2_000", "uploads.edge_files=200", "uploads.edge_ttl_minutes=1_000", "uploads.single_flight=true"]
    results = run(*views, *cache, "stations.object_store.servers=100")
    assert results.figure("caches.edge.hit_ratio") == pytest.approx(lru_hit_ratio(zipf_popularity(2_000, 0.8), 200), abs=0.02)


def test_a_shield_and_browsers_keep_views_from_the_store():
    views = ["run.duration_s=60", "load.feed_opens_per_s=1", "load.views_per_feed_open=200", "load.uploads_per_feed_open=0"]
    cache = ["uploads.viewed_files=500", "uploads.edge_ttl_s=5", "stations.object_store.servers=100"]

    def fetched(*more):
        return run(*views, *cache, *more).figure("stations.object_store.throughput_per_s")

    alone = fetched()
    assert fetched("uploads.shield_ttl_minutes=60") < 0.2 * alone
    browsers = run(*views, *cache, "uploads.browsers=true")
    assert browsers.figure("stations.edge.throughput_per_s") < 0.95 * browsers.figure("uploads.view.throughput_per_s")


def test_the_store_refuses_beyond_its_rate_and_clients_come_again():
    uploads = ["run.duration_s=60", "load.feed_opens_per_s=10", "load.uploads_per_feed_open=1", "load.views_per_feed_open=0"]
    free, short = run(*uploads), run(*uploads, "uploads.store_rate_per_s=25")  # twenty writes a second on average
    assert np.sum(free.recording.failed_attempts) == 0
    assert np.sum(short.recording.failed_attempts) > 50
    # With 25 tokens a second for about 20.4 first attempts few are refused three times; those who came again waited half a second or more.
    assert 0 < short.figure("uploads.part.rejected_ratio") < 0.05
    waited = short.latencies_s("uploads.part") > 0.25
    assert 0.05 < np.mean(waited) < 0.5
    assert short.audit["conserved"]


def test_a_lost_notification_waits_for_the_sweep():
    uploads = ["run.duration_s=120", "load.feed_opens_per_s=10", "load.uploads_per_feed_open=1", "uploads.sweep_s=10"]
    results = run(*uploads, "uploads.notification_loss_ratio=0.2")
    took_s, _ = results.milestone_samples("uploads.ready")
    waited = took_s > 1
    # A fifth is lost and found within the sweep's ten seconds, uniformly; 0.9 of those wait for more than a second.
    assert np.mean(waited) == pytest.approx(0.18, abs=0.04)
    assert took_s[waited].mean() == pytest.approx(5.6, abs=0.7)
    assert took_s.max() < 10.5


@pytest.mark.parametrize(("resume", "sent"), [(True, 1 / 0.98), (False, 1 / 0.98**8)])
def test_parts_are_sent_again_alone_or_all_together(resume, sent):
    fixed = ["uploads.least_mib=64", "uploads.most_mib=64", "uploads.part_mib=8", f"uploads.resume={str(resume).lower()}"]
    assert parts_per_upload(load_scenario("baseline", fixed)) == pytest.approx(8 * sent)
    by_size = load_scenario("baseline", [*fixed, "uploads.part_loss_ratio=0", "uploads.part_failures_per_gib=2"])
    failed = 1 - np.exp(-2 * 8 * MIB / 2**30)
    assert parts_per_upload(by_size) == pytest.approx(8 / (1 - failed) if resume else 8 / (1 - failed) ** 8)


def test_tiers_that_are_not_asked_for_change_nothing():
    network = platform.build_network(load_scenario("baseline"))
    view = next(operation for operation in network.operations if operation.name == "uploads.view")
    assert [type(step).__name__ for step in view.steps] == ["Delay", "Serve", "Lookup", "Respond"]


def test_abandoned_uploads_are_not_completed_and_their_parts_are_paid_for():
    uploads = ["run.duration_s=60", "load.feed_opens_per_s=10", "load.uploads_per_feed_open=1", "load.views_per_feed_open=0"]
    results = run(*uploads, "uploads.abandoned_ratio=0.3", "uploads.abandoned_kept_minutes=600")
    rates = platform.arrival_rates(results.scenario)
    assert rates["uploads.complete"] == pytest.approx(0.7 * rates["uploads.begin"])
    lines = {line.part: line.usd_per_hour for line in costs_of(results).lines}
    # Little's law: 3 a second, half of 2 MiB each, for ten hours, at 0.023 USD for a GB and month.
    begun_per_s = results.figure("uploads.begin.throughput_per_s")
    kept_gb = begun_per_s * 0.3 * MIB * 36_000 / 1e9
    assert lines["object_store, abandoned parts"] == pytest.approx(kept_gb * 0.023 / 730)


def test_a_notification_that_comes_twice_is_looked_at_twice_and_publishes_once():
    uploads = ["run.duration_s=60", "load.feed_opens_per_s=10", "load.uploads_per_feed_open=1", "load.views_per_feed_open=0"]
    once, twice = run(*uploads), run(*uploads, "uploads.notification_again_ratio=1")
    completed = once.operation_figures["uploads.complete"]["count"]
    served = [one.recording.stations["completed"][one.recording.tables.network.names("stations").index("api")] for one in (once, twice)]
    assert served[1] - served[0] == pytest.approx(completed, abs=3)
    assert twice.topic_figures["posts"]["published"] == once.topic_figures["posts"]["published"]


def test_a_part_finds_its_url_expired_once_for_each_life_of_a_url():
    # 100 MiB in ten parts at 0.1 s a MiB: 10 s. URLs live 4 s, so the first parts after 4 s and 8 s are refused.
    sizes = [f"uploads.least_mib={100}", "uploads.most_mib=100", "uploads.part_mib=10", "costs.client_link_mib_ms=100"]
    expiring = "uploads.url_lifetime_s=4"
    assert expired_ratio(load_scenario("baseline", sizes)) == 0
    assert expired_ratio(load_scenario("baseline", [*sizes, expiring])) == pytest.approx(0.2)
    assert expired_ratio(load_scenario("baseline", [*sizes, "uploads.url_lifetime_s=11"])) == 0
    load = ["run.duration_s=320", "load.feed_opens_per_s=1", "load.views_per_feed_open=0", "load.publishes_per_feed_open=0"]
    load += ["load.uploads_per_feed_open=1", "stations.object_store.servers=1000"]
    fast, slow = (run(*load, *sizes, *more) for more in ([], [expiring]))
    asked = [one.figure("stations.api.throughput_per_s") for one in (fast, slow)]
    parts = slow.figure("uploads.part.throughput_per_s")
    assert asked[1] - asked[0] == pytest.approx(0.2 * parts, rel=0.1)
