"""``python -m reference_impl``: bring the reference up, fill it, look at it, take it down."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reference_impl import lifecycle, processes, state
from reference_impl.embedded import NotInstalled
from reference_impl.processes import StartFailed
from reference_impl.settings import Settings, SettingsError
from reference_impl.state import State, StateError

EXAMPLES = """examples:
  python -m reference_impl up                          start embedded servers, the API and the workers
  python -m reference_impl up --cpus 0 --json          on core 0 only; print the state as JSON
  python -m reference_impl seed --users 10000          10,000 users with a synthetic follow graph
  python -m reference_impl status
  python -m reference_impl down

Every setting has an environment variable, FLASHCROWD_FEED_STRATEGY=push for one; reference_impl/settings.py lists them.
"""
UP_EXAMPLES = """examples:
  python -m reference_impl up --fanout-workers 2 --interaction-workers 2
  FLASHCROWD_FEED_THRESHOLD=500 python -m reference_impl up
  FLASHCROWD_DATABASE_URL=postgresql://app@db/app FLASHCROWD_KAFKA_BOOTSTRAP=broker:9092 python -m reference_impl up
"""
SEED_EXAMPLES = """examples:
  python -m reference_impl seed --users 10000 --mean-followees 30 --seed 7
  python -m reference_impl seed --graph twitter_combined.txt.gz
  python -m reference_impl seed --graph facebook_combined.txt --both-ways
  python -m reference_impl seed --arrays population.npz
"""


SPANS_EXAMPLES = """examples:
  python -m reference_impl spans --out spans.otlp.jsonl
  OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 python -m reference_impl up      sends them as they come
"""
SEARCHABLE_WITHIN_S = 300.0
OPTIONAL = (
    processes.NOTIFICATION_WORKER, processes.CDC, processes.INDEXER, processes.RECONCILER, processes.EDGE,
)  # fmt: skip
"""Roles without which feeds and interactions are as they are."""


def _progress(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


class _NewsOnly:
    """Progress that says the same thing only once."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, text: str) -> None:
        if text != self._last:
            _progress(text)
        self._last = text


def _running(state_dir: Path) -> State:
    current = state.read(state_dir) if state_dir.is_dir() else None
    if current is None:
        raise StateError(f"nothing is up in {state_dir}; start it with: python -m reference_impl up")
    return current


def _show(current: State, as_json: bool) -> None:
    if as_json:
        print(json.dumps(state.without_secrets(current), indent=2))
        return
    print(f"API        {current.api_url}")
    print(f"metrics    {current.api_url}/metrics")
    print(f"database   {state.hide_password(current.database_url)}")
    print(f"Kafka      {current.kafka_bootstrap}")
    print(f"S3         {current.settings['s3_url']}")
    print(f"media      {current.settings['edge_url']}")
    print(f"state      {state.path(Path(current.state_dir))}")
    print(f"processes  {', '.join(f'{child.name} ({child.pid})' for child in current.processes)}")


def _up(arguments: argparse.Namespace, settings: Settings) -> int:
    scale = lifecycle.Scale(
        arguments.fanout_workers,
        arguments.interaction_workers,
        arguments.notification_workers,
        arguments.apis,
        arguments.indexers,
        tuple(arguments.without),
    )
    already = state.read(Path(settings.state_dir)) if Path(settings.state_dir).is_dir() else None
    current = lifecycle.up(settings, scale, arguments.cpus, _NewsOnly())
    if already and already.started_in_s and already.api_url == current.api_url:
        _progress("it is up already")
    _show(current, arguments.json)
    return 0


def _down(arguments: argparse.Namespace, settings: Settings) -> int:
    stopped, killed = lifecycle.down(Path(settings.state_dir))
    if killed:
        _progress(f"killed because they did not stop by themselves: {', '.join(killed)}")
    if arguments.json:
        print(json.dumps({"stopped": stopped, "killed": killed}))
    else:
        print(f"stopped {stopped} processes" if stopped else "nothing was up")
    return 0


def _status(arguments: argparse.Namespace, settings: Settings) -> int:
    from reference_impl import inspection

    report = inspection.report(_running(Path(settings.state_dir)))
    if arguments.json:
        print(json.dumps(report, indent=2))
    else:
        _print_report(report)
    return 0 if report["up"] else 1


