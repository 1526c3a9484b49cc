"""At the end of a run: digests of all requests and of Locust's statistics, and the stand-in's own truth, as JSON to FC_DIGEST."""

import hashlib
import json
import os
from pathlib import Path

from locust import events

from loadtest import plugin

raw: dict[str, list[tuple]] = {}


@events.request.add_listener
def note(request_type, name, response_time, response_length, exception=None, start_time=None, response=None, **_):
    row = (start_time, response_time, response_length, exception is None, getattr(response, "status_code", 0))  # a probe has no response
    raw.setdefault(name, []).append(row)


@events.quit.add_listener
def write(**_):
    target = os.environ.get("FC_DIGEST")
    if not target:
        return
    stats = {
        entry.name: [
            entry.num_requests,
            entry.num_failures,
            entry.total_response_time,
            sorted(entry.num_reqs_per_sec.items()),
        ]
        for entry in plugin.run.environment.stats.entries.values()
    }
    live = plugin.run.live
    figures = {
        "rows": hashlib.sha256(repr(sorted(raw.items())).encode()).hexdigest(),
        "stats": hashlib.sha256(json.dumps(stats, sort_keys=True).encode()).hexdigest(),
        "requests": sum(map(len, raw.values())),
        "locust_ms": {name: [row[1] for row in rows] for name, rows in raw.items()},
        "model_s": live.latencies if live else {},
        "asked": live.asked if live and live.frozen else [],
        "summary": plugin.summary(),
    }
    Path(target).write_text(json.dumps(figures))
