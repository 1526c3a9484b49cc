"""``up`` and ``down``: start everything, wait until it is healthy, stop everything."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from reference_impl import embedded, embedded_store, otlp, processes, state
from reference_impl.processes import Child, StartFailed
from reference_impl.settings import Settings
from reference_impl.state import State, StateError

READY_WITHIN_S = 60.0
SUPERVISOR_STOP_S, API_STOP_S, WORKER_STOP_S, SERVER_STOP_S = 0.5, 3.3, 4.0, 2.0
LOCK_WITHIN_S = 5.0
LOG_ROLES = (
    processes.DISPATCHER, processes.FANOUT_WORKER, processes.INTERACTION_WORKER, processes.NOTIFICATION_WORKER,
    processes.CDC, processes.INDEXER,
)  # fmt: skip
"""They know places in the log."""

SERVING_ROLES = (processes.API, processes.PUSH_GATEWAY)
"""Their metrics are at the port that they serve."""

Progress = Callable[[str], None]


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
        settings = _choose_addresses(settings)
        current.api_url = f"http://{settings.api_host}:{settings.api_port}"
        settings = _start_servers(settings, current, progress)
        _prepare_servers(settings, progress)
        current.settings = dataclasses.asdict(settings)
        names = scale.names()
        if not (settings.fcm_url and settings.apns_url):
            settings = _with_push_gateway(settings)
            current.settings = dataclasses.asdict(settings)
            names = [(processes.PUSH_GATEWAY, processes.PUSH_GATEWAY), *names]
        if settings.spans and otlp.endpoint():
            names.append((processes.SPAN_EXPORTER, processes.SPAN_EXPORTER))
        for name, role in names:
            if role == processes.EDGE and not settings.edge_port:
                continue  # somebody else's
            if role == processes.SUPERVISOR and not settings.supervised:
                continue
            current.processes.append(_start_role(name, role, settings))
            state.write(current)
        _wait_until_ready(current, progress)
    except BaseException:  # Ctrl-C too
        _stop_all(current)
        raise
    current.started_in_s = round(time.monotonic() - began, 3)
    state.write(current)
    return current


def _choose_addresses(settings: Settings) -> Settings:
    """What has to be known before anything starts: the store is told where its notifications go, and by what token."""
    values: dict[str, Any] = {"api_port": settings.api_port or processes.free_port()}
    if not settings.edge_url:
        values["edge_port"] = settings.edge_port or processes.free_port()
        values["edge_url"] = f"http://{settings.api_host}:{values['edge_port']}"
    if not settings.store_events_secret:
        values["store_events_secret"] = secrets.token_urlsafe(24)
    if not settings.token_secret:
        values["token_secret"] = secrets.token_urlsafe(32)
    if not settings.s3_url:
        values |= {"s3_access_key": secrets.token_hex(10), "s3_secret_key": secrets.token_urlsafe(30)}
    return dataclasses.replace(settings, **values)


def _start_servers(settings: Settings, current: State, progress: Progress) -> Settings:
    """Start the embedded servers that no URL replaces; note each in the state file at once."""
    state_dir = Path(settings.state_dir)
    urls = ("database_url", "kafka_bootstrap", "redis_url", "s3_url", "elasticsearch_url")
    if not all(getattr(settings, name) for name in urls):
        current.scratch_dir = str(embedded.make_scratch_directory())
        state.write(current)
    scratch = Path(current.scratch_dir)
    store, master_port = None, 0
    if not settings.s3_url:  # first, since it takes the longest; the others start meanwhile
        progress("starting the object store")
        store, url, master_port = embedded_store.start_store(
            scratch,
            state_dir,
            settings.s3_port or processes.free_port(),
            (settings.s3_access_key, settings.s3_secret_key),
            settings.s3_bucket,
            (f"{current.api_url}/v1/store-events", settings.store_events_secret),
        )
        current.processes.append(store)
        settings = dataclasses.replace(settings, s3_url=url)
        state.write(current)
    if not settings.database_url:
        progress("starting PostgreSQL")
        child, url = embedded.start_postgres(scratch, state_dir, settings.database_port or processes.free_port())
        current.processes.append(child)
        settings = dataclasses.replace(settings, database_url=url)
    current.database_url = settings.database_url
    state.write(current)
    if not settings.redis_url:
        progress("starting Valkey")
        child, url = embedded.start_redis(scratch, state_dir, settings.redis_port or processes.free_port())
        current.processes.append(child)
        settings = dataclasses.replace(settings, redis_url=url)
    if not settings.elasticsearch_url:
        progress("starting the search engine")
        port = settings.elasticsearch_port or processes.free_port()
        settings = dataclasses.replace(
            settings,
            elasticsearch_url=f"http://127.0.0.1:{port}",
            elasticsearch_port=port,
            search_engine_dir=str(scratch / "search"),
        )
        current.processes.append(_start_role(processes.SEARCH_ENGINE, processes.SEARCH_ENGINE, settings))
    state.write(current)
    if store:
        progress("waiting for the object store")
        embedded_store.wait_for_store(settings.s3_url, master_port, settings.s3_bucket, store)
    if not settings.kafka_bootstrap:
        settings = _start_kafka(settings, current, progress)
    current.kafka_bootstrap = settings.kafka_bootstrap
    state.write(current)
    return settings


def _start_kafka(settings: Settings, current: State, progress: Progress) -> Settings:
    from reference_impl.uploads.store import ObjectStore

    progress("starting Kafka's broker")
    if settings.kafka_storage == "store":
        ObjectStore(dataclasses.replace(settings, s3_bucket=embedded.KAFKA_BUCKET)).create_bucket()
    port = settings.kafka_port or processes.free_port()
    child, bootstrap = embedded.start_kafka(Path(current.scratch_dir), Path(current.state_dir), port, settings)
    current.processes.append(child)
    return dataclasses.replace(settings, kafka_bootstrap=bootstrap)


def _prepare_servers(settings: Settings, progress: Progress) -> None:
    import asyncpg
    from confluent_kafka import KafkaException

    from reference_impl import database
    from reference_impl.uploads.store import ObjectStore, StoreUnavailable

    progress("migrating the database")
    deadline = time.monotonic() + READY_WITHIN_S / 2
    while True:
        try:
            asyncio.run(database.migrate(settings.database_url))
            break
        except (OSError, asyncpg.CannotConnectNowError) as error:
            if time.monotonic() > deadline:
                raise StartFailed(f"the database does not answer: {error}") from None
            time.sleep(0.05)
        except (asyncpg.PostgresError, ValueError) as error:
            raise StartFailed(f"the database refuses: {error}") from None
    progress("creating topics")
    try:
        _create_topics(settings)
    except KafkaException as error:
        raise StartFailed(f"Kafka at {settings.kafka_bootstrap}: {error.args[0].str()}") from None
    try:
        ObjectStore(settings).create_bucket()
    except StoreUnavailable as error:
        raise StartFailed(f"the object store at {settings.s3_url} refuses: {error}") from None


def _create_topics(settings: Settings) -> None:
    from reference_impl import database, topics

    for topic in topics.create_topics(settings):
        asyncio.run(database.next_generation(settings.database_url, topic))


def _with_push_gateway(settings: Settings) -> Settings:
    """Send by the local push gateway what no URL sends elsewhere."""
    port = settings.push_gateway_port or processes.free_port()
    url = f"http://127.0.0.1:{port}"
    return dataclasses.replace(
        settings, push_gateway_port=port, fcm_url=settings.fcm_url or url, apns_url=settings.apns_url or url
    )


def _start_role(name: str, role: str, settings: Settings, port: int = 0) -> Child:
    """Start one process of ours; its settings go by the environment. The first API has the port that was asked for.

    ``port``: the one that it had before.
    """
    state_dir = Path(settings.state_dir)
    if role == processes.API and name != processes.API:
        settings = dataclasses.replace(settings, api_port=port or processes.free_port())
    ports = {
        processes.API: settings.api_port,
        processes.EDGE: settings.edge_port,
        processes.PUSH_GATEWAY: settings.push_gateway_port,
        processes.SEARCH_ENGINE: settings.elasticsearch_port,
    }
    host = settings.api_host if role in (processes.API, processes.EDGE) else "127.0.0.1"
    port = ports.get(role) or port or processes.free_port()
    url = f"http://{host}:{port}/metrics"
    source = str(Path(__file__).resolve().parent.parent)
    search_path = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    child = processes.start(
        name,
        role,
        [sys.executable, "-m", "reference_impl", "run", role, "--name", name, "--metrics-port", str(port)],
        state_dir / f"{name}.log",
        environment={**settings.to_environment(), "PYTHONPATH": search_path},
        directory=state_dir,
        metrics_url=url,
    )
    return msgspec.structs.replace(child, command=[], environment={})  # they follow from the settings


def ready(child: Child) -> bool:
    """Whether a process of ours is at work: one that serves answers its health check, a worker has joined its group."""
    serves = child.role in SERVING_ROLES
    url = child.metrics_url.replace("/metrics", "/healthz") if serves else child.metrics_url
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return serves or b"flashcrowd_worker_ready 1.0" in answer.read()
    except (OSError, urllib.error.HTTPError):
        return False


def _wait_until_ready(current: State, progress: Progress) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    waiting = [child for child in current.processes if child.metrics_url]
    while waiting:
        progress(f"waiting for {', '.join(child.name for child in waiting)}")
        for child in current.processes:
            if not processes.alive(child):
                raise StartFailed(f"{child.name} ended while starting", child)
        waiting = [child for child in waiting if not ready(child)]
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
        again = _start_role(child.name, child.role, current.to_settings(), port)
    current.processes = [again if c is child else c for c in current.processes]
    state.write(current)
    return again


def _begin_new_log(broker: Child, current: State) -> None:
    """The log was in the broker's memory: make the topics anew, and let begin anew whoever knows places in the old ones.

    What was accepted and not yet worked off is gone; that is the price of ``kafka_storage = memory``.
    """
    processes.wait_for_port(urlsplit(f"//{current.kafka_bootstrap}").port or 0, broker)
    _create_topics(current.to_settings())
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
