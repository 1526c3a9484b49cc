"""Who is online, and on which API process: WebSockets here, the registry in PostgreSQL, notices by Redis.

A worker does not know sockets. It looks up the processes that hold a user's streams (``connections``) and publishes on the
processes' channels. A notice is lost when nobody listens or Redis is gone: what a device does not acknowledge in time is
tried again from its row.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import defaultdict

import asyncpg
import msgspec
import redis.asyncio
import structlog
from prometheus_client import Counter, Gauge
from redis.exceptions import RedisError
from starlette.websockets import WebSocket, WebSocketDisconnect

from reference_impl.auth import Tokens
from reference_impl.milestones import NOTIFICATIONS_DELIVERED, MilestoneFile
from reference_impl.notifications import inbox
from reference_impl.notifications.inbox import Notification
from reference_impl.settings import Settings
from reference_impl.web import UNAVAILABLE, ApiError

STREAMS_PER_USER = 10
QUEUE_MOST = 1_000
"""Notifications that a stream may be behind; a device that reads no faster is let go, and finds them in its inbox."""
HEARTBEAT_S = 2.0
"""An API process that has not been heard of for ten seconds holds no streams (the view ``online``)."""
LISTEN_AGAIN_S = 0.5
CLOSE_WITHIN_S = 2.0
INBOX_AT_ONCE = 100
POLICY_VIOLATION, TRY_AGAIN_LATER, UNAUTHORIZED = 1008, 1013, 3000
"""Source: RFC 6455, 7.4.1, and IANA's WebSocket Close Code Number Registry."""
CHANNEL = "flashcrowd.stream.{}"

# True if the process was not in the registry, or no more: its streams are not either then.
REGISTER_PROCESS = """
INSERT INTO api_processes (id, seen_at) VALUES ($1, now()) ON CONFLICT (id) DO UPDATE SET seen_at = now()
RETURNING old.id IS NULL"""
REGISTER_USERS = """
INSERT INTO connections (user_id, process_id) SELECT user_id, $1 FROM unnest($2::bigint[]) AS online (user_id)
ON CONFLICT DO NOTHING"""
UNREGISTER_USER = "DELETE FROM connections WHERE user_id = $1 AND process_id = $2"
UNREGISTER_PROCESS = """
WITH gone AS (DELETE FROM api_processes WHERE id = $1 RETURNING id)
DELETE FROM connections WHERE process_id IN (SELECT id FROM gone)"""

log = structlog.get_logger()
open_streams = Gauge("flashcrowd_notification_streams", "WebSockets that are open")
refused_total = Counter("flashcrowd_notification_streams_ended", "WebSockets ended by the server", ["why"])


class TooManyStreams(Exception):
    """A user has as many streams as are allowed."""


class Message(msgspec.Struct, tag_field="type", tag="notification"):
    """What a device gets on its stream."""

    id: str
    kind: inbox.Kind
    post_id: int
    actor_id: int
    others: int
    text: str
    accepted_at: float


class Acknowledgement(msgspec.Struct, forbid_unknown_fields=True):
    """What a device says."""

    ack: list[uuid.UUID]


encode = msgspec.json.Encoder().encode
decode_acknowledgement = msgspec.json.Decoder(Acknowledgement).decode


class _Stream:
    def __init__(self, websocket: WebSocket) -> None:
        self.websocket = websocket
        self.queue: asyncio.Queue[Notification] = asyncio.Queue(QUEUE_MOST)
        self.sent_at: dict[str, float] = {}
        self.dismissed = asyncio.Event()
        self._farewell = (TRY_AGAIN_LATER, "")

    def offer(self, notification: Notification) -> None:
        try:
            self.queue.put_nowait(notification)
        except asyncio.QueueFull:
            self.is_behind()

    def is_behind(self) -> None:
        self.dismiss("behind", TRY_AGAIN_LATER, "too slow; the rest is in the inbox")

    def dismiss(self, why: str, code: int, reason: str) -> None:
        """Let the conversation end, for the first reason that there is."""
        if not self.dismissed.is_set():
            refused_total.labels(why).inc()
            self._farewell = code, reason
            self.dismissed.set()

    async def say_farewell(self) -> None:
        await self.websocket.close(*self._farewell)


