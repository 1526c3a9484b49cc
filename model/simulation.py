"""One run of a scenario: network, arrivals, engine, control, results."""

from __future__ import annotations

from collections.abc import Callable

from model import control, platform
from model.arrivals import schedule
from model.closed_users import ClosedCrowd
from model.engines.choose import EngineName, engine_for, make_environment
from model.population import FollowGraph
from model.results import Results
from model.scenario import Scenario
from model.tables import lower

SLICES = 100  # of a run, between two reports of progress


def simulate(
    scenario: Scenario,
    *,
    seed: int | None = None,
    engine: EngineName = "compiled",
    graph: FollowGraph | None = None,
    progress: Callable[[float], None] | None = None,
) -> Results:
    """Simulate a scenario and return the figures.

    `seed` (default: the scenario's) determines every random number; `graph` (default: the scenario's population) who follows
    whom; `progress` is called with the done share, 0 to 1; both engines give the same bits, the plain one without llvmlite and
    slowly. Raises `ValueError`, in one line, for what can't be simulated.
    """
    seed = scenario.run.seed if seed is None else seed
    if scenario.declared is None and graph is None:
        graph = platform.build_graph(scenario.population, seed)
    network = platform.build_network(scenario)
    plan = schedule(scenario, network, graph, seed)
    env = make_environment(engine)
    crowd = ClosedCrowd(scenario, network, graph, seed) if scenario.closed_users else None
    runner = engine_for(engine, lower(network, seed), env, scenario.run.warmup_s, crowd)
    runner.arrive(plan.gap_s, plan.operation, plan.attributes)
    if crowd is not None:
        crowd.start(env, runner)
    control.start(scenario, network, env, runner, seed)
    for part in range(1, SLICES + 1):
        env.run(until=scenario.run.duration_s * part / SLICES)
        if progress is not None:
            progress(part / SLICES)
    results = Results(scenario, runner.record(), seed)
    runner.close()
    return results
