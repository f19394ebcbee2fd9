"""Personas in the database: the system's, which everybody may call and copy, and those that users made."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec
from asyncpg import Pool, Record

from infra.database.call_records import Row
from infra.database.queries import load
from infra.ids import new_id
from infra.vault import Vault

LIMIT = 50  # personas of one user
CONTEXT = "personas.prompt"  # what a sealed prompt is sealed for
SNAPSHOT_KEPT = dt.timedelta(days=2)  # no call is that long
VERSION_DIGITS = 9
NONE: tuple[int, str] = (-1, "")  # before every persona of a page

_SQL = load(
    "personas", "page", "get", "lock", "count", "insert", "change", "remove", "take", "taken", "drop_snapshots",
    "seed", "withdraw", "voices", "flag_voices",
)  # fmt: skip


class PersonaRow(Row, frozen=True, kw_only=True):
    """One persona. `owner` is None for the system's, `slug` for a user's; `prompt` is readable here."""

    id: str
    owner: str | None
    slug: str | None
    version: int
    name: str
    description: str
    voice: str
    voice_withdrawn_at: dt.datetime | None
    prompt: str
    language: str
    max_minutes: int
    created_at: dt.datetime
    changed_at: dt.datetime

    @property
    def rank(self) -> tuple[int, str]:
        """Its place in a list: one's own come first."""
        return (1 if self.owner is None else 0, self.id)


