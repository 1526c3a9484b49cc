"""Units in key names: `linger_ms`, `duration_s`, `rate_per_s`. Converted once, when a file is read.

| quantity | units | inside Python |
|---|---|---|
| time | us, ms, s, minutes | seconds |
| rate | per_s, per_minute | per second |
| size | bytes, kib, mib, gib | bytes |
| price | usd_per_hour | US dollars per hour |
"""

from __future__ import annotations

from collections.abc import Sequence

# quantity -> unit -> (times, divided by): a division keeps 50 ms the double nearest to 0.05 s.
UNITS: dict[str, dict[str, tuple[int, int]]] = {
    "time": {"us": (1, 1_000_000), "ms": (1, 1000), "s": (1, 1), "minutes": (60, 1)},
    "rate": {"per_s": (1, 1), "per_minute": (1, 60)},
    "size": {"bytes": (1, 1), "kib": (1024, 1), "mib": (1024**2, 1), "gib": (1024**3, 1)},
    "price": {"usd_per_hour": (1, 1)},
}
_BY_LENGTH = sorted(
    ((unit, quantity) for quantity, units in UNITS.items() for unit in units), key=lambda pair: -len(pair[0])
)


def split_unit(key: str) -> tuple[str, str, str]:
    """`key` as (stem, quantity, unit): "linger_ms" is ("linger", "time", "ms"); no unit: (key, "", "")."""
    for unit, quantity in _BY_LENGTH:
        stem = key.removesuffix(f"_{unit}")
        if stem and stem != key:
            return stem, quantity, unit
    return key, "", ""


def same_quantity(one: str, other: str) -> bool:
    """Whether two keys name the same thing in different units."""
    stem, quantity, _ = split_unit(one)
    return one != other and quantity != "" and (stem, quantity) == split_unit(other)[:2]


def converted(value: float, quantity: str, unit: str) -> float:
    """`value` in seconds, per second, bytes or dollars per hour."""
    times, divided_by = UNITS[quantity][unit]
    return value * times / divided_by


def spellings(key: str) -> str:
    """All ways to write a key that has a unit: "linger_us, linger_ms, linger_s or linger_minutes"."""
    stem, quantity, _ = split_unit(key)
    return one_of([f"{stem}_{unit}" for unit in UNITS[quantity]]) if quantity else key


def one_of(names: Sequence[str]) -> str:
    """Names as prose: "a, b or c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
