"""The user that all our users derive from: one of the platform's users, with the fastest client for the target."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import gevent
from locust.contrib.fasthttp import FastHttpUser
from locust.exception import StopTest

from loadtest import plugin
from loadtest.clients import LeanSession
from loadtest.streams import ModelStream, Received, Stream, StreamRefused, WebSocketStream
from loadtest.tokens import NoSecret, bearer


class PlatformUser(FastHttpUser):
    """Acts as one user of the platform, chosen by the first number of its own random stream.

    On the reference the client is FastHttpUser's, on the model the lean one. `rng` and `index` are set by
    `loadtest.user_streams` before the user runs.
    """

    abstract = True
    rng: random.Random
    index: int

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        if plugin.run.virtual:
            self.client: Any = LeanSession(self.host or "", environment.events.request, self, self.network_timeout)
        self.settings = plugin.load()
        self.platform_user = -1
        self.media_url = ""  # of the edge; known once an upload is ready
        self.streams: set[Stream] = set()

    def on_start(self) -> None:
        """Choose who this user is, and be logged in. Raises `StopTest` when that cannot be."""
        self.platform_user = self.rng.randrange(self.settings.users_in_platform)
        try:
            bearer(self.platform_user)
        except NoSecret as error:
            raise StopTest(str(error)) from None

    def think(self) -> float:
        """An exponential pause, seconds."""
        mean_s = self.settings.think_time_s
        return self.rng.expovariate(1 / mean_s) if mean_s > 0 else 0.0

    def key_prefix(self) -> str:
        """A prefix for idempotency keys that no other user and no other run shares."""
        return f"{plugin.run.recorder.start_epoch_s:.6f}-{type(self).__name__}-{self.index}"

    def ask(
        self,
        operation: str,
        method: str,
        path: str,
        *,
        json: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        actor: int | None = None,
        intended_s: float | None = None,
        data: bytes | None = None,
        whole: bool = False,
        presigned: bool = False,
        complaint: Callable[[Any], str | None] | None = None,
    ) -> Any:
        """Perform one request and report it under the operation's name; returns its JSON body, or None.

        `data` is a body that is not JSON. With `whole` the response itself is returned. `complaint` may find a failure in
        an answer whose status is fine. A `presigned` URL says by itself what may be done: the store is not told who we are.

        `actor` is the platform's user who asks, in place of this user's own. `intended_s`, an instant of
        `time.perf_counter`, is when the request was meant to be sent; its latency counts from there.
        """
        actor = self.platform_user if actor is None else actor
        context: dict[str, Any] = {"user": actor}
        recorder = plugin.run.recorder
        who = {} if presigned and not plugin.run.virtual else bearer(actor)  # the model has no other way to know
        sent_s = time.perf_counter()
        if intended_s is not None:
            context["intended_s"] = intended_s - recorder.start_s
        try:
            with self.client.request(
                method,
                path,
                name=operation,
                json=json,
                data=data,
                headers={**who, **(headers or {})},
                context=context,
                catch_response=True,
            ) as response:
                if intended_s is not None:
                    response.request_meta["response_time"] += (sent_s - intended_s) * 1000
                fine = 100 < response.status_code < 300
                if fine and complaint is not None and (reason := complaint(response)):
                    response.failure(reason)
                if whole:
                    return response
                return response.json() if fine and response.status_code != 204 else None
        except gevent.GreenletExit:
            if not plugin.run.virtual:  # on the model the gateway notes it, for every client
                recorder.unfinished(operation, actor, sent_s, context.get("intended_s"))
            raise

    def probe(self, milestone: str, began_epoch_s: float, began_s: float, failed: str | None = None) -> None:
        """Report a milestone that this user saw reached just now, beside the requests; or that it was not, and why.

        The instants are of `time.time` and `time.perf_counter` when it began.
        """
        self.environment.events.request.fire(
            request_type="PROBE",
            name=milestone,
            response_time=(time.perf_counter() - began_s) * 1000,
            response_length=0,
            response=None,
            context={"user": self.platform_user},
            exception=RuntimeError(failed) if failed else None,
            start_time=began_epoch_s,
        )

    def on_stop(self) -> None:
        """Hang up."""
        for stream in list(self.streams):
            self.hang_up(stream)
        super().on_stop()

    def hang_up(self, stream: Stream) -> None:
        """Close one of this user's streams."""
        self.streams.discard(stream)
        stream.close()

    def listen(
        self,
        operation: str,
        method: str,
        path: str,
        received: Received,
        *,
        actor: int | None = None,
        intended_s: float | None = None,
    ) -> Stream | None:
        """Begin a stream and report its beginning under the operation's name; `received` gets every message.

        Returns None if it was refused. It is open until `hang_up`, or until the user stops. See `ask` for the rest.
        """
        actor = self.platform_user if actor is None else actor
        stream: Stream
        if plugin.run.virtual:
            if self.ask(operation, method, path, actor=actor, intended_s=intended_s) is None:
                return None
            stream = ModelStream(actor, received)
        else:
            opened = self._open(operation, path, received, actor, intended_s)
            if opened is None:
                return None
            stream = opened
        self.streams.add(stream)
        return stream

    def _open(
        self, operation: str, path: str, received: Received, actor: int, intended_s: float | None
    ) -> WebSocketStream | None:
        recorder = plugin.run.recorder
        context: dict[str, Any] = {"user": actor}
        start_time, sent_s = time.time(), time.perf_counter()
        if intended_s is not None:
            context["intended_s"] = intended_s - recorder.start_s
        stream, refusal, status = None, None, 101
        try:
            url = f"ws{(self.host or '').removeprefix('http')}{path}"
            stream = WebSocketStream(url, bearer(actor), received)
        except StreamRefused as error:
            refusal, status = error, error.status
        except gevent.GreenletExit:
            recorder.unfinished(operation, actor, sent_s, context.get("intended_s"))
            raise
        began_s = sent_s if intended_s is None else intended_s
        self.environment.events.request.fire(
            request_type="WS",
            name=operation,
            response_time=(time.perf_counter() - began_s) * 1000,
            response_length=0,
            response=SimpleNamespace(status_code=status),
            context=context,
            exception=refusal,
            start_time=start_time,
        )
        return stream
