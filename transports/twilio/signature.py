"""Proof that a request is Twilio's: `X-Twilio-Signature` on webhooks and on a stream's WebSocket upgrade.

Twilio signs the address it was told to call (https://www.twilio.com/docs/usage/security), which behind a
proxy is not the one in our `Host`. So the address comes from the settings; forwarded headers count only where
the operator says that a proxy sets them. The comparison is the SDK's `RequestValidator`, which tries the
address with and without its port.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import structlog
from aiohttp import hdrs, web
from twilio.request_validator import RequestValidator

from transports.twilio.errors import ForgedRequest

__all__ = ["ForgedRequest", "Signatures", "verify"]

HEADER = "X-Twilio-Signature"
FORM = "application/x-www-form-urlencoded"
# Twilio signs an upgrade by the `wss` address of the TwiML; its validators in other languages see `https`.
UPGRADE_SCHEMES = {"https": ("wss", "https"), "http": ("ws", "http")}

log = structlog.get_logger()


class Signatures:
    """Checks the requests of one node.

    Args:
        auth_token: the account's token, which Twilio signs with. public_url: how Twilio reaches this node,
        such as `https://phone.example.com`. trust_forwarded: also accept the address that `X-Forwarded-Proto`
        and `-Host` tell. Only behind a proxy
            that overwrites them; the signature still has to match, so a forged header gains nothing but
            tries.
    """

    def __init__(self, auth_token: str, public_url: str, *, trust_forwarded: bool = False) -> None:
        self._validator = RequestValidator(auth_token)
        self._public_url = public_url
        self._trust_forwarded = trust_forwarded

    async def verify(self, request: web.Request) -> Mapping[str, str]:
        """The request's form fields, once it is proven to be Twilio's.

        Raises:
            ForgedRequest: it is not (403).
        """
        return await verify(request, self._validator, self._public_url, trust_forwarded=self._trust_forwarded)


async def verify(
    request: web.Request, validator: RequestValidator, public_url: str, *, trust_forwarded: bool = False
) -> Mapping[str, str]:
    """See `Signatures.verify`. A JSON body is proven by its `bodySHA256` and yields no fields."""
    signature = request.headers.get(HEADER, "")
    if not signature:
        raise _forged(request, "no signature")
    signed: object = {}
    fields: dict[str, str] = {}
    if request.method == hdrs.METH_POST and request.content_type == FORM:
        form = await request.post()
        signed = form
        fields = {name: value for name in form if isinstance(value := form[name], str)}
    elif request.body_exists:
        if "bodySHA256" not in request.query:
            raise _forged(request, "a body that the signature does not cover")
        try:
            signed = await request.text()
        except UnicodeDecodeError:
            raise _forged(request, "a body that is no text") from None
    for url in _addresses(request, public_url, trust_forwarded):
        if validator.validate(url, signed, signature):
            return fields
    raise _forged(request, "the signature does not match")


def _addresses(request: web.Request, public_url: str, trust_forwarded: bool) -> Iterator[str]:
    # As it was sent: decoding and encoding it again may not give back what Twilio signed.
    path = request.raw_path
    if not path.startswith("/"):
        path = request.rel_url.raw_path_qs
    bases = [public_url.rstrip("/")]
    if trust_forwarded:
        host = request.headers.get(hdrs.X_FORWARDED_HOST, request.host).split(",")[0].strip()
        scheme = request.headers.get(hdrs.X_FORWARDED_PROTO, request.scheme).split(",")[0].strip()
        bases.append(f"{'https' if scheme in ('https', 'wss') else 'http'}://{host}")
    for base in bases:
        scheme, _, rest = base.partition("://")
        schemes = UPGRADE_SCHEMES.get(scheme, (scheme,)) if _is_upgrade(request) else (scheme,)
        for name in schemes:
            url = f"{name}://{rest}{path}"
            if _parses(url):
                yield url


def _is_upgrade(request: web.Request) -> bool:
    return request.headers.get(hdrs.UPGRADE, "").lower() == "websocket"


def _parses(url: str) -> bool:
    """Whether the SDK can take the address apart; a hostile forwarded host may make it raise."""
    try:
        return urlsplit(url).port is not None or True
    except ValueError:
        return False


def _forged(request: web.Request, why: str) -> ForgedRequest:
    log.warning("twilio.forged_request", path=request.path, why=why)
    return ForgedRequest(why)
