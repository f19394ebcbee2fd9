"""RFC 9457 problem documents: the one shape in which HTTP errors leave the server.

A problem's kind is stable, so a client may act on it and a page may translate it. Each resource module registers its
own kinds, and how errors of the layers below become them, when it is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import asyncpg
import msgspec
import structlog
from aiohttp import web

from actors.runtime import ActorError
from infra.cursors import CursorUnreadable
from infra.database.call_records import CarrierSidTaken, IllegalTransition, StaleEpoch, UnknownCall
from infra.database.pool import SERVER_AWAY
from infra.telephony.carrier import CarrierBusy, CarrierDown, CarrierRefused

log = structlog.get_logger()
BASE = "https://ringdown.dev/problems/"
MEDIA_TYPE = "application/problem+json"
E_co = TypeVar("E_co", bound=Exception)

# kind: (status, title)
PROBLEMS: dict[str, tuple[int, str]] = {
    "malformed-request": (400, "The request is malformed"),
    "malformed-json": (400, "The body is no JSON"),
    "token-in-address": (400, "A token has no place in an address"),
    "not-authorised": (401, "Who are you?"),
    "csrf-missing": (403, "The request lacks its CSRF token"),
    "foreign-origin": (403, "Pages of this origin may not ask"),
    "operators-only": (403, "Only operators may do this"),
    "scope-missing": (403, "This token may not do that"),
    "signature-invalid": (403, "The signature is wrong"),
    "ticket-invalid": (403, "The media ticket is invalid"),
    "not-found": (404, "There is nothing here"),
    "call-not-found": (404, "There is no such call"),
    "no-recording": (404, "There is no recording"),
    "method-not-allowed": (405, "That cannot be done here"),
    "call-state": (409, "The call has moved on"),
    "idempotency-running": (409, "The first request of this key is still running"),
    "body-too-large": (413, "The body is too large"),
    "not-json": (415, "The body must be JSON"),
    "invalid-field": (422, "A field is not as it must be"),
    "invalid-cursor": (422, "The cursor is none of ours"),
    "idempotency-key-invalid": (422, "The idempotency key is malformed"),
    "idempotency-key-reused": (422, "The idempotency key was used for another request"),
    "unknown-persona": (422, "There is no such persona"),
    "carrier-refused": (422, "The carrier refused the call"),
    "too-many-requests": (429, "Too many requests"),
    "internal": (500, "Something went wrong on our side"),
    "carrier-down": (502, "The carrier cannot be reached"),
    "carrier-busy": (503, "The carrier asks us to slow down"),
    "no-capacity": (503, "No call can be taken now"),
    "node-busy": (503, "The node does not answer just now"),
    "database-down": (503, "The database cannot be reached"),
}
_translations: dict[type[Exception], Callable[[Any], Problem]] = {}


class Problem(Exception):
    """A request that cannot be answered as asked.

    Args:
        kind: a key of `PROBLEMS`; the stable last part of the problem's `type`.
        detail: what happened and what to do next, for a person.
        headers: further response headers, such as Retry-After.
        more: further members of the document that a program needs, such as `{"field": "name"}`.

    Raises:
        LookupError: the kind is not registered; call `problem_kinds` in the module that raises it.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        if kind not in PROBLEMS:
            raise LookupError(f"There is no problem kind {kind}: register it with problem_kinds().")
        self.status, self.title = PROBLEMS[kind]
        self.kind, self.detail, self.headers, self.more = kind, detail, headers, more or {}

    def document(self) -> dict[str, Any]:
        """What the client reads."""
        own = {"type": BASE + self.kind, "title": self.title, "status": self.status, "detail": self.detail}
        return {**self.more, **own}

    def response(self) -> web.Response:
        body = msgspec.json.encode(self.document())
        return web.Response(status=self.status, body=body, content_type=MEDIA_TYPE, headers=self.headers)


def problem_kinds(kinds: Mapping[str, tuple[int, str]]) -> None:
    """Register a module's own kinds: `problem_kinds({"card-declined": (402, "The card was declined")})`.

    Raises:
        ValueError: the kind stands in the catalogue already, as something else.
    """
    for kind, told in kinds.items():
        if PROBLEMS.setdefault(kind, told) != told:
            raise ValueError(f"The problem kind {kind} is {PROBLEMS[kind]} already; choose another name.")


def translate(kind: type[E_co], into: Callable[[E_co], Problem]) -> None:
    """Say which problem an error of a lower layer becomes at the edge; the closest class of an error decides."""
    _translations[kind] = into


def problem_of(error: Exception) -> Problem:
    """The problem that an exception of ours becomes at the edge; anything unknown tells nothing internal."""
    for kind in type(error).__mro__:
        if kind in _translations:
            return _translations[kind](error)
    match error:
        case Problem():
            return error
        case UnknownCall():
            return Problem("call-not-found", "There is no such call. GET /v1/calls lists yours.")
        case IllegalTransition() | StaleEpoch() | CarrierSidTaken():
            return Problem("call-state", "The call is no longer in a state that allows this. Read it again.")
        case CursorUnreadable():
            return Problem("invalid-cursor", "Begin again without `after`, or send `next` of an answer as it was.")
        case CarrierBusy():
            retry = {"Retry-After": str(round(error.retry_after or 1))}
            return Problem("carrier-busy", "The carrier asks us to slow down. Try again shortly.", retry)
        case CarrierRefused():
            return Problem("carrier-refused", f"The carrier refused the call: {error}.")
        case CarrierDown():
            return Problem("carrier-down", "The carrier cannot be reached. Try again shortly.", {"Retry-After": "5"})
        case ActorError():
            return Problem("node-busy", "The node does not answer just now. Try again.", {"Retry-After": "1"})
        case _ if isinstance(error, SERVER_AWAY):
            return Problem("database-down", "The database cannot be reached. Try again.", {"Retry-After": "2"})
        case web.HTTPException():
            return _of_http(error)
        case asyncpg.DataError():  # a value that no check of ours refused; the check is missing, the client is told
            log.error("unchecked_value", exc_info=error)
            return Problem("invalid-field", "A value is out of the range that can be kept. Send a smaller one.")
    log.exception("unexpected_error", exc_info=error)
    return Problem("internal", "Something went wrong on our side. It has been logged.")


def _of_http(error: web.HTTPException) -> Problem:
    """The problem that an exception of aiohttp's becomes; its own words name nothing that a client could use."""
    match error:
        case web.HTTPRequestEntityTooLarge():
            return Problem("body-too-large", "The body is larger than this server takes. Send less.")
        case web.HTTPMethodNotAllowed():
            allowed = ", ".join(sorted(error.allowed_methods))
            detail = f"{error.method} is not possible here. Possible: {allowed}."
            return Problem("method-not-allowed", detail, {"Allow": allowed})
        case web.HTTPNotFound() if error.text == f"404: {error.reason}":
            return Problem("not-found", "There is nothing at this address. GET /reference shows what there is.")
        case web.HTTPForbidden():
            return Problem("signature-invalid", error.text or error.reason)
    kind = error.reason.lower().replace(" ", "-")
    PROBLEMS.setdefault(kind, (error.status, error.reason))
    kept = {name: value for name, value in error.headers.items() if name == "Retry-After"}
    return Problem(kind, error.text or error.reason, kept)


@web.middleware
async def problems(request: web.Request, handler: Any) -> web.StreamResponse:
    """Answer every error as a problem document."""
    try:
        response: web.StreamResponse = await handler(request)
        return response
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return problem_of(error).response()
    except Exception as error:
        return problem_of(error).response()
