"""`flashcrowd list`, `show` and `check`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from scenarios.arguments import Parser, document_of
from scenarios.documents import question_of, shipped
from scenarios.loader import load_document, scenario_of
from scenarios.toml_text import as_toml, differences


def list_scenarios(argv: Sequence[str]) -> int:
    """`flashcrowd list`."""
    parser = Parser("list", "The scenarios that come with Flashcrowd, each with its question and its answer.", "  flashcrowd list")
    parser.parse_args(argv)
    names = shipped()
    width = max(len(name) for name in names)
    for name, path in names.items():
        question, answer = question_of(path)
        print(f"{name:<{width}}  {question}")
        if answer:
            print(f"{'':<{width}}    {answer}")
    return 0


def show(argv: Sequence[str]) -> int:
    """`flashcrowd show S [--diff OTHER]`."""
    parser = Parser(
        "show",
        "A scenario with everything it rests on, as TOML; a comment marks what differs from the defaults.",
        "  flashcrowd show celebrity_post\n  flashcrowd show celebrity_post --diff baseline\n"
        "  flashcrowd show baseline --set feed.strategy=push > mine.toml",
    )
    parser.scenario()
    parser.add_argument("--diff", metavar="OTHER", help="only what differs from this scenario")
    arguments = parser.parse_args(argv)
    document = document_of(arguments)
    scenario_of(document)
    if arguments.diff is None:
        print(as_toml(document, marked=True), end="")
        return 0
    other = load_document(arguments.diff)
    scenario_of(other)
    rows = [("", document.name, other.name), *differences(document, other)]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    for key, value, other_value in rows:
        print(f"{key:<{widths[0]}}  {value:<{widths[1]}}  {other_value}".rstrip())
    return 0


def check(argv: Sequence[str]) -> int:
    """`flashcrowd check S`: 2 if something is wrong or overloaded."""
    parser = Parser(
        "check",
        "Check a scenario without simulating: keys, units, ranges, and whether offered load exceeds a capacity.",
        "  flashcrowd check baseline\n  flashcrowd check mine.toml --set run.load_factor=2",
    )
    parser.scenario()
    document = document_of(parser.parse_args(argv))
    scenario = scenario_of(document)

    from scenarios.offered import complaints, graph_of, loads_of
    from scenarios.report import show_offered_load

    loads = loads_of(scenario, graph_of(document, scenario))
    show_offered_load(scenario, loads)
    problems = complaints(document, scenario, loads)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 2 if problems else 0
