"""Ruff and mypy as tests, so that one command checks everything."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def findings_of(*command: str) -> str:
    """What the tool prints when it is not content, else an empty string."""
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_ruff_finds_nothing():
    assert findings_of("ruff", "check", "--no-cache", "--output-format=concise", ".") == ""


def test_mypy_finds_nothing():
    assert findings_of("mypy", "--no-error-summary") == ""
