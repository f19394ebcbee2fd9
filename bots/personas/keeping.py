"""Personas kept in the database: the system's put there from their files, users' voices looked after."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog

from bots.personas.persona import available, load
from bots.voices import FRESH_SECONDS, VoiceBook, VoicesAway
from infra.database.personas import PersonaStore, PersonaText
from infra.database.pool import SERVER_AWAY

log = structlog.get_logger()


def system_personas() -> tuple[tuple[str, PersonaText], ...]:
    """The personas that everybody may choose: those files that have a description, by name."""
    personas = (load(name) for name in available())
    return tuple(
        (
            persona.name,
            PersonaText(
                name=persona.title,
                prompt=persona.prompt.strip(),
                description=persona.description,
                voice=f"house:{persona.name}",
                language=persona.language,
                max_minutes=persona.max_minutes,
            ),
        )
        for persona in personas
        if persona.description
    )


async def seed(store: PersonaStore) -> int:
    """Put the system's personas into the database; returns how many rows that changed, none when repeated."""
    changed = await store.seed(system_personas())
    if changed:
        log.info("personas_seeded", changed=changed)
    return changed


async def review_voices(store: PersonaStore, book: VoiceBook) -> int:
    """Flag the personas whose voice was withdrawn, and unflag those whose voice is back; returns how many."""
    voices = await store.voices()
    try:
        withdrawn = await book.withdrawn(voices)
    except VoicesAway:
        return 0
    changed = await store.flag_voices(voices, withdrawn)
    if changed:
        log.info("voices_reviewed", personas=changed)
    return changed


@contextlib.asynccontextmanager
async def reviewing(store: PersonaStore, book: VoiceBook, every_s: float = FRESH_SECONDS) -> AsyncIterator[None]:
    """Review voices now and again for the length of the block."""

    async def review() -> None:
        while True:
            try:
                await review_voices(store, book)
            except SERVER_AWAY as error:
                log.warning("voices_not_reviewed", error=repr(error))
            await asyncio.sleep(every_s)

    task = asyncio.create_task(review(), name="voices")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
