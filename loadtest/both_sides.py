"""The two runs of a comparison, as the commands anybody could type: `locust` on both, `python -m reference_impl` beneath.

Everything that is started here is stopped here, whatever happens.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadtest import recording
from loadtest.figures import Side

if TYPE_CHECKING:
    import pandas as pd

    from model.population import FollowGraph
    from model.scenario import Scenario

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
STOP_WITHIN_S = 20.0
DRAIN_WITHIN_S = 30.0
PROGRESS_EVERY_S = 5.0
SCALED = ("fanout_workers", "interaction_workers", "indexers")
"""Worker kinds of which the scenario says how many."""


class CompareError(Exception):
    """A side could not be run; the message is one line."""


def progress(text: str) -> None:
    """Say on stderr what is going on."""
    print(f"  {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Load:
    """One load for both sides: Locust's users, their spawn rate, the length in seconds, and further arguments."""

    scenario: str
    users: int
    spawn_rate_per_s: float
    duration_s: float
    seed: int
    arguments: tuple[str, ...]

    def command(self, target: Sequence[str], raw: Path) -> list[str]:
        """The command line of Locust."""
        return [
            sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", "--exit-code-on-error", "0",
            "-u", str(self.users), "-r", f"{self.spawn_rate_per_s:g}", "-t", f"{self.duration_s:g}s",
            "--scenario", self.scenario, "--seed", str(self.seed), "--raw", str(raw), *self.arguments, *target,
        ]  # fmt: skip


def environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Our packages can be imported wherever the command was typed; Locust's own variables do not change the load."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LOCUST_")}
    path = os.pathsep.join(filter(None, (str(LOCUSTFILE.parent.parent), os.environ.get("PYTHONPATH"))))
    return {**kept, "PYTHONPATH": path, **(extra or {})}


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process of ours in a session of its own, so that Ctrl-C reaches us alone and we stop it in order.

    Ctrl-C is held back while it starts: an interrupt between the process' start and our knowing of it would leave it running.
    """
    held: list[bool] = []
    before = signal.signal(signal.SIGINT, lambda *_: held.append(True))
    try:
        process = subprocess.Popen(command, start_new_session=True, **options)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        if held:
            raise KeyboardInterrupt
        yield process
    finally:
        _stop(process)


def _stop(process: subprocess.Popen[Any]) -> None:
    """Interrupt a process that we started, as Ctrl-C would; kill it if that does not help."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def run_locust(
    name: str,
    command: list[str],
    log: Path,
    expected_s: float | None,
    core: int | None,
    variables: dict[str, str] | None = None,
) -> None:
    """Run Locust to its end with progress on stderr. Raises `CompareError` with the log's last line if it fails."""
    with (
        log.open("w") as output,
        started(command, stdout=output, stderr=subprocess.STDOUT, env=environment(variables)) as process,
    ):
        progress(f"{name}: locust is running{f' for {expected_s:.0f} s' if expected_s else ' in virtual time'}")
        if core is not None:
            os.sched_setaffinity(process.pid, {core})
        began = time.monotonic()
        while True:
            try:
                process.wait(PROGRESS_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                ran_s = time.monotonic() - began
                progress(f"{name}: {ran_s:.0f} s{f' of {expected_s:.0f} s' if expected_s else ''}")
    if process.returncode != 0:
        last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] or ["(nothing)"]
        raise CompareError(f"{name}: locust ended with exit code {process.returncode}: {last[-1]} (see {log})")


