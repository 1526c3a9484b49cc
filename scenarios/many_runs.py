"""What the commands that run a scenario many times share: options, workers, progress, JSON."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scenarios.documents import Document
from scenarios.fields import Place, ScenarioError


def positive(text: str) -> int:
    """A whole number above 0, for argparse."""
    number = int(text.replace("_", ""))
    if number < 1:
        raise ValueError(text)
    return number


positive.__name__ = "whole number above 0"  # argparse tells it to the user


def share(text: str) -> float:
    """A number between 0 and 1, for argparse."""
    number = float(text)
    if not 0 < number < 1:
        raise ValueError(text)
    return number


share.__name__ = "number between 0 and 1"


def add_run_options(parser: ArgumentParser, json: bool = True) -> None:
    """`--jobs`, `--engine` and `--json`."""
    parser.add_argument("--jobs", type=positive, metavar="J", help="runs side by side (default: one per processor)")
    parser.add_argument("--engine", metavar="NAME", help="which engine runs the model (default: as in flashcrowd run)")
    if json:
        parser.add_argument(
            "--json", metavar="FILE", help="write the result as JSON; - is standard output, without tables"
        )


def checked_json(arguments: Namespace) -> Path | None:
    """The file that `--json` names, which can be written; None for standard output or none."""
    from scenarios.outputs import check_file

    if arguments.json in (None, "-"):
        return None
    path = Path(arguments.json)
    check_file(path)
    return path


def tell(arguments: Namespace, document: Mapping[str, Any], show: Callable[[], None]) -> None:
    """The result as `--json` asks for it: to a file and shown, or to standard output alone."""
    from scenarios.outputs import json_text, write_file

    path = checked_json(arguments)
    if path is not None:
        write_file(path, json_text(document))
    if arguments.json == "-":
        print(json_text(document), end="")
    else:
        show()


@contextmanager
def one_line(document: Document) -> Iterator[None]:
    """What can't be simulated becomes an error of the scenario, in one line."""
    try:
        yield
    except ScenarioError:
        raise
    except ValueError as problem:
        raise ScenarioError(f"{document.place.file}: {problem}") from problem


def with_objectives(document: Document, objectives: list[str]) -> Document:
    """The document with the objectives of `--slo NAME=TARGET` in place of its own, if any are given. Raises `ScenarioError`."""
    if not objectives:
        return document
    from scenarios.documents import parse_override

    targets: dict[str, Any] = {}
    for text in objectives:
        name, equals, target = text.partition("=")
        name = name.strip().strip("\"'")
        if not equals or not name:
            raise ScenarioError(f'--slo: {text!r} is no NAME=TARGET; write --slo "feed.open.p99_ms=50"')
        targets[name] = parse_override(f"target={target}")["target"]
    origins = {path: file for path, file in document.origins.items() if path[:1] != ("slo",)}
    return Document(document.name, {**document.values, "slo": targets}, {**origins, ("slo",): "--slo"}, document.folders)


def require_objectives(place: Place, slo: Mapping[str, float]) -> None:
    """Raise `ScenarioError` if there is nothing to meet."""
    if not slo:
        raise place.at("slo").error("the scenario has no objective", 'add [slo], or --slo "NAME=TARGET"')


class Narrator:
    """Says on standard error what is going on: a line for each thing found, and a spinner meanwhile where that is a terminal."""

    def __init__(self, title: str) -> None:
        from rich.console import Console

        self._console = Console(file=sys.stderr, highlight=False, width=None if sys.stderr.isatty() else 160)
        self._status = self._console.status(title)

    def __enter__(self) -> Narrator:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(text, markup=False, soft_wrap=True)
