"""A validation for people: tables on the terminal, CSV, JSON, and one HTML page that needs nothing else."""

from __future__ import annotations

import html
import json
import math
import sys
from pathlib import Path
from typing import Any

from loadtest.report import write_csv

_STYLE = """body { font: 15px/1.5 system-ui, sans-serif; max-width: 80em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } td, th { padding: .15em .7em; text-align: right; border-bottom: 1px solid #ccc }
th:first-child, td:first-child { text-align: left }
.noise { color: #00664a } .error { color: #a33b00; font-weight: 600 } .full { color: #666 }"""
_CLASSES = {"within noise": "noise", "model error": "error"}


def percent(value: float | None, sign: bool = False) -> str:
    """A share as a percentage, or a dash."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value * 100:+.1f} %" if sign else f"{value * 100:.1f} %"


def _amount(row: dict[str, Any], key: str) -> str:
    return f"{row[key]:.1f}/s" if row["statistic"] == "per_s" else f"{row[key] * 1000:.3g} ms"


def _medians(rows: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            row["statistic"], str(row["cells"]), percent(row["error"]), percent(row["error_beside"]), percent(row["error_normalised"]),
            percent(row["aim"]), percent(row["spread"]), percent(row["within_noise"]), percent(row["within_noise_beside"]),
        ]
        for row in rows
    ]  # fmt: skip


def _cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    return [
        [
            row["design"] or f"{row['load']:.0%}", row["name"], row["statistic"], f"{row['n']:,}", _amount(row, "real"),
            _amount(row, "predicted"), percent(row["error"], True), percent(row["error_beside"], True),
            percent(row["error_normalised"], True), percent(row["spread"]), row["verdict"],
        ]
        for row in rows
    ]  # fmt: skip


def _effects(made: dict[str, Any]) -> list[list[str]]:
    statistics = ("mean", "p50", "p95", "p99")
    rows = []
    for effect in made["effects"]:
        by = {row["statistic"]: row["error_normalised"] for row in effect["medians"]}
        rows.append([effect["effect"], *(percent(by.get(name)) for name in statistics)])
    return rows


def _rankings(made: dict[str, Any]) -> list[list[str]]:
    rows = []
    for one in made["rankings"]:
        if "predicted" not in one:
            rows.append([one["question"], "", "", one["outcome"]])
            continue
        expected = ", ".join(
            f"{name} {min(values) * 1000:.3g} to {max(values) * 1000:.3g} ms" for name, values in one["predicted"].items()
        )
        found = ", ".join(
            f"{name} {' and '.join(f'{value * 1000:.3g}' for value in values)} ms" for name, values in one["real"].items()
        )
        rows.append([f"{one['question']} ({one['cell']})", expected, found, one["outcome"]])
    return rows


def _runs(made: dict[str, Any]) -> list[list[str]]:
    return [
        [
            run["design"] or f"{run['load']:.0%}", f"{run['cpu_per_request_s'] * 1e6:,.0f}", percent(run["busy_ratio"]),
            percent(run["answered_ratio"]), f"{run['probe_s'] * 1e6:.0f}", percent(run["late_ratio"]), percent(run["steal_ratio"]),
            percent(run["stalls"] and run["stalls"]["ratio"]), percent(run["stalls"] and run["stalls"]["slow_ratio"]), run["rejected"],
        ]
        for run in sorted(made["runs"], key=lambda run: (run["design"], run["load"]))
    ]  # fmt: skip


_MEDIANS = [
    "statistic", "cells", "foreseen", "calibrated beside", "given the machine", "aim", "run-to-run spread",
    "foreseen within noise", "calibrated beside within noise",
]  # fmt: skip
_HEADS = {
    "medians": _MEDIANS,
    "medians_of_loads": _MEDIANS,
    "effects": ["left out (given the machine)", "mean", "p50", "p95", "p99"],
    "rankings": ["question", "predicted", "measured", "outcome"],
    "runs": [
        "load", "CPU a request (us)", "core busy", "answered", "probe (us)", "sent late", "steal", "core away", "core slow", "rejected",
    ],
    "cells": ["load", "", "", "n", "real", "foreseen", "error", "calibrated beside", "given the machine", "spread", "verdict"],
}


def tables(made: dict[str, Any]) -> dict[str, list[list[str]]]:
    """All tables as text."""
    return {
        "medians": _medians(made["medians"]),
        "medians_of_loads": _medians(made["medians_of_loads"]),
        "rankings": _rankings(made),
        "effects": _effects(made),
        "runs": _runs(made),
        "cells": _cells(made["rows"]),
    }


_TITLES = {
    "medians": "Median absolute errors of held-out cells below 80 % utilisation, as measured",
    "medians_of_loads": "The same below 80 % of the predicted knee",
    "effects": "What each effect is worth: median absolute errors without it",
    "rankings": "Designs, predicted before they were measured",
    "runs": "All runs",
    "cells": "All cells",
}


def _knee(made: dict[str, Any]) -> list[str]:
    found = made["knee"]
    text = f"Knee: predicted at {found['predicted_per_s']:.0f} requests/s"
    if found["real_per_s"] is not None:
        text += (
            f"; the most that the reference answered are {found['real_per_s']:.0f}/s: the prediction is {found['error']:+.1%} off, "
            f"the spread of its runs {percent(found['spread'])}"
        )
    lines = [text]
    for one in found["loads"]:
        real, given = (", ".join(f"{value:.0f}" for value in one[of]) or "–" for of in ("real_per_s", "given_per_s"))
        lines.append(
            f"At {one['load']:.0%} of it the model answers {one['model_per_s']:.0f}/s, the reference {real}/s, "
            f"the model given each run's machine {given}/s"
        )
    return lines


def about(made: dict[str, Any]) -> list[str]:
    """Date, machine, plan and calibration, in lines."""
    machine, plan = made["machine"], made["plan"]
    return [
        f"{made['made_at']}, {machine['processor']}, {machine['system']}, Python {machine['python']}",
        f"{len(made['runs'])} runs of {plan['run_s']:g} s, seed {plan['seed']}; {made['rejected']} rejected "
        f"({made['rejected'] / max(len(made['runs']), 1):.0%}). Rules, fixed before: {'; '.join(plan['rules'])}.",
        *(f"calibration at {note}" for note in made["calibration"]),
        *_knee(made),
        "Calibrated beside: predicted by all calibration runs, those between the held-out ones too",
        "Given the machine: the same, each run held against the model on a host that was so fast in each quarter of a second that a "
        "finished request costs it the CPU which it cost the system; within it as slow, or away, as a fixed piece of work on the core was",
    ]


def write(folder: Path, made: dict[str, Any]) -> None:
    """`validation.json`, `validation.csv`, `validation.md`, `validation.html`."""
    (folder / "validation.json").write_text(json.dumps(made, indent=2) + "\n")
    if made["rows"]:
        write_csv(folder / "validation.csv", made["rows"])
    parts = [f"<p>{html.escape(line)}</p>" for line in about(made)]
    for name, rows in tables(made).items():
        head = "".join(f"<th>{html.escape(text)}</th>" for text in _HEADS[name])
        body = "".join(
            f'<tr class="{_CLASSES.get(row[-1], "full") if name == "cells" else ""}">'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
            + "</tr>"
            for row in rows
        )
        parts.append(f"<h2>{html.escape(_TITLES[name])}</h2><table><tr>{head}</tr>{body}</table>")
    title = "Does the model predict what the running system does?"
    (folder / "validation.md").write_text(f"# {title}\n\n{_markdown(made)}")
    page = "\n".join(parts)
    (folder / "validation.html").write_text(
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>\n{page}\n</html>\n"
    )


def _markdown(made: dict[str, Any]) -> str:
    parts = ["\n".join(f"- {line}" for line in about(made))]
    for name, rows in tables(made).items():
        heads = _HEADS[name]
        lines = [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]
        parts.append(f"## {_TITLES[name]}\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def show(made: dict[str, Any], folder: Path) -> None:
    """The same on the terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=150)
    found = tables(made)
    for name in reversed(found):
        table = Table(title=_TITLES[name], title_justify="left")
        for number, head in enumerate(_HEADS[name]):
            table.add_column(head, justify="left" if number == 0 or name == "rankings" else "right")
        for row in found[name]:
            table.add_row(*row)
        console.print(table)
    for line in about(made):
        console.print(line, highlight=False)
    console.print(f"files in {folder}", highlight=False)
