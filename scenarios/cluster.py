"""Runs on an existing Dask cluster, with the meaning of `model.workers.LocalWorkers`.

A task's future is named by the task's key. When a worker dies, the scheduler runs its tasks again elsewhere: at least once. Each
task's answer is taken once, so none is lost or doubled in what comes out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from model.workers import Answer, Failure, Task, measure
from scenarios.fields import ScenarioError
from scenarios.journal import key_of, model_version

_PATIENCE_S = 10


class ClusterWorkers:
    """The workers of a Dask cluster. A context manager; the cluster itself is left running."""

    def __init__(self, address: str) -> None:
        """Connect. Raises `ScenarioError` if Dask is not installed, nobody answers, or the workers have another model."""
        try:
            import distributed
        except ImportError as problem:
            raise ScenarioError('--cluster: Dask is not installed; pip install "flashcrowd[cluster]"') from problem
        self._distributed: Any = distributed  # untyped
        try:
            self._client: Any = self._distributed.Client(address, timeout=_PATIENCE_S, set_as_default=False)
        except (OSError, ValueError, TypeError) as problem:
            raise ScenarioError(
                f"--cluster: no Dask scheduler answers at {address}; start one, or correct the address (tcp://host:port)"
            ) from problem
        try:
            self._check_workers(address)
        except BaseException:
            self._client.close()
            raise

    def _check_workers(self, address: str) -> None:
        try:
            versions = set(self._client.run(model_version).values())
        except Exception as problem:  # whatever the worker raised: most often an import error
            raise ScenarioError(
                f"--cluster: a worker of {address} can't load the model ({problem}); install this version there"
            ) from problem
        if not versions:
            raise ScenarioError(f"--cluster: the scheduler at {address} has no workers; start some")
        if versions != {model_version()}:
            raise ScenarioError(f"--cluster: workers of {address} have another version of the model; install this one there")

    def __enter__(self) -> ClusterWorkers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Answer]]:
        """Each task's number and answer, once each, as they are finished."""
        futures = {}
        for number, task in enumerate(tasks):
            futures[self._client.submit(measure, task, key=f"flashcrowd-{key_of(task)}")] = number
        try:
            waiting = self._distributed.as_completed(list(futures), loop=self._client.loop)
            for future in waiting:
                number = futures[future]
                try:
                    answer = future.result()
                except self._distributed.KilledWorker:
                    answer = Failure("its worker died again and again (out of memory?)")
                except Exception as problem:  # told with its row
                    answer = Failure(f"{type(problem).__name__}: {' '.join(str(problem).split())}")
                yield number, answer
        except BaseException:
            self._client.cancel(list(futures))
            raise
