"""Random networks for property tests: every kind of step, every discipline, crashes and changes of capacity."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from model.distributions import constant, exponential, gamma, hyperexponential, lognormal, uniform
from model.network import (
    DISCIPLINES,
    HOST_DISCIPLINES,
    Acquire,
    Arm,
    Branch,
    Cache,
    Delay,
    Hold,
    Host,
    Lookup,
    Mark,
    Network,
    Operation,
    Publish,
    Quota,
    Respond,
    Scatter,
    Serve,
    Station,
    Topic,
    Try,
)

STATIONS, TOPICS, ATTRIBUTES, MILESTONES = ("a", "b"), ("first", "second"), ("n", "key"), ("m1", "m2")
UNTIL_S = 40.0

# Constants with few bits make simultaneous events; the others make none.
times = st.one_of(
    st.sampled_from([0.0, 0.25, 0.5, 1.0]).map(constant),
    st.sampled_from(
        [exponential(0.5), uniform(0.0, 1.0), gamma(0.5, 2.0), lognormal(0.3, 1.0), hyperexponential(0.4, 3.0)]
    ),
)


def costs(names: tuple[str, ...]) -> st.SearchStrategy[dict[str, float]]:
    return st.dictionaries(st.sampled_from(names), st.sampled_from([0.0, 0.0625, 0.1]), max_size=2)


@st.composite
def routes(
    draw: Any, depth: int = 2, place: str = "operation", in_try: bool = False, holding: bool = False
) -> tuple[Any, ...]:
    """Steps; `place` is operation, child, batch or event (a child that a batch has for one of its records)."""
    batch = place.startswith("batch")
    names = ("events", "keys", "weight") if batch else ATTRIBUTES
    kinds = ["delay", "serve", "serve", "acquire", "lookup", "branch"]
    kinds += [] if batch else ["publish"]
    kinds += ["mark"] if place != "batch child" else []
    kinds += ["respond"] if place == "operation" else []
    kinds += (
        ["scatter"] * (depth > 0)
        + ["hold"] * (depth > 0 and not holding)
        + ["try"] * (depth > 0 and not in_try)
        + ["each"] * (place == "batch" and depth > 0)
    )
    steps: list[Any] = []
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=4)):
        inner = routes(depth=depth - 1, place=place, in_try=in_try, holding=holding)
        match kind:
            case "delay":
                steps.append(Delay(draw(times), per=draw(costs(names))))
            case "serve":
                steps.append(Serve(draw(st.sampled_from(STATIONS)), draw(times), per=draw(costs(names))))
            case "acquire":
                steps.append(Acquire("quota"))
            case "lookup" if depth > 0:
                steps.append(Lookup("cache", draw(st.sampled_from(names)), miss=draw(inner), hit=draw(inner)))
            case "branch" if depth > 0:
                steps.append(Branch((Arm(0.5, draw(inner)), Arm(0.25, draw(inner)))))
            case "publish":
                key = draw(st.sampled_from([None, "key"]))
                weight = draw(st.sampled_from([None, "n"]))
                target = (
                    "second" if place == "event" else draw(st.sampled_from(TOPICS))
                )  # so that no record breeds for ever
                steps.append(Publish(target, key=key, weight=weight))
            case "hold":
                held = routes(depth=depth - 1, place=place, in_try=in_try, holding=True)
                steps.append(Hold("pool", (*draw(held), Serve("pool", draw(times)))))
            case "mark":
                steps.append(Mark(draw(st.sampled_from(MILESTONES))))
            case "respond":
                steps.append(Respond())
            case "scatter":
                count = draw(st.sampled_from([0, 1, 3, "events" if batch else "n"]))
                below = "batch child" if batch else "event" if place == "event" else "child"
                steps.append(Scatter(draw(routes(depth=depth - 1, place=below)), count=count, join=draw(st.booleans())))
            case "each":
                steps.append(
                    Scatter(draw(routes(depth=depth - 1, place="event")), each_event=True, join=draw(st.booleans()))
                )
            case "try":
                steps.append(
                    Try(
                        draw(routes(depth=depth - 1, place=place, in_try=True, holding=holding)),
                        timeout_s=draw(st.sampled_from([0.0, 0.5, 1.0])),
                        attempts=draw(st.integers(1, 3)),
                        backoff=draw(times),
                        growth=draw(st.sampled_from([1.0, 2.0])),
                        otherwise=draw(inner),
                    )
                )
    return tuple(steps)


@st.composite
def topics(draw: Any, name: str) -> Topic:
    # Only the first topic's events may publish: to the second.
    steps = draw(routes(place="batch", depth=2 if name == "first" else 0))
    return Topic(
        name,
        steps,
        partitions=draw(st.integers(1, 4)),
        linger_s=draw(st.sampled_from([0.0, 0.25, 0.3])),
        batch_max=draw(st.integers(1, 4)),
        acknowledgement=draw(times),
        consumers=draw(st.integers(1, 3)),
        poll_max=draw(st.integers(1, 5)),
        poll_wait_s=draw(st.sampled_from([0.0, 0.25])),
        session_timeout_s=draw(st.sampled_from([0.5, 2.0])),
        retry_s=draw(st.sampled_from([0.25, 1.0])),
        idempotent=draw(st.booleans()),
    )


@st.composite
def stations(draw: Any, name: str) -> Station:
    """A station of its own, or one whose servers are processes of the host."""
    limit, servers = draw(st.sampled_from([None, None, 0, 3])), draw(st.integers(1, 3))
    discipline = draw(st.sampled_from(DISCIPLINES)) if name != "pool" else "fifo"
    if discipline == "processor_sharing" or draw(st.booleans()):
        return Station(name, servers, discipline, limit)
    return Station(
        name,
        servers,
        discipline,
        limit,
        host="machine",
        preempts=draw(st.booleans()),
        wake_s=draw(st.sampled_from([0.0, 0.25])),
        cpu_burst_s=draw(st.sampled_from([0.0, 0.5])),
        cold=draw(st.sampled_from([(), ((0.25, 1.0), (1.0, 2.0))])),
        gc_every=3,
        gc_pause_s=0.5,
    )


@st.composite
def networks(draw: Any) -> Network:
    """A complete network of two operations, three stations (one of which is held), a host and two topics."""
    return Network(
        operations=tuple(Operation(name, draw(routes()), priority=draw(st.integers(0, 1))) for name in ("x", "y")),
        stations=tuple(draw(stations(name)) for name in (*STATIONS, "pool")),
        topics=tuple(draw(topics(name)) for name in TOPICS),
        caches=(Cache("cache", draw(st.sampled_from([0.5, 5.0]))),),
        quotas=(Quota("quota", draw(st.sampled_from([2.0, 10.0])), draw(st.sampled_from([1.0, 4.0]))),),
        attributes=ATTRIBUTES,
        hosts=(Host("machine", draw(st.integers(1, 2)), draw(st.sampled_from(HOST_DISCIPLINES))),),
    )


@st.composite
def schedules(draw: Any) -> list[tuple[Any, ...]]:
    """Up to fifty requests in half of the time, often several at one instant."""
    gaps = draw(st.lists(st.sampled_from([0.0, 0.0, 0.25, 0.5, 0.3]), max_size=50))
    schedule, now_s = [], 0.0
    for gap_s in gaps:
        now_s += gap_s
        attributes = {"n": float(draw(st.integers(0, 3))), "key": float(draw(st.integers(0, 5)))}
        schedule.append((now_s, draw(st.sampled_from(["x", "y"])), attributes))
    return schedule


@st.composite
def controls(draw: Any, network: Network) -> list[tuple[Any, ...]]:
    """What happens from outside: crashes, returns, changes of capacity, in order of time."""
    actions: list[tuple[Any, ...]] = []
    for _ in range(draw(st.integers(0, 8))):
        instant = draw(st.integers(0, 80)) / 4
        if draw(st.booleans()):
            number = draw(st.integers(0, len(TOPICS) - 1))
            member = draw(st.integers(0, network.topics[number].consumers - 1))
            actions.append((instant, draw(st.sampled_from(["crash", "restore"])), number, member))
        else:
            actions.append((instant, "set_servers", draw(st.integers(0, 1)), draw(st.integers(0, 4))))
    return sorted(actions, key=lambda action: action[0])