class PersonaText(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody writes to make a persona. `voice` is an id of the voice book; empty: the server's own."""

    name: str
    prompt: str
    description: str = ""
    voice: str = ""
    language: str = "en-us"
    max_minutes: int = 15


class PersonaChange(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different; None leaves a field as it is."""

    name: str | None = None
    prompt: str | None = None
    description: str | None = None
    voice: str | None = None
    language: str | None = None
    max_minutes: int | None = None


class UnknownPersona(Exception):
    """There is no such persona, or it is somebody else's."""

    def __init__(self, persona_id: str) -> None:
        super().__init__(f"There is no persona {persona_id}.")
        self.persona_id = persona_id


class SystemPersona(Exception):
    """It is one of the system's and cannot be changed. Copy it and change the copy."""


class PersonaLimit(Exception):
    """The user has as many personas as one may have. Delete one first."""


class PersonaStore:
    """Personas over an asyncpg pool; users' prompts are sealed with their owner's key.

    Whoever asks names the owner, and sees that owner's personas and the system's.
    """

    def __init__(self, pool: Pool, vault: Vault) -> None:
        self._pool, self._vault = pool, vault

    async def page(self, owner: str, limit: int, after: tuple[int, str] = NONE) -> tuple[PersonaRow, ...]:
        """Up to `limit` personas beyond the place `after`: one's own in the order they were made, then the system's."""
        rows = await self._pool.fetch(_SQL.page, owner, *after, limit)
        return tuple([await self.read(row) for row in rows])

    async def get(self, owner: str, persona_id: str) -> PersonaRow:
        """A persona that the owner may call.

        Raises:
            UnknownPersona
        """
        row = await self._pool.fetchrow(_SQL.get, owner, persona_id)
        if row is None:
            raise UnknownPersona(persona_id)
        return await self.read(row)

    async def create(self, owner: str, text: PersonaText) -> PersonaRow:
        """A new persona of the owner's.

        Raises:
            PersonaLimit: the owner has 50.
        """
        sealed = await self._vault.seal(owner, text.prompt, CONTEXT)
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetchval(_SQL.lock, owner)
            if await connection.fetchval(_SQL.count, owner) >= LIMIT:
                raise PersonaLimit(f"You have {LIMIT} personas, which is the limit. Delete one first.")
            values = (text.name, text.description, text.voice, sealed, text.language, text.max_minutes)
            row = await connection.fetchrow(_SQL.insert, new_id("persona"), owner, *values)
        return await self.read(row)

    async def change(self, owner: str, persona_id: str, change: PersonaChange) -> PersonaRow:
        """The owner's persona, changed; calls that run keep what they began with.

        Raises:
            UnknownPersona, SystemPersona
        """
        sealed = None if change.prompt is None else await self._vault.seal(owner, change.prompt, CONTEXT)
        values = (change.name, change.description, change.voice, sealed, change.language, change.max_minutes)
        row = await self._pool.fetchrow(_SQL.change, owner, persona_id, *values)
        if row is None:
            await self._refuse_system(owner, persona_id)
        return await self.read(row)

    async def remove(self, owner: str, persona_id: str) -> None:
        """Delete the owner's persona and its contact; past calls keep its name.

        Raises:
            UnknownPersona, SystemPersona
        """
        if await self._pool.fetchval(_SQL.remove, owner, persona_id) is None:
            await self._refuse_system(owner, persona_id)

    async def take(self, owner: str, persona: PersonaRow) -> str:
        """What a call's row names its persona by: it stays as it is now, whatever is edited or deleted meanwhile.

        Raises:
            UnknownPersona: it was deleted just now.
        """
        if persona.slug is not None:
            return persona.slug
        row = await self._pool.fetchrow(_SQL.take, owner, persona.id)
        if row is None:
            raise UnknownPersona(persona.id)
        return f"{row['persona_id']}.{row['version']}"

    async def taken(self, reference: str) -> PersonaRow:
        """What `take` kept of a user's persona.

        Raises:
            UnknownPersona: it is no reference to a user's persona, or was taken days ago.
        """
        persona_id, _, version = reference.partition(".")
        known = version.isascii() and version.isdigit() and len(version) <= VERSION_DIGITS
        row = await self._pool.fetchrow(_SQL.taken, persona_id, int(version)) if known else None
        if row is None:
            raise UnknownPersona(reference)
        return await self.read(row)

    async def drop_snapshots(self, now: dt.datetime) -> int:
        """Delete what was taken for calls that are long over; returns how many."""
        done: str = await self._pool.execute(_SQL.drop_snapshots, now - SNAPSHOT_KEPT)
        return int(done.split()[-1])

    async def voices(self) -> frozenset[str]:
        """Every voice that a user's persona has."""
        return frozenset(row["voice"] for row in await self._pool.fetch(_SQL.voices))

    async def flag_voices(self, looked_at: Iterable[str], withdrawn: Iterable[str]) -> int:
        """Of the voices `looked_at` these are withdrawn and the others are not; returns how many personas that changed.

        A call of a flagged persona speaks with the server's own voice.
        """
        return len(await self._pool.fetch(_SQL.flag_voices, list(withdrawn), list(looked_at)))

    async def seed(self, texts: Sequence[tuple[str, PersonaText]]) -> int:
        """Make the system's personas those of `texts` (slug and text); returns how many rows that changed."""
        changed = 0
        async with self._pool.acquire() as connection, connection.transaction():
            for slug, text in texts:
                values = (text.name, text.description, text.voice, text.prompt, text.language, text.max_minutes)
                changed += await connection.fetchval(_SQL.seed, new_id("persona"), slug, *values) is not None
            changed += len(await connection.fetch(_SQL.withdraw, [slug for slug, _ in texts]))
        return changed

    async def _refuse_system(self, owner: str, persona_id: str) -> None:
        persona = await self.get(owner, persona_id)
        raise SystemPersona(f"{persona.name} belongs to everybody. Copy it and change the copy.")

    async def read(self, row: Record | None) -> PersonaRow:
        """A row of `personas` or of its snapshots, its prompt unsealed."""
        assert row is not None
        prompt = row["prompt"]
        if prompt is None:
            prompt = await self._vault.unseal(row["owner"], row["prompt_sealed"], CONTEXT)
        told = {name: row[name] for name in PersonaRow.__struct_fields__ if name != "prompt"}
        return msgspec.convert({**told, "prompt": prompt}, PersonaRow)
