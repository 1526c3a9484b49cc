"""`flashcrowd knee`: the highest load that still meets the objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scenarios.arguments import Parser, document_of
from scenarios.loader import scenario_of
from scenarios.many_runs import (
    Narrator,
    add_run_options,
    checked_json,
    one_line,
    positive,
    require_objectives,
    share,
    tell,
    with_objectives,
)
from scenarios.size import by_hand, judged, show_by_hand


def knee(argv: Sequence[str]) -> int:
    """`flashcrowd knee S`: 0 if some load meets the objectives, 1 if none does."""
    parser = Parser(
        "knee",
        "The highest load factor (run.load_factor) that still meets the objectives, with an interval.",
        '  flashcrowd knee baseline\n  flashcrowd knee celebrity_post --slo "feed.open.p99_ms=20" --tolerance 0.01',
    )
    parser.scenario()
    parser.add_argument(
        "--slo", metavar="NAME=TARGET", action="append", default=[], help="an objective in place of the scenario's; repeatable"
    )
    parser.add_argument(
        "--tolerance", type=share, default=0.02, metavar="R", help="how narrow, as a share of the load (default: 0.02)"
    )
    parser.add_argument("--max-replications", type=positive, default=24, metavar="N", help="for each load (default: 24)")
    add_run_options(parser)
    arguments = parser.parse_args(argv)
    document = with_objectives(document_of(arguments), arguments.slo)
    scenario = scenario_of(document)
    require_objectives(document.place, scenario.slo)

    from model import platform
    from model.capacity import capacities, closed_users, saturation_load_factor
    from model.replications import Replicator, at_least
    from model.sizing import Judge
    from model.sizing import knee as search
    from model.workers import LocalWorkers
    from scenarios.offered import MOST_REQUESTS, check_size, graph_of, loads_of

    if all(at_least(name) for name in scenario.slo):
        raise document.place.at("slo").error(
            "only asks for throughput, which more load can't miss", "add an objective of latency or utilisation"
        )
    check_size(document, scenario)
    checked_json(arguments)
    loads = loads_of(scenario, graph_of(document, scenario))
    parts, saturation = capacities(scenario, loads), saturation_load_factor(scenario, loads)
    rate_per_s = sum(platform.arrival_rates(scenario).values()) / scenario.run.load_factor
    if not rate_per_s:
        raise document.place.error("has no arrivals besides its events", "give it a rate, or there is no load to vary")
    with LocalWorkers(arguments.jobs) as workers, Narrator(f"knee of {scenario.name}") as narrator, one_line(document):
        replicator = Replicator(workers, arguments.engine)
        judge = Judge(replicator, arguments.max_replications, lambda point, found: narrator.say(judged(point, found)))
        most = MOST_REQUESTS / (rate_per_s * scenario.run.duration_s)
        found = search(judge, scenario, saturation, most, arguments.tolerance)
    result = {
        "scenario": document.name,
        "seed": scenario.run.seed,
        "slo": dict(scenario.slo),
        "load_factor": {"low": found.low, "high": found.high, "estimate": found.estimate},
        "arrivals_per_s": {
            "low": found.low * rate_per_s,
            "high": found.high * rate_per_s,
            "estimate": found.estimate * rate_per_s,
        },
        "present_load_factor": scenario.run.load_factor,
        "saturation_load_factor": saturation,
        "confidence": 0.95,
        "runs": replicator.runs,
        "by_hand": by_hand(parts),
        "closed_users": closed_users(scenario, loads),
    }
    tell(arguments, result, lambda: _show(result, parts))
    return 0 if found.low > 0 else 1


def _show(result: Mapping[str, Any], parts: Sequence[Any]) -> None:
    from scenarios.report import console, figure

    printed = console()
    load, rate_per_s = result["load_factor"], result["arrivals_per_s"]
    if load["low"] == 0:
        printed.print(f"no load meets the objectives: not even a load factor of {load['high']:.3g}")
    elif math.isinf(load["high"]):
        printed.print(f"[bold]above {load['low']:.4g}[/bold], the highest load factor that fits in memory")
    else:
        printed.print(
            f"[bold]knee at load factor {load['estimate']:.4g}[/bold], between {load['low']:.4g} (met) and {load['high']:.4g} "
            f"(missed) with 95 % confidence: {figure(rate_per_s['estimate'])} arrivals per s, "
            f"{figure(rate_per_s['low'])} to {figure(rate_per_s['high'])}"
        )
    printed.print(
        f"the scenario stands at {result['present_load_factor']:.4g}; by the offered load nothing can hold beyond "
        f"{result['saturation_load_factor']:.4g}"
    )
    show_by_hand(parts)
    show_closed(result["closed_users"])
    printed.print(f"{result['runs']} runs; seed {result['seed']}")


def show_closed(closed: Mapping[str, float] | str) -> None:
    """The closed network with the same load, or why there is none."""
    from scenarios.report import console, figure, milliseconds

    if isinstance(closed, str):
        console().print(f"mean-value analysis does not apply: {closed}")
        return
    console().print(
        f"mean-value analysis: {closed['users']} users who think {closed['think_s']:g} s bring {figure(closed['throughput_per_s'])} "
        f"per s (at most {figure(closed['throughput_max_per_s'])}) at {milliseconds(closed['response_s'])} ms; they saturate it from "
        f"{figure(closed['saturation_users'])} on"
    )
