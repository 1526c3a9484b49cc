"""Every URL, port and knob of the reference, each overridable by an environment variable.

The field ``feed_strategy`` is set by ``FLASHCROWD_FEED_STRATEGY``, and so on for every field: the prefix
``FLASHCROWD_`` and the field's name in capitals.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENV_PREFIX = "FLASHCROWD_"
LEAST_SECRET_CHARACTERS = 32
"""RFC 7518, 3.2: a key as long as the hash that signs, or longer."""
STRATEGIES = ("naive", "indexed", "push", "hybrid")
KAFKA_STORAGES = ("memory", "store")
EDGES = ("auto", "nginx", "embedded")


class SettingsError(ValueError):
    """A setting is not what it should be; the message is one line for the person who set it."""


def default_state_dir() -> str:
    """The directory of the running reference's files: temporary, and one for each user of the machine."""
    return str(Path(tempfile.gettempdir()) / f"flashcrowd-{os.getuid()}" / "reference")


@dataclass(frozen=True, slots=True)
class Settings:
    """Configuration of one deployment of the reference. Times are in seconds."""

    state_dir: str = dataclasses.field(default_factory=default_state_dir)
    """Logs, milestones and ``state.json``."""
    instance_id: str = ""
    """Tells the processes of one ``up`` from those of another, whose ports may be asked by mistake; empty: ``up`` draws one."""
    database_url: str = ""
    """PostgreSQL 18 or newer; empty: start an embedded one."""
    kafka_bootstrap: str = ""
    """``host:port`` of a Kafka broker; empty: start an embedded one."""
    name_prefix: str = ""
    """Before the names of topics, consumer groups and search indexes: with one each, several deployments share a Kafka and a
    search engine. Database, bucket and Redis are each one's own."""
    kafka_storage: str = "memory"
    """Where the embedded broker keeps its log. ``memory``: fast, but with the broker dies what was accepted and not applied yet.
    ``store``: in the object store; nothing dies with the broker, and an acknowledgement takes several times as long.
    A record costs it the more CPU the longer its log is, of which it forgets nothing: 0.5 ms at first, 1.2 ms after 20,000
    batches in a partition. For hours under load take Apache Kafka, by ``kafka_bootstrap``."""
    redis_url: str = ""
    """Redis or Valkey; empty: start an embedded Valkey."""
    s3_url: str = ""
    """Endpoint of an S3 object store; empty: start an embedded SeaweedFS."""
    s3_region: str = "us-east-1"
    s3_bucket: str = "media"
    s3_access_key: str = ""
    """Empty, with a URL: boto3's own ways to find keys. The embedded store gets keys drawn at random."""
    s3_secret_key: str = dataclasses.field(default="", repr=False)
    store_events_secret: str = dataclasses.field(default="", repr=False)
    """Token of the store's notifications to ``POST /v1/store-events``; empty: ``up`` draws one."""
    token_secret: str = dataclasses.field(default="", repr=False)
    """Signs the users' tokens, 32 characters or more; empty: ``up`` draws one."""
    token_lifetime_s: float = 43_200.0
    """How long a session lasts, unless its user signs out before."""
    user_requests_per_s: float = 500.0
    """Requests of one user in the long run; far above what people do, so that load tests measure the platform."""
    user_requests_burst: int = 2_000
    session_tries_per_s: float = 0.2
    """Tries to log in under one name in the long run."""
    session_tries_burst: int = 10
    request_within_s: float = 10.0
    """How long a request may take to come, and a connection to begin one."""
    edge_url: str = ""
    """Of the edge through which media are viewed, say a CDN's; empty: start one."""
    edge: str = "auto"
    """Which one to start. ``nginx``, ``embedded`` (needs nothing, keeps its cache in memory), or ``auto``: nginx where it is installed."""
    elasticsearch_url: str = ""
    """Elasticsearch or OpenSearch; empty: start the embedded search engine."""
    api_host: str = "127.0.0.1"
    api_port: int = 0
    """0: a free port."""
    database_port: int = 0
    """Of the embedded PostgreSQL; 0: a free port."""
    fcm_url: str = ""
    """Firebase Cloud Messaging; empty: the local push gateway."""
    fcm_project: str = "flashcrowd"
    fcm_access_token: str = "local"
    apns_url: str = ""
    """Apple's push notification service; empty: the local push gateway."""
    apns_topic: str = "app.flashcrowd"
    apns_provider_token: str = "local"
    push_gateway_port: int = 0
    """Of the local push gateway; 0: a free port."""
    push_quota_per_s: float = 10_000.0
    """Of the local push gateway: messages per second. Source: FCM, 600,000 a minute and project."""
    push_quota_burst: int = 10_000
    kafka_port: int = 0
    """Of the embedded broker; 0: a free port."""
    redis_port: int = 0
    """Of the embedded Valkey; 0: a free port."""
    s3_port: int = 0
    """Of the embedded SeaweedFS; 0: a free port."""
    edge_port: int = 0
    """Of the edge; 0: a free port."""
    edge_gate_port: int = 0
    """Where nginx asks who may look; 0: a free port."""
    elasticsearch_port: int = 0
    """Of the embedded search engine; 0: a free port."""
    search_engine_dir: str = ""
    """Where the embedded search engine keeps its indexes; set by ``up``."""
    supervised: int = 1
    """1: what dies is started again by itself; 0: it stays dead until the next ``up``."""
    restart_longest_s: float = 10.0
    """Longest pause before a process that dies again and again is started once more."""
    feed_strategy: str = "hybrid"
    feed_threshold: int = 10_000
    """A followee with more followers than this is not precomputed: the posts are pulled when a feed is opened."""
    fanout_batch_followers: int = 1_000
    """Followers in one record of the topic ``fanout``."""
    poll_max: int = 500
    """Records that a worker takes at once at most."""
    poll_wait_s: float = 0.02
    """How long a worker waits for its batch to fill once it has a first record."""
    pool_size: int = 16
    """Database connections of the API."""
    worker_pool_size: int = 2
    """Database connections of each worker."""
    pool_timeout_s: float = 5.0
    """Longest wait for a database connection before the answer is 503."""
    producer_linger_s: float = 0.002
    """How long the Kafka producer waits for a batch to fill."""
    produce_timeout_s: float = 5.0
    """Longest wait for the log's acknowledgement before an interaction is answered with 503."""
    topic_partitions: int = 8
    session_timeout_s: float = 6.0
    """Of a consumer group's member. The embedded broker takes half of it to let a member join."""
    fetch_wait_s: float = 0.1
    """How long the broker may hold a fetch that finds nothing."""
    outbox_after_s: float = 5.0
    """A post that is not dispatched after this long is dispatched from its row."""
    like_window_s: float = 10.0
    """After a post's author was told of a like, further likes are gathered for so long: "and 20 others"."""
    notification_events_kept_s: float = 14 * 86_400.0
    """Longer than the log keeps its records: Kafka's default is 7 days."""
    push_concurrency: int = 32
    """Requests to the push providers that a notification worker has under way at once at most."""
    push_timeout_s: float = 4.0
    stream_ack_timeout_s: float = 5.0
    """A notification that its device has not acknowledged after so long is tried again, by push if it can be."""
    delivery_poll_s: float = 0.25
    """How often a notification worker looks for what has become due."""
    follow_backfill_posts: int = 20
    """Posts of a new followee that are put in the follower's precomputed feed."""
    upload_part_bytes: int = 8 * 2**20
    """Of every part of an upload but the last; larger where a file would have more than 100. S3 takes 5 MiB or more."""
    upload_pending_most: int = 100
    """Pending uploads of one user: each has room for 2 GB in the store."""
    upload_url_expires_s: float = 3600.0
    """How long the presigned URLs of an upload are good."""
    upload_reconcile_after_s: float = 10.0
    """A pending upload is looked at again after this long: its notification may be lost."""
    upload_abandoned_after_s: float = 86_400.0
    """An upload that is not complete after this long is refused, and its parts deleted."""
    edge_cache_bytes: int = 64 * 2**20
    """Of media in the edge's cache."""
    edge_ttl_s: float = 3600.0
    """How long the edge believes that a media file is still to be seen."""
    search_shards: int = 1
    """Of each index. The embedded engine has one always."""
    search_replicas: int = 0
    """Of each shard, in a cluster."""
    search_refresh_s: float = 1.0
    """How often the search engine lets queries see what was written."""
    search_timeout_s: float = 2.0
    """Longest wait for the search engine before the answer is 503."""
    search_cache_ttl_s: float = 5.0
    """How long an answer is served from the cache."""
    spans: int = 1
    """1: every process records its spans (spans.py); 0: none does."""
    initial_posts_per_user: int = 3
    """Rounds of posts that ``seed`` writes."""
    feed_seed_rows: int = 100
    """Precomputed feed rows per follower that ``seed`` writes at most."""

    def __post_init__(self) -> None:
        for name, choices in (("feed_strategy", STRATEGIES), ("kafka_storage", KAFKA_STORAGES), ("edge", EDGES)):
            if (value := getattr(self, name)) not in choices:
                raise SettingsError(
                    f"{ENV_PREFIX}{name.upper()} is {value!r}; it has to be one of {', '.join(choices)}"
                    + _did_you_mean(value, choices)
                )
        if not re.fullmatch(r"([a-z0-9][a-z0-9._-]{0,99})?", self.name_prefix):  # what both Kafka and Elasticsearch allow
            raise SettingsError(
                f"{ENV_PREFIX}NAME_PREFIX is {self.name_prefix!r}; it may have small letters, digits and . _ - (100 at most)"
            )
        if not re.fullmatch(r"(https?://[^/?#]+[^?#]*)?", self.elasticsearch_url):
            raise SettingsError(
                f"{ENV_PREFIX}ELASTICSEARCH_URL is {self.elasticsearch_url!r}; it has to be like http://127.0.0.1:9200"
            )
        if 0 < len(self.token_secret) < LEAST_SECRET_CHARACTERS:
            raise SettingsError(
                f"{ENV_PREFIX}TOKEN_SECRET has {len(self.token_secret)} characters; it has to have {LEAST_SECRET_CHARACTERS}"
            )
        may_be_zero = ("supervised", "spans", "_port", "_wait_s", "_linger_s", "_threshold", "_posts", "_replicas")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, str):
                continue
            least = 0 if field.name.endswith(may_be_zero) else 1e-3
            most = 65_535 if field.name.endswith("_port") else 10**9
            if not least <= value <= most:
                raise SettingsError(f"{ENV_PREFIX}{field.name.upper()} is {value}; it has to be from {least} to {most}")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """Settings from the environment's variables; ``overrides`` (those that are not None) go before them.

        Raises:
            SettingsError: a value has the wrong type or range, or a variable's name is nearly that of a setting.
        """
        environment = os.environ if environment is None else environment
        types = {ENV_PREFIX + f.name.upper(): (f.name, f.type) for f in dataclasses.fields(cls)}
        values: dict[str, Any] = {}
        for variable, text in environment.items():
            if not variable.startswith(ENV_PREFIX):
                continue
            if variable not in types:
                # The prefix is shared with the other packages: only a near miss is surely meant for us.
                if hint := _did_you_mean(variable, types, cutoff=0.9):
                    raise SettingsError(f"{variable} is no setting of the reference{hint}")
                continue
            name, kind = types[variable]
            try:
                values[name] = {"int": int, "float": float}.get(str(kind), str)(text)
            except ValueError:
                wanted = {"int": "a whole number", "float": "a number"}[str(kind)]
                raise SettingsError(f"{variable} is {text!r}; it has to be {wanted}") from None
        values.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**values)

    def to_environment(self) -> dict[str, str]:
        """The variables from which :meth:`from_environment` makes these settings again."""
        return {ENV_PREFIX + name.upper(): str(value) for name, value in dataclasses.asdict(self).items()}


def _did_you_mean(given: str, known: Mapping[str, Any] | tuple[str, ...], cutoff: float = 0.6) -> str:
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {near[0]}?" if near else ""
