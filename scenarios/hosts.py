"""Hosts in scenario files, and what stations say of their servers as processes; the same in the platform and in own networks.

    [hosts.machine]                      # [network.hosts.machine] in a network of one's own
    cores = 2
    discipline = "wake_preemption"       # or "processor_sharing", "fifo", "fair"
    slice_ms = 1.4                       # of fair: Linux with two cores,
    tick_ms = 4                          # and 250 ticks a second
    speed = 1.0
    speed_varies = [                     # others use the machine as well: work takes now more, now less time,
        { cv = 0.2, holds_ms = 50 },     # for moments
        { cv = 0.1, holds_s = 5 },       # and for so long on the average
    ]
    away_ratio = 0.1                     # others take a core for this share of the time,
    away_ms = 2                          # for so long each time on the average

    [stations.api]
    host = "machine"
    preempts = false                     # under wake_preemption: as it wakes it waits its turn
    wake_us = 20
    cpu_burst_us = 50                    # it waits for others after so much work: between the statements of a batch
    cold = [{ idle_ms = 0.3, factor = 1.0 }, { idle_ms = 16, factor = 2.0 }]
    gc_every = 10_000
    gc_pause_ms = 12

What each means: `model/hosts.py` and `model.network.Station`.
"""

from __future__ import annotations

from typing import Any

from model.hosts import HOST_DISCIPLINES, Host, IdleFactors
from scenarios.fields import Field, Place, Spec, as_list, as_table, choice, flag, name, number, read_fields, whole


def _varies(place: Place, value: Any) -> tuple[tuple[float, float], ...]:
    factor: Spec = {"cv": Field(number(above=True)), "holds_s": Field(number(above=True))}
    every = [read_fields(place.at(index), item, factor) for index, item in enumerate(as_list(place, value), 1)]
    return tuple((read["cv"], read["holds_s"]) for read in every)


HOST: Spec = {
    "cores": Field(whole(1, 100_000), 1),
    "discipline": Field(choice(HOST_DISCIPLINES), "processor_sharing"),
    "speed": Field(number(above=True), 1.0),
    "speed_varies": Field(_varies, ()),
    "slice_s": Field(number(above=True), Host.slice_s),
    "tick_s": Field(number(), Host.tick_s),
    "away_ratio": Field(number(), 0.0),
    "away_s": Field(number(), 0.0),
}


def _cold(place: Place, value: Any) -> IdleFactors:
    point: Spec = {"idle_s": Field(number()), "factor": Field(number(above=True))}
    points, before_s = [], -1.0
    for index, item in enumerate(as_list(place, value), 1):
        read = read_fields(place.at(index), item, point)
        if read["idle_s"] <= before_s:
            raise place.at(index).error("its idle time is not longer than the one before", "let idle times rise")
        before_s = read["idle_s"]
        points.append((read["idle_s"], read["factor"]))
    return tuple(points)


def processes(hosts: tuple[str, ...]) -> Spec:
    """The keys of a station whose servers are processes."""
    right = None if hosts else "declare it, [hosts.NAME] or [network.hosts.NAME]"
    return {
        "host": Field(choice(hosts, right), None),
        "preempts": Field(flag, True),
        "wake_s": Field(number(), 0.0),
        "cold": Field(_cold, ()),
        "cpu_burst_s": Field(number(), 0.0),
        "gc_every": Field(whole(0), 0),
        "gc_pause_s": Field(number(), 0.0),
    }


def read_hosts(place: Place, value: Any) -> tuple[Host, ...]:
    """`[hosts.NAME]`. Raises `ScenarioError`."""
    hosts = []
    for title, table in as_table(place, value).items():
        name(place.at(title), title)
        hosts.append(Host(title, **read_fields(place.at(title), table, HOST)))
    return tuple(hosts)
