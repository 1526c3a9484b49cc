"""``up`` and ``down``: start everything, wait until it is healthy, stop everything."""

from __future__ import annotations

import dataclasses
import http.client
import os
import shutil
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from reference_impl import embedded, otlp, processes, starting, state
from reference_impl.processes import Child, StartFailed
from reference_impl.settings import Settings
from reference_impl.starting import Progress
from reference_impl.state import State, StateError
from reference_impl.uploads.nginx import NGINX, start_nginx

READY_WITHIN_S = 60.0
SUPERVISOR_STOP_S, API_STOP_S, WORKER_STOP_S, SERVER_STOP_S = 0.5, 3.3, 4.0, 3.0
LOCK_WITHIN_S = 5.0
LOG_ROLES = (
    processes.DISPATCHER, processes.FANOUT_WORKER, processes.INTERACTION_WORKER, processes.NOTIFICATION_WORKER,
    processes.CDC, processes.INDEXER,
)  # fmt: skip
"""They know places in the log."""

SERVING_ROLES = (processes.API, processes.PUSH_GATEWAY)
"""Their metrics are at the port that they serve."""


@dataclasses.dataclass(frozen=True, slots=True)
class Scale:
    """How many processes of each kind."""

    fanout_workers: int = 1
    interaction_workers: int = 1
    notification_workers: int = 1
    apis: int = 1
    indexers: int = 1
    without: tuple[str, ...] = ()
    """Roles of which there is none: what is not looked at costs no CPU."""

    def names(self) -> list[tuple[str, str]]:
        """(name, role) of every process of ours."""
        many = (
            (processes.FANOUT_WORKER, self.fanout_workers),
            (processes.INTERACTION_WORKER, self.interaction_workers),
            (processes.NOTIFICATION_WORKER, self.notification_workers),
            (processes.INDEXER, self.indexers),
        )
        every = [
            (processes.API, processes.API),
            *((f"{processes.API}_{number}", processes.API) for number in range(2, self.apis + 1)),
            (processes.DISPATCHER, processes.DISPATCHER),
            (processes.RECONCILER, processes.RECONCILER),
            (processes.EDGE, processes.EDGE),
            (processes.CDC, processes.CDC),
            *((f"{role}_{number}", role) for role, count in many for number in range(1, count + 1)),
            (processes.SUPERVISOR, processes.SUPERVISOR),
        ]
        return [(name, role) for name, role in every if role not in self.without]


def up(settings: Settings, scale: Scale, cpus: Sequence[int], progress: Progress) -> State:
    """Start what is missing; return the state once all is healthy. Whatever fails, what was started is stopped.

    If it is up already its state is returned; workers that have died are started again with the settings it has.

    Raises:
        StartFailed, embedded.NotInstalled, StateError, database.DatabaseTooOld.
    """
    state_dir = Path(settings.state_dir)
    state.prepare(state_dir)
    with state.locked(state_dir, LOCK_WITHIN_S):
        running = state.read(state_dir)
        if running and any(processes.alive(child) for child in running.processes):
            return _repair(running, progress)
        if running:
            _remove_remains(running)
        for old in [path for kind in ("*.log", "milestones-*.csv", "spans-*") for path in state_dir.glob(kind)]:
            old.unlink()
        unpinned = _pin(cpus)
        try:
            return _start_all(settings, scale, cpus, progress)
        finally:
            if unpinned:
                os.sched_setaffinity(0, unpinned)


def _pin(cpus: Sequence[int]) -> set[int]:
    """Pin this process, and with it all that it starts; return the cores it had before, empty if nothing was done."""
    if not cpus:
        return set()
    if not hasattr(os, "sched_setaffinity"):
        raise StartFailed("--cpus: this system cannot pin processes to cores")
    before = os.sched_getaffinity(0)
    if not set(cpus) <= before:
        raise StartFailed(f"--cpus: there are only the cores {','.join(map(str, sorted(before)))}")
    os.sched_setaffinity(0, cpus)
    return before


def _start_all(settings: Settings, scale: Scale, cpus: Sequence[int], progress: Progress) -> State:
    began = time.monotonic()
    state_dir = Path(settings.state_dir)
    current = State("", "", "", str(state_dir), "", list(cpus), 0.0, {}, [])
    try:
        settings = starting.choose_addresses(settings)
        current.api_url = f"http://{settings.api_host}:{settings.api_port}"
        settings = starting.start_servers(settings, current, progress)
        starting.prepare_servers(settings, progress)
        current.settings = dataclasses.asdict(settings)
        names = scale.names()
        if not (settings.fcm_url and settings.apns_url):
            settings = starting.with_push_gateway(settings)
            current.settings = dataclasses.asdict(settings)
            names = [(processes.PUSH_GATEWAY, processes.PUSH_GATEWAY), *names]
        if settings.spans and otlp.endpoint():
            names.append((processes.SPAN_EXPORTER, processes.SPAN_EXPORTER))
        for name, role in names:
            if role == processes.EDGE and not settings.edge_port:
                continue  # somebody else's
            if role == processes.SUPERVISOR and not settings.supervised:
                continue
            current.processes.append(starting.start_role(name, role, settings))
            state.write(current)
            if role == processes.EDGE and settings.edge == NGINX:
                current.processes.append(start_nginx(Path(current.scratch_dir), state_dir, settings))
                state.write(current)
        _wait_until_ready(current, progress)
    except BaseException:  # Ctrl-C too
        _stop_all(current)
        raise
    current.started_in_s = round(time.monotonic() - began, 3)
    state.write(current)
    return current


