"""Which engine runs a network: the compiled one where LLVM can be imported, else the plain one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from typing import Literal, Protocol, TypeAlias

import numpy as np

from model.engines.clock import Clock
from model.engines.plain import Observer, Plain
from model.recording import Recording
from model.tables import Tables
from model.variates import COMPILED

EngineName: TypeAlias = Literal["compiled", "plain"]
ENGINES: tuple[EngineName, ...] = ("compiled", "plain")


class Engine(Protocol):
    """What both engines can do; see `Plain`."""

    name: str
    tables: Tables

    def arrive(self, gap_s: np.ndarray, operation: np.ndarray, attributes: np.ndarray) -> None:
        """A schedule of requests."""

    def submit(self, operation: int, attributes: Sequence[float]) -> int:
        """A request comes now."""

    def set_servers(self, station: int, servers: int, lose_work: bool = False) -> None:
        """A station has this many servers from now on; with `lose_work` those that go lose what they have in hand."""

    def set_speed(self, station: int, factor: float) -> None:
        """A station's servers work at `factor` times their normal speed from now on."""

    def set_cores(self, host: int, cores: int) -> None:
        """A host has this many cores from now on."""

    def flush(self, cache: int) -> None:
        """A cache loses all its entries."""

    def crash(self, topic: int, member: int) -> None:
        """A member of a consumer group dies."""

    def restore(self, topic: int, member: int) -> None:
        """A member of a consumer group is back."""

    def record(self) -> Recording:
        """Everything up to now."""

    def close(self) -> None:
        """The run is over, and its memory is free; only what `record` gave remains."""


@cache
def available(name: EngineName = "compiled") -> EngineName:
    """The engine that will serve for `name`. Says so once, on stderr, when llvmlite is missing and the plain one has to.

    Raises `ValueError` for a name that is no engine's.
    """
    if name not in ENGINES:
        raise ValueError(f"no engine {name!r} (there are: {', '.join(ENGINES)})")
    if name == "compiled" and not COMPILED:
        print("flashcrowd: llvmlite cannot be imported; the plain engine serves, slower by far", file=sys.stderr)
        return "plain"
    return name


def make_environment(name: EngineName = "compiled", start_s: float = 0.0) -> Clock:
    """A clock for an engine, standing at `start_s` seconds."""
    if available(name) == "plain":
        return Clock(start_s)
    from model.engines.compiled import CompiledClock

    return CompiledClock(start_s)


def engine_for(
    name: EngineName, tables: Tables, env: Clock, warmup_s: float = 0.0, observer: Observer | None = None
) -> Engine:
    """The engine called `name` on a clock that `make_environment` made for it."""
    if available(name) == "plain":
        return Plain(tables, env, warmup_s, observer)
    from model.engines.compiled import Compiled

    return Compiled(tables, env, warmup_s, observer)
