"""What each process of the platform does: ``python -m reference_impl run ROLE``."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import structlog
import uvloop
from prometheus_client import start_http_server

from reference_impl import logs, spans
from reference_impl.database import open_pool
from reference_impl.processes import (
    API,
    CDC,
    DISPATCHER,
    EDGE,
    FANOUT_WORKER,
    INDEXER,
    INTERACTION_WORKER,
    NOTIFICATION_WORKER,
    PUSH_GATEWAY,
    RECONCILER,
    SEARCH_ENGINE,
    SPAN_EXPORTER,
    SUPERVISOR,
)
from reference_impl.settings import Settings
from reference_impl.topics import (
    FANOUT,
    INTERACTIONS,
    NOTIFICATIONS_HIGH,
    NOTIFICATIONS_LOW,
    POSTS,
    SEARCH,
    LogConsumer,
    LogProducer,
    instance,
    work,
    worker_ready,
)

log = structlog.get_logger()


def run(role: str, name: str, metrics_port: int, settings: Settings) -> None:
    """Run ``role`` until SIGTERM. A worker exports its metrics at ``metrics_port`` (0: not at all)."""
    logs.configure(name)
    log.info("start", role=role, strategy=settings.feed_strategy)
    instance.info({"id": settings.instance_id})
    if settings.spans and role != SPAN_EXPORTER:
        spans.start(settings.state_dir, name)
    if role == API:
        from reference_impl.app import serve

        serve(settings)
        return
    if role == EDGE:
        _serve_edge(metrics_port, settings)
        return
    if role == PUSH_GATEWAY:
        from reference_impl.notifications import gateway

        gateway.serve(settings)
        return
    if role == SEARCH_ENGINE:
        from reference_impl.search import engine_server

        engine_server.serve(settings)
        return
    if role == SUPERVISOR:
        from reference_impl import supervisor

        supervisor.serve(settings, metrics_port)
        return
    if metrics_port:
        start_http_server(metrics_port, addr="127.0.0.1")
    if role == SPAN_EXPORTER:
        from reference_impl import otlp

        worker_ready.set(1)
        otlp.export(Path(settings.state_dir))
    workers = {
        DISPATCHER: _dispatch,
        FANOUT_WORKER: _fan_out,
        INTERACTION_WORKER: _interact,
        RECONCILER: _reconcile,
        NOTIFICATION_WORKER: _notify,
        CDC: _capture,
        INDEXER: _index,
    }
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(workers[role](name, settings))
    log.info("stopped")


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@contextlib.asynccontextmanager
async def _worker(
    name: str, settings: Settings, topic: str
) -> AsyncIterator[tuple[asyncpg.Pool, LogConsumer, asyncio.Event]]:
    """A worker's pool, consumer and stop signal; the consumer leaves its group at the end."""
    stop = _stop_signal()
    pool = await open_pool(settings, settings.worker_pool_size, name)
    consumer = LogConsumer(settings, topic)
    try:
        yield pool, consumer, stop
    finally:
        await consumer.close()
        await pool.close()


async def _dispatch(name: str, settings: Settings) -> None:
    from reference_impl.feed.workers import Dispatcher

    async with _worker(name, settings, POSTS) as (pool, consumer, stop):
        producer = LogProducer(settings)
        try:
            dispatcher = Dispatcher(settings, pool, producer)
            await work(consumer, dispatcher.handle, stop, when_idle=dispatcher.sweep)
        finally:
            await producer.close()


async def _fan_out(name: str, settings: Settings) -> None:
    from reference_impl.feed.workers import FanoutWorker
    from reference_impl.milestones import MilestoneFile

    async with _worker(name, settings, FANOUT) as (pool, consumer, stop):
        milestones = MilestoneFile(settings.state_dir, name)
        await work(consumer, FanoutWorker(settings, pool, milestones).handle, stop)
        milestones.close()


