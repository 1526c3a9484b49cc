"""What a sweep has done so far: one line of JSON per finished run, under a key that says what was run.

The key is a hash of the resolved scenario (name, question and objectives do not matter), the graph file's contents, the seed, the
engine and the model's sources: a line counts for a later sweep if and only if that sweep would compute the same again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import model
from model.workers import Answer, Failure, Task
from scenarios.fields import ScenarioError


@lru_cache(maxsize=1)
def model_version() -> str:
    """A hash of the model's source files."""
    folder = Path(model.__file__ or "").parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(f"{path.relative_to(folder)}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=64)
def _content(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def key_of(task: Task) -> str:
    """The hash under which a task's answer is kept."""
    scenario = replace(task.scenario, name="", question="", slo={})
    graph = scenario.population.graph
    if graph is not None:
        scenario = replace(scenario, population=replace(scenario.population, graph=_content(graph)))
    text = f"{scenario!r}\n{task.seed}\n{task.graph_seed}\n{task.engine}\n{model_version()}"
    return hashlib.sha256(text.encode()).hexdigest()


class Journal:
    """A file that only grows. A context manager; nobody else can have it open meanwhile."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.done: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Journal:
        """Open it and read what is there. Raises `ScenarioError` if that is impossible."""
        try:
            self._file = self.path.open("a+b")
        except OSError as problem:
            raise ScenarioError(f"{self.path}: can't be written ({problem.strerror}); choose another place") from problem
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            self._file.close()
            raise ScenarioError(f"{self.path}: another sweep is writing there; wait for it or choose another place") from problem
        self._file.seek(0)
        good = 0
        for line in self._file:
            try:
                entry = json.loads(line)
                self.done[entry["key"]] = entry["figures"]
            except (ValueError, KeyError, TypeError):
                if line.endswith(b"\n"):
                    self._file.close()
                    raise ScenarioError(f"{self.path}: is no journal of a sweep; choose another place") from None
                break  # a process was killed while it wrote: that run is done again
            good += len(line)
        self._file.truncate(good)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer, on disk when this returns. Failures are not kept: they are tried again. Nothing is kept twice."""
        if isinstance(answer, Failure) or key in self.done:
            return
        self.done[key] = answer.figures
        line = json.dumps({"key": key, "seed": answer.seed, "figures": answer.figures}, allow_nan=False)
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
