"""`[slo]`: what should hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scenarios.fields import Place, as_table, hint, number
from scenarios.units import UNITS, converted

STATISTICS = ("mean", "p50", "p90", "p95", "p99", "p999", "max")
_RATIOS = ("rejected_ratio", "timed_out_ratio")


@dataclass(frozen=True)
class Names:
    """What an objective, an event or a fault can refer to. `members` is the size of each consumer group, by
    each name it has; `workers` are those of the stations that are consumer groups.
    """

    operations: tuple[str, ...]
    milestones: tuple[str, ...]
    stations: tuple[str, ...]  # worker kinds included
    topics: tuple[str, ...]
    members: Mapping[str, int]
    workers: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()


def read_slo(place: Place, value: Any, names: Names) -> dict[str, float]:
    """`[slo]` as figure → target, times in seconds: `"feed.open.p99_ms" = 50` is {"feed.open.p99_s": 0.05}."""
    targets: dict[str, float] = {}
    for path, target in _flat(as_table(place, value), ()):
        here = place.at(*path)
        key, unit = _figure(here, ".".join(path), names)
        read = number(0, 1)(here, target) if key.endswith((*_RATIOS, "hit_ratio")) else number()(here, target)
        if key in targets:
            raise here.error(f"{key} is given twice", "keep one of the two")
        targets[key] = converted(read, "time", unit) if unit else read
    return targets


def _flat(table: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Unquoted keys with dots make nested tables of TOML; here they are names with dots."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, (*path, key))
        else:
            yield (*path, key), value


def _figure(place: Place, key: str, names: Names) -> tuple[str, str]:
    """The figure's name with times in seconds, and the unit of time it was written in ("" for none)."""
    subject, _, figure = key.rpartition(".")
    kind, _, inner = subject.partition(".")
    for kind_name, known, only in (
        ("stations", names.stations, "utilisation"),
        ("topics", names.topics, "max_lag"),
        ("caches", names.caches, "hit_ratio"),
    ):
        if kind == kind_name:
            if inner not in known:
                raise place.error(f"no {kind[:-1]} {inner!r}", hint(inner, known))
            if figure != only:
                raise place.error(f"no figure {figure!r} of a {kind[:-1]}", f"write {subject}.{only}")
            return key, ""
    if subject not in names.operations and subject not in names.milestones:
        raise place.error(
            f"no operation or milestone {subject!r}", hint(subject, (*names.operations, *names.milestones))
        )
    counts = ("throughput_per_s", *_RATIOS) if subject in names.operations else ()
    if figure in counts:
        return key, ""
    statistic, _, unit = figure.rpartition("_")
    if statistic in STATISTICS and unit in UNITS["time"]:
        return f"{subject}.{statistic}_s", unit
    if figure in STATISTICS:
        raise place.error(f"{figure} has no unit", f"write {figure}_ms or {figure}_s")
    if statistic in STATISTICS:
        raise place.error(f"{figure} is no time", f"write {statistic}_ms or {statistic}_s")
    figures = (*(f"{one}_ms" for one in STATISTICS), *counts)
    raise place.error(f"no figure {figure!r}", hint(figure, figures))
