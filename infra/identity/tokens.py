"""Tokens: signed access tokens, and the random ones whose digests alone are kept (COM-26).

An access token says whose it is, of which session, and at which epoch of its user. It lives 15 minutes; whether its
session still does is asked of the database (`infra.database.sessions`), since a signature cannot be taken back.
"""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

ALGORITHM = "HS256"
ISSUER = "ringdown"
ACCESS = "ringdown-api"
DEVICE = "ringdown-device"
CLAIMS = ("iss", "aud", "sub", "sid", "epoch", "iat", "exp", "jti")
RANDOM_BYTES = 32


class TokenRefused(Exception):
    """The token is none of ours, for something else, changed, or expired. Sign in or refresh."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says: the user (or device), the session, the user's epoch when it was issued, and its own id."""

    subject: str
    session: str
    epoch: int
    id: str
    expires_at: float


class Tokens:
    """Issues and reads access tokens.

    Args:
        secret: signs them; every node has the same.
        seconds: how long one lives.
        audience: what they are for; a token for something else is refused.
    """

    def __init__(
        self, secret: bytes, seconds: int, audience: str = ACCESS, clock: Callable[[], float] = time.time
    ) -> None:
        self._secret = secret
        self.seconds = seconds
        self._audience = audience
        self._clock = clock

    def issue(self, subject: str, session: str, epoch: int) -> str:
        """A token of this session."""
        now = int(self._clock())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": self._audience,
            "sub": subject,
            "sid": session,
            "epoch": epoch,
            "iat": now,
            "exp": now + self.seconds,
            "jti": uuid.uuid4().hex,
        }
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM)

    def read(self, token: str) -> Claims:
        """What a token says, once its signature, issuer, audience and time are found good.

        Raises:
            TokenRefused
        """
        try:
            found = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=self._audience,
                issuer=ISSUER,
                options={"require": list(CLAIMS), "verify_exp": False, "verify_iat": False},
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise TokenRefused(str(error)) from error
        claims = Claims(found["sub"], found["sid"], found["epoch"], found["jti"], found["exp"])
        shapes = (str, str, int, str, int)
        values = (claims.subject, claims.session, claims.epoch, claims.id, claims.expires_at)
        if not all(isinstance(value, shape) for value, shape in zip(values, shapes, strict=True)):
            raise TokenRefused("A claim is not of its type.")
        if claims.expires_at <= self._clock():
            raise TokenRefused("The token has expired.")
        return claims


def random_token(prefix: str) -> str:
    """A token that cannot be guessed, such as `refresh_5fN…`; whoever scans logs for secrets knows it by its prefix."""
    return f"{prefix}_{secrets.token_urlsafe(RANDOM_BYTES)}"


def fingerprint(token: str) -> bytes:
    """What is kept of a random token. It has 256 bits of chance, so a plain digest gives nothing away."""
    return hashlib.sha256(token.encode()).digest()
