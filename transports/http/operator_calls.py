"""The operator's resource: every call of the server, its recording, what changes now, what the node is made of."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import msgspec
from aiohttp import web

from infra.database.call_records import Call
from transports.http.api import Ask, Reply, operation
from transports.http.problems import Problem

PAGE = 50


class Dial(msgspec.Struct, forbid_unknown_fields=True):
    """What an operator sends to have a number called."""

    to: Annotated[str, msgspec.Meta(pattern=r"^\+[1-9][0-9]{6,14}\Z", description="E.164", examples=["+15550177001"])]
    persona: Annotated[str, msgspec.Meta(min_length=1, max_length=60, examples=["mia"])] | None = None


class OperatorCall(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator sees of a call."""

    id: str
    direction: str
    state: str
    ended_reason: str | None
    persona: str
    from_number: str
    to_number: str
    carrier_sid: str | None
    node: str | None
    host: str | None
    epoch: int
    created_at: dt.datetime
    answered_at: dt.datetime | None
    ended_at: dt.datetime | None
    recording: bool


class OperatorTurn(msgspec.Struct, frozen=True, kw_only=True):
    """What one side said, with its timings in ms."""

    number: int
    epoch: int
    who: str
    text: str
    spoken: str
    done: bool
    timings: dict[str, Any]
    at: dt.datetime


class OperatorEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a call."""

    seq: int
    epoch: int
    at: dt.datetime
    kind: str
    data: dict[str, Any]


class OperatorCalls(msgspec.Struct, frozen=True):
    """The newest calls."""

    calls: list[OperatorCall]


class PlacedCall(msgspec.Struct, frozen=True):
    """A call that is dialing."""

    call: OperatorCall


class WholeCall(msgspec.Struct, frozen=True):
    """A call with all that was said and all that happened."""

    call: OperatorCall
    turns: list[OperatorTurn]
    events: list[OperatorEvent]


class NodePart(msgspec.Struct, frozen=True):
    """A part of the node: what does the work, and whether it only stands in for the real thing."""

    name: str
    engine: str
    stand_in: bool


class NodeParts(msgspec.Struct, frozen=True):
    """Every part of the node."""

    parts: list[NodePart]


def call_view(call: Call) -> OperatorCall:
    """What the operator sees of a call."""
    shown = {name: getattr(call, name) for name in OperatorCall.__struct_fields__ if name != "recording"}
    return OperatorCall(**shown, recording=bool(call.recording_path))


async def note_access(ask: Ask, call: Call, action: str) -> None:
    """Staff who look at a user's call leave a row in the audit (COM-54)."""
    if call.owner is not None:
        actor = ask.user.user_id or "operator"
        await ask.services.identity.audit.note(actor, action, call.owner, {"call": call.id})


@operation("GET", "/v1/operator/calls", who="operator", answers=OperatorCalls)
async def list_operator_calls(ask: Ask) -> OperatorCalls:
    """The live calls and the most recent ended ones, newest first."""
    return OperatorCalls([call_view(call) for call in await ask.services.store.recent(PAGE)])


@operation(
    "POST",
    "/v1/operator/calls",
    who="operator",
    status=201,
    answers=PlacedCall,
    refuses=(
        "unknown-persona",
        "carrier-refused",
        "carrier-down",
        "carrier-busy",
        "no-capacity",
        "node-busy",
        "call-state",
    ),
    limit="calls",
)
async def place_operator_call(ask: Ask, body: Dial) -> Reply[PlacedCall]:
    """Have a number called now; the call is dialing."""
    call = await ask.services.switchboard.place(body.to, body.persona)
    return Reply(PlacedCall(call_view(call)), headers={"Location": f"/v1/operator/calls/{call.id}"})


@operation("GET", "/v1/operator/calls/{call}", who="operator", answers=WholeCall, refuses=("call-not-found",))
async def read_operator_call(ask: Ask, call: str) -> WholeCall:
    """One call with its turns and events."""
    store = ask.services.store
    found = await store.get(call)
    await note_access(ask, found, "call.read")
    turns, events = await store.turns(call), await store.events(call)
    return WholeCall(
        call_view(found),
        [msgspec.convert(turn, OperatorTurn, from_attributes=True) for turn in turns],
        [msgspec.convert(event, OperatorEvent, from_attributes=True) for event in events],
    )


@operation(
    "DELETE",
    "/v1/operator/calls/{call}",
    who="operator",
    status=202,
    refuses=("call-not-found", "carrier-down", "carrier-busy", "carrier-refused", "node-busy"),
)
async def end_operator_call(ask: Ask, call: str) -> None:
    """End a call; its state tells when it has ended."""
    await ask.services.switchboard.hang_up(call, "api")


@operation(
    "GET",
    "/v1/operator/calls/{call}/recording",
    who="operator",
    media="audio/wav",
    refuses=("call-not-found", "no-recording"),
)
async def read_operator_recording(ask: Ask, call: str) -> web.StreamResponse:
    """The recording, caller left and bot right, if the person agreed to it."""
    found = await ask.services.store.get(call)
    await note_access(ask, found, "recording.read")
    path = ask.services.switchboard.recording_of(found)
    if path is None:
        raise Problem("no-recording", "This call has no recording: consent was not given, or it has expired.")
    return web.FileResponse(path, headers={"Content-Type": "audio/wav"})


@operation("GET", "/v1/operator/events", who="operator", media="text/event-stream")
async def watch_operator_events(ask: Ask) -> web.StreamResponse:
    """Server-sent events: `event: call`, `data: {"call": id, "kind": what}` for each change of any call."""
    return await ask.services.announcements.stream(ask.request)


@operation("GET", "/v1/operator/parts", who="operator", answers=NodeParts)
async def list_operator_parts(ask: Ask) -> NodeParts:
    """What the node is made of, and which of it are stand-ins; addresses stay inside."""
    return NodeParts([NodePart(part.name, part.engine, part.stand_in) for part in ask.services.parts])
