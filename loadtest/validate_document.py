"""What a validation came to, as one document: cells, knee, rankings, and what each effect of the model is worth."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from typing import TYPE_CHECKING, Any

from loadtest import validation
from loadtest.validation import DESIGN_LOAD, EFFECTS, NO_HOST, RANKINGS, STEADY

if TYPE_CHECKING:
    from loadtest.validate import Validation
    from loadtest.validation import Run
    from model.control import Course


def say(text: str) -> None:
    """A line of progress with the time of day."""
    print(f"  {time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _steady(course: Course) -> Course:
    """As fast all through a run as it was on the average."""
    takes = [one for _, one in course if one < math.inf]
    return ((0.0, sum(takes) / len(takes)),) if takes else ()


def _answered_per_s(cells: dict[str, dict[str, Any]]) -> float:
    return float(sum(cell["per_s"] for cell in cells.values() if cell["kind"] == "operation"))


def knee(
    predicted_per_s: float,
    of_load: dict[float, list[Run]],
    cells: dict[float, dict[str, Any]],
    given: dict[float, list[dict[str, dict[str, Any]]]],
) -> dict[str, Any]:
    """The knee that was foreseen beside the most that the reference answered at a load that is meant to saturate it.

    `of_load`: the runs of each load, `cells`: foreseen, `given`: the model's on each run's machine. `real_per_s`, the middle of the runs
    of the load at which that is highest, their `spread` and the `error` are None if no load is the knee or above. A load far above it
    is answered less: work is done for requests that nobody gets an answer to in time.
    """
    import numpy as np

    at: list[dict[str, Any]] = [
        {
            "load": load,
            "real_per_s": [_answered_per_s(run.cells) for run in validation.shown_of(runs)],
            "model_per_s": _answered_per_s(cells[load]),
            "given_per_s": [_answered_per_s(one) for one in given[load]],
        }
        for load, runs in of_load.items()
        if load >= 1
    ]
    most: list[float] = max((one["real_per_s"] for one in at), key=lambda every: float(np.median(every)), default=[])
    real = float(np.median(most)) if most else None
    return {
        "predicted_per_s": predicted_per_s,
        "real_per_s": real,
        "spread": float(np.std(most, ddof=1) / np.mean(most)) if len(most) > 1 else None,
        "error": predicted_per_s / real - 1 if real else None,
        "loads": at,
    }


def document(work: Validation, cells: dict[float, dict[str, Any]], designed: dict[str, list[Any]]) -> dict[str, Any]:
    """Judge everything: cells, knee, rankings, effects. `cells` and `designed` were foreseen; now the model is calibrated beside."""
    import numpy as np

    from loadtest.cells import median_cells
    from loadtest.traces import machine

    plan, runs = work.plan, work.runs
    validation.reject(runs)
    rows: list[dict[str, Any]] = []
    of_load = {load: [run for run in runs if run.load == load and not run.design] for load in plan.loads}
    of_load = {load: mine for load, mine in of_load.items() if mine}
    predicted = {load: work.predict(load, (), plan.seed_of(load)) for load in of_load}
    say("how fast the host was in each run")
    courses = {load: [work.given(run, load) for run in validation.shown_of(mine)] for load, mine in of_load.items()}

    def by_cpu(load: float, without: str = "") -> list[dict[str, dict[str, Any]]]:
        overrides, seed, host = EFFECTS.get(without, ()), plan.seed_of(load), without != NO_HOST
        given = [_steady(course) for course in courses[load]] if without == STEADY else courses[load]
        return [work.foresee(load, overrides, seed, host=host, course=course) for course in given]

    given = {load: by_cpu(load) for load in of_load}
    for load, mine in of_load.items():
        beside = work.foresee(load, (), plan.seed_of(load))
        rows += validation.cell_rows(load, "", mine, cells[load], given[load], beside)
    for design in plan.designs:
        mine = [run for run in runs if run.design == design]
        rows += validation.cell_rows(DESIGN_LOAD, design, mine, median_cells(designed[design]))
    held_out = [row for row in rows if not row["design"]]
    effects = []
    for effect in EFFECTS:
        say(effect)
        without: list[dict[str, Any]] = []
        for load, mine in of_load.items():
            if load < 0.8:
                without += validation.cell_rows(load, "", mine, cells[load], by_cpu(load, effect))
        effects.append({"effect": effect, "medians": validation.medians(without, "load")})
    return {
        "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "scenario": work.base.name,
        "plan": plan.document(),
        "calibration": work.notes,
        "knee": knee(work.knee_per_s, of_load, cells, given),
        "medians": validation.medians(held_out),
        "medians_of_loads": validation.medians(held_out, "load"),
        "effects": effects,
        "rankings": [
            validation.rank(one, designed, {name: [r for r in runs if r.design == name and not r.rejected] for name in plan.designs})
            for one in RANKINGS
        ],
        "cpu_per_request_us": {
            str(load): {
                "predicted": work.cpu_per_request_s(predicted[load]) * 1e6,
                "real": float(np.median([run.cpu_per_request_s for run in validation.shown_of(mine)])) * 1e6,
            }
            for load, mine in of_load.items()
        },
        "rejected": sum(bool(run.rejected) for run in runs),
        "runs": [
            {k: v for k, v in dataclasses.asdict(run).items() if k not in ("cells", "course", "work")} for run in runs
        ],
        "rows": rows,
    }  # fmt: skip
