"""`flashcrowd sweep`: a scenario with settings varied, as a tidy table and a plot."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scenarios.arguments import Parser, document_of
from scenarios.fields import ScenarioError
from scenarios.loader import load_document, scenario_of
from scenarios.many_runs import add_run_options, checked_json, positive, tell
from scenarios.varying import Point, Variation, parse_variation, points_of

_JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Row:
    """One run of a sweep: its point, which replication, and its task, or why there is none."""

    point: Point
    replication: int
    seed: int
    task: Any = None
    error: str = ""


def sweep(argv: Sequence[str]) -> int:
    """`flashcrowd sweep S --vary …`: 0 if every run succeeded, 1 if one failed."""
    parser = Parser(
        "sweep",
        "Run every combination of varied settings; a table with a row per run, and a plot. Finished runs are kept: after\n"
        "Ctrl-C the same command goes on where it was.",
        "  flashcrowd sweep celebrity_post --vary feed.threshold=1_000,10_000,100_000 \\\n"
        "      --vary stations.fanout_workers.servers=2..16..2 --figures feed.delivered.p99_s,feed.open.p99_s\n"
        "  flashcrowd sweep baseline --vary run.load_factor=0.5..2..0.25 --seeds 5 --cluster tcp://10.0.0.7:8786",
    )
    parser.scenario()
    parser.add_argument("--vary", metavar="KEY=VALUES", action="append", required=True, help="a list 1,2,3 or a range 2..16..2")
    parser.add_argument("--seeds", type=positive, default=1, metavar="N", help="replications of each point (default: 1)")
    parser.add_argument("--out", metavar="DIR", type=Path, help="where results go (default: results/sweep-S)")
    parser.add_argument("--format", choices=["parquet", "csv"], default="parquet", help="of the table (default: parquet)")
    parser.add_argument("--figures", action="append", default=[], metavar="NAMES", help="in plot and table, with commas between")
    parser.add_argument("--cluster", metavar="ADDRESS", help="run on this Dask cluster, tcp://host:port")
    add_run_options(parser)
    arguments = parser.parse_args(argv)
    document = document_of(arguments)
    base = scenario_of(document)
    variations = [parse_variation(text) for text in arguments.vary]

    from scenarios.figures import chosen_figures, usual_figures

    figures = chosen_figures(arguments.figures, [base], list(base.slo) or usual_figures(base))
    rows = _rows(arguments, points_of(variations))
    checked_json(arguments)
    folder = arguments.out or Path("results") / f"sweep-{document.name}"
    _check_folder(folder)

    from scenarios.journal import Journal, key_of

    with _workers(arguments) as workers:
        folder.mkdir(parents=True, exist_ok=True)
        with Journal(folder / _JOURNAL) as journal:
            keys = ["" if row.task is None else key_of(row.task) for row in rows]
            kept = len(set(keys) & set(journal.done))
            if kept:
                print(f"{kept} of {len(rows)} runs are kept from before in {folder}", file=sys.stderr)
            try:
                failed = _run(workers, journal, rows, keys)
            except KeyboardInterrupt:
                done = sum(key in journal.done for key in keys)
                print(
                    f"interrupted: {done} of {len(rows)} runs are kept in {folder}; the same command goes on from there",
                    file=sys.stderr,
                )
                return 130
            table = _table(rows, keys, journal.done, failed)
    return _finish(arguments, folder, table, variations, figures, base)


def _rows(arguments: Namespace, points: Sequence[Point]) -> list[Row]:
    """Every run. A combination that is no scenario is a row with its error; raises `ScenarioError` if all of them are."""
    from model.replications import replication_seed
    from model.workers import Task
    from scenarios.offered import check_size

    rows: list[Row] = []
    first: ScenarioError | None = None
    for point in _reported(points):
        try:
            document = load_document(
                arguments.scenario,
                [*arguments.set, *point.overrides],
                arguments.seed,
                arguments.graph,
                arguments.both_ways,
            )
            scenario = scenario_of(document)
            check_size(document, scenario)
        except ScenarioError as problem:
            first = first or problem
            rows.append(Row(point, 0, 0, error=_as_varied(problem)))
            continue
        own = scenario.run.seed
        for replication in range(arguments.seeds):
            seed = replication_seed(own, replication)
            rows.append(Row(point, replication, seed, Task(scenario, seed, own, arguments.engine)))
    if first is not None and all(row.task is None for row in rows):
        raise ScenarioError(_as_varied(first))
    return rows


def _reported(points: Sequence[Point]) -> Iterator[Point]:
    from scenarios.progress import progress_bar

    with progress_bar(f"checking {len(points)} points") as progress:
        for done, point in enumerate(points, 1):
            yield point
            progress(done / len(points))


def _as_varied(problem: ScenarioError) -> str:
    text = str(problem)
    return f"--vary:{text.removeprefix('--set:')}" if text.startswith("--set:") else text


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ScenarioError(f"{folder}: is a file; name a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _JOURNAL).exists():
        raise ScenarioError(f"{folder}: holds something else, no sweep; name a new or an empty folder")


def _workers(arguments: Namespace) -> AbstractContextManager[Any]:
    if arguments.cluster is not None:
        if arguments.jobs is not None:
            raise ScenarioError("flashcrowd sweep: --jobs means nothing with --cluster; leave one out")
        from scenarios.cluster import ClusterWorkers

        return ClusterWorkers(arguments.cluster)
    from model.workers import LocalWorkers

    return LocalWorkers(arguments.jobs)


def _run(workers: Any, journal: Any, rows: Sequence[Row], keys: Sequence[str]) -> dict[str, str]:
    """Do what is not done yet, once for each key; the errors of those that fail, by key."""
    from model.workers import Failure
    from scenarios.progress import progress_bar

    wanted = {key: row.task for key, row in zip(keys, rows, strict=True) if row.task is not None and key not in journal.done}
    order = list(wanted)
    failed: dict[str, str] = {}
    with progress_bar(f"{len(order)} runs") as progress:
        for done, (number, answer) in enumerate(workers.run([wanted[key] for key in order]), 1):
            journal.add(order[number], answer)
            if isinstance(answer, Failure):
                failed[order[number]] = answer.reason
            progress(done / len(order))
    return failed


def _table(rows: Sequence[Row], keys: Sequence[str], done: Mapping[str, Mapping[str, Any]], failed: Mapping[str, str]) -> Any:
    """One row per run: settings, replication, seed, every figure, and the error of a run that failed."""
    import pandas as pd

    records = []
    for row, key in zip(rows, keys, strict=True):
        error = row.error or failed.get(key)
        known = {} if error else done[key]
        seed = None if row.task is None else row.seed
        records.append({**row.point.settings, "replication": row.replication, "seed": seed, **known, "error": error})
    frame = pd.DataFrame(records)
    frame["seed"] = frame["seed"].astype("Int64")
    last = frame.pop("error")
    frame = pd.concat([frame, last.astype("string")], axis=1)  # pandas warns of an insertion into hundreds of columns
    for name in rows[0].point.settings:
        kinds = {type(row.point.settings[name]) for row in rows}
        if kinds & {list, dict} or len(kinds - {int, float}) > 1:  # neither has a column type in Parquet
            frame[name] = frame[name].map(str).astype("string")
    return frame


def _finish(
    arguments: Namespace, folder: Path, table: Any, variations: Sequence[Variation], figures: Sequence[str], base: Any
) -> int:
    import pandas as pd

    from scenarios.sweep_plot import plot_sweep

    # A column of lists, or of words and numbers, is one of texts.
    texts = {name for name in table.columns if isinstance(table[name].dtype, pd.StringDtype)}
    variations = [replace(one, values=tuple(map(str, one.values))) if one.key in texts else one for one in variations]
    path = folder / f"sweep.{arguments.format}"
    write: Callable[[Path], None]
    if arguments.format == "csv":
        write = lambda part: table.to_csv(part, index=False)  # noqa: E731 - one of two ways, side by side
    else:
        write = lambda part: table.to_parquet(part, index=False)  # noqa: E731 - the other
    _whole(path, write)
    good = table[table["error"].isna()]
    if len(good):
        _whole(folder / "sweep.png", lambda part: plot_sweep(good, variations, figures, base.slo, base.name, part))
    failures = table[table["error"].notna()]
    keys = [variation.key for variation in variations]
    document = {
        "scenario": base.name,
        "varied": {one.key: list(one.values) for one in variations},
        "seeds": arguments.seeds,
        "runs": len(table),
        "failed": len(failures),
        "table": str(path),
        "points": _points(good, keys, figures),
        "failures": [
            {"settings": {key: _plain(row[key]) for key in keys}, "error": row["error"]} for _, row in failures.iterrows()
        ],
    }
    tell(arguments, document, lambda: _show(document, keys, figures, folder, path))
    for one in document["failures"]:
        settings = ", ".join(f"{key} = {value}" for key, value in one["settings"].items())
        print(f"failed: {settings}: {one['error']}", file=sys.stderr)
    return 1 if len(failures) else 0


def _whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` make a file that appears complete."""
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        write(part)
        part.replace(path)
    except OSError as problem:
        raise ScenarioError(f"{path}: can't be written ({problem.strerror}); choose another place") from problem
    finally:
        part.unlink(missing_ok=True)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _points(good: Any, keys: Sequence[str], figures: Sequence[str]) -> list[dict[str, Any]]:
    from model.statistics import interval

    points = []
    for values, group in good.groupby(list(keys), sort=False, dropna=False):
        found = {name: interval(group[name].dropna().astype(float).to_numpy()).row() for name in figures}
        points.append({"settings": dict(zip(keys, map(_plain, values), strict=True)), "figures": found})
    return points


def _show(document: Mapping[str, Any], keys: Sequence[str], figures: Sequence[str], folder: Path, path: Path) -> None:
    from model.statistics import Interval
    from scenarios.figures import shown_interval
    from scenarios.report import console, table

    rows = []
    for point in document["points"]:
        found = (point["figures"][name] for name in figures)
        cells = [
            shown_interval(name, Interval(one["mean"], one["low"], one["high"], one["n"]))
            for name, one in zip(figures, found, strict=True)
        ]
        rows.append((*(str(point["settings"][key]) for key in keys), *cells))
    printed = console()
    title = f"{document['scenario']}: {document['runs']} runs, {document['seeds']} of each point"
    printed.print(table(title, (*keys, *figures), rows))
    plotted = f" and {folder / 'sweep.png'}" if rows else ""
    printed.print(f"\neverything is in {path}{plotted}")
