"""``status``: health, processes, lag and row counts of a running reference.

**Lag** is what was acknowledged to the producers less what the groups have committed, per partition. It is not taken
from the broker's "latest" offsets, which the embedded broker reports wrongly. The producers' highest acknowledged
offsets are read from their metrics; a producer that was started again and has not produced since knows none, and its
partitions then count as caught up.
"""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections import defaultdict
from typing import Any

import asyncpg
from confluent_kafka import KafkaException
from prometheus_client.parser import text_string_to_metric_families

from reference_impl import lifecycle, processes
from reference_impl.seeding import TABLES
from reference_impl.state import State
from reference_impl.topics import GROUPS, committed_offsets

PRODUCING_ROLES = (processes.API, processes.DISPATCHER, processes.INTERACTION_WORKER, processes.CDC)
COUNTERS = (
    "flashcrowd_interactions_accepted_total",
    "flashcrowd_interactions_applied_total",
    "flashcrowd_interactions_unchanged_total",
    "flashcrowd_posts_dispatched_total",
    "flashcrowd_posts_swept_total",
    "flashcrowd_feed_rows_total",
    "flashcrowd_uploads_begun_total",
    "flashcrowd_uploads_repaired_total",
    "flashcrowd_uploads_abandoned_total",
    "flashcrowd_notifications_taken_total",
    "flashcrowd_notifications_dropped_total",
    "flashcrowd_notifications_pushed_total",
    "flashcrowd_search_changes_total",
    "flashcrowd_search_indexed_total",
    "flashcrowd_supervisor_restarts_total",
)


def _metrics(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return str(answer.read(), "utf-8")
    except OSError:
        return ""


def lag(current: State) -> dict[str, int] | None:
    """Topic → records acknowledged and not yet committed by the topic's group; None if the broker does not answer."""
    acknowledged: dict[str, dict[int, int]] = defaultdict(dict)
    for child in current.processes:
        if child.role not in PRODUCING_ROLES:
            continue
        for family in text_string_to_metric_families(_metrics(child.metrics_url)):
            if family.name == "flashcrowd_topic_acknowledged_offset":
                for sample in family.samples:
                    topic, partition = sample.labels["topic"], int(sample.labels["partition"])
                    known = acknowledged[topic].get(partition, 0)
                    acknowledged[topic][partition] = max(known, int(sample.value) + 1)
    try:
        settings = current.to_settings()
        committed = {topic: committed_offsets(settings, topic) for topic in GROUPS}
    except KafkaException:
        return None
    return {
        topic: sum(max(0, end - committed[topic].get(partition, 0)) for partition, end in acknowledged[topic].items())
        for topic in GROUPS
    }


def _counters(current: State) -> dict[str, int]:
    """Sums over the processes that run now; one that was killed took its counts with it."""
    totals = dict.fromkeys(COUNTERS, 0)
    for child in current.processes:
        for family in text_string_to_metric_families(_metrics(child.metrics_url) if child.metrics_url else ""):
            for sample in family.samples:
                if sample.name in totals:
                    totals[sample.name] += int(sample.value)
    return {name.removeprefix("flashcrowd_").removesuffix("_total"): total for name, total in totals.items()}


SLOT_LAG = """
SELECT (pg_current_wal_lsn() - confirmed_flush_lsn)::float8 FROM pg_replication_slots
WHERE database = current_database() AND slot_name = 'flashcrowd_search'"""


async def _slot_lag_bytes(database_url: str) -> float | None:
    try:
        connection = await asyncpg.connect(database_url, timeout=5)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return None
    try:
        slot_lag: float | None = await connection.fetchval(SLOT_LAG)
        return slot_lag
    finally:
        await connection.close()


def search_lag(current: State) -> dict[str, float | None]:
    """How far search is behind the database; all zero: every row that was committed can be found.

    ``slot_lag_bytes``: of the database's log, not yet in the topic ``search`` (None: unknown). ``batches_unseen``: written
    to the search engine, and waiting for its refresh.
    """
    unseen = 0.0
    for child in current.processes:
        if child.role == processes.INDEXER:
            for family in text_string_to_metric_families(_metrics(child.metrics_url)):
                if family.name == "flashcrowd_search_batches_unseen":
                    unseen += sum(sample.value for sample in family.samples)
    return {"slot_lag_bytes": asyncio.run(_slot_lag_bytes(current.database_url)), "batches_unseen": unseen}


def caught_up(current: State) -> bool:
    """Whether all that was accepted has gone its way, search included."""
    before, records = search_lag(current), lag(current)  # in this order, which is the records' way
    if records is None or any(records.values()):
        return False
    return all(value == 0 for value in (*before.values(), *search_lag(current).values()))


async def _row_counts(database_url: str) -> dict[str, int] | None:
    try:
        connection = await asyncpg.connect(database_url, timeout=5)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return None
    try:
        counts = {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES}
        counts["posts_unpublished"] = await connection.fetchval("SELECT count(*) FROM posts WHERE published_at IS NULL")
        return counts
    finally:
        await connection.close()


def _health(current: State) -> dict[str, Any]:
    try:
        try:
            answer = urllib.request.urlopen(current.api_url + "/healthz", timeout=5)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            health = dict(json.load(answer))
    except (OSError, ValueError, TypeError) as error:
        return {"status": "unavailable", "error": str(error)}
    if health.get("instance") != current.instance_id:
        return {"status": "unavailable", "error": f"what answers at {current.api_url} is not the API that was started here"}
    return health


def report(current: State) -> dict[str, Any]:
    """Everything that ``status`` shows; ``up`` is true if all processes run and the API is healthy."""
    health = _health(current)
    running = {child.name: processes.alive(child) for child in current.processes}
    return {
        "up": all(running.values()) and health["status"] == "ok",
        "api_url": current.api_url,
        "health": health,
        "processes": [
            {
                "name": child.name,
                "pid": child.pid,
                "state": "running" if running[child.name] else "dead",
                "ready": running[child.name] and (not child.metrics_url or lifecycle.ready(child, current.instance_id)),
                "memory_bytes": processes.memory_bytes(child),
                "metrics_url": child.metrics_url,
            }
            for child in current.processes
        ],
        "search_lag": search_lag(current),
        "lag_records": lag(current),
        "counters": _counters(current),
        "rows": asyncio.run(_row_counts(current.database_url)),
        # URLs may have passwords in them.
        "settings": {
            key: value
            for key, value in current.settings.items()
            if not key.endswith(("_url", "_key", "_secret", "_token"))
        },
    }
