"""`flashcrowd validate`: predict what calibration has not seen, then run it, and publish the error beside the noise.

1. A plan is fixed: loads from 15 to 110 % of the predicted knee, repeats, a random order, rules of rejection, designs to rank.
2. A pilot and runs at 25, 35 (in bursts) and 45 % calibrate the model. No held-out run is ever used for that.
3. Predictions of all loads and designs are written down (`predictions.json`).
4. Then the real system is run, interleaved; between the held-out runs calibration is made once more, since the machine does not stay as
   it was: what that predicts stands beside.
5. The table is made. Rejected runs and failed cells stay in it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest import validate_found, validation
from loadtest.arguments import Parser, duration_s, scenario_of
from loadtest.observe import at_rate
from loadtest.replay import AWAITED_S
from loadtest.validate_document import document, say
from loadtest.validation import DESIGN_LOAD, DESIGNS, LOADS, Plan, Planned, Run

if TYPE_CHECKING:
    from loadtest.observing import Bench
    from loadtest.traces import Trace
    from model.control import Course
    from model.population import FollowGraph
    from model.scenario import Scenario

EXAMPLES = """examples:
  flashcrowd validate                                          about an hour on a quiet machine with two cores
  flashcrowd validate --repeats 1 --run 8s --designs none      a look, 8 minutes
  flashcrowd validate --loads 0.3,0.6,0.9 --designs push --out results/short
  flashcrowd validate --judge --out results/validation         it was interrupted: the table of what there is
