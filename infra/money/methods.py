"""Saved cards: added by the browser at the processor, known to us by brand and last four digits only."""

from __future__ import annotations

import datetime as dt

import asyncpg
from asyncpg import Pool

from infra.database.queries import load
from infra.ids import new_id
from infra.money.errors import CardDeclined, CardNeedsAction, NoPaymentMethod, PaymentsDown, UnknownMethod
from infra.money.processor import Card, Declined, NeedsAction, Processor, ProcessorError, ProcessorRefused
from infra.money.records import Method, Setup

_SQL = load(
    "methods",
    *("customer", "owner", "keep_customer", "list", "get", "default", "add", "no_default", "make_default", "remove"),
    *("next_default", "booked"),
)


class Methods:
    """The cards of our users."""

    def __init__(self, pool: Pool, processor: Processor) -> None:
        self._pool, self._processor = pool, processor

    async def customer(self, owner: str) -> str:
        """The processor's id of a user, made when first needed.

        Raises:
            PaymentsDown
        """
        known: str | None = await self._pool.fetchval(_SQL.customer, owner)
        if known is None:
            try:
                made = await self._processor.open_customer(owner, new_id("opening"))  # a second one does no harm
            except ProcessorError as error:
                raise PaymentsDown from error
            known = str(await self._pool.fetchval(_SQL.keep_customer, owner, made))
        return known

    async def list(self, owner: str) -> tuple[Method, ...]:
        """Somebody's cards, the default one first."""
        return tuple(Method.read(row) for row in await self._pool.fetch(_SQL.list, owner))

    async def card_for(self, owner: str, due: dt.datetime | None = None) -> Method:
        """The card that a call at a moment is paid with.

        Raises:
            NoPaymentMethod
        """
        row = await self._pool.fetchrow(_SQL.default, owner)
        if row is None:
            raise NoPaymentMethod
        method = Method.read(row)
        if method.expired(due or dt.datetime.now(dt.UTC)):
            until = f"{method.expires_month:02}/{method.expires_year}"
            raise NoPaymentMethod(f"The card ending in {method.last4} expires {until}, before this call. Add another.")
        return method

    async def set_up(self, owner: str) -> Setup:
        """A secret with which the browser saves a card at the processor.

        Raises:
            PaymentsDown
        """
        try:
            secret = await self._processor.set_up(await self.customer(owner), new_id("setup"))
        except ProcessorError as error:
            raise PaymentsDown from error
        return Setup(client_secret=secret, publishable_key=self._processor.publishable_key)

    async def add(self, owner: str, provider_ref: str) -> Method:
        """Keep a card that the browser has saved.

        Raises:
            CardDeclined, CardNeedsAction, UnknownMethod, PaymentsDown
        """
        customer = await self.customer(owner)
        try:
            card = await self._processor.save_card(customer, provider_ref)
        except NeedsAction as error:
            raise CardNeedsAction(str(error), code=error.code) from error
        except Declined as error:
            raise CardDeclined(str(error), code=error.code) from error
        except ProcessorRefused as error:
            raise UnknownMethod("The card processor does not know this card as yours. Add it again.") from error
        except ProcessorError as error:
            raise PaymentsDown from error
        return await self._keep(owner, card)

    async def make_default(self, owner: str, method_id: str) -> None:
        """Pay with this card from now on.

        Raises:
            UnknownMethod
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_SQL.no_default, owner)
            if await connection.fetchrow(_SQL.make_default, owner, method_id) is None:
                raise UnknownMethod(f"There is no card {method_id}.")

    async def remove(self, owner: str, method_id: str) -> str | None:
        """Forget a card, here and then at the processor; returns a warning where calls are left unpaid.

        Raises:
            UnknownMethod, PaymentsDown
        """
        row = await self._pool.fetchrow(_SQL.get, owner, method_id)
        if row is None:
            raise UnknownMethod(f"There is no card {method_id}.")
        method = Method.read(row)
        try:
            await self._processor.forget_card(method.provider_ref)
        except ProcessorRefused:
            pass  # it is not there
        except ProcessorError as error:
            raise PaymentsDown from error
        return await self._forget(owner, method.id)

    async def follow(self, customer: str) -> None:
        """Bring our list of a customer's cards to the processor's.

        Raises:
            PaymentsDown
        """
        owner: str | None = await self._pool.fetchval(_SQL.owner, customer)
        if owner is None:
            return
        before = await self.list(owner)  # one that is added while the processor answers is none of those it forgot
        try:
            cards = await self._processor.cards(customer)
        except ProcessorError as error:
            raise PaymentsDown from error
        for card in cards:
            await self._keep(owner, card)
        kept = {card.ref for card in cards}
        for method in before:
            if method.provider_ref not in kept:
                await self._forget(owner, method.id)

    async def _keep(self, owner: str, card: Card) -> Method:
        values = (owner, card.ref, card.brand, card.last4, card.expires_month, card.expires_year)
        try:
            row = await self._pool.fetchrow(_SQL.add, new_id("method"), *values)
        except asyncpg.UniqueViolationError:  # two first cards at one moment: only one is the default
            row = await self._pool.fetchrow(_SQL.add, new_id("method"), *values)
        if row is None:
            raise UnknownMethod("This card belongs to another account.")
        return Method.read(row)

    async def _forget(self, owner: str, method_id: str) -> str | None:
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.fetchrow(_SQL.remove, owner, method_id)
            await connection.fetchrow(_SQL.next_default, owner)
        if await self.list(owner):
            return None
        booked = int(await self._pool.fetchval(_SQL.booked, owner))
        if not booked:
            return None
        calls = "1 booked call" if booked == 1 else f"{booked} booked calls"
        return f"That was your only card: {calls} will be skipped unless you add another one before."
