"""One observed run of the reference: a schedule of arrivals sent by the open generator, with spans and counters.

Used by `observe` and `validate`. The system has the first core that there is, the generator and the sampler of counters the second.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from loadtest.both_sides import CompareError, Reference, environment, progress, started
from loadtest.open_generator import MOST_CONNECTIONS, Plan
from loadtest.recording import MILESTONE_COLUMNS, OUTCOME_OF_STATUS, UNFINISHED
from loadtest.stalls import Stalls, stalls_of
from loadtest.tokens import sign
from loadtest.traces import COLUMNS, FORMAT, Trace, machine

if TYPE_CHECKING:
    import pandas as pd

    from model.arrivals import Schedule
    from model.population import FollowGraph
    from model.scenario import Scenario

REQUESTS: dict[str, tuple[str, str, str]] = {
    "feed.open": ("GET", "/v1/feed?limit={limit}", ""),
    "feed.publish": ("POST", "/v1/posts", '{{"title":"post {number}","content":"Published under observation."}}'),
    "interactions.like": ("PUT", "/v1/posts/{post}/like", ""),
    "interactions.unlike": ("DELETE", "/v1/posts/{post}/like", ""),
    "interactions.comment": ("POST", "/v1/posts/{post}/comments", '{{"text":"comment {number}"}}'),
    "interactions.read": ("GET", "/v1/posts/{post}", ""),
}
"""Operation -> method, path and body as the open generator sends them. A room joins by its rows."""
UNUSED_ROLES = ("notification_worker", "cdc", "indexer", "upload_reconciler", "edge")
"""What the operations above do not need; it would only take CPU."""
TOPICS = ("posts", "fanout", "interactions")
LATE_S = 0.002
"""A send is late if it goes out this long after its intended instant."""
GRACE_S, DRAIN_S, IDLE_S = 10.0, 30.0, 3.0
WARMUP_S, WARMUP_PER_S = 6.0, 200.0
"""Whatever the observed rate is: a fresh reference's first thousand requests cost up to a fifth more. It also begins with a burst."""


@dataclass(frozen=True)
class Cores:
    """Which core the system has, and which the generator; both None where they cannot be kept apart."""

    system: int | None
    generator: int | None

    @classmethod
    def here(cls) -> Cores:
        """The first two cores that this process may use."""
        found = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return cls(found[0], found[1]) if len(found) >= 2 else cls(None, None)


def check(scenario: Scenario) -> None:
    """Raise `ValueError` for a scenario whose requests cannot all be sent."""
    from model.platform import arrival_rates

    if scenario.declared is not None:
        raise ValueError(f"{scenario.name}: declares a network of its own; the reference is the platform")
    for operation, rate_per_s in arrival_rates(scenario).items():
        if rate_per_s > 0 and operation not in REQUESTS:
            raise ValueError(
                f"{scenario.name}: {operation} is not sent by the open generator; "
                f"begin with the scenario fidelity, or set its rate in [load] to 0"
            )


def messages(
    scenario: Scenario, names: Sequence[str], schedule: Schedule, posts: np.ndarray, run: str, secret: str
) -> list[bytes]:
    """The HTTP requests of a schedule; `run` makes idempotency keys and traces its own, `secret` signs the users' tokens."""
    tokens = {user: sign(user, secret) for user in np.unique(schedule.user).tolist()}
    made = []
    for number, (operation, user, post) in enumerate(
        zip(schedule.operation.tolist(), schedule.user.tolist(), posts.astype(int).tolist(), strict=True)
    ):
        method, path, body = REQUESTS[names[operation]]
        path = path.format(post=post, limit=scenario.feed.page_size)
        body = body.format(number=f"{run}-{number}")
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: reference\r\nAuthorization: Bearer {tokens[user]}\r\n"
            f"Idempotency-Key: {run}-{number}\r\ntraceparent: 00-{run:0>16}{number:016x}-{number + 1:016x}-01\r\n"
        )
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        made.append(f"{head}\r\n{body}".encode())
    return made


