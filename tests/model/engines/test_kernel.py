"""The compiled engine's own promises: its clock, its memory, its machine code and its cache."""

import heapq
import itertools
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model import distributions as d
from model import kernel_cache
from model import network as net
from model.engines import compiled_events as events
from model.engines.choose import available, engine_for, make_environment
from model.engines.clock import Clock
from model.engines.compiled import Compiled, CompiledClock
from model.engines.compiled_features import ALL
from model.engines.compiled_memory import keep_freed_memory
from model.engines.compiled_tables import RECORDS, heap, simulation
from model.engines.compiled_tasks import NO_PATH
from model.engines.order import WAKE
from model.engines.plain import Plain
from model.tables import lower

ROOT = Path(kernel_cache.__file__).parent.parent
QUEUE = net.Network(
    operations=(net.Operation("ask", (net.Serve("s", d.constant(1.0)), net.Respond(), net.Mark("done"))),),
    stations=(net.Station("s", 1),),
)


class Told:
    """An observer that writes down when it was told what."""

    def __init__(self, env):
        self.env, self.log = env, []

    def responded(self, request, outcome):
        self.log.append((self.env.now, "responded", request))

    def marked(self, milestone, request, ordinal, weight):
        self.log.append((self.env.now, "marked", request))


def observed(network=QUEUE):
    env = CompiledClock()
    told = Told(env)
    return env, Compiled(lower(network, 1), env, observer=told), told


def test_advance_stops_at_each_word_to_the_observer_and_never_goes_beyond_the_limit():
    env, engine, told = observed()
    for _ in range(3):
        engine.submit(0, [])
    assert env.peek() == 0.0
    assert not env.advance(0.5)
    assert env.now == 0.5
    assert env.peek() == 1.0
    assert env.advance(1.0)
    assert told.log == [(1.0, "responded", 0)]
    assert env.peek() == 1.0  # the mark is still to be told
    assert env.advance(1.0)
    assert not env.advance(1.0)
    assert env.advance(np.inf)
    assert told.log[2:] == [(2.0, "responded", 1)]
    env.run()
    assert told.log[-1] == (3.0, "marked", 2)
    assert env.now == 3.0
    assert env.peek() == np.inf
    assert not env.advance(np.inf)
    assert env.now == 3.0
    assert not env.advance(7.0)
    assert env.now == 7.0


def test_control_at_the_same_instant_comes_before_the_traffic():
    env, engine, told = observed()
    engine.submit(0, [])

    def control():
        yield env.timeout(1.0)
        told.log.append((env.now, "control"))

    env.process(control())
    env.run()
    assert [entry[1] for entry in told.log] == ["control", "responded", "marked"]


def test_what_an_observer_starts_comes_before_the_next_word():
    env, _, told = observed()
    engine = env._engine

    def at_once():
        told.log.append((env.now, "started"))
        yield env.timeout(0)
        told.log.append((env.now, "and went on"))

    told.responded = lambda request, outcome: (told.log.append((env.now, "responded", request)), env.process(at_once()))
    engine.submit(0, [])
    env.run()
    assert [entry[1] for entry in told.log] == ["responded", "started", "and went on", "marked"]


def test_tasks_are_recycled_and_only_the_table_of_requests_grows():
    def after(n):
        env = CompiledClock()
        engine = Compiled(lower(QUEUE, 1), env)
        engine.arrive(np.full(n, 1.25), np.zeros(n, "i4"), np.zeros((n, 0)))
        env.run()
        return engine.memory

    n = 50_000
    shorter, longer = after(n), after(4 * n)
    recorded = 3 * 8
    assert shorter.table("requests").nbytes / n - recorded < 20
    for name in ("tasks", "heap", "log", "told", "cached"):
        assert longer.table(name).nbytes == shorter.table(name).nbytes
    moving = sum(shorter.table(name).nbytes for name in ("tasks", "heap", "log", "told", "cached"))
    assert moving < 1_500_000  # tasks that stayed would take more than 200 bytes each


def test_a_run_that_is_over_keeps_nothing_but_its_record():
    for kind, clock in ((Compiled, CompiledClock), (Plain, Clock)):
        env = clock()
        engine = kind(lower(QUEUE, 1), env)
        engine.arrive(np.full(1000, 1.25), np.zeros(1000, "i4"), np.zeros((1000, 0)))
        env.run()
        record = engine.record()
        answered_s = record.responded_s.tolist()
        engine.close()
        assert record.responded_s.tolist() == answered_s
        assert engine.memory.tables() == [] if kind is Compiled else engine.responded_s == engine.marks == []


