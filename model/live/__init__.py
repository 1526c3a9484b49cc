"""The platform as a running system in virtual time: it answers requests with what is visible by now.

The network says how long things take; this package keeps what they do, a class for each room. A post is in a follower's
precomputed feed from the instant its batch is written, in a puller's feed from its acceptance; a like counts from the instant
it is applied. So a user who likes what he has just read does so here as on a real system, and a read that misses its own
write is seen on both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from model import platform
from model.engines.choose import engine_for
from model.engines.clock import Clock
from model.engines.order import OK, OUTCOMES
from model.live.asked import Asked, Outcome, Room
from model.live.feed import LiveFeed
from model.live.interactions import LiveInteractions
from model.live.notifications import Listener, LiveNotifications
from model.live.posts import LivePosts
from model.live.search import LiveSearch
from model.live.uploads import LiveUploads
from model.population import FollowGraph
from model.results import Results
from model.scenario import Scenario
from model.tables import lower

__all__ = ["LivePlatform", "Outcome"]


class LivePlatform:
    """Performs operations at the clock's present instant; times are seconds of that clock, which says the engine too.

    `graph` defaults to the scenario's population. Raises `ValueError` for a scenario that declares a network of its own:
    there is no platform to talk to.
    """

    def __init__(self, scenario: Scenario, env: Clock, seed: int, graph: FollowGraph | None = None) -> None:
        if scenario.declared is not None:
            raise ValueError(
                f"scenario {scenario.name}: it declares a network of its own; only the platform can be asked"
            )
        self.scenario, self.env, self.seed = scenario, env, seed
        self.graph = graph if graph is not None else platform.build_graph(scenario.population, seed)
        network = platform.build_network(scenario)
        self._numbers = {name: number for number, name in enumerate(network.names("operations"))}
        self._columns = {name: column for column, name in enumerate(network.attributes)}
        self.engine = engine_for(env.engine_name, lower(network, seed), env, observer=self)
        self._milestones = self.engine.tables.milestones
        self._asked: dict[int, Asked] = {}
        posts = LivePosts(self.graph.users, scenario.population.initial_posts_per_user)
        feed = LiveFeed(scenario, self.graph, posts)
        self.notifications = LiveNotifications(scenario, posts)
        interactions = LiveInteractions(posts, self.notifications.is_online)
        uploads = LiveUploads(scenario, posts, feed.fan_out)
        self._rooms: dict[str, Room] = {
            "feed": feed, "graph": feed, "interactions": interactions, "uploads": uploads,
            "notifications": self.notifications, "search": LiveSearch(posts),
        }  # fmt: skip
        self.began_s = uploads.began_s

    @property
    def users(self) -> int:
        """How many users there are: 0 ... users - 1."""
        return self.graph.users

    def results(self) -> Results:
        """Everything up to now; no warm-up is cut."""
        return Results(self.scenario, self.engine.record(), self.seed)

    def perform(self, operation: str, user: int, arguments: dict[str, Any], done: Callable[[Outcome], None]) -> int:
        """Begin an operation; `done` is called at the instant of the answer. Returns the request's number."""
        asked = Asked(operation, user, arguments, done)
        values = [0.0] * len(self._columns)
        for name, value in self._room(asked).attributes(asked).items():
            values[self._columns[name]] = value
        request = self.engine.submit(self._numbers[operation], values)
        asked.request = request
        self._asked[request] = asked
        return request

    def listen(self, user: int, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every notification for `user`, until the function that is returned is called."""
        return self.notifications.listen(user, listener)

    def _room(self, asked: Asked) -> Room:
        return self._rooms[asked.operation.partition(".")[0]]

    def responded(self, request: int, outcome: int) -> None:
        """The engine tells: the client has its answer, with what is visible now."""
        asked = self._asked[request]
        room = self._room(asked)
        if outcome == OK:
            answer = room.answer(asked, float(self.env.now))
        else:
            answer = Outcome(OUTCOMES[outcome], {})
        if asked.operation not in room.goes_on:
            del self._asked[request]
        done, asked.done = asked.done, None
        if done is not None:
            done(answer)

    def marked(self, milestone: int, request: int, ordinal: int, weight: float) -> None:
        """The engine tells: what a request set going has become visible."""
        asked = self._asked[request]
        name = self._milestones[milestone]
        # The milestone's room, not the request's: an upload reaches followers, a like the author's notifications.
        self._rooms[name.partition(".")[0]].marked(name, asked, ordinal, float(self.env.now))
