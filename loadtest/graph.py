"""The ground under the rooms: follow and unfollow."""

from __future__ import annotations

from typing import Any

from loadtest.platform_user import PlatformUser


def someone_else(actor: int, which: float, users: int) -> int:
    """A user other than `actor`, who may not follow himself or herself; `which` in [0, 1) chooses."""
    chosen = int(which * max(1, users - 1))
    return chosen + (chosen >= actor and users > 1)


def follow(user: PlatformUser, followee: int, **options: Any) -> None:
    """Operation `graph.follow`."""
    user.ask("graph.follow", "PUT", f"/v1/users/{followee}/follow", **options)


def unfollow(user: PlatformUser, followee: int, **options: Any) -> None:
    """Operation `graph.unfollow`."""
    user.ask("graph.unfollow", "DELETE", f"/v1/users/{followee}/follow", **options)
