"""up, status and down: with servers of their own, since these tests stop them."""

import asyncio
import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest

from reference_impl import embedded, inspection, lifecycle, processes, state
from reference_impl.__main__ import OPTIONAL, main
from reference_impl.topics import GROUPS, INTERACTIONS
from tests.reference_impl.media import MIB, begin, complete, content, send_parts
from tests.reference_impl.searching import found as found_by_search
from tests.reference_impl.searching import indexed, metric, settings_of, wait_until_searchable
from tests.reference_impl.stack import ROOT, Stack, eventually, gone


@pytest.fixture
def own_stack(tmp_path):
    running = Stack(tmp_path / "state")
    yield running
    running.client.close()
    running.command("down")


def test_up_again_says_so_and_status_tells_all(stack, capsys):
    done = stack.command("up", "--json")
    assert "it is up already" in done.stderr
    shown = json.loads(done.stdout)
    assert {key: shown[key] for key in ("api_url", "processes")} == {key: stack.state[key] for key in ("api_url", "processes")}
    status = stack.status()
    assert status["up"] is True
    assert status["health"]["status"] == "ok"
    assert {"database", "kafka"} <= set(status["health"]["dependencies"])
    assert set(status["health"]["dependencies"].values()) == {"ok"}
    assert [p["state"] for p in status["processes"]] == ["running"] * len(stack.state["processes"])
    assert all(p["ready"] and p["memory_bytes"] > 2**20 for p in status["processes"])
    assert set(status["lag_records"]) == set(GROUPS)
    assert status["rows"]["users"] == 60
    assert "database_url" not in status["settings"]
    assert main(["status", "--state-dir", str(stack.state_dir)]) == 0
    assert "running" in capsys.readouterr().out
    assert main(["status", "--json", "--state-dir", str(stack.state_dir)]) == 0
    assert json.loads(capsys.readouterr().out)["up"] is True
    assert oct((stack.state_dir / "state.json").stat().st_mode)[-3:] == "600"


def test_lag_counts_what_no_worker_has_committed(stack):
    eventually(lambda: not any(inspection.lag(state.read(stack.state_dir)).values()))
    workers = [stack.process(f"interaction_worker_{number}") for number in (1, 2)]
    for worker in workers:
        worker.suspend()
    try:
        for user in range(5):
            stack.ask("PUT", "/v1/posts/7/like", user, 202)
        assert inspection.lag(state.read(stack.state_dir)) == {topic: 5 * (topic == INTERACTIONS) for topic in GROUPS}
    finally:
        for worker in workers:
            worker.resume()
    eventually(lambda: stack.likes(7) == 5)
    eventually(lambda: not any(inspection.lag(state.read(stack.state_dir)).values()))


def test_metrics_are_exported_by_every_process(stack):
    post = stack.publish(18)
    follower = eventually(lambda: stack.sql("SELECT user_id FROM feed WHERE post_id = $1", post))[0][0]
    assert stack.feed(follower)[0] == post
    found = {}
    for child in stack.state["processes"]:
        if child["metrics_url"]:
            found.setdefault(child["role"], httpx.get(child["metrics_url"]).text)  # the first API, which is asked
    assert re.search(r'flashcrowd_request_seconds_count{operation="feed.open"} [1-9]', found["api"])
    assert 'flashcrowd_milestone_seconds_bucket{le="0.1",milestone="feed.delivered"}' in found["fanout_worker"]
    assert "flashcrowd_interactions_applied_total" in found["interaction_worker"]


def test_logs_are_json_lines(stack):
    for name in ("api", "fanout_worker_1"):
        lines = (stack.state_dir / f"{name}.log").read_text().splitlines()
        assert json.loads(lines[0])["event"] == "start"
        assert all("level" in json.loads(line) for line in lines)


CORE = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """One that is pinned to a core, seeded anew, and taken down at last."""
    running = Stack(tmp_path_factory.mktemp("own") / "state")
    try:
        running.command("up", "--cpus", CORE)
        yield running
    finally:
        running.client.close()
        running.command("down")


