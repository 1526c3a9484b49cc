"""A gevent loop in which time is the model's clock.

gevent's hub calls `loop.run()` and nothing else; `sleep`, `Timeout`, `spawn_later`, `Event.wait` and `Group.join` use only
`loop.timer()` and `loop.run_callback()`. So a second hub with a loop of our own puts all of Locust into virtual time:
timers and callbacks live here, between the model's events, while sockets and signals (the web interface, Ctrl-C) stay
with the real loop, which is polled now and then.

Order, which makes a run reproducible: callbacks in the order they were asked for; then the model's events; then timers
by (time, order of starting). At the same instant the model goes before the timers.
"""

from __future__ import annotations

import heapq
import math
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

_wall_s = time.perf_counter  # bound before any clock is replaced

POLL_EVERY_TURNS = 512  # turns of the loop between two looks at the wall clock
POLL_EVERY_WALL_S = 0.02  # real sockets and signals are looked at this often while virtual time runs freely
IDLE_NAP_S = 0.1  # at real-time pace: the longest sleep before looking at the model again
TIMER_TURN = 10_000  # callbacks run in one go before a timer that is due gets its turn


class AdvancingClock(Protocol):
    """What the loop needs of the model's environment; see `model.engines.clock.Clock`."""

    @property
    def now(self) -> float:
        """The present instant, seconds."""

    def advance(self, limit_s: float) -> bool:
        """The next event at or before `limit_s`, or the clock to `limit_s`."""


class VirtualTimeError(RuntimeError):
    """Virtual time cannot go on: it stands still, or the model failed."""


class Callback:
    """A call due in this turn of the loop; the interface that gevent expects of `loop.run_callback`."""

    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.callback: Callable[..., Any] | None = callback
        self.args: tuple[Any, ...] | None = args

    def stop(self) -> None:
        """Do not call it any more."""
        self.callback = None
        self.args = None

    close = stop

    def __bool__(self) -> bool:
        return self.args is not None

    @property
    def pending(self) -> bool:
        """Whether the call is still to come."""
        return self.callback is not None


class Timer:
    """A virtual timer with the interface of a gevent timer watcher; times in seconds."""

    __slots__ = ("_entry", "after", "args", "callback", "loop", "ref", "repeat")

    def __init__(self, loop: VirtualLoop, after: float, repeat: float, ref: bool) -> None:
        self.loop = loop
        self.after = max(after, 0.0)
        self.repeat = repeat
        self.ref = ref
        self.callback: Callable[..., Any] | None = None
        self.args: tuple[Any, ...] = ()
        self._entry: list[Any] | None = None

    def start(self, callback: Callable[..., Any], *args: Any, **_options: Any) -> None:
        """Run `callback(*args)` once `after` seconds from now. gevent's option `update` has no meaning here."""
        if self._entry is not None:
            self.stop()
        self.callback = callback
        self.args = args
        self._entry = self.loop._add(self)

    def again(self, callback: Callable[..., Any], *args: Any, **_options: Any) -> None:
        """Start once more, with the period if there is one."""
        self.after = self.repeat or self.after
        self.start(callback, *args)

    def stop(self) -> None:
        """Do not call it any more."""
        if self._entry is not None:
            self._entry[2] = None  # left in the heap, skipped when its turn comes
            self._entry = None
            self.loop._discarded()
        self.callback = None
        self.args = ()

    close = stop

    @property
    def active(self) -> bool:
        """Whether the timer is running."""
        return self._entry is not None

    @property
    def pending(self) -> bool:
        """Whether the call is still to come."""
        return False

    def __enter__(self) -> Timer:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()


