"""Retry budgets, circuit breakers and pauses of the compiled engine; see `plain_attempts.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.engines.compiled_lists import NONE
from model.engines.compiled_tables import breakers, budgets, recent, steps
from model.engines.compiled_tasks import drawn
from model.kernel_cache import part
from model.tables import DECORRELATED_JITTER, EQUAL_JITTER, JITTER_DRAW, NO_JITTER
from model.variates import bits_at, key_of, unit


@part
def begin_attempt(sim: Any, task: Any, step: Any) -> bool:
    """An attempt begins, or is refused."""
    if step.budget >= 0 and task.attempt == 0:
        budget = budgets(sim, step.budget)
        budget.tokens = min(budget.burst, budget.tokens + budget.ratio)
    if step.breaker < 0:
        return True
    breaker = breakers(sim, step.breaker)
    if breaker.is_open:
        if breaker.probing or sim.now < breaker.open_until_s:
            return False
        breaker.probing = 1
        breaker.epoch += 1
    task.breaker, task.breaker_epoch = step.breaker, breaker.epoch
    return True


@part
def end_attempt(sim: Any, task: Any, failed: bool) -> None:
    """It has ended."""
    if task.breaker < 0:
        return
    breaker = breakers(sim, task.breaker)
    task.breaker = NONE
    if breaker.epoch != task.breaker_epoch:
        return
    if breaker.is_open:
        turn(sim, breaker, failed)
        return
    if breaker.count == breaker.window:
        breaker.failed -= recent(sim)[breaker.first + breaker.next]
    else:
        breaker.count += 1
    recent(sim)[breaker.first + breaker.next] = np.int64(failed)
    breaker.failed += failed
    breaker.next = breaker.next + 1 if breaker.next + 1 < breaker.window else 0
    if breaker.count == breaker.window and breaker.failed >= breaker.failures:
        turn(sim, breaker, True)


@part
def turn(sim: Any, breaker: Any, is_open: bool) -> None:
    """The breaker opens or closes."""
    breaker.is_open = is_open
    breaker.probing = breaker.count = breaker.failed = breaker.next = 0
    breaker.epoch += 1
    breaker.open_until_s = sim.now + breaker.pause_s


@part
def kill_attempt(sim: Any, task: Any) -> None:
    """The task dies: its attempt will never end."""
    if task.breaker >= 0:
        breaker = breakers(sim, task.breaker)
        if breaker.epoch == task.breaker_epoch:
            breaker.probing = 0


@part
def again(sim: Any, task: Any, step: Any) -> bool:
    """May the task, whose attempt is the number of the next one, try again?"""
    if task.attempt >= step.count:
        return False
    if step.budget < 0:
        return True
    budget = budgets(sim, step.budget)
    if budget.tokens < 1.0:
        return False
    budget.tokens -= 1.0
    return True


@part
def pause(sim: Any, task: Any) -> float:
    """How long it waits before that."""
    step = steps(sim, task.try_row)
    wait_s = drawn(sim, step.distribution, bits_at(step.stream, task.place_bits))
    u = 1.0
    if step.jitter != NO_JITTER:
        u = unit(key_of(step.stream, np.uint64(task.origin), task.path, np.uint64(task.attempt + JITTER_DRAW)))
    if step.jitter == DECORRELATED_JITTER:
        before_s = task.pause_s if task.attempt > 1 else wait_s
        task.pause_s = min(step.most_s, wait_s + (3.0 * before_s - wait_s) * u)
        return float(task.pause_s)
    for _ in range(task.attempt - 1):
        wait_s *= step.growth
    wait_s = min(step.most_s, wait_s)
    if step.jitter == EQUAL_JITTER:
        return float(0.5 * wait_s + 0.5 * wait_s * u)
    return float(wait_s * u)
