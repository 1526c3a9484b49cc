"""The clock that a caller outside the model can drive: SimPy's environment with one more method."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import simpy


class Clock(simpy.Environment):
    """A SimPy environment that somebody else's event loop moves forward, one happening at a time.

    `simpy.Environment.run` wants to own the loop. A load generator in virtual time has timers of its own between the
    model's events, so it needs to say "go on, but not beyond my next timer".
    """

    engine_name: ClassVar[Literal["compiled", "plain"]] = "plain"

    def advance(self, limit_s: float) -> bool:
        """Process the model's next event if it lies at or before `limit_s`.

        `limit_s` is an instant of this clock in seconds, not before `now`. Returns True when an event was processed
        (the clock then stands at that event), and False when there is none: the clock then stands at `limit_s`. An
        infinite limit never moves the clock by itself. An exception of the event's callbacks is passed on.
        """
        next_s = self.peek()  # infinite when nothing is scheduled
        if next_s <= limit_s and next_s < math.inf:
            self.step()
            return True
        if self._now < limit_s < math.inf:
            self._now = limit_s
        return False
