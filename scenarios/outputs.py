"""Files of a run: JSON, tables, the resolved scenario, a plot. They appear whole or not at all."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.results import Results
from scenarios.fields import ScenarioError

# Okabe and Ito's palette: colours that remain distinct for colour-blind people; line styles tell the rest.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000", "#F0E442")
STYLES = ("-", "--", "-.", ":")
_POINTS = 1001
_RESULT = "result.json"


def json_text(document: Mapping[str, Any]) -> str:
    """The document as strict JSON: what is not finite is null."""
    return json.dumps(_finite(document), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_file(path: Path) -> None:
    """Raise `ScenarioError` if `path` can't become a file, before a long run rather than after it."""
    if path.is_dir() or not path.parent.is_dir():
        wrong = "is a folder" if path.is_dir() else "its folder does not exist"
        raise ScenarioError(f"{path}: {wrong}; name a file in a folder that exists")


def check_folder(folder: Path) -> None:
    """Raise `ScenarioError` if `folder` is no place for results: a file, or a folder that holds something else."""
    if folder.exists() and not folder.is_dir():
        raise ScenarioError(f"{folder}: is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _RESULT).exists():
        raise ScenarioError(f"{folder}: holds something else, no earlier result; name a new or an empty folder")
    if not folder.absolute().parent.is_dir():
        raise ScenarioError(f"{folder}: the folder around it does not exist; make it first")


def write_file(path: Path, text: str) -> None:
    """Write a text; the file appears complete. Raises `ScenarioError`."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as problem:
        raise ScenarioError(f"{path}: can't be written ({problem.strerror}); choose another place") from problem


def write_folder(folder: Path, results: Results, document: Mapping[str, Any], scenario_toml: str) -> None:
    """`result.json`, a CSV per table, `scenario.toml`, `latency.png`; an earlier result there is replaced. Raises `ScenarioError`."""

    def fill(whole: Path) -> None:
        for name in ("operations", "milestones", "stations", "topics"):
            getattr(results, name).to_csv(whole / f"{name}.csv")
        plot_latencies(results, whole / "latency.png")

    replace_folder(folder, document, scenario_toml, fill)


def replace_folder(
    folder: Path, document: Mapping[str, Any], scenario_toml: str, fill: Callable[[Path], None]
) -> None:
    """`result.json`, `scenario.toml` and what `fill` writes; the folder appears complete. Raises `ScenarioError`."""
    folder = folder.absolute()
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
            whole = Path(work) / "new"
            whole.mkdir()
            (whole / _RESULT).write_text(json_text(document), encoding="utf-8")
            (whole / "scenario.toml").write_text(scenario_toml, encoding="utf-8")
            fill(whole)
            if folder.exists():
                folder.rename(Path(work) / "old")
            whole.rename(folder)
    except OSError as problem:
        raise ScenarioError(f"{folder}: can't be written ({problem.strerror}); choose another place") from problem


def plot_latencies(results: Results, path: Path) -> None:
    """The distribution of every operation's latency, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    shares = np.linspace(0, 1, _POINTS)
    drawn = 0
    for name in results.operations.index:
        latencies_s = results.latencies_s(str(name))
        if len(latencies_s):
            label = f"{name} (n = {len(latencies_s):,})"
            style = (
                STYLES[drawn // len(COLOURS) % len(STYLES)] if drawn >= len(COLOURS) else STYLES[drawn % len(STYLES)]
            )
            quantiles_ms = np.maximum(np.quantile(latencies_s, shares) * 1000, 1e-6)
            axes.plot(quantiles_ms, shares, style, color=COLOURS[drawn % len(COLOURS)], label=label)
            drawn += 1
    axes.set(xscale="log", xlabel="latency (ms)", ylabel="share of requests (ratio)", ylim=(0, 1))
    axes.set_title(f"{results.scenario.name}, seed {results.seed}")
    axes.grid(alpha=0.3, which="both")
    if drawn:
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
