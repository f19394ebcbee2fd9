"""RFC 9457 problem documents: the one shape in which HTTP errors leave the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import structlog
from aiohttp import web

from actors.runtime import ActorError
from infra.database.call_records import CarrierSidTaken, IllegalTransition, StaleEpoch, UnknownCall
from infra.database.pool import SERVER_AWAY
from infra.telephony.carrier import CarrierBusy, CarrierDown, CarrierRefused

log = structlog.get_logger()
BASE = "https://ringdown.dev/problems/"


class Problem(Exception):
    """A request that cannot be answered as asked.

    Args:
        status: the HTTP status.
        kind: the stable last part of the problem's `type`.
        detail: what happened and what to do next, for a person.
        headers: further response headers, such as Retry-After.
    """

    def __init__(self, status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail, self.headers = status, kind, detail, headers

    def response(self) -> web.Response:
        title = self.kind.replace("-", " ").capitalize()
        document = {"type": BASE + self.kind, "title": title, "status": self.status, "detail": self.detail}
        return web.Response(
            status=self.status,
            body=msgspec.json.encode(document),
            content_type="application/problem+json",
            headers=self.headers,
        )


def problem_of(error: Exception) -> Problem:
    """The problem that an exception of ours becomes at the edge; anything unknown tells nothing internal."""
    match error:
        case Problem():
            return error
        case UnknownCall():
            return Problem(404, "call-not-found", "There is no such call. GET /v1/calls lists the recent ones.")
        case IllegalTransition() | StaleEpoch() | CarrierSidTaken():
            return Problem(409, "call-state", "The call is no longer in a state that allows this. Read it again.")
        case CarrierBusy():
            retry = {"Retry-After": str(round(error.retry_after or 1))}
            return Problem(503, "carrier-busy", "The carrier asks us to slow down. Try again shortly.", retry)
        case CarrierRefused():
            return Problem(422, "carrier-refused", f"The carrier refused the call: {error}.")
        case CarrierDown():
            return Problem(
                502, "carrier-down", "The carrier cannot be reached. Try again shortly.", {"Retry-After": "5"}
            )
        case ActorError():
            return Problem(503, "node-busy", "The node does not answer just now. Try again.", {"Retry-After": "1"})
        case _ if isinstance(error, SERVER_AWAY):
            return Problem(503, "database-down", "The database cannot be reached. Try again.", {"Retry-After": "2"})
        case web.HTTPException():
            return Problem(error.status, error.reason.lower().replace(" ", "-"), error.text or error.reason)
    log.exception("unexpected_error", exc_info=error)
    return Problem(500, "internal", "Something went wrong on our side. It has been logged.")


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


async def read_json(request: web.Request, decoder: msgspec.json.Decoder[Any]) -> Any:
    """The request's body, validated.

    Raises:
        Problem: 415 for another media type, 422 with the field and rule that were broken.
    """
    if request.content_type != "application/json":
        raise Problem(415, "not-json", "Send a JSON body with Content-Type: application/json.")
    try:
        return decoder.decode(await request.read())
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid-field", f"{error}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, "malformed-json", f"The body is no valid JSON: {error}.") from error
