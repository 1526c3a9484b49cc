"""The users of the load test, for both targets. Usage:

locust -f loadtest/locustfile.py --target model --scenario baseline --headless -u 200 -r 50 -t 2m --csv out --html out.html
locust -f loadtest/locustfile.py --target reference --host http://127.0.0.1:8000 --headless -u 200 -r 50 -t 2m

With a class at the end of the line only that one's users run; `SearchableProbe` (reference only) publishes one post after the
other and measures how long each takes to be found.

With `--arrivals-per-s RATE` open arrivals take the place of the closed users (`-u 1` is enough).
"""

from __future__ import annotations

import time
from typing import Any

from locust import events, task
from locust.exception import StopUser

from loadtest import feed, plugin, search
from loadtest.closed_user import ClosedUser
from loadtest.open_arrivals import ArrivalsUser
from loadtest.platform_user import PlatformUser
from loadtest.plugin import load


class Reader(ClosedUser):
    """Opens its feed, reads, likes and comments what it finds there, publishes now and then."""

    wait_time = PlatformUser.think

    @task
    def browse(self) -> None:
        """One request of the session."""
        self.next_request()


class Arrivals(ArrivalsUser):
    """A stream of requests on a schedule."""

    @task
    def arrive(self) -> None:
        """The whole stream."""
        self.send_stream()


class SearchableProbe(PlatformUser):
    """Sees from outside when posts can be found: add it to a run by a second locust, say with `-u 1`."""

    wait_time = PlatformUser.think

    @task
    def look(self) -> None:
        """One post, from its publication until a query finds it."""
        if plugin.run.virtual:  # the model has no words; its milestone is in its results
            raise StopUser
        word, began_epoch_s, began_s = f"probe{self.rng.getrandbits(64):x}", time.time(), time.perf_counter()
        post = feed.publish(self, content_bytes=1, title=word)
        if post is not None:
            search.look_for(self, word, post, began_epoch_s, began_s)


@events.init.add_listener
def choose_users(environment: Any, **_others: Any) -> None:
    """Closed users, or open arrivals where a rate is given; classes named on the command line are left as they are."""
    if not environment.parsed_options.user_classes:
        environment.user_classes = [Arrivals if load().arrivals_per_s > 0 else Reader]
