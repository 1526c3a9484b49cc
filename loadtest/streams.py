"""WebSockets of the load test's users: real ones on the reference, the model's listeners in virtual time.

On the reference a greenlet reads each stream and acknowledges what comes, as a device does.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any, Protocol

import gevent

from loadtest import clients

Received = Callable[[dict[str, Any]], None]
CONNECT_WITHIN_S = 30.0


class Stream(Protocol):
    """A stream that is open."""

    def close(self) -> None:
        """Hang up. A second time does nothing."""


class StreamRefused(Exception):
    """The server did not accept the stream; `status` is its answer in HTTP, 0 if there was none."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class WebSocketStream:
    """A stream of the reference."""

    def __init__(self, url: str, headers: dict[str, str], received: Received) -> None:
        """Connect, and wait for the server to be ready. Raises `StreamRefused`."""
        import websocket  # here, since Locust has to patch sockets before it is loaded

        self._closed = (OSError, websocket.WebSocketException)
        self._received = received
        try:
            self._socket = websocket.create_connection(url, header=headers, timeout=CONNECT_WITHIN_S)
            ready = json.loads(self._socket.recv())
        except websocket.WebSocketBadStatusException as refusal:
            raise StreamRefused(refusal.status_code, str(refusal)) from None
        except (*self._closed, ValueError) as error:
            raise StreamRefused(0, repr(error)) from None
        if ready != {"type": "ready"}:
            raise StreamRefused(0, f"the stream begins with {ready}")
        self._socket.settimeout(None)
        self._reader = gevent.spawn(self._read)

    def _read(self) -> None:
        try:
            while text := self._socket.recv():
                message = json.loads(text)
                self._received(message)
                self._socket.send(json.dumps({"ack": [message["id"]]}))
        except self._closed:  # the server has hung up; the user notices by hearing nothing, as people do
            return

    def close(self) -> None:
        """Hang up."""
        self._reader.kill()
        with contextlib.suppress(*self._closed):  # the server may have been first
            self._socket.send_close()
        self._socket.shutdown()


class ModelStream:
    """A stream of the model: no greenlet, a call at the instant of each message."""

    def __init__(self, user: int, received: Received) -> None:
        self._stop = clients.gateway().listen(user, received)

    def close(self) -> None:
        """Hang up."""
        self._stop()
