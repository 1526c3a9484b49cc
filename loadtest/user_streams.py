"""A random stream per user, on both targets: user 17 asks for the same things in the same order, whoever answers when.

Locust's own choices (`between`, the next task) and the user's calls of `random.…` go through a facade of the module
`random` that knows which user's greenlet is asking. Users who start together and pace themselves
(`constant_throughput`) would stay in step for ever, so each begins at a random point of its first period.
"""

from __future__ import annotations

import random
import sys
import types
from typing import Any

import gevent
from gevent import getcurrent

from loadtest import private_names
from loadtest.virtual_clock import user_modules

_streams: dict[Any, random.Random] = {}  # greenlet -> its user's stream
_indices: dict[Any, int] = {}  # greenlet -> its user's number


def stream(seed: int, *names: object) -> random.Random:
    """The stream with this name; the same names give the same numbers on every machine."""
    return random.Random("/".join(map(str, (seed, *names))))


def current_user() -> int:
    """The number of the Locust user whose greenlet is running, or -1."""
    return _indices.get(getcurrent(), -1)


class RandomFacade(types.ModuleType):
    """A module like `random` whose functions draw from the running user's stream."""

    def __init__(self) -> None:
        super().__init__("random")
        vars(self).update({key: value for key, value in vars(random).items() if not key.startswith("__")})
        shared = private_names.shared_random()
        for name in private_names.RANDOM_METHODS:
            vars(self)[name] = self._drawing(getattr(random.Random, name), shared)

    @staticmethod
    def _drawing(method: Any, shared: random.Random) -> Any:
        def draw(*args: Any, **options: Any) -> Any:
            return method(_streams.get(getcurrent(), shared), *args, **options)

        return draw


def install(seed: int) -> None:
    """Give every user that starts from now on its stream, `user.rng`, and its number, `user.index`."""
    from locust import User

    facade = RandomFacade()
    bound = {id(method): getattr(facade, name) for name, method in private_names.RANDOM_METHODS.items()}
    libraries = [module for name, module in sorted(sys.modules.items()) if name.split(".")[0] == "locust" and module]
    for module in [*libraries, *user_modules()]:
        if module.__name__ == __name__:
            continue
        for key, value in list(vars(module).items()):
            if value is random:
                setattr(module, key, facade)
            elif (
                id(value) in bound and key in private_names.RANDOM_METHODS and module.__name__ != private_names.__name__
            ):
                setattr(module, key, bound[id(value)])
    numbers: dict[str, int] = {}
    start = User.start

    def start_with_stream(user: Any, group: Any) -> Any:
        name = type(user).__name__
        user.index = numbers[name] = numbers.get(name, -1) + 1
        user.rng = stream(seed, name, user.index)
        period_s = private_names.pacing_period_s(type(user))
        if period_s > 0:
            _delay_first_task(user, user.rng.random() * period_s)
        greenlet = start(user, group)
        adopt(greenlet, user.rng, user.index)
        return greenlet

    User.start = start_with_stream  # type: ignore[method-assign, assignment]  # Locust has no event for a user's start


def _delay_first_task(user: Any, delay_s: float) -> None:
    run = user.run

    def run_later() -> None:
        gevent.sleep(delay_s)
        run()

    user.run = run_later


def adopt(greenlet: Any, rng: random.Random, index: int) -> None:
    """Let `greenlet`, not yet running, draw from `rng` and count as user `index` until it ends."""
    _streams[greenlet] = rng
    _indices[greenlet] = index
    greenlet.rawlink(_forget)


def _forget(greenlet: Any) -> None:
    _streams.pop(greenlet, None)
    _indices.pop(greenlet, None)
