"""`flashcrowd threshold`: from how many followers on an author should be pulled, in closed form on any follow graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from scenarios.arguments import Parser, document_of
from scenarios.loader import scenario_of
from scenarios.many_runs import tell

_STEPS = (0, 1, 2, 5)


def threshold(argv: Sequence[str]) -> int:
    """`flashcrowd threshold S`."""
    parser = Parser(
        "threshold",
        "Push or pull, by followers: cost, regret against the per-edge optimum (Silberstein et al., SIGMOD 2010), waste and the last\n"
        "delivery for each threshold, without queues. Users publish at ln(1 + followers) and open at k ln(1 + followees).",
        "  flashcrowd threshold threshold_study\n"
        "  flashcrowd threshold baseline --graph wiki-Vote.txt --opens-per-publish 5 --push-cost 1 --pull-cost 1",
    )
    parser.scenario()
    parser.add_argument("--opens-per-publish", type=float, metavar="R", help="default: the scenario's load")
    parser.add_argument("--push-cost", type=float, metavar="H", help="of one row; default: the scenario's, in microseconds of database")
    parser.add_argument("--pull-cost", type=float, metavar="L", help="of one followee; default: the same")
    parser.add_argument("--json", metavar="FILE", help="write the result as JSON; - is standard output")
    arguments = parser.parse_args(argv)
    document = document_of(arguments)
    scenario = scenario_of(document)
    if scenario.declared is not None:
        raise document.place.error("declares a network; it has no followers", "name a scenario of the platform")

    import numpy as np

    from model.feed_costs import FanOut, cheapest, logarithmic_rates, push_pull_costs, threshold_study
    from scenarios.offered import graph_of

    graph = graph_of(document, scenario)
    assert graph is not None
    costs, times = scenario.costs_s, scenario.service_times
    push = arguments.push_cost or costs["database_fanout_row"] * 1e6
    pull = arguments.pull_cost or costs["database_pulled"] * 1e6
    ratio = arguments.opens_per_publish or 1 / max(scenario.load.publishes_per_feed_open, 1e-9)
    publish, opened = logarithmic_rates(graph, ratio)
    batch_s = times["network_database"].mean_s + times["database_fanout_batch"].mean_s + times["kafka_commit"].mean_s
    workers = FanOut(
        scenario.stations["fanout_workers"].servers,
        scenario.feed.fanout_batch_followers,
        batch_s,
        costs["database_fanout_row"],
    )
    # Inactive: a fixed share of all, spread evenly over the users' numbers.
    asleep = (np.arange(graph.users) * 0.618_033_988_749_894_9) % 1.0 < scenario.feed.inactive_ratio
    rows = threshold_study(
        graph, publish, opened, _thresholds(int(graph.follower_counts.max(initial=0))), workers, push, pull, asleep,
        scenario.feed.push_to_inactive,
    )  # fmt: skip
    awake = opened * ~asleep
    edges = push_pull_costs(graph, publish, awake, push, pull)
    goal_s = scenario.slo.get("feed.delivered.max_s", math.inf)
    best = cheapest(rows, goal_s)
    result = {
        "scenario": document.name,
        "users": graph.users,
        "edges": graph.edges,
        "opens_per_publish": ratio,
        "push_cost": push,
        "pull_cost": pull,
        "per_edge": asdict(edges),
        "thresholds": [asdict(row) for row in rows],
        "cheapest": None if best is None else best.threshold,
    }
    tell(arguments, result, lambda: _show(result, goal_s))
    return 0


def _thresholds(most: int) -> list[int]:
    """0, 1, 2, 5, 10, … and the largest author's number of followers: everybody is pushed."""
    found = {step * 10**power for power in range(9) for step in _STEPS if step * 10**power < most}
    return sorted({*found, most})


def _show(result: dict[str, Any], goal_s: float) -> None:
    from scenarios.report import console, figure, percent, table

    rows = [
        (
            f"{row['threshold']:,}",
            figure(row["cost_per_s"] / result["per_edge"]["per_edge_optimum_per_s"]),
            percent(row["regret_ratio"]),
            percent(row["pushed_authors_ratio"]),
            percent(row["pushed_edges_ratio"]),
            percent(row["wasted_pushes_ratio"]),
            figure(row["last_delivery_s"] * 1000),
            figure(row["pulled_per_open"]),
        )
        for row in result["thresholds"]
    ]
    columns = ("threshold", "cost / optimum", "regret", "authors pushed", "edges pushed", "pushes wasted", "last delivery ms")
    printed = console()
    size = f"{result['users']:,} users, {result['edges']:,} follows"
    title = f"{result['scenario']}: {size}, {result['opens_per_publish']:.3g} openings per post"
    printed.print(table(title, (*columns, "pulled per page"), rows))
    edges = result["per_edge"]
    printed.print(
        f"push all {edges['push_all_per_s']:,.2f}, pull all {edges['pull_all_per_s']:,.2f}, each edge by itself "
        f"{edges['per_edge_optimum_per_s']:,.2f} with {percent(edges['pushed_edges_ratio'])} of edges pushed "
        f"(a push costs {result['push_cost']:g}, a pull {result['pull_cost']:g})"
    )
    goal = f" whose last delivery takes at most {goal_s:g} s" if math.isfinite(goal_s) else ""
    best = "none" if result["cheapest"] is None else f"{result['cheapest']:,}"
    printed.print(f"[bold]the cheapest threshold{goal}: {best}[/bold]")