def _print_report(report: dict[str, Any]) -> None:
    print(f"{'up' if report['up'] else 'NOT WELL'}: {report['api_url']}")
    for name, answer in report["health"].get("dependencies", {}).items():
        print(f"  {name:22} {answer}")
    for process in report["processes"]:
        ready = "" if process["ready"] else ", not ready"
        memory_mib = process["memory_bytes"] / 2**20
        print(f"  {process['name']:22} {process['state']}{ready} (pid {process['pid']}, {memory_mib:.0f} MiB)")
    sections = (
        ("lag, records", report["lag_records"]),
        ("lag of search", report["search_lag"]),
        ("rows", report["rows"]),
    )
    for title, numbers in sections:
        known = {name: "unknown" if count is None else f"{count:,.0f}" for name, count in (numbers or {}).items()}
        shown = ", ".join(f"{name} {count}" for name, count in known.items()) or "unknown"
        print(f"  {title:22} {shown}")


def _seed(arguments: argparse.Namespace, settings: Settings) -> int:
    from reference_impl import graph, inspection, seeding

    current = None
    if not settings.database_url:
        current = _running(Path(settings.state_dir))
        settings = current.to_settings()
    if arguments.both_ways and not arguments.graph:
        raise graph.GraphError("--both-ways: belongs to --graph only")
    if arguments.graph:
        follow_graph = graph.read_edge_list(arguments.graph, arguments.both_ways, _progress)
    elif arguments.arrays:
        follow_graph = graph.read_arrays(arguments.arrays)
    else:
        follow_graph = graph.synthetic_graph(arguments.users, arguments.mean_followees, arguments.seed)
    if current:
        # Events on their way would be applied to the new data.
        deadline = time.monotonic() + 30
        while any((inspection.lag(current) or {}).values()) and time.monotonic() < deadline:
            _progress("waiting for the workers to catch up")
            time.sleep(0.5)
    began = time.monotonic()
    asyncio.run(seeding.seed(settings.database_url, follow_graph, settings, arguments.epoch or time.time(), _progress))
    if current:
        _wait_for_search(current)
    summary = {
        "users": follow_graph.users,
        "edges": len(follow_graph.followee),
        "posts": follow_graph.users * settings.initial_posts_per_user,
        "seconds": round(time.monotonic() - began, 3),
    }
    if arguments.json:
        print(json.dumps(summary))
    else:
        print("{users:,} users, {edges:,} edges and {posts:,} posts in {seconds:.1f} s".format(**summary))
    return 0


def _wait_for_search(current: State) -> None:
    """Wait until the seeded rows can be found: they go the way of all rows, from the database's log to the index."""
    from reference_impl import inspection

    workers = [child for child in current.processes if child.role in (processes.CDC, processes.INDEXER)]
    if not workers:
        return
    progress, deadline = _NewsOnly(), time.monotonic() + SEARCHABLE_WITHIN_S
    while not inspection.caught_up(current):
        progress("waiting for the search index")
        if time.monotonic() > deadline or not all(map(processes.alive, workers)):
            progress("the search index has not caught up; it goes on by itself")
            return
        time.sleep(0.2)


def _spans(arguments: argparse.Namespace, settings: Settings) -> int:
    from reference_impl import otlp

    current = _running(Path(settings.state_dir))
    count = otlp.write(Path(current.state_dir), arguments.out, int(arguments.since * 1e9))
    print(json.dumps({"spans": count}) if arguments.json else f"{count:,} spans in {arguments.out}")
    return 0


def _run(arguments: argparse.Namespace, settings: Settings) -> int:
    from reference_impl import roles

    if arguments.role != processes.SEARCH_ENGINE and not (settings.database_url and settings.kafka_bootstrap):
        raise SettingsError("run needs FLASHCROWD_DATABASE_URL and FLASHCROWD_KAFKA_BOOTSTRAP")
    if arguments.role in (processes.API, processes.RECONCILER) and not settings.s3_url:
        raise SettingsError(f"run {arguments.role} needs FLASHCROWD_S3_URL")
    if arguments.role in (processes.API, processes.EDGE) and not settings.token_secret:
        raise SettingsError(f"run {arguments.role} needs FLASHCROWD_TOKEN_SECRET, the same for all")
    roles.run(arguments.role, arguments.name or arguments.role, arguments.metrics_port, settings)
    return 0


