"""A progress bar on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_PATIENCE_S = 2.0


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float], None]]:
    """A function to report the done share (0 to 1) to; a bar appears on standard error once it takes longer than two seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
        console=Console(file=sys.stderr),
        transient=True,
    )
    task = bar.add_task(title, total=1.0)
    started_s = time.monotonic()
    shown = False

    def report(done_ratio: float) -> None:
        nonlocal shown
        if not shown and time.monotonic() - started_s > _PATIENCE_S:
            bar.start()
            shown = True
        bar.update(task, completed=done_ratio)

    try:
        yield report
    finally:
        if shown:
            bar.stop()
