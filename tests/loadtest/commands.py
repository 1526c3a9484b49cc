"""The stock command `locust` for the tests."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@dataclass
class Finished:
    code: int
    errors: str
    figures: dict
    raw: Path


def command(locustfile: str, *args: str) -> list[str]:
    return [sys.executable, "-m", "locust", "-f", str(HERE / locustfile), "--only-summary", *args]


def environment(**variables: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", **variables}
