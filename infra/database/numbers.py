"""Phone numbers that people have proven to be theirs; no other number is ever dialled for them (CMB-01)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection

from asyncpg import Pool, UniqueViolationError

from infra.compliance.phones import NotANumber, Phone, read_phone
from infra.database.audit import Audit
from infra.database.call_records import Row
from infra.database.codes import CodeWrong
from infra.database.opt_outs import OptOuts
from infra.database.queries import load
from infra.ids import new_id
from infra.telephony.carrier import CarrierRefused
from infra.telephony.verify import Verifier
from infra.vault import Vault

_SQL = load("numbers", "put", "mine", "get", "list", "primary", "attempt", "verify", "remove")
CONTEXT = "numbers.sealed"
DIGEST = "number"
CODE_LIFE = dt.timedelta(minutes=10)
TRIES = 5
SENDS_A_DAY = 10
NUMBERS_MAX = 10
SHOWN_DIGITS = 2


class Number(Row, frozen=True, kw_only=True):
    """A number of somebody's account; `verified_at` is None until they have proven it."""

    id: str
    owner: str
    sealed: str
    country: str
    masked: str
    created_at: dt.datetime
    verified_at: dt.datetime | None


class NumberRefused(Exception):
    """This number cannot be used; the message says why and what to do."""


class NumberTaken(Exception):
    """The number is proven to be another account's. Remove it there first."""


class NumberLimit(Exception):
    """The account has as many numbers, or was sent as many codes, as it may. Remove one, or wait a day."""


class UnknownNumber(Exception):
    """The account has no such number."""


class Numbers:
    """The numbers of accounts.

    Args:
        verifier: sends codes and checks them.
        countries: ISO codes of those that codes are sent to; numbers elsewhere could not be called anyway.
    """

    def __init__(self, pool: Pool, vault: Vault, verifier: Verifier, countries: Collection[str]) -> None:
        self._pool, self._vault, self._verifier = pool, vault, verifier
        self._countries = frozenset(countries)
        self._audit, self._opt_outs = Audit(pool), OptOuts(pool)

    async def add(self, owner: str, written: str, language: str = "en") -> Number:
        """Have a code sent to a number, which is the owner's once they give it back.

        Adding it again sends the code again; a number that is proven already is returned as it is.

        Raises:
            NumberRefused: no number, of a country we do not call, dear to call, or the carrier will not reach it.
            NumberLimit
            CarrierDown: the code may not have been sent; ask again.
        """
        phone = self._allowed(written)
        digest = self._vault.digest(DIGEST, phone.number)
        sealed = await self._vault.seal(owner, phone.number, CONTEXT)
        values = (new_id("number"), owner, sealed, digest, phone.country, masked(phone.number))
        row = await self._pool.fetchrow(_SQL.put, *values, CODE_LIFE, NUMBERS_MAX, SENDS_A_DAY)
        if row is None:
            row = await self._pool.fetchrow(_SQL.mine, owner, digest)
            if row is None or row["verified_at"] is None:
                raise NumberLimit(f"{NumberLimit.__doc__}")
            return Number.read(row)
        try:
            await self._verifier.start(phone.number, "sms", language)
        except CarrierRefused as error:
            raise NumberRefused("No message can be sent to this number. Check it, or use another.") from error
        return Number.read(row)

    async def verify(self, owner: str, number_id: str, code: str) -> Number:
        """The owner gave the code; the number is theirs now.

        Raises:
            CodeWrong: wrong, expired (10 minutes), or tried too often (5 times).
            NumberTaken, UnknownNumber
            CarrierDown: it could not be checked; ask again.
        """
        row = await self._pool.fetchrow(_SQL.attempt, owner, number_id, TRIES)
        if row is None:
            number = await self.get(owner, number_id)
            if number.verified_at is not None:
                return number
            raise CodeWrong("The code has expired, or was tried too often.")
        written = await self._vault.unseal(owner, row["sealed"], CONTEXT)
        if not await self._verifier.check(written, code):
            raise CodeWrong("The code is not right.")
        try:
            async with self._pool.acquire() as connection, connection.transaction():
                proven = await connection.fetchrow(_SQL.verify, owner, number_id)
                if proven is None:  # removed, or proven by another request, meanwhile
                    return await self.get(owner, number_id)
                context = {"number": number_id}
                await self._audit.note(owner, "number.verified", owner, context, database=connection)
        except UniqueViolationError as error:
            raise NumberTaken(f"{NumberTaken.__doc__}") from error
        return Number.read(proven)

    async def get(self, owner: str, number_id: str) -> Number:
        """One of the owner's numbers, proven or not.

        Raises:
            UnknownNumber
        """
        row = await self._pool.fetchrow(_SQL.get, owner, number_id)
        if row is None:
            raise UnknownNumber("There is no such number.")
        return Number.read(row)

    async def primary(self, owner: str) -> Number | None:
        """The number called where none is named: the one that was proven first."""
        row = await self._pool.fetchrow(_SQL.primary, owner)
        return None if row is None else Number.read(row)

    async def list(self, owner: str) -> tuple[Number, ...]:
        """The owner's numbers: the primary one first, those not proven last."""
        return tuple(Number.read(row) for row in await self._pool.fetch(_SQL.list, owner))

    async def written(self, number: Number) -> str:
        """The number itself, E.164."""
        return await self._vault.unseal(number.owner, number.sealed, CONTEXT)

    async def remove(self, owner: str, number_id: str) -> None:
        """Forget a number; another account may prove it from now on.

        Raises:
            UnknownNumber
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_SQL.remove, owner, number_id) is None:
                raise UnknownNumber("There is no such number.")
            await self._audit.note(owner, "number.removed", owner, {"number": number_id}, database=connection)

    async def stopped(self, number: Number) -> bool:
        """Whether the person at this number asked not to be called."""
        return await self._opt_outs.stopped(self._vault.digest(DIGEST, await self.written(number)))

    async def allow_again(self, owner: str, number_id: str) -> Number:
        """Calls to the owner's proven number are welcome again.

        Raises:
            UnknownNumber: they have none of this id, or have not proven it.
        """
        number = await self.get(owner, number_id)
        if number.verified_at is None:
            raise UnknownNumber("There is no such proven number.")
        await self._opt_outs.start(self._vault.digest(DIGEST, await self.written(number)), "web")
        await self._audit.note(owner, "number.allowed", owner, {"number": number_id})
        return number

    def _allowed(self, written: str) -> Phone:
        try:
            phone = read_phone(written)
        except NotANumber as error:
            raise NumberRefused(str(error)) from error
        if phone.country not in self._countries:
            raise NumberRefused("We do not call numbers of this country.")
        if phone.premium:
            raise NumberRefused("Calls to this number may cost more than usual, so we do not make them. Use another.")
        return phone


def masked(number: str) -> str:
    """As much of a number as its owner needs to know it by: `+1…01`."""
    head = number[:2] if number.startswith(("+1", "+7")) else number[:3]
    return f"{head}…{number[-SHOWN_DIGITS:]}"
