"""How each thing is started: the embedded servers and what they have to be prepared with, and every process of ours.

In what order, and what happens when something fails, is lifecycle.py's.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import secrets
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from reference_impl import embedded, embedded_store, processes, state
from reference_impl.processes import Child, StartFailed
from reference_impl.settings import Settings
from reference_impl.state import State
from reference_impl.uploads import nginx
from reference_impl.uploads.nginx import NGINX

SERVERS_READY_WITHIN_S = 30.0
Progress = Callable[[str], None]


def choose_addresses(settings: Settings) -> Settings:
    """What has to be known before anything starts: the store is told where its notifications go, and by what token."""
    values: dict[str, Any] = {"api_port": settings.api_port or processes.free_port()}
    if not settings.instance_id:
        values["instance_id"] = secrets.token_hex(8)
    if not settings.edge_url:
        values["edge_port"] = settings.edge_port or processes.free_port()
        values["edge_url"] = f"http://{settings.api_host}:{values['edge_port']}"
        if settings.edge == NGINX or (settings.edge == "auto" and nginx.is_installed()):
            values |= {"edge": NGINX, "edge_gate_port": settings.edge_gate_port or processes.free_port()}
        else:
            values["edge"] = "embedded"
    if not settings.store_events_secret:
        values["store_events_secret"] = secrets.token_urlsafe(24)
    if not settings.token_secret:
        values["token_secret"] = secrets.token_urlsafe(32)
    if not settings.s3_url:
        values |= {"s3_access_key": secrets.token_hex(10), "s3_secret_key": secrets.token_urlsafe(30)}
    return dataclasses.replace(settings, **values)


def start_servers(settings: Settings, current: State, progress: Progress) -> Settings:
    """Start the embedded servers that no URL replaces; note each in the state file at once."""
    state_dir = Path(settings.state_dir)
    urls = ("database_url", "kafka_bootstrap", "redis_url", "s3_url", "elasticsearch_url")
    if settings.edge == NGINX or not all(getattr(settings, name) for name in urls):
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
        current.processes.append(start_role(processes.SEARCH_ENGINE, processes.SEARCH_ENGINE, settings))
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


def prepare_servers(settings: Settings, progress: Progress) -> None:
    """Tables, topics and the bucket, wherever the servers are.

    Raises:
        StartFailed, database.DatabaseTooOld.
    """
    import asyncpg
    from confluent_kafka import KafkaException

    from reference_impl import database
    from reference_impl.uploads.store import ObjectStore, StoreUnavailable

    progress("migrating the database")
    deadline = time.monotonic() + SERVERS_READY_WITHIN_S
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
        create_topics(settings)
    except KafkaException as error:
        raise StartFailed(f"Kafka at {settings.kafka_bootstrap}: {error.args[0].str()}") from None
    try:
        ObjectStore(settings).create_bucket()
    except StoreUnavailable as error:
        raise StartFailed(f"the object store at {settings.s3_url} refuses: {error}") from None


def create_topics(settings: Settings) -> None:
    """Create the topics that are missing, and let a new generation of the log begin for each.

    Raises:
        KafkaException, asyncpg.PostgresError, OSError.
    """
    from reference_impl import database, topics

    for topic in topics.create_topics(settings):
        asyncio.run(database.next_generation(settings.database_url, topic))


def with_push_gateway(settings: Settings) -> Settings:
    """Send by the local push gateway what no URL sends elsewhere."""
    port = settings.push_gateway_port or processes.free_port()
    url = f"http://127.0.0.1:{port}"
    return dataclasses.replace(
        settings, push_gateway_port=port, fcm_url=settings.fcm_url or url, apns_url=settings.apns_url or url
    )


def start_role(name: str, role: str, settings: Settings, port: int = 0) -> Child:
    """Start one process of ours; its settings go by the environment. The first API has the port that was asked for.

    ``port``: the one that it had before.
    """
    state_dir = Path(settings.state_dir)
    if role == processes.API and name != processes.API:
        settings = dataclasses.replace(settings, api_port=port or processes.free_port())
    ports = {
        processes.API: settings.api_port,
        processes.EDGE: settings.edge_gate_port if settings.edge == NGINX else settings.edge_port,
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
