"""`flashcrowd compare-runs`: two scenarios on common random numbers; which differences are real."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from scenarios.arguments import Parser
from scenarios.loader import load_document, scenario_of
from scenarios.many_runs import add_run_options, checked_json, one_line, positive, tell


def compare_runs(argv: Sequence[str]) -> int:
    """`flashcrowd compare-runs A B`."""
    parser = Parser(
        "compare-runs",
        "Run two scenarios with the same random numbers and say which differences are real.",
        "  flashcrowd compare-runs celebrity_post celebrity_post --set-b feed.strategy=hybrid\n"
        "  flashcrowd compare-runs baseline mine.toml --replications 20 --figures feed.open.p99_s",
    )
    parser.scenario("A")
    parser.add_argument("other", metavar="B", help="the other scenario; the same one with --set-b is fine")
    for side in ("a", "b"):
        parser.add_argument(
            f"--set-{side}", metavar="KEY=VALUE", action="append", default=[], help=f"as --set, for {side.upper()} only"
        )
    parser.add_argument("--replications", type=positive, default=10, metavar="N", help="of each (default: 10)")
    parser.add_argument("--figures", action="append", default=[], metavar="NAMES", help="only these, with commas between")
    add_run_options(parser)
    arguments = parser.parse_args(argv)
    changes, more = arguments.set, (arguments.graph, arguments.both_ways)
    document_a = load_document(arguments.scenario, [*changes, *arguments.set_a], arguments.seed, *more)
    scenario_a = scenario_of(document_a)
    seed = scenario_a.run.seed  # the same for both, or no number would be common
    document_b = load_document(arguments.other, [*changes, *arguments.set_b], seed, *more)
    scenario_b = scenario_of(document_b)

    from model.replications import Replicator, compare
    from model.workers import LocalWorkers
    from scenarios.figures import chosen_figures, usual_figures
    from scenarios.offered import check_size
    from scenarios.progress import progress_bar

    names = chosen_figures(
        arguments.figures, (scenario_a, scenario_b), [*usual_figures(scenario_a), *usual_figures(scenario_b)]
    )
    check_size(document_a, scenario_a)
    check_size(document_b, scenario_b)
    checked_json(arguments)
    with LocalWorkers(arguments.jobs) as workers, one_line(document_a):
        replicator = Replicator(workers, arguments.engine)
        with progress_bar(f"{2 * arguments.replications} runs") as progress:
            a, b = replicator.of_all([scenario_a, scenario_b], arguments.replications, progress)
    differences = compare(a, b, names)
    sides = [document_a.name, document_b.name]
    document = {
        "a": {"scenario": sides[0], "set": [*changes, *arguments.set_a]},
        "b": {"scenario": sides[1], "set": [*changes, *arguments.set_b]},
        "seed": seed,
        "replications": arguments.replications,
        "differences": [
            {
                "name": one.name,
                "a": one.a,
                "b": one.b,
                "difference": one.difference.row(),
                "p_adjusted": one.p_adjusted,
                "variance_ratio": one.variance_ratio,
                "real": one.real,
            }
            for one in differences
        ],
    }
    tell(arguments, document, lambda: _show(sides, arguments, differences))
    return 0


def _show(sides: Sequence[str], arguments: Any, differences: Sequence[Any]) -> None:
    import numpy as np

    from scenarios.figures import shown, shown_interval
    from scenarios.report import console, figure, table

    def probability(p: float) -> str:
        return "< 0.001" if p < 0.001 else f"{p:.3f}"

    rows = [
        (
            one.name,
            shown(one.name, one.a),
            shown(one.name, one.b),
            shown_interval(one.name, one.difference),
            probability(one.p_adjusted),
            f"{figure(one.variance_ratio)} ×" if math.isfinite(one.variance_ratio) else "–",
            ("higher" if one.difference.mean > 0 else "lower") if one.real else "not shown",
        )
        for one in differences
    ]
    labels = [
        f"{letter}: {' '.join([name, *own])}"
        for letter, name, own in zip("AB", sides, (arguments.set_a, arguments.set_b), strict=True)
    ]
    printed = console()
    columns = ("figure", "A", "B", "B − A, 95 %", "adjusted p", "variance saved", "B is")
    printed.print(table("\n".join([*labels, ""]), columns, rows))
    ratios = [one.variance_ratio for one in differences if math.isfinite(one.variance_ratio)]
    saved = f"; variance of a difference {figure(float(np.median(ratios)))} times smaller by them (median)" if ratios else ""
    printed.print(
        f"\n{arguments.replications} replications of each on common random numbers{saved}.\n"
        f"Each interval alone covers 95 %; p is Holm's over the {len(rows)} figures: of all that are called higher or lower, "
        "with 95 % confidence none is not."
    )
    if arguments.replications < 2:
        printed.print("One replication can't show anything; ask for more with --replications.")
