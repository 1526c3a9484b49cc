"""One running reference for the session: embedded servers on free ports, a small seeded graph, stopped at the end."""

import asyncio

import asyncpg
import numpy as np
import pytest

from reference_impl import database, seeding, state
from reference_impl.graph import synthetic_graph
from reference_impl.settings import Settings
from reference_impl.uploads import nginx
from tests.reference_impl.media import nginx_before
from tests.reference_impl.stack import CLUSTERS, THRESHOLD, USERS, Stack, edges

VARIABLES = {
    "FLASHCROWD_EDGE": "embedded",  # the fixture `edge_url` puts nginx before it
    "FLASHCROWD_FEED_THRESHOLD": str(THRESHOLD),
    "FLASHCROWD_FANOUT_BATCH_FOLLOWERS": "2",
    "FLASHCROWD_PRODUCE_TIMEOUT_S": "1.5",
    "FLASHCROWD_REQUEST_WITHIN_S": "3",
    "FLASHCROWD_OUTBOX_AFTER_S": "2",
    "FLASHCROWD_LIKE_WINDOW_S": "2",
    "FLASHCROWD_STREAM_ACK_TIMEOUT_S": "1",
    "FLASHCROWD_DELIVERY_POLL_S": "0.1",
}
# What takes a broker that is none of ours; test_clusters.py runs it where one can be had.
collect_ignore = [] if CLUSTERS else ["test_with_clusters.py"]


def pytest_collection_modifyitems(items):
    """Say which tests need a server of the embedded stack when another one takes its place."""
    for item in items:
        if CLUSTERS and item.get_closest_marker("embedded"):
            item.add_marker(pytest.mark.skip(reason=f"looks into an embedded server, and {' and '.join(CLUSTERS)} is set"))


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    running = Stack(tmp_path_factory.mktemp("reference"), VARIABLES)
    try:
        running.command("up", "--apis", "2", "--interaction-workers", "2", "--notification-workers", "2")
        followee, follower = edges()
        arrays = running.state_dir / "population.npz"
        np.savez(arrays, followee=followee, follower=follower, users=USERS)
        running.command("seed", "--arrays", arrays)
        yield running
    finally:
        running.client.close()
        running.command("down")


@pytest.fixture(scope="session", params=["embedded", "nginx"])
def edge_url(request, stack, tmp_path_factory):
    """The stack's edge, and nginx before it as `up` starts it."""
    settings = state.read(stack.state_dir).to_settings()
    if request.param == "embedded":
        yield settings.edge_url
        return
    if not nginx.is_installed():
        pytest.skip("nginx with its slice and auth_request modules is not installed")
    with nginx_before(settings, tmp_path_factory.mktemp("nginx")) as (_, url):
        yield url


async def _new_database(url, name, settings):
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    url = url.rsplit("/", 1)[0] + "/" + name
    await database.migrate(url)
    await seeding.seed(url, synthetic_graph(2_000, 12, seed=3), settings, 1_750_000_000.0, lambda _: None)
    return url


@pytest.fixture(scope="session")
def large_database(stack):
    """URL of a database of 2,000 users in the same server, every post fanned out (``push``); no worker touches it."""
    settings = Settings(feed_strategy="push", feed_threshold=100)
    return asyncio.run(_new_database(stack.state["database_url"], "large", settings))
