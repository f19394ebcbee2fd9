"""A user's calls as they are shown: what of a row its owner sees, in plain."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from actors.placing import FROM_NUMBER, TO_NUMBER
from actors.words import Words
from infra.database.call_records import Turn
from infra.database.owned_calls import OwnedCall
from infra.vault import Vault, VaultError
from transports.http.call_messages import message_of


class PersonaOfCall(msgspec.Struct, frozen=True):
    """Who speaks. `name` is null once the persona is gone."""

    id: str
    name: str | None


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """A call. `cost_usd_micros` is what it cost, null until that is settled; `message` says what became of it."""

    id: str
    state: str
    ended_reason: str | None
    persona: PersonaOfCall
    number: str | None
    direction: str
    scheduled_id: str | None
    created_at: dt.datetime
    answered_at: dt.datetime | None
    ended_at: dt.datetime | None
    duration_seconds: int | None
    cost_usd_micros: int | None
    hold_usd_micros: int | None
    max_minutes: int | None
    recording: bool
    transcript: bool
    message: str


class TurnView(msgspec.Struct, frozen=True, kw_only=True):
    """What one side said: of the persona what was heard of it. `timings` are in ms, with what was `recalled`."""

    number: int
    who: str
    text: str
    at: dt.datetime
    done: bool
    timings: dict[str, Any]


async def view(vault: Vault, call: OwnedCall) -> CallView:
    """The call as its owner sees it."""
    seconds = call.connected_seconds
    return CallView(
        id=call.id,
        state=call.state,
        ended_reason=call.ended_reason,
        persona=PersonaOfCall(call.persona_id or call.persona, call.persona_name),
        number=await number(vault, call),
        direction=call.direction,
        scheduled_id=call.scheduled_id,
        created_at=call.created_at,
        answered_at=call.answered_at,
        ended_at=call.ended_at,
        duration_seconds=None if seconds is None else round(seconds),
        cost_usd_micros=(call.paid_usd_micros or 0) if call.settled_at is not None else None,
        hold_usd_micros=call.held_usd_micros,
        max_minutes=call.max_minutes,
        recording=bool(call.recording_path and call.recording_consent),
        transcript=has_transcript(call),
        message=message_of(call),
    )


def has_transcript(call: OwnedCall) -> bool:
    """Whether what was said can be read: while the call lasts, and afterwards if its owner agreed to that."""
    return call.turns > 0 and (call.archived_at is None or call.transcript_consent)


async def number(vault: Vault, call: OwnedCall) -> str | None:
    """The number of the person on the line; masked where it cannot be read."""
    inbound = call.direction == "inbound"
    sealed, place = (call.from_number, FROM_NUMBER) if inbound else (call.to_number, TO_NUMBER)
    try:
        return await vault.unseal(call.owner or "", sealed, place)
    except VaultError:
        return call.masked


async def turn_views(vault: Vault, owner: str, turns: tuple[Turn, ...]) -> list[TurnView]:
    """Turns in plain."""
    return [
        TurnView(
            number=turn.number,
            who=turn.who,
            text=turn.text if turn.who == "caller" else turn.spoken,
            at=turn.at,
            done=turn.done,
            timings=turn.timings,
        )
        for turn in await Words(vault, owner).read(turns)
    ]