def _allow_files(count: int) -> None:
    """Let this process's children, the generator and the reference, open so many files where the machine allows them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def in_bursts(at_s: np.ndarray, burst_s: float) -> np.ndarray:
    """Arrivals held back until the end of their `burst_s` seconds; as they are where that is 0."""
    return np.ceil(at_s / burst_s) * burst_s if burst_s > 0 else at_s


class Bench:
    """A seeded reference that is up, and observed runs of it. A context manager: what it started it stops."""

    def __init__(self, scenario: Scenario, seed: int, state_dir: Path | None, folder: Path, cores: Cores) -> None:
        self.scenario, self.seed, self.folder, self.cores = scenario, seed, folder, cores
        system = [] if cores.system is None else [cores.system]
        self.reference = Reference(scenario, state_dir, system, without=UNUSED_ROLES)
        self.graph: FollowGraph | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        from model.platform import build_graph

        self._stack.callback(self.reference.down)
        self.folder.mkdir(parents=True, exist_ok=True)
        _allow_files(2 * MOST_CONNECTIONS)
        try:
            self.reference.up()
            self.graph = build_graph(self.scenario.population, self.seed)
            self.reference.seed(self.graph, self.folder)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def observe(
        self,
        scenario: Scenario,
        seed: int,
        folder: Path,
        *,
        document: str = "",
        warm: bool = True,
        label: str = "",
        burst_s: float = 0.0,
    ) -> Trace:
        """Send the scenario's arrivals for its duration; return the trace, which is also written to `folder`.

        With `burst_s`, all arrivals of so many seconds come at once at their end: the mean rate is the same, but most requests
        find processes that have not slept, as under the highest load. Raises `CompareError` if the generator fails.
        """
        from model.arrivals import schedule
        from model.platform import build_network

        assert self.graph is not None
        folder.mkdir(parents=True, exist_ok=True)
        network = build_network(scenario)
        plan = schedule(scenario, network, self.graph, seed)
        posts = plan.attributes[:, network.attributes.index("post")]
        if warm:
            self._warm_up(scenario, seed)
        names = network.names("operations")
        at_s = in_bursts(np.cumsum(plan.gap_s), burst_s)
        run = f"{time.time_ns() & 0xFFFFFFFFFFFF:x}"
        with self._stalls(folder / "stalls.jsonl") as meter, self._counters(folder / "counters.jsonl", meter.pid):
            time.sleep(IDLE_S)  # what the system does when nothing is asked of it
            sent = self._generate(at_s, messages(scenario, names, plan, posts, run, self._secret()), folder, label)
            self._drain()
        rows = _rows([names[i] for i in plan.operation], plan.user, posts, at_s, sent)
        start_epoch_s = float(sent["start_epoch_s"])
        self._spans(start_epoch_s - IDLE_S, folder / "spans.otlp.jsonl")
        milestones = _since_answer(self.reference.milestones(start_epoch_s), folder / "spans.otlp.jsonl", start_epoch_s)
        header = {
            "format": FORMAT,
            "made_by": "observe",
            "scenario": scenario.name,
            "document": document,
            "graph_seed": self.seed,
            "seed": seed,
            "duration_s": scenario.run.duration_s,
            "warmup_s": scenario.run.warmup_s,
            "load_factor": scenario.run.load_factor,
            "burst_s": burst_s,
            "start_epoch_s": start_epoch_s,
            "late_bound_s": LATE_S,
            "late_ratio": float(np.mean(~(rows.sent_s - rows.intended_s <= LATE_S))) if len(rows) else 0.0,
            "late_p99_s": float(np.nanquantile(rows.sent_s - rows.intended_s, 0.99)) if len(rows) else 0.0,
            "stalls": _stalled(folder / "stalls.jsonl", start_epoch_s + scenario.run.warmup_s, start_epoch_s + scenario.run.duration_s),
            "cores": {"system": self.cores.system, "generator": self.cores.generator},
            "reference": {
                key: value
                for key, value in self.reference.state["settings"].items()
                if not key.endswith(("_url", "_key", "_secret", "_token", "_dir"))
            },
            "machine": machine(),
        }
        trace = Trace(header, rows, milestones, folder)
        trace.write(folder)
        return trace

    def _secret(self) -> str:
        """By what the reference signs tokens: in its state file, for our eyes only."""
        state = json.loads((Path(self.reference.state["state_dir"]) / "state.json").read_text())
        return str(state["settings"]["token_secret"])

    def _warm_up(self, scenario: Scenario, seed: int) -> None:
        """Let every connection prepare its statements and caches fill: a burst, then some seconds at a moderate rate."""
        from loadtest.observe import at_rate
        from model.arrivals import schedule
        from model.platform import build_network

        assert self.graph is not None
        calm = at_rate(scenario, WARMUP_PER_S, WARMUP_S)
        network = build_network(calm)
        plan = schedule(calm, network, self.graph, seed + 1_000_003)
        posts = plan.attributes[:, network.attributes.index("post")]
        at_s = np.cumsum(plan.gap_s)
        at_s[: min(len(at_s) // 4, 48)] = 0.0
        made = messages(calm, network.names("operations"), plan, posts, f"{time.time_ns() & 0xFFFFFFFFFFFF:x}", self._secret())
        self._generate(at_s, made, self.folder, "")
        self._drain()

    def _generate(self, at_s: np.ndarray, made: list[bytes], folder: Path, label: str) -> dict[str, np.ndarray]:
        url = urlsplit(self.reference.state["api_url"])
        assert url.hostname and url.port  # up prints both
        plan, out = folder / "plan.npz", folder / "sent.npz"
        Plan(url.hostname, url.port, at_s, made, GRACE_S).write(plan)
        command = [sys.executable, "-m", "loadtest.open_generator", str(plan), str(out)]
        with started(command, env=environment(), stderr=subprocess.PIPE, text=True) as process:
            if self.cores.generator is not None:
                os.sched_setaffinity(process.pid, {self.cores.generator})
            if label:
                progress(f"{label}: {len(made):,} requests in {at_s[-1] if len(at_s) else 0:.0f} s")
            _, errors = process.communicate(timeout=(at_s[-1] if len(at_s) else 0) + GRACE_S + 60)
        if process.returncode != 0:
            raise CompareError(f"the generator failed: {(errors.strip().splitlines() or ['(nothing)'])[-1]}")
        with np.load(out) as file:
            sent = dict(file)
        for path in (plan, out):
            path.unlink()
        return sent

    def _counters(self, out: Path, meter: int) -> Any:
        processes = [f"meter={meter}", *(f"{child['role']}={child['pid']}" for child in self.reference.state["processes"])]
        merged: dict[str, list[str]] = {}
        for role, _, pid in (text.partition("=") for text in processes):
            merged.setdefault(role, []).append(pid)
        own = self.cores.generator if self.cores.generator is not None else 0
        core = self.cores.system if self.cores.system is not None else own
        command = [
            sys.executable, "-m", "loadtest.counters", str(out), str(core), str(own),
            *(f"{role}={','.join(pids)}" for role, pids in merged.items()),
        ]  # fmt: skip
        return started(command, env=environment())

    def _stalls(self, out: Path) -> Any:
        core = self.cores.system if self.cores.system is not None else 0
        return started([sys.executable, "-m", "loadtest.stalls", str(out), str(core)], env=environment())

    def _drain(self) -> None:
        """Wait until the rooms' workers have caught up."""
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            lag = self.reference.lag()
            if lag is not None and not any(lag[topic] for topic in TOPICS):
                return
            time.sleep(0.3)
        progress(f"the workers have not caught up within {DRAIN_S:g} s")

    def _spans(self, since_s: float, target: Path) -> None:
        time.sleep(0.3)  # the last ones are written every quarter of a second
        self.reference.call("spans", "--json", "--out", str(target), "--since", f"{since_s:.6f}")


