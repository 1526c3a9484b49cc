"""What happens meanwhile: `[[events]]`, `[[faults]]`, `[[surges]]`, `[[cascades]]`, `[[closed_users]]`, `[[autoscaling]]`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from model.scenario import FAULT_KINDS, Autoscaling, Cascade, ClosedUsers, Event, Fault, Surge
from scenarios.durations import duration
from scenarios.fields import Field, Place, Spec, as_list, choice, name, number, read_fields, whole
from scenarios.objectives import Names


def read_events(
    place: Place, value: Any, names: Names, duration_s: float, users: int, celebrities: int
) -> tuple[Event, ...]:
    """`[[events]]`: one-off requests by one user."""
    spec: Spec = {
        "at_s": Field(number()),
        "operation": Field(choice(names.operations)),
        "user": Field(lambda here, user: _user(here, user, users, celebrities), 0),
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


_FAULT_KEYS = {
    "consumer_crash": (("target",), ("member",)),
    "capacity": (("target", "servers"), ()),
    "server_crash": (("target", "servers"), ()),
    "slow_server": (("target", "speed"), ()),
    "cache_flush": (("target",), ()),
    "zone_loss": (("targets", "share_ratio"), ()),
}  # needed, possible; beside at_s and back_after_s

_SAY = {
    "target": "say what it hits",
    "targets": "list the stations and groups it hits",
    "share_ratio": "say which share of their servers is gone",
    "servers": "say how many servers are left",
    "speed": "say how fast the servers are then: 0.5 is half as fast",
}


def read_faults(place: Place, value: Any, names: Names, duration_s: float) -> tuple[Fault, ...]:
    """`[[faults]]`: crashes of consumers and servers, stations with fewer, more or slower servers, flushes, the loss of a zone."""
    spec: Spec = {
        "kind": Field(choice(FAULT_KINDS)),
        "at_s": Field(number()),
        "target": Field(name, None),
        "targets": Field(_names, None),
        "share_ratio": Field(number(0, 1, above=True), None),
        "member": Field(whole(0), None),
        "servers": Field(whole(0, 1_000_000), None),
        "speed": Field(number(0, 1000, above=True), None),
        "back_after_s": Field(number(above=True), None),
    }
    faults = []
    for index, read in enumerate(_timed(place, value, spec, duration_s), 1):
        here = place.at(index)
        _check_fault(here, read, names)
        given = {key: one for key, one in read.items() if one is not None}
        faults.append(Fault(**{"target": "", "member": 0, "servers": 0, "back_after_s": None, **given}))
    return tuple(faults)


def _check_fault(place: Place, read: Mapping[str, Any], names: Names) -> None:
    kind, stations = read["kind"], tuple(one for one in names.stations if one not in names.workers)
    needed, possible = _FAULT_KEYS[kind]
    for key in ("target", "targets", "share_ratio", "member", "servers", "speed"):
        if key not in (*needed, *possible) and read[key] is not None:
            raise place.at(key).error(f"means nothing to a {kind}", "leave it out")
    known = {"consumer_crash": tuple(names.members), "cache_flush": names.caches}.get(kind, stations)
    if kind == "cache_flush" and read["back_after_s"] is not None:
        raise place.at("back_after_s").error("means nothing to a cache_flush", "leave it out")
    if read["target"] is not None:
        choice(known)(place.at("target"), read["target"])
    for number_in_list, target in enumerate(read["targets"] or (), 1):
        choice((*stations, *names.members))(place.at("targets", number_in_list), target)
    for key in needed:
        if read[key] is None:
            raise place.error(f"{key} is missing", _SAY[key])
    if kind == "consumer_crash" and (read["member"] or 0) >= names.members[read["target"]]:
        size = names.members[read["target"]]
        raise place.at("member").error(f"is {read['member']} of a group of {size}", f"count from 0 to {size - 1}")


def _names(place: Place, value: Any) -> tuple[str, ...]:
    found = tuple(str(name(place.at(index), one)) for index, one in enumerate(as_list(place, value), 1))
    if not found:
        raise place.error("is empty", "name at least one")
    return found


def read_surges(place: Place, value: Any, names: Names, duration_s: float) -> tuple[Surge, ...]:
    """`[[surges]]`: arrival rates that rise and fall."""
    spec: Spec = {
        "at_s": Field(number()),
        "factor": Field(number(0, 1e6)),
        "rise_s": Field(number(), 0.0),
        "hold_s": Field(number(), 0.0),
        "decay_s": Field(number(), 0.0),
        "operations": Field(lambda here, given: _operations(here, given, names), ()),
    }
    return tuple(Surge(**read) for read in _timed(place, value, spec, duration_s))


def read_cascades(place: Place, value: Any, names: Names, duration_s: float) -> tuple[Cascade, ...]:
    """`[[cascades]]`: posts that go viral."""
    spec: Spec = {
        "at_s": Field(number()),
        "operation": Field(choice(names.operations), "interactions.like"),
        "first": Field(whole(1, 10_000_000), 1),
        "branching_ratio": Field(number(0, 2)),
        "delay_s": Field(number(above=True)),
    }
    return tuple(Cascade(**read) for read in _timed(place, value, spec, duration_s))


def read_closed_users(place: Place, value: Any, names: Names) -> tuple[ClosedUsers, ...]:
    """`[[closed_users]]`: users who wait for each answer before they ask again."""
    spec: Spec = {
        "users": Field(whole(1, 1_000_000)),
        "operations": Field(lambda here, given: _operations(here, given, names)),
        "think_time": Field(duration),
    }
    found = [read_fields(place.at(index), one, spec) for index, one in enumerate(as_list(place, value), 1)]
    for index, read in enumerate(found, 1):
        if not read["operations"]:
            raise place.at(index, "operations").error("is empty", "name what they ask for")
    return tuple(ClosedUsers(**read) for read in found)


def _operations(place: Place, value: Any, names: Names) -> tuple[str, ...]:
    return tuple(choice(names.operations)(place.at(index), one) for index, one in enumerate(as_list(place, value), 1))


def read_autoscaling(place: Place, value: Any, names: Names) -> tuple[Autoscaling, ...]:
    """`[[autoscaling]]`: stations that grow and shrink with their utilisation."""
    spec: Spec = {
        "target": Field(choice(tuple(one for one in names.stations if one not in names.workers))),
        "utilisation": Field(number(0, 1, above=True)),
        "least": Field(whole(1, 100_000), 1),
        "most": Field(whole(1, 100_000)),
        "interval_s": Field(number(above=True), 15.0),  # source: Kubernetes, --horizontal-pod-autoscaler-sync-period
        "delay_s": Field(number(), 60.0),  # assumption: until a new server serves
        "cooldown_s": Field(number(), 300.0),  # source: Kubernetes, --horizontal-pod-autoscaler-downscale-stabilization
    }
    found = []
    for index, table in enumerate(as_list(place, value), 1):
        read = read_fields(place.at(index), table, spec)
        if read["least"] > read["most"]:
            raise place.at(index, "least").error("is more than most", "give the smaller number first")
        found.append(Autoscaling(**read))
    return tuple(found)


def _timed(place: Place, value: Any, spec: Spec, duration_s: float) -> Iterator[dict[str, Any]]:
    for index, table in enumerate(as_list(place, value), 1):
        read = read_fields(place.at(index), table, spec)
        if read["at_s"] > duration_s:
            raise place.at(index, "at_s").error(
                f"is {read['at_s']:g} s, after the end of the run", f"write at most {duration_s:g} s"
            )
        yield read
