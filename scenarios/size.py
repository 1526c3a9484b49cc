"""`flashcrowd size`: the smallest capacity that meets the objectives, with confidence, and its headroom."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from scenarios.arguments import Parser, document_of
from scenarios.documents import Document
from scenarios.fields import ScenarioError, hint
from scenarios.loader import scenario_of
from scenarios.many_runs import (
    Narrator,
    add_run_options,
    checked_json,
    one_line,
    positive,
    require_objectives,
    tell,
    with_objectives,
)


def size(argv: Sequence[str]) -> int:
    """`flashcrowd size S`: 0 if some capacity meets the objectives, 1 if none does."""
    parser = Parser(
        "size",
        "The smallest number of servers or group members that meets the objectives, by replications that go on until the\n"
        "answer is sure or the budget is spent; with headroom for one and two more, and for the loss of a zone.",
        '  flashcrowd size celebrity_post --station fanout_workers --slo "feed.delivered.p99_s=2"\n'
        "  flashcrowd size baseline --all\n  flashcrowd size baseline --all --cost --set prices.database_usd_per_hour=0.4",
    )
    parser.scenario()
    parser.add_argument(
        "--slo", metavar="NAME=TARGET", action="append", default=[], help="an objective in place of the scenario's; repeatable"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--station", metavar="NAME", help="only this station or consumer group (default: the busiest)")
    which.add_argument("--all", action="store_true", help="all of them, from the offered load up")
    parser.add_argument("--cost", action="store_true", help="with --all: the least money, by [prices], in place of the fewest servers")
    parser.add_argument("--max-replications", type=positive, default=24, metavar="N", help="for each point (default: 24)")
    add_run_options(parser)
    arguments = parser.parse_args(argv)
    document = with_objectives(document_of(arguments), arguments.slo)
    scenario = scenario_of(document)
    require_objectives(document.place, scenario.slo)
    if arguments.cost and not arguments.all:
        raise ScenarioError("--cost: compares parts with each other; add --all")

    from model.capacity import capacities
    from model.cost import server_usd_per_hour
    from model.replications import Replicator
    from model.sizing import Judge, Sizer
    from model.workers import LocalWorkers
    from scenarios.offered import check_size, graph_of, loads_of

    check_size(document, scenario)
    checked_json(arguments)
    parts = capacities(scenario, loads_of(scenario, graph_of(document, scenario)))
    name = _station(arguments, document, parts)
    with LocalWorkers(arguments.jobs) as workers, Narrator(f"sizing {scenario.name}") as narrator, one_line(document):
        replicator = Replicator(workers, arguments.engine)
        judge = Judge(replicator, arguments.max_replications, lambda point, found: narrator.say(judged(point, found)))
        prices = {part.name: server_usd_per_hour(scenario.prices, part.name) for part in parts} if arguments.cost else None
        sizer = Sizer(judge, scenario, parts, prices)
        found = sizer.all() if name is None else sizer.one(name)
        headroom = [] if found.servers is None else _headroom(sizer, found.servers)
    result = _result(document, scenario, parts, found, headroom, replicator.runs)
    tell(arguments, result, lambda: _show(result, parts))
    return 1 if found.servers is None else 0


def judged(point: str, found: Any) -> str:
    """A judgement on one line."""
    from scenarios.figures import shown_interval

    figures = "; ".join(f"{name} {shown_interval(name, one)}" for name, one in found.figures.items())
    runs = f"{found.replications} replications" if found.replications else "no run needed"
    return f"{point}: {found.verdict} ({runs}) {found.why or figures}"


def _station(arguments: Namespace, document: Document, parts: Sequence[Any]) -> str | None:
    """The part to size; None for all."""
    if not parts:
        raise ScenarioError(f"{document.place.file}: has neither stations nor consumer groups; there is nothing to size")
    names = [part.name for part in parts]
    if arguments.station is not None and arguments.station not in names:
        raise ScenarioError(f"--station: no station or consumer group {arguments.station!r}; {hint(arguments.station, names)}")
    if arguments.all:
        return None
    return arguments.station or str(max(parts, key=lambda part: part.utilisation_ratio).name)


def _headroom(sizer: Any, servers: Mapping[str, int]) -> list[dict[str, Any]]:
    """The objectives at the answer, with one and with two more of each, and with a third of the servers lost."""
    changes = [("N", 0), ("N + 1", 1), ("N + 2", 2)]
    cases = [(label, {name: _within(sizer.parts[name], n + more) for name, n in servers.items()}) for label, more in changes]
    cases.append(("a zone lost", {name: n - math.ceil(n / 3) for name, n in servers.items()}))
    rows = []
    for label, counts in cases:
        row: dict[str, Any] = {"case": label, "servers": counts}
        if min(counts.values()) < 1:
            row |= {"verdict": "missed", "replications": 0, "why": "nothing is left", "figures": {}}
        else:
            found = sizer.at(counts)
            figures = {
                name: {**one.row(), "headroom_ratio": 1 - one.mean / sizer.scenario.slo[name] if sizer.scenario.slo[name] else None}
                for name, one in found.figures.items()
            }
            row |= {"verdict": found.verdict, "replications": found.replications, "why": found.why, "figures": figures}
        rows.append(row)
    return rows


def _within(part: Any, count: int) -> int:
    return count if part.most is None else min(count, int(part.most))


def _result(
    document: Document, scenario: Any, parts: Sequence[Any], found: Any, headroom: Sequence[Any], runs: int
) -> dict[str, Any]:
    from model.cost import compute_usd_per_hour

    return {
        "scenario": document.name,
        "seed": scenario.run.seed,
        "slo": dict(scenario.slo),
        "servers": None if found.servers is None else dict(found.servers),
        "too_few": dict(found.too_few),
        "sure": found.sure,
        "confidence": 0.95,
        "why": found.why,
        "runs": runs,
        "usd_per_hour": None if found.servers is None else compute_usd_per_hour(scenario, found.servers),
        "headroom": list(headroom),
        "by_hand": by_hand(parts),
    }


def by_hand(parts: Sequence[Any]) -> list[dict[str, Any]]:
    """Closed forms for every part, for JSON."""
    return [
        {
            "name": part.name,
            "kind": part.kind,
            "servers": part.servers,
            "offered_least": part.least,
            "offered_most": part.most_load,
            "utilisation_least": part.utilisation_ratio,
            "fewest_stable": part.too_few + 1,
            "erlang_c": part.wait_probability,
            "wait_in_services": part.wait_in_services,
        }
        for part in parts
    ]


def show_by_hand(parts: Sequence[Any]) -> None:
    """The same as a table."""
    from scenarios.report import console, figure, percent, table

    rows = [
        (
            part.name,
            figure(part.servers),
            figure(part.least),
            figure(part.most_load),
            percent(part.utilisation_ratio),
            figure(part.too_few + 1),
            percent(part.wait_probability),
            figure(part.wait_in_services),
        )
        for part in parts
    ]
    columns = ("part", "servers", "offered, least", "most", "least utilisation", "fewest stable", "Erlang C", "wait / service")
    printed = console()
    printed.print()
    printed.print(table("by hand, for the scenario as it stands", columns, rows))
    printed.print(
        "offered by the arrival rates, one-off events not counted; Erlang C (must wait) and the wait in mean service times are "
        "those of M/M/c at the least offered load"
    )


def _show(result: Mapping[str, Any], parts: Sequence[Any]) -> None:
    from model.statistics import Interval
    from scenarios.figures import shown, shown_interval
    from scenarios.report import console, percent, table

    printed = console()
    if result["servers"] is None:
        few = ", ".join(f"{name} > {n}" for name, n in result["too_few"].items())
        printed.print(f"no capacity meets the objectives: {result['why']} (needed anyway: {few})")
    else:
        for name, n in result["servers"].items():
            few = result["too_few"][name]
            if few == n - 1:
                printed.print(f"[bold]{name}: {n} servers[/bold], with 95 % confidence")
            else:
                printed.print(f"[bold]{name}: between {few + 1} and {n} servers[/bold], with 95 % confidence; too close to call")
        printed.print(f"these cost {result['usd_per_hour']:.3g} USD per hour")
        if len(result["servers"]) > 1:
            printed.print(f"in total {sum(result['servers'].values())}; none of them can be taken away alone")
        rows = [
            (
                f"{row['case']} ({', '.join(map(str, row['servers'].values()))})",
                name,
                shown_interval(name, Interval(one["mean"], one["low"], one["high"], one["n"])),
                shown(name, result["slo"][name]),
                percent(one["headroom_ratio"]),
                row["verdict"],
            )
            for row in result["headroom"]
            for name, one in row["figures"].items()
        ]
        rows += [
            (f"{row['case']} ({', '.join(map(str, row['servers'].values()))})", row["why"], "–", "–", "–", row["verdict"])
            for row in result["headroom"]
            if not row["figures"]
        ]
        printed.print()
        printed.print(table("headroom", ("servers", "figure", "value", "target", "headroom", ""), rows))
    show_by_hand(parts)
    printed.print(f"{result['runs']} runs; seed {result['seed']}")
