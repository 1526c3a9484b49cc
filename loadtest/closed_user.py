"""A closed user: opens the feed, does something with what it read there, thinks in between, and begins again.

All random numbers of a session are drawn when it begins, the same count whatever the answers are: a slower or emptier
target must not change what the user asks for next.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from loadtest import feed, graph, interactions, notifications, search, uploads
from loadtest.platform_user import PlatformUser
from loadtest.settings import LoadSettings

MEAN_POST_BYTES = 200


@dataclass(frozen=True)
class Action:
    """One thing a user is going to do; `which` in [0, 1) says to which post of the page, or to whom."""

    operation: str
    which: float


def whole_number(rng: Random, mean: float) -> int:
    """A whole number with this mean: its floor, or one more."""
    return int(mean) + (rng.random() < mean - int(mean))


def plan_session(rng: Random, settings: LoadSettings) -> list[Action]:
    """What follows on the opening of a feed, in order."""
    actions: list[tuple[float, Action]] = []
    for operation, mean in settings.per_feed_open().items():
        if operation in ("feed.open", "interactions.unlike"):
            continue
        for _ in range(whole_number(rng, mean)):
            actions.append((rng.random(), Action(operation, rng.random())))
    actions.sort(key=lambda entry: entry[0])
    planned: list[Action] = []
    for _, action in actions:
        planned.append(action)
        if action.operation == "interactions.like" and rng.random() < settings.unlikes_per_like:
            planned.append(Action("interactions.unlike", action.which))  # the same post, having thought about it
    return planned


class ClosedUser(PlatformUser):
    """One request per task, `wait_time` between them."""

    abstract = True

    def on_start(self) -> None:
        """Choose who this user is; nothing is open yet."""
        super().on_start()
        self.page = feed.Page()
        self.plan: list[Action] = []
        self.comments = 0
        self.uploads = 0

    def next_request(self) -> None:
        """Do the next thing of this session, or begin another one."""
        if not self.plan:
            self.plan = plan_session(self.rng, self.settings)[::-1]
            self.page = feed.open_feed(self)
            return
        action = self.plan.pop()
        match action.operation:
            case "feed.publish":
                feed.publish(self, content_bytes=1 + int(action.which * 2 * MEAN_POST_BYTES))
            case "graph.follow":
                graph.follow(
                    self, graph.someone_else(self.platform_user, action.which, self.settings.users_in_platform)
                )
            case "uploads.begin":
                self.uploads += 1
                uploads.upload(self, f"{self.key_prefix()}-{self.uploads}", action.which)
            case "uploads.view":
                uploads.view(self, action.which)
            case "search.query":
                search.query(self, action.which)
            case "graph.unfollow":
                self._unfollow(action)
            case "notifications.subscribe":
                notifications.subscribe(self)
            case "notifications.stream":
                for stream in list(self.streams):  # the connection was lost
                    self.hang_up(stream)
                notifications.stream(self)
            case _:
                self._interact(action)

    def _unfollow(self, action: Action) -> None:
        if self.page.authors:
            graph.unfollow(self, self.page.authors[int(action.which * len(self.page.authors))])

    def _interact(self, action: Action) -> None:
        if not self.page.posts:
            return  # an empty feed gives nothing to like
        post = self.page.posts[int(action.which * len(self.page.posts))]
        match action.operation:
            case "interactions.like":
                interactions.like(self, post)
            case "interactions.unlike":
                interactions.unlike(self, post)
            case "interactions.comment":
                self.comments += 1
                interactions.comment(self, post, key=f"{self.key_prefix()}-{self.comments}")
            case _:
                interactions.read(self, post)
