"""Takes events in from both topics, and delivers what is due: comments first, online users by stream, others by push."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import msgspec
import redis.asyncio
import structlog
from confluent_kafka import Message
from prometheus_client import Counter
from redis.exceptions import RedisError

from reference_impl.events import NotificationEvent, decode_notification
from reference_impl.milestones import NOTIFICATIONS_DELIVERED, MilestoneFile
from reference_impl.notifications import inbox
from reference_impl.notifications.inbox import TOPICS, Notification
from reference_impl.notifications.push import Outcome, Providers, Target
from reference_impl.notifications.streams import CHANNEL
from reference_impl.settings import Settings

log = structlog.get_logger()
taken_total = Counter("flashcrowd_notifications_taken", "Events that are new and wanted")
dropped_total = Counter("flashcrowd_notifications_dropped", "Events that came again, or are not wanted")
unreadable_total = Counter("flashcrowd_notifications_unreadable", "Records that are no event")
delivered_total = Counter("flashcrowd_notifications_pushed", "Notifications that a provider has taken", ["kind"])
dead_total = Counter("flashcrowd_devices_dead", "Devices removed because their token is dead")

SWEEP_EVERY_S = 5.0
FAILED_AGAIN_S = 2.0

ONLINE = "SELECT user_id, process_id FROM online WHERE user_id = ANY($1::bigint[])"
DEVICES = "SELECT user_id, platform, token, topics FROM devices WHERE user_id = ANY($1::bigint[])"
REMOVE_DEVICES = "DELETE FROM devices USING unnest($1::text[], $2::text[]) AS dead (platform, token) " + (
    "WHERE devices.platform = dead.platform AND devices.token = dead.token"
)
FORGET_PROCESSES = """
WITH gone AS (DELETE FROM api_processes WHERE seen_at < now() - interval '1 minute' RETURNING id)
DELETE FROM connections WHERE process_id IN (SELECT id FROM gone)"""

# Events are kept to know them when they come again, which is for as long as the log may be read once more. Those whose notification
# is not delivered yet are needed for its milestone.
FORGET_EVENTS = """
DELETE FROM notification_events WHERE id IN (
    SELECT event.id FROM notification_events AS event
    WHERE accepted_at < extract(epoch FROM now()) - $1 AND NOT EXISTS (
        SELECT FROM notifications WHERE notifications.id = notification_id AND delivered_at IS NULL
    ) LIMIT 10000
)"""


class NotificationWorker:
    """One process's share of both: the topics, and the inbox."""

    def __init__(
        self,
        settings: Settings,
        pool: asyncpg.Pool,
        channels: redis.asyncio.Redis,
        providers: Providers,
        milestones: MilestoneFile,
    ) -> None:
        self._settings = settings
        self._pool = pool
        self._channels = channels
        self._providers = providers
        self._milestones = milestones
        self._news = asyncio.Event()
        self._swept_at = 0.0

    async def handle(self, messages: Sequence[Message]) -> None:
        """Store a batch of either topic."""
        events: list[NotificationEvent] = []
        for message in messages:
            try:
                events.append(decode_notification(message.value() or b""))
            except msgspec.DecodeError as error:  # never written by us; it must not block its partition for ever
                unreadable_total.inc()
                log.error("record.unreadable", topic=message.topic(), offset=message.offset(), error=str(error))
        taken = await inbox.take_in(self._pool, events, self._settings.like_window_s)
        taken_total.inc(taken)
        dropped_total.inc(len(events) - taken)
        if taken:
            self._news.set()

    async def deliver(self, stop: asyncio.Event) -> None:
        """Deliver what is due until ``stop``; whatever goes wrong, it stays in the inbox and is tried again."""
        while not stop.is_set():
            self._news.clear()
            try:
                if time.monotonic() - self._swept_at > SWEEP_EVERY_S:
                    self._swept_at = time.monotonic()
                    await self._pool.execute(FORGET_PROCESSES)
                    await self._pool.execute(inbox.RELEASE_ONLINE)
                    await self._pool.execute(FORGET_EVENTS, self._settings.notification_events_kept_s)
                if await self.deliver_once():
                    continue
            except Exception:  # whatever it is, the notifications are safe in their rows
                log.exception("delivery.failed")
            try:
                await asyncio.wait_for(self._news.wait(), self._settings.delivery_poll_s)
            except TimeoutError:
                continue

    async def deliver_once(self) -> int:
        """Claim what is due and hand it over; return how many notifications that were."""
        settings = self._settings
        claimed = await inbox.claim_due(
            self._pool, 2 * settings.push_concurrency, settings.stream_ack_timeout_s, self._providers.closed()
        )
        if not claimed:
            return 0
        users = list({one.user_id for one in claimed})
        online: defaultdict[int, list[UUID]] = defaultdict(list)
        for user_id, process_id in await self._pool.fetch(ONLINE, users):
            online[user_id].append(process_id)
        devices: defaultdict[tuple[int, str], list[Target]] = defaultdict(list)
        for user_id, platform, token, topics in await self._pool.fetch(DEVICES, users):
            for topic in topics:
                devices[user_id, topic].append(Target(platform, token))
        notices: list[tuple[str, bytes]] = []
        pushes: list[tuple[Notification, list[Target]]] = []
        kept: list[Notification] = []
        for one in claimed:
            targets = devices.get((one.user_id, TOPICS[one.kind]), [])
            if one.user_id in online and (one.attempts == 1 or not targets):
                payload = inbox.encode(one)
                notices += [(CHANNEL.format(process_id.hex), payload) for process_id in online[one.user_id]]
            elif targets:
                pushes.append((one, targets))
            else:
                kept.append(one)
        if notices:
            await self._notify(notices)
        if kept:
            await self._pool.execute(inbox.KEEP, [UUID(one.id) for one in kept])
        if pushes:
            await self._push(pushes)
        return len(claimed)

    async def _notify(self, notices: list[tuple[str, bytes]]) -> None:
        """Tell the API processes. Without Redis the claims run out, and it goes by push where there is a device."""
        try:
            async with self._channels.pipeline(transaction=False) as pipeline:
                for channel, payload in notices:
                    pipeline.publish(channel, payload)
                await pipeline.execute()
        except (OSError, RedisError) as error:
            log.warning("notices.lost", notices=len(notices), error=repr(error))

    async def _push(self, pushes: list[tuple[Notification, list[Target]]]) -> None:
        """Push each to all its devices; it is delivered when none of them has to be tried again and one has taken it."""
        results = await asyncio.gather(*(self._push_one(one, targets) for one, targets in pushes))
        taken = {one.id: at for (one, _), (outcomes, at) in zip(pushes, results, strict=True) if _done(outcomes)}
        if taken:
            for one_id, (kind, accepted_at) in (await inbox.delivered(self._pool, list(taken))).items():
                samples = [(moment, 1) for moment in accepted_at]
                self._milestones.record(NOTIFICATIONS_DELIVERED[kind], samples, taken[one_id])
                delivered_total.labels(kind).inc()
        dead = [
            target
            for (_, targets), (outcomes, _) in zip(pushes, results, strict=True)
            for target, outcome in zip(targets, outcomes, strict=True)
            if outcome == "dead"
        ]
        if dead:
            await self._pool.execute(REMOVE_DEVICES, [one.platform for one in dead], [one.token for one in dead])
            dead_total.inc(len(dead))
        again = [
            (one, self._again_after_s(outcomes, targets))
            for (one, targets), (outcomes, _) in zip(pushes, results, strict=True)
            if not _done(outcomes)
        ]
        if again:
            await self._pool.execute(
                inbox.TRY_AGAIN, [UUID(one.id) for one, _ in again], [after_s for _, after_s in again]
            )

    async def _push_one(self, one: Notification, targets: list[Target]) -> tuple[list[Outcome], float]:
        outcomes = await asyncio.gather(*(self._providers.send(target, one) for target in targets))
        return list(outcomes), time.time()

    def _again_after_s(self, outcomes: list[Outcome], targets: list[Target]) -> float:
        """When the provider may be asked again; later if it failed; at once if there is only another device to look for."""
        if "failed" in outcomes:
            return FAILED_AGAIN_S
        return max(self._providers.closed_for_s(target.platform) for target in targets)


def _done(outcomes: list[Outcome]) -> bool:
    return "sent" in outcomes and set(outcomes) <= {"sent", "dead"}
