"""The `flashcrowd` command: a table of subcommands, each loaded when it is asked for.

Exit codes: 0 all objectives met or none given, 1 one missed, 2 bad input (one clear line), 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from scenarios.fields import ScenarioError, hint

COMMANDS: dict[str, tuple[str, str]] = {
    "list": ("scenarios.commands:list_scenarios", "the scenarios that come along, and their questions"),
    "show": ("scenarios.commands:show", "a scenario with everything it rests on; or how two differ"),
    "check": (
        "scenarios.commands:check",
        "what is wrong with a scenario, and where load exceeds capacity; simulates nothing",
    ),
    "run": ("scenarios.run:run", "simulate a scenario: latencies, queues, objectives"),
    "compare-runs": ("scenarios.compare_runs:compare_runs", "two scenarios on the same random numbers: what really differs"),
    "sweep": ("scenarios.sweep:sweep", "vary settings: a table and a plot; can be interrupted and resumed"),
    "size": ("scenarios.size:size", "the smallest capacity that meets the objectives, and its headroom"),
    "knee": ("scenarios.knee:knee", "the highest load that still meets the objectives"),
    "bottlenecks": ("scenarios.bottlenecks:bottlenecks", "which part holds the objectives back, by elasticity and by hand"),
    "threshold": ("scenarios.threshold:threshold", "push or pull: what each follower threshold costs, on any follow graph"),
    "compare": ("loadtest.compare:main", "drive the model and the reference with the same load, side by side"),
    "observe": ("loadtest.observe:main", "open arrivals at the reference: every request, stage and process on record"),
    "replay": ("loadtest.replay:main", "the arrivals of a trace through the model"),
    "calibrate": ("loadtest.calibrate:main", "traces into a scenario: measured distributions and costs per item"),
    "validate": ("loadtest.validate:main", "predict loads and designs that calibration has not seen, run them, publish the error"),
    "upload": ("loadtest.upload_client.command:main", "upload a photo or video to the reference, in parts, with a progress bar"),
    "reference": (
        "reference_impl.__main__:main",
        "up, down, status, seed: the reference implementation on real servers",
    ),
}
_EXAMPLES = """examples:
  flashcrowd list
  flashcrowd run celebrity_post --set feed.threshold=5000
  flashcrowd check my_scenario.toml
  flashcrowd compare baseline --users 200 --duration 2m"""


def help_text() -> str:
    """What `flashcrowd --help` prints."""
    rows = "\n".join(f"  {name:<12} {about}" for name, (_, about) in COMMANDS.items())
    return (
        "usage: flashcrowd COMMAND …\n\n"
        "Will it hold? Capacity planning for feed-based social platforms.\n\n"
        f"commands:\n{rows}\n\n{_EXAMPLES}\n\n"
        "`flashcrowd COMMAND --help` says more. Exit codes: 0 fine, 1 an objective was missed, 2 bad input."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default: the process's) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(help_text())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"flashcrowd {version('flashcrowd')}")
        return 0
    name, rest = arguments[0], arguments[1:]
    try:
        if name not in COMMANDS:
            raise ScenarioError(f"flashcrowd: no command {name!r}; {hint(name, COMMANDS)}")
        code = _load(COMMANDS[name][0])(rest)
        sys.stdout.flush()
        return code
    except ScenarioError as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has left: nothing to tell, and nowhere to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _load(target: str) -> Callable[[Sequence[str]], int]:
    module, _, function = target.partition(":")
    command: Callable[[Sequence[str]], int] = getattr(import_module(module), function)
    return command


if __name__ == "__main__":
    sys.exit(main())
