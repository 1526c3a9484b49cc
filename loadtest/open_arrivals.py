"""Open arrivals: requests go out at intended instants, whether or not earlier ones have been answered.

Latency counts from the intended instant, so that neither a slow target nor a late generator can hide behind itself
(coordinated omission). The schedule and what is asked for come from one random stream: the same on both targets.
"""

from __future__ import annotations

import time
from typing import Any

import gevent
from gevent.pool import Pool

from loadtest import feed, graph, interactions, notifications, plugin, private_names, search, uploads
from loadtest.closed_user import MEAN_POST_BYTES
from loadtest.platform_user import PlatformUser

STREAM_HELD_S = 10.0
"""How long a stream of an arrival is held: enough to hear something, and few at once."""


class ArrivalsUser(PlatformUser):
    """Sends a Poisson stream, on behalf of users and about posts chosen evenly among those there are at the beginning."""

    abstract = True

    def on_start(self) -> None:
        """Work out the stream's share of the rate and the operations' shares of the stream."""
        super().on_start()
        self.in_flight = private_names.order_group(Pool(self.settings.arrivals_in_flight))
        mix = self.settings.per_feed_open()
        self.operations = list(mix)
        self.weights = list(mix.values())
        self.arrivals = 0

    def on_stop(self) -> None:
        """Cut off what is under way; it is recorded as unfinished."""
        self.in_flight.kill()
        super().on_stop()

    def send_stream(self) -> None:
        """Send requests at their intended instants for ever; waits when too many are under way."""
        streams = max(1, plugin.run.environment.runner.target_user_count)
        rate_per_s = self.settings.arrivals_per_s / streams
        intended_s = time.perf_counter()
        while True:
            intended_s += self.rng.expovariate(rate_per_s)
            operation = self.rng.choices(self.operations, self.weights)[0]
            actor = self.rng.randrange(self.settings.users_in_platform)
            which = self.rng.random()
            gevent.sleep(max(0.0, intended_s - time.perf_counter()))
            self.arrivals += 1
            request = self.in_flight.spawn(self._send, operation, actor, which, intended_s, self.arrivals)
            request.link_exception(self._report)

    def _report(self, greenlet: gevent.Greenlet) -> None:
        """A mistake in our own code goes where Locust puts those of tasks: into its report and the exit code."""
        error = greenlet.exception
        self.environment.events.user_error.fire(user_instance=self, exception=error, tb=error.__traceback__)

    def _send(self, operation: str, actor: int, which: float, intended_s: float, number: int) -> None:
        initial_posts = self.settings.users_in_platform * self.settings.initial_posts_per_user
        other = graph.someone_else(actor, which, self.settings.users_in_platform)
        post = 1 + int(which * initial_posts)
        asked: dict[str, Any] = {"actor": actor, "intended_s": intended_s}
        match operation:
            case "feed.open":
                feed.open_feed(self, **asked)
            case "feed.publish":
                feed.publish(self, content_bytes=1 + int(which * 2 * MEAN_POST_BYTES), **asked)
            case "interactions.like":
                interactions.like(self, post, **asked)
            case "interactions.unlike":
                interactions.unlike(self, post, **asked)
            case "interactions.comment":
                interactions.comment(self, post, key=f"{self.key_prefix()}-{number}", **asked)
            case "interactions.read":
                interactions.read(self, post, **asked)
            case "uploads.begin":
                uploads.upload(self, f"{self.key_prefix()}-{number}", which, **asked)
            case "uploads.view":
                uploads.view(self, which, **asked)
            case "search.query":
                search.query(self, which, **asked)
            case "graph.follow":
                graph.follow(self, other, **asked)
            case "graph.unfollow":
                graph.unfollow(self, other, **asked)
            case "notifications.subscribe":
                notifications.subscribe(self, **asked)
            case _:
                stream = notifications.stream(self, **asked)
                if stream is not None:
                    gevent.spawn_later(STREAM_HELD_S, self.hang_up, stream)
