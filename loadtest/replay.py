"""`flashcrowd replay`: the arrivals of a trace through the model; what comes out has the same shape.

Each request comes at its intended instant, by the same user and about the same post. The answers after the schedule's end are awaited
as long as the generator awaits them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loadtest.arguments import Parser, as_file, scenario_of

if TYPE_CHECKING:
    import pandas as pd
    import simpy

    from loadtest.traces import Trace
    from model.control import Controllable, Course, Process
    from model.engines.choose import EngineName
    from model.network import Network
    from model.part import Floats, Ids
    from model.population import FollowGraph
    from model.scenario import Scenario

EXAMPLES = """examples:
  flashcrowd replay results/observed --scenario calibrated.toml
  flashcrowd replay results/observed --scenario calibrated.toml --set stations.api_connections.servers=1 --out results/one
"""
AWAITED_S = 10.0
"""After the last intended instant, as by `observing.GRACE_S`."""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = Parser("flashcrowd replay", __doc__, EXAMPLES)
    made.add_argument("trace", type=Path, metavar="TRACE", help="a folder that observe (or replay) wrote")
    made.add_argument("--scenario", metavar="S", help="service times and settings (those that the trace was observed with)")
    made.add_overrides()
    made.add_argument("--engine", choices=("compiled", "plain"), default="compiled", help="both give the same bits")
    made.add_argument("--out", type=Path, default=Path("results/replayed"), metavar="DIR", help="where the trace goes")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the header and the figures there as well")
    return made


def replay(
    trace: Trace,
    scenario: Scenario,
    engine: EngineName = "compiled",
    graph_seed: int | None = None,
    seed: int | None = None,
    course: Course = (),
    look_s: float = 0.0,
) -> Trace:
    """The trace's arrivals through the scenario's model, its faults included; `seed` of the model's variates (the trace's).

    `course`: how the speed of its hosts went (`control.start`). `look_s`: so often it is looked how long the first host's cores have been
    busy (`host_busy_s` in the header); 0: never. Raises `ValueError` if the model has no such operations or users.
    """
    import dataclasses

    import numpy as np
    import pandas as pd

    from loadtest.recording import UNFINISHED, milestones_of
    from loadtest.traces import COLUMNS, FORMAT, Trace
    from model import control, platform
    from model.engines.choose import engine_for, make_environment
    from model.engines.order import OK, REJECTED, TIMED_OUT
    from model.results import Results
    from model.tables import lower

    if scenario.declared is not None:
        raise ValueError(f"{scenario.name}: declares a network of its own; a trace is of the platform")
    rows, header = trace.rows, trace.header
    graph = platform.build_graph(scenario.population, header["graph_seed"] if graph_seed is None else graph_seed)
    network = platform.build_network(scenario)
    operation, attributes = _arrivals(rows, scenario, network, graph)
    seed = int(header["seed"]) if seed is None else seed
    env = make_environment(engine)
    runner = engine_for(engine, lower(network, seed), env, 0.0)
    intended_s = rows.intended_s.to_numpy(float)
    runner.arrive(np.diff(intended_s, prepend=0.0), operation, attributes)
    control.start(scenario, network, env, runner, seed, course)
    busy: list[tuple[float, float]] = []
    if look_s > 0:
        env.process(_look(env, runner, look_s, busy))
    end_s = trace.duration_s + AWAITED_S
    env.run(until=end_s)
    record = runner.record()
    run = dataclasses.replace(scenario.run, duration_s=end_s, warmup_s=0.0)
    results = Results(dataclasses.replace(scenario, run=run), record, seed)
    came = len(record.operation)
    answered_s, outcome = np.full(len(rows), np.nan), np.full(len(rows), UNFINISHED, dtype=object)
    answered_s[:came] = record.responded_s
    done = ~np.isnan(answered_s[:came])
    for code, text in ((OK, "ok"), (REJECTED, "rejected"), (TIMED_OUT, "timed_out")):
        outcome[:came][done & (record.outcome == code)] = text
    columns = (
        rows.operation, rows.user.astype("int64"), intended_s, intended_s, answered_s, answered_s - intended_s, outcome,
        np.where(outcome == "ok", 200, 0), rows.post,
    )  # fmt: skip
    replayed = {
        **{key: header.get(key) for key in ("seed", "duration_s", "warmup_s", "load_factor", "graph_seed")},
        "format": FORMAT,
        "made_by": "replay",
        "scenario": scenario.name,
        "engine": record.engine,
        "audit": results.audit,
        "cpu_s": {
            station.name: float(row["cpu_s"])
            for station, row in zip(network.stations, record.stations, strict=True)
            if station.host is not None
        },
        "visits": {
            station.name: int(row["completed"]) for station, row in zip(network.stations, record.stations, strict=True)
        },
        "host_utilisation": {name: row["utilisation"] for name, row in getattr(results, "host_figures", {}).items()},
        **({"host_busy_s": busy} if busy else {}),
    }
    return Trace(replayed, pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))), milestones_of(results, 0.0))


def _arrivals(rows: pd.DataFrame, scenario: Scenario, network: Network, graph: FollowGraph) -> tuple[Ids, Floats]:
    """The operation of each of a trace's requests, by number, and its attributes. Raises `ValueError` if the model has no such ones."""
    import numpy as np

    from model.platform import request_attributes

    names, users = network.names("operations"), rows.user.to_numpy(np.int64)
    if len(users) and users.max() >= graph.users:
        raise ValueError(f"user {users.max()} of the trace is none of the {graph.users} of {scenario.name}")
    operation = np.zeros(len(rows), "i4")
    attributes = np.zeros((len(rows), len(network.attributes)))
    for name, part in rows.groupby("operation", sort=True):
        if name not in names:
            raise ValueError(f"the model has no operation {name}, of which the trace has {len(part):,} requests")
        places = part.index.to_numpy()
        operation[places] = names.index(str(name))
        halves = np.full(len(part), 0.5)  # they choose nothing here: users and posts are the trace's
        found = request_attributes(scenario, graph, str(name), users[places], halves, part.post.to_numpy(float))
        for attribute, values in found.items():
            attributes[places, network.attributes.index(attribute)] = values
    return operation, attributes


def _look(env: simpy.Environment, engine: Controllable, every_s: float, seen: list[tuple[float, float]]) -> Process:
    while True:
        seen.append((env.now, float(engine.record().hosts[0]["busy_area"])))
        yield env.timeout(every_s)


def main(argv: Sequence[str] | None = None) -> int:
    """Replay: 0 done, 2 bad input."""
    arguments = parser().parse_args(argv)
    try:
        from loadtest import observe, traces

        trace = traces.read(arguments.trace)
        scenario = _scenario(arguments, trace)
        print(f"  replaying {len(trace.rows):,} requests", file=sys.stderr, flush=True)
        replayed = replay(trace, scenario, arguments.engine)
    except (ValueError, OSError) as error:
        print(f"flashcrowd replay: {error}", file=sys.stderr)
        return 2
    replayed.write(arguments.out)
    if arguments.json:
        arguments.json.write_text(json.dumps(observe.summary(replayed), indent=2) + "\n")
    observe.show(replayed, arguments.out)
    return 0


def _scenario(arguments: argparse.Namespace, trace: Trace) -> Scenario:
    if arguments.scenario:
        return scenario_of(arguments)[0]
    if not trace.header.get("document"):
        raise ValueError(f"{arguments.trace}: does not say its scenario; give --scenario")
    with as_file(trace.header["document"], trace.header["scenario"]) as path:
        return scenario_of(arguments, path)[0]
