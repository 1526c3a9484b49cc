"""`--vary KEY=VALUES` of a sweep: lists and ranges of values, and their combinations.

| VALUES | meaning |
|---|---|
| `feed.threshold=1_000,10_000,100_000` | a list of TOML values; words need no quotes |
| `stations.fanout_workers.servers=2..16` | a range, both ends included, in steps of one |
| `run.load_factor=0.5..2..0.25` | a range with its step |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from typing import Any

from scenarios.documents import parse_override
from scenarios.fields import ScenarioError, dotted, shown
from scenarios.toml_text import inline

_NUMBER = r"[+-]?\d[\d_]*(?:\.\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?")
_PARTS = re.compile(r"""\[[^\]]*\]|"[^"]*"|'[^']*'|[^,\[\]"']+""")
MOST_POINTS = 100_000


@dataclass(frozen=True)
class Variation:
    """A key and the values it takes."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Point:
    """One combination: its settings by key, and the overrides that make them."""

    settings: dict[str, Any]
    overrides: tuple[str, ...]


def parse_variation(text: str) -> Variation:
    """`KEY=VALUES` as a variation. Raises `ScenarioError`."""
    right = "write --vary key=1,2,3 or --vary key=1..9..2"
    key, equals, values = text.partition("=")
    key = key.strip()
    if not equals or not key or not values.strip():
        raise ScenarioError(f"--vary: {shown(text)} is no KEY=VALUES; {right}")
    found: list[Any] = []
    for part in _PARTS.findall(values):
        part = part.strip()
        if not part:
            continue
        match = _RANGE.fullmatch(part)
        found += _range(key, part, match) if match else [_value(key, part)]
    if not found:
        raise ScenarioError(f"--vary: {key}: has no value; {right}")
    twice = [value for index, value in enumerate(found) if value in found[:index]]
    if twice:
        raise ScenarioError(f"--vary: {key}: {shown(twice[0])} is given twice; leave one out")
    return Variation(key, tuple(found))


def _value(key: str, text: str) -> Any:
    value: Any = parse_override(f"{key}={text}")
    while isinstance(value, dict) and len(value) == 1:
        value = next(iter(value.values()))
    return value


def _range(key: str, text: str, match: re.Match[str]) -> list[int | float]:
    numbers = [Decimal(part.replace("_", "")) for part in match.groups(default="1")]
    first, last, step = numbers
    if step <= 0 or last < first:
        raise ScenarioError(f"--vary: {key}: {shown(text)} is empty; write the lower end first and a step above 0")
    count = int((last - first) / step) + 1
    if count > MOST_POINTS:
        raise ScenarioError(f"--vary: {key}: {shown(text)} has {count:,} values, more than {MOST_POINTS:,}; take larger steps")
    whole = all(number == int(number) for number in numbers) and "." not in text.replace("..", "")
    values = [first + step * number for number in range(count)]
    return [int(value) if whole else float(value) for value in values]


def points_of(variations: Sequence[Variation]) -> list[Point]:
    """All combinations, the last key varying fastest. Raises `ScenarioError` for a key given twice or too many."""
    keys = [variation.key for variation in variations]
    twice = [key for key in keys if keys.count(key) > 1]
    if twice:
        raise ScenarioError(f"--vary: {twice[0]} is given twice; put all its values into one")
    count = 1
    for variation in variations:
        count *= len(variation.values)
    if count > MOST_POINTS:
        raise ScenarioError(f"--vary: {count:,} combinations, more than {MOST_POINTS:,}; vary less at a time")
    points = []
    for values in product(*(variation.values for variation in variations)):
        settings = dict(zip(keys, values, strict=True))
        points.append(Point(settings, tuple(f"{key}={inline(value)}" for key, value in settings.items())))
    return points


def label(key: str) -> str:
    """The last words of a key, enough for a column or an axis."""
    return ".".join(key.split(".")[-2:]) if "." in key else dotted((key,))