async def _interact(name: str, settings: Settings) -> None:
    from reference_impl.interactions.events import EventPublisher
    from reference_impl.interactions.worker import InteractionWorker
    from reference_impl.milestones import MilestoneFile

    async with _worker(name, settings, INTERACTIONS) as (pool, consumer, stop):
        generation = await pool.fetchval("SELECT generation FROM log_generations WHERE topic = $1", INTERACTIONS)
        milestones = MilestoneFile(settings.state_dir, name)
        producer = LogProducer(settings)
        try:
            events = EventPublisher(pool, producer)
            await work(consumer, InteractionWorker(pool, milestones, generation or 0, events).handle, stop)
        finally:
            await producer.close()
            milestones.close()


async def _reconcile(name: str, settings: Settings) -> None:
    from reference_impl.milestones import MilestoneFile
    from reference_impl.uploads.reconciler import Reconciler
    from reference_impl.uploads.settle import Settler
    from reference_impl.uploads.store import ObjectStore

    stop = _stop_signal()
    pool = await open_pool(settings, settings.worker_pool_size, name)
    producer, milestones, store = LogProducer(settings), MilestoneFile(settings.state_dir, name), ObjectStore(settings)
    worker_ready.set(1)
    try:
        await Reconciler(settings, pool, store, Settler(pool, store, producer, milestones)).run(stop)
    finally:
        await producer.close()
        await pool.close()
        milestones.close()


def _serve_edge(port: int, settings: Settings) -> None:
    import uvicorn

    from reference_impl.guard import serving
    from reference_impl.uploads.edge import create_edge
    from reference_impl.uploads.nginx import GATE_CACHE_BYTES, NGINX

    if settings.edge == NGINX:
        settings = dataclasses.replace(settings, edge_cache_bytes=GATE_CACHE_BYTES)
    uvicorn.run(
        create_edge(settings), host=settings.api_host, port=port, timeout_graceful_shutdown=2,
        **serving(settings, private=False),
    )  # fmt: skip


async def _notify(name: str, settings: Settings) -> None:
    import redis.asyncio  # takes a quarter of a second, which the other roles save

    from reference_impl.milestones import MilestoneFile
    from reference_impl.notifications.push import Providers
    from reference_impl.notifications.worker import NotificationWorker

    async with _worker(name, settings, NOTIFICATIONS_HIGH) as (pool, high, stop):
        low = LogConsumer(settings, NOTIFICATIONS_LOW)

        async def take_likes() -> None:
            try:
                await work(low, worker.handle, stop)
            finally:
                await low.close()  # while the others end: leaving a group takes a while

        milestones = MilestoneFile(settings.state_dir, name)
        channels, providers = redis.asyncio.from_url(settings.redis_url), Providers(settings)
        worker = NotificationWorker(settings, pool, channels, providers, milestones)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(work(high, worker.handle, stop))
                tasks.create_task(take_likes())
                tasks.create_task(worker.deliver(stop))
        finally:
            await providers.close()
            await channels.aclose()
            milestones.close()


async def _capture(name: str, settings: Settings) -> None:
    from reference_impl.search.cdc import Capture
    from reference_impl.search.index import SearchIndex

    stop = _stop_signal()
    pool = await open_pool(settings, settings.worker_pool_size, name)
    producer, index = LogProducer(settings), SearchIndex(settings)
    try:
        await Capture(settings, pool, producer, index).run(stop)
    finally:
        await producer.close()
        await index.close()
        await pool.close()


async def _index(name: str, settings: Settings) -> None:
    from reference_impl.milestones import MilestoneFile
    from reference_impl.search.index import SearchIndex
    from reference_impl.search.indexer import Indexer

    async with _worker(name, settings, SEARCH) as (_, consumer, stop):
        index, milestones = SearchIndex(settings), MilestoneFile(settings.state_dir, name)
        indexer = Indexer(index, milestones)
        await indexer.wait_for_indexes(stop)
        watching = asyncio.create_task(indexer.watch())
        await work(consumer, indexer.handle, stop)
        watching.cancel()
        milestones.close()
        await index.close()
