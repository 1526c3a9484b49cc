"""The clock that Locust's modules and the users' own code see while virtual time is on.

A facade of the module `time` takes the place of the real one in the modules that ask for it; nothing else in the process
is touched (logging, the web server and the model keep the real one). `datetime.now()` is not covered.
"""

from __future__ import annotations

import sys
import sysconfig
import time
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

EPOCH_S = 1_700_000_000.0
"""`time.time()` at virtual time 0: fixed, so that two runs write the same files."""

_CLOCKS = ("time", "monotonic", "perf_counter", "time_ns", "monotonic_ns", "perf_counter_ns")
_REAL = {name: getattr(time, name) for name in _CLOCKS}

LIBRARIES = ("locust", "requests.sessions", "geventhttpclient.useragent")
"""Modules (and their submodules) that measure or wait on behalf of users."""

_LIBRARY_FOLDERS = tuple(sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib"))
_NOT_USERS = (
    "model",
    "scenarios",
    "reference_impl",
    "loadtest.plugin",
    "loadtest.virtual_time",
    "loadtest.virtual_clock",
)


class VirtualTime(types.ModuleType):
    """A module like `time` whose clocks read `now_s()`; `sleep` is gevent's already, hence virtual."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        super().__init__("time")
        vars(self).update({key: value for key, value in vars(time).items() if not key.startswith("__")})
        clocks: dict[str, Callable[[], float | int]] = {
            "time": lambda: EPOCH_S + now_s(),
            "monotonic": now_s,
            "perf_counter": now_s,
            "time_ns": lambda: int((EPOCH_S + now_s()) * 1e9),
            "monotonic_ns": lambda: int(now_s() * 1e9),
            "perf_counter_ns": lambda: int(now_s() * 1e9),
        }
        vars(self).update(clocks)


def _below(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def user_modules() -> Iterator[types.ModuleType]:
    """Loaded modules that are the load test's own code: not the standard library, not installed packages."""
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not file or _below(name, _NOT_USERS):
            continue
        if file.startswith(_LIBRARY_FOLDERS) and not _below(name, ("loadtest",)):  # ours may be installed among them
            continue
        yield module


def install(facade: VirtualTime) -> list[str]:
    """Put `facade` where `time` or one of its clocks was imported; returns the names that were replaced."""
    replaced = []
    libraries = [m for name, m in sorted(sys.modules.items()) if _below(name, LIBRARIES)]
    for module in [*libraries, *user_modules()]:
        replaced += [f"{module.__name__}.{key}" for key in replace_clocks(vars(module), facade)]
    return replaced


def replace_clocks(namespace: dict[str, Any], facade: VirtualTime) -> list[str]:
    """Replace the module `time` and its clocks in one namespace; returns the names that were replaced."""
    by_identity = {id(function): getattr(facade, name) for name, function in _REAL.items()}
    replaced = []
    for key, value in list(namespace.items()):
        if value is time:
            namespace[key] = facade
        elif id(value) in by_identity:
            namespace[key] = by_identity[id(value)]
        else:
            continue
        replaced.append(key)
    return replaced
