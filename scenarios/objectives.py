"""`[slo]`, `[[events]]` and `[[faults]]`: what should hold, and what happens meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from model.scenario import FAULT_KINDS, Event, Fault
from scenarios.fields import Field, Place, Spec, as_list, as_table, choice, hint, name, number, read_fields, whole
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


def read_slo(place: Place, value: Any, names: Names) -> dict[str, float]:
    """`[slo]` as figure → target, times in seconds: `"feed.open.p99_ms" = 50` is {"feed.open.p99_s": 0.05}."""
    targets: dict[str, float] = {}
    for path, target in _flat(as_table(place, value), ()):
        here = place.at(*path)
        key, unit = _figure(here, ".".join(path), names)
        read = number(0, 1)(here, target) if key.endswith(_RATIOS) else number()(here, target)
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
    for kind_name, known, only in (("stations", names.stations, "utilisation"), ("topics", names.topics, "max_lag")):
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


def read_events(
    place: Place, value: Any, names: Names, duration_s: float, users: int, celebrities: int
) -> tuple[Event, ...]:
    """`[[events]]`: one-off requests by one user."""
    spec: Spec = {
        "at_s": Field(number()),
        "operation": Field(choice(names.operations)),
        "user": Field(lambda here, user: _user(here, user, users, celebrities)),
        "count": Field(whole(1, 100_000_000), 1),
        "over_s": Field(number(), 0.0),
    }
    return tuple(Event(**read) for read in _timed(place, value, spec, duration_s))


def _user(place: Place, user: Any, users: int, celebrities: int) -> int | str:
    if not isinstance(user, str):
        return int(whole(0, users - 1)(place, user))
    word, _, number_text = user.partition(":")
    right = 'write a number, or "celebrity:0" for the first of population.celebrities'
    if word != "celebrity" or not (number_text.isascii() and number_text.isdigit()):
        raise place.error(f"is {user!r}", right)
    if len(number_text) > 9 or int(number_text) >= celebrities:
        raise place.error(f"is {user!r}, but population.celebrities has {celebrities}", "name one that there is")
    return user


def read_faults(place: Place, value: Any, names: Names, duration_s: float) -> tuple[Fault, ...]:
    """`[[faults]]`: crashes of consumers, and stations with fewer or more servers."""
    spec: Spec = {
        "kind": Field(choice(FAULT_KINDS)),
        "at_s": Field(number()),
        "target": Field(name),
        "member": Field(whole(0), None),
        "servers": Field(whole(0, 1_000_000), None),
        "back_after_s": Field(number(above=True), None),
    }
    faults = []
    for index, read in enumerate(_timed(place, value, spec, duration_s), 1):
        here = place.at(index)
        crash = read["kind"] == "consumer_crash"
        known = tuple(names.members) if crash else tuple(one for one in names.stations if one not in names.workers)
        choice(known)(here.at("target"), read["target"])
        needless, wanted = ("servers", "member") if crash else ("member", "servers")
        if read[needless] is not None:
            raise here.at(needless).error(f"means nothing to a {read['kind']}", "leave it out")
        if read["servers"] is None and not crash:
            raise here.error("servers is missing", "say how many servers are left")
        read = {**read, "member": read["member"] or 0, "servers": read["servers"] or 0}
        if crash and read["member"] >= names.members[read["target"]]:
            size = names.members[read["target"]]
            raise here.at(wanted).error(f"is {read['member']} of a group of {size}", f"count from 0 to {size - 1}")
        faults.append(Fault(**read))
    return tuple(faults)


def _timed(place: Place, value: Any, spec: Spec, duration_s: float) -> Iterator[dict[str, Any]]:
    for index, table in enumerate(as_list(place, value), 1):
        read = read_fields(place.at(index), table, spec)
        if read["at_s"] > duration_s:
            raise place.at(index, "at_s").error(
                f"is {read['at_s']:g} s, after the end of the run", f"write at most {duration_s:g} s"
            )
        yield read
