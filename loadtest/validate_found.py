"""What a validation that was interrupted has in its folder: its plan and predictions, and the runs that it made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest import validation
from loadtest.validation import Plan, Planned

if TYPE_CHECKING:
    from loadtest.validate import Validation

Cells = dict[str, dict[str, Any]]


def plan_of(folder: Path) -> Plan:
    """The plan that was fixed. Raises `ValueError` if there is none, or nothing was predicted yet."""
    for name in ("plan.json", "predictions.json"):
        if not (folder / name).is_file():
            raise ValueError(f"{folder}: has no {name}; nothing that was foreseen could be judged")
    designs = json.loads((folder / "predictions.json").read_text())["designs"]
    if not all(isinstance(draws, list) for draws in designs.values()):
        raise ValueError(f"{folder}/predictions.json: has no draws of the designs; judge it by the older version that made it")
    said = json.loads((folder / "plan.json").read_text())
    order = tuple(Planned(**one) for one in said["order"])
    return Plan(
        tuple(said["loads"]), said["repeats"], said["run_s"], said["seed"], tuple(said["designs"]), said["design_repeats"], order
    )


def take_up(work: Validation) -> tuple[dict[float, Cells], dict[str, list[Cells]]]:
    """Let the validation have the runs in its folder, of which its plan is; return what was foreseen: of loads, of designs by draw."""
    from loadtest import traces
    from loadtest.observed_run import observed, pool_idleness
    from loadtest.unsteady import unsteady
    from model.platform import build_graph

    foreseen = json.loads((work.out / "predictions.json").read_text())
    work.knee_per_s = foreseen["knee_per_s"]
    work.graph = build_graph(work.base.population, work.seed)
    made = sorted(folder for folder in (work.out / "calibration").iterdir() if folder.name != "pilot")
    work.beside = [folder for folder in made if folder.name.startswith("beside-") and (folder / "counters.jsonl").is_file()]
    work.before = [folder for folder in made if not folder.name.startswith("beside-")]
    seen = [observed(traces.read(folder), with_spans=False) for folder in work.before]
    work.idle_ratio = pool_idleness(seen)
    work.sensitivity = unsteady([one for one in seen if not one.in_bursts]).sensitivity
    designs = {design.replace(" ", "-"): design for design in work.plan.designs}
    for folder in sorted((work.out / "runs").iterdir()):
        kind, _, rest = folder.name.partition("-")
        if not (folder / "trace.parquet").is_file():
            continue  # it was being made
        if kind == "load":
            work.judge(traces.read(folder), float(rest.split("-")[0]), "")
        else:
            work.judge(traces.read(folder), validation.DESIGN_LOAD, designs[rest.rpartition("-")[0]])
    return {float(load): cells for load, cells in foreseen["loads"].items()}, foreseen["designs"]