"""
PILOT_S, PILOT_PER_S, PILOT_BURST_S = 8.0, 100.0, 0.5
"""In bursts, since work costs a process that has just slept up to three times as much as one that is busy, as it is near the knee."""
KNEE_ROUNDS = 4
PER_RUN_S = 33.0
"""About what a run costs beside its length: bringing a reference up, filling and warming it, and waiting until it is idle."""


def _loads(text: str) -> tuple[float, ...]:
    try:
        loads = tuple(float(part) for part in text.split(","))
    except ValueError:
        loads = ()
    if not loads or not all(0 < load <= 2 for load in loads):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of shares of the knee such as 0.3,0.6,0.9")
    return loads


def _designs(text: str) -> tuple[str, ...]:
    known = tuple(design.name for design in DESIGNS)
    if text in ("all", "none"):
        return known if text == "all" else ()
    chosen = tuple(part.strip() for part in text.split(","))
    for name in chosen:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of: all, none, {', '.join(known)}")
    return chosen


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 100):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 99")
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = Parser("flashcrowd validate", __doc__, EXAMPLES)
    made.add_scenario("fidelity")
    made.add_argument("--loads", type=_loads, default=LOADS, metavar="LIST", help="shares of the predicted knee (0.15 to 1.1)")
    made.add_argument("--repeats", type=_count, default=4, metavar="N", help="of each load (4)")
    made.add_argument("--run", type=duration_s, default=15.0, metavar="T", help="length of each run, a fifth of it warm-up (15s)")
    made.add_argument("--designs", type=_designs, default=_designs("all"), metavar="LIST", help="to rank: all, none, or names")
    made.add_argument("--design-repeats", type=_count, default=3, metavar="N", help="runs of each design (3)")
    made.add_argument("--out", type=Path, default=Path("results/validation"), metavar="DIR", help="(results/validation)")
    made.add_argument("--judge", action="store_true", help="make no run: judge those that an interrupted validation left in DIR")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the document there as well")
    return made


class Validation:
    """One validation, step by step."""

    def __init__(self, scenario: Scenario, document: str, plan: Plan, out: Path, scratch: Path) -> None:
        from loadtest.observing import Cores

        self.base, self.document, self.plan, self.out, self.scratch = scenario, document, plan, out, scratch
        self.cores = Cores.here()
        self.seed = scenario.run.seed
        self.calibrated = out / "calibrated.toml"
        self.before: list[Path] = []
        self.beside: list[Path] = []
        self.guess_per_s = self.knee_per_s = 0.0
        self.runs: list[Run] = []
        self.graph: FollowGraph | None = None
        self.notes: list[str] = []
        self.idle_ratio: dict[str, float] = {}
        self.sensitivity = 1.0

    def bench(self, scenario: Scenario) -> Bench:
        """A reference with the scenario's settings."""
        from loadtest.observing import Bench

        return Bench(scenario, self.seed, self.scratch / "state", self.scratch, self.cores)

    def look(self, rate_per_s: float, length_s: float, seed: int, name: str, burst_s: float = 0.0) -> Trace:
        """A run with spans, for calibration, on a reference of its own as held-out runs are."""
        scenario = at_rate(self.base, rate_per_s, length_s)
        folder, label = self.out / "calibration" / name, f"{name}, {rate_per_s:.0f}/s"
        with self.bench(self.base) as bench:
            self.graph = bench.graph
            return bench.observe(scenario, seed, folder, document=self.document, label=label, burst_s=burst_s)

    def calibration_run(self, ratio: float, burst_s: float, seed: int, name: str) -> Path:
        """At a share of a core as the pilot saw it; again, if others took too much of the machine. Returns its folder."""
        for _ in range(validation.ATTEMPTS):
            trace = self.look(ratio * self.guess_per_s, self.plan.run_s, seed, name, burst_s)
            others = validation.taken(steal_ratio(trace), trace.header["stalls"])
            if not others:
                break
            say(f"{name}: {others}")
        return self.out / "calibration" / name

    def calibrate(self) -> None:
        """Pilot, calibration runs, `calibrated.toml`, the knee."""
        from loadtest.observed_run import observed

        seen = observed(self.look(PILOT_PER_S, PILOT_S, self.seed + 1, "pilot", PILOT_BURST_S), with_spans=False)
        self.guess_per_s = max(1 - seen.background_ratio, 0.2) / max(seen.cpu_per_request_s, 1e-4)
        say(f"pilot: {seen.cpu_per_request_s * 1e6:.0f} us of CPU a request, a core for about {self.guess_per_s:.0f} requests/s")
        for number, (ratio, burst_s) in enumerate(validation.CALIBRATION_RUNS):
            name = f"{'bursts-' * bool(burst_s)}{ratio:.0%}-{number}".replace("%", "")
            self.before.append(self.calibration_run(ratio, burst_s, self.seed + 10 + number, name))
        self.take_over(self.before)
        self.knee_per_s = self.knee(self.guess_per_s)
        say(f"the model's knee is at {self.knee_per_s:.0f} requests/s")

    def calibrate_beside(self) -> None:
        """The same by all calibration runs, those between the held-out ones too, if any were: `calibrated-beside.toml`."""
        if self.beside:
            self.calibrated = self.out / "calibrated-beside.toml"
            self.take_over([*self.before, *self.beside])

    def take_over(self, folders: Sequence[Path]) -> None:
        """Calibrate the model from these runs."""
        from loadtest.calibrate import calibrated

        text, made = calibrated(folders)
        self.notes, self.idle_ratio, self.sensitivity = made.notes, made.idle_ratio, made.unsteady.sensitivity
        self.calibrated.write_text(text)

    def knee(self, guess_per_s: float) -> float:
        """Requests per second at which the model's host has no time left, as fast as it is on the average.

        What a request costs there: near saturation processes hardly sleep, and work for many requests at once.
        """
        for _ in range(KNEE_ROUNDS):
            replayed = self.predict(1.0, (), 999, guess_per_s, course=((0.0, 1.0),))
            use = max(replayed.header["host_utilisation"].values(), default=1.0)
            guess_per_s /= max(use * (replayed.duration_s + AWAITED_S) / replayed.duration_s, 0.05)
        return guess_per_s

    def scenario(self, overrides: Sequence[str], load: float, knee_per_s: float | None = None) -> Scenario:
        """The calibrated scenario with these overrides, at that share of the knee."""
        from scenarios import loader

        scenario = loader.load_scenario(str(self.calibrated), list(overrides))
        return at_rate(scenario, load * (knee_per_s or self.knee_per_s), self.plan.run_s)

    def planned(self, scenario: Scenario, seed: int) -> Trace:
        """The arrivals that a real run will have, as a trace without answers."""
        import numpy as np
        import pandas as pd

        from loadtest.recording import MILESTONE_COLUMNS, UNFINISHED
        from loadtest.traces import COLUMNS, FORMAT, Trace
        from model.arrivals import schedule
        from model.platform import build_network

        assert self.graph is not None
        network = build_network(scenario)
        plan = schedule(scenario, network, self.graph, seed)
        at_s, names = np.cumsum(plan.gap_s), network.names("operations")
        unknown = np.full(len(at_s), np.nan)
        posts = plan.attributes[:, network.attributes.index("post")].astype(np.int64)
        columns = ([names[i] for i in plan.operation], plan.user, at_s, at_s, unknown, unknown, UNFINISHED, 0, posts)
        header = {
            "format": FORMAT, "made_by": "plan", "scenario": scenario.name, "seed": seed, "graph_seed": self.seed,
            "duration_s": scenario.run.duration_s, "warmup_s": scenario.run.warmup_s,
            "load_factor": scenario.run.load_factor,
        }  # fmt: skip
        rows = pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
        return Trace(header, rows, pd.DataFrame(columns=list(MILESTONE_COLUMNS)))

    def predict(self, load: float, overrides: Sequence[str], seed: int, knee_per_s: float | None = None, **how: Any) -> Trace:
        """The model's answer to a load; `course` is how the host's speed went, `host=False` takes it away, `look_s` as in `replay`."""
        from loadtest.replay import replay

        scenario = self.scenario(overrides, load, knee_per_s)
        planned = self.planned(scenario, self.seed + seed)
        if not how.get("host", True):
            stations = {name: dataclasses.replace(one, host=None, cpu_burst_s=0.0) for name, one in scenario.stations.items()}
            scenario = dataclasses.replace(scenario, stations=stations, hosts=())
        return replay(planned, scenario, seed=how.get("draw"), course=how.get("course", ()), look_s=how.get("look_s", 0.0))

    def foresee(self, load: float, overrides: Sequence[str], seed: int, **how: Any) -> dict[str, dict[str, Any]]:
        """The cells of that answer: medians over several draws of the model's variates, since one is as noisy as a real run."""
        from loadtest.cells import median_cells

        return median_cells(self.draws(load, overrides, seed, **how))

    def draws(self, load: float, overrides: Sequence[str], seed: int, **how: Any) -> list[dict[str, dict[str, Any]]]:
        """The cells of each draw."""
        from loadtest.cells import cells_of

        return [cells_of(self.predict(load, overrides, seed, draw=draw, **how)) for draw in range(1, validation.DRAWS + 1)]

    def given(self, run: Run, load: float) -> Course:
        """How the host's speed went in a real run, as its CPU says."""
        from loadtest.given_machine import LOOK_S, course_for, felt

        assert run.work is not None  # `run_of` has told it
        seed, speed = self.plan.seed_of(load), self.scenario((), load).hosts[0].speed
        return course_for(
            run.work, felt(run.course, self.sensitivity), speed,
            lambda course, draw: self.predict(load, (), seed, draw=100 + draw, course=course, look_s=LOOK_S),
        )  # fmt: skip

    def cpu_per_request_s(self, replayed: Trace) -> float:
        """What the model's host did for each request of a run, background left out."""
        host = self.scenario((), 0.5).hosts[0]
        used_s = replayed.header["host_utilisation"][host.name] * (replayed.duration_s + AWAITED_S) * host.cores
        return used_s * host.speed / max(len(replayed.rows), 1)

    def next_run(self, planned: Planned) -> None:
        """What the plan says."""
        name = f"{planned.load:g}-{planned.repeat + 1}"
        if planned.beside:
            name, seed = f"beside-{'bursts-' * bool(planned.burst_s)}{name}", self.seed + 30 + len(self.beside)
            with _told_if_it_fails(name):
                self.beside.append(self.calibration_run(planned.load, planned.burst_s, seed, name))
        else:
            self.held_out(planned.load, f"load-{name}")

    def held_out(self, load: float, name: str) -> None:
        """One real run of a load, on a reference of its own: the embedded broker does more for a record the longer its log is."""
        with _told_if_it_fails(name), self.bench(self.base) as bench:
            self.observe(bench, self.scenario((), load), self.seed + self.plan.seed_of(load), load, "", name)

    def try_design(self, design: str, first: int = 1) -> None:
        """The real runs of a design; `first` is the number of the first."""
        scenario = self.scenario(_overrides(design), DESIGN_LOAD)
        for repeat in range(first, first + self.plan.design_repeats):
            name = f"design-{design.replace(' ', '-')}-{repeat}"
            with _told_if_it_fails(name), self.bench(scenario) as bench:
                self.observe(bench, scenario, self.seed + 500, DESIGN_LOAD, design, name)

    def observe(self, bench: Bench, scenario: Scenario, seed: int, load: float, design: str, name: str) -> None:
        """One real run; its spans are not kept."""
        trace = bench.observe(scenario, seed, self.out / "runs" / name, label=name)
        self.judge(trace, load, design)
        trace.file("spans.otlp.jsonl").unlink()

    def judge(self, trace: Trace, load: float, design: str) -> None:
        """A held-out run has been made."""
        from loadtest.cells import cells_of
        from loadtest.observed_run import observed

        seen = observed(trace, with_spans=False, idle_ratio=self.idle_ratio)
        self.runs.append(validation.run_of(load, design, cells_of(trace), seen, steal_ratio(trace)))


