"""What the live platform and its rooms say to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Outcome:
    """What the client gets. `status`: ok, rejected, timed_out, not_found or invalid; `body` is empty unless ok."""

    status: str
    body: dict[str, Any]


@dataclass
class Asked:
    """A request under way: what was asked, who wants the answer, and what its room keeps until a milestone is reached."""

    operation: str
    user: int
    arguments: dict[str, Any]
    done: Callable[[Outcome], None] | None
    request: int = -1
    kept: dict[str, Any] = field(default_factory=dict)


class Room(Protocol):
    """One room of the live platform."""

    @property
    def goes_on(self) -> frozenset[str]:
        """Operations that reach milestones after their answer."""

    def attributes(self, asked: Asked) -> dict[str, float]:
        """What the request's route reads, as things are when it comes."""

    def answer(self, asked: Asked, now_s: float) -> Outcome:
        """The answer, as things are when it goes out."""

    def marked(self, milestone: str, asked: Asked, ordinal: int, now_s: float) -> None:
        """A milestone of the request is reached, by its child number `ordinal`."""
