"""Personas and voices as resources: those of the system, which everybody may call and copy, and one's own."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from bots.personas.guard import judge
from bots.voices import UnknownVoiceError, VoiceCard, VoicesAway
from infra.cursors import key_of
from infra.database.personas import (
    NONE,
    PersonaChange,
    PersonaLimit,
    PersonaRow,
    PersonaText,
    SystemPersona,
    UnknownPersona,
)
from transports.http.api import Ask, Page, PageQuery, Reply, operation, page
from transports.http.problems import Problem, problem_kinds, translate

problem_kinds(
    {
        "persona-not-found": (404, "There is no such persona"),
        "voice-not-found": (404, "There is no such voice"),
        "system-persona": (403, "The persona belongs to everybody"),
        "persona-limit": (409, "There are too many personas"),
        "persona-refused": (422, "The persona breaks a rule of the house"),
        "unknown-voice": (422, "There is no such voice to choose"),
        "voices-away": (503, "Voices cannot be checked now"),
    }
)
translate(
    UnknownPersona,
    lambda _: Problem("persona-not-found", "There is no persona of this id. GET /v1/personas lists those you may use."),
)
translate(SystemPersona, lambda error: Problem("system-persona", str(error)))
translate(PersonaLimit, lambda error: Problem("persona-limit", str(error)))
translate(UnknownVoiceError, lambda error: Problem("unknown-voice", str(error), more={"field": "voice"}))
translate(VoicesAway, lambda _: Problem("voices-away", f"{VoicesAway.__doc__}", {"Retry-After": "60"}))

Name = Annotated[
    str, Meta(min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]*[^\x00-\x20\x7f][^\x00-\x1f\x7f]*$")
]
Description = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00]*$")]
Prompt = Annotated[str, Meta(min_length=1, max_length=4000, pattern=r"^[^\x00]*$")]
Voice = Annotated[str, Meta(max_length=80, pattern=r"^([a-z]+:[A-Za-z0-9+_-]+)?$", description="of GET /v1/voices")]
Language = Annotated[str, Meta(max_length=20, pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Minutes = Annotated[int, Meta(ge=1, le=60)]
WRITES = ("persona-refused", "unknown-voice", "voices-away")
EXAMPLE = {
    "name": "Captain Ada",
    "description": "A retired sailor who tells of the sea.",
    "prompt": "You are Ada, a retired sailor. Tell short stories of the sea, and ask what I did today.",
    "voice": "house:mia",
}


class NewPersona(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A persona as you want it. Without a voice it speaks with the server's own."""

    name: Name
    prompt: Prompt
    description: Description = ""
    voice: Voice = ""
    language: Language = "en-us"
    max_minutes: Minutes = 15


