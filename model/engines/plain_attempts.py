"""What keeps attempts from doing harm, in the plain engine: pauses with jitter, retry budgets, circuit breakers."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from model import tables as t
from model.engines.plain_stations import Rejected
from model.variates import uniform

if TYPE_CHECKING:
    import numpy as np

    from model.engines.plain import Plain
    from model.engines.plain_tasks import Task


class Refused(Rejected):
    """A circuit breaker is open: the try is over."""


class Budget:
    """Tokens for further attempts."""

    def __init__(self, row: np.void) -> None:
        self.ratio, self.burst = float(row["ratio"]), float(row["burst"])
        self.tokens = self.burst

    def earn(self) -> None:
        """A first attempt is made."""
        self.tokens = min(self.burst, self.tokens + self.ratio)

    def spend(self) -> bool:
        """May a further attempt be made?"""
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Breaker:
    """Closed, open, or half open: then one attempt is under way, and decides."""

    def __init__(self, row: np.void) -> None:
        self.window, self.failures, self.pause_s = int(row["window"]), int(row["failures"]), float(row["pause_s"])
        self.recent: deque[bool] = deque()
        self.is_open = self.probing = False
        self.open_until_s, self.epoch = 0.0, 0

    def admit(self, now_s: float) -> bool:
        """May an attempt begin? If so its outcome is awaited, in the present epoch."""
        if not self.is_open:
            return True
        if self.probing or now_s < self.open_until_s:
            return False
        self.probing = True
        self.epoch += 1
        return True

    def ended(self, epoch: int, failed: bool, now_s: float) -> None:
        """An attempt that began in an epoch has ended."""
        if epoch != self.epoch:
            return
        if self.is_open:
            self._turn(failed, now_s)
            return
        self.recent.append(failed)
        if len(self.recent) > self.window:
            self.recent.popleft()
        if len(self.recent) == self.window and sum(self.recent) >= self.failures:
            self._turn(True, now_s)

    def _turn(self, is_open: bool, now_s: float) -> None:
        self.is_open, self.probing = is_open, False
        self.epoch += 1
        self.recent.clear()
        self.open_until_s = now_s + self.pause_s

    def killed(self, epoch: int) -> None:
        """An attempt will never end; if all waited for it, another one may be let through."""
        if epoch == self.epoch:
            self.probing = False


class Attempts:
    """All budgets and breakers of an engine."""

    def __init__(self, engine: Plain) -> None:
        self.engine, self.env = engine, engine.env
        self.budgets = [Budget(row) for row in engine.tables.budgets]
        self.breakers = [Breaker(row) for row in engine.tables.breakers]

    def begin(self, task: Task, step: dict[str, Any]) -> None:
        """An attempt begins. Raises `Refused`."""
        if task.attempt == 0 and step["budget"] >= 0:
            self.budgets[step["budget"]].earn()
        if step["breaker"] >= 0:
            breaker = self.breakers[step["breaker"]]
            if not breaker.admit(self.env.now):
                raise Refused
            task.breaker, task.breaker_epoch = breaker, breaker.epoch

    def end(self, task: Task, failed: bool) -> None:
        """It has ended."""
        if task.breaker is not None:
            task.breaker.ended(task.breaker_epoch, failed, self.env.now)
            task.breaker = None

    def again(self, task: Task, step: dict[str, Any]) -> bool:
        """May the task, whose attempt is the number of the next one, try again?"""
        if task.attempt >= step["count"]:
            return False
        return bool(step["budget"] < 0) or self.budgets[step["budget"]].spend()

    def pause_s(self, task: Task, step: dict[str, Any]) -> float:
        """How long it waits before that."""
        place = (step["stream"], task.origin, task.path)
        wait_s = self.engine.sample(step["distribution"], *place, task.attempt)
        jitter, most_s = step["jitter"], step["most_s"]
        u = uniform(*place, task.attempt + t.JITTER_DRAW) if jitter != t.NO_JITTER else 1.0
        if jitter == t.DECORRELATED_JITTER:
            before_s = task.pause_s if task.attempt > 1 else wait_s
            task.pause_s = min(most_s, wait_s + (3.0 * before_s - wait_s) * u)
            return task.pause_s
        for _ in range(task.attempt - 1):
            wait_s *= step["growth"]
        wait_s = min(most_s, wait_s)
        if jitter == t.EQUAL_JITTER:
            return float(0.5 * wait_s + 0.5 * wait_s * u)
        return float(wait_s * u)
