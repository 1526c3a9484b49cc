"""Configuration: frozen dataclasses, the only form in which a scenario reaches the model. Seconds and bytes only.

Scenario files are read by `scenarios/loader.py`, which converts units; the defaults, each with its source, stand in
`scenarios/defaults.toml`. A scenario describes either the platform (population, load, feed, ...) or a network of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from model.distributions import Distribution
from model.hosts import Host, IdleFactors
from model.network import Discipline, Network, Station

Strategy = Literal["naive", "indexed", "push", "hybrid"]
STRATEGIES: tuple[Strategy, ...] = ("naive", "indexed", "push", "hybrid")
Tiers = Literal["topics", "shared", "queue"]
TIERS: tuple[Tiers, ...] = ("topics", "shared", "queue")


@dataclass(frozen=True)
class Run:
    """How long is simulated, what is cut off at the start, and the seed of every random number.

    `load_factor` multiplies every arrival rate of the scenario, events excepted.
    """

    duration_s: float
    warmup_s: float
    seed: int
    load_factor: float


@dataclass(frozen=True)
class Population:
    """Users and who follows whom: drawn from a heavy tail with explicit celebrities, or read from an edge list.

    An edge list can be grown to `copies` times as many users with the same degrees. Of a platform of several `cells` this is one:
    its share of users, celebrities' followers, rates and shared quotas. What either assumes: `scaling.py`.
    """

    users: int
    mean_followees: float
    follower_exponent: float
    celebrities: tuple[int, ...]
    initial_posts_per_user: int
    graph: str | None
    both_ways: bool
    copies: int = 1
    cells: int = 1


@dataclass(frozen=True)
class Load:
    """Arrival rates: feed opens per second, and everything else relative to them."""

    feed_opens_per_s: float
    publishes_per_feed_open: float
    likes_per_feed_open: float
    reads_per_feed_open: float
    searches_per_feed_open: float
    follows_per_feed_open: float
    uploads_per_feed_open: float
    views_per_feed_open: float
    comments_per_like: float
    unlikes_per_like: float
    post_popularity_exponent: float
    think_time_s: float
    subscribes_per_feed_open: float
    streams_per_feed_open: float


@dataclass(frozen=True)
class Clients:
    """How long a client waits for an answer (0: for ever), and how often it asks in all.

    Before the n-th further attempt it waits up to `backoff_s` * 2^(n-1), uniformly (full jitter). With `budget_ratio` all clients
    together make at most so many further attempts for each first one; see `network.RetryBudget`. What a client has given up is not
    gone on with.

    With `breaker_failure_ratio` each operation has a circuit breaker before it, which all clients share; see `network.Breaker`.
    """

    timeout_s: float = 0.0
    attempts: int = 1
    backoff_s: float = 0.1
    budget_ratio: float | None = None
    breaker_failure_ratio: float | None = None
    breaker_window: int = 100
    breaker_pause_s: float = 60.0


@dataclass(frozen=True)
class Feed:
    """How feeds come about. `threshold`: followees with more followers are pulled (`isPrecomputed` false) under `hybrid`.

    `inactive_ratio` of every author's followers open no feed during the run; with `push_to_inactive` false nothing is written
    for them, and their first page after a return is pulled (assumption: none returns during a run).

    Readers' pages are cached for `page_cache_ttl_s`, the newest posts of authors who are pulled for `author_cache_ttl_s` or until they
    post (None: no such cache); with `leases` one of those who miss an author's posts reads them, and the others wait for him.
    """

    strategy: Strategy
    threshold: int
    page_size: int
    fanout_batch_followers: int
    inactive_ratio: float = 0.0
    push_to_inactive: bool = True
    page_cache_ttl_s: float | None = None
    author_cache_ttl_s: float | None = None
    leases: bool = False


@dataclass(frozen=True)
class Uploads:
    """Sizes of uploaded files, in parts of `part_bytes`, and what goes wrong on their way.

    - A part fails with `part_loss_ratio`, and by `part_failures_per_gib` on its way; it is sent again alone with `resume`, else the whole
      file is. The store takes `store_rate_per_s` requests of clients that write (None: no limit) and refuses more.
    - A presigned URL is good for `url_lifetime_s` (None: for ever); the first part that comes later is refused, and its client asks for
      new URLs.
    - `abandoned_ratio` of uploads are given up, on average half-way; their parts are paid for until aborted, `abandoned_kept_s` later.
    - The store's notification is lost with `notification_loss_ratio`, and a sweep each `sweep_s` finds what was missed; it comes once
      more with `notification_again_ratio`.
    - `viewed_files` are looked at, by popularity. The edge keeps a file for `edge_ttl_s`, as does a shield between
      edge and store, if there is one, for `shield_ttl_s`, `edge_files` and `shield_files` at most (None: no limit); `browsers`: whether
      each user's own keeps what he has seen. With `single_flight` who misses at the edge waits for a fetch that is under way.
    """

    least_bytes: int
    most_bytes: int
    part_bytes: int
    part_loss_ratio: float
    edge_ttl_s: float
    viewed_files: int
    part_failures_per_gib: float = 0.0
    resume: bool = True
    notification_loss_ratio: float = 0.0
    sweep_s: float = 60.0
    shield_ttl_s: float | None = None
    browsers: bool = False
    notification_again_ratio: float = 0.0
    abandoned_ratio: float = 0.0
    abandoned_kept_s: float = 7 * 86_400.0
    store_rate_per_s: float | None = None
    url_lifetime_s: float | None = None
    edge_files: int | None = None
    shield_files: int | None = None
    single_flight: bool = False


@dataclass(frozen=True)
class Notifications:
    """Who is told how: the share of users who hold a stream; how long likes are gathered; the push providers' quota.

    `tiers`: comments come before likes by a topic for each ("topics"), by a queue with priorities ("queue"), or not ("shared").
    """

    online_ratio: float
    like_window_s: float
    push_quota_per_s: float
    push_quota_burst: float
    tiers: Tiers = "topics"


@dataclass(frozen=True)
class Search:
    """The index in `shards`, what it shows as of its last refresh; answers are cached for `cache_ttl_s`.

    A shard that has not answered within `hedge_after_s` is asked again at another copy, and the first answer counts (None: never).
    `distinct_queries` are asked, by Zipf's law with `query_popularity_exponent`. The cache keeps `cache_answers` at most (None: no
    limit); with `single_flight` who misses waits for an answer that is under way.
    """

    shards: int
    refresh_s: float
    cache_ttl_s: float
    distinct_queries: int
    query_popularity_exponent: float
    cache_answers: int | None = None
    single_flight: bool = False
    hedge_after_s: float | None = None


@dataclass(frozen=True)
class StationSettings:
    """Servers and queue of one station of the platform, and its servers as processes of a host; see `network.Station`."""

    servers: int
    discipline: Discipline
    queue_limit: int | None
    host: str | None = None
    preempts: bool = True
    wake_s: float = 0.0
    cold: IdleFactors = ()
    cpu_burst_s: float = 0.0
    gc_every: int = 0
    gc_pause_s: float = 0.0
    shed_above: int | None = None
    shed_keeps: int = 0
    ageing_s: float = 0.0
    growth_per_1k: float = 0.0

    def station(self, name: str) -> Station:
        """The station of this name."""
        return Station(name, **vars(self))


@dataclass(frozen=True)
class TopicSettings:
    """Producer, log and consumer settings of one topic of the platform; its members are a station's servers.

    Back-pressure: with `lag_limit` who publishes is refused while so many records wait; see `network.Topic`.
    """

    partitions: int
    linger_s: float
    batch_max: int
    poll_max: int
    poll_wait_s: float
    session_timeout_s: float
    lag_limit: int | None = None


@dataclass(frozen=True)
class Event:
    """A one-off: `user` (a number, or "celebrity:0" for who has most followers) does `operation` at `at_s`, `count` times."""

    at_s: float
    operation: str
    user: int | str
    count: int
    over_s: float


@dataclass(frozen=True)
class Workload:
    """What the rates of `Load` do not say: the course of the day, sessions, a trace in place of the rates.

    Every rate is multiplied by 1 + `daily_amplitude_ratio` * cos(2 pi (t - `daily_peak_s`) / `daily_period_s`). With
    `sessions` whoever opens his feed goes on to views, reads and likes, `dwell_s` (mean) after one another, in place of
    strangers who do so at other times. `trace`: a file of arrivals that replaces all rates (`workload.read_trace`).
    """

    daily_amplitude_ratio: float = 0.0
    daily_period_s: float = 86_400.0
    daily_peak_s: float = 0.0
    sessions: bool = False
    dwell_s: float = 8.0
    trace: str | None = None


@dataclass(frozen=True)
class Surge:
    """Arrival rates times `factor` from `at_s` on: risen linearly within `rise_s`, held for `hold_s`, then falling back
    exponentially with mean `decay_s` (at once, if 0). `operations`: which (all, if empty).
    """

    at_s: float
    factor: float
    rise_s: float
    hold_s: float
    decay_s: float
    operations: tuple[str, ...]


@dataclass(frozen=True)
class Cascade:
    """A post goes viral: `first` requests of `operation` on the newest post, each of which makes a Poisson number of others
    repeat it, `branching_ratio` on average, `delay_s` (mean, exponential) later: first / (1 - branching_ratio) in all.
    """

    at_s: float
    operation: str
    first: int
    branching_ratio: float
    delay_s: float


@dataclass(frozen=True)
class ClosedUsers:
    """`users` who each go through `operations` in turn, for ever: think, ask, wait for the answer."""

    users: int
    operations: tuple[str, ...]
    think_time: Distribution


FaultKind = Literal["consumer_crash", "capacity", "server_crash", "slow_server", "zone_loss", "cache_flush"]
FAULT_KINDS: tuple[FaultKind, ...] = (
    "consumer_crash", "capacity", "server_crash", "slow_server", "zone_loss", "cache_flush",
)  # fmt: skip


@dataclass(frozen=True)
class Fault:
    """What goes wrong at `at_s` and is over `back_after_s` later (never, if None).

    - `consumer_crash`: member `member` of the consumer group `target` dies with its batch.
    - `capacity`: station `target` has `servers` servers meanwhile; what they have begun they finish. With 0 it is an outage.
    - `server_crash`: the same, but what those that go have in hand is lost: these attempts fail as if rejected.
    - `slow_server`: the servers of station `target` work at `speed` times their normal speed meanwhile.
    - `cache_flush`: the cache `target` loses all its entries at that moment.
    - `zone_loss`: `share_ratio` of the servers of every one of `targets` are gone, rounded up, with what they have in hand; members
      of consumer groups crash.
    """

    kind: FaultKind
    at_s: float
    target: str
    member: int
    servers: int
    back_after_s: float | None
    targets: tuple[str, ...] = ()
    share_ratio: float = 0.0
    speed: float = 1.0


@dataclass(frozen=True)
class Autoscaling:
    """Station `target` is given as many servers as would bring its utilisation to `utilisation`, from `least` to `most`.

    Every `interval_s` the utilisation since the last look is compared; new servers serve `delay_s` after the decision, and after
    one there is none for `cooldown_s`.
    """

    target: str
    utilisation: float
    least: int
    most: int
    interval_s: float
    delay_s: float
    cooldown_s: float


@dataclass(frozen=True)
class OperationArrivals:
    """How a declared network's operation is asked for: a distribution of the gap between two arrivals, and its attributes."""

    interarrival: Distribution
    attributes: Mapping[str, Distribution] = field(default_factory=dict)