@contextmanager
def _told_if_it_fails(what: str) -> Iterator[None]:
    """A run that cannot be made is missing from the table; the others are made all the same."""
    from loadtest.both_sides import CompareError

    try:
        yield
    except CompareError as error:
        say(f"{what}: {error}")


def steal_ratio(trace: Trace) -> float:
    """What the machine below took from all cores while the trace was observed, as a share of one core."""
    lines = trace.lines("counters.jsonl")
    return float((lines[-1]["steal_s"] - lines[0]["steal_s"]) / max(lines[-1]["at_s"] - lines[0]["at_s"], 1e-9))


def _overrides(design: str) -> tuple[str, ...]:
    return next(one.overrides for one in DESIGNS if one.name == design)


def run(work: Validation) -> tuple[dict[float, Any], dict[str, Any]]:
    """All of it; returns the cells that were foreseen, of loads, and of each draw of designs."""
    plan = work.plan
    work.calibrate()
    designed = {name: work.draws(DESIGN_LOAD, _overrides(name), 500) for name in plan.designs}
    cells = {load: work.foresee(load, (), plan.seed_of(load)) for load in plan.loads}
    foreseen = {"knee_per_s": work.knee_per_s, "loads": {str(k): v for k, v in cells.items()}, "designs": designed}
    (work.out / "predictions.json").write_text(json.dumps(foreseen, indent=2) + "\n")
    say("predictions are written; now the real system")
    for number, planned in enumerate(plan.order, 1):
        say(f"run {number} of {len(plan.order)}")
        work.next_run(planned)
    for number, load in enumerate(validation.again(work.runs, plan.loads), 1):
        say("in place of a rejected run")
        work.held_out(load, f"load-{load:g}-again-{number}")
    for number, design in enumerate(plan.designs, 1):
        say(f"design {number} of {len(plan.designs)}: {design}")
        work.try_design(design)
    for design in validation.unmeasured(work.runs, plan.designs):
        say(f"in place of rejected runs: {design}")
        work.try_design(design, plan.design_repeats + 1)
    return cells, designed


