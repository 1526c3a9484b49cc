"""Uploads: begun at the API, sent to the object store part by part, published when the store says that the object is whole.

| operation | who serves it |
|---|---|
| `uploads.begin` | the API: a row, a multipart upload in the store, presigned URLs |
| `uploads.part` | the store; the client's link carries the bytes |
| `uploads.complete` | the store puts the parts together and answers. Its notification then makes the API look at the object: size, first
  bytes, set the upload to success (`uploads.ready`) and publish the post, which fans out like any other |
| `uploads.status` | the API |
| `uploads.view` | the edge; what it has not got it fetches from the store, having asked the API where that is. A browser's own
  cache can stand before it, a shield behind it; each holds what was used last, as far as it has room |

The requests of one upload do not know each other here: with arrivals by rate, `uploads.ready` counts from the completion's
arrival. In the load test, whose users do one upload after the other, it counts from the upload's beginning, as on the reference.
"""

from __future__ import annotations

import numpy as np

from model.distributions import constant, uniform
from model.network import (
    Acquire,
    Arm,
    Branch,
    Cache,
    Delay,
    Lookup,
    Mark,
    Milestone,
    Operation,
    Publish,
    Quota,
    Respond,
    Serve,
    Steps,
    Try,
)
from model.part import Floats, Ids, Part
from model.scenario import Scenario
from model.transfer import Link

READY = Milestone("uploads.ready")
ATTRIBUTES = ("media", "media_bytes", "seen_media")
EDGE_CACHE, SHIELD_CACHE, BROWSER_CACHE = CACHES = ("edge", "edge_shield", "browsers")
LEAST_BYTES, MOST_BYTES = 1_000_000, 2_000_000_000  # source: the platform's design, 1 MB to 2 GB
MEDIA_TYPES = (
    "image/gif", "image/heic", "image/jpeg", "image/png", "image/webp", "video/mp4", "video/quicktime", "video/webm",
)  # fmt: skip
_STORE_BURST_S = 0.1  # assumption: the store counts in tenths of a second
_MIB = 2**20


def declare(scenario: Scenario, committed: Steps = ()) -> Part:
    """The five operations, and the edge's cache. `committed`: what else the commit of an upload's post sets going."""
    uploads = scenario.uploads
    herd, shield_ttl_s = not uploads.single_flight, uploads.shield_ttl_s or uploads.edge_ttl_s
    limited = uploads.store_rate_per_s
    return Part(
        operations=(_begin(scenario), _part(scenario), _complete(scenario, committed), _status(scenario), _view(scenario)),
        milestones=(READY,),
        attributes=ATTRIBUTES,
        caches=(
            Cache(EDGE_CACHE, uploads.edge_ttl_s, uploads.edge_files, coalesce=uploads.single_flight, stampede=herd),
            Cache(SHIELD_CACHE, shield_ttl_s, uploads.shield_files, stampede=True),
            Cache(BROWSER_CACHE, uploads.edge_ttl_s),
        ),
        quotas=() if limited is None else (Quota("store_writes", limited, max(1.0, limited * _STORE_BURST_S)),),
    )


def part_lengths(size_bytes: int, each_bytes: int) -> list[int]:
    """The length of each part of a file in order, all but the last `each_bytes`."""
    whole, rest = divmod(size_bytes, each_bytes)
    return [each_bytes] * whole + ([rest] if rest else [])


def _database(scenario: Scenario, name: str) -> Steps:
    times = scenario.service_times
    return (Delay(times["network_database"]), Serve("database", times[name]))


def _store(scenario: Scenario, name: str, per_byte: bool = False) -> Steps:
    """A request to the store by one of ours; its service time grows with `media_bytes` if the bytes go through it."""
    times = scenario.service_times
    per = {"media_bytes": scenario.costs_s["object_store_mib"] / _MIB} if per_byte else {}
    return (Delay(times["network_store"]), Serve("object_store", times[name], per=per))


def _write(scenario: Scenario, serve: Serve) -> Steps:
    """A client's request that writes: beyond the store's rate it is refused with a 503, and the client comes again.

    Source of the attempts and their backoff: AWS SDKs, retry mode "standard": 3 attempts, full jitter over 1 s, 2 s, … 20 s.
    """
    if scenario.uploads.store_rate_per_s is None:
        return (serve,)
    limited = (Acquire("store_writes", wait=False), serve)
    return (Try(limited, attempts=3, backoff=constant(1.0), growth=2.0, jitter="full", backoff_max_s=20.0),)


def _link(scenario: Scenario) -> Delay:
    """The client's link carries the request's bytes: no queue of ours, each client has its own."""
    per = {"media_bytes": scenario.costs_s["client_link_mib"] / _MIB}
    return Delay(scenario.service_times["network_client"], per=per)


def _begin(scenario: Scenario) -> Operation:
    times = scenario.service_times
    return Operation(
        "uploads.begin",
        (
            Delay(times["network_client"]),
            Serve("api", times["api_upload_begin"]),
            *_database(scenario, "database_read_post"),
            *_store(scenario, "object_store_request"),
            *_database(scenario, "database_insert_post"),
            Respond(),
        ),
    )


def _part(scenario: Scenario) -> Operation:
    per = {"media_bytes": scenario.costs_s["object_store_mib"] / _MIB}
    store = Serve("object_store", scenario.service_times["object_store_request"], per=per)
    return Operation("uploads.part", (*_renewed(scenario), _link(scenario), *_write(scenario, store), Respond()))


