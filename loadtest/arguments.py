"""What the commands of observing and validating share of their command lines."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from model.scenario import Scenario


class Parser(argparse.ArgumentParser):
    """Argparse with errors of one line and examples that keep their lines."""

    def __init__(self, prog: str, about: str | None, examples: str) -> None:
        super().__init__(
            prog, description=about, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """One line, exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")

    def add_scenario(self, default: str | None) -> None:
        """The scenario and what changes it."""
        self.add_argument(
            "scenario", nargs="?", default=default, help=f"a shipped scenario's name, or a .toml file ({default})"
        )
        self.add_overrides()

    def add_overrides(self) -> None:
        """What changes a scenario."""
        self.add_argument("--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="change a value")
        self.add_argument("--graph", metavar="FILE", help="read who follows whom from an edge list (SNAP format)")
        self.add_argument("--seed", type=int, metavar="N", help="of every random number (the scenario's)")


def scenario_of(arguments: argparse.Namespace, name: str | None = None) -> tuple[Scenario, str]:
    """The scenario that the arguments ask for, and its resolved document as TOML. Raises `ValueError`."""
    from pathlib import Path

    from scenarios import loader
    from scenarios.toml_text import as_toml

    graph = str(Path(arguments.graph).resolve()) if arguments.graph else None
    document = loader.load_document(name or arguments.scenario, arguments.overrides, arguments.seed, graph)
    return loader.scenario_of(document), as_toml(document)


def duration_s(text: str) -> float:
    """Seconds of "90s", "2m" or "1h"."""
    units = {"s": 1, "m": 60, "h": 3600}
    body, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(body) * unit
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration from 1s to 24h, such as 90s, 2m or 1h")
    return seconds


def rate(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


@contextmanager
def as_file(document: str, name: str = "scenario") -> Iterator[str]:
    """The path of a file that holds a scenario's text meanwhile: whatever reads scenarios reads files."""
    with tempfile.TemporaryDirectory(prefix="flashcrowd-") as folder:
        path = Path(folder) / f"{name}.toml"
        path.write_text(document)
        yield str(path)