def main(argv: Sequence[str] | None = None) -> int:
    """Validate: 0 done (whatever the errors are), 1 a part failed, 2 bad input, 130 interrupted."""
    arguments = parser().parse_args(argv)
    from loadtest.both_sides import CompareError

    try:
        from loadtest.observing import check

        scenario, text = scenario_of(arguments)
        check(scenario)
        plan = validate_found.plan_of(arguments.out) if arguments.judge else Plan.make(
            arguments.loads, arguments.repeats, arguments.run, scenario.run.seed, arguments.designs, arguments.design_repeats
        )  # fmt: skip
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "plan.json").write_text(json.dumps(plan.document(), indent=2) + "\n")
    except (ValueError, OSError) as error:
        print(f"flashcrowd validate: {error}", file=sys.stderr)
        return 2
    count = 1 + len(validation.CALIBRATION_RUNS) + len(plan.order) + len(plan.designs) * plan.design_repeats
    about_s = count * (plan.run_s + PER_RUN_S) + 60
    if not arguments.judge:
        say(f"{count} runs of {plan.run_s:g} s, each on a reference of its own: about {about_s / 60:.0f} minutes")
    try:
        from loadtest import validate_report

        with tempfile.TemporaryDirectory(prefix="flashcrowd-validate-") as scratch:
            work = Validation(scenario, text, plan, arguments.out, Path(scratch))
            foreseen = validate_found.take_up(work) if arguments.judge else run(work)
            work.calibrate_beside()
            made = document(work, *foreseen)
        validate_report.write(arguments.out, made)
        if arguments.json:
            arguments.json.write_text(json.dumps(made, indent=2) + "\n")
        validate_report.show(made, arguments.out)
        return 0
    except (CompareError, ValueError) as error:
        print(f"flashcrowd validate: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; everything that was started has been stopped", file=sys.stderr)
        return 130
