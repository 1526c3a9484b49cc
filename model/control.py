"""What happens to the platform from outside its traffic: ordinary SimPy processes that act on an engine."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol

import simpy

from model.network import Network, suggestion
from model.scenario import Fault, Scenario

Process = Generator[simpy.Event, None, None]


class Controllable(Protocol):
    """What control may do to an engine, stations and topics by number."""

    def set_servers(self, station: int, servers: int) -> None:
        """A station has this many servers from now on."""

    def crash(self, topic: int, member: int) -> None:
        """A member of a consumer group dies with its batch."""

    def restore(self, topic: int, member: int) -> None:
        """A member of a consumer group is back."""


def start(scenario: Scenario, network: Network, env: simpy.Environment, engine: Controllable) -> None:
    """Start a process for every fault of the scenario. Raises `ValueError` for a target that does not exist."""
    for fault in scenario.faults:
        if fault.kind == "consumer_crash":
            topic, member = _member(network, fault)
            env.process(_crash(env, engine, fault, topic, member))
        else:
            names = network.names("stations")
            if fault.target not in names:
                raise ValueError(f"faults: no station {fault.target!r}{suggestion(fault.target, names)}")
            station = names.index(fault.target)
            env.process(_capacity(env, engine, fault, station, network.stations[station].servers))


def _member(network: Network, fault: Fault) -> tuple[int, int]:
    for number, topic in enumerate(network.topics):
        if fault.target in (topic.name, topic.workers):
            if not 0 <= fault.member < topic.consumers:
                raise ValueError(
                    f"faults: {fault.target} has members 0 to {topic.consumers - 1}, no member {fault.member}"
                )
            return number, fault.member
    groups = [name for topic in network.topics for name in (topic.name, topic.workers) if name is not None]
    raise ValueError(f"faults: no consumer group {fault.target!r}{suggestion(fault.target, groups)}")


def _crash(env: simpy.Environment, engine: Controllable, fault: Fault, topic: int, member: int) -> Process:
    yield env.timeout(fault.at_s)
    engine.crash(topic, member)
    if fault.back_after_s is not None:
        yield env.timeout(fault.back_after_s)
        engine.restore(topic, member)


def _capacity(env: simpy.Environment, engine: Controllable, fault: Fault, station: int, normal: int) -> Process:
    yield env.timeout(fault.at_s)
    engine.set_servers(station, fault.servers)
    if fault.back_after_s is not None:
        yield env.timeout(fault.back_after_s)
        engine.set_servers(station, normal)