class Streams:
    """The streams of one API process."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, milestones: MilestoneFile) -> None:
        self._settings = settings
        self._pool = pool
        self._id = uuid.uuid4()
        self._of: defaultdict[int, set[_Stream]] = defaultdict(set)
        self._milestones = milestones
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False

    async def start(self) -> None:
        """Register this process and listen from now on."""
        await self._pool.execute(REGISTER_PROCESS, self._id)
        self._tasks = [asyncio.create_task(self._stay_registered()), asyncio.create_task(self._keep_listening())]

    async def close(self) -> None:
        """Listen no more, and hold no streams in the registry."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=CLOSE_WITHIN_S)
        with contextlib.suppress(*UNAVAILABLE):
            await self._pool.execute(UNREGISTER_PROCESS, self._id)

    async def _stay_registered(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                if await self._pool.fetchval(REGISTER_PROCESS, self._id):
                    await self._pool.execute(REGISTER_USERS, self._id, list(self._of))
            except UNAVAILABLE as error:
                log.warning("streams.registry", error=repr(error))

    async def _keep_listening(self) -> None:
        """Subscribe to our channel; once more when the connection breaks."""
        while not self._closing:  # the client may turn our cancellation into an error of its own while it connects
            try:
                async with redis.asyncio.from_url(self._settings.redis_url) as client, client.pubsub() as channel:
                    await channel.subscribe(CHANNEL.format(self._id.hex))
                    while not self._closing:
                        message = await channel.get_message(ignore_subscribe_messages=True, timeout=LISTEN_AGAIN_S)
                        if message:
                            self._notified(message["data"])
            except (OSError, RedisError) as error:
                log.warning("streams.listener", error=repr(error))
            await asyncio.sleep(LISTEN_AGAIN_S)

    def _notified(self, payload: bytes) -> None:
        notification = inbox.decode(payload)
        for stream in self._of.get(notification.user_id, ()):
            stream.offer(notification)

    def dismiss_strangers(self, tokens: Tokens) -> None:
        """End the streams whose token would not be let in any more: it has expired, or its user has signed out."""
        for stream in [stream for streams in self._of.values() for stream in streams]:
            try:
                tokens.user_of(stream.websocket.headers.get("authorization"))
            except ApiError as error:
                stream.dismiss("unauthorized", UNAUTHORIZED, str(error))

    async def serve(self, user_id: int, websocket: WebSocket) -> None:
        """Hold a stream until one side ends it.

        Raises:
            TooManyStreams: before it is accepted.
        """
        if len(self._of.get(user_id, ())) >= STREAMS_PER_USER:
            raise TooManyStreams(f"user {user_id} has {STREAMS_PER_USER} streams already")
        stream = _Stream(websocket)
        self._of[user_id].add(stream)
        open_streams.inc()
        try:
            await self._pool.execute(REGISTER_USERS, self._id, [user_id])
            await websocket.accept()
            await websocket.send_text('{"type":"ready"}')
            await self._converse(user_id, stream)
        finally:
            open_streams.dec()
            self._of[user_id].discard(stream)
            if not self._of[user_id]:
                del self._of[user_id]
                with contextlib.suppress(*UNAVAILABLE):
                    await self._pool.execute(UNREGISTER_USER, user_id, self._id)

    async def _converse(self, user_id: int, stream: _Stream) -> None:
        """Send what comes and take acknowledgements, until one of the two ends."""
        works = [
            asyncio.create_task(self._send(user_id, stream)),
            asyncio.create_task(self._receive(user_id, stream)),
            asyncio.create_task(stream.dismissed.wait()),
        ]
        try:
            await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            if stream.dismissed.is_set():
                await stream.say_farewell()
        finally:
            for work in works:
                work.cancel()
            for outcome in await asyncio.gather(*works, return_exceptions=True):
                if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect):
                    log.warning("stream.ended", user=user_id, error=repr(outcome))

    async def _send(self, user_id: int, stream: _Stream) -> None:
        claim_s = self._settings.stream_ack_timeout_s
        while waiting := await inbox.claim_of_user(self._pool, user_id, INBOX_AT_ONCE, claim_s):
            for notification in waiting:
                await self._send_one(stream, notification)
            if len(waiting) < INBOX_AT_ONCE:
                break
        while True:
            await self._send_one(stream, await stream.queue.get())

    @staticmethod
    async def _send_one(stream: _Stream, one: Notification) -> None:
        if len(stream.sent_at) >= QUEUE_MOST:  # of which the device has acknowledged none
            stream.is_behind()
            return
        message = Message(one.id, one.kind, one.post_id, one.actor_id, one.others, one.text(), one.accepted_at)
        stream.sent_at[one.id] = time.time()
        await stream.websocket.send_text(encode(message).decode())

    async def _receive(self, user_id: int, stream: _Stream) -> None:
        while True:
            received = await stream.websocket.receive()
            if received["type"] == "websocket.disconnect":
                return
            try:
                said = decode_acknowledgement(received.get("text") or received.get("bytes") or b"")
            except (msgspec.DecodeError, UnicodeDecodeError):
                refused_total.labels("malformed").inc()
                await stream.websocket.close(POLICY_VIOLATION, 'a device says {"ack": [id, …]} and nothing else')
                return
            await self._acknowledged(user_id, stream, [str(one) for one in said.ack])

    async def _acknowledged(self, user_id: int, stream: _Stream, ids: list[str]) -> None:
        """Only what this stream was sent counts; the milestone is when it was sent."""
        sent = {one: stream.sent_at.pop(one) for one in ids if one in stream.sent_at}
        if not sent:
            return
        for one, (kind, accepted_at) in (await inbox.delivered(self._pool, list(sent), user_id)).items():
            samples = [(moment, 1) for moment in accepted_at]
            self._milestones.record(NOTIFICATIONS_DELIVERED[kind], samples, sent[one])
