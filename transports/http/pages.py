"""The user's console: its files, held in memory, with the headers that keep a browser safe.

`/` is the whole console; what is shown there hangs on the part of the address after `#`, which browsers keep to
themselves. `/call-me` is the same page, which then rings the phone at once: it is for the shortcut of the installed
app, so an address that another site leads to is sent to `/` instead.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec
from aiohttp import web

from infra.settings import Settings

CONSOLE = Path(__file__).parent / "console"
STRIPE = "https://js.stripe.com"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".webmanifest": "application/manifest+json",
}
OURS = frozenset({"none", "same-origin"})  # typed, bookmarked or from the installed app; or from the page itself


@dataclass(frozen=True, slots=True)
class Shown:
    """One file as it is sent."""

    body: bytes
    packed: bytes
    content_type: str
    tag: str

    @classmethod
    def of(cls, body: bytes, content_type: str) -> Shown:
        return cls(body, gzip.compress(body, mtime=0), content_type, f'"{hashlib.sha256(body).hexdigest()[:24]}"')


class Pages:
    """Serves the console.

    Args:
        folder: where its files lie; they are read once, here.
        publishable_key: the card processor's key for browsers; empty where a stand-in takes the cards.
        codes: where the codes can be read that a phone network in a box was asked to send; empty with a real one.
    """

    def __init__(self, folder: Path = CONSOLE, publishable_key: str = "", codes: str = "") -> None:
        self._headers = headers(policy(cards=bool(publishable_key)))
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        read = {name: path.read_bytes() for name, path in files.items() if path.suffix in TYPES}
        self.version = hashlib.sha256(b"".join(read.values())).hexdigest()[:16]
        shell = ["/", *(f"/console/{name}" for name in read if name not in {"index.html", "sw.js"})]
        told = {"version": self.version, "files": shell}
        read["sw.js"] = read["sw.js"].replace(b'{"version":"","files":[]}', msgspec.json.encode(told))
        self._files = {name: Shown.of(body, TYPES[Path(name).suffix]) for name, body in read.items()}
        options = {"version": self.version, "publishable_key": publishable_key, "codes": codes}
        self._options = msgspec.json.encode(options)

    @classmethod
    def of(cls, settings: Settings) -> Pages:
        """The console of a node with these settings."""
        return cls(publishable_key=card_key(settings), codes=codes_of(settings))

    def routes(self) -> list[web.RouteDef]:
        """`/`, `/call-me` and the files under `/console/`."""
        return [
            web.get("/", self.index),
            web.get("/call-me", self.call_me),
            web.get("/console/options.json", self.options),
            web.get("/console/{name:.+}", self.file),
        ]

    async def index(self, request: web.Request) -> web.Response:
        """GET /: the console."""
        return self._answer(request, self._files["index.html"])

    async def call_me(self, request: web.Request) -> web.Response:
        """GET /call-me: the console, which rings the phone at once, unless another site leads here."""
        if request.headers.get("Sec-Fetch-Site", "none") not in OURS:
            raise web.HTTPSeeOther("/")
        return self._answer(request, self._files["index.html"])

    async def file(self, request: web.Request) -> web.Response:
        """GET /console/NAME: one file of the console."""
        shown = self._files.get(request.match_info["name"])
        if shown is None:
            raise web.HTTPNotFound(text="The console has no such file. Open / instead.")
        response = self._answer(request, shown)
        if request.match_info["name"] == "sw.js":
            response.headers["Service-Worker-Allowed"] = "/"
        return response

    async def options(self, request: web.Request) -> web.Response:
        """GET /console/options.json: what of the node's settings a browser must know."""
        return web.Response(body=self._options, content_type="application/json", headers=self._headers)

    def _answer(self, request: web.Request, shown: Shown) -> web.Response:
        sent = dict(self._headers) | {"ETag": shown.tag, "Vary": "Accept-Encoding", "Content-Type": shown.content_type}
        if shown.tag in request.headers.get("If-None-Match", ""):
            return web.Response(status=304, headers=sent)
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            return web.Response(body=shown.packed, headers=sent | {"Content-Encoding": "gzip"})
        return web.Response(body=shown.body, headers=sent)


def card_key(settings: Settings) -> str:
    """The publishable key if cards are typed into the processor's own fields; empty where a stand-in takes them."""
    real = settings.stripe.publishable_key and not settings.stripe.api_url
    return settings.stripe.publishable_key if real else ""


def codes_of(settings: Settings) -> str:
    """Where a demo shows the codes it "sends" to phones; empty in production and with a real phone network."""
    boxed = settings.environment == "development" and settings.twilio.api_url
    return f"{settings.twilio.api_url.rstrip('/')}/simulator/messages" if boxed else ""


def policy(*, cards: bool) -> str:
    """The content security policy. With `cards`, the card processor's script, frames and API are let in."""
    rules = {
        "default-src": "'self'",
        "script-src": f"'self' {STRIPE}" if cards else "'self'",
        "style-src": "'self'",
        "img-src": "'self'",
        "media-src": "'self' blob:",
        "connect-src": "'self' https://api.stripe.com" if cards else "'self'",
        "frame-src": f"{STRIPE} https://hooks.stripe.com" if cards else "'none'",
        "object-src": "'none'",
        "base-uri": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def headers(content_policy: str) -> dict[str, str]:
    """What every file of the console is sent with."""
    return {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": content_policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    }
