"""Room `interactions`: like, take a like back, comment, read a post in full."""

from __future__ import annotations

from typing import Any

from loadtest.platform_user import PlatformUser


def like(user: PlatformUser, post: int, **options: Any) -> None:
    """Operation `interactions.like`."""
    user.ask("interactions.like", "PUT", f"/v1/posts/{post}/like", **options)


def unlike(user: PlatformUser, post: int, **options: Any) -> None:
    """Operation `interactions.unlike`."""
    user.ask("interactions.unlike", "DELETE", f"/v1/posts/{post}/like", **options)


def comment(user: PlatformUser, post: int, key: str, text: str = "well said", **options: Any) -> None:
    """Operation `interactions.comment`; `key` makes a repetition harmless."""
    headers = {"Idempotency-Key": key}
    user.ask(
        "interactions.comment", "POST", f"/v1/posts/{post}/comments", json={"text": text}, headers=headers, **options
    )


def read(user: PlatformUser, post: int, **options: Any) -> dict[str, Any] | None:
    """Operation `interactions.read`: the post with its likes and comments as the database has them, or None."""
    body: dict[str, Any] | None = user.ask("interactions.read", "GET", f"/v1/posts/{post}", **options)
    return body
