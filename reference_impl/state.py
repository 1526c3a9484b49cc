"""``state.json``: what ``up`` started, and where; the load test and the other commands read it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from reference_impl.processes import Child
from reference_impl.settings import Settings


class State(msgspec.Struct):
    """A running reference. The file is readable for its user only: the database's URL has a password in it."""

    api_url: str
    database_url: str
    kafka_bootstrap: str
    state_dir: str
    scratch_dir: str
    """Data of the embedded servers; empty if there are none."""
    cpus: list[int]
    """Cores that everything is pinned to; empty: not pinned."""
    started_in_s: float
    settings: dict[str, Any]
    processes: list[Child]

    @property
    def instance_id(self) -> str:
        """What the processes of this ``up`` call themselves when they are asked."""
        return str(self.settings.get("instance_id", ""))

    def to_settings(self) -> Settings:
        """The settings that the processes run with."""
        return Settings(**self.settings)


class StateError(RuntimeError):
    """The state directory or file cannot be used; the message is one line."""


SECRETS = ("_secret", "_secret_key", "_access_token", "_provider_token")
"""How the names of settings end that nobody but the state file may tell."""


def hide_password(url: str) -> str:
    """The URL with ``***`` in the place of its password."""
    return re.sub(r"(?<=:)[^:/@]+(?=@)", "***", url)


def without_secrets(state: State) -> dict[str, Any]:
    """The state for a screen or a pipe: secrets are left out, passwords in URLs hidden."""
    shown: dict[str, Any] = msgspec.to_builtins(state)
    shown["database_url"] = hide_password(state.database_url)
    shown["settings"] = {
        name: hide_password(value) if isinstance(value, str) else value
        for name, value in state.settings.items()
        if not name.endswith(SECRETS)
    }
    return shown


def path(state_dir: Path) -> Path:
    """Of the state file."""
    return state_dir / "state.json"


def prepare(state_dir: Path) -> None:
    """Create the directory, readable for us only.

    Raises:
        StateError: it belongs to somebody else, or cannot be created.
    """
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"{state_dir}: {error.strerror}; choose another one with --state-dir") from None
    information = state_dir.stat()
    if information.st_uid != os.getuid() or stat.S_IMODE(information.st_mode) & 0o022:
        raise StateError(f"{state_dir} can be written by others; choose another one with --state-dir")


def read(state_dir: Path) -> State | None:
    """The state, or None if nothing was started in this directory.

    Raises:
        StateError: the file is damaged.
    """
    try:
        return msgspec.json.decode(path(state_dir).read_bytes(), type=State)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise StateError(f"{path(state_dir)}: {error}") from None


def write(state: State) -> None:
    """Replace the file in one step."""
    target = path(Path(state.state_dir))
    partial = target.with_suffix(".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(state), indent=2))
    partial.replace(target)


@contextlib.contextmanager
def locked(state_dir: Path, within_s: float = 0.0) -> Iterator[None]:
    """Only one ``up``, ``down`` or repair by the supervisor at a time in a directory; wait ``within_s`` for the other one.

    Raises:
        StateError: another one is at work.
    """
    with (state_dir / "lock").open("w") as file:
        deadline = time.monotonic() + within_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() >= deadline:
                    raise StateError(f"another up or down is at work in {state_dir}") from None
                time.sleep(0.05)
        yield
