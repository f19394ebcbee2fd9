"""One-time codes: six digits sent to somebody, and those of an authenticator app (RFC 6238)."""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from urllib.parse import quote, urlencode

DIGITS = 6
STEP_SECONDS = 30
DRIFT_STEPS = 1  # how far a phone's clock may be off, each way
SECRET_BYTES = 20
ISSUER = "Ringdown"


def digits() -> str:
    """Six random digits."""
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"


def new_secret() -> str:
    """A secret for an authenticator app, in the base32 that people can type."""
    return base64.b32encode(secrets.token_bytes(SECRET_BYTES)).decode()


def address(secret: str, account: str) -> str:
    """The `otpauth:` address that an authenticator app reads from a QR code."""
    label = quote(f"{ISSUER}:{account}")
    return f"otpauth://totp/{label}?" + urlencode({"secret": secret, "issuer": ISSUER})


def code_at(secret: str, step: int) -> str:
    """The app's code in a time step (RFC 4226 section 5.3)."""
    mac = hmac.digest(base64.b32decode(secret), step.to_bytes(8), "sha1")
    offset = mac[-1] & 0xF
    number = int.from_bytes(mac[offset : offset + 4]) & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def step_of(secret: str, code: str, after: int, now: float | None = None) -> int | None:
    """The time step whose code this is, later than step `after`; None if it is none's, or was taken before."""
    current = int((time.time() if now is None else now) // STEP_SECONDS)
    for step in range(current - DRIFT_STEPS, current + DRIFT_STEPS + 1):
        if step > after and hmac.compare_digest(code_at(secret, step).encode(), code.encode()):
            return step
    return None