@kernel_cache.part
def pushed(address, time_s, who):
    return events.schedule(
        simulation(address), time_s, events.whose_task(who // 4), events.what_of_task(NO_PATH, WAKE), who
    )


@kernel_cache.part
def popped(address, filled):
    sim = simulation(address)
    who = heap(sim, sim.first).who
    events.leave_vacant(sim)
    if filled:
        events.fill_vacancy(sim)
    return who


@pytest.mark.parametrize("tied", [0.0, 0.05, 0.5, 1.0])
def test_events_leave_the_heap_by_time_then_key_then_number(tied):
    """Four levels of it, whatever share of the events is due at one of few instants, and whether others take their places at once."""
    push, pop = kernel_cache.entries(
        "of a test", {pushed: "i8(i8, f8, i8)", popped: "i8(i8, i8)"}, frozenset(ALL), keep=False
    )
    memory = Compiled(lower(QUEUE, 1), CompiledClock()).memory
    memory.reserve_events(4000)
    rng, waiting, numbers = np.random.default_rng(int(tied * 100)), [], itertools.count()

    def schedule():
        time_s = float(rng.integers(1, 20) if rng.random() < tied else rng.uniform(0.5, 20.0))
        who = int(rng.integers(2000))
        push(memory.address, time_s, who)
        heapq.heappush(waiting, (time_s, who // 4, next(numbers), who))

    for _ in range(2000):
        schedule()
    for _ in range(6000):
        refilled = rng.random() < 0.5
        assert pop(memory.address, int(not refilled)) == heapq.heappop(waiting)[-1]
        for _ in range(refilled + (rng.random() < 0.4)):
            schedule()
    while waiting:
        assert pop(memory.address, 1) == heapq.heappop(waiting)[-1]
    assert memory.get("heap_len") == 0


def test_a_request_takes_half_a_line_of_the_cache_and_operations_have_room_in_it():
    assert RECORDS["requests"].itemsize == 32
    many = net.Network(operations=tuple(net.Operation(str(k), (net.Respond(),)) for k in range(1 << 15)))
    with pytest.raises(ValueError, match="room for 32,767 operations, not 32768"):
        Compiled(lower(many, 1), CompiledClock())


def test_memory_that_a_run_leaves_serves_the_next_without_coming_from_the_system_anew():
    if platform.libc_ver()[0] != "glibc":
        keep_freed_memory()  # must do no harm; only glibc has the setting
        return
    text = """
import resource
import numpy as np
from model.engines.compiled_memory import keep_freed_memory
keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    rows = np.ones(1 << 18)  # 512 pages, fewer than what NumPy asks huge ones for
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    del rows
"""
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = map(int, done.stdout.split())
    assert first > second
    assert second < 20


def test_children_that_take_all_free_tasks_leave_room_for_the_batch_of_the_same_turn():
    children = net.Scatter(count="count", steps=(net.Delay(d.constant(1.0)),), join=False)
    network = net.Network(
        operations=(net.Operation("ask", (children, net.Publish("t"))),),
        topics=(net.Topic("t", (net.Delay(d.constant(1.0)),), linger_s=0.0),),
        attributes=("count",),
    )
    env = CompiledClock()
    engine = Compiled(lower(network, 1), env)
    engine.submit(0, [engine.memory.get("idle_tasks") - 1])
    env.run()
    assert engine.record().topics["consumed"].tolist() == [1]
    assert engine.memory.get("idle_tasks") == len(engine.memory.table("tasks"))


def test_wrong_calls_are_refused_in_one_line():
    env = CompiledClock()
    engine = Compiled(lower(QUEUE, 1), env)
    with pytest.raises(ValueError, match="carries an engine already"):
        Compiled(lower(QUEUE, 1), env)
    with pytest.raises(TypeError, match="needs a CompiledClock"):
        Compiled(lower(QUEUE, 1), Clock())
    with pytest.raises(ValueError, match="no operation number 1; there are 1"):
        engine.submit(1, [])
    with pytest.raises(ValueError, match="no operation number -1"):
        engine.arrive(np.ones(1), np.array([-1]), np.zeros((1, 0)))
    with pytest.raises(ValueError, match="0 or more, not -1"):
        engine.arrive(-np.ones(1), np.zeros(1, "i4"), np.zeros((1, 0)))
    with pytest.raises(ValueError, match="1 gaps, 1 operations and 2 rows"):
        engine.arrive(np.ones(1), np.zeros(1, "i4"), np.zeros((2, 0)))
    with pytest.raises(IndexError, match="no station number 1"):
        engine.set_servers(1, 3)
    with pytest.raises(IndexError, match="no topic number 0"):
        engine.crash(0, 0)


def test_a_negative_duration_is_an_error_and_not_a_journey_back_in_time():
    network = net.Network(
        operations=(net.Operation("wait", (net.Delay(net.NEVER, {"size": 1.0}),)),), attributes=("size",)
    )
    env = CompiledClock()
    Compiled(lower(network, 1), env).submit(0, [-2.0])
    with pytest.raises(ValueError, match="a duration below 0"):
        env.run()


def test_the_cache_is_named_after_all_its_sources(tmp_path):
    package = tmp_path / "model"
    shutil.copytree(ROOT / "model", package, ignore=shutil.ignore_patterns("__pycache__"))
    names = {kernel_cache.sources_hash(package)}
    assert names == {kernel_cache.sources_hash()}
    for name in kernel_cache.SOURCES:
        with (package / name).open("a") as file:
            file.write("# another text\n")
        names.add(kernel_cache.sources_hash(package))
    assert len(names) == 1 + len(kernel_cache.SOURCES)


def test_without_llvm_the_plain_engine_serves_and_says_so_once():
    text = """
import sys
sys.modules["llvmlite"] = None  # importing it fails
from model.engines import choose
for _ in range(2):
    print(choose.available("compiled"), type(choose.make_environment("compiled")).__name__)
"""
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.splitlines() == ["plain Clock"] * 2
    assert done.stderr.splitlines() == [
        "flashcrowd: llvmlite cannot be imported; the plain engine serves, slower by far"
    ]


def test_an_engine_is_chosen_by_name():
    assert available() == "compiled"
    for name in ("plain", "compiled"):
        env = make_environment(name, 3.0)
        assert env.now == 3.0
        assert engine_for(name, lower(QUEUE, 1), env).name == name
    with pytest.raises(ValueError, match="no engine 'fast'"):
        available("fast")
