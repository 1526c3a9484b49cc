"""`flashcrowd run`: simulate a scenario and tell."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scenarios.arguments import Parser, document_of
from scenarios.fields import ScenarioError
from scenarios.loader import scenario_of
from scenarios.many_runs import positive, share
from scenarios.toml_text import as_toml

if TYPE_CHECKING:
    from model.scenario import Scenario
    from scenarios.documents import Document


def _parser() -> Parser:
    parser = Parser(
        "run",
        "Simulate a scenario and print latencies, milestones, queues, topics and objectives.",
        "  flashcrowd run baseline\n"
        "  flashcrowd run celebrity_post --set feed.strategy=push --seed 7\n"
        "  flashcrowd run baseline --set 'slo.\"feed.open.p99_ms\"=50' --json -\n"
        "  flashcrowd run baseline --replications 10\n"
        "  flashcrowd run baseline --graph wiki-Vote.txt --out results/wiki",
    )
    parser.scenario()
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON; - is standard output, without tables")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="write JSON, CSV, the resolved scenario and a plot there"
    )
    parser.add_argument(
        "--engine",
        default="compiled",
        choices=["compiled", "plain"],
        help="both give the same bits; plain is slow and easy to read",
    )
    parser.add_argument("--replications", type=positive, metavar="N", help="run N times; figures get 95 %% intervals")
    parser.add_argument(
        "--precision", type=share, metavar="P", help="replicate until objectives' figures are known to ±P of their mean"
    )
    parser.add_argument(
        "--figures",
        action="append",
        default=[],
        metavar="NAMES",
        help="with --precision: these, with commas between, instead",
    )
    parser.add_argument(
        "--max-replications", type=positive, default=100, metavar="N", help="and no more than N times (default: 100)"
    )
    parser.add_argument(
        "--jobs", type=positive, metavar="J", help="replications side by side (default: one per processor)"
    )
    return parser


def run(argv: Sequence[str]) -> int:
    """`flashcrowd run S`: 0 if every objective is met, 1 if one is missed."""
    arguments = _parser().parse_args(argv)
    document = document_of(arguments)
    scenario = scenario_of(document)

    if arguments.replications is not None or arguments.precision is not None:
        from scenarios.run_replicated import run_replicated

        return run_replicated(arguments, document, scenario)
    return _once(arguments, document, scenario)


def _once(arguments: argparse.Namespace, document: Document, scenario: Scenario) -> int:
    from model.simulation import simulate
    from model.summary import told
    from model.warmup import detected_warmup_s, warmup_note
    from scenarios.offered import check_size, graph_of
    from scenarios.outputs import check_file, check_folder, json_text, write_file, write_folder
    from scenarios.progress import progress_bar
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
    found = told(results)
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
    note, warning = warmup_note(scenario, [detected_warmup_s(results)])
    if warning or arguments.json != "-":
        print(note, file=sys.stderr if warning else sys.stdout)
    return 0 if all(verdict["met"] for verdict in found["slo"]) else 1
