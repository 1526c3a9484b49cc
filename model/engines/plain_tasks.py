"""Tasks of the plain engine: what one carries along, its parent's wait for it, and events ordered by their content."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import simpy

if TYPE_CHECKING:
    from model.engines.plain_attempts import Breaker
    from model.engines.plain_caches import Lease
    from model.engines.plain_hosts import Process
    from model.engines.plain_stations import Queueing, Sharing, Visit
    from model.engines.plain_topics import Partition, Record, Topic

Life = Generator[simpy.Event, None, None]
Waiting = Generator[simpy.Event, None, int]


class Keyed(simpy.Event):
    """An event at a set time whose place among simultaneous ones is its key."""

    def __init__(
        self, env: simpy.Environment, delay_s: float, key: int, callback: Callable[[Any], None] | None = None
    ) -> None:
        super().__init__(env)
        self._ok, self._value = True, None
        if callback is not None:
            self.callbacks.append(callback)
        env.schedule(self, priority=key, delay=delay_s)  # type: ignore[arg-type]  # SimPy compares priorities, it needs no enum


class Join:
    """A parent that waits for its children."""

    __slots__ = ("any", "parent", "pending")

    def __init__(self, parent: Task | None, pending: int, any_one: bool) -> None:
        self.parent, self.pending, self.any = parent, pending, any_one

    def withdraw(self, task: Task) -> None:
        """The parent waits no more; its children go on."""
        task.place = self.parent = None


class Task:
    """A request, a child or a batch on its way through the rows."""

    __slots__ = (
        "attempt",
        "attributes",
        "breaker",
        "breaker_epoch",
        "events",
        "failure",
        "held",
        "join",
        "keys",
        "late",
        "lease",
        "lost",
        "member",
        "ordinal",
        "origin",
        "path",
        "pause_s",
        "place",
        "priority_class",
        "process",
        "record",
        "row",
        "spawned",
        "topic",
        "try_epoch",
        "try_held",
        "try_row",
        "turn",
        "visit",
        "weight",
    )  # fmt: skip

    def __init__(self, origin: int, path: int, row: int, attributes: Sequence[float], priority_class: int) -> None:
        self.origin, self.path, self.row, self.attributes, self.priority_class = (
            origin,
            path,
            row,
            attributes,
            priority_class,
        )
        self.ordinal = self.spawned = self.attempt = self.try_epoch = self.failure = 0
        self.try_row = -1
        self.try_held = 0
        self.held: list[tuple[Queueing, Visit]] = []  # servers; the last one is released first
        self.events = self.keys = 0
        self.weight = 1.0
        self.member = -1
        self.topic: Topic | None = None
        self.join: Join | None = None
        self.visit: Visit | None = None
        self.record: Record | None = None
        self.lease: Lease | None = None
        self.lost = False
        self.breaker: Breaker | None = None
        self.breaker_epoch = self.late = 0  # late: the child's place among its siblings
        self.pause_s = 0.0
        self.place: Queueing | Sharing | Process | Partition | Join | Lease | None = None
        self.process: simpy.Process
        self.turn: simpy.Event
