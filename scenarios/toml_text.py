"""A scenario as text: TOML that says the same again, with what differs from the defaults marked; and differences of two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scenarios.documents import DEFAULTS, Document, read_toml
from scenarios.fields import Path, bare, dotted, quoted
from scenarios.units import converted, same_quantity, split_unit

# Tables with a [header] of their own by the length of their path; deeper ones stand inline.
_HEADERS = {"hosts": 2, "stations": 2, "topics": 2, "network": 3}


def as_toml(document: Document, marked: bool = False) -> str:
    """The resolved scenario as a TOML file; with `marked`, a comment says the default where a value differs from it."""
    lines: list[str] = []
    _write_table(document.values, (), lines, read_toml(DEFAULTS, DEFAULTS.name) if marked else None)
    return "\n".join(lines).strip() + "\n"


def differences(one: Document, other: Document) -> list[tuple[str, str, str]]:
    """(key, value in one, value in other) of every key that differs, by meaning: 5 ms is 0.005 s. "–" where it is not given."""
    left, right = dict(_comparable(one.values)), dict(_comparable(other.values))
    rows = []
    for path in [*left, *(path for path in right if path not in left)]:
        values = [side.get(path) for side in (left, right)]
        if values[0] is None or values[1] is None or values[0][0] != values[1][0]:
            key = next(value[1] for value in values if value is not None)
            one_text, other_text = ("–" if value is None else inline(value[2]) for value in values)
            rows.append((key, one_text, other_text))
    return rows


def inline(value: Any) -> str:
    """A value as TOML on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{bare(key)} = {inline(item)}" for key, item in value.items()) + " }" if value else "{}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(inline(item) for item in value) + "]"
    if isinstance(value, int):
        return f"{value:_}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, str):
        return quoted(value)
    return repr(value) if isinstance(value, float) else str(value)


def _write_table(table: dict[str, Any], path: Path, lines: list[str], defaults: dict[str, Any] | None) -> None:
    inner = {key: value for key, value in table.items() if _has_header((*path, key), value)}
    for key, value in table.items():
        if key not in inner:
            text = _steps(value) if key == "steps" else inline(value)
            lines.append(f"{bare(key)} = {text}{_mark(path, key, value, defaults)}")
    for key, value in inner.items():
        here = (*path, key)
        new = defaults is not None and path == () and key not in (*defaults, "network")
        for item in value if isinstance(value, list) else [value]:
            only_headers = item and all(_has_header((*here, name), one) for name, one in item.items())
            if not only_headers:
                header = f"[[{dotted(here)}]]" if isinstance(value, list) else f"[{dotted(here)}]"
                lines += ["", f"{header}  # not among the defaults" if new else header]
            _write_table(item, here, lines, None if new else defaults)


def _has_header(path: Path, value: Any) -> bool:
    if isinstance(value, list):
        return len(path) == 1 and value != [] and all(isinstance(item, dict) for item in value)
    return isinstance(value, dict) and len(path) <= _HEADERS.get(str(path[0]), 1)


def _steps(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return inline(value)
    return "[\n" + "".join(f"  {inline(step)},\n" for step in value) + "]"


def _mark(path: Path, key: str, value: Any, defaults: dict[str, Any] | None) -> str:
    """A comment that says the default, if there is one and it means something else."""
    if defaults is None or path[:1] == ("network",) or (*path, key) == ("question",):
        return ""
    table = defaults
    for part in path:
        table = table.get(str(part), {})
    default = next((name for name in table if name == key or same_quantity(name, key)), None)
    if default is None:
        return "  # not among the defaults"
    if _meaning({key: value}) == _meaning({default: table[default]}):
        return ""
    _, quantity, unit = split_unit(default)
    return f"  # default: {inline(table[default])}{f' {unit}' if quantity == 'time' else ''}"


def _meaning(table: dict[str, Any]) -> dict[Path, Any]:
    return {path: comparable for path, (comparable, _, _) in _comparable(table)}


def _comparable(table: dict[str, Any], path: Path = ()) -> Iterator[tuple[Path, tuple[Any, str, Any]]]:
    """Every leaf under a path without unit, as (value in seconds and so on, its key as written, its value as written)."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _comparable(value, (*path, key))
            continue
        stem, quantity, unit = split_unit(key)
        comparable = value
        if quantity and isinstance(value, (int, float)) and not isinstance(value, bool):
            comparable = converted(value, quantity, unit)
        yield (*path, stem), (comparable, dotted((*path, key)), value)
