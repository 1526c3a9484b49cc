"""An open generator: sends each request at its intended instant, whatever became of the earlier ones.

A process of its own, on a core of its own: one thread, epoll, keep-alive connections. It sleeps until shortly before a send, by
select(2) on the epoll, which counts microseconds where epoll counts milliseconds; sends are as late as when it spins for two
milliseconds (0.35 to 0.6 % by more than 2 ms, tried in turn), and its core is free meanwhile. Latency counts from the intended instant.

    python -m loadtest.open_generator PLAN OUT      PLAN and OUT are .npz files, see `Plan`
"""

from __future__ import annotations

import gc
import select
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

CONNECTIONS, MOST_CONNECTIONS = 256, 4000
"""Opened before the start, and used in turn, as a proxy's: none is idle for so long that a server closes it, and none has to be opened
when many requests are under way (a request that opens one then takes nearly twice as long, tried). And at most: what a system at 130 %
of its capacity leaves waiting in 15 s, and more. Beyond, sends are late, which is counted."""
SPIN_S = 0.0002
"""No sleep in so much time before a send: to wake takes about as long."""
START_AFTER_S = 0.1
OPEN_WITHIN_S = 5.0
"""The first connections; with one that takes longer it begins all the same."""


@dataclass(frozen=True)
class Plan:
    """What to send: `messages[i]` (whole HTTP/1.1 requests) at `at_s[i]`; answers are awaited for `grace_s` after the last."""

    host: str
    port: int
    at_s: np.ndarray
    messages: list[bytes]
    grace_s: float

    def write(self, path: Path) -> None:
        """As an .npz file."""
        ends = np.cumsum([len(message) for message in self.messages])
        np.savez(
            path, host=self.host, port=self.port, at_s=self.at_s, ends=ends, grace_s=self.grace_s,
            text=np.frombuffer(b"".join(self.messages), "u1"),
        )  # fmt: skip

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The opposite of `write`."""
        with np.load(path) as file:
            text, ends = file["text"].tobytes(), file["ends"].tolist()
            messages = [text[a:b] for a, b in zip([0, *ends[:-1]], ends, strict=True)]
            return cls(str(file["host"]), int(file["port"]), file["at_s"], messages, float(file["grace_s"]))


class Connection:
    """A keep-alive connection with at most one request under way.

    Nothing waits until it is open: a system whose queue of new connections is full answers a second later, and meanwhile the others go on.
    """

    def __init__(self, address: tuple[str, int], poller: select.epoll) -> None:
        self.socket, self.poller = socket.socket(), poller
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.socket.connect_ex(address)  # the poller tells how that ended
        poller.register(self.socket.fileno(), select.EPOLLIN | select.EPOLLOUT)
        self.request = -1
        self.answered = 0
        self.answer = self.unsent = b""

    def ask(self, request: int, message: bytes) -> None:
        """Send a request, at once or as soon as the connection is open."""
        self.request, self.answer, self.unsent = request, b"", b""
        try:
            self.socket.send(message)
        except BlockingIOError:
            self.unsent = message
        except OSError:
            pass  # the poller tells of it

    def opened(self) -> None:
        """It takes requests from now on, or has failed."""
        self.poller.modify(self.socket.fileno(), select.EPOLLIN)
        if self.unsent:
            self.ask(self.request, self.unsent)

    def finished(self) -> int:
        """Read what has come: the answer's status once it is whole, 0 before, -1 if the connection has ended."""
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return 0
        except OSError:
            return -1
        if not data:
            return -1
        self.answer += data
        head = self.answer.find(b"\r\n\r\n")
        if head < 0:
            return 0
        status = int(self.answer[9:12])
        at = self.answer[:head].lower().find(b"content-length:")
        length = int(self.answer[at + 15 :].split(b"\r", 1)[0]) if at >= 0 else 0
        return status if len(self.answer) >= head + 4 + length else 0


def run(plan: Plan) -> dict[str, np.ndarray]:
    """Send everything; return `sent_s`, `finished_s` (NaN: never), `status` (0: none) and `start_epoch_s`."""
    at_s, messages, clock = plan.at_s.tolist(), plan.messages, time.perf_counter
    count = len(at_s)
    sent_s, finished_s, status = [float("nan")] * count, [float("nan")] * count, [0] * count
    poller, by_file = select.epoll(), {}
    address = (socket.gethostbyname(plan.host), plan.port)

    def connect() -> Connection:
        connection = Connection(address, poller)
        by_file[connection.socket.fileno()] = connection
        return connection

    idle = deque(connect() for _ in range(CONNECTIONS))
    opening, give_up_s = set(by_file), clock() + OPEN_WITHIN_S
    while opening and clock() < give_up_s:
        for file, _ in poller.poll(0.1):
            by_file[file].opened()
            opening.discard(file)
    gc.disable()
    start_s = clock() + START_AFTER_S
    start_epoch_s = time.time() + START_AFTER_S
    following, under_way = 0, 0
    deadline_s = (at_s[-1] if at_s else 0.0) + plan.grace_s
    while following < count or under_way:
        now_s = clock() - start_s
        while following < count and at_s[following] <= now_s and (idle or len(by_file) < MOST_CONNECTIONS):
            connection = idle.popleft() if idle else connect()
            sent_s[following] = clock() - start_s
            under_way += 1
            connection.ask(following, messages[following])
            following += 1
        due_s = at_s[following] - (clock() - start_s) if following < count else 0.01
        if due_s > SPIN_S:
            select.select([poller], [], [], due_s - SPIN_S)
        for file, events in poller.poll(0):
            connection = by_file[file]
            if events & select.EPOLLOUT:
                connection.opened()
            outcome = connection.finished()
            if outcome == 0:
                continue
            if connection.request < 0:
                outcome = -1  # who was not asked has no answer: the server says why it closes the connection
            if outcome < 0 and connection.request >= 0 and connection.answered and not connection.answer:
                # the server had closed it as idle, and has not seen the request
                connect().ask(connection.request, messages[connection.request])
                connection.request = -1
            if connection.request >= 0:
                finished_s[connection.request] = clock() - start_s
                status[connection.request] = max(outcome, 0)
                connection.request = -1
                under_way -= 1
            if outcome > 0:
                connection.answered += 1
                idle.append(connection)
            else:
                poller.unregister(file)
                del by_file[file]
                connection.socket.close()
                with suppress(ValueError):
                    idle.remove(connection)
        if clock() - start_s > deadline_s:
            break
    for connection in by_file.values():
        connection.socket.close()
    return {
        "sent_s": np.array(sent_s),
        "finished_s": np.array(finished_s),
        "status": np.array(status, "i4"),
        "start_epoch_s": np.array(start_epoch_s),
    }


def main() -> int:
    """Run the plan that the command line names."""
    found: dict[str, Any] = run(Plan.read(Path(sys.argv[1])))
    np.savez(sys.argv[2], **found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
