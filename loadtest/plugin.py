"""Import this in a locustfile, and `locust` gets a second target: `--target model`, in virtual time.

It adds the command line's arguments and, for the model, installs virtual time when the arguments are parsed, which is
before Locust makes an Environment, a Runner or any greenlet. Any locustfile will do, with `HttpUser`, `FastHttpUser` or
this package's `PlatformUser`.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
from locust import events
from locust.exception import StopTest

from loadtest import clients, private_names, recording, settings, tokens, user_streams, virtual_clock
from loadtest.gateway import Gateway
from loadtest.virtual_time import VirtualLoop, VirtualTimeError

logger = logging.getLogger("flashcrowd")
_wall_s, _cpu_s = time.perf_counter, time.process_time  # bound before any clock is replaced
EXIT_BAD_INPUT, EXIT_FATAL = 2, 3


def _load_scenario(options: argparse.Namespace) -> Any:
    from scenarios.loader import load_scenario

    overrides = [*options.overrides, *(["population.both_ways=true"] if options.both_ways else [])]
    return load_scenario(options.scenario, overrides, options.seed, options.graph)


def _read_graph(scenario: Any, seed: int) -> Any:
    """The graph of a scenario that names a file, which also says how many users there are; else None."""
    if not getattr(scenario.population, "graph", None):
        return None
    from model.platform import build_graph

    return build_graph(scenario.population, seed)


def _live_platform(scenario: Any, clock: Any, seed: int, graph: Any) -> Any:
    from model.live import LivePlatform

    return LivePlatform(scenario, clock, seed, graph)


def _clock(start_s: float) -> Any:
    from model.engines.choose import make_environment

    return make_environment(start_s=start_s)


class Run:
    """What this process' load test consists of; one, since Locust's command is one."""

    def __init__(self) -> None:
        self.environment: Any = None
        self.loop: VirtualLoop | None = None
        self.hub: Any = None
        self.facade: virtual_clock.VirtualTime | None = None
        self.scenario: Any = None
        self.graph: Any = None
        self.live: Any = None
        self.load: settings.LoadSettings | None = None
        self.recorder = recording.Recorder(user_streams.current_user)
        self.seed = 1
        self.tests = 0
        self.wall_start_s = self.wall_s = self.cpu_start_s = self.cpu_s = self.virtual_start_s = self.virtual_s = 0.0
        self.failed = False
        # Replaceable, so that tests can put a small model in the platform's place.
        self.load_scenario: Callable[[argparse.Namespace], Any] = _load_scenario
        self.live_platform: Callable[[Any, Any, int, Any], Any] = _live_platform

    @property
    def virtual(self) -> bool:
        """Whether the target is the model."""
        return self.loop is not None


run = Run()


# Command line ---------------------------------------------------------------------------------------------------------


@events.init_command_line_parser.add_listener
def _add_arguments(parser: Any) -> None:
    group = parser.add_argument_group("Flashcrowd", "The target, and what its users do")

    add = group.add_argument  # arguments of a group do not appear in the web interface's form
    add(
        "--target",
        choices=["reference", "model"],
        default="reference",
        help="HTTP to --host, or the model in virtual time",
    )
    add(
        "--scenario",
        default="baseline",
        metavar="NAME",
        help="scenario, by name or file: the model, and the users' mix",
    )
    add("--seed", type=int, default=1, help="seed of every random number")
    add(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the scenario",
    )
    add("--graph", default=None, metavar="FILE", help="follow graph: an edge list instead of the scenario's population")
    add("--both-ways", action="store_true", help="read the edges of --graph in both directions")
    add("--raw", default=None, metavar="FILE", help="write every request to FILE (.csv or .parquet)")
    for name, kind, text in settings.OPTIONS:
        add(f"--{name.replace('_', '-')}", type=kind, default=None, help=text)
    parse_args = parser.parse_args

    def parse_and_install(*args: Any, **options: Any) -> Any:
        parsed = parse_args(*args, **options)
        _check_arguments(parsed)
        if parsed.target == "model":
            _install_virtual_time()
        return parsed

    parser.parse_args = parse_and_install


def _refuse(message: str) -> None:
    print(f"flashcrowd: {message}", file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)


def _check_arguments(parsed: argparse.Namespace) -> None:
    if parsed.target == "model" and (parsed.master or parsed.worker or parsed.processes):
        _refuse(
            "--target model runs in one process and has one clock: leave out --master, --worker and --processes, "
            "and run replications with different --seed instead"
        )
    if parsed.raw and Path(parsed.raw).suffix not in recording.SUFFIXES:
        _refuse(f"--raw {parsed.raw}: the name must end in {' or '.join(recording.SUFFIXES)}")
    if parsed.both_ways and not parsed.graph:
        _refuse("--both-ways belongs to --graph")
    if parsed.graph and not Path(parsed.graph).is_file():
        _refuse(f"--graph {parsed.graph}: no such file")


# Virtual time ---------------------------------------------------------------------------------------------------------


def _install_virtual_time() -> None:
    if run.loop is not None:
        return
    missing = private_names.check_contract()
    if missing:
        _refuse("virtual time does not know these versions of its libraries: " + "; ".join(missing))
    real = gevent.get_hub().loop
    loop = run.loop = VirtualLoop(_clock(0.0), real)
    run.hub = private_names.use_hub(loop)
    import locust.dispatch
    import locust.html
    import locust.main
    import locust.shape
    import locust.stats
    import locust.web  # noqa: F401 - all that ask for the time must be loaded before it is replaced

    run.facade = virtual_clock.VirtualTime(lambda: loop.clock.now)
    virtual_clock.install(run.facade)
    private_names.prepare_runner()
    tokens.use_secret(tokens.MODEL_SECRET)
    private_names.use_transports(clients.ModelAdapter, clients.fast_urlopen)
    loop.on_fatal = _end_run
    signal.signal(signal.SIGINT, _on_interrupt)


def _on_interrupt(*_signal: Any) -> None:
    """Ctrl-C: let the loop hand it to Locust's main greenlet, as gevent's own hub does; a second one is immediate."""
    if run.loop is None or run.loop.interrupt is not None:
        raise KeyboardInterrupt
    run.loop.interrupt = lambda: run.hub.parent.throw(KeyboardInterrupt())


def _end_run(error: VirtualTimeError) -> None:
    logger.error("%s", error)
    if run.failed:
        run.hub.parent.throw(SystemExit(EXIT_FATAL))
        return
    run.failed = True
    if run.environment is not None:
        run.environment.process_exit_code = EXIT_FATAL
    run.hub.parent.throw(KeyboardInterrupt())  # Locust's orderly way out: reports and files are written


# A load test's life ---------------------------------------------------------------------------------------------------


@events.init.add_listener
def _init(environment: Any, runner: Any, web_ui: Any, **_others: Any) -> None:
    options = environment.parsed_options
    run.environment, run.seed = environment, options.seed
    user_streams.install(options.seed)
    try:
        run.scenario = run.load_scenario(options)
        run.graph = _read_graph(run.scenario, options.seed)
        run.load = settings.from_scenario(run.scenario, options, getattr(run.graph, "users", None))
    except (ValueError, OSError) as error:
        _refuse(str(error))
    environment.events.request.add_listener(run.recorder.on_request)
    if run.loop is None or run.facade is None:
        # gevent counts timers from the instant at which its loop last ran. Reading a scenario and a graph has taken a while
        # since, by which --run-time would be too short.
        gevent.get_hub().loop.update_now()
        return
    virtual_clock.install(run.facade)  # once more, for modules that were loaded meanwhile
    environment.host = environment.host or "http://model"
    run.loop.run_freely(web_ui is None)


@events.test_start.add_listener
def _start(environment: Any, **_others: Any) -> None:
    random.seed(run.seed)
    if run.loop is not None:
        if run.tests:  # the web interface starts a second test: a fresh model, at the same instant
            run.loop.clock = _clock(run.loop.clock.now)
        run.virtual_start_s = run.loop.clock.now
        run.live = run.live_platform(run.scenario, run.loop.clock, run.seed, run.graph)
        clients.use_gateway(Gateway(run.loop, run.hub, run.live, run.recorder.unfinished))
        run.loop.run_freely(True)
    run.tests += 1
    run.wall_start_s, run.cpu_start_s = _wall_s(), _cpu_s()
    run.recorder.start()


@events.test_stop.add_listener
def _stop(environment: Any, **_others: Any) -> None:
    run.wall_s, run.cpu_s = _wall_s() - run.wall_start_s, _cpu_s() - run.cpu_start_s
    if run.loop is not None:
        run.virtual_s = run.loop.clock.now - run.virtual_start_s
        if environment.web_ui is not None:
            run.loop.run_freely(False)
    print(f"flashcrowd: {describe(summary())}", file=sys.stderr)


@events.quit.add_listener
def _write(**_others: Any) -> None:
    """At the very end, when the users have been stopped: `quitting` comes before that and would miss unfinished requests."""
    options = run.environment.parsed_options if run.environment else None
    if options is None or not options.raw or not run.tests:
        return
    path = Path(options.raw)
    run.recorder.write(path)
    if hasattr(run.live, "results"):
        milestones = recording.milestones_of(run.live.results(), run.virtual_start_s, run.live.began_s)
        milestones.to_csv(path.with_suffix(".milestones.csv"), index=False)
    path.with_suffix(".json").write_text(json.dumps(summary(), indent=2) + "\n")
    print(f"flashcrowd: {len(run.recorder.rows)} rows written to {path}", file=sys.stderr)


def summary() -> dict[str, Any]:
    """The run in figures; times in seconds. `requests` are finished ones."""
    unfinished = run.recorder.count_unfinished()
    requests = len(run.recorder.rows) - unfinished
    return {
        "target": "model" if run.virtual else "reference",
        "seed": run.seed,
        "requests": requests,
        "unfinished": unfinished,
        "duration_s": run.virtual_s if run.virtual else run.wall_s,
        "wall_s": run.wall_s,
        "cpu_s": run.cpu_s,
        "requests_per_wall_s": requests / run.wall_s if run.wall_s > 0 else 0.0,
        "start_epoch_s": run.recorder.start_epoch_s,
        "failed": run.failed,
    }


def describe(figures: dict[str, Any]) -> str:
    """The summary as one line."""
    text = f"{figures['requests']:,} requests in {figures['duration_s']:.1f} s"
    if figures["target"] == "model":
        text += f" of virtual time ({figures['wall_s']:.1f} s, {figures['requests_per_wall_s']:,.0f} requests per wall second)"
    return f"{text}; {figures['unfinished']} still under way at the end, not in Locust's statistics"


def load() -> settings.LoadSettings:
    """The settings of the users. Raises `StopTest` when Locust has not been started with this plugin."""
    if run.load is None:
        raise StopTest("the load test has no settings: it must be started by the command locust")
    return run.load
