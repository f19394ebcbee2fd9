"""Calls as a user's resource: have yourself called now, hang up, read the history, follow one while it lasts."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from actors.placing import NotPlaced
from infra.cursors import key_of
from infra.database.call_states import State
from infra.database.owned_calls import Filters, OwnedCall
from infra.vault import VaultError
from scheduler.settling import SEALED, play
from transports.http.api import Ask, Page, PageQuery, Reply, operation, page
from transports.http.call_stream import stream
from transports.http.call_views import CallView, TurnView, has_transcript, turn_views, view
from transports.http.problems import PROBLEMS, Problem, problem_kinds, translate
from transports.http.refusals import AT_ANY_DIAL

problem_kinds(
    {
        "card-declined": (402, "The card was declined"),
        "card-needs-action": (402, "The bank wants the card to be confirmed"),
        "payments-down": (503, "Payments do not answer just now"),
        "number-unreadable": (409, "The number cannot be read any more"),
        "no-transcript": (404, "There is no transcript"),
    }
)
PLACING = (
    *AT_ANY_DIAL, "unknown-persona", "card-declined", "card-needs-action", "payments-down", "no-capacity",
    "carrier-refused", "carrier-busy", "carrier-down", "number-unreadable", "node-busy",
)  # fmt: skip
DEFAULT_MINUTES = 15
UNDIALED = frozenset({State.CREATED, State.AUTHORISING})
Id = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,19}_[0-9a-f]{32}$", description="an id of ours")]


class NewCall(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A call to yourself. Without a persona the first of your contacts calls, without a number your first one rings."""

    persona: Id | None = None
    number: Id | None = None
    max_minutes: Annotated[int, Meta(ge=1, le=60, description="what they cost is set aside")] = DEFAULT_MINUTES
    outside_hours: Annotated[bool, Meta(description="you want this call although it is early or late")] = False


class CallQuery(PageQuery, forbid_unknown_fields=True, kw_only=True):
    """Which calls."""

    persona: Id | None = None
    state: State | None = None
    since: Annotated[dt.datetime, Meta(tz=True)] | None = msgspec.field(name="from", default=None)
    until: Annotated[dt.datetime, Meta(tz=True)] | None = msgspec.field(name="to", default=None)
    scheduled: Annotated[bool, Meta(description="booked ones only, or immediate ones only")] | None = None


@operation(
    "POST", "/v1/calls", status=201, answers=CallView, refuses=PLACING, limit="calls", idempotent=True, example={}
)
async def create_call(ask: Ask, body: NewCall) -> Reply[CallView]:
    """Be called now; the call is dialing, and its highest price is set aside on your card."""
    owner = ask.user.user_id
    call = await ask.services.placing.now(
        owner, body.persona, body.number, body.max_minutes, outside_hours=body.outside_hours
    )
    found = await mine(ask, call.id)
    return Reply(await view(ask.services.vault, found), headers={"Location": f"/v1/calls/{call.id}"})


@operation("GET", "/v1/calls", answers=Page[CallView])
async def list_calls(ask: Ask, query: CallQuery) -> Page[CallView]:
    """Your calls, the newest first; those that are booked for later are under /v1/scheduled-calls."""
    after = None
    if query.after is not None:
        at, last = key_of(query.after, dt.datetime, str)
        assert isinstance(at, dt.datetime)
        after = (at, str(last))
    wanted = Filters(
        persona_id=query.persona,
        state=query.state,
        since=query.since,
        until=query.until,
        scheduled=query.scheduled,
    )
    rows = await ask.services.history.history(ask.user.user_id, wanted, query.limit + 1, after)
    views = {row.id: await view(ask.services.vault, row) for row in rows[: query.limit]}
    return page(rows, query.limit, lambda row: (row.created_at, row.id), lambda row: views[row.id])


@operation("GET", "/v1/calls/{call}", answers=CallView, refuses=("call-not-found",))
async def read_call(ask: Ask, call: str) -> CallView:
    """One of your calls."""
    return await view(ask.services.vault, await mine(ask, call))


@operation(
    "DELETE",
    "/v1/calls/{call}",
    status=202,
    refuses=("call-not-found", "carrier-down", "carrier-busy", "carrier-refused", "node-busy"),
)
async def end_call(ask: Ask, call: str) -> None:
    """Hang up, or call off a call that has not rung yet; its state tells when it has ended."""
    found = await mine(ask, call)
    if found.state in UNDIALED and found.carrier_sid is None and (await ask.services.placing.abandon(call, "api")).over:
        return
    await ask.services.switchboard.hang_up(call, "api")


@operation("GET", "/v1/calls/{call}/transcript", answers=Page[TurnView], refuses=("call-not-found", "no-transcript"))
async def read_transcript(ask: Ask, call: str) -> Page[TurnView]:
    """What was said: during the call, and afterwards if you agreed to transcripts."""
    found = await mine(ask, call)
    if found.archived_at is not None and not has_transcript(found):
        raise Problem("no-transcript", "Nothing of this call was kept: you had not agreed to transcripts.")
    owner = ask.user.user_id
    turns = await ask.services.history.own_turns(owner, call)
    return Page(await turn_views(ask.services.vault, owner, turns))


@operation("GET", "/v1/calls/{call}/recording", media="audio/wav", refuses=("call-not-found", "no-recording"))
async def read_recording(ask: Ask, call: str) -> web.StreamResponse:
    """The recording, you on the left and the persona on the right, if you agreed to it in the call."""
    found = await mine(ask, call)
    path = Path(found.recording_path) if found.recording_path and found.recording_consent else None
    if path is None or not path.is_file():
        raise Problem("no-recording", "This call has no recording: you did not agree to one, or it has expired.")
    headers = {"Cache-Control": "no-store"}
    if path.suffix != SEALED:  # the call has only just ended
        return web.FileResponse(path, headers=headers | {"Content-Type": "audio/wav"})
    try:
        sound = await play(ask.services.vault, ask.user.user_id, path)
    except (VaultError, OSError) as error:
        raise Problem("no-recording", "This recording cannot be read any more.") from error
    return web.Response(body=sound, content_type="audio/wav", headers=headers)


@operation("GET", "/v1/calls/{call}/events", media="text/event-stream", refuses=("call-not-found",))
async def watch_call(ask: Ask, call: str) -> web.StreamResponse:
    """Server-sent events of one call: `state` (the call), `turn` (what is said), `meter` (seconds and cost so far)."""
    return await stream(ask, await mine(ask, call))


async def mine(ask: Ask, call: str) -> OwnedCall:
    """One of the asker's calls.

    Raises:
        Problem: there is none of this id, or it is somebody else's, which nobody can tell apart.
    """
    found = await ask.services.history.own(ask.user.user_id, call)
    if found is None:
        raise Problem("call-not-found", "There is no such call. GET /v1/calls lists yours.")
    return found


def not_placed(error: NotPlaced) -> Problem:
    """What the client is told when nobody was dialled."""
    kind = error.kind if error.kind in PROBLEMS else "gate-down"
    headers = {"Retry-After": str(max(1, error.retry_after))} if error.again else None
    return Problem(kind, str(error), headers)


translate(NotPlaced, not_placed)
