"""Child processes: start, look after and stop them by process id.

A process is known by its id *and* its start time: an id that the system has given to another program since then is
never touched.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

API, DISPATCHER, FANOUT_WORKER, INTERACTION_WORKER = "api", "fanout_dispatcher", "fanout_worker", "interaction_worker"
RECONCILER, EDGE = "upload_reconciler", "edge"
NOTIFICATION_WORKER, PUSH_GATEWAY = "notification_worker", "push_gateway"
SEARCH_ENGINE, CDC, INDEXER = "search_engine", "cdc", "indexer"
SPAN_EXPORTER = "span_exporter"
SUPERVISOR = "supervisor"
ROLES = (
    API, DISPATCHER, FANOUT_WORKER, INTERACTION_WORKER, RECONCILER, EDGE, NOTIFICATION_WORKER, PUSH_GATEWAY,
    SEARCH_ENGINE, CDC, INDEXER, SPAN_EXPORTER, SUPERVISOR,
)  # fmt: skip
"""What a process of ours can be; servers have roles of their own."""

_started: list[subprocess.Popen[bytes]] = []
"""Keeps the handles: a process outlives the command that started it."""


class Child(msgspec.Struct, frozen=True):
    """A process that ``up`` started."""

    name: str
    role: str
    pid: int
    started_at: float
    """Epoch seconds, as the system tells it."""
    log: str
    metrics_url: str = ""
    command: list[str] = []
    """Of a server that is none of ours, and below what else it takes to start it again; ours are started from the settings."""
    environment: dict[str, str] = {}
    directory: str = ""
    account: str | None = None


def start(
    name: str,
    role: str,
    command: Sequence[str | Path],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    account: str | None = None,
    metrics_url: str = "",
) -> Child:
    """Start a process in a session of its own, its output appended to ``log``; as ``account`` if one is given."""
    as_account = {"user": account, "group": _group(account), "extra_groups": []} if account else {}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            cwd=directory,
            start_new_session=True,
            **as_account,  # type: ignore[call-overload]  # a dictionary of mixed types, for arguments of mixed types
        )
    _started.append(process)
    return Child(
        name,
        role,
        process.pid,
        psutil.Process(process.pid).create_time(),
        str(log),
        metrics_url,
        [str(part) for part in command],
        dict(environment or {}),
        str(directory or ""),
        account,
    )


def start_again(child: Child) -> Child:
    """Start a server once more, as it was started; what a killed one has left behind (nginx's workers keep its port) is ended."""
    _end_session(child)
    return start(
        child.name,
        child.role,
        child.command,
        Path(child.log),
        environment=child.environment,
        directory=Path(child.directory) if child.directory else None,
        account=child.account,
    )


def _end_session(leader: Child) -> None:
    """Kill what is left of the session that a dead process led."""
    try:
        if abs(psutil.Process(leader.pid).create_time() - leader.started_at) > 1:
            return  # the number is somebody else's by now
    except psutil.NoSuchProcess:
        pass
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError, PermissionError):
            if process.pid != leader.pid and os.getsid(process.pid) == leader.pid:
                process.kill()


def reap() -> None:
    """Ask for the ends of the processes that this one has started: until then they are zombies."""
    _started[:] = [process for process in _started if process.poll() is None]


def _group(account: str) -> int:
    import pwd

    return pwd.getpwnam(account).pw_gid


def alive(child: Child) -> bool:
    """Whether the process runs still and is the one that was started."""
    return _process(child) is not None


def _process(child: Child) -> psutil.Process | None:
    try:
        process = psutil.Process(child.pid)
        if abs(process.create_time() - child.started_at) > 1 or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def stop(children: Sequence[Child], within_s: float, signals: Mapping[str, int] | None = None) -> list[str]:
    """End ``children``: SIGTERM (or the role's own signal) to all, then after ``within_s`` SIGKILL to those left.

    Returns the names of those that had to be killed.
    """
    running = [(child, process) for child in children if (process := _process(child))]
    for child, process in running:
        _send(process, (signals or {}).get(child.role, signal.SIGTERM))
    left = _wait(running, within_s)
    for child, process in left:
        for descendant in [*_descendants(child, process), process]:
            _send(descendant, signal.SIGKILL)
    _wait(left, 2)
    return [child.name for child, _ in left]


def _wait(running: list[tuple[Child, psutil.Process]], within_s: float) -> list[tuple[Child, psutil.Process]]:
    """Those that still run after ``within_s``. A zombie does not: its parent may take its time to ask for it."""
    deadline = time.monotonic() + within_s
    while (running := [pair for pair in running if alive(pair[0])]) and time.monotonic() < deadline:
        time.sleep(0.02)
    return running


def _descendants(child: Child, process: psutil.Process) -> list[psutil.Process]:
    if child.role == SUPERVISOR:
        return []  # what it has started again is somebody of its own
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _send(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):  # it ended by itself meanwhile, which is what was wanted
        process.send_signal(number)


def memory_bytes(child: Child) -> int:
    """Proportional set size of the process and its descendants; 0 if it has ended or cannot be read."""
    process = _process(child)
    if process is None:
        return 0
    total = 0
    for part in [process, *_descendants(child, process)]:
        try:
            information = part.memory_full_info()
            total += getattr(information, "pss", information.uss)
        except psutil.Error:
            continue
    return total


# Below the range from which systems take ports for outgoing connections (Linux: 32768 to 60999): one from there may be taken
# between the moment when it is found free and the moment when a server binds it.
_PORTS = range(20_000, 32_000)


def free_port() -> int:
    """A TCP port of the loopback interface that is free, and that neither we nor another process of ours is given while this one lives.

    Most servers bind their port seconds after it was chosen. Until then the UDP port of the same number, which nobody uses, is
    the sign that it is taken.

    Raises:
        StartFailed: there is none.
    """
    for port in random.SystemRandom().sample(_PORTS, min(len(_PORTS), 1000)):
        with (
            socket.socket() as probe,
            socket.socket(type=socket.SOCK_DGRAM) as sign,
            contextlib.suppress(OSError),
        ):
            sign.bind(("127.0.0.1", port))
            probe.bind(("127.0.0.1", port))
            sign.detach()  # it stays open until this process ends
            return port
    raise StartFailed(f"no free port from {_PORTS.start} to {_PORTS.stop}")


def wait_for_port(port: int, child: Child, within_s: float = 30) -> None:
    """Return once something listens on the port.

    Raises:
        StartFailed: the process ended, or the time is over.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.5).close()
            return
        except OSError:
            if not alive(child):
                raise StartFailed(f"{child.name} ended while starting", child) from None
            if time.monotonic() > deadline:
                raise StartFailed(f"{child.name} does not listen on port {port} after {within_s:g} s", child) from None
            time.sleep(0.02)


class StartFailed(RuntimeError):
    """A process did not come up; ``child`` names its log."""

    def __init__(self, message: str, child: Child | None = None) -> None:
        super().__init__(message)
        self.child = child

    def log_tail(self, lines: int = 6) -> list[str]:
        """The last lines of the process's log."""
        if self.child is None:
            return []
        try:
            text = Path(self.child.log).read_text(errors="replace")
        except OSError:
            return []
        return [line[:300] for line in text.splitlines() if line.strip()][-lines:]