class Reference:
    """The reference implementation, by its command line. `state` is what `up --json` printed."""

    def __init__(
        self, scenario: Scenario, state_dir: Path | None, cores: Sequence[int], without: Sequence[str] = ()
    ) -> None:
        self.scenario = scenario
        self.without = without
        self.options = ["--state-dir", str(state_dir)] if state_dir else []
        self.cores = cores
        self.state: dict[str, Any] = {}
        self.started = False

    def _command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "reference_impl", *arguments, *self.options]

    def call(self, *arguments: str, variables: dict[str, str] | None = None) -> str:
        """What `python -m reference_impl` with these arguments says on stdout. Raises `CompareError` if it fails."""
        command = self._command(*arguments)
        with started(command, stdout=subprocess.PIPE, env=environment(variables), text=True) as process:
            output: str = process.communicate()[0]
        if process.returncode != 0:
            raise CompareError(f"the reference: `{' '.join(arguments)}` failed with exit code {process.returncode}")
        return output

    def settings(self) -> dict[str, str]:
        """The scenario's settings as the reference's environment variables."""
        feed, topic = self.scenario.feed, self.scenario.topics["interactions"]
        notifications = self.scenario.notifications
        values = {
            "FEED_STRATEGY": feed.strategy,
            "FEED_THRESHOLD": feed.threshold,
            "FANOUT_BATCH_FOLLOWERS": feed.fanout_batch_followers,
            "INITIAL_POSTS_PER_USER": self.scenario.population.initial_posts_per_user,
            "TOPIC_PARTITIONS": topic.partitions,
            "POLL_MAX": topic.poll_max,
            "POLL_WAIT_S": topic.poll_wait_s,
            "PRODUCER_LINGER_S": topic.linger_s,
            "UPLOAD_PART_BYTES": self.scenario.uploads.part_bytes,
            "LIKE_WINDOW_S": notifications.like_window_s,
            "PUSH_QUOTA_PER_S": notifications.push_quota_per_s,
            "PUSH_QUOTA_BURST": round(notifications.push_quota_burst),
            "SEARCH_SHARDS": self.scenario.search.shards,
            "SEARCH_REFRESH_S": self.scenario.search.refresh_s,
            "SEARCH_CACHE_TTL_S": self.scenario.search.cache_ttl_s,
            "POOL_SIZE": self.scenario.stations["api_connections"].servers,
        }
        fetch = self.scenario.service_times["kafka_fetch"]  # a broker that halves its sleep finds a record after a sixth of the fetch
        if fetch.mean_s > 0:
            values["FETCH_WAIT_S"] = round(6 * fetch.mean_s, 3)
        return {f"FLASHCROWD_{name}": str(value) for name, value in values.items()}

    def up(self) -> None:
        """Start it, unless it is up already; then it is used as it is, and left up."""
        status = subprocess.run(
            self._command("status", "--json"), capture_output=True, env=environment(), text=True, check=False
        )
        self.started = not status.stdout.strip()  # a report means that something is up
        stations = self.scenario.stations
        workers = [
            f"--{kind.replace('_', '-')}={stations[kind].servers}" for kind in SCALED
        ]
        # A process is a member of both groups.
        members = max(stations[f"notification_workers_{tier}"].servers for tier in ("high", "low"))
        workers.append(f"--notification-workers={members}")
        cores = ["--cpus", ",".join(map(str, self.cores))] if self.cores else []
        if self.without:
            workers += ["--without", ",".join(self.without)]
        self.state = json.loads(self.call("up", "--json", *workers, *cores, variables=self.settings()))
        if not self.started:
            progress(
                f"the reference is up already at {self.state['api_url']}: its settings are its own, not the scenario's"
            )

    def seed(self, graph: FollowGraph, folder: Path) -> None:
        """Give it the model's users and follows, and forget the milestones of earlier runs."""
        import numpy as np

        arrays = folder / "population.npz"
        follower = np.repeat(np.arange(graph.users, dtype=np.int64), graph.followee_counts)
        np.savez(arrays, followee=graph.followee_ids.astype(np.int64), follower=follower, users=np.int64(graph.users))
        try:
            self.call("seed", "--json", "--arrays", str(arrays))
        finally:
            arrays.unlink()

    def drain(self) -> None:
        """Wait until the workers have caught up with what the load left behind."""
        deadline = time.monotonic() + DRAIN_WITHIN_S
        while time.monotonic() < deadline:
            status = json.loads(self.call("status", "--json"))
            lag = status["lag_records"]
            if lag is not None and not any((*lag.values(), *status["search_lag"].values())):
                return
            progress(f"reference: workers are catching up ({sum((lag or {}).values())} records)")
            time.sleep(1)
        progress(f"reference: workers have not caught up within {DRAIN_WITHIN_S:g} s")

    def lag(self) -> dict[str, int] | None:
        """Topic -> records that its group has yet to commit; None if the broker does not answer."""
        lag: dict[str, int] | None = json.loads(self.call("status", "--json"))["lag_records"]
        return lag

    def milestones(self, start_epoch_s: float) -> pd.DataFrame:
        """Milestones since `start_epoch_s`, in the columns of `recording.MILESTONE_COLUMNS`."""
        import pandas as pd

        frames = [pd.read_csv(path) for path in sorted(Path(self.state["state_dir"]).glob("milestones-*.csv"))]
        if not frames:
            return pd.DataFrame(columns=list(recording.MILESTONE_COLUMNS))
        rows = pd.concat(frames, ignore_index=True)
        rows = rows[rows.started_at >= start_epoch_s]
        columns = (rows["name"], rows.started_at - start_epoch_s, rows.reached_at - start_epoch_s, rows.weight)
        return pd.DataFrame(dict(zip(recording.MILESTONE_COLUMNS, columns, strict=True))).reset_index(drop=True)

    def down(self) -> None:
        """Stop it if we started it. Called on the way out too, so it does not raise."""
        if self.started:
            with suppress(CompareError):
                self.call("down", "--json")


def read_side(raw: Path, milestones: pd.DataFrame | None = None) -> Side:
    """What a run of Locust wrote. Raises `ValueError` or `OSError` if it is not there."""
    import pandas as pd

    if milestones is None:
        milestones = pd.read_csv(raw.with_suffix(".milestones.csv"))
    return Side(recording.read(raw), milestones, json.loads(raw.with_suffix(".json").read_text()))
