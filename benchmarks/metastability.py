"""Which loads and triggers end in a collapse that outlives its trigger? A map of base load × length of a spike, as a PNG.

    python -m benchmarks.metastability [--out metastability.png] [--seeds 3] [--quick]

The service of `scenarios/retry_storm.toml`: work of a second, 60 servers' worth of speed shared by all that is under way, clients
who give up after 3 s and try 3 times in all, leaving their work behind. At each point the load is doubled for some seconds; a
minute later we count how much of what is asked for is answered. Three regions (Bronson et al., *Metastable Failures in
Distributed Systems*, HotOS 2021): *stable*, where every trigger is forgotten; *vulnerable*, where small ones are and large ones are
not; *unstable*, where it collapses by itself.

Brooker's `simple_collapse_sim`, whose load and clients these are, is known for 12/s after the spike in place of 40/s. That is a mean of ten
runs at the edge of the vulnerable region: of 60 runs of its dynamics (a request takes 1 s + 10 ms for each one under way as it comes, and
is never stopped) 40 fell to 0/s and 20 came back to 40/s, with means of tens from 8/s to 25/s. Here as well a point between the regions
is a share of runs that collapsed, and no rate at which any of them goes on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from model.distributions import NEVER, Distribution, constant, exponential, uniform
from model.network import Delay, Network, Operation, Respond, Scatter, Serve, Station, Try
from model.scenario import DeclaredNetwork, OperationArrivals, Scenario, Surge
from model.simulation import simulate
from scenarios.loader import load_scenario

SERVERS = 60
SPIKE_AT_S, LOOK_AFTER_S, LOOK_S = 20.0, 50.0, 20.0
LOADS = np.arange(0.3, 1.01, 0.1)
TRIGGERS_S = np.array([0.0, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0])
COLLAPSED = 0.5  # of what is asked for: less goodput than that


@dataclass(frozen=True)
class Client:
    """How a client tries again."""

    attempts: int = 3
    backoff: Distribution = NEVER
    growth: float = 1.0


IMPATIENT = Client()
PATIENT = Client(
    backoff=uniform(0.0, 20.0), growth=2.0
)  # source: Brooker, simple_collapse_sim: up to 20 s, then up to 40 s


def network(client: Client) -> Network:
    """The service; a deadline does not stop the work that was begun for it."""
    work = (Delay(exponential(0.1)), Serve("server", constant(1.0)), Delay(exponential(0.1)))
    tries = Try(
        (Scatter(work, join=True),),
        timeout_s=3.0,
        attempts=client.attempts,
        backoff=client.backoff,
        growth=client.growth,
    )
    station = Station("server", SERVERS, "processor_sharing")
    return Network(operations=(Operation("shop.ask", (tries, Respond())),), stations=(station,))


def scenario(client: Client, per_s: float, spike_s: float) -> Scenario:
    """`per_s` requests a second, doubled for `spike_s`."""
    base = load_scenario("retry_storm")
    declared = DeclaredNetwork(network(client), {"shop.ask": OperationArrivals(exponential(1 / per_s))})
    surges = (Surge(SPIKE_AT_S, 2.0, 0.0, spike_s, 0.0, ()),) if spike_s > 0 else ()
    look_s = SPIKE_AT_S + spike_s + LOOK_AFTER_S
    run = replace(base.run, duration_s=look_s + LOOK_S, warmup_s=look_s)
    return replace(base, declared=declared, surges=surges, run=run)


def goodput_ratio(client: Client, load: float, spike_s: float, seed: int) -> float:
    """Answered, of what is asked for, long after the spike; `load` is the utilisation without any retry."""
    per_s = load * SERVERS
    results = simulate(scenario(client, per_s, spike_s), seed=seed)
    return min(1.0, (results.figure("shop.ask.throughput_per_s") or 0.0) / per_s)


def collapse_map(client: Client, loads: np.ndarray, triggers_s: np.ndarray, seeds: int) -> np.ndarray:
    """The mean goodput at each load (columns) and trigger (rows)."""
    points = [
        [[goodput_ratio(client, load, spike_s, seed) for seed in range(1, seeds + 1)] for load in loads]
        for spike_s in triggers_s
    ]
    return np.mean(points, axis=2)


def regions(goodput: np.ndarray) -> list[str]:
    """For each load: stable, vulnerable or unstable. The first row is the run without a trigger."""
    return [
        "unstable" if column[0] < COLLAPSED else "vulnerable" if np.any(column < COLLAPSED) else "stable"
        for column in goodput.T
    ]


def draw(maps: dict[str, np.ndarray], loads: np.ndarray, triggers_s: np.ndarray, path: Path) -> None:
    """The maps side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(maps), 4.6), layout="constrained")
    for place, (title, goodput) in enumerate(maps.items(), 1):
        axes = figure.add_subplot(1, len(maps), place)
        image = axes.imshow(goodput, origin="lower", aspect="auto", vmin=0, vmax=1, cmap="cividis")
        ticks = [f"{load:.1f}\n{region}" for load, region in zip(loads, regions(goodput), strict=True)]
        axes.set_xticks(range(len(loads)), ticks, fontsize=8)
        axes.set_yticks(range(len(triggers_s)), [f"{spike_s:g}" for spike_s in triggers_s])
        axes.set(xlabel="base load (utilisation without retries)", ylabel="spike to twice the load (s)", title=title)
    figure.colorbar(image, label=f"goodput {LOOK_AFTER_S:g} s after the spike, of what is asked for (ratio)")
    figure.savefig(path, dpi=120)


def main() -> None:
    """Draw the map and print it."""
    parser = argparse.ArgumentParser(description="A map of metastable collapse.")
    parser.add_argument("--out", type=Path, default=Path("metastability.png"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="every other point, one seed")
    arguments = parser.parse_args()
    loads, triggers_s = (LOADS[::2], TRIGGERS_S[::2]) if arguments.quick else (LOADS, TRIGGERS_S)
    seeds = 1 if arguments.quick else arguments.seeds
    maps = {
        "3 attempts, no backoff": collapse_map(IMPATIENT, loads, triggers_s, seeds),
        "3 attempts, backoff with jitter": collapse_map(PATIENT, loads, triggers_s, seeds),
    }
    for title, goodput in maps.items():
        print(f"{title}: goodput by spike (rows, s) and load (columns)")
        print("        " + "  ".join(f"{load:4.1f}" for load in loads))
        for spike_s, row in zip(triggers_s, goodput, strict=True):
            print(f"{spike_s:6g}  " + "  ".join(f"{value:4.2f}" for value in row))
        print("        " + "  ".join(region[:4] for region in regions(goodput)))
    draw(maps, loads, triggers_s, arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    main()
