"""Who is asking: passwords, and the signed tokens that stand for them until they expire.

A password is kept as scrypt's hash (RFC 7914): memory-hard, so that guessing does not get cheap on graphics cards, and in Python's
own library, so that no further dependency guards the passwords. The hash carries its parameters: raising them leaves old hashes
good.

A token is a JSON Web Token signed by HMAC-SHA-256. Every process that has the secret can check one without asking anybody,
which is what lets API processes and edges be added. To take tokens back before they expire, each API process knows who has signed
out lately (sessions.py); an edge does not (nginx asks the embedded one each time), and shows what it has in its cache until the
token expires.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import os
import time
from collections.abc import Callable

import jwt

from reference_impl.web import BIGINT_MAX, ApiError

# 16 MiB and five passes over it. Source: OWASP's Password Storage Cheat Sheet, the row with the least memory but one.
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 5

ALGORITHM = "HS256"
ISSUER = "flashcrowd"
TOKENS_REMEMBERED = 20_000
"""Of each process: to check a signature and its JSON again for every request of a session costs more than to remember it."""
MAX_TOKEN = 1_000
BEARER = {"www-authenticate": "Bearer"}


def hash_password(password: str, salt: bytes | None = None) -> str:
    """``scrypt$n$r$p$salt$hash`` (hexadecimal)."""
    salt = os.urandom(16) if salt is None else salt
    digest = hashlib.scrypt(password.encode(), salt=salt, n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P)
    return f"scrypt${SCRYPT_N}${SCRYPT_R}${SCRYPT_P}${salt.hex()}${digest.hex()}"


def is_password(password: str, kept: str) -> bool:
    """Whether ``kept``, made by :func:`hash_password`, is of this password. Takes a good tenth of a second."""
    _, n, r, p, salt, digest = kept.split("$")
    found = hashlib.scrypt(password.encode(), salt=bytes.fromhex(salt), n=int(n), r=int(r), p=int(p))
    return hmac.compare_digest(found.hex(), digest)


class Tokens:
    """Issues tokens and checks them."""

    def __init__(self, secret: str, lifetime_s: float) -> None:
        self._secret = secret
        self.lifetime_s = lifetime_s
        self.signed_out: dict[int, float] = {}
        """User → epoch seconds: tokens that were issued before are refused."""
        # Refusals are exceptions, which are not remembered: nobody can fill the memory with bad tokens.
        self._checked: Callable[[str], tuple[int, float, float]] = functools.lru_cache(TOKENS_REMEMBERED)(self._check)

    def issue(self, user_id: int) -> str:
        """A token for the user, good from now on."""
        now = time.time()  # with its fraction: a session may follow a sign-out within the second
        claims = {"iss": ISSUER, "sub": str(user_id), "iat": now, "exp": int(now) + max(1, round(self.lifetime_s))}
        return jwt.encode(claims, self._secret, ALGORITHM)

    def user_of(self, authorization: str | None) -> int:
        """The user whom the header ``Authorization`` is of.

        Raises:
            ApiError: 401; there is no token, or not one that is ours and good.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ApiError(401, "the header Authorization is missing; it has to be: Bearer, and a token", BEARER)
        try:
            user_id, issued_at, expires_at = self._checked(token)
        except jwt.ExpiredSignatureError:
            expires_at = 0.0
        except (jwt.InvalidTokenError, ValueError):
            raise ApiError(401, "the token is not one of ours", BEARER) from None
        if expires_at <= time.time():
            raise ApiError(401, "the token has expired; open another session", BEARER)
        if issued_at <= self.signed_out.get(user_id, 0.0):
            raise ApiError(401, "the user has signed out; open another session", BEARER)
        return user_id

    def _check(self, token: str) -> tuple[int, float, float]:
        """(user, issued at, expires at). Raises ``jwt.InvalidTokenError``, ``ValueError``."""
        if len(token) > MAX_TOKEN:
            raise ValueError("longer than any token of ours")
        # The algorithm is ours to say: one that the token names (none, or a public key's) is what a forger would choose.
        claims = jwt.decode(
            token, self._secret, algorithms=[ALGORITHM], issuer=ISSUER, options={"require": ["exp", "iat", "sub"]}
        )
        subject = claims["sub"]
        if not (subject.isascii() and subject.isdigit() and int(subject[:20]) <= BIGINT_MAX):
            raise ValueError("no user's id")
        return int(subject), float(claims["iat"]), float(claims["exp"])
