"""The client library and `flashcrowd upload` against the running reference: failures, crashes, and resuming."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import httpx
import pytest

from loadtest.upload_client.client import File, UploadClient, UploadFailed, file_key
from loadtest.upload_client.command import main
from loadtest.upload_client.transfer import Transfer, listed_parts
from tests.reference_impl.media import MIB, content
from tests.reference_impl.stack import ROOT, eventually

FOUR_PARTS = 25 * MIB  # parts of 8 MiB


class Flaky(httpx.HTTPTransport):
    """The real network, except that some requests fail; `sent` counts the parts' requests by number."""

    def __init__(self, fail):
        super().__init__()
        self.fail = fail
        self.sent = {}
        self.lock = threading.Lock()

    def handle_request(self, request):
        number = request.url.params.get("partNumber") if request.method == "PUT" else None
        if number is None:
            return super().handle_request(request)
        with self.lock:
            self.sent[int(number)] = attempt = self.sent.get(int(number), 0) + 1
        return self.fail(int(number), attempt, request, super().handle_request)


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(content(FOUR_PARTS))
    return File(path, "video/mp4", "a film")


def client_of(stack, transport=None, **options):
    return UploadClient(stack.state["api_url"], stack.bearer(20), transport=transport, **options)


def shown(stack, status):
    return httpx.get(status["view_url"], headers=stack.bearer(1), timeout=60).content


def test_only_what_failed_is_sent_again(stack, film):
    def fail(number, attempt, request, send):
        if (number, attempt) == (2, 1):
            raise httpx.ConnectError("no way", request=request)
        if (number, attempt) == (3, 1):
            send(request).close()  # it arrives, but its answer does not
            raise httpx.ReadError("cut off", request=request)
        if (number, attempt) in ((4, 1), (4, 2)):
            return httpx.Response(503, request=request)
        return send(request)

    transport, progress = Flaky(fail), []
    with client_of(stack, transport) as client:
        begun = client.upload(film, file_key(film.path), progress.append)
        status = client.wait_until_ready(begun["id"], 30)
    assert status["status"] == "success"
    assert transport.sent == {1: 1, 2: 2, 3: 2, 4: 3}
    assert sum(progress) == FOUR_PARTS  # what had to be sent again was taken back
    assert min(progress) < 0
    assert shown(stack, status) == film.path.read_bytes()


def test_a_part_that_always_fails_ends_the_upload_and_the_next_call_resumes(stack, film):
    def fail(number, attempt, request, send):
        if number == 2:
            raise httpx.ConnectError("no way", request=request)
        return send(request)

    transport = Flaky(fail)
    with client_of(stack, transport, attempts=2, parallel=1) as client, pytest.raises(UploadFailed, match="part 2"):
        client.upload(film, file_key(film.path))
    assert transport.sent[1] == 1 and transport.sent[2] == 2
    again, progress = Flaky(lambda number, attempt, request, send: send(request)), []
    with client_of(stack, again) as client:
        begun = client.upload(film, file_key(film.path), progress.append)
        assert client.wait_until_ready(begun["id"], 30)["status"] == "success"
    assert 1 not in again.sent and again.sent[2] == 1
    assert progress[0] >= 8 * MIB
    assert sum(progress) == FOUR_PARTS


def test_expired_urls_are_renewed(stack, film):
    refused = []

    def fail(number, attempt, request, send):
        if attempt == 1:
            refused.append(number)
            return httpx.Response(403, request=request, content=b"<Error><Code>ExpiredToken</Code></Error>")
        return send(request)

    with client_of(stack, Flaky(fail)) as client:
        begun = client.upload(film, file_key(film.path))
        assert client.wait_until_ready(begun["id"], 30)["status"] == "success"
    assert sorted(refused) == [1, 2, 3, 4]


SLOW_CLIENT = """
import sys, time
from pathlib import Path
from loadtest.tokens import bearer
from loadtest.upload_client.client import File, UploadClient, file_key
path, api_url = Path(sys.argv[1]), sys.argv[2]
with UploadClient(api_url, bearer(20), parallel=1) as client:
    client.upload(File(path, "video/mp4", "a film"), file_key(path, "20/"), lambda count: time.sleep(0.02))
"""


