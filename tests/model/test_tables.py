"""Lowering: routes become rows, names become numbers, and streams belong to places, not to row numbers."""

import numpy as np

from model import tables as t
from model.distributions import constant, empirical, exponential
from model.network import (
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
from model.tables import lower
from model.variates import stream_of

ONE, TWO = constant(1.0), exponential(2.0)


def network(*steps, **declared):
    return Network((Operation("ask", steps),), **declared)


def rows_of(tables):
    """name → row, as dictionaries."""
    names = tables.steps.dtype.names
    return {
        name: dict(zip(names, row.item(), strict=True))
        for name, row in zip(tables.row_names, tables.steps, strict=True)
    }


def path(tables, number=0, way=()):
    """The names of the rows a task passes; `way` says for each row with two ways whether to go the other one."""
    found, row, turns = [], int(tables.first_row[number]), list(way)
    while row not in (t.END_ROW, t.FAILED_ROW):
        found.append(tables.row_names[row])
        step = tables.steps[row]
        forks = step["op"] in (t.BRANCH, t.LOOKUP, t.TRY)
        row = int(step["miss"] if forks and turns and turns.pop(0) else step["next"])
    return [*found, "failed" if row == t.FAILED_ROW else "end"]


def test_a_route_is_a_chain_of_rows():
    tables = lower(network(Delay(ONE), Serve("desk", TWO), Respond(), stations=(Station("desk"),)), 1)
    assert path(tables) == ["ask/1", "ask/2", "ask/3", "end"]
    rows = rows_of(tables)
    assert [rows[name]["op"] for name in path(tables)] == [t.DELAY, t.SERVE, t.RESPOND, t.FINISH]
    assert rows["ask/2"]["target"] == 0
    assert tables.distributions[rows["ask/2"]["distribution"]].item() == (1, 0, 0, 2.0, 0.0, 0.0)


def test_two_ways_meet_again():
    steps = (
        Lookup("pages", "page", miss=(Delay(ONE), Delay(ONE)), hit=(Mark("hit"),)),
        Branch((Arm(0.25, (Delay(ONE),)), Arm(0.5, (Mark("half"),)))),
        Respond(),
    )
    tables = lower(network(*steps, caches=(Cache("pages", 9.0),), attributes=("page",)), 1)
    assert path(tables, way=[False, False]) == ["ask/1", "ask/1/hit/1", "ask/2", "ask/2/arm 1/1", "ask/3", "end"]
    assert path(tables, way=[True, True, False]) == [
        "ask/1", "ask/1/miss/1", "ask/1/miss/2", "ask/2", "ask/2", "ask/2/arm 2/1", "ask/3", "end",
    ]  # fmt: skip
    assert path(tables, way=[True, True, True]) == [
        "ask/1",
        "ask/1/miss/1",
        "ask/1/miss/2",
        "ask/2",
        "ask/2",
        "ask/3",
        "end",
    ]
    branches = tables.steps[tables.steps["op"] == t.BRANCH]
    assert sorted(branches["probability"]) == [0.25, 0.75]  # so far
    assert len(set(branches["stream"])) == 1  # one draw decides between arms
    assert tables.caches.tolist() == [(9.0, 0, 0, 0)]


def test_arms_by_attribute_draw_each_for_themselves():
    steps = (Branch((Arm("a", ()), Arm("b", ()))),)
    tables = lower(network(*steps, attributes=("b", "a")), 1)
    branches = tables.steps[tables.steps["op"] == t.BRANCH]
    assert sorted(branches["attribute"]) == [0, 1]
    assert len(set(branches["stream"])) == 2


def test_a_try_ends_with_a_row_of_its_own_and_fails_over():
    steps = (
        Try((Delay(ONE),), timeout_s=3.0, attempts=4, backoff=TWO, growth=1.5, otherwise=(Mark("stale"),)),
        Respond(),
    )
    tables = lower(network(*steps), 1)
    assert path(tables) == ["ask/1", "ask/1/try/1", "ask/1/end", "ask/2", "end"]
    assert path(tables, way=[True]) == ["ask/1", "ask/1/otherwise/1", "failed"]
    row = rows_of(tables)["ask/1"]
    assert (row["seconds"], row["count"], row["growth"]) == (3.0, 4, 1.5)
    assert tables.distributions[row["distribution"]]["a"] == 2.0


def test_children_end_by_themselves():
    steps = (Scatter((Delay(ONE),), count="n", join=False), Scatter((), count=3), Respond())
    rows = rows_of(lower(network(*steps, attributes=("m", "n")), 1))
    assert (rows["ask/1"]["attribute"], rows["ask/1"]["count"], rows["ask/1"]["join"]) == (1, 0, 0)
    assert (rows["ask/2"]["attribute"], rows["ask/2"]["count"], rows["ask/2"]["join"]) == (t.NO_ATTRIBUTE, 3, 1)
    assert rows["ask/2"]["target"] == t.END_ROW
    assert rows["ask/1/child/1"]["next"] == t.END_ROW


def test_a_batchs_own_attributes_and_those_of_its_events():
    batch = (
        Serve("desk", ONE, per={"weight": 0.5, "events": 0.25}),
        Scatter((Publish("next", key="page", weight="size"), Delay(ONE, per={"size": 2.0})), each_event=True),
        Scatter((Delay(ONE, per={"keys": 1.0}),), count="events"),
    )
    topics = (Topic("first", batch, partitions=3, consumers=2, acknowledgement=TWO, workers="w"), Topic("next", ()))
    declared = {"stations": (Station("desk"),), "topics": topics, "attributes": ("page", "size")}
    tables = lower(Network((Operation("ask", (Publish("first"),)),), **declared), 1)
    rows = rows_of(tables)
    costs = {
        name: [tables.costs[rows[name]["first_cost"] + i].item() for i in range(rows[name]["costs"])] for name in rows
    }
    assert costs["topic first/1"] == [(t.WEIGHT, 0.5), (t.EVENTS, 0.25)]
    assert costs["topic first/2/child/2"] == [(1, 2.0)]
    assert costs["topic first/3/child/1"] == [(t.KEYS, 1.0)]
    assert rows["topic first/3"]["attribute"] == t.EVENTS
    publish = rows["topic first/2/child/1"]
    assert (publish["target"], publish["attribute"], publish["weight"]) == (1, 0, 1)
    assert tables.row_names[tables.topics[0]["first_row"]] == "topic first/1"
    assert tables.topics[1]["first_row"] == t.END_ROW
    assert (tables.topics[0]["partitions"], tables.topics[0]["consumers"], tables.topics[0]["idempotent"]) == (3, 2, 1)


def test_stations_quotas_and_priorities():
    stations = (
        Station("a", 3),
        Station("b", discipline="priority", queue_limit=0),
        Station("c", discipline="processor_sharing"),
    )
    operations = (
        Operation("x", (), priority=7),
        Operation("y", (), priority=-2),
        Operation("z", (Acquire("q"),), priority=7),
    )
    tables = lower(Network(operations, stations, quotas=(Quota("q", 4.0, 3.0),)), 1)
    rows = tables.stations[["servers", "discipline", "queue_limit"]].tolist()
    assert rows == [(3, t.FIFO, -1), (1, t.PRIORITY, 0), (1, t.PROCESSOR_SHARING, -1)]
    assert not tables.stations["tracked"].any()
    assert tables.priority_class.tolist() == [1, 0, 1]
    assert tables.quotas.tolist() == [(0.25, 0.75)]
    assert tables.first_row.tolist()[:2] == [t.END_ROW, t.END_ROW]


def test_equal_distributions_share_a_row_and_values_lie_side_by_side():
    steps = (
        Delay(empirical([1.0, 2.0])),
        Delay(empirical(quantiles_s=[3.0, 4.0, 5.0])),
        Delay(empirical([1.0, 2.0])),
        Delay(ONE),
    )
    tables = lower(network(*steps), 1)
    assert tables.values.tolist() == [3.0, 4.0, 5.0, 1.0, 2.0] or tables.values.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    rows = rows_of(tables)
    assert rows["ask/1"]["distribution"] == rows["ask/3"]["distribution"]
    for name, values in [("ask/1", [1.0, 2.0]), ("ask/2", [3.0, 4.0, 5.0])]:
        row = tables.distributions[rows[name]["distribution"]]
        assert tables.values[row["first"] : row["first"] + row["count"]].tolist() == values


def test_a_stream_belongs_to_the_place_in_its_own_route():
    before = rows_of(lower(network(Delay(ONE), Serve("desk", ONE), stations=(Station("desk"),)), 1))
    more = Network(
        (Operation("new", (Delay(ONE), Delay(ONE))), Operation("ask", (Delay(TWO), Serve("desk", ONE), Mark("x")))),
        (Station("other"), Station("desk")),
    )
    after = rows_of(lower(more, 1))
    for name in ("ask/1", "ask/2"):
        assert before[name]["stream"] == after[name]["stream"] == stream_of(1, name)
    assert rows_of(lower(more, 2))["ask/1"]["stream"] != after["ask/1"]["stream"]
    assert len({row["stream"] for row in after.values()}) == len(after)


def test_an_empty_network_has_its_two_ends():
    tables = lower(Network((Operation("ask", ()),)), 1)
    assert tables.row_names == ("end", "failed", "lost")
    assert tables.steps["op"].tolist() == [t.FINISH, t.FAIL, t.FAULT]
    assert len(tables.distributions) == 1
    assert np.array_equal(tables.values, [0.0])


def test_a_server_that_is_held_is_kept_until_the_release_and_serves_whoever_holds_it():
    """A child holds nothing of its parent's."""
    inner = (Serve("pool", ONE), Scatter((Serve("pool", ONE),)), Serve("desk", ONE))
    stations = (Station("desk"), Station("pool", host="m"), Station("fast", cold=((1.0, 1.0), (2.0, 3.0))))
    tables = lower(network(Hold("pool", inner), Serve("pool", ONE), stations=stations, hosts=(Host("m", 2, "fifo", 3.0, slice_s=0.5),)), 1)
    assert path(tables) == ["ask/1", "ask/1/held/1", "ask/1/held/2", "ask/1/held/3", "ask/1/release", "ask/2", "end"]
    rows = rows_of(tables)
    ops = [t.HOLD, t.SERVE_HELD, t.SCATTER, t.SERVE, t.RELEASE, t.SERVE]
    assert [rows[name]["op"] for name in path(tables)[:-1]] == ops
    assert rows["ask/1/held/2/child/1"]["op"] == t.SERVE
    assert tables.stations[["host", "tracked", "first_cold", "colds"]].tolist() == [(-1, 0, 0, 0), (0, 1, 0, 0), (-1, 1, 0, 2)]
    assert tables.hosts.tolist() == [(2, t.RUN_QUEUE, 3.0, 0.5, 0.004)]
    assert tables.colds.tolist() == [(1.0, 1.0), (2.0, 3.0)]
