"""Runs side by side: tasks, what comes back of them, and the local processes that do them.

A task says everything (scenario, seed, engine), so it gives the same outcome in any process on any machine. Whoever runs
tasks elsewhere (a cluster) offers `run` with the same meaning: see `Runner`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from model import platform
from model.figures import figures_of
from model.population import FollowGraph
from model.scenario import Population, Scenario
from model.simulation import simulate
from model.warmup import detected_warmup_s

_TRIES = 3  # of a task whose process died, before it is called failed
_GRAPHS = 2  # kept in a process; a graph of a million users takes hundreds of megabytes


@dataclass(frozen=True)
class Task:
    """One run. The follow graph is drawn from `graph_seed`, so that replications are about the same people."""

    scenario: Scenario
    seed: int
    graph_seed: int
    engine: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What one run found: its JSON document, the same as flat figures, and the start-up that MSER-5 sees (None: can't tell)."""

    seed: int
    document: dict[str, Any]
    figures: dict[str, float | None]
    warmup_s: float | None


@dataclass(frozen=True)
class Failure:
    """Why a run has no outcome, in one line."""

    reason: str


Answer: TypeAlias = Outcome | Failure


class Runner(Protocol):
    """Whoever runs tasks."""

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        """Each task's number and answer, once each, as they are finished."""


@lru_cache(maxsize=_GRAPHS)
def _graph(population: Population, seed: int) -> FollowGraph:
    return platform.build_graph(population, seed)


def measure(task: Task) -> Answer:
    """Run one task here. Whatever goes wrong in it is a `Failure`: one bad point must not take the others along."""
    scenario = task.scenario
    try:
        graph = None if scenario.declared is not None else _graph(scenario.population, task.graph_seed)
        chosen: dict[str, Any] = {} if task.engine is None else {"engine": task.engine}
        results = simulate(scenario, seed=task.seed, graph=graph, **chosen)
        document = results.document()
        return Outcome(task.seed, document, figures_of(document), detected_warmup_s(results))
    except Exception as problem:  # told with its row
        said = " ".join(str(problem).split())
        return Failure(said if isinstance(problem, ValueError) and said else f"{type(problem).__name__}: {said}")


class LocalWorkers:
    """Processes of this machine, started when they are first needed. A context manager; leaving it stops them.

    With one job everything runs in this process. Ctrl-C reaches only this process, which then stops the others at once.
    """

    def __init__(self, jobs: int | None = None) -> None:
        """`jobs` (default: the processors there are) run side by side. Raises `ValueError` if there are none."""
        self.jobs = jobs if jobs is not None else _processors()
        if self.jobs < 1:
            raise ValueError(f"at least one job is needed, not {self.jobs}")
        self._executor: ProcessPoolExecutor | None = None
        self._before: set[Any] = set()

    def __enter__(self) -> LocalWorkers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        """Each task's number and answer, as they are finished. A task whose process dies is tried again, elsewhere."""
        if self.jobs == 1 or len(tasks) == 1:
            yield from ((number, measure(task)) for number, task in enumerate(tasks))
            return
        waiting = list(range(len(tasks)))[::-1]
        tries = [0] * len(tasks)
        under_way: dict[Future[Answer], int] = {}
        try:
            while waiting or under_way:
                while waiting:
                    # One whose process died runs alone, so that it can take no other along a second time.
                    suspect = any(tries[number] for number in (waiting[-1], *under_way.values()))
                    if len(under_way) >= (1 if suspect else self.jobs):
                        break
                    number = waiting.pop()
                    under_way[self._submit(tasks[number])] = number
                done, _ = wait(under_way, return_when=FIRST_COMPLETED)
                for future in done:
                    number = under_way.pop(future)
                    try:
                        answer = future.result()
                    except BrokenProcessPool:
                        self.stop()
                        tries[number] += 1
                        if tries[number] < _TRIES:
                            waiting.append(number)
                            continue
                        answer = Failure(f"its process died {_TRIES} times (out of memory?); try fewer --jobs")
                    yield number, answer
        except BaseException:  # Ctrl-C, or nobody wants the rest
            self.stop()
            raise

    def _submit(self, task: Task) -> Future[Answer]:
        for _ in range(_TRIES):
            if self._executor is None:
                # A server process that forks has no threads and imports the model once; a plain fork would copy our threads' locks.
                context = multiprocessing.get_context("forkserver")
                context.set_forkserver_preload(["model.workers"])
                self._before = set(multiprocessing.active_children())
                self._executor = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=_ignore_interrupts)
            try:
                with _interrupts_wait():
                    return self._executor.submit(measure, task)
            except BrokenProcessPool:
                self.stop()
        raise RuntimeError("worker processes die as soon as they start")

    def stop(self) -> None:
        """Stop the processes, whatever they are doing."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        with _interrupts_wait():
            executor.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - self._before:
                with suppress(ValueError):  # closed meanwhile
                    process.terminate()
                    process.join()


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C take effect at the end of the block: nobody knows a half started process, and so nobody would stop it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # processes inherit it, and so outlive their start
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGINT, handler)
        if came and callable(handler):
            handler(signal.SIGINT, None)


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