@pytest.mark.slow
def test_seeding_again_clears_the_index_and_a_lost_index_is_made_anew(own):
    own.command("seed", "--users", "201", "--mean-followees", "3")
    assert (indexed(own, "users"), indexed(own)) == (201, 603)
    own.command("seed", "--users", "20", "--mean-followees", "3")
    assert (indexed(own, "users"), indexed(own)) == (20, 60)
    assert found_by_search(own, "user200", "users") == []
    # A slot without its snapshot, which is what a death in the middle of it leaves: it is taken again.
    own.kill("cdc")
    own.sql("DELETE FROM search_snapshots")
    engine, index = settings_of(own).elasticsearch_url, f"{settings_of(own).name_prefix}flashcrowd-users"
    stray = (
        f'{{"index": {{"_index": "{index}", "_id": "77"}}}}\n{{"id": 77, "name": "stray", "lsn": 1}}\n'
        f'{{"delete": {{"_index": "{index}", "_id": "5"}}}}\n'
    )
    httpx.post(f"{engine}/_bulk", content=stray, headers={"content-type": "application/x-ndjson"}).raise_for_status()
    httpx.post(f"{engine}/{index}/_refresh").raise_for_status()
    assert indexed(own, "users") == 20
    own.command("up")
    eventually(lambda: metric(own, "cdc", "flashcrowd_search_snapshots_total") == 1)
    wait_until_searchable(own)
    assert (indexed(own, "users"), indexed(own)) == (20, 60)
    assert found_by_search(own, "user5", "users")[0] == 5
    assert found_by_search(own, "stray", "users") == []


@pytest.mark.slow
def test_down_answers_requests_under_way_and_leaves_no_process(own):
    """The last one that needs it."""
    scratch = Path(own.state["scratch_dir"])
    started = len(own.state["processes"])
    found = own.descendants()
    assert len(found) > 10  # the servers' own children are among them
    assert all(process.cpu_affinity() == [CORE] for process in found)
    data = content(MIB)
    complete(send_parts(begin(own, 1, len(data)), data))
    url, database_url = own.state["api_url"], own.state["database_url"]

    async def hold_and_stop():
        connection = await asyncpg.connect(database_url)
        with ThreadPoolExecutor(2) as threads:
            async with connection.transaction():
                await connection.execute("SELECT FROM users WHERE id = 3 FOR UPDATE")
                await connection.execute("DELETE FROM followers")
                headers = own.bearer(1)
                answer = threads.submit(httpx.put, f"{url}/v1/users/3/follow", headers=headers, timeout=20)
                while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                    await asyncio.sleep(0.02)
                stopping = threads.submit(own.command, "down")
                await asyncio.sleep(0.7)
                assert not answer.done()
            await connection.close()
            return await asyncio.wrap_future(answer), await asyncio.wrap_future(stopping)

    answer, stopping = asyncio.run(hold_and_stop())
    assert answer.status_code == 204
    assert f"stopped {started} processes" in stopping.stdout
    assert "killed" not in stopping.stderr
    assert all(gone(process) for process in found)
    assert not scratch.exists()
    assert own.command("down").stdout == "nothing was up\n"
    assert "nothing is up" in own.command("status", code=1).stderr
    assert "nothing is up" in own.command("seed", "--users", "5", code=1).stderr


class SomebodyElse(BaseHTTPRequestHandler):
    """Another reference's API: healthy, and not the one that was started here."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status":"ok","instance":"somebody else","dependencies":{}}')

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def somebody_else():
    """The port at which he answers."""
    with ThreadingHTTPServer(("127.0.0.1", 0), SomebodyElse) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def test_a_port_that_was_given_is_given_to_nobody_else_before_its_server_is_there(monkeypatch):
    port = processes.free_port()
    monkeypatch.setattr(processes, "_PORTS", range(port, port + 1))
    with pytest.raises(processes.StartFailed):
        processes.free_port()
    code = (
        "from reference_impl import processes as p\n"
        f"p._PORTS = range({port}, {port + 1})\n"
        "try: print(p.free_port())\n"
        "except p.StartFailed as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"no free port from {port} to {port + 1}\n"
    with socket.socket() as server:  # ours can have it
        server.bind(("127.0.0.1", port))


def test_nobody_else_is_taken_for_our_own(stack):
    current = state.read(stack.state_dir)
    serving = [child for child in current.processes if child.metrics_url]
    assert all(lifecycle.ready(child, current.instance_id) for child in serving)
    assert not any(lifecycle.ready(child, "another") for child in serving)
    with somebody_else() as port:
        api = next(child for child in serving if child.name == "api")
        assert not lifecycle.ready(msgspec.structs.replace(api, metrics_url=f"http://127.0.0.1:{port}/metrics"), current.instance_id)
        report = inspection.report(msgspec.structs.replace(current, api_url=f"http://127.0.0.1:{port}"))
    assert report["up"] is False
    assert "is not the API that was started here" in report["health"]["error"]


@pytest.mark.slow
def test_start_that_fails_halfway_stops_what_it_started(own_stack, stack):
    """Its own PostgreSQL and a few workers are enough to be stopped; the other servers are the session's."""
    names = ("kafka_bootstrap", "redis_url", "s3_url", "s3_access_key", "s3_secret_key", "elasticsearch_url")
    borrowed = {f"FLASHCROWD_{name.upper()}": stack.state["settings"][name] for name in names}
    with somebody_else() as port:
        done = own_stack.command(
            "up", "--without", ",".join(OPTIONAL), code=1, FLASHCROWD_API_PORT=str(port),
            FLASHCROWD_NAME_PREFIX="halfway-", FLASHCROWD_S3_BUCKET="halfway", **borrowed,
        )  # fmt: skip
    lines = [line for line in done.stderr.splitlines() if "error" in line]
    assert "error: api ended while starting" in lines
    assert "address already in use" in done.stderr  # the log's tail
    assert "Traceback" not in done.stderr
    assert not (own_stack.state_dir / "state.json").exists()
    pids = re.findall(r"\[(\d+)\] LOG:  starting PostgreSQL", (own_stack.state_dir / "postgres.log").read_text())
    assert not Path(f"/proc/{pids[0]}").exists() or "Z" in Path(f"/proc/{pids[0]}/stat").read_text().split()[2]


