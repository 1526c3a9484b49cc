"""What no handler sees: clients that are slow, or send more than any request of ours has. And the headers of every answer.

uvicorn waits for ever for a request's end and keeps any number of its headers; servers that stand on the open internet have a proxy
before them that does not. This is as much of one as it takes to be safe without.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from reference_impl.settings import Settings
from reference_impl.web import error_response

cut_off_total = Counter("flashcrowd_connections_cut_off", "Connections ended by the server", ["why"])

MAX_HEADER_BYTES = 32 * 1024
"""Of the request line and all headers."""
MAX_REQUEST_BYTES = 4 * 2**20
"""Of anything that comes before the request's end, whether a handler reads it or not."""

SECURITY_HEADERS = [
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
    ("referrer-policy", "no-referrer"),
]
"""Of every answer. Strict-Transport-Security is for whoever ends TLS before us to add."""
PRIVATE = ("cache-control", "no-store")
"""Of every answer of the API: each is for one user."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits. A request that comes in one piece, as nearly all do, costs no timer.

    It also notes when the event loop gave it a request's first bytes: from then to the handler is the span ``accept``.
    """

    within_s: float

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._received_bytes = self._received_ns = 0
        self._in_headers = True
        self._between_requests = True
        self._deadline: asyncio.TimerHandle | None = None
        self._upgraded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.within_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, then see whether the request is whole, or too large."""
        self._received_bytes += len(data)
        self._received_ns = time.time_ns()
        super().data_received(data)
        if self._upgraded or self.transport.is_closing():
            return
        if self._between_requests:
            self._wait_no_more()
        elif self._in_headers and self._received_bytes > MAX_HEADER_BYTES:
            self._refuse(431, "headers")
        elif self._received_bytes > MAX_REQUEST_BYTES:
            self._refuse(413, "size")
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.within_s, self._too_slow)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the WebSocket's protocol, which has limits of its own."""
        self._upgraded = True
        self._wait_no_more()
        super().handle_websocket_upgrade()

    def on_message_begin(self) -> None:
        """A request begins."""
        self._in_headers, self._between_requests = True, False
        super().on_message_begin()
        self.scope["received_ns"] = self._received_ns  # type: ignore[typeddict-unknown-key]  # ours

    def on_headers_complete(self) -> None:
        """Its headers are there; they may have come in one piece with the body."""
        self._in_headers = False
        if self._received_bytes > MAX_HEADER_BYTES:
            headers_bytes = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            if headers_bytes > MAX_HEADER_BYTES:
                self._in_headers = True
                raise ValueError("headers too large")  # the parser hands it to send_400_response
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """It is whole."""
        self._between_requests, self._received_bytes = True, 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What the parser cannot read."""
        if self._in_headers and self._received_bytes > MAX_HEADER_BYTES:
            self._refuse(431, "headers")
        else:
            self._refuse(400, "malformed")

    def _wait_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        self._refuse(408, "slow")

    def _refuse(self, status: int, why: str) -> None:
        """End the connection; with an answer, unless the handler has begun to give one."""
        if self.transport.is_closing():
            return
        cut_off_total.labels(why).inc()
        if self._may_answer():
            answer = error_response(status, _MESSAGES[status], {"connection": "close"})
            lines = [name + b": " + value for name, value in (*self.server_state.default_headers, *answer.raw_headers)]
            self.transport.write(STATUS_LINE[status] + b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body))
        self.transport.close()


    def _may_answer(self) -> bool:
        """Whether an answer is what the client expects next: no handler has begun one, and none works on the request before."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        return not cycle.response_started and not self._in_headers


_MESSAGES = {
    400: "this is not HTTP/1.1 as it should be",
    408: "the request took too long to come",
    413: f"a request has {MAX_REQUEST_BYTES} bytes at most",
    431: f"the request line and the headers have {MAX_HEADER_BYTES} bytes at most",
}


def serving(settings: Settings, *, private: bool) -> dict[str, Any]:
    """Options of ``uvicorn.run`` for what clients can reach: the guard, and the headers of every answer."""
    return {
        "http": type("Guarded", (GuardedProtocol,), {"within_s": settings.request_within_s}),
        "headers": [*SECURITY_HEADERS, *([PRIVATE] if private else [])],
        "access_log": False,
        "log_config": None,
        "server_header": False,
        "proxy_headers": False,  # X-Forwarded-For would be believed, and nothing here asks for addresses
    }