def _optional_roles(text: str) -> tuple[str, ...]:
    for role in (roles := tuple(text.split(","))):
        if role not in OPTIONAL:
            raise argparse.ArgumentTypeError(f"{role!r} is none of {', '.join(OPTIONAL)}")
    return roles


def _cores(text: str) -> list[int]:
    try:
        cores = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of cores such as 0 or 0,1") from None
    return cores


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m reference_impl", description=__doc__, epilog=EXAMPLES, formatter_class=raw
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function: Any, text: str, examples: str = "") -> argparse.ArgumentParser:
        examples = examples or f"example:\n  python -m reference_impl {name}\n"
        added = commands.add_parser(name, help=text, description=text, epilog=examples, formatter_class=raw)
        added.set_defaults(function=function)
        added.add_argument("--state-dir", help="directory of logs, milestones and state.json (default: temporary)")
        return added

    up = command("up", _up, "start servers, API and workers, and wait until they are healthy", UP_EXAMPLES)
    up.add_argument(
        "--cpus", type=_cores, default=[], metavar="LIST", help="pin everything to these cores, say 0 or 0,1"
    )
    up.add_argument("--fanout-workers", type=_positive, default=1, metavar="N")
    up.add_argument("--interaction-workers", type=_positive, default=1, metavar="N")
    up.add_argument("--notification-workers", type=_positive, default=1, metavar="N")
    up.add_argument("--apis", type=_positive, default=1, metavar="N", help="API processes, each at a port of its own")
    up.add_argument("--indexers", type=_positive, default=1, metavar="N")
    up.add_argument(
        "--without", type=_optional_roles, default=(), metavar="LIST", help=f"do without some of: {', '.join(OPTIONAL)}"
    )
    up.add_argument("--json", action="store_true", help="print the state as JSON")
    down = command("down", _down, "stop everything that up started")
    down.add_argument("--json", action="store_true")
    status = command("status", _status, "show health, processes, lag and row counts; exit code 1 if not well")
    status.add_argument("--json", action="store_true")
    seed = command(
        "seed", _seed, "replace all data by users, a follow graph, posts and precomputed feeds", SEED_EXAMPLES
    )
    source = seed.add_mutually_exclusive_group(required=True)
    source.add_argument("--graph", type=Path, metavar="FILE", help="edge list: lines 'follower followee'")
    source.add_argument("--arrays", type=Path, metavar="FILE", help=".npz with followee, follower and users")
    source.add_argument("--users", type=_positive, metavar="N", help="a synthetic graph of N users")
    seed.add_argument("--both-ways", action="store_true", help="each edge of --graph counts in both directions")
    seed.add_argument("--mean-followees", type=float, default=20.0, metavar="M", help="of --users (default 20)")
    seed.add_argument("--seed", type=int, default=1, help="of --users (default 1)")
    seed.add_argument("--epoch", type=float, metavar="S", help="epoch seconds that the posts lie before (default: now)")
    seed.add_argument("--json", action="store_true")
    spans = command("spans", _spans, "write the recorded spans as OTLP JSON lines", SPANS_EXAMPLES)
    spans.add_argument("--out", type=Path, required=True, metavar="FILE")
    spans.add_argument(
        "--since", type=float, default=0.0, metavar="S", help="leave out what ended before (epoch seconds)"
    )
    spans.add_argument("--json", action="store_true")
    run = command(
        "run", _run, "run one process in the foreground",
        "example:\n  python -m reference_impl run interaction_worker --metrics-port 9101\n",
    )  # fmt: skip
    run.add_argument("role", choices=processes.ROLES)
    run.add_argument("--name", help="in logs and milestones (default: the role)")
    run.add_argument(
        "--metrics-port", type=int, default=0, metavar="PORT", help="of a worker's metrics (default: none)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code: 0 done, 1 it failed, 2 the input was wrong."""
    from reference_impl.database import DatabaseTooOld
    from reference_impl.graph import GraphError

    arguments = _parser().parse_args(argv)
    try:
        settings = Settings.from_environment(state_dir=arguments.state_dir)
        return int(arguments.function(arguments, settings))
    except (SettingsError, GraphError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except StartFailed as error:
        print(f"error: {error}", file=sys.stderr)
        for line in error.log_tail():
            print(f"  {line}", file=sys.stderr)
        return 1
    except (StateError, NotInstalled, DatabaseTooOld) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
