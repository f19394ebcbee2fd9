"""Who may use the operator's API: holders of NODE_OPERATOR_TOKEN, or anybody where none is set (development only)."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from transports.http.problems import Problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
GUARDED = "/v1/"


def operator_only(token: str) -> Middleware:
    """A middleware that asks for `Authorization: Bearer TOKEN` on every API route."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if token and request.path.startswith(GUARDED):
            given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
            if not hmac.compare_digest(given, token.encode()):
                detail = "Send the operator token: Authorization: Bearer NODE_OPERATOR_TOKEN."
                raise Problem(401, "not-authorised", detail, {"WWW-Authenticate": "Bearer"})
        return await handler(request)

    return guard