def _stalled(file: Path, from_s: float, to_s: float) -> Stalls | None:
    return stalls_of([json.loads(line) for line in file.read_text().splitlines()], from_s, to_s)


def _rows(
    operations: list[str], users: np.ndarray, posts: np.ndarray, at_s: np.ndarray, sent: dict[str, np.ndarray]
) -> pd.DataFrame:
    import pandas as pd

    status = sent["status"]
    outcome = np.where(np.isnan(sent["finished_s"]), UNFINISHED, "failed").astype(object)
    outcome[(status >= 200) & (status < 300)] = "ok"
    for code, name in OUTCOME_OF_STATUS.items():
        outcome[status == code] = name
    columns = (
        operations, users, at_s, sent["sent_s"], sent["finished_s"], sent["finished_s"] - at_s, outcome, status,
        posts.astype(np.int64),
    )  # fmt: skip
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))


def _since_answer(milestones: pd.DataFrame, spans: Path, start_epoch_s: float) -> pd.DataFrame:
    """Let milestones count from the answer, as the model does: the reference's own clock starts as it hands a record to the log.

    That instant is an attribute of the operation's span, whose end is the answer. A milestone that is reached before its answer
    counts from the record, as it does in the model.
    """
    from loadtest.otlp_spans import read_spans

    answered = {
        round(span.attributes["accepted_at"], 5): span.end_s
        for span in read_spans(spans)
        if "accepted_at" in span.attributes
    }
    started_s, reached_s = MILESTONE_COLUMNS[1:3]
    counted = milestones.copy()
    ends_s = [answered.get(round(began_s + start_epoch_s, 5)) for began_s in milestones[started_s]]
    for place, (end_s, done_s) in enumerate(zip(ends_s, milestones[reached_s], strict=True)):
        if end_s is not None and end_s - start_epoch_s <= done_s:
            counted.loc[place, started_s] = end_s - start_epoch_s
    return counted


