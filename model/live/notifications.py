"""Notifications of the live platform: who listens now, and what he hears."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeAlias

from model.live.asked import Asked, Outcome
from model.live.posts import LivePosts
from model.scenario import Scenario

Listener: TypeAlias = Callable[[dict[str, Any]], None]
PLATFORMS = ("fcm", "apns")


class LiveNotifications:
    """Streams by user. A message says what the reference's says; times are seconds of the clock."""

    goes_on = frozenset[str]()

    def __init__(self, scenario: Scenario, posts: LivePosts) -> None:
        self.posts = posts
        self.window_s = scenario.notifications.like_window_s
        self.listeners: defaultdict[int, list[Listener]] = defaultdict(list)
        self.told_s: dict[int, float] = {}  # when a post's author last heard of likes
        self.gathered: defaultdict[int, int] = defaultdict(int)  # and how many there were since

    def attributes(self, asked: Asked) -> dict[str, float]:
        """Neither operation depends on anything."""
        return {}

    def answer(self, asked: Asked, now_s: float) -> Outcome:
        """The device is registered, the stream is ready."""
        if asked.operation == "notifications.subscribe" and asked.arguments.get("platform") not in PLATFORMS:
            return Outcome("invalid", {})
        return Outcome("ok", {"type": "ready"} if asked.operation == "notifications.stream" else {})

    def is_online(self, user: int) -> bool:
        """Whether a user holds a stream at this moment."""
        return bool(self.listeners.get(user))

    def listen(self, user: int, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every message for `user`, until the function that is returned is called."""
        self.listeners[user].append(listener)

        def stop() -> None:
            if listener in self.listeners.get(user, ()):
                self.listeners[user].remove(listener)

        return stop

    def marked(self, milestone: str, asked: Asked, ordinal: int, now_s: float) -> None:
        """The recipient's channel has it. Likes of a post make one message in a window, as in the reference."""
        number = int(asked.arguments["post"])
        post = self.posts.find(number)
        if post is None:
            return
        kind, others = milestone.rpartition(".")[2], 0
        if kind == "like":
            if now_s < self.told_s.get(number, -self.window_s) + self.window_s:
                self.gathered[number] += 1
                return
            self.told_s[number] = now_s
            others = self.gathered.pop(number, 0)
        message = {
            "type": "notification",
            "id": f"{kind}-{asked.request}",
            "kind": kind,
            "post_id": number,
            "actor_id": asked.user,
            "others": others,
            "accepted_at": asked.kept.get("answered_s", now_s),
        }
        for listener in list(self.listeners.get(post.author, ())) if asked.kept.get("online") else ():
            listener(message)
