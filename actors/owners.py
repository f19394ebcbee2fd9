"""What a call does for the person it belongs to: their persona, their words, their wishes beyond the call."""

from __future__ import annotations

import datetime as dt
from typing import Self

import structlog
from asyncpg import Pool

from actors.placing import FROM_NUMBER, number_of
from actors.words import Words
from bots.personas.of_user import persona_of
from bots.personas.persona import Persona, load
from infra.booking import Booking, Refusal
from infra.compliance.gate import Gate
from infra.compliance.phones import NotANumber, read_phone
from infra.database.call_records import Call
from infra.database.numbers import DIGEST
from infra.database.opt_outs import Channel, OptOuts
from infra.database.owned_calls import OwnedCalls
from infra.database.personas import PersonaStore
from infra.database.schedules import ScheduleStore
from infra.settings import Settings
from infra.vault import Vault, master_key

log = structlog.get_logger()


class Owners:
    """The host's side of everything that belongs to users.

    Args:
        store: counts who was given a helpline.
        booking: books the calls that are promised in calls.
    """

    def __init__(
        self, store: OwnedCalls, vault: Vault, personas: PersonaStore, opt_outs: OptOuts, booking: Booking
    ) -> None:
        self._store, self._vault, self._personas = store, vault, personas
        self._opt_outs, self._booking = opt_outs, booking

    @classmethod
    def of(cls, settings: Settings, pool: Pool) -> Self:
        """Those of a process of this node."""
        vault = Vault(pool, master_key(settings))
        booking = Booking(ScheduleStore(pool), Gate(pool, settings, vault))
        return cls(OwnedCalls(pool), vault, PersonaStore(pool, vault), OptOuts(pool), booking)

    async def persona(self, call: Call) -> Persona:
        """Who speaks, as the call found them; later edits do not reach it.

        Raises:
            PersonaError, UnknownPersona, VaultError: the call cannot be held.
        """
        if "." not in call.persona:  # one of the server's own
            return load(call.persona)
        return persona_of(await self._personas.taken(call.persona))

    def words(self, call: Call) -> Words:
        """What seals the words of a call."""
        return Words(self._vault, call.owner)

    async def opted_out(self, call: Call, channel: Channel) -> None:
        """The person on the line wants no more calls: nobody dials their number from now on."""
        number = await self._theirs(call)
        if number:
            await self._opt_outs.stop(self._vault.digest(DIGEST, number), channel, call.id)

    async def referred(self, call: Call, language: str) -> None:
        """Somebody was given a helpline: an event of the call and a count, without a word of what was said."""
        await self._store.signal(call.id, "crisis")
        await self._store.refer(await self.country(call), language)

    async def country(self, call: Call) -> str:
        """The country of the person on the line, by their number; empty when nobody knows."""
        if found := call.options.get("country"):
            return str(found)
        try:
            return read_phone(await self._theirs(call)).country
        except NotANumber:
            return ""

    async def book(self, call: Call, local: dt.datetime) -> bool:
        """Have the caller called again at a wall time of theirs; they have confirmed it aloud."""
        if call.owner is None:
            return False
        try:
            proposed = await self._booking.propose(call.owner, call.id, local, str(call.options.get("zone") or "UTC"))
            await self._booking.confirm(call.owner, proposed.id)
        except Refusal as refusal:
            log.info("callback_refused", call=call.id, kind=refusal.kind)
            return False
        return True

    async def _theirs(self, call: Call) -> str:
        """The number of the person on the line."""
        if call.direction != "inbound":
            return await number_of(self._vault, call)
        if call.owner is None:
            return call.from_number
        return await self._vault.unseal(call.owner, call.from_number, FROM_NUMBER)
