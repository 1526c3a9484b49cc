"""Observing another system: Locust with somebody's locustfile, and a listener that records raw rows.

This file goes before theirs on Locust's command line; the rows are written where `FLASHCROWD_ROWS` says.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadtest.traces import Trace

ROWS = "FLASHCROWD_ROWS"


def run(locustfile: Path, host: str, users: int, duration_s: float, folder: Path, core: int | None) -> Trace:
    """Drive `host` by the file's users; return the trace, also written to `folder`. Raises `CompareError` if Locust fails."""
    import pandas as pd

    from loadtest import recording, traces
    from loadtest.both_sides import run_locust

    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / "rows.parquet"
    command = [
        sys.executable, "-m", "locust", "-f", f"{__file__},{locustfile.resolve()}", "--headless", "--only-summary",
        "--exit-code-on-error", "0", "--host", host, "-u", str(users), "-r", str(users), "-t", f"{duration_s:g}s",
    ]  # fmt: skip
    run_locust("observe", command, folder / "locust.log", duration_s, core, {ROWS: str(raw.resolve())})
    rows = recording.read(raw).sort_values("intended_s", kind="stable").reset_index(drop=True)
    start = json.loads(raw.with_suffix(".json").read_text())
    header = {
        "format": traces.FORMAT, "made_by": "observe", "scenario": locustfile.name, "duration_s": duration_s, "warmup_s": 0.0,
        "host": host, "users": users, "machine": traces.machine(), **start,
    }  # fmt: skip
    trace = traces.Trace(header, rows.assign(post=0), pd.DataFrame(columns=list(recording.MILESTONE_COLUMNS)), folder)
    trace.write(folder)
    for path in (raw, raw.with_suffix(".json")):
        path.unlink()
    return trace


def _listen() -> None:
    """Inside Locust: record every request, write at the end."""
    from locust import events

    from loadtest.recording import Recorder

    recorder = Recorder()
    target = Path(os.environ[ROWS])

    @events.test_start.add_listener
    def started(**_: Any) -> None:
        recorder.start()

    @events.quitting.add_listener
    def ended(**_: Any) -> None:
        recorder.write(target)
        target.with_suffix(".json").write_text(json.dumps({"start_epoch_s": recorder.start_epoch_s}))

    events.request.add_listener(recorder.on_request)


if ROWS in os.environ:
    _listen()
