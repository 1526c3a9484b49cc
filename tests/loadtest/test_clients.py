"""Three clients on the model say the same, and what they say is the model's own truth."""

import pytest

from loadtest import recording
from tests.loadtest.conftest import runner

LOAD = ("--target", "model", "-u", "60", "-r", "60", "-t", "15s")
CLIENTS = ("lean", "fast", "requests")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same load by each client, under another hash seed each."""
    run = runner(tmp_path_factory.mktemp("clients"))
    return {
        client: run("locustfile_clients.py", *LOAD, FC_CLIENT=client, PYTHONHASHSEED=str(hash_seed))
        for hash_seed, client in enumerate(CLIENTS, 1)
    }


def test_three_clients_and_any_hash_seed_give_equal_digests(runs, run_locust):
    assert {run.code for run in runs.values()} == {0}
    assert len({(run.figures["rows"], run.figures["stats"]) for run in runs.values()}) == 1
    assert runs["lean"].figures["requests"] > 500
    again = run_locust("locustfile_clients.py", *LOAD, FC_CLIENT="lean", PYTHONHASHSEED="4")
    assert again.raw.read_bytes() == runs["lean"].raw.read_bytes()


def test_another_seed_gives_another_run(runs, run_locust):
    one, two = runs["lean"].figures, run_locust("locustfile_clients.py", *LOAD, "--seed", "2").figures
    assert one["rows"] != two["rows"]
    assert one["requests"] == pytest.approx(two["requests"], rel=0.1)


@pytest.mark.parametrize("client", CLIENTS)
def test_locusts_latencies_are_the_models_own(runs, client):
    run = runs[client]
    figures = run.figures
    assert set(figures["model_s"]) == {
        "feed.open",
        "feed.publish",
        "interactions.like",
        "interactions.read",
        "graph.follow",
    }
    for operation, truth_s in figures["model_s"].items():
        # What was cut off by the end has been answered by the model perhaps, but by no client.
        assert figures["locust_ms"][operation] == [
            latency * 1000 for latency in truth_s[: len(figures["locust_ms"][operation])]
        ]
        assert len(truth_s) - len(figures["locust_ms"][operation]) <= figures["summary"]["unfinished"]
    rows = recording.read(run.raw)
    assert set(rows[rows.operation == "interactions.read"].outcome) <= {"not_found", "unfinished"}


def test_a_clients_patience_ends_at_its_timeout_and_the_model_goes_on(run_locust):
    """FastHttpUser's `network_timeout` is 60 s; one server of 100 s mean keeps most of twenty users waiting for longer."""
    for client in ("lean", "fast"):
        run = run_locust(
            "locustfile_clients.py", "--target", "model", "-u", "20", "-r", "20", "-t", "400s",
            FC_CLIENT=client, FC_TASK="visit", FC_SERVERS="1", FC_MEAN_S="100",
        )  # fmt: skip
        rows = recording.read(run.raw)
        late = rows[rows.outcome == "failed"]
        assert len(late) > 50
        assert set(late.status) == {0}
        assert late.latency_s.to_numpy() == pytest.approx(60.0)
        assert rows[rows.outcome == "ok"].latency_s.max() <= 60.0
        assert len(run.figures["model_s"]["feed.open"]) > (rows.outcome == "ok").sum()
