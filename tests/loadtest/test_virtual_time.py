import math

import gevent
import pytest
import simpy

from loadtest.virtual_time import TIMER_TURN, VirtualLoop, VirtualTimeError
from model.engines.clock import Clock


class NothingReal:
    """In place of the real loop: no sockets, no signals."""

    activecnt = 0

    def run(self, nowait: bool = False, once: bool = False) -> None:
        pass


@pytest.fixture
def loop() -> VirtualLoop:
    return VirtualLoop(Clock(), NothingReal(), stall_limit=1000, model_stall_limit=1000)


def after(loop: VirtualLoop, delay_s: float, call, *args) -> object:
    timer = loop.timer(delay_s)
    timer.start(call, *args)
    return timer


def test_timers_fire_in_order_of_time_then_of_starting(loop):
    seen = []
    for delay_s, name in [(3.0, "c"), (1.0, "a"), (1.0, "b"), (0.5, "first")]:
        after(loop, delay_s, lambda name: seen.append((loop.now(), name)), name)
    loop.run()
    assert seen == [(0.5, "first"), (1.0, "a"), (1.0, "b"), (3.0, "c")]


def test_a_stopped_timer_does_not_fire_and_moves_no_time(loop):
    seen = []
    after(loop, 1.0, seen.append, "kept")
    after(loop, 5.0, seen.append, "stopped").stop()
    loop.run()
    assert seen == ["kept"]
    assert loop.now() == 1.0


def test_many_stopped_timers_are_cleared_away(loop):
    timers = [after(loop, 100.0 + i, lambda: None) for i in range(30_000)]
    for timer in timers[:-1]:
        timer.stop()
    assert len(loop._timers) < 15_000
    loop.run()
    assert loop.now() == 100.0 + 29_999


def test_callbacks_run_first_in_first_out_before_anything_timed(loop):
    seen = []
    after(loop, 0.0, seen.append, "timer")
    loop.run_callback(lambda: (seen.append("one"), loop.run_callback(seen.append, "three")))
    loop.run_callback(seen.append, "two")
    loop.run_callback(seen.append, "never").stop()
    loop.run()
    assert seen == ["one", "two", "three", "timer"]


def test_model_events_go_before_timers_of_the_same_instant(loop):
    seen = []
    after(loop, 2.0, seen.append, "timer")

    def process():
        yield loop.clock.timeout(2.0)
        seen.append("model")
        yield loop.clock.timeout(0.0)
        seen.append("model again")

    loop.clock.process(process())
    loop.run()
    assert seen == ["model", "model again", "timer"]


def test_a_repeating_timer_repeats(loop):
    seen = []
    timer = loop.timer(1.0, repeat=2.0)
    timer.start(lambda: (seen.append(loop.now()), len(seen) == 3 and timer.stop()))
    loop.run()
    assert seen == [1.0, 3.0, 5.0]


def test_endless_callbacks_are_an_error_and_timers_get_their_turn():
    loop = VirtualLoop(Clock(), NothingReal(), stall_limit=3 * TIMER_TURN)
    seen = []
    after(loop, 0.0, seen.append, "timer")

    def again():
        loop.run_callback(again)

    again()
    with pytest.raises(VirtualTimeError, match=r"stands still at 0\.0.*wait_time"):
        loop.run()
    assert seen == ["timer"]


def test_endless_model_events_at_one_instant_are_an_error(loop):
    def spinning():
        while True:
            yield loop.clock.timeout(0)

    loop.clock.process(spinning())
    with pytest.raises(VirtualTimeError, match="stands still"):
        loop.run()


def test_a_failing_model_is_reported_once_with_its_instant(loop):
    errors = []
    loop.on_fatal = errors.append

    def broken():
        yield loop.clock.timeout(1.5)
        raise RuntimeError("a bug")

    loop.clock.process(broken())
    loop.run()
    assert len(errors) == 1
    assert "1.500000 s" in str(errors[0])
    assert "a bug" in str(errors[0])


def test_an_error_in_a_callback_goes_to_the_hub_and_the_loop_goes_on(loop):
    seen = []

    class Hub:
        def handle_error(self, context, kind, value, trace):
            seen.append(kind)

    loop.error_handler = Hub()
    loop.run_callback(lambda: 1 / 0)
    loop.run_callback(seen.append, "next")
    loop.run()
    assert seen == [ZeroDivisionError, "next"]


def test_at_the_pace_of_real_time_the_same_things_happen_in_the_same_order():
    loop = VirtualLoop(Clock(), gevent.get_hub().loop, free_running=False)
    seen = []
    after(loop, 0.02, lambda: (seen.append("timer"), loop.break_()))

    def process():
        yield loop.clock.timeout(0.01)
        seen.append("model")

    loop.clock.process(process())
    loop.run()
    assert seen == ["model", "timer"]


def test_advance_stops_at_the_limit():
    clock = Clock()
    clock.timeout(2.0)
    assert not clock.advance(1.0)
    assert clock.now == 1.0
    assert clock.advance(2.0)
    assert clock.now == 2.0
    assert not clock.advance(math.inf)
    assert clock.now == 2.0
    assert isinstance(clock, simpy.Environment)
