"""Closed users: each thinks, asks and waits for the answer before he thinks again, so that a slow platform slows them down.

Open arrivals come whatever the platform does; that is what a crowd of strangers does. Closed users are what a load test with
a fixed number of users does: at saturation they wait instead of piling up, and their latencies look better than a crowd's.
Ordinary SimPy processes beside the scheduled traffic.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Protocol

import numpy as np
import simpy

from model import platform
from model.arrivals import draws, uniforms
from model.network import Network
from model.part import Ids
from model.population import FollowGraph
from model.scenario import ClosedUsers, Scenario

_BLOCK = 64  # draws made at a time
Life = Generator[simpy.Event, None, None]


class Submits(Protocol):
    """An engine, as far as closed users need it."""

    def submit(self, operation: int, attributes: Sequence[float]) -> int:
        """A request comes now."""


class ClosedCrowd:
    """All closed users of a scenario. It is the engine's observer, and starts when it knows the engine."""

    def __init__(self, scenario: Scenario, network: Network, graph: FollowGraph | None, seed: int) -> None:
        self.scenario, self.network, self.graph, self.seed = scenario, network, graph, seed
        self._waiting: dict[int, simpy.Event] = {}

    def start(self, env: simpy.Environment, engine: Submits) -> None:
        """Begin every user's life, with a think time first."""
        for number, group in enumerate(self.scenario.closed_users):
            for user in range(group.users):
                env.process(self._life(env, engine, group, f"closed user {number}.{user}"))

    def responded(self, request: int, outcome: int) -> None:
        """The engine tells: an answer, or a failure; the user goes on either way."""
        waiting = self._waiting.pop(request, None)
        if waiting is not None:
            waiting.succeed()

    def marked(self, milestone: int, request: int, ordinal: int, weight: float) -> None:
        """Nobody waits for milestones."""

    def _life(self, env: simpy.Environment, engine: Submits, group: ClosedUsers, stream: str) -> Life:
        thinks = self._thinks(group, stream)
        asks = [(self._number(name), self._rows(name, stream)) for name in group.operations]
        while True:
            for number, rows in asks:
                yield env.timeout(next(thinks))
                request = engine.submit(number, next(rows))
                answered = self._waiting[request] = env.event()
                yield answered

    def _number(self, name: str) -> int:
        return self.network.names("operations").index(name)

    def _thinks(self, group: ClosedUsers, stream: str) -> Iterator[float]:
        first = 0
        while True:
            yield from draws(group.think_time, self.seed, f"think of {stream}", first, _BLOCK).tolist()
            first += _BLOCK

    def _rows(self, name: str, stream: str) -> Iterator[list[float]]:
        """The attributes of one request after the other; on the platform this user is always the same person."""
        person = int(uniforms(self.seed, f"person of {stream}", 1)[0] * (self.graph.users if self.graph else 1))
        who: Ids = np.full(_BLOCK, person, np.int64)
        block = 0
        while True:
            table = np.zeros((_BLOCK, len(self.network.attributes)))
            for key, values in self._attributes(name, who, f"{name} of {stream}", block).items():
                table[:, self.network.attributes.index(key)] = values
            yield from table.tolist()
            block += 1

    def _attributes(self, name: str, who: Ids, stream: str, block: int) -> dict[str, np.ndarray]:
        if self.scenario.declared is not None:
            named = self.scenario.declared.arrivals[name].attributes
            return {
                key: draws(one, self.seed, f"{key} of {stream}", block * _BLOCK, _BLOCK) for key, one in named.items()
            }
        assert self.graph is not None
        chosen = uniforms(self.seed, f"posts of {stream} {block}", _BLOCK)
        return dict(platform.request_attributes(self.scenario, self.graph, name, who, chosen))
