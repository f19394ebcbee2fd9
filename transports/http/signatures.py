"""Proof that a webhook is its provider's, over the raw bytes of the request.

Each check raises `Forged`, in words for the log; whoever sent it learns only that it was refused. An old request is
refused although its signature is right: it may have been overheard.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

TOLERANCE_SECONDS = 300


class Forged(Exception):
    """The webhook is not its provider's, or it is too old."""


def stripe(body: bytes, headers: Mapping[str, str], secret: str, now: float) -> None:
    """`Stripe-Signature: t=SECONDS,v1=HEX[,v1=HEX]` (https://docs.stripe.com/webhooks#verify-manually).

    Raises:
        Forged
    """
    parts = [part.partition("=")[::2] for part in headers.get("Stripe-Signature", "").split(",")]
    times = [value.strip() for name, value in parts if name.strip() == "t"]
    given = [value.strip() for name, value in parts if name.strip() == "v1"]
    if len(times) != 1 or not given:
        raise Forged("no Stripe-Signature with t and v1")
    _fresh(times[0], now)
    expected = _hmac(secret.encode(), times[0].encode() + b"." + body).hex()
    _one_of(expected, given)


def standard(body: bytes, headers: Mapping[str, str], secret: str, now: float) -> None:
    """Standard Webhooks, as Polar sends them: `webhook-id`, `webhook-timestamp`, `webhook-signature: v1,BASE64 …`.

    A secret that begins with `whsec_` is base64; any other is used as it is.

    Raises:
        Forged
    """
    name, moment = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    given = [part.removeprefix("v1,") for part in headers.get("webhook-signature", "").split() if part[:3] == "v1,"]
    if not name or not given:
        raise Forged("no webhook-id or webhook-signature")
    _fresh(moment, now)
    signed = name.encode() + b"." + moment.encode() + b"." + body
    _one_of(base64.b64encode(_hmac(_key(secret), signed)).decode(), given)


def revenuecat(body: bytes, headers: Mapping[str, str], authorization: str, secret: str, now: float) -> None:
    """The Authorization header that was agreed on, and, where a signing secret is set, `X-RevenueCat-Signature`.

    The signature is read as `t=SECONDS,v1=HEX` over `SECONDS.BODY`, or as the bare hex of the body's HMAC-SHA256.

    Raises:
        Forged
    """
    given = headers.get("Authorization", "")
    if not authorization or not hmac.compare_digest(given.encode(), authorization.encode()):
        raise Forged("not the Authorization that was agreed on")
    if not secret:
        return
    signature = headers.get("X-RevenueCat-Signature", "").strip()
    if "v1=" in signature:
        stripe(body, {"Stripe-Signature": signature}, secret, now)
    else:
        _one_of(_hmac(secret.encode(), body).hex(), [signature])


def _fresh(moment: str, now: float) -> None:
    if not (moment.isascii() and moment.isdigit()) or len(moment) > 12:
        raise Forged("no time of sending")
    if abs(now - int(moment)) > TOLERANCE_SECONDS:
        raise Forged(f"sent {now - int(moment):.0f} s ago")


def _one_of(expected: str, given: list[str]) -> None:
    if not any(hmac.compare_digest(expected.encode(), one.encode()) for one in given):
        raise Forged("the signature is wrong")


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def _key(secret: str) -> bytes:
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise Forged("our own secret is no base64") from error
