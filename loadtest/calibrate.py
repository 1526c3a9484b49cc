"""`flashcrowd calibrate`: observed traces into a scenario, `calibrated.toml`, with the samples and intervals of every number.

Two or more traces at moderate loads (20 to 50 % of a core) are best, and one at such a load in bursts (`observe --burst-ms 50`): after
idleness a request costs up to twice as much, since caches and cores are cold, and bursts tell what it costs when they are warm.

Files of OTLP JSON lines (`.jsonl`) that are not ours become a network of their own: a station for each service, an operation for each kind
of root span, steps in the order of the spans, probabilities where a step is not always there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.arguments import Parser, as_file

if TYPE_CHECKING:
    from loadtest.calibration import Calibration
    from model.scenario import Scenario

EXAMPLES = """examples:
  flashcrowd calibrate results/at30 results/at50 --out calibrated.toml
  flashcrowd calibrate traces.otlp.jsonl --out theirs.toml && flashcrowd run theirs.toml
"""


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = Parser("flashcrowd calibrate", __doc__, EXAMPLES)
    made.add_argument("traces", nargs="+", type=Path, metavar="TRACE", help="folders of observe; or OTLP JSON files of others")
    made.add_argument("--out", type=Path, default=Path("calibrated.toml"), metavar="FILE", help="the scenario (calibrated.toml)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the estimates there as well")
    return made


DISCIPLINE = "fair"
"""As Linux: of those who are owed time on the core, the one with the earliest deadline."""
ON_HOST = (
    "api", "producer_threads", "database", "broker", "dispatcher_processes", "fanout_processes", "interaction_processes",
)  # fmt: skip
CLOSED = {"api": "api", "api_producer": "producer_threads", "postgres": "database", "interaction_worker": "interaction_processes"}
"""Role -> station whose work in the model is made to be what was measured. The broker's is already, by `broker_work`."""
ABSENT_TIMES, ABSENT_COSTS = ("database_notify_batch", "database_connect", "cdc_poll"), ("database_notification",)
"""Work at the shared database of processes that do not run while observing: `observing.UNUSED_ROLES`."""


def document_of(header: dict[str, Any], made: Calibration, pieces: float = 0.0) -> dict[str, Any]:
    """The document of an observed trace with what was measured in place. The system had one core of the machine.

    `pieces` of work that a request is for the API; 0: not known yet, and no garbage is collected.
    """
    import tomllib

    from loadtest.estimates import Estimate
    from model.hosts import LINUX_TICK_S, linux_slice_s

    document = tomllib.loads(header["document"])
    made.times |= dict.fromkeys(ABSENT_TIMES, Estimate(0.0, 0, 0.0, 0.0))
    made.costs_s |= dict.fromkeys(ABSENT_COSTS, (0.0, "no such process ran"))
    for name, one in made.times.items():
        document["service_times"][name] = one.entry()
    for name, (cost_s, _) in made.costs_s.items():
        for key in [key for key in document["costs"] if key.rpartition("_")[0] == name]:
            del document["costs"][key]
        document["costs"][f"{name}_us"] = float(f"{cost_s * 1e6:.4g}")
    document.pop("answer", None)  # of the scenario before it was calibrated
    machine = header["machine"]
    slice_s, tick_s = linux_slice_s(machine["cores"]), machine.get("tick_s") or LINUX_TICK_S
    host = {"cores": 1, "discipline": DISCIPLINE, "slice_ms": round(slice_s * 1000, 3), "tick_ms": round(tick_s * 1000, 3)}
    document["hosts"] = {"machine": {**host, "speed": round(float(made.speed), 4)}}
    if made.unsteady.factors:
        factors = [{"cv": round(cv, 4), "holds_ms": round(holds_s * 1000)} for cv, holds_s in made.unsteady.factors]
        document["hosts"]["machine"]["speed_varies"] = factors
    for station in ON_HOST:
        document["stations"].setdefault(station, {"servers": 1})["host"] = "machine"  # traces from before do not know every one
    if made.broker_growth_per_1k > 0:
        document["stations"]["broker"]["growth_per_1k"] = round(made.broker_growth_per_1k, 4)
    if made.broker_burst_s > 0:
        document["stations"]["broker"]["cpu_burst_us"] = round(made.broker_burst_s * 1e6, 1)
    if pieces > 0 and made.collections.n:
        every = max(round(pieces * made.collections.requests_each), 1)
        document["stations"]["api"] |= {"gc_every": every, "gc_pause_ms": round(made.collections.pause_s * 1000, 3)}
    for role, cold in made.cold.items():
        document["stations"][CLOSED[role]]["cold"] = cold.points()
    return document


