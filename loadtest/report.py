"""A comparison for people: a table on the terminal, a CSV file, and one HTML page with the distributions side by side."""

from __future__ import annotations

import base64
import csv
import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest.figures import DELIVERED, QUANTILES, SIDES, Samples, Side, Window

if TYPE_CHECKING:
    from rich.console import Console

# Okabe and Ito's palette, told apart by people who see colours differently; the line styles tell them apart without colour.
STYLES = {"reference": ("#0072B2", "-"), "model": ("#D55E00", "--")}
MOST_POINTS = 2000  # of a plotted curve
FEWEST_SAMPLES = 5  # on one side at least: a curve of fewer says nothing


def number(value: float | None, digits: int = 3) -> str:
    """A number with that many significant digits, or a dash."""
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def print_tables(console: Console, rows: list[dict[str, Any]], totals: list[dict[str, Any]], speed: float) -> None:
    """Both tables: throughput, and latency per operation and milestone."""
    from rich.table import Table

    rates = Table(title="Throughput, per second", title_justify="left")
    rates.add_column("")
    for name in ("reference", "model", "model/reference"):
        rates.add_column(name, justify="right")
    for total in totals:
        rates.add_row(total["name"], number(total["reference"]), number(total["model"]), number(total["ratio"]))
    console.print(rates)
    times = Table(title="Latency and delay in ms, reference | model | ratio", title_justify="left")
    times.add_column("", no_wrap=True, overflow="fold")
    for name in ("n", *QUANTILES):
        times.add_column(name, justify="right")
    for row in rows:
        cells = [f"{row['reference_n']:,} | {row['model_n']:,}"]
        for name in QUANTILES:
            cells.append(
                " | ".join(number(row[key]) for key in (f"reference_{name}_ms", f"model_{name}_ms", f"ratio_{name}_ms"))
            )
        refused = " | ".join(f"{row[f'{side}_not_ok']:,}" for side in SIDES)
        mark = "" if refused == "0 | 0" else f"  not ok: {refused}"
        times.add_row(row["name"], *cells)
        if mark:
            times.add_row(mark)
    console.print(times)
    console.print(
        f"The model answered {speed:,.0f} requests per wall second of Locust. n: samples; ratio: model / reference."
    )


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """One line per operation and milestone; an empty cell where there is no figure."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _curve(samples: Samples) -> tuple[Any, Any]:
    import numpy as np

    order = np.argsort(samples.values_s, kind="stable")
    share = np.cumsum(samples.weights[order])
    step = max(1, len(order) // MOST_POINTS)
    return samples.values_s[order][::step] * 1000, (share / share[-1])[::step]


def _figure(sides: dict[str, Side], window: Window, rows: list[dict[str, Any]]) -> bytes:
    """Distribution functions of everything in `rows`, as an SVG picture."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    rows = [row for row in rows if any(row[f"{side}_n"] >= FEWEST_SAMPLES for side in SIDES)]
    if not rows:
        return b""
    mpl.rcParams["svg.hashsalt"] = "flashcrowd"  # the same data give the same file
    columns = 3
    height = -(-len(rows) // columns)
    figure = Figure(figsize=(13, 3.2 * height), layout="constrained")
    axes = figure.subplots(height, columns, squeeze=False).ravel()
    for axis in axes[len(rows) :]:
        axis.remove()
    for axis, row in zip(axes, rows, strict=False):
        name, drawn = row["name"], False
        for side, run in sides.items():
            take = run.operation_samples if row["kind"] != "milestone" else run.milestone_samples
            samples = take(name, window)
            if not samples.n or samples.values_s.max() <= 0:
                continue
            colour, line = STYLES[side]
            axis.plot(
                *_curve(samples),
                color=colour,
                linestyle=line,
                drawstyle="steps-post",
                label=f"{side}, n = {samples.n:,}",
            )
            drawn = True
        axis.set_title(name)
        axis.set_xlabel("delay, ms" if row["kind"] == "milestone" else "latency, ms")
        axis.set_ylabel("share of deliveries" if name == DELIVERED else "share of samples")
        axis.set_ylim(0, 1)
        if drawn:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.legend(loc="lower right", fontsize="small")
        axis.grid(alpha=0.3)
    picture = io.BytesIO()
    figure.savefig(picture, format="svg", metadata={"Date": None})
    return picture.getvalue()


def _interval(row: dict[str, Any], side: str, name: str) -> str:
    value, low, high = (row[f"{side}_{name}_{part}ms"] for part in ("", "low_", "high_"))
    return number(value) if low is None else f"{number(value)} <small>{number(low)} – {number(high)}</small>"


def _latency_table(rows: list[dict[str, Any]]) -> str:
    heads = "".join(f"<th colspan=3>{name}, ms</th>" for name in QUANTILES)
    lines = [f"<tr><th></th><th colspan=2>samples</th>{heads}</tr>"]
    lines.append(
        "<tr><th></th>"
        + "<td>reference</td><td>model</td>"
        + "<td>reference</td><td>model</td><td>ratio</td>" * 3
        + "</tr>"
    )
    for row in rows:
        cells = [f"{row[f'{side}_n']:,}" for side in SIDES]
        for name in QUANTILES:
            cells += [*(_interval(row, side, name) for side in SIDES), f"<b>{number(row[f'ratio_{name}_ms'])}</b>"]
        lines.append(
            f"<tr><th>{html.escape(row['name'])}</th>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
        )
    return "<table>" + "".join(lines) + "</table>"


def _rate_table(totals: list[dict[str, Any]]) -> str:
    lines = ["<tr><th></th><th>reference</th><th>model</th><th>ratio</th></tr>"]
    for total in totals:
        cells = "".join(f"<td>{number(total[key])}</td>" for key in (*SIDES, "ratio"))
        lines.append(f"<tr><th>{total['name']}</th>{cells}</tr>")
    return "<table>" + "".join(lines) + "</table>"


def write_html(
    path: Path,
    title: str,
    about: str,
    rows: list[dict[str, Any]],
    totals: list[dict[str, Any]],
    sides: dict[str, Side],
    window: Window,
) -> None:
    """One page that needs nothing else: tables with intervals, and the distributions."""
    picture = base64.b64encode(_figure(sides, window, rows)).decode()
    what = "Distribution functions of the reference (solid) and the model (dashed)"
    image = f'<img alt="{what}" src="data:image/svg+xml;base64,{picture}">' if picture else "<p>Too few samples.</p>"
    path.write_text(
        f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse; margin: 1em 0 }} td, th {{ padding: .2em .7em; text-align: right; border-bottom: 1px solid #ccc }}
th:first-child {{ text-align: left }} small {{ color: #555; white-space: nowrap }} img {{ max-width: 100% }}
</style>
<h1>{html.escape(title)}</h1>
<p>{html.escape(about)}</p>
<h2>Throughput, per second</h2>
{_rate_table(totals)}
<h2>Latency and delay</h2>
<p>Percentiles of raw samples; beneath them bootstrap intervals of 95 % (none below 30 samples). Ratio: model over reference.
Delays of feed.delivered are weighted by followers.</p>
{_latency_table(rows)}
<h2>Distributions</h2>
<p>Share of samples at or below a time; logarithmic time axis. What has fewer than {FEWEST_SAMPLES} samples on both sides is left out.</p>
{image}
</html>
"""
    )
