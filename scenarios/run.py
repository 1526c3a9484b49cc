"""`flashcrowd run`: simulate a scenario and tell."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scenarios.arguments import Parser, document_of
from scenarios.fields import ScenarioError
from scenarios.loader import scenario_of
from scenarios.toml_text import as_toml

_PATIENCE_S = 2.0


def run(argv: Sequence[str]) -> int:
    """`flashcrowd run S`: 0 if every objective is met, 1 if one is missed."""
    parser = Parser(
        "run",
        "Simulate a scenario and print latencies, milestones, queues, topics and objectives.",
        "  flashcrowd run baseline\n"
        "  flashcrowd run celebrity_post --set feed.strategy=push --seed 7\n"
        "  flashcrowd run baseline --set 'slo.\"feed.open.p99_ms\"=50' --json -\n"
        "  flashcrowd run baseline --graph wiki-Vote.txt --out results/wiki",
    )
    parser.scenario()
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON; - is standard output, without tables")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="write JSON, CSV, the resolved scenario and a plot there"
    )
    parser.add_argument("--engine", default="plain", choices=["plain"], help="which engine runs the model")
    arguments = parser.parse_args(argv)
    document = document_of(arguments)
    scenario = scenario_of(document)

    from model.simulation import simulate
    from scenarios.offered import check_size, graph_of
    from scenarios.outputs import check_file, check_folder, json_text, write_file, write_folder
    from scenarios.report import show_results

    check_size(document, scenario)
    to_file = Path(arguments.json) if arguments.json not in (None, "-") else None
    if to_file is not None:
        check_file(to_file)
    if arguments.out is not None:
        check_folder(arguments.out)
    graph = graph_of(document, scenario)
    started_s = time.monotonic()
    try:
        with progress_bar(scenario.name) as progress:
            results = simulate(scenario, engine=arguments.engine, graph=graph, progress=progress)
    except ValueError as problem:  # by contract: what can't be simulated, in one line
        raise ScenarioError(f"{document.place.file}: {problem}") from problem
    found = results.document()
    wall_s = time.monotonic() - started_s
    if arguments.out is not None:
        if scenario.population.graph is not None:  # the copy lies elsewhere: a relative path would lead nowhere
            document.values["population"]["graph"] = str(Path(scenario.population.graph).resolve())
        write_folder(arguments.out, results, found, as_toml(document))
    if to_file is not None:
        write_file(to_file, json_text(found))
    if arguments.json == "-":
        print(json_text(found), end="")
    else:
        show_results(scenario, found, wall_s)
    return 0 if all(verdict["met"] for verdict in found["slo"]) else 1


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