def text_of(document: dict[str, Any], made: Calibration, about: Sequence[str]) -> str:
    """The document as TOML; each measured value says from how many samples."""
    from scenarios.documents import Document
    from scenarios.toml_text import as_toml

    said = {name: one.says() for name, one in made.times.items()}
    said |= {f"{name}_us": text for name, (_, text) in made.costs_s.items()}
    said["slice_ms"] = "Linux, by the machine's cores"
    said["tick_ms"] = "of its kernel"
    said["speed"] = "measured: one less the share of the core that idle and other processes take"
    said["speed_varies"] = "measured: how the time varies that a fixed piece of work takes on its core, and how fast that dies out"
    lines = [f"# {line}" for line in about]
    section = ""
    for line in as_toml(Document("calibrated", document, {}, {})).splitlines():
        section = line.strip("[]") if line.startswith("[") else section
        key = line.partition(" = ")[0]
        known = section in ("service_times", "costs") or section.startswith("hosts")
        lines.append(f"{line}  # source: {said[key]}" if known and key in said else line)
    return "\n".join(lines) + "\n"


def calibrated(folders: Sequence[Path]) -> tuple[str, Calibration]:
    """The scenario's text and the estimates, of our own traces. Raises `ValueError`."""
    from loadtest import traces
    from loadtest.calibration import calibrate
    from loadtest.closure import levels
    from loadtest.replay import replay

    read = [traces.read(folder) for folder in folders]
    for trace in read:
        if not trace.header.get("document") or "reference" not in trace.header:
            raise ValueError(f"{trace.folder}: not observed on the reference; calibrate takes what `flashcrowd observe` recorded")
    first = read[0].header
    for trace in read[1:]:
        if trace.header["reference"]["feed_strategy"] != first["reference"]["feed_strategy"]:
            raise ValueError(f"{trace.folder}: observed with another feed strategy than {read[0].folder}")
    made = calibrate(read, float(first["reference"]["producer_linger_s"]))
    replayed = replay(read[0], _scenario_of(text_of(document_of(first, made), made, ())))
    pieces = replayed.header["visits"]["api"] / max(len(replayed.rows), 1)
    document = document_of(first, made, pieces)
    made.close(levels(_scenario_of(text_of(document, made, ())), made.runs, CLOSED, made.cold.keys() & CLOSED.keys()))
    document = document_of(first, made, pieces)
    machine = first["machine"]
    about = [
        f"The scenario {first['scenario']}, calibrated from {len(read)} observed traces; seed of the people {first['graph_seed']}.",
        f"Machine: {machine['processor']}, {machine['system']}, Python {machine['python']}.",
        *made.notes,
    ]
    return text_of(document, made, about), made


def _scenario_of(text: str) -> Scenario:
    from scenarios.loader import load_scenario

    with as_file(text) as path:
        return load_scenario(path)


def main(argv: Sequence[str] | None = None) -> int:
    """Calibrate: 0 done, 2 bad input."""
    arguments = parser().parse_args(argv)
    try:
        foreign = [path for path in arguments.traces if path.suffix in (".jsonl", ".json")]
        if foreign and len(foreign) != len(arguments.traces):
            raise ValueError("traces of the reference and OTLP files of others cannot be mixed")
        print(f"  reading {len(arguments.traces)} traces", file=sys.stderr, flush=True)
        if foreign:
            from loadtest.foreign import network_text

            text, estimates = network_text(foreign)
        else:
            text, made = calibrated(arguments.traces)
            estimates = {name: one.says() for name, one in made.times.items()}
            estimates |= {name: f"{cost_s * 1e6:.4g} us, {says}" for name, (cost_s, says) in made.costs_s.items()}
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        partial = arguments.out.with_name(f".{arguments.out.name}.partial")
        partial.write_text(text)
        partial.replace(arguments.out)
        if arguments.json:
            arguments.json.write_text(json.dumps(estimates, indent=2) + "\n")
    except (ValueError, OSError) as error:
        print(f"flashcrowd calibrate: {error}", file=sys.stderr)
        return 2
    for name, says in estimates.items():
        print(f"{name:<28} {says}")
    print(f"scenario in {arguments.out}")
    return 0