@dataclass(frozen=True)
class DeclaredNetwork:
    """A scenario's own network in place of the platform, with the arrivals of each operation."""

    network: Network
    arrivals: Mapping[str, OperationArrivals]


@dataclass(frozen=True)
class Scenario:
    """Everything a run needs. `slo` maps a figure's name ("feed.open.p99_s") to its target."""

    name: str
    question: str
    run: Run
    population: Population
    load: Load
    feed: Feed
    uploads: Uploads
    notifications: Notifications
    search: Search
    hosts: tuple[Host, ...]
    stations: Mapping[str, StationSettings]
    topics: Mapping[str, TopicSettings]
    service_times: Mapping[str, Distribution]
    costs_s: Mapping[str, float]
    events: tuple[Event, ...]
    faults: tuple[Fault, ...]
    slo: Mapping[str, float]
    declared: DeclaredNetwork | None = None
    workload: Workload = Workload()
    surges: tuple[Surge, ...] = ()
    cascades: tuple[Cascade, ...] = ()
    closed_users: tuple[ClosedUsers, ...] = ()
    autoscaling: tuple[Autoscaling, ...] = ()
    prices: Mapping[str, float] = field(default_factory=dict)
    clients: Clients = Clients()
    priorities: Mapping[str, int] = field(default_factory=dict)  # by operation; 0, the most urgent, for what is not named
