"""The ground under the rooms: follow and unfollow."""

from __future__ import annotations

from typing import Any

from loadtest.platform_user import PlatformUser


def follow(user: PlatformUser, followee: int, **options: Any) -> None:
    """Operation `graph.follow`."""
    user.ask("graph.follow", "PUT", f"/v1/users/{followee}/follow", **options)


def unfollow(user: PlatformUser, followee: int, **options: Any) -> None:
    """Operation `graph.unfollow`."""
    user.ask("graph.unfollow", "DELETE", f"/v1/users/{followee}/follow", **options)
