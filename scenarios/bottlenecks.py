"""`flashcrowd bottlenecks`: which part holds the objectives back, by elasticity and by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scenarios.arguments import Parser, document_of
from scenarios.knee import show_closed
from scenarios.loader import scenario_of
from scenarios.many_runs import (
    add_run_options,
    checked_json,
    one_line,
    positive,
    require_objectives,
    tell,
    with_objectives,
)
from scenarios.size import by_hand, show_by_hand


def bottlenecks(argv: Sequence[str]) -> int:
    """`flashcrowd bottlenecks S`."""
    parser = Parser(
        "bottlenecks",
        "How the objectives' figures move when a part gets one more server or becomes 10 % faster, on common random numbers;\n"
        "beside it the offered load and closed forms, to check by hand.",
        "  flashcrowd bottlenecks baseline --replications 10\n"
        "  flashcrowd bottlenecks celebrity_post --figures feed.delivered.p99_s --set run.load_factor=4",
    )
    parser.scenario()
    parser.add_argument(
        "--slo", metavar="NAME=TARGET", action="append", default=[], help="an objective in place of the scenario's; repeatable"
    )
    parser.add_argument("--figures", action="append", default=[], metavar="NAMES", help="instead of the objectives'")
    parser.add_argument("--replications", type=positive, default=6, metavar="N", help="of each change (default: 6)")
    add_run_options(parser)
    arguments = parser.parse_args(argv)
    document = with_objectives(document_of(arguments), arguments.slo)
    scenario = scenario_of(document)

    from model.bottlenecks import effects
    from model.capacity import capacities, closed_users
    from model.replications import Replicator
    from model.workers import LocalWorkers
    from scenarios.figures import chosen_figures
    from scenarios.offered import check_size, graph_of, loads_of
    from scenarios.progress import progress_bar

    figures = chosen_figures(arguments.figures, [scenario], list(scenario.slo))
    if not figures:
        require_objectives(document.place, scenario.slo)
    check_size(document, scenario)
    checked_json(arguments)
    loads = loads_of(scenario, graph_of(document, scenario))
    parts = capacities(scenario, loads)
    with LocalWorkers(arguments.jobs) as workers, one_line(document):
        replicator = Replicator(workers, arguments.engine)
        with progress_bar(f"{scenario.name}, changes") as progress:
            found = effects(replicator, scenario, parts, figures, arguments.replications, progress)
    result = {
        "scenario": document.name,
        "seed": scenario.run.seed,
        "replications": arguments.replications,
        "effects": [
            {
                "part": one.part,
                "change": one.change,
                "figure": one.figure,
                "before": one.before,
                "difference": one.difference.row(),
                "elasticity": one.elasticity,
                "real": one.real,
            }
            for one in found
        ],
        "by_hand": by_hand(parts),
        "closed_users": closed_users(scenario, loads),
    }
    tell(arguments, result, lambda: _show(result, found, parts))
    return 0


def _show(result: Mapping[str, Any], found: Sequence[Any], parts: Sequence[Any]) -> None:
    from scenarios.figures import shown, shown_interval
    from scenarios.report import console, table

    rows = [
        (
            f"{one.part}, {one.change}",
            one.figure,
            shown(one.figure, one.before),
            shown_interval(one.figure, one.difference),
            f"{one.elasticity:.2f}" if math.isfinite(one.elasticity) else "–",
            "real" if one.real else "not shown",
        )
        for one in found
    ]
    printed = console()
    title = f"{result['scenario']}: what more capacity changes, {result['replications']} paired replications"
    printed.print(table(title, ("part and change", "figure", "now", "change, 95 %", "elasticity", ""), rows))
    printed.print("elasticity: percent of the figure per percent of capacity; real: with 95 % confidence over the whole table")
    show_by_hand(parts)
    show_closed(result["closed_users"])