class VirtualLoop:
    """The loop of the second hub: `clock` gives the time, `real` is the first hub's loop.

    `free_running`: as fast as possible (a test is on) or at the pace of real time (the web interface waits for someone).
    `on_fatal`: called once with a `VirtualTimeError` when time stands still or the model raises; it should end the run.
    `stall_limit`: callbacks and timers at one instant that are taken for a task which neither waits nor takes time;
    `model_stall_limit`: the same for the model's own events, where large bursts at one instant are legitimate.
    """

    MAXPRI = MINPRI = 1
    default = True
    approx_timer_resolution = 0.0

    def __init__(
        self,
        clock: AdvancingClock,
        real: Any,
        *,
        free_running: bool = True,
        stall_limit: int = 200_000,
        model_stall_limit: int = 20_000_000,
    ) -> None:
        self.clock = clock
        self.real = real
        self.free_running = free_running
        self.stall_limit = stall_limit
        self.model_stall_limit = model_stall_limit
        self.error_handler: Any = None
        self.on_fatal: Callable[[VirtualTimeError], None] | None = None
        self.interrupt: Callable[[], None] | None = None
        self._timers: list[list[Any]] = []
        self._callbacks: deque[Callback] = deque()
        self._sequence = 0
        self._dead = 0
        self._stopping = False
        self._anchor: tuple[float, float] | None = None  # (wall, virtual) at the start of a stretch in real time

    # What gevent asks of a loop ---------------------------------------------------------------------------------------

    def now(self) -> float:
        """The present instant, seconds."""
        return self.clock.now

    def update_now(self) -> None:
        """Virtual time is always up to date."""

    update = update_now

    def timer(self, after: float, repeat: float = 0.0, ref: bool = True, priority: int | None = None) -> Timer:
        """A virtual timer, not yet started."""
        return Timer(self, after, repeat, ref)

    def run_callback(self, func: Callable[..., Any], *args: Any) -> Callback:
        """Call `func(*args)` in this turn of the loop."""
        callback = Callback(func, args)
        self._callbacks.append(callback)
        return callback

    def run_callback_threadsafe(self, func: Callable[..., Any], *args: Any) -> Callback:
        """The same from another thread."""
        callback = self.run_callback(func, *args)
        self.real.run_callback_threadsafe(lambda: None)  # wakes the real loop if it is asleep
        return callback

    def handle_error(self, context: Any, kind: Any, value: Any, trace: Any) -> None:
        """Hand an exception to the hub, as gevent's own loops do."""
        if self.error_handler is not None:
            self.error_handler.handle_error(context, kind, value, trace)
        else:
            traceback.print_exception(kind, value, trace)

    def break_(self, how: Any = None) -> None:
        """Leave `run` after this turn."""
        self._stopping = True

    def destroy(self) -> bool:
        """Nothing of its own to give back."""
        return True

    def debug(self) -> list[str]:
        """State in words."""
        return [f"virtual time {self.clock.now} s, {len(self._timers)} timers, {len(self._callbacks)} callbacks"]

    def __getattr__(self, name: str) -> Any:
        """Everything about real things (`io`, `signal`, `async_`, `child`, …) belongs to the real loop."""
        return getattr(self.real, name)

    # Timers -----------------------------------------------------------------------------------------------------------

    def _add(self, timer: Timer) -> list[Any]:
        self._sequence += 1
        entry = [self.clock.now + timer.after, self._sequence, timer]
        heapq.heappush(self._timers, entry)
        return entry

    def _discarded(self) -> None:
        """Count a stopped timer; clear the heap out when stopped ones (request timeouts, mostly) prevail in it."""
        self._dead += 1
        if self._dead > 10_000 and self._dead * 2 > len(self._timers):
            self._timers[:] = [entry for entry in self._timers if entry[2] is not None]
            heapq.heapify(self._timers)
            self._dead = 0

    def _next_timer_s(self) -> float:
        timers = self._timers
        while timers and timers[0][2] is None:
            heapq.heappop(timers)
            self._dead -= 1
        return timers[0][0] if timers else math.inf

    def _fire_timer(self) -> None:
        timer: Timer = heapq.heappop(self._timers)[2]
        timer._entry = None
        callback, args = timer.callback, timer.args
        if timer.repeat:
            timer.after = timer.repeat
            timer._entry = self._add(timer)
        if callback is not None:
            self._call(timer, callback, args)

    # The loop ---------------------------------------------------------------------------------------------------------

    def _call(self, context: Any, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            callback(*args)
        except BaseException:
            self.handle_error(context, *sys.exc_info())

    def _run_callbacks(self) -> int:
        """Run what is runnable now, first in first out, at most `TIMER_TURN` of them; returns how many."""
        callbacks = self._callbacks
        count = 0
        while callbacks and count < TIMER_TURN:
            count += 1
            callback = callbacks.popleft()
            function, args = callback.callback, callback.args
            if function is None:
                continue
            callback.callback = None
            self._call(callback, function, args or ())
            callback.args = None
        return count

    def _advance(self, limit_s: float) -> bool:
        try:
            return self.clock.advance(limit_s)
        except Exception as error:
            trace = "".join(traceback.format_exception(error))
            self._fatal(f"the model failed at virtual time {self.clock.now:.6f} s: {error!r}\n{trace}")
            return True

    def _fatal(self, message: str) -> None:
        error = VirtualTimeError(message)
        if self.on_fatal is None:
            raise error
        self.on_fatal(error)

    def _poll(self) -> None:
        self.real.run(nowait=True)
        if self.interrupt is not None:
            interrupt, self.interrupt = self.interrupt, None
            interrupt()

    def run(self, nowait: bool = False, once: bool = False) -> None:
        """Run until nothing virtual and nothing real is left (gevent then raises `LoopExit` where it waits)."""
        self._stopping = False
        turns = stalled = model_stalled = 0
        instant = -math.inf
        last_poll = _wall_s()
        while not self._stopping:
            stalled += self._run_callbacks()
            turns += 1
            if turns >= POLL_EVERY_TURNS or self.interrupt is not None:
                turns = 0
                if self.interrupt is not None or _wall_s() - last_poll > POLL_EVERY_WALL_S:
                    last_poll = _wall_s()
                    self._poll()
            due_s = self._next_timer_s()
            if self._callbacks:
                if due_s <= self.clock.now:  # a chain of callbacks without end must not keep timers from their turn
                    self._fire_timer()
            elif not self.free_running:
                self._pace(due_s)
            elif self._advance(due_s):
                model_stalled += 1
            elif due_s < math.inf:
                stalled += 1
                self._fire_timer()
            elif not self._wait_for_real():
                return
            if self.clock.now > instant:
                instant = self.clock.now
                stalled = model_stalled = 0
            elif stalled > self.stall_limit or model_stalled > self.model_stall_limit:
                stalled = model_stalled = 0
                self._fatal(
                    f"virtual time stands still at {instant:.6f} s: a task without any latency or waiting time "
                    "(give its user a wait_time), or a model process that never yields a delay"
                )
            if once or nowait:
                return

    def _wait_for_real(self) -> bool:
        """Nothing virtual is left: sleep in the real loop; False when that has nothing to wait for either."""
        if self.real.activecnt <= 0:
            return False
        self.real.run(once=True)
        return bool(self._callbacks or self._timers) or self.real.activecnt > 0

    def _pace(self, due_s: float) -> None:
        """One turn at the pace of real time: advance to the wall's instant, fire what is due, else sleep a little."""
        if self._anchor is None:
            self._anchor = (_wall_s(), self.clock.now)
        wall_now_s = max(self.clock.now, self._anchor[1] + _wall_s() - self._anchor[0])
        if self._advance(min(due_s, wall_now_s)):
            return
        if due_s <= wall_now_s:
            self._fire_timer()
            return
        nap = self.real.timer(min(due_s - wall_now_s, IDLE_NAP_S))
        nap.start(lambda: None)
        try:
            self.real.run(once=True)
        finally:
            nap.stop()
            nap.close()
        if self.interrupt is not None:
            self._poll()

    def run_freely(self, free: bool) -> None:
        """Switch between as fast as possible (True) and the pace of real time (False)."""
        self.free_running = free
        self._anchor = None
