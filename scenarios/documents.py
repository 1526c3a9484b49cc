"""Scenario files before they are understood: finding them, TOML, `extends`, overrides, and which file said what."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scenarios import fields
from scenarios.fields import Place, ScenarioError, hint
from scenarios.units import same_quantity

FOLDER = Path(__file__).resolve().parent
DEFAULTS = FOLDER / "defaults.toml"
_KEY = re.compile(
    r"""\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=(.*)""", re.S
)
_ABOUT_THE_FILE = ("extends", "answer")  # whoever extends it has an answer of his own
# Two ways to say one thing: the later file's way replaces the earlier file's.
_INSTEAD = {"arrivals": "interarrival", "interarrival": "arrivals"}


@dataclass(frozen=True)
class Document:
    """A scenario as a table, `extends` and overrides applied.

    `origins` maps a path in it to the file, as the user named it, that said so; `own` are the paths that a file other than the
    defaults said. `folders` maps these names to folders, for files that a scenario names.
    """

    name: str
    values: dict[str, Any]
    origins: dict[fields.Path, str]
    folders: Mapping[str, Path]

    @property
    def place(self) -> Place:
        """The top of the document."""
        return Place(self.origins)

    @property
    def declared(self) -> bool:
        """Whether it declares a network of its own instead of the platform."""
        return "network" in self.values


def shipped() -> dict[str, Path]:
    """The scenarios that come with Flashcrowd, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml")) if path != DEFAULTS}


def question_of(path: Path) -> tuple[str, str]:
    """The question a scenario file asks, and the answer it gave; empty if it has none. Raises `ScenarioError` if it can't be read."""
    table = read_toml(path, path.name)
    question, answer = table.get("question", ""), table.get("answer", "")
    return question if isinstance(question, str) else "", answer if isinstance(answer, str) else ""


def find(name_or_path: str, beside: Path | None = None) -> Path:
    """The file of a shipped name or a path; a relative path counts from the folder `beside`, else from where one is."""
    names = shipped()
    if name_or_path in names:
        return names[name_or_path]
    path = (beside or Path()) / name_or_path
    try:
        if path.is_file():
            return path
        wrong = "is a folder" if path.is_dir() else "no such file" if _looks_like_a_path(name_or_path) else ""
    except (OSError, ValueError):
        wrong = "no such file"
    if wrong:
        raise ScenarioError(f"{name_or_path}: {wrong}; write the path of a .toml file, or one of: {', '.join(names)}")
    raise ScenarioError(f"{name_or_path}: no scenario of this name; {hint(name_or_path, names)}")


def _looks_like_a_path(name: str) -> bool:
    return "/" in name or "\\" in name or name.endswith(".toml")


def read_toml(path: Path, label: str) -> dict[str, Any]:
    """A TOML file as a table. Raises `ScenarioError`, naming the file by `label`, if it can't be read."""
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8") + "\n")  # so that an error in the last line has a place
    except OSError as problem:
        raise ScenarioError(
            f"{label}: can't be read ({problem.strerror}); check the path and its permissions"
        ) from problem
    except UnicodeDecodeError as problem:
        raise ScenarioError(f"{label}: byte {problem.start + 1} is not UTF-8; save the file as UTF-8") from problem
    except RecursionError as problem:
        raise ScenarioError(f"{label}: nested too deep; write fewer levels") from problem
    except ValueError as problem:  # TOMLDecodeError, or a number with too many digits
        raise ScenarioError(f"{label}: not TOML: {problem}; correct it there") from problem


