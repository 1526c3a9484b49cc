"""Tokens of the platform's users. The users of a load test are logged in already, so their tokens are signed here, once each.

Logging in by password would measure scrypt, and thousands of users would take minutes to begin. What signs is the platform's own
secret: from `FLASHCROWD_TOKEN_SECRET`, or the state file of the reference that is up on this machine. On the model the secret is
nobody's; the same locustfile runs on both.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import jwt

MODEL_SECRET = "of the model, which has nothing to protect"
ISSUER, ALGORITHM = "flashcrowd", "HS256"
LIFETIME_S = 24 * 3600
"""Longer than any load test."""


class NoSecret(RuntimeError):
    """Nothing says by what secret the platform's tokens are signed; the message is one line."""


def running_state() -> dict[str, Any]:
    """The state of the reference that is up on this machine; empty if none is, or it is somebody else's."""
    default = Path(tempfile.gettempdir()) / f"flashcrowd-{os.getuid()}" / "reference"
    folder = Path(os.environ.get("FLASHCROWD_STATE_DIR") or default)
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return state


def platform_secret() -> str:
    """What the platform signs its tokens by. Raises `NoSecret`."""
    secret = os.environ.get("FLASHCROWD_TOKEN_SECRET") or running_state().get("settings", {}).get("token_secret")
    if not secret:
        raise NoSecret(
            "users cannot be logged in: no reference is up on this machine (flashcrowd reference up), "
            "and FLASHCROWD_TOKEN_SECRET is not set"
        )
    return str(secret)


def sign(user: int, secret: str) -> str:
    """A token for one of the platform's users."""
    now = int(time.time())
    return jwt.encode({"iss": ISSUER, "sub": str(user), "iat": now, "exp": now + LIFETIME_S}, secret, ALGORITHM)


class _Signer:
    """By what the tokens of this process are signed; None: not asked yet."""

    secret: str | None = None


def use_secret(secret: str | None) -> None:
    """Sign by this secret from now on; None: by the platform's, looked up when the first token is needed."""
    _Signer.secret = secret
    bearer.cache_clear()


@cache
def bearer(user: int) -> dict[str, str]:
    """The header that says who asks, the same object each time. Raises `NoSecret`."""
    if _Signer.secret is None:
        _Signer.secret = platform_secret()
    return {"Authorization": f"Bearer {sign(user, _Signer.secret)}"}


@lru_cache(maxsize=100_000)
def user_of_model(authorization: str) -> int:
    """Whose token it is, at the model. Raises `ValueError`; when a token ends is no question in virtual time."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise ValueError("no bearer token")
    try:
        options: Any = {"require": ["sub"], "verify_exp": False, "verify_iat": False}
        claims = jwt.decode(token, MODEL_SECRET, algorithms=[ALGORITHM], issuer=ISSUER, options=options)
    except jwt.InvalidTokenError as error:
        raise ValueError(str(error)) from None
    return int(claims["sub"])
