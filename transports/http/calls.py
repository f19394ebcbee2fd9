"""Calls as a REST resource: place, read, list, hang up, and the recording."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from aiohttp import web

from infra.database.call_records import Call
from infra.database.calls import CallStore
from transports.http.problems import Problem, read_json
from transports.switchboard import Switchboard

STORE: web.AppKey[CallStore] = web.AppKey("store", CallStore)
SWITCHBOARD: web.AppKey[Switchboard] = web.AppKey("switchboard", Switchboard)
ID = re.compile(r"^call_[0-9a-f]{32}$")
PAGE = 50


class NewCall(msgspec.Struct, forbid_unknown_fields=True):
    """What a client sends to have a number called."""

    to: Annotated[str, msgspec.Meta(pattern=r"^\+[1-9][0-9]{6,14}$")]
    persona: Annotated[str, msgspec.Meta(min_length=1, max_length=60)] | None = None


new_call = msgspec.json.Decoder(NewCall)


def call_view(call: Call) -> dict[str, Any]:
    """What the outside sees of a call."""
    fields = (
        "id", "direction", "state", "ended_reason", "persona", "from_number", "to_number", "carrier_sid",
        "node", "host", "epoch", "created_at", "answered_at", "ended_at",
    )  # fmt: skip
    return {name: getattr(call, name) for name in fields} | {"recording": bool(call.recording_path)}


def call_id(request: web.Request) -> str:
    """The call id in the path; a malformed one is simply not found."""
    found = request.match_info["call"]
    if not ID.match(found):
        raise Problem(404, "call-not-found", "There is no such call. GET /v1/calls lists the recent ones.")
    return found


async def list_calls(request: web.Request) -> web.Response:
    """GET /v1/calls: the live calls and the most recent ended ones, newest first."""
    calls = await request.app[STORE].recent(PAGE)
    return reply({"calls": [call_view(call) for call in calls]})


async def read_call(request: web.Request) -> web.Response:
    """GET /v1/calls/{call}: one call with its turns and events."""
    store, wanted = request.app[STORE], call_id(request)
    call = await store.get(wanted)
    turns, events = await store.turns(wanted), await store.events(wanted)
    return reply({"call": call_view(call), "turns": turns, "events": events})


async def place_call(request: web.Request) -> web.Response:
    """POST /v1/calls: have a number called now. 201 with the call, which is dialing."""
    wanted: NewCall = await read_json(request, new_call)
    call = await request.app[SWITCHBOARD].place(wanted.to, wanted.persona)
    response = reply({"call": call_view(call)}, status=201)
    response.headers["Location"] = f"/v1/calls/{call.id}"
    return response


async def hang_up(request: web.Request) -> web.Response:
    """DELETE /v1/calls/{call}: end a call. 202; the call's state tells when it has ended."""
    await request.app[SWITCHBOARD].hang_up(call_id(request), "api")
    return web.Response(status=202)


async def recording(request: web.Request) -> web.StreamResponse:
    """GET /v1/calls/{call}/recording: two channels, caller left and bot right, if consent was given."""
    call = await request.app[STORE].get(call_id(request))
    path = request.app[SWITCHBOARD].recording_of(call)
    if path is None:
        raise Problem(404, "no-recording", "This call has no recording: consent was not given, or it has expired.")
    return web.FileResponse(path, headers={"Content-Type": "audio/wav"})


def reply(document: dict[str, Any], status: int = 200) -> web.Response:
    """A JSON response."""
    body = msgspec.json.encode(document)
    return web.Response(body=body, status=status, content_type="application/json")


def routes() -> list[web.RouteDef]:
    return [
        web.get("/v1/calls", list_calls),
        web.post("/v1/calls", place_call),
        web.get("/v1/calls/{call}", read_call),
        web.delete("/v1/calls/{call}", hang_up),
        web.get("/v1/calls/{call}/recording", recording),
    ]
