"""Raw rows: every request of a run, with when it was meant to go, when it went and what became of it.

Locust's own percentiles are rounded to two digits and cannot carry a comparison. The rows are collected in memory and
written once, at the end or on Ctrl-C.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("operation", "user", "intended_s", "sent_s", "finished_s", "latency_s", "outcome", "status")
OUTCOME_OF_STATUS = {503: "rejected", 504: "timed_out", 404: "not_found", 422: "invalid"}
UNFINISHED = "unfinished"
SUFFIXES = (".csv", ".parquet")


class Recorder:
    """Rows of one run. Instants are seconds since the start of the test; a latency counts from the intended instant.

    A request whose user was stopped meanwhile has the outcome `unfinished`; its latency so far is a lower bound. Leaving
    such rows out would leave out the slowest.
    """

    def __init__(self, current_user: Any = lambda: -1) -> None:
        self.rows: list[tuple[str, int, float, float, float, float, str, int]] = []
        self.start_epoch_s = 0.0
        self.start_s = 0.0
        self._current_user = current_user

    def start(self) -> None:
        """Begin anew: what follows is counted from this instant."""
        self.rows = []
        self.start_epoch_s = time.time()
        self.start_s = time.perf_counter()

    def on_request(
        self,
        request_type: str,
        name: str,
        response_time: float,
        response_length: int,
        response: Any = None,
        context: Any = None,
        exception: Any = None,
        start_time: float | None = None,
        **_others: Any,
    ) -> None:
        """Listen to Locust's request event. `context` may give `user` and `intended_s`."""
        context = context or {}
        user = context.get("user")
        latency_s = response_time / 1000
        sent_s = (start_time if start_time is not None else time.time() - latency_s) - self.start_epoch_s
        intended_s = context.get("intended_s")
        if intended_s is None:
            intended_s = sent_s
        status = getattr(response, "status_code", 0) or 0
        outcome = "ok" if exception is None else OUTCOME_OF_STATUS.get(status, "failed")
        finished_s = intended_s + latency_s
        self.rows.append(
            (
                name,
                self._current_user() if user is None else user,
                intended_s,
                sent_s,
                finished_s,
                latency_s,
                outcome,
                status,
            )
        )

    def unfinished(self, operation: str, user: int, sent_s: float, intended_s: float | None = None) -> None:
        """Note a request that was cut off by the end of the test; instants as `time.perf_counter` gives them."""
        sent = sent_s - self.start_s
        intended = sent if intended_s is None else intended_s
        now = time.perf_counter() - self.start_s
        self.rows.append((operation, user, intended, sent, now, now - intended, UNFINISHED, 0))

    def count_unfinished(self) -> int:
        """How many requests were cut off."""
        return sum(row[6] == UNFINISHED for row in self.rows)

    def frame(self) -> pd.DataFrame:
        """All rows as a table with the columns `COLUMNS`."""
        import pandas as pd

        return pd.DataFrame(self.rows, columns=list(COLUMNS))

    def write(self, path: Path) -> None:
        """Write the rows to `path`, .csv or .parquet, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        try:
            if path.suffix == ".parquet":
                self.frame().to_parquet(partial, index=False)
            else:
                self.frame().to_csv(partial, index=False)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def read(path: Path) -> pd.DataFrame:
    """The rows of a file written by `Recorder.write`. Raises `ValueError` when columns are missing."""
    import pandas as pd

    frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise ValueError(f"{path}: no raw response times, the columns {', '.join(missing)} are missing")
    return frame


MILESTONE_COLUMNS = ("name", "started_s", "reached_s", "weight")


def milestones_of(results: Any, start_s: float, began_s: Mapping[tuple[str, int], float] = MappingProxyType({})) -> pd.DataFrame:
    """The milestones of a model's run, `model.results.Results`; instants count from `start_s` of its clock.

    Columns `MILESTONE_COLUMNS`; the weight counts followers (`feed.delivered`) or events (`interactions.applied`).
    `began_s` has (milestone, request) -> the instant from which it counts, where that is not one of the request's own.
    """
    import pandas as pd

    record = results.recording
    frames = []
    for number, name in enumerate(record.tables.milestones):
        took_s, weights = results.milestone_samples(name)
        marks = record.marks[record.marks["milestone"] == number]
        marks = marks[len(marks) - len(took_s) :]
        reached_s = marks["time_s"] - start_s
        started_s = reached_s - took_s
        for place, request in enumerate(marks["request"].tolist() if began_s else ()):
            if (name, request) in began_s:
                started_s[place] = began_s[name, request] - start_s
        columns = (name, started_s, reached_s, weights)
        frames.append(pd.DataFrame(dict(zip(MILESTONE_COLUMNS, columns, strict=True)), index=range(len(took_s))))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(MILESTONE_COLUMNS))