def ready(child: Child, instance_id: str) -> bool:
    """Whether a process of ours is at work: one that serves answers its health check, a worker has joined its group.

    Somebody else who answers at its port is not taken for it: the answer has to name ``instance_id``.
    """
    serves = child.role in SERVING_ROLES
    url = child.metrics_url.replace("/metrics", "/healthz") if serves else child.metrics_url
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            text = answer.read()
    except (OSError, http.client.HTTPException):
        return False
    if serves:
        return f'"instance":"{instance_id}"'.encode() in text
    return b"flashcrowd_worker_ready 1.0" in text and f'flashcrowd_instance_info{{id="{instance_id}"}} 1.0'.encode() in text


def _wait_until_ready(current: State, progress: Progress) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    waiting = [child for child in current.processes if child.metrics_url]
    while waiting:
        progress(f"waiting for {', '.join(child.name for child in waiting)}")
        for child in current.processes:
            if not processes.alive(child):
                raise StartFailed(f"{child.name} ended while starting", child)
        waiting = [child for child in waiting if not ready(child, current.instance_id)]
        if waiting and time.monotonic() > deadline:
            raise StartFailed(f"{waiting[0].name} is not ready after {READY_WITHIN_S:g} s", waiting[0])
        time.sleep(0.05)


def _repair(current: State, progress: Progress) -> State:
    dead = [child for child in current.processes if not processes.alive(child)]
    for child in dead:
        progress(f"{child.name} has died; starting it again")
        start_again(child, current)
    if dead:
        _wait_until_ready(current, progress)
    return current


def start_again(child: Child, current: State) -> None:
    """Start a dead process again where it was, and note it in the state file; whether it gets ready is not waited for.

    Raises:
        OSError, StartFailed, KafkaException, asyncpg.PostgresError: it could not be; it counts as dead still.
    """
    if child not in current.processes:
        return  # it was started again already, together with another one
    unpinned = _pin(current.cpus)
    try:
        again = _replace(child, current)
        if child.role == embedded.KAFKA and current.settings["kafka_storage"] == "memory":
            try:
                _begin_new_log(again, current)
            except BaseException:
                processes.stop([again], 0)
                raise
    finally:
        if unpinned:
            os.sched_setaffinity(0, unpinned)


def _replace(child: Child, current: State) -> Child:
    if child.command:
        again = processes.start_again(child)
    else:
        port = urlsplit(child.metrics_url).port or 0
        again = starting.start_role(child.name, child.role, current.to_settings(), port)
    current.processes = [again if c is child else c for c in current.processes]
    state.write(current)
    return again


def _begin_new_log(broker: Child, current: State) -> None:
    """The log was in the broker's memory: make the topics anew, and let begin anew whoever knows places in the old ones.

    What was accepted and not yet worked off is gone; that is the price of ``kafka_storage = memory``.
    """
    processes.wait_for_port(urlsplit(f"//{current.kafka_bootstrap}").port or 0, broker)
    starting.create_topics(current.to_settings())
    knowing = [child for child in current.processes if child.role in LOG_ROLES]
    processes.stop(knowing, WORKER_STOP_S)
    for child in knowing:
        _replace(child, current)


def down(state_dir: Path) -> tuple[int, list[str]]:
    """Stop everything that ``up`` started; return how many processes ran, and the names of those that were killed.

    Within ten seconds: the API answers what it has, the workers finish and commit their batch, the servers stop.

    Raises:
        StateError.
    """
    if not state_dir.is_dir():
        return 0, []
    supervised = state.read(state_dir)
    if supervised:  # before we take the lock, which it needs for what it is doing
        before = [child for child in supervised.processes if child.role == processes.SUPERVISOR and processes.alive(child)]
        processes.stop(before, SUPERVISOR_STOP_S)
    with state.locked(state_dir, LOCK_WITHIN_S):
        current = state.read(state_dir)
        if current is None:
            return 0, []
        count = len(before) + sum(processes.alive(child) for child in current.processes)
        return count, _stop_all(current)


def _stop_all(current: State) -> list[str]:
    ours = [child for child in current.processes if child.metrics_url and child.role != processes.SEARCH_ENGINE]
    api = [child for child in ours if child.role == processes.API]
    workers = [child for child in ours if child.role != processes.API]
    servers = [child for child in current.processes if child not in ours]
    killed = processes.stop(api, API_STOP_S)
    killed += processes.stop(workers, WORKER_STOP_S)
    killed += processes.stop(servers, SERVER_STOP_S, embedded.STOP_SIGNALS)
    _remove_remains(current)
    return killed


def _remove_remains(current: State) -> None:
    if current.scratch_dir:
        shutil.rmtree(current.scratch_dir, ignore_errors=True)
    state.path(Path(current.state_dir)).unlink(missing_ok=True)


__all__ = ["Scale", "StateError", "down", "ready", "start_again", "up"]