def test_servers_that_do_not_answer_are_one_line(own_stack):
    nobody = {f"FLASHCROWD_{name}_URL": "http://127.0.0.1:9" for name in ("REDIS", "S3", "ELASTICSEARCH", "EDGE")}
    done = own_stack.command(
        "up", code=1, FLASHCROWD_DATABASE_URL="nonsense://x", FLASHCROWD_KAFKA_BOOTSTRAP="127.0.0.1:9", **nobody
    )
    assert done.stderr.splitlines()[-1].startswith("error: the database refuses")


@pytest.mark.parametrize(
    ("arguments", "strategy", "code", "message"),
    [
        (["up", "--fanout-workers", "0"], "push", 2, "whole number above 0"),
        (["up", "--cpus", "all"], "push", 2, "no list of cores"),
        (["up", "--cpus", "4096"], "push", 1, "only the cores"),
        (["up"], "pusch", 2, "did you mean push"),
        (["seed"], "push", 2, "--graph --arrays --users"),
        (["seed", "--users", "5", "--both-ways"], "push", 2, "--both-ways"),
        (["run", "worker"], "push", 2, "invalid choice"),
        (["run", "api"], "push", 2, "run needs FLASHCROWD_DATABASE_URL"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path, monkeypatch, capsys, arguments, strategy, code, message):
    monkeypatch.setenv("FLASHCROWD_FEED_STRATEGY", strategy)
    monkeypatch.setenv("FLASHCROWD_DATABASE_URL", "" if arguments[0] == "run" else "postgresql://127.0.0.1:9/none")
    try:
        found = main([*arguments, "--state-dir", str(tmp_path / "state")])
    except SystemExit as end:  # argparse's way
        found = end.code
    assert found == code
    assert message in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("command", [[], ["up"], ["down"], ["status"], ["seed"], ["run"]])
def test_help_has_examples(capsys, command):
    with pytest.raises(SystemExit, match="0"):
        main([*command, "--help"])
    shown = capsys.readouterr().out
    assert "example" in shown
    assert f"python -m reference_impl {' '.join(command)}" in shown


def test_help_is_quick_to_import():
    """Heavy libraries are imported by the commands that need them."""
    heavy = ("asyncpg", "confluent_kafka", "numpy", "starlette", "prometheus_client")
    code = f"import sys, reference_impl.__main__ as m; m._parser(); print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(os.getuid() != 0, reason="only root has to run PostgreSQL under another account")
def test_programs_are_copied_where_the_account_cannot_read_them(monkeypatch):
    account = embedded.unprivileged_account()
    real, asked = embedded._runs, []

    def unreadable_at_first(programs, name):
        asked.append(programs)
        return real(programs, name) if len(asked) > 1 else False

    monkeypatch.setattr(embedded, "_runs", unreadable_at_first)
    scratch = embedded.make_scratch_directory()
    try:
        programs = embedded.postgres_programs(scratch, account)
        assert programs.is_relative_to(scratch)
        assert "PostgreSQL) 18" in embedded._run_as([programs / "postgres", "--version"], account).stdout
    finally:
        subprocess.run(["rm", "-rf", str(scratch)], check=True)
    assert len(asked) == 2
