"""Reading tables of a scenario file: every key is known, of the right type, in range and in a unit that fits.

`read_fields(place, table, spec)` turns a TOML table into keyword arguments. A spec maps a key, written with the unit that is
used inside Python (`linger_s`), to a `Field`: how its value is read, and its default.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, TypeAlias

from scenarios.units import converted, one_of, spellings, split_unit

Path: TypeAlias = tuple[str | int, ...]
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LARGEST = 1e15


class ScenarioError(ValueError):
    """Something is wrong with a scenario; the text is one line, `FILE: section.key: what is wrong; what would be right`."""

    def __init__(self, text: str) -> None:
        line = " ".join(text.split())
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line))


@dataclass(frozen=True)
class Place:
    """Where in which file something stands. `origins` maps a path to the file (or option) that it came from."""

    origins: Mapping[Path, str]
    path: Path = ()

    def at(self, *more: str | int) -> Place:
        """A place further in; a whole number is a place in a list, counted from 1."""
        return replace(self, path=self.path + more)

    @property
    def file(self) -> str:
        """The file that says it, or the innermost that says something around it."""
        lengths = range(len(self.path), -1, -1)
        return next((self.origins[self.path[:n]] for n in lengths if self.path[:n] in self.origins), "scenario")

    def error(self, wrong: str, right: str) -> ScenarioError:
        """The one-line error for this place."""
        where = f"{dotted(self.path)}: " if self.path else ""
        return ScenarioError(f"{self.file}: {where}{wrong}; {right}")


def dotted(path: Path) -> str:
    """A path as one writes it in TOML: `network.operations."shop.buy".steps #2`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f" #{part}"
        else:
            text += ("." if text else "") + bare(part)
    return text


def bare(key: str) -> str:
    """A key as TOML writes it: quoted where it must be."""
    return key if _BARE.fullmatch(key) else quoted(key)


def quoted(value: str) -> str:
    """A text as TOML writes it, in quotes."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def shown(value: Any) -> str:
    """A value for an error message: short, and on one line."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and abs(value) > 10**18:
        return "a number of more than 18 digits"
    text = quoted(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def hint(name: str, known: Iterable[str]) -> str:
    """What would be right instead of an unknown name: the closest known one, else all of them."""
    names = list(known)
    close = get_close_matches(name, names, 1)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"there are: {', '.join(names)}" if names else "there are none"


Reader: TypeAlias = Callable[[Place, Any], Any]
REQUIRED: Any = object()


@dataclass(frozen=True)
class Field:
    """How a key's value is read, and what it is if it is missing."""

    read: Reader
    default: Any = REQUIRED


Spec: TypeAlias = Mapping[str, Field]


def read_fields(place: Place, table: Any, spec: Spec) -> dict[str, Any]:
    """The values of `table` under the keys of `spec`, converted and with defaults. Raises `ScenarioError`."""
    given: dict[str, str] = {}
    for key in as_table(place, table):
        name = _canonical(place.at(key), key, spec)
        if name in given:
            raise place.at(key).error(f"given twice, as {given[name]} and {key}", "keep one of the two")
        given[name] = key
    values: dict[str, Any] = {}
    for name, field in spec.items():
        if name in given:
            key = given[name]
            value = field.read(place.at(key), table[key])
            _, quantity, unit = split_unit(key)
            values[name] = _scaled(value, quantity, unit) if key != name else value
        elif field.default is REQUIRED:
            raise place.error(f"{name} is missing", f"give it as {spellings(name)}")
        else:
            values[name] = field.default
    return values


def _canonical(place: Place, key: str, spec: Spec) -> str:
    if key in spec:
        return key
    stem, quantity, unit = split_unit(key)
    known = []  # as they would be written with this key's unit
    for name in spec:
        known_stem, known_quantity, _ = split_unit(name)
        if known_quantity and stem == known_stem:
            if quantity == known_quantity:
                return name
            wrong = f"is no {known_quantity}" if quantity else "has no unit"
            raise place.error(wrong, f"write {spellings(name)}")
        if not known_quantity and quantity and stem == name:
            raise place.error("takes no unit", f"write {name}")
        known.append(f"{known_stem}_{unit}" if known_quantity == quantity != "" else name)
    raise place.error("unknown key", hint(key, known))


def _scaled(value: Any, quantity: str, unit: str) -> Any:
    if isinstance(value, tuple):
        return tuple(_scaled(item, quantity, unit) for item in value)
    if isinstance(value, dict):
        return {key: _scaled(item, quantity, unit) for key, item in value.items()}
    return converted(value, quantity, unit) if isinstance(value, (int, float)) else value


def as_table(place: Place, value: Any) -> dict[str, Any]:
    """`value`, if it is a table."""
    if not isinstance(value, dict):
        raise place.error(f"is {shown(value)}", "write a table, [section] or { key = value }")
    return value


def as_list(place: Place, value: Any) -> list[Any]:
    """`value`, if it is a list."""
    if not isinstance(value, list):
        raise place.error(f"is {shown(value)}", "write a list, [ … ]")
    return value


def text(place: Place, value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise place.error(f"is {shown(value)}", 'write a text in quotes, "…"')
    return value


def name(place: Place, value: Any) -> str:
    """A name: a text that is not empty and can be printed."""
    if not text(place, value) or not value.isprintable():
        raise place.error(f"is {json.dumps(value)}", "write a name that can be printed")
    return str(value)


def flag(place: Place, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise place.error(f"is {shown(value)}", "write true or false")
    return value


def number(low: float = 0.0, high: float = _LARGEST, *, above: bool = False) -> Reader:
    """A finite number from `low` to `high`; with `above`, more than `low`."""
    lower = f"above {low:g}" if above else f"from {low:g}"
    right = f"write a number {lower}" + (f" to {high:g}" if high < _LARGEST else "" if above else " up")

    def read(place: Place, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise place.error(f"is {shown(value)}", right)
        if not (low <= value <= high) or (above and value == low) or not math.isfinite(value):
            raise place.error(f"is {shown(value)}", right)
        return float(value)

    return read


def whole(low: int = 1, high: int = 2**31 - 1) -> Reader:
    """A whole number from `low` to `high`."""
    right = f"write a whole number from {low} " + (f"to {high}" if high < 2**31 - 1 else "up")

    def read(place: Place, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise place.error(f"is {shown(value)}", right)
        return value

    return read


def choice(options: Sequence[str], right: str | None = None) -> Reader:
    """One of some names; a near miss gets a suggestion."""

    def read(place: Place, value: Any) -> str:
        if not isinstance(value, str):
            raise place.error(f"is {shown(value)}", f"write {one_of([json.dumps(option) for option in options])}")
        if value not in options:
            raise place.error(f"is {shown(value)}", right or hint(value, options))
        return value

    return read


def numbers(item: Reader) -> Reader:
    """A list of numbers, each read by `item`."""
    return lambda place, value: tuple(item(place.at(index), one) for index, one in enumerate(as_list(place, value), 1))
