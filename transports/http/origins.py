"""What protects people's browsers: which pages may ask us, and the headers that keep ours to themselves.

A request that a browser makes for a page bears that page's `Origin`. Our own page may ask, and pages of the origins in
NODE_ALLOWED_ORIGINS; they have no cookies of ours (`SameSite=Strict`), so they send access tokens. Programs send none.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from infra.settings import Settings
from transports.http.problems import Problem

GUARDED = "/v1/"
LOOPBACK = re.compile(r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")
METHODS = "GET, POST, PUT, PATCH, DELETE"
HEADERS = "Authorization, Content-Type, Idempotency-Key"
EXPOSED = "Location, Retry-After, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Idempotent-Replayed"
PREFLIGHT_SECONDS = "600"
SECURE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
}
YEAR = 31_536_000


class Origins:
    """Decides which pages may ask, and hardens every answer."""

    def __init__(self, settings: Settings) -> None:
        public = urlsplit(settings.public_url)
        self._own = f"{public.scheme}://{public.netloc}"
        self._development = settings.environment == "development"
        listed = settings.node.allowed_origins.split(",")
        self._foreign = frozenset(origin.strip().rstrip("/") for origin in listed if origin.strip())
        self._https = public.scheme == "https"

    def allowed(self, origin: str) -> bool:
        """Whether a page of this origin may ask."""
        return (
            origin == self._own or origin in self._foreign or (self._development and bool(LOOPBACK.fullmatch(origin)))
        )

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what pages of other origins ask of the API, and answer browsers that ask before they ask."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or not request.path.startswith(GUARDED):
            return await handler(request)
        if not self.allowed(origin):
            detail = (
                "Pages of this origin may not use the API. Its operator can name the origin in NODE_ALLOWED_ORIGINS."
            )
            raise Problem("foreign-origin", detail, {"Vary": "Origin"})
        if request.method == hdrs.METH_OPTIONS and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers:
            return web.Response(
                status=204,
                headers={
                    hdrs.ACCESS_CONTROL_ALLOW_METHODS: METHODS,
                    hdrs.ACCESS_CONTROL_ALLOW_HEADERS: HEADERS,
                    hdrs.ACCESS_CONTROL_MAX_AGE: PREFLIGHT_SECONDS,
                },
            )
        return await handler(request)

    async def harden(self, request: web.Request, response: web.StreamResponse) -> None:
        """Signal before an answer is sent: what it does not say itself, it says safely."""
        for name, value in SECURE.items():
            response.headers.setdefault(name, value)
        response.headers[hdrs.SERVER] = "ringdown"
        if self._https:
            response.headers.setdefault("Strict-Transport-Security", f"max-age={YEAR}; includeSubDomains")
        if request.path.startswith(GUARDED):
            response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
            response.headers.setdefault(hdrs.VARY, "Origin")
            origin = request.headers.get(hdrs.ORIGIN)
            if origin is not None and origin != self._own and self.allowed(origin):
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
                response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = EXPOSED
                response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
