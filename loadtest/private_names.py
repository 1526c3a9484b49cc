"""Every name of gevent, SimPy, requests and Locust that the load test uses although it is not promised to stay.

One table and one check: when a pinned version moves, `check_contract` names what is gone, before a run gives odd numbers.
`tests/loadtest/test_private_names.py` runs it, and the clients' digests show that the names still mean the same.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterable
from typing import Any


class OrderedSet(dict[Any, None]):
    """A set that remembers the order of insertion, with the methods that gevent's `Group` uses."""

    def add(self, item: Any) -> None:
        """Add `item` at the end unless it is there."""
        self[item] = None

    def discard(self, item: Any) -> None:
        """Remove `item` if it is there."""
        self.pop(item, None)

    remove = discard


def order_group(group: Any) -> Any:
    """Let a `gevent.pool.Group` keep its greenlets in order of arrival; returns the group.

    gevent keeps them in a set ordered by address, so the order in which users are stopped would differ between runs.
    """
    group.greenlets = OrderedSet.fromkeys(group.greenlets)
    return group


def use_hub(loop: Any) -> Any:
    """Make a second hub with `loop` the current thread's hub; returns it. Every later `gevent.get_hub()` gives it."""
    from gevent import _hub_local
    from gevent.hub import Hub

    hub = Hub(loop=loop)
    _hub_local.set_hub(hub)
    return hub


def prepare_runner() -> None:
    """Give Locust's runners ordered groups, and silence the warning that a simulation uses all of its core."""
    import locust.runners
    from gevent.pool import Group

    def ordered_group(*args: Any) -> Any:
        return order_group(Group(*args))

    vars(locust.runners).update(Group=ordered_group, CPU_WARNING_THRESHOLD=1e9)  # percent


def use_transports(requests_adapter: type, fast_urlopen: Callable[..., Any]) -> None:
    """Put the transports of `HttpUser` (a requests adapter) and `FastHttpUser` (a user agent's method) in place."""
    from locust import clients
    from locust.contrib import fasthttp

    clients.LocustHttpAdapter = requests_adapter  # type: ignore[misc, assignment]  # replacing the class is the point
    fasthttp.LocustUserAgent._urlopen = fast_urlopen  # type: ignore[method-assign]  # replacing the method is the point


def pacing_period_s(user_class: type) -> float:
    """The period of a user class with `constant_pacing` or `constant_throughput`; 0 for any other waiting time."""
    wait_time = vars(user_class).get("wait_time") or getattr(user_class, "wait_time", None)
    if getattr(wait_time, "__qualname__", "") != "constant_pacing.<locals>.wait_time_func":
        return 0.0
    return float(inspect.getclosurevars(wait_time).nonlocals["wait_time"])  # type: ignore[arg-type]  # a function, see above


RANDOM_METHODS = {
    name: getattr(random, name)
    for name in random.__all__
    if isinstance(getattr(getattr(random, name), "__self__", None), random.Random)
    and "state" not in name
    and name != "seed"
}
"""The functions of the module `random` that draw: methods bound to its one hidden generator."""


def shared_random() -> random.Random:
    """The hidden generator behind the functions of the module `random`."""
    return random._inst  # the module's own generator has no public name


def _needed() -> Iterable[tuple[str, Callable[[], Any]]]:
    """(what, how to reach it) of everything above and of what `virtual_time`, `clients` and `model.engines.clock` rely on."""
    import gevent.hub
    import gevent.pool
    import locust.clients
    import locust.runners
    import simpy
    from gevent import _hub_local
    from locust import constant_throughput
    from locust.contrib import fasthttp

    return [
        ("gevent._hub_local.set_hub", lambda: _hub_local.set_hub),
        ("gevent.hub.Waiter.switch", lambda: gevent.hub.Waiter.switch),
        ("gevent.hub.Hub(loop=…)", lambda: inspect.signature(gevent.hub.Hub.__init__).parameters["loop"]),
        ("gevent.pool.Group.greenlets", lambda: gevent.pool.Group().greenlets.discard),
        ("simpy.Environment._now", lambda: simpy.Environment(3.0)._now),
        ("locust.runners.Group", lambda: vars(locust.runners)["Group"]),
        ("locust.runners.CPU_WARNING_THRESHOLD", lambda: locust.runners.CPU_WARNING_THRESHOLD),
        ("locust.clients.LocustHttpAdapter", lambda: locust.clients.LocustHttpAdapter),
        ("locust.contrib.fasthttp.LocustUserAgent._urlopen", lambda: fasthttp.LocustUserAgent._urlopen),
        (
            "locust.contrib.fasthttp.FastResponse(ghc_response, request, sent_request)",
            lambda: _three(fasthttp.FastResponse),
        ),
        ("locust.User.start(self, group)", lambda: inspect.signature(locust.User.start).parameters["group"]),
        ("the period of constant_throughput", lambda: _true(pacing_period_s(_paced(constant_throughput(4.0))) == 0.25)),
        ("random._inst", lambda: _true("random" in RANDOM_METHODS and isinstance(shared_random(), random.Random))),
    ]


def _three(kind: type) -> Any:
    return [inspect.signature(kind).parameters[name] for name in ("ghc_response", "request", "sent_request")]


def _true(condition: bool) -> bool:
    if not condition:
        raise AttributeError("it is there, but means something else")
    return condition


def _paced(wait_time: Any) -> type:
    return type("Paced", (), {"wait_time": wait_time})


def check_contract() -> list[str]:
    """What is missing of the private names, one line each; empty when all is well."""
    missing = []
    for name, reach in _needed():
        try:
            reach()
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            missing.append(f"{name}: {error}")
    return missing
