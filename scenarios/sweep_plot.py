"""Small multiples of a sweep: a row of panels per figure, colours for one setting, columns of panels for the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from model.statistics import interval
from scenarios.figures import unit_of
from scenarios.outputs import COLOURS, STYLES
from scenarios.varying import Variation, label

_MOST_COLUMNS = 6
_LOG_RATIO = 50  # a setting that spans more than this gets a logarithmic axis
_WORDS = {"%": "(%)", "ms": "(ms)", "per s": "(per s)", "": "(number)"}


def plot_sweep(
    table: pd.DataFrame,
    variations: Sequence[Variation],
    figures: Sequence[str],
    slo: Mapping[str, float],
    title: str,
    path: Path,
) -> None:
    """Write a PNG. The setting with the most values is the x axis; error bars are 95 % intervals over replications.

    Of further combinations, `_MOST_COLUMNS` columns of panels are drawn; the table has them all.
    """
    from matplotlib.figure import Figure

    ordered = sorted(variations, key=lambda one: (not _numeric(one), -len(one.values)))
    across, coloured, others = ordered[0], ordered[1:2], ordered[2:]
    columns = list(product(*(one.values for one in others)))[:_MOST_COLUMNS]
    size = (max(5.0, 3.6 * len(columns) + 2.2), 2.6 * len(figures) + 0.9)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(figures), len(columns), squeeze=False, sharex=True, sharey="row")
    for row, name in enumerate(figures):
        for column, values in enumerate(columns):
            axes = grid[row][column]
            part = table
            for one, value in zip(others, values, strict=True):
                part = part[part[one.key] == value]
            _panel(axes, part, across, coloured[0] if coloured else None, name, slo.get(name))
            if row == 0 and others:
                settings = (f"{label(one.key)} = {value}" for one, value in zip(others, values, strict=True))
                axes.set_title("\n".join(settings), fontsize="small")
            if row == len(figures) - 1:
                axes.set_xlabel(across.key, fontsize="small")
        top = grid[row][0].get_ylim()[1]  # of the whole row: its panels share the axis
        grid[row][0].set_ylim(0, 1.06 * top if top > 0 else 1)
        grid[row][0].set_ylabel(f"{name.removesuffix('_s')}\n{_WORDS[unit_of(name)[1]]}", fontsize="small")
    handles, labels = grid[0][0].get_legend_handles_labels()
    if labels:
        about = coloured[0].key if coloured else None
        figure.legend(handles, labels, title=about, loc="outside right upper", fontsize="small", title_fontsize="small")
    runs = f"n = {table['replication'].nunique()} per point"
    figure.suptitle(f"{title} ({runs})", fontsize="medium")
    figure.savefig(path, dpi=120)


def _numeric(variation: Variation) -> bool:
    return all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in variation.values)


def _panel(
    axes: Any, part: pd.DataFrame, across: Variation, coloured: Variation | None, name: str, target: float | None
) -> None:
    factor, _ = unit_of(name)
    numeric = _numeric(across)
    values = sorted(across.values) if numeric else list(across.values)
    groups: list[tuple[Any, pd.DataFrame]] = [(None, part)]
    if coloured is not None:
        groups = [(value, part[part[coloured.key] == value]) for value in coloured.values]
    for number, (value, lines) in enumerate(groups):
        places, means, halves = [], [], []
        for place, one in enumerate(values):
            sample = lines.loc[lines[across.key] == one, name].dropna().astype(float).to_numpy() if name in lines else []
            if len(sample):
                found = interval(sample)
                places.append(one if numeric else place)
                means.append(found.mean * factor)
                halves.append(found.half_width * factor if found.n > 1 else np.nan)
        style = STYLES[number // len(COLOURS) % len(STYLES)]
        axes.errorbar(
            places,
            means,
            yerr=halves,
            fmt=f"o{style}",
            markersize=3,
            linewidth=1.2,
            capsize=2,
            color=COLOURS[number % len(COLOURS)],
            label=None if value is None else str(value),
        )
    if target is not None:
        axes.axhline(target * factor, color="#000000", linestyle=":", linewidth=1, label="objective")
    if numeric and values[0] > 0 and values[-1] / values[0] > _LOG_RATIO:
        axes.set_xscale("log")
    if not numeric:
        axes.set_xticks(range(len(values)), [str(value) for value in values])
    elif all(isinstance(value, int) for value in values) and axes.get_xscale() == "linear":
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