def test_a_killed_client_resumes_where_it_was(stack, film):
    command = [sys.executable, "-c", SLOW_CLIENT, str(film.path), stack.state["api_url"]]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"FLASHCROWD_STATE_DIR": str(stack.state_dir)})
    try:
        with client_of(stack) as client:

            def stored():
                transfer = Transfer.of(client.begin(film, file_key(film.path, "20/")))
                found = httpx.get(transfer.list_url)
                return found.status_code == 200 and listed_parts(found.content)

            before = eventually(stored)
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    transport, progress = Flaky(lambda number, attempt, request, send: send(request)), []
    with client_of(stack, transport) as client:
        begun = client.upload(film, file_key(film.path, "20/"), progress.append)
        status = client.wait_until_ready(begun["id"], 30)
    assert status["status"] == "success"
    assert {number for number, *_ in before}.isdisjoint(transport.sent)
    assert progress[0] >= 8 * MIB
    assert shown(stack, status) == film.path.read_bytes()


# ---- the command


def flashcrowd(stack, *arguments, **options):
    environment = os.environ | {"FLASHCROWD_STATE_DIR": str(stack.state_dir)}
    code = "import sys; from scenarios.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, "upload", *map(str, arguments)],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=90, **options,
    )  # fmt: skip


def test_the_command_uploads_to_the_reference_that_is_up(stack, film):
    done = flashcrowd(stack, film.path, "--user", 21, "--json")
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert status["status"] == "success"
    assert "100%" in done.stderr or "26.2/26.2 MB" in done.stderr
    again = json.loads(flashcrowd(stack, film.path, "--user", 21, "--json").stdout)
    assert again["id"] == status["id"]
    other = json.loads(flashcrowd(stack, film.path, "--user", 21, "--json", "--again").stdout)
    assert other["id"] != status["id"]


def test_the_command_says_why_a_file_was_refused(stack, tmp_path):
    path = tmp_path / "page.jpg"
    path.write_bytes(content(MIB, b"<html>"))
    done = flashcrowd(stack, path, "--user", 21)
    assert done.returncode == 1
    assert "refused: the object begins like" in done.stderr


def test_ctrl_c_ends_it_and_says_that_it_can_be_resumed(stack, tmp_path):
    path = tmp_path / "long.mp4"
    with path.open("wb") as file:
        file.write(content(MIB))
        file.truncate(600 * MIB)
    code = "import sys; from loadtest.upload_client.command import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, str(path), "--user", "22", "--api", stack.state["api_url"], "--parallel", "1"]
    environment = os.environ | {"FLASHCROWD_STATE_DIR": str(stack.state_dir)}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        begun = eventually(lambda: stack.sql("SELECT id FROM post_media WHERE owner_id = 22"))
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "the same command resumes" in errors
    assert "Traceback" not in errors
    assert stack.sql("SELECT upload_status FROM post_media WHERE id = $1", begun[0][0]) == [("pending",)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jpg", "--user", "1"], "no such file"),
        (["FILE", "--user", "x"], "is no user's number"),
        (["FILE"], "--user"),
        (["FILE", "--user", "1", "--parallel", "0"], "from 1 to 64"),
        (["FILE", "--user", "1", "--api", "localhost"], "has to begin with http"),
        (["README", "--user", "1"], "say --media-type"),
        (["FILE", "--user", "1", "--media-type", "application/pdf"], "media_type has to be one of"),
        (["TINY", "--user", "1"], "1 MB"),
    ],
)
def test_bad_input_is_one_line(stack, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.setenv("FLASHCROWD_STATE_DIR", str(stack.state_dir))
    (tmp_path / "film.mp4").write_bytes(content(MIB))
    (tmp_path / "tiny.mp4").write_bytes(content(100))
    (tmp_path / "README").write_text("x")
    names = {"FILE": "film.mp4", "TINY": "tiny.mp4", "README": "README", "nothing.jpg": "nothing.jpg"}
    arguments = [str(tmp_path / names[a]) if a in names else a for a in arguments]
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


def test_nothing_up_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FLASHCROWD_STATE_DIR", str(tmp_path))
    path = tmp_path / "film.mp4"
    path.write_bytes(content(MIB))
    assert main([str(path), "--user", "1"]) == 2
    assert "flashcrowd reference up" in capsys.readouterr().err
