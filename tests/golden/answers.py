"""The answers of the shipped scenarios: templates in `answers.toml`, filled from runs, and written into the files by

    python -m tests.golden.answers [NAME …]

A template names figures in braces, `{interactions.applied.max_s}`; `{hybrid:feed.delivered.max_s}` is a figure of the variant
`hybrid`, a run with the settings under `runs`. Figures are those of objectives, and `cost.usd_per_hour`, `backlogs.X.peak`, `….drain_s`,
`left.TOPIC`, `bottleneck`. `{a / b}` divides two of them.
"""

from __future__ import annotations

import re
import sys
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import Any

from model import platform
from model.figures import figures_of
from model.population import FollowGraph
from model.scenario import Population
from model.simulation import simulate
from model.summary import told
from scenarios.documents import question_of, shipped
from scenarios.loader import load_scenario
from scenarios.toml_text import inline

TEMPLATES = Path(__file__).with_name("answers.toml")
README = Path(__file__).resolve().parents[2] / "scenarios" / "README.md"
_HOLE = re.compile(r"\{([^}]*)\}")


def templates() -> dict[str, dict[str, Any]]:
    """Name → `answer` and the settings of its `runs`."""
    return tomllib.loads(TEMPLATES.read_text(encoding="utf-8"))


@lru_cache(maxsize=4)
def _graph(population: Population, seed: int) -> FollowGraph:
    return platform.build_graph(population, seed)


def figures(name: str, settings: list[str]) -> dict[str, float | str | None]:
    """Everything a template can name, of one run."""
    scenario = load_scenario(name, settings)
    graph = None if scenario.declared is not None else _graph(scenario.population, scenario.run.seed)
    document = told(simulate(scenario, graph=graph))
    assert document["audit"]["conserved"]
    found: dict[str, float | str | None] = dict(figures_of(document))
    found |= {f"cost.{key}": document["cost"][key] for key in ("usd_per_hour", "usd_per_1k_requests")}
    found |= {f"backlogs.{one}.{key}": value for one, row in document["backlogs"].items() for key, value in row.items()}
    found |= {f"left.{topic}": count for topic, count in document["left_in_topics"].items()}
    found["bottleneck"] = (document["bottleneck"] or {}).get("name")
    found["missed"] = float(sum(not one["met"] for one in document["slo"]))
    return found


def spoken(name: str, value: float | str | None) -> str:
    """A figure as one says it: two digits that mean something, with its unit."""
    if value is None:
        return "none" if not name.endswith("drain_s") else "not within the run"
    if isinstance(value, str):
        return value
    if name.endswith(("_ratio", "utilisation")):
        return f"{value * 100:.2g} %" if value < 0.995 else "100 %"
    if name.endswith("_per_s"):
        return f"{value:.3g}/s"
    if name.endswith("_s"):
        return _time(value)
    if name.startswith("cost."):
        return f"{value:.3g} USD"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def _time(value_s: float) -> str:
    if value_s >= 600:
        return f"{value_s / 60:.0f} minutes"
    if value_s >= 9.95:
        return f"{value_s:.0f} s"
    if value_s >= 0.995:
        return f"{value_s:.1f} s"
    return f"{value_s * 1000:.0f} ms" if value_s >= 0.00995 else f"{value_s * 1000:.1f} ms"


def answer(name: str) -> str:
    """The template of a scenario, filled by running it."""
    template = templates()[name]
    known = {"": figures(name, template.get("settings", []))}
    for run, settings in template.get("runs", {}).items():
        known[run] = figures(name, settings)

    def one(text: str) -> tuple[str, float | str | None]:
        run, _, figure = text.strip().rpartition(":")
        if figure not in known[run] and figure.startswith("backlogs."):
            return figure, 0.0  # nothing stood out
        return figure, known[run][figure]

    def fill(match: re.Match[str]) -> str:
        if " / " in match[1]:
            (_, above), (_, below) = map(one, match[1].split(" / "))
            return f"{float(above or 0) / float(below or 1):.2g}"
        return spoken(*one(match[1]))

    return _HOLE.sub(fill, template["answer"])


def write(name: str) -> None:
    """Put a scenario's answer into its file, after its question."""
    path = shipped()[name]
    line = f"answer = {inline(answer(name))}"
    text = path.read_text(encoding="utf-8")
    if re.search(r"^answer = ", text, re.M):
        text = re.sub(r"^answer = .*$", lambda _: line, text, count=1, flags=re.M)
    else:
        text = re.sub(r"^(question = .*)$", lambda match: f"{match[1]}\n{line}", text, count=1, flags=re.M)
    path.write_text(text, encoding="utf-8")
    print(f"{name}: {line}")


def library() -> str:
    """The table of `scenarios/README.md`."""
    rows = [(path, *question_of(path)) for path in shipped().values()]
    lines = [f"| {question} | [`{path.stem}`]({path.name}) | {found} |" for path, question, found in rows]
    return "\n".join(["| question | file | answer |", "|---|---|---|", *lines])


def write_readme() -> None:
    """Put the table into the README, between its marks."""
    text = README.read_text(encoding="utf-8")
    begin, end = "<!-- library -->\n", "<!-- end of library -->"
    before, _, rest = text.partition(begin)
    README.write_text(before + begin + library() + "\n" + end + rest.partition(end)[2], encoding="utf-8")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or templates():
        write(chosen)
    write_readme()