class PersonaPatch(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What is to be different; fields that are not sent stay."""

    name: Name | None = None
    prompt: Prompt | None = None
    description: Description | None = None
    voice: Voice | None = None
    language: Language | None = None
    max_minutes: Minutes | None = None


class PersonaView(msgspec.Struct, frozen=True, kw_only=True):
    """A persona. `prompt` is null for those of the system. The flag `voice-withdrawn`: its voice can no longer be had,
    and calls speak with the server's own."""

    id: str
    name: str
    description: str
    voice: str
    language: str
    prompt: str | None
    system: bool
    max_minutes: int
    flags: list[str]
    created_at: dt.datetime
    changed_at: dt.datetime


def persona_view(row: PersonaRow) -> PersonaView:
    """A persona as whoever may call it sees it."""
    return PersonaView(
        id=row.id,
        name=row.name,
        description=row.description,
        voice=row.voice,
        language=row.language,
        prompt=None if row.owner is None else row.prompt,
        system=row.owner is None,
        max_minutes=row.max_minutes,
        flags=["voice-withdrawn"] if row.voice_withdrawn_at is not None else [],
        created_at=row.created_at,
        changed_at=row.changed_at,
    )


@operation("GET", "/v1/personas", answers=Page[PersonaView])
async def list_personas(ask: Ask, query: PageQuery) -> Page[PersonaView]:
    """List the personas you may call: your own in the order you made them, then those of the system."""
    after = NONE if query.after is None else _place(query.after)
    rows = await ask.services.personas.page(ask.user.user_id, query.limit + 1, after)
    return page(rows, query.limit, lambda row: row.rank, persona_view)


@operation(
    "POST", "/v1/personas", status=201, answers=PersonaView, refuses=("persona-limit", *WRITES), idempotent=True,
    example=EXAMPLE,
)  # fmt: skip
async def create_persona(ask: Ask, body: NewPersona) -> Reply[PersonaView]:
    """Make a persona of your own, up to 50.

    It says that it is an AI before anything else, whatever its prompt asks for; it may not pose as somebody who exists
    or holds an office, and cannot change the rules of the house.
    """
    await _pass_guard(body.name, body.description, body.prompt)
    await _check_voice(ask, body.voice)
    text = PersonaText(
        name=body.name.strip(), prompt=body.prompt, description=body.description.strip(), voice=body.voice,
        language=body.language, max_minutes=body.max_minutes,
    )  # fmt: skip
    return _created(await ask.services.personas.create(ask.user.user_id, text))


@operation("GET", "/v1/personas/{persona}", answers=PersonaView, refuses=("persona-not-found",))
async def read_persona(ask: Ask, persona: str) -> PersonaView:
    """Read a persona."""
    return persona_view(await ask.services.personas.get(ask.user.user_id, persona))


@operation(
    "PATCH",
    "/v1/personas/{persona}",
    answers=PersonaView,
    refuses=("persona-not-found", "system-persona", *WRITES),
    example={"description": "A retired sailor with many stories."},
)
async def change_persona(ask: Ask, persona: str, body: PersonaPatch) -> PersonaView:
    """Change a persona of your own. Calls that are going on keep what they began with."""
    owner, personas = ask.user.user_id, ask.services.personas
    now = await personas.get(owner, persona)
    if now.owner is not None:
        await _pass_guard(
            now.name if body.name is None else body.name,
            now.description if body.description is None else body.description,
            now.prompt if body.prompt is None else body.prompt,
        )
        if body.voice is not None and body.voice != now.voice:
            await _check_voice(ask, body.voice)
    change = PersonaChange(
        name=None if body.name is None else body.name.strip(),
        prompt=body.prompt,
        description=None if body.description is None else body.description.strip(),
        voice=None if body.voice == now.voice else body.voice,
        language=body.language,
        max_minutes=body.max_minutes,
    )
    return persona_view(await personas.change(owner, persona, change))


@operation("DELETE", "/v1/personas/{persona}", status=204, refuses=("persona-not-found", "system-persona"))
async def remove_persona(ask: Ask, persona: str) -> Reply[None]:
    """Delete a persona of your own, and its contact. Past calls keep its name."""
    await ask.services.personas.remove(ask.user.user_id, persona)
    return Reply()


@operation(
    "POST",
    "/v1/personas/{persona}/copy",
    status=201,
    answers=PersonaView,
    refuses=("persona-not-found", "persona-limit"),
    idempotent=True,
)
async def copy_persona(ask: Ask, persona: str) -> Reply[PersonaView]:
    """Make a persona of your own out of another, to change it as you like."""
    owner, personas = ask.user.user_id, ask.services.personas
    found = await personas.get(owner, persona)
    text = PersonaText(
        name=found.name, prompt=found.prompt, description=found.description, voice=found.voice,
        language=found.language, max_minutes=found.max_minutes,
    )  # fmt: skip
    return _created(await personas.create(owner, text))


@operation("GET", "/v1/voices", answers=Page[VoiceCard], refuses=("voices-away",))
async def list_voices(ask: Ask, query: PageQuery) -> Page[VoiceCard]:
    """List the voices that a persona may have."""
    cards = await ask.services.voices.available()
    first = 0 if query.after is None else _count(query.after)
    rows = list(enumerate(cards, 1))[first : first + query.limit + 1]
    return page(rows, query.limit, lambda row: (row[0],), lambda row: row[1])


@operation(
    "GET",
    "/v1/voices/{voice}/preview",
    media="audio/mpeg",
    limit="write",
    refuses=("voice-not-found", "voices-away"),
    paths={"voice": r"[a-z]{1,20}:[A-Za-z0-9+_-]{1,60}"},
)
async def preview_voice(ask: Ask, voice: str) -> web.Response:
    """Hear a few seconds of a provider's voice."""
    try:
        sound = await ask.services.voices.preview(voice)
    except UnknownVoiceError as error:
        raise Problem("voice-not-found", str(error)) from error
    return web.Response(body=sound, content_type="audio/mpeg")


async def _pass_guard(name: str, description: str, prompt: str) -> None:
    refusal = await asyncio.to_thread(judge, name, description, prompt)
    if refusal is not None:
        raise Problem("persona-refused", refusal.sentence, more={"field": refusal.field, "rule": refusal.kind})


async def _check_voice(ask: Ask, voice: str) -> None:
    if voice:
        await ask.services.voices.check(voice)


def _created(row: PersonaRow) -> Reply[PersonaView]:
    return Reply(persona_view(row), headers={"Location": f"/v1/personas/{row.id}"})


def _place(after: str) -> tuple[int, str]:
    rank, persona_id = key_of(after, int, str)
    assert isinstance(rank, int)
    assert isinstance(persona_id, str)
    return min(max(rank, -1), 1), persona_id


def _count(after: str) -> int:
    (count,) = key_of(after, int)
    assert isinstance(count, int)
    return max(count, 0)
