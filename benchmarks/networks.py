"""The networks of the benchmarks, declared for our engines, and the same in other simulators' own idiom.

The six stations are a request's way through API, cache, database (by priority), message bus in batches, worker and push: 5.4
visits, 1,000 requests/s, every station between 0.8 and 0.9 busy. The API has a waiting room of 8 and three more attempts.
"""

from __future__ import annotations

import importlib
import random
import subprocess
import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import simpy

from model import distributions as d
from model import network as net
from model.engines.choose import EngineName, engine_for, make_environment
from model.tables import lower

RATE_PER_S, BUS_S = 1000.0, 4e-3
SERVICE_S = {"api": 10e-3, "cache": 1.6e-3, "database": 7e-3, "worker": 3.5e-3, "push": 2.5e-3}
SERVERS = {"api": 12, "cache": 2, "database": 8, "worker": 4, "push": 3}
SHARES, ROOM, ATTEMPTS, BACKOFF_S, LINGER_S, BATCH, PER_RECORD_S = (0.6, 0.3, 0.1), 8, 4, 0.2, 0.02, 10, 1e-4
MM8_RATE, MM8_SERVERS = 6.8, 8  # of servers with mean 1 s: 0.85 busy


def six_stations() -> net.Network:
    """Three classes of priority; the second and third also go over the bus."""

    def serve(name: str) -> net.Serve:
        return net.Serve(name, d.exponential(SERVICE_S[name]))

    def route(over_the_bus: bool) -> tuple[net.Step, ...]:
        ask = net.Try((serve("api"),), attempts=ATTEMPTS, backoff=d.exponential(BACKOFF_S))
        bus = (net.Publish("bus"),) if over_the_bus else ()
        return (ask, serve("cache"), serve("database"), *bus, serve("worker"), serve("push"), net.Respond())

    def station(name: str) -> net.Station:
        discipline: net.Discipline = "priority" if name == "database" else "fifo"
        return net.Station(name, SERVERS[name], discipline, ROOM if name == "api" else None)

    work = net.Delay(d.exponential(BUS_S), {"events": PER_RECORD_S})
    return net.Network(
        operations=tuple(net.Operation(f"class {k}", route(k > 0), k) for k in range(3)),
        stations=tuple(station(name) for name in SERVERS),
        topics=(
            net.Topic("bus", (work,), linger_s=LINGER_S, batch_max=BATCH, consumers=2, partitions=2, poll_max=BATCH),
        ),
    )


def one_station(servers: int = MM8_SERVERS) -> net.Network:
    """An M/M/c queue with a mean service of one second."""
    steps = (net.Serve("station", d.exponential(1.0)), net.Respond())
    return net.Network(operations=(net.Operation("ask", steps),), stations=(net.Station("station", servers),))


def crowd() -> net.Network:
    """A delay of one second on average for everybody: the heap of events holds all who are there."""
    return net.Network(operations=(net.Operation("wait", (net.Delay(d.exponential(1.0)), net.Respond())),))


def run(engine_name: EngineName, network: net.Network, gaps_s: np.ndarray, operation: np.ndarray) -> tuple[float, Any]:
    """Seconds of processor time for a schedule, and the engine as it stands then."""
    env = make_environment(engine_name)
    engine = engine_for(engine_name, lower(network, 7), env)
    engine.arrive(gaps_s, operation, np.zeros((len(gaps_s), 0)))
    began = time.process_time()
    env.run()
    return time.process_time() - began, engine


