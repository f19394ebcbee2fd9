"""Contacts: the personas that somebody keeps at hand for a call at one tap."""

from __future__ import annotations

from collections.abc import Sequence

from asyncpg import Pool

from infra.database.personas import PersonaRow, PersonaStore, UnknownPersona
from infra.database.queries import load

LIMIT = 100

_SQL = load("contacts", "all", "lock", "count", "add", "remove", "ids", "reorder")


class ContactLimit(Exception):
    """The user has as many contacts as one may have. Remove one first."""


class NoContact(Exception):
    """The persona is no contact of the user's."""


class OrderDiffers(Exception):
    """The new order does not name each contact once. Read the contacts again and send all of them."""


class ContactStore:
    """Contacts over an asyncpg pool, in their order. A deleted persona is nobody's contact."""

    def __init__(self, pool: Pool, personas: PersonaStore) -> None:
        self._pool, self._personas = pool, personas

    async def all(self, owner: str) -> tuple[PersonaRow, ...]:
        """The owner's contacts in order."""
        rows = await self._pool.fetch(_SQL.all, owner)
        return tuple([await self._personas.read(row) for row in rows])

    async def add(self, owner: str, persona_id: str) -> None:
        """Keep a persona at hand, at the end; one who is kept already stays where they are.

        Raises:
            UnknownPersona, ContactLimit
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetchval(_SQL.lock, owner)
            if await connection.fetchval(_SQL.add, owner, persona_id) is None:
                raise UnknownPersona(persona_id)
            if await connection.fetchval(_SQL.count, owner) > LIMIT:
                raise ContactLimit(f"You have {LIMIT} contacts, which is the limit. Remove one first.")

    async def remove(self, owner: str, persona_id: str) -> None:
        """Keep a persona at hand no longer.

        Raises:
            NoContact
        """
        if await self._pool.fetchval(_SQL.remove, owner, persona_id) is None:
            raise NoContact(f"{persona_id} is no contact.")

    async def reorder(self, owner: str, order: Sequence[str]) -> None:
        """Put the contacts into this order, which names each of them once.

        Raises:
            OrderDiffers: it does not; nothing was changed.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetchval(_SQL.lock, owner)
            known = [row["persona_id"] for row in await connection.fetch(_SQL.ids, owner)]
            if sorted(known) != sorted(order):
                raise OrderDiffers("The order must name each of your contacts once. Read them again.")
            await connection.execute(_SQL.reorder, owner, list(order))