def assemble(
    name_or_path: str, overrides: Sequence[str] = (), options: Mapping[str, tuple[fields.Path, Any]] | None = None
) -> Document:
    """Read a scenario, what it extends and the defaults; then `overrides` ("feed.threshold=5000") and `options`.

    `options` maps the name of an option, for error messages, to the path that it sets and the value. Raises `ScenarioError`.
    """
    path = find(name_or_path)
    layers = _layers(path, f"{name_or_path}.toml" if name_or_path in shipped() else name_or_path)
    settings = [parse_override(override) for override in overrides]
    declared = any("network" in table for table in [*(table for _, _, table in layers), *settings])
    values: dict[str, Any] = {}
    origins: dict[fields.Path, str] = {}
    defaults = read_toml(DEFAULTS, DEFAULTS.name)
    if declared:
        defaults = {key: defaults[key] for key in ("question", "run", "prices")}
    try:
        merge(values, defaults, DEFAULTS.name, origins)
        for label, _, table in layers:
            merge(values, {key: value for key, value in table.items() if key not in _ABOUT_THE_FILE}, label, origins)
        for setting in settings:
            merge(values, setting, "--set", origins)
        for option, (key_path, value) in (options or {}).items():
            merge(values, _nested(key_path, value), option, origins)
    except RecursionError as problem:
        raise ScenarioError(f"{name_or_path}: nested too deep; write fewer levels") from problem
    origins[()] = layers[-1][0]
    folders = {label: path.parent for label, path, _ in layers}
    return Document(path.stem, values, origins, folders)


def _layers(path: Path, label: str, seen: tuple[Path, ...] = ()) -> list[tuple[str, Path, dict[str, Any]]]:
    """The chain of files that a scenario extends, itself last, each as (label, path, table)."""
    table = read_toml(path, label)
    here = (label, path, table)
    if "extends" not in table:
        return [here]
    place = Place({(): label}, ("extends",))
    base = fields.text(place, table["extends"])
    if base in ("defaults", DEFAULTS.name):
        raise place.error("every scenario rests on the defaults", "leave extends out")
    try:
        inner = find(base, path.parent)
    except ScenarioError as problem:
        wrong, _, right = str(problem).rpartition("; ")
        raise place.error(wrong, right) from problem
    seen = (*seen, path.resolve())
    if inner.resolve() in seen:
        raise place.error(f"{fields.shown(base)} extends this file in turn", "break the circle")
    inner_label = f"{base}.toml" if base in shipped() else str(Path(label).parent / base)
    return [*_layers(inner, inner_label, seen), here]


def merge(
    base: dict[str, Any], layer: Mapping[str, Any], label: str, origins: dict[fields.Path, str], path: fields.Path = ()
) -> None:
    """Put `layer` over `base`, key by key, and note in `origins` that `label` said so.

    The same key in another unit replaces the old one; a table that names a `distribution` replaces the old one whole, because
    the keys of two kinds do not mix. Lists are replaced.
    """
    for key, value in layer.items():
        here = (*path, key)
        for old in [old for old in base if old not in layer and _replaces(key, value, old, base[old])]:
            del base[old]
        inner = base.get(key)
        if isinstance(value, dict) and isinstance(inner, dict) and "distribution" not in value:
            merge(inner, value, label, origins, here)
        else:
            base[key] = deepcopy(value)
            for stale in [other for other in origins if other[: len(here)] == here]:
                del origins[stale]
            origins[here] = label


def _replaces(key: str, value: Any, old: str, old_value: Any) -> bool:
    if _INSTEAD.get(key) == old:
        return True
    return same_quantity(key, old) and not isinstance(value, dict) and not isinstance(old_value, dict)


def parse_override(text: str) -> dict[str, Any]:
    """`key=value` as nested tables; the value is TOML, or a bare word. Raises `ScenarioError`."""
    right = "write --set section.key=value"
    match = _KEY.fullmatch(text)
    if match is None or "\n" in text:
        raise ScenarioError(f"--set: {fields.shown(text)} is no key=value; {right}")
    key, value = match[1], match[2].strip()
    try:
        return tomllib.loads(f"{key} = {value}")
    except (ValueError, RecursionError):
        if not value or value[0] in "\"'[{":
            raise ScenarioError(f"--set: {key}: {fields.shown(value)} is no TOML value; {right}") from None
    try:
        return tomllib.loads(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    except ValueError as problem:
        raise ScenarioError(f"--set: {fields.shown(text)} is no key=value; {right}") from problem


def _nested(path: fields.Path, value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    table: dict[str, Any] = value
    return table
