"""The supervisor: starts again what has died, servers included, without a hand.

``up`` starts it last and ``down`` ends it first. A production deployment has one already (systemd, Kubernetes); its metrics are
what an alert would look at: ``flashcrowd_supervisor_process_up`` and ``flashcrowd_supervisor_restarts_total`` by process.
"""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import Counter, Gauge, start_http_server

from reference_impl import lifecycle, processes, state
from reference_impl.processes import Child
from reference_impl.settings import Settings
from reference_impl.state import State, StateError
from reference_impl.topics import worker_ready

log = structlog.get_logger()
process_up = Gauge("flashcrowd_supervisor_process_up", "1 while the process runs", ["process"])
restarts_total = Counter("flashcrowd_supervisor_restarts", "Times that the process was started again", ["process"])

LOOK_EVERY_S = 0.25
PAUSE_FIRST_S = 0.5
"""Before the second start; the first follows at once, then each pause is twice the one before."""
STEADY_S = 30.0
"""Who has run for so long is well again, and the next time the pauses begin anew."""


@dataclass(slots=True)
class Backoff:
    """When a process may be started again: exponential pauses, bounded."""

    longest_s: float
    pause_s: float = 0.0
    started_at: float = 0.0

    def may_start(self, now: float) -> bool:
        """Whether the pause since the last start is over (``now``: monotonic seconds)."""
        return now >= self.started_at + self.pause_s

    def started(self, now: float) -> None:
        """Note a start; the next one has to wait longer, unless this one lasts."""
        lasted = now - self.started_at > self.pause_s + STEADY_S
        self.pause_s = PAUSE_FIRST_S if lasted else min(self.longest_s, max(PAUSE_FIRST_S, 2 * self.pause_s))
        self.started_at = now


class Supervisor:
    """Looks after the processes of one state directory."""

    def __init__(self, state_dir: Path, longest_s: float) -> None:
        self._state_dir = state_dir
        self._longest_s = longest_s
        self._backoffs: dict[str, Backoff] = {}

    def look(self) -> None:
        """Start what is dead and may be started.

        Raises:
            StateError: ``up`` or ``down`` is at work, or the state cannot be read.
        """
        processes.reap()
        current = state.read(self._state_dir)
        if current is None or not self._due(current):
            return
        with state.locked(self._state_dir):
            current = state.read(self._state_dir)  # it may have changed before we had the lock
            if current is None:
                return
            for child in self._due(current):
                self._start(child, current)

    def _due(self, current: State) -> list[Child]:
        dead = []
        for child in current.processes:
            running = processes.alive(child)
            process_up.labels(child.name).set(running)
            if not running and self._backoff(child).may_start(time.monotonic()):
                dead.append(child)
        return dead

    def _backoff(self, child: Child) -> Backoff:
        return self._backoffs.setdefault(child.name, Backoff(self._longest_s, started_at=-STEADY_S))

    def _start(self, child: Child, current: State) -> None:
        log.warning("process.died", process_name=child.name, pid=child.pid)
        self._backoff(child).started(time.monotonic())
        restarts_total.labels(child.name).inc()
        try:
            lifecycle.start_again(child, current)
        except Exception as error:  # whatever it is: the others need us, and this one is tried again
            log.error("process.restart_failed", process_name=child.name, error=repr(error))


def serve(settings: Settings, metrics_port: int) -> None:
    """Supervise until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    start_http_server(metrics_port, addr="127.0.0.1")
    worker_ready.set(1)
    supervisor = Supervisor(Path(settings.state_dir), settings.restart_longest_s)
    while not stop.wait(LOOK_EVERY_S):
        try:
            supervisor.look()
        except StateError as error:
            log.info("supervisor.waits", reason=str(error))
    log.info("stopped")
