"""Who is asking: an access token, the console's cookie with its CSRF token, or the operator's token."""

from __future__ import annotations

import hmac

from aiohttp import web

from infra.identity.principal import OPERATOR, Principal
from infra.settings import Settings
from transports.http.api import SAFE, Who
from transports.http.problems import Problem
from transports.http.services import Services

ACCESS_COOKIE = "ringdown_access"
REFRESH_COOKIE = "ringdown_refresh"
CSRF_COOKIE = "ringdown_csrf"
CSRF_HEADER = "X-CSRF"
BEARER = {"WWW-Authenticate": "Bearer"}
SIGN_IN = "Sign in with POST /v1/sessions, then send Authorization: Bearer ACCESS_TOKEN."
OPERATOR_TOKEN = "Send the operator token: Authorization: Bearer NODE_OPERATOR_TOKEN."  # noqa: S105 - a sentence


async def principal_of(request: web.Request, services: Services, who: Who) -> Principal | None:
    """Who asks for an operation that is there for `who`; None: nobody that we know."""
    if who == "public":
        return None
    bearer = bearer_of(request)
    if who == "operator" and (is_operator(bearer, services.settings) or is_unlocked(services.settings)):
        return OPERATOR
    token = bearer or request.cookies.get(ACCESS_COOKIE)
    return await services.sessions.authenticate(token) if token else None


def require(request: web.Request, principal: Principal | None, who: Who) -> None:
    """Refuse whoever may not use an operation that is there for `who`.

    Raises:
        Problem: nobody is signed in (401), somebody who is no operator, or somebody whose page did not ask (403).
    """
    if who == "public" or principal is OPERATOR:
        return
    if principal is None:
        raise Problem("not-authorised", OPERATOR_TOKEN if who == "operator" else SIGN_IN, BEARER)
    if not bearer_of(request):  # then a cookie proved it, which a browser sends for anybody's page
        require_csrf(request)
    if who == "operator" and not principal.is_operator:
        raise Problem("operators-only", "Your account is no operator's.")


def require_csrf(request: web.Request) -> None:
    """Refuse a request that another site may have made with our cookies.

    Raises:
        Problem: it changes something, and its `X-CSRF` is not what the cookie `ringdown_csrf` says (403).
    """
    if request.method in SAFE:
        return
    expected, given = request.cookies.get(CSRF_COOKIE, ""), request.headers.get(CSRF_HEADER, "")
    if not expected or not hmac.compare_digest(expected.encode(), given.encode()):
        raise Problem("csrf-missing", f"Send the value of the cookie {CSRF_COOKIE} in the header {CSRF_HEADER}.")


def bearer_of(request: web.Request) -> str:
    """The token of `Authorization: Bearer TOKEN`; empty without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def is_operator(token: str, settings: Settings) -> bool:
    """Whether this is the operator's token, compared in constant time."""
    expected = settings.node.operator_token.get_secret_value()
    return bool(expected) and hmac.compare_digest(token.encode(), expected.encode())


def is_unlocked(settings: Settings) -> bool:
    """Whether anybody is an operator: in development, where no token is set."""
    return settings.environment == "development" and not settings.node.operator_token.get_secret_value()


def address_of(request: web.Request, *, trust_forwarded: bool) -> str:
    """The client's address: as our own proxy saw it where we are told to trust one, else the connection's."""
    if trust_forwarded and (forwarded := request.headers.get("X-Forwarded-For")):
        return forwarded.rpartition(",")[2].strip()  # the last is what the proxy next to us added; the rest is hearsay
    return request.remote or ""