def _renewed(scenario: Scenario) -> Steps:
    """A part whose URL has expired: the store refuses it by its head alone, and the client asks the API for new URLs."""
    ratio, times = expired_ratio(scenario), scenario.service_times
    refused = (Delay(times["network_client"]), Serve("object_store", times["object_store_request"]))
    asked = (Delay(times["network_client"]), Serve("api", times["api_read"]), *_database(scenario, "database_read_post"))
    return (Branch((Arm(ratio, (*refused, *asked)),)),) if ratio > 0 else ()


def _complete(scenario: Scenario, committed: Steps) -> Operation:
    times = scenario.service_times
    return Operation(
        "uploads.complete",
        (
            Delay(times["network_client"]),
            *_write(scenario, Serve("object_store", times["object_store_complete"])),
            Respond(),
            Branch((Arm(scenario.uploads.notification_loss_ratio, (Delay(uniform(0.0, scenario.uploads.sweep_s)),)),)),
            Delay(times["object_store_notification"]),
            Serve("api", times["api_upload_notified"]),
            *_database(scenario, "database_read_post"),
            *_store(scenario, "object_store_request"),  # its size
            *_store(scenario, "object_store_request"),  # its first bytes
            *_database(scenario, "database_insert_post"),
            *committed,
            Mark(READY.name),
            Publish("posts"),
            *_redelivered(scenario),
        ),
    )


def _redelivered(scenario: Scenario) -> Steps:
    """A notification that comes once more finds the upload done, and changes nothing."""
    ratio = scenario.uploads.notification_again_ratio
    look = (Serve("api", scenario.service_times["api_upload_notified"]), *_database(scenario, "database_read_post"))
    return (Branch((Arm(ratio, look),)),) if ratio > 0 else ()


def _status(scenario: Scenario) -> Operation:
    times = scenario.service_times
    steps = (Delay(times["network_client"]), Serve("api", times["api_read"]), *_database(scenario, "database_read_post"))
    return Operation("uploads.status", (*steps, Respond()))


def _view(scenario: Scenario) -> Operation:
    times, costs = scenario.service_times, scenario.costs_s
    fetch = (
        Delay(times["network_client"]),
        Serve("api", times["api_read"]),
        *_database(scenario, "database_read_post"),
        *_store(scenario, "object_store_request", per_byte=True),
    )
    uploads = scenario.uploads
    shielded = uploads.shield_ttl_s is not None or uploads.shield_files is not None
    from_store: Steps = (Lookup(SHIELD_CACHE, "media", miss=fetch),) if shielded else fetch
    from_edge: Steps = (
        _link(scenario),
        Serve("edge", times["edge_view"], per={"media_bytes": costs["edge_mib"] / _MIB}),
        Lookup(EDGE_CACHE, "media", miss=from_store),
    )
    steps: Steps = (Lookup(BROWSER_CACHE, "seen_media", miss=from_edge),) if uploads.browsers else from_edge
    return Operation("uploads.view", (*steps, Respond()))


def sizes_bytes(scenario: Scenario, uniforms: Floats) -> Floats:
    """A file's size for each uniform: evenly from the scenario's least to its most, whole bytes."""
    least, most = scenario.uploads.least_bytes, scenario.uploads.most_bytes
    return np.asarray(least + np.floor(uniforms * (most - least + 1)), dtype=float)


def parts_per_upload(scenario: Scenario) -> float:
    """How many parts are sent for an upload on average, those that are sent again included.

    With `resume` a failed part is sent again alone; without, all parts are until none has failed.
    """
    uploads = scenario.uploads
    link = Link(1.0, 0.0, uploads.part_loss_ratio, uploads.part_failures_per_gib / 2**30)
    sizes = sizes_bytes(scenario, (np.arange(1000) + 0.5) / 1000)
    parts = np.ceil(sizes / uploads.part_bytes)
    sure = 1 - np.array([link.part_failure_ratio(one) for one in sizes / parts])
    sent = parts / sure if uploads.resume else parts / sure**parts
    return float(np.mean(sent))


def expired_ratio(scenario: Scenario) -> float:
    """The share of parts that find their URL expired: one each time that a URL's life has passed since the upload began."""
    uploads = scenario.uploads
    if uploads.url_lifetime_s is None:
        return 0.0
    sizes = sizes_bytes(scenario, (np.arange(1000) + 0.5) / 1000)
    took_s = sizes * scenario.costs_s["client_link_mib"] / _MIB  # the parts of a file share its client's link
    parts = np.ceil(sizes / uploads.part_bytes)
    return float(np.minimum(np.floor(took_s / uploads.url_lifetime_s), parts - 1).sum() / parts.sum())


def part_attributes(scenario: Scenario, uniforms: Floats) -> dict[str, Floats]:
    """How long a part is: a file's size in equal shares, by its number of parts."""
    sizes = sizes_bytes(scenario, uniforms)
    return {"media_bytes": sizes / np.ceil(sizes / scenario.uploads.part_bytes)}


def view_attributes(scenario: Scenario, users: Ids, uniforms: Floats) -> dict[str, Floats]:
    """Which file is looked at, and how long it is: Zipf by rank, as posts are read; sizes are scattered over the ranks.

    `seen_media` is the file in the user's own browser.
    """
    weights = np.arange(1, scenario.uploads.viewed_files + 1, dtype=float) ** -scenario.load.post_popularity_exponent
    cumulative = np.cumsum(weights)
    media = np.minimum(np.searchsorted(cumulative, uniforms * cumulative[-1]), len(weights) - 1).astype(float)
    scattered = (media * 0.618_033_988_749_894_9) % 1.0  # the golden ratio: evenly, whatever the ranks
    seen = users.astype(float) * scenario.uploads.viewed_files + media
    return {"media": media, "media_bytes": sizes_bytes(scenario, scattered), "seen_media": seen}
