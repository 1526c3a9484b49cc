"""The options that the scenario commands share."""

from __future__ import annotations

import argparse
from typing import NoReturn

from scenarios.documents import Document
from scenarios.fields import ScenarioError
from scenarios.loader import load_document


class Parser(argparse.ArgumentParser):
    """Argparse with errors of one line, and examples that keep their lines."""

    def __init__(self, command: str, about: str, examples: str) -> None:
        super().__init__(
            prog=f"flashcrowd {command}",
            description=about,
            epilog="examples:\n" + examples,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """One line, and the exit code of bad input."""
        raise ScenarioError(f"{self.prog}: {message}; see {self.prog} --help")

    def scenario(self, metavar: str = "S") -> None:
        """Add the scenario and what changes it."""
        self.add_argument("scenario", metavar=metavar, help="a shipped scenario's name, or the path of a .toml file")
        self.add_argument(
            "--set", metavar="KEY=VALUE", action="append", default=[], help="change a value; can be given several times"
        )
        self.add_argument("--seed", type=int, metavar="N", help="the seed of every random number")
        self.add_argument("--graph", metavar="FILE", help="read who follows whom from an edge list (SNAP format)")
        self.add_argument("--both-ways", action="store_true", help="in that file, whoever is followed follows back")


def document_of(arguments: argparse.Namespace, name: str | None = None) -> Document:
    """The document that the arguments of `Parser.scenario` ask for; `name` for another one, with the same changes."""
    return load_document(
        name or arguments.scenario, arguments.set, arguments.seed, arguments.graph, arguments.both_ways
    )
