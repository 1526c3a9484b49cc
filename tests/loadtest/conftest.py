"""Runs of the stock command `locust` in processes of their own: its patches of the process are global."""

import json
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loadtest.commands import ROOT, Finished, command, environment


def runner(folder: Path) -> Callable[..., Finished]:
    """Runs locust to its end: `run("locustfile_clients.py", "-u", "5", FC_CLIENT="lean")`; its files are in `folder`."""
    count = 0

    def run(locustfile: str, *args: str, **variables: str) -> Finished:
        nonlocal count
        count += 1
        raw, digest = folder / f"raw{count}.csv", folder / f"digest{count}.json"
        full = command(locustfile, "--headless", "--exit-code-on-error", "0", "--raw", str(raw), *args)
        done = subprocess.run(
            full,
            env=environment(FC_DIGEST=str(digest), **variables),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        figures = json.loads(digest.read_text()) if digest.exists() else {}
        return Finished(done.returncode, done.stderr, figures, raw)

    return run


@pytest.fixture
def run_locust(tmp_path):
    """See `runner`."""
    return runner(tmp_path)


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
