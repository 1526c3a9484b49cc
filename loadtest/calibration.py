"""From observed traces to service times and costs per item: what `calibrate` estimates, and from what.

**Structure from spans, level from counters.** Spans tell how a process's work divides among stages, what it depends on and how it is
distributed. They leave out what happens outside of them (the kernel, the protocol, a library's threads), and their wall time holds
whatever else ran on the core. The CPU time of the process, less what it takes when nothing is asked of it, is exact; it is shared
out among the stages. So the work of the calibration's runs is reproduced, and nothing is fitted to latencies.

- API: thread CPU of the operations that overlapped no other, plus a common part per request: what the process used beyond that.
- Database: time of statements that overlapped no other, less the caller's own CPU and the flush of the log at COMMIT; scaled so that all
  statements make up the backends' CPU. Per event and per row by least squares without negative costs.
- The API's producer: CPU of the threads beside the event loop, per record.
- Workers: CPU of the process per batch and event. Broker: per record and per fetch, and how that grows with its log; what it does for
  neither is background, as idle processes are (`broker_work`).
- Delays: what is left of the time of requests and statements that overlapped no other, once all CPU is subtracted.
- After idleness work costs more: `cold`, from runs in bursts and from how long a process had slept; then `closure` lets the API, the
  database and the workers use the CPU that was measured when the model is given the same arrivals.
- Garbage collections of the API that are longer than a request stop it for as long as they take (`collections_seen`).
- What other processes use meanwhile slows the host: its speed is one less their share of the core. What others on the same machine do
  makes it vary: `unsteady`; each run's CPU counts as on the average of them all.

Intervals are bootstrap intervals of 95 % over samples.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from loadtest.arguments import as_file
from loadtest.broker_work import BrokerWork, broker_work
from loadtest.closure import Level
from loadtest.cold import Cold, cold_of
from loadtest.collections_seen import Collections, take_out
from loadtest.estimates import LEAST_S, Estimate, estimate, line, middle
from loadtest.observed_run import (
    NETWORKED,
    PRODUCER,
    Observed,
    alone,
    cpu_of,
    observed,
    own_parts,
    own_time_s,
    pool_idleness,
)
from loadtest.otlp_spans import Span
from loadtest.unsteady import Unsteady, even_out, unsteady

if TYPE_CHECKING:
    from loadtest.traces import Trace

FEWEST_ALONE = 10
PULLED = "database_pulled"
"""The statement that reads the newest posts of authors who are pulled: a cost for each of them."""
OPERATIONS = {
    "feed.open": ("api_feed_open", "api_feed_statement", "api_feed_answer"),
    "feed.publish": ("api_publish", "", "api_write_answer"),
    "interactions.like": ("api_write", "", "api_write_answer"),
    "interactions.unlike": ("api_write", "", "api_write_answer"),
    "interactions.comment": ("api_write", "", "api_write_answer"),
    "interactions.read": ("api_read", "api_read_statement", "api_read_answer"),
}
"""Operation -> service times of the API before what it waits for, between two waits, and after. A room joins by its rows."""
APPENDS = ("feed.publish", "interactions.like", "interactions.unlike", "interactions.comment")
"""Operations that hand a record to the log."""
WRITES = ("database_insert_post", "database_fanout_batch", "database_followers")
"""Statements that commit by themselves."""
WORKERS = {
    "interaction_workers": ("interaction_worker", "worker_apply_batch"),
    "fanout_workers": ("fanout_worker", "worker_fanout_batch"),
    "fanout_dispatchers": ("fanout_dispatcher", "worker_dispatch"),
}
"""Consumer group -> role of its process, service time of its CPU per batch (a dispatcher's: per event)."""
TIMES_OF: dict[str, Callable[[str], bool]] = {
    "api": lambda name: name.startswith("api_"),
    "postgres": lambda name: name.startswith("database_") and name != "database_commit",
    PRODUCER: lambda name: name == "producer_record",
    "interaction_worker": lambda name: name in ("worker_apply_batch", "worker_tell", "worker_interaction", "worker_event_told"),
}
"""Role -> which times and costs are its CPU."""


@dataclass
class Calibration:
    """Service times and costs by the scenario's names, and figures about them."""

    times: dict[str, Estimate] = field(default_factory=dict)
    costs_s: dict[str, tuple[float, str]] = field(default_factory=dict)
    speed: float = 1.0
    unsteady: Unsteady = field(default_factory=Unsteady)
    cold: dict[str, Cold] = field(default_factory=dict)
    collections: Collections = field(default_factory=Collections)
    broker_growth_per_1k: float = 0.0
    broker_burst_s: float = 0.0
    idle_ratio: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    runs: list[Observed] = field(default_factory=list)

    def scale(self, role: str, factor: float) -> None:
        """Multiply all that is a role's CPU."""
        for name in self.times:
            if TIMES_OF[role](name):
                self.times[name] = self.times[name].scaled(factor)
        for name, (cost_s, says) in self.costs_s.items():
            if TIMES_OF[role](name):
                self.costs_s[name] = (cost_s * factor, says)

    def close(self, levels: dict[str, Level]) -> None:
        """Take over what the model needs in order to use the CPU that was measured."""
        for role, level in levels.items():
            if not np.isfinite(level.off_ratio):
                continue  # it was never seen at work
            self.scale(role, level.scale)
            if level.cold is None:
                self.cold.pop(role, None)
            else:
                self.cold[role] = level.cold
            self.notes.append(f"{role}: the model's CPU per request is off by {level.off_ratio:.1%} (root mean square of these runs)")
        for role, cold in self.cold.items():
            self.notes.append(
                f"{role}: work costs up to {1 + cold.extra:.2f} times as much after idleness, "
                f"half of that after {cold.half_s * 1000:.3g} ms"
            )


def calibrate(traces: Sequence[Trace], linger_s: float) -> Calibration:
    """Estimate everything from observed traces at moderate loads. Raises `ValueError` if there are too few requests.

    Traces whose arrivals came in bursts say what work costs while nothing sleeps, and what large batches cost.
    """
    every = [observed(trace) for trace in traces]
    made = Calibration(idle_ratio=pool_idleness(every), runs=every)
    runs, bursts = [run for run in every if not run.in_bursts], [run for run in every if run.in_bursts]
    if not runs:
        raise ValueError("all traces were observed in bursts; calibrate needs requests that overlap no other")
    varies = made.unsteady = unsteady(runs)
    even_out(every, varies.sensitivity)
    spans = [span for run in runs for span in run.spans]
    cpu_s = {role: sum(run.cpu_s.get(role, 0.0) for run in runs) for role in NETWORKED}
    made.collections = take_out(runs)
    cpu_s["api"] = max(cpu_s["api"] - made.collections.n * made.collections.pause_s, 0.0)
    roots = {name: [s for s in spans if s.name == name] for name in (*OPERATIONS, *WORKERS)}
    # In each run alone: what another run did does not overlap.
    isolated = {name: list[Span]() for name in OPERATIONS}
    undisturbed = {name: list[Span]() for name in (*OPERATIONS, *WORKERS)}
    for run in runs:
        for span in alone([s for s in run.spans if s.name in OPERATIONS]):
            isolated[span.name].append(span)
        for span in alone([s for s in run.spans if s.name in undisturbed]):
            undisturbed[span.name].append(span)
    lone = {id(span) for found in isolated.values() for span in found}
    requests = sum(len(roots[name]) for name in OPERATIONS)
    if min(len(isolated["feed.open"]), len(isolated["interactions.like"])) < FEWEST_ALONE:
        raise ValueError(
            f"too few requests that overlap no other ({FEWEST_ALONE} feed.open and likes are needed); "
            "observe longer, at less load, or while the machine does nothing else"
        )
    edges_s = [edge for run in runs for s in run.spans if id(s) in lone and (edge := _edges_s(run, s)) is not None]
    cold = cold_of(runs, bursts, tuple(OPERATIONS), _api(made, roots, isolated, edges_s, cpu_s["api"], requests))
    waited_s = _broker(made, broker_work(every), undisturbed, linger_s)
    appended = sum(len(roots[name]) for name in APPENDS) if cpu_s[PRODUCER] > 0 else 0  # counters of before know no threads
    thread_s = cpu_s[PRODUCER] / max(appended, 1)
    made.times["producer_record"] = Estimate(thread_s, appended, thread_s, thread_s, 0.3)
    _database(made, spans, runs, cpu_s["postgres"], roots["interaction_workers"])
    batches = {name: [s for run in every for s in run.spans if s.name == name] for name in WORKERS}
    _workers(made, batches, {role: sum(run.cpu_s.get(role, 0.0) for run in every) for role in NETWORKED})
    _waits(made, undisturbed, edges_s, waited_s)
    _cold(made, cold)
    background = float(np.mean([run.background_ratio for run in runs]))
    made.speed = 1.0 - background
    made.notes.append(
        "the host's speed varies by "
        + (", ".join(f"{cv:.1%} for {holds_s:g} s" for cv, holds_s in varies.factors) or "less than can be told")
        + f" on the average: what a fixed piece of work on its core shows, to the power of {varies.sensitivity:.2f}"
        + (f" (+- {1.96 * varies.error:.2f}), as CPU per request goes with it" if math.isfinite(varies.error) else "")
    )
    collections_s = [s.took_s for run in every for s in run.spans if s.name == "gc"]
    long = made.collections
    made.notes.append(
        f"{len(collections_s)} garbage collections took {sum(collections_s) / sum(run.window_s for run in every):.2%} of a core, "
        f"at most {max(collections_s, default=0.0) * 1000:.1f} ms each; the API's long ones, one of {long.pause_s * 1000:.1f} ms for "
        f"{long.requests_each:.0f} requests (n = {long.n}), are the model's, the others are in the times"
    )
    for run in every:
        rate, stalls = run.requests / run.window_s, run.trace.header.get("stalls")
        request_s = run.cpu_per_request_s * run.slow_factor
        made.notes.append(
            f"{rate:.0f} requests/s{' in bursts' * run.in_bursts}: {request_s * 1e6:.0f} us of CPU a request, where work takes "
            f"{run.slow_factor:.3f} times as long as in all of these, background {run.background_ratio:.1%}, "
            f"probe {run.probe_s * 1e6:.1f} us, late sends {run.trace.header['late_ratio']:.2%}"
            + (f", core away {stalls['ratio']:.2%}" if stalls else "")
        )
    return made


def _cold(made: Calibration, cold: dict[str, Cold]) -> None:
    """Let the times of the roles be those of work while nothing sleeps, and idleness what makes them longer."""
    made.cold = cold
    for role, one in cold.items():
        made.scale(role, 1 / one.mean)


def _edges_s(run: Observed, span: Span) -> tuple[float, float] | None:
    """From sending a request until its span begins, and from its span's end to the answer; None if it is not known whose span it is."""
    rows, number = run.trace.rows, int(span.trace[16:], 16) if len(span.trace) == 32 else -1
    if not 0 <= number < len(rows):
        return None
    start_s = span.start_s - run.trace.header["start_epoch_s"]
    before_s, after_s = start_s - rows.sent_s.iloc[number], rows.finished_s.iloc[number] - start_s - span.took_s
    return (before_s, after_s) if 0 <= before_s < 1 and 0 <= after_s < 1 else None


def _api(
    made: Calibration,
    roots: dict[str, list[Span]],
    isolated: dict[str, list[Span]],
    edges_s: Sequence[tuple[float, float]],
    cpu_s: float,
    requests: int,
) -> tuple[float, float]:
    """Per operation before, between and after what it waits for; what is beyond the handlers is divided among both edges of requests.

    Returns the shares of it all that come as a request does, and after waits.
    """
    own = {name: estimate(map(cpu_of, found), (span.stands_for for span in found)) for name, found in isolated.items() if found}
    handlers_s = sum(own[name].mean_s * len(roots[name]) for name in own)
    common_s = max(cpu_s - handlers_s, 0.0) / max(requests, 1)
    scale = min(1.0, cpu_s / max(handlers_s, 1e-9))
    middles = np.median(np.array(edges_s), axis=0) if edges_s else np.array([1.0, 0.0])
    accept_s = common_s * float(middles[0] / middles.sum())
    made.times["api_accept"] = Estimate(accept_s, len(edges_s), accept_s, accept_s, 0.3)
    by_time: dict[str, list[tuple[Estimate, float]]] = defaultdict(list)
    for name, (first, between, last) in OPERATIONS.items():
        if name not in own:
            continue
        shares = np.mean([own_parts(span) for span in isolated[name]], axis=0)
        if not between:
            shares = np.array([shares[0] + shares[1], 0.0, shares[2]])
        count = len(roots[name])
        for time, share, more_s in ((first, shares[0], 0.0), (between, shares[1], 0.0), (last, shares[2], common_s - accept_s)):
            if time:
                by_time[time].append((own[name].scaled(scale * float(share)).plus(more_s), count))
    for time, parts in by_time.items():
        total = sum(count for _, count in parts)
        mean_s = sum(part.mean_s * count for part, count in parts) / max(total, 1)
        chief = max(parts, key=lambda part: part[1])[0]  # operations that share a time have the commonest one's shape
        made.times[time] = chief.scaled(mean_s / chief.mean_s) if chief.mean_s > 0 else chief
    made.costs_s["api_feed_row"] = (0.0, "measured: in api_feed_open, pages have one size")
    waited = {time for _, *times in OPERATIONS.values() for time in times}
    waited_s = sum(part.mean_s * count for time in waited & set(by_time) for part, count in by_time[time])
    return accept_s * requests / max(cpu_s, 1e-9), waited_s / max(cpu_s, 1e-9)


def _broker(made: Calibration, found: BrokerWork, isolated: dict[str, list[Span]], linger_s: float) -> list[float]:
    """Its CPU; return what lone acknowledgements took beyond lingering and the caller's CPU."""
    made.times["broker_record"] = Estimate(found.record_s, found.records, found.record_s, found.record_s, 0.3)
    made.times["broker_fetch"] = Estimate(found.fetch_s, found.fetches, found.fetch_s, found.fetch_s, 0.3)
    made.broker_growth_per_1k, made.broker_burst_s = found.growth_per_1k, found.burst_s
    made.notes.append(
        f"the broker takes {found.record_s * 1e6:.0f} us a record, {found.fetch_s * 1e6:.0f} us a fetch and {found.growth_per_1k:.0%} more "
        f"after each thousand of them: {found.explained:.0%} of its CPU's variance between seconds; "
        f"it runs for {found.burst_s * 1e6:.0f} us at a time"
    )
    return [
        child.took_s - linger_s - cpu_of(child)
        for name in ("interactions.like", "interactions.comment", "feed.publish")
        for span in isolated[name]
        for child in span.children
        if child.attributes.get("flashcrowd.time") == "kafka_acknowledgement"
    ]


def _database(
    made: Calibration, spans: list[Span], runs: list[Observed], cpu_s: float, batches: list[Span]
) -> None:
    """Statements by stage, scaled to the backends' CPU; per event and per row."""
    lone: list[Span] = []
    for run in runs:
        lone += alone([s for s in run.spans if s.name == "database" and s.attributes.get("flashcrowd.time") != "pool_wait"])

    def held(span: Span) -> float:
        return max(span.took_s - cpu_of(span), LEAST_S)

    begins = [held(s) for s in lone if s.attributes.get("statement") == "BEGIN;"]
    commits = [held(s) for s in lone if s.attributes.get("statement") == "COMMIT;"]
    flush_s = max(float(np.median(commits) - np.median(begins)), 0.0) if commits and begins else 0.0
    flushes = [max(value - float(np.median(begins)), 0.0) for value in commits] if flush_s else []
    made.times["database_commit"] = estimate(flushes)

    def stage(span: Span) -> str:
        name = str(span.attributes.get("flashcrowd.time", ""))
        return "database_feed_page" if name == PULLED else name  # one service, of which the share is told apart below

    typical = {name: [s for s in lone if stage(s) == name] for name in {stage(s) for s in spans if s.name == "database"}}
    # Each operation's statements together are one service; a statement that never was alone counts as the others.
    per_root: dict[str, list[float]] = defaultdict(list)
    for span in spans:
        mine = [child for child in span.children if child.name == "database" and stage(child) not in ("pool_wait", "")]
        for name in {stage(child) for child in mine}:
            total_s = sum(held(child) for child in mine if stage(child) == name)
            per_root[name].append(max(total_s - (flush_s if name in WRITES else 0.0), LEAST_S))
    weights = {name: float(np.median(values)) for name, values in per_root.items() if values}
    events = np.array([float(s.attributes.get("events", 1)) for s in batches])
    applied = np.array(
        [sum(held(c) for c in s.children if stage(c) == "database_apply_batch" or c.attributes.get("statement")) - flush_s for s in batches]
    )
    base_s, event_s = line(np.maximum(applied, LEAST_S), events)
    rows = [s for s in spans if s.name == "fanout_workers" and float(s.attributes.get("weight", 0)) > 0]
    wrote = np.array([sum(held(c) for c in s.children if stage(c) == "database_fanout_batch") - flush_s for s in rows])
    batch_s, row_s = line(np.maximum(wrote, LEAST_S), np.array([float(s.attributes["weight"]) for s in rows]))
    demanded_s = sum(weights[n] * len(v) for n, v in per_root.items() if n not in ("database_apply_batch", "database_fanout_batch"))
    demanded_s += base_s * len(batches) + event_s * events.sum() + batch_s * len(rows)
    demanded_s += row_s * sum(float(s.attributes["weight"]) for s in rows)
    scale = cpu_s / demanded_s if demanded_s > 0 else 0.0
    made.notes.append(f"the backends' CPU is {scale:.2f} of their statements' time (medians, less the callers' CPU and flushes)")
    for name, values in per_root.items():
        found = typical.get(name, [])
        shape = estimate(map(held, found), (span.stands_for for span in found)) if found else estimate(values)
        level_s = weights[name] * scale
        made.times[name] = (shape.scaled(level_s / shape.mean_s) if shape.mean_s > 0 else shape)
    for name, level_s, found in (("database_apply_batch", base_s, batches), ("database_fanout_batch", batch_s, rows)):
        made.times[name] = Estimate(level_s * scale, len(found), level_s * scale, level_s * scale, 0.3)
    made.costs_s["database_interaction"] = (event_s * scale, f"measured, n = {len(batches):,} batches")
    made.costs_s["database_hot_post"] = (0.0, "measured: in database_interaction, nearly every event is of another post")
    made.costs_s["database_fanout_row"] = (row_s * scale, f"measured, n = {len(rows):,} batches")
    made.costs_s["database_feed_row"] = (0.0, "measured: in database_feed_page")
    names = ("database_feed_page", PULLED)
    _pulled(made, runs, {of: [held(s) for s in spans if s.attributes.get("flashcrowd.time") == of] for of in names})


def _pulled(made: Calibration, runs: Sequence[Observed], held_s: dict[str, list[float]]) -> None:
    """Of a page's time, what authors cost who are pulled; by the medians of the two statements."""
    reads, authors = len(held_s[PULLED]), pulled_authors(runs)
    if not reads or not authors:
        made.costs_s[PULLED] = (0.0, f"measured, n = {reads:,} reads of {authors:,} authors")
        return
    pages_s, pulled_s = (float(np.median(values)) for values in held_s.values())
    share, page = pulled_s / (pages_s + pulled_s), made.times["database_feed_page"]
    made.costs_s[PULLED] = (share * page.mean_s * reads / authors, f"measured, n = {reads:,} reads of {authors:,} authors")
    made.times["database_feed_page"] = page.scaled(1 - share)


def pulled_authors(runs: Sequence[Observed]) -> int:
    """How many authors, with repetition, those whose feeds were opened in the runs' windows pull."""
    from model import platform
    from scenarios.loader import load_scenario

    count = 0
    for run in runs:
        header = run.trace.header
        with as_file(header["document"], header["scenario"]) as path:
            scenario = load_scenario(path)
        graph = platform.build_graph(scenario.population, header["graph_seed"])
        rows = run.trace.rows
        users = rows.user[(rows.operation == "feed.open") & (rows.intended_s >= header["warmup_s"])].to_numpy(np.int64)
        found = platform.request_attributes(scenario, graph, "feed.open", users, np.full(len(users), 0.5), np.zeros(len(users)))
        count += int(found["pulled"].sum())
    return count


def _workers(made: Calibration, roots: dict[str, list[Span]], cpu_s: dict[str, float]) -> None:
    """CPU of the workers per batch and per event, and what of it comes after the commit."""
    for group, (role, time) in WORKERS.items():
        batches = roots[group]
        count = len(batches)
        if not count:
            made.times[time] = Estimate(0.0, 0, 0.0, 0.0)
            continue
        events = np.array([float(s.attributes.get("events", 1)) for s in batches])
        if group == "fanout_dispatchers":
            each_s = cpu_s[role] / events.sum()
            made.times[time] = Estimate(each_s, count, each_s, each_s, 0.3)
            continue
        thread_s = np.array([cpu_of(s) for s in batches])
        base_s, event_s = line(thread_s, events) if group == "interaction_workers" else (float(thread_s.mean()), 0.0)
        scale = cpu_s[role] / max(base_s * count + event_s * events.sum(), 1e-9)
        after = 0.0
        if group == "interaction_workers":
            shares = []
            for span in batches:
                commits = [c.end_s for c in span.children if c.attributes.get("statement") == "COMMIT;"]
                if commits:
                    before_s, after_s = own_time_s(span, span.start_s, commits[0]), own_time_s(span, commits[0], span.end_s)
                    before_s += sum(cpu_of(c) for c in span.children if c.end_s <= commits[0])
                    after_s += sum(cpu_of(c) for c in span.children if c.end_s > commits[0])
                    shares.append(after_s / max(before_s + after_s, LEAST_S))
            after = float(np.clip(np.median(shares), 0, 1)) if shares else 0.0
            tell_s = after * base_s * scale
            made.times["worker_tell"] = Estimate(tell_s, count, tell_s, tell_s, 0.3)
            made.costs_s["worker_interaction"] = ((1 - after) * event_s * scale, f"measured, n = {count:,} batches")
            made.costs_s["worker_event_told"] = (after * event_s * scale, f"measured, n = {count:,} batches")
        level_s = (1 - after) * base_s * scale
        made.times[time] = Estimate(level_s, count, level_s, level_s, 0.3)


def _waits(
    made: Calibration, isolated: dict[str, list[Span]], edges_s: Sequence[tuple[float, float]], waited_s: Sequence[float]
) -> None:
    """Delays: what is left once CPU is subtracted, of operations and batches while no other one ran in any process."""
    append_s = made.times["broker_record"].mean_s + made.times["producer_record"].mean_s
    made.times["kafka_acknowledgement"] = estimate(max(value - append_s, 0.0) for value in waited_s)
    made.times["kafka_commit"] = estimate(
        child.took_s for group in WORKERS for span in isolated[group] for child in span.children
        if child.attributes.get("flashcrowd.time") == "kafka_commit"
    )  # fmt: skip
    beyond_s = made.times["api_accept"].mean_s
    made.times["network_client"] = middle([max(before_s - beyond_s, 0.0) for before_s, _ in edges_s])
    waits = [
        child.took_s - cpu_of(child)
        for span in isolated["interactions.read"]
        for child in span.children
        if child.attributes.get("flashcrowd.time") == "database_read_post"
    ]
    per_read = made.times.get("database_read_post", Estimate(0, 0, 0, 0)).mean_s
    typical = float(np.median(waits)) * 2 if waits else 0.0  # two statements
    made.times["network_database"] = middle([max(typical - per_read, 0.0)])
