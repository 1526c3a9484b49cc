"""The rooms against a real Apache Kafka broker and a real OpenSearch node, started without Docker by `scripts/services`.

The tests that are marked `cluster` run once more, in a pytest of their own. All of tests/reference_impl can:
`eval "$(scripts/services up)"; scripts/test tests/reference_impl; scripts/services down`.
"""

import os
import re
import subprocess
import sys

import pytest

from tests.reference_impl.stack import CLUSTERS, ROOT

CANNOT = 3
SERVICES = ROOT / "scripts" / "services"


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """The variables that `scripts/services up` prints; where the two cannot be had, the tests here are skipped with its reason."""
    environment = os.environ | {"FLASHCROWD_SERVICES_DIR": str(tmp_path_factory.mktemp("services") / "home")}
    done = subprocess.run([SERVICES, "up"], env=environment, capture_output=True, text=True)
    if done.returncode == CANNOT:
        pytest.skip(f"Apache Kafka and OpenSearch: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    try:
        yield dict(re.findall(r"export (\w+)=(\S+)", done.stdout)) | {"FLASHCROWD_SERVICES_DIR": environment["FLASHCROWD_SERVICES_DIR"]}
    finally:
        subprocess.run([SERVICES, "down"], env=environment, check=True)


@pytest.mark.slow
@pytest.mark.skipif(bool(CLUSTERS), reason="all of these tests run against a Kafka and a search engine by URL already")
def test_rooms_hold_on_apache_kafka_and_opensearch(clusters):
    assert clusters.keys() == {"FLASHCROWD_KAFKA_BOOTSTRAP", "FLASHCROWD_ELASTICSEARCH_URL", "FLASHCROWD_SERVICES_DIR"}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-m", "cluster", "-p", "no:cacheprovider", "tests/reference_impl"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | clusters, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b[1-9]\d* passed", done.stdout)
    assert "skipped" not in done.stdout


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"JAVA": "/nowhere/java"}, "no Java found"),
        ({"JAVA": "/bin/true"}, "Java of unknown version found; 17 or newer is needed"),
    ],
)
def test_services_that_cannot_be_had_are_one_line(tmp_path, variables, reason):
    environment = os.environ | variables | {"FLASHCROWD_SERVICES_DIR": str(tmp_path / "home")}
    done = subprocess.run([SERVICES, "up"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (CANNOT, "")
    assert re.fullmatch(rf"cannot: {reason}.*\n", done.stderr)


def test_status_of_nothing_and_a_wrong_command(tmp_path):
    environment = os.environ | {"FLASHCROWD_SERVICES_DIR": str(tmp_path / "home")}
    status = subprocess.run([SERVICES, "status"], env=environment, capture_output=True, text=True)
    assert status.returncode == 1
    assert [line.split(maxsplit=1)[1] for line in status.stdout.splitlines()] == ["not running", "not running"]
    wrong = subprocess.run([SERVICES, "start"], env=environment, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "scripts/services up" in wrong.stderr