def six_schedule(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Poisson arrivals of the three classes."""
    rng = np.random.default_rng(7)
    return rng.exponential(1 / RATE_PER_S, count), rng.choice(3, count, p=SHARES).astype("i4")


# ---- other simulators; each returns seconds of processor time
def idiomatic_simpy_six(count: int) -> float:
    """One process per request, `Resource` and `PriorityResource`, processes for linger and sending."""
    gaps_s, classes = (column.tolist() for column in six_schedule(count))
    rng, env = random.Random(7), simpy.Environment()
    stations: dict[str, Any] = {
        name: (simpy.PriorityResource if name == "database" else simpy.Resource)(env, servers)
        for name, servers in SERVERS.items()
    }
    sender, waiting = simpy.Resource(env, 2), []

    def flush() -> None:
        if waiting:
            env.process(send(waiting.copy()))
            waiting.clear()

    def linger(first: simpy.Event) -> Any:
        yield env.timeout(LINGER_S)
        if waiting and waiting[0] is first:
            flush()

    def send(batch: list[simpy.Event]) -> Any:
        with sender.request() as turn:
            yield turn
            yield env.timeout(rng.expovariate(1 / BUS_S) + PER_RECORD_S * len(batch))
        for event in batch:
            event.succeed()

    def publish() -> simpy.Event:
        event = env.event()
        waiting.append(event)
        if len(waiting) == 1:
            env.process(linger(event))
        if len(waiting) == BATCH:
            flush()
        return event

    def request(priority: int) -> Any:
        attempt = 0
        api = stations["api"]
        while api.count >= api.capacity and len(api.queue) >= ROOM:
            attempt += 1
            if attempt == ATTEMPTS:
                return
            yield env.timeout(rng.expovariate(1 / BACKOFF_S))
        for name in ("api", "cache", "database", "bus", "worker", "push"):
            if name == "bus":
                if priority > 0:
                    yield publish()
                continue
            station = stations[name]
            with station.request(priority=priority) if name == "database" else station.request() as turn:
                yield turn
                yield env.timeout(rng.expovariate(1 / SERVICE_S[name]))

    def arrivals() -> Any:
        for gap_s, priority in zip(gaps_s, classes, strict=True):
            yield env.timeout(gap_s)
            env.process(request(priority))

    env.process(arrivals())
    began = time.process_time()
    env.run()
    return time.process_time() - began


def idiomatic_simpy_mm8(count: int) -> float:
    """M/M/8 as in SimPy's own examples."""
    rng, env = random.Random(7), simpy.Environment()
    station = simpy.Resource(env, MM8_SERVERS)

    def request() -> Any:
        with station.request() as turn:
            yield turn
            yield env.timeout(rng.expovariate(1.0))

    def arrivals() -> Any:
        for _ in range(count):
            yield env.timeout(rng.expovariate(MM8_RATE))
            env.process(request())

    env.process(arrivals())
    began = time.process_time()
    env.run()
    return time.process_time() - began


def _ciw_mm8(ciw: ModuleType, count: int) -> float:
    ciw.seed(7)
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(MM8_RATE)],
        service_distributions=[ciw.dists.Exponential(1.0)],
        number_of_servers=[MM8_SERVERS],
    )
    simulation = ciw.Simulation(network)
    began = time.process_time()
    simulation.simulate_until_max_customers(count, method="Finish")
    return time.process_time() - began


def _salabim_mm8(salabim: ModuleType, count: int) -> float:
    salabim.yieldless(False)
    env = salabim.Environment(random_seed=7)
    station = salabim.Resource("station", capacity=MM8_SERVERS)

    class Request(salabim.Component):  # type: ignore[misc,name-defined]  # the module comes as an argument
        def process(self) -> Any:
            yield self.request(station)
            yield self.hold(random.expovariate(1.0))
            self.release(station)

    class Arrivals(salabim.Component):  # type: ignore[misc,name-defined]  # the module comes as an argument
        def process(self) -> Any:
            for _ in range(count):
                yield self.hold(random.expovariate(MM8_RATE))
                Request()

    Arrivals()
    began = time.process_time()
    env.run()
    return time.process_time() - began


def _cimba_mm8(_cimba: ModuleType, count: int) -> float:
    """In a process of its own: it extends Numba when a model is first compiled, which fails once others have used it."""
    text = f"from benchmarks.peer_cimba import seconds; print(seconds({count}))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    return float(done.stdout)


PEERS: dict[str, Callable[[ModuleType, int], float]] = {"ciw": _ciw_mm8, "salabim": _salabim_mm8, "cimba": _cimba_mm8}


def peer_mm8(name: str, count: int) -> float | None:
    """Seconds of processor time of another simulator for M/M/8; None where it is not installed."""
    try:
        module = importlib.import_module(name)
    except ImportError:
        return None
    return PEERS[name](module, count)
