"""Every notebook runs from top to bottom, holds no logic of its own and is kept without outputs."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LOGIC = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.While, ast.Try, ast.If)


def read(path):
    return nbformat.read(path, as_version=4)


def sources(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def run(path, folder):
    """The outputs of all cells, as (kind, content), with the numbers of the quick run.

    In a process of its own: Locust, which other tests import, patches threads in a way that Jupyter's client can't live with.
    """
    executed = folder / path.name
    done = subprocess.run(
        [sys.executable, "-c", "from nbclient.cli import main; main()", "--timeout=120", f"--output={executed}", str(path)],
        cwd=ROOT, env=os.environ | {"FLASHCROWD_QUICK": "1"}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outputs = [output for cell in read(executed).cells for output in cell.get("outputs", [])]
    return [
        (kind, text) for output in outputs for kind, text in output.get("data", {"text": output.get("text")}).items()
    ]


def test_there_are_notebooks():
    assert "01_first_plan.ipynb" in [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_clean_and_without_logic(path):
    notebook = read(path)
    nbformat.validate(notebook)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
    found = {
        type(node).__name__
        for text in sources(notebook)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, LOGIC)
    }
    assert found == set()


def test_the_first_plan(tmp_path):
    """Three plots, and two tables: every combination, and those that hold."""
    outputs = run(ROOT / "notebooks" / "01_first_plan.ipynb", tmp_path)
    images = [content for kind, content in outputs if kind == "image/png"]
    assert len(images) == 3
    assert all(len(image) > 5000 for image in images)
    tables = [content for kind, content in outputs if kind == "text/html"]
    assert len(tables) == 2
    assert "feed.delivered last, ms" in tables[0]
    printed = "".join(content for kind, content in outputs if kind == "text")
    assert "20,000 users, 2,000,000 follows" in printed
    assert "[15000, 14999" in printed
