"""Money over the real Stripe package and the payments double: users with cards, and calls that are paid for."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from asyncpg import Pool

from infra.ids import new_id
from infra.money import Hold, Method, Money
from infra.money.caps import Caps
from infra.money.reconcile import Quiet
from infra.money.stripe import StripeProcessor
from transports.simulator.payments.double import Config, Double, serving

NOW = dt.timedelta(0)
AT_ONCE = Quiet(NOW, NOW, NOW, NOW)


@dataclass(frozen=True)
class Payers:
    """What a test of payments looks into."""

    money: Money
    processor: StripeProcessor
    double: Double
    pool: Pool

    async def payer(self, token: str = "pm_card_visa") -> str:  # noqa: S107
        """A new user with a card, saved as a browser saves it."""
        owner = new_id("user")
        await self.card(owner, token)
        return owner

    async def card(self, owner: str, token: str = "pm_card_visa") -> Method:  # noqa: S107
        """Another card of a user's."""
        return await self.money.add_method(owner, await self.browser(owner, token))

    async def browser(self, owner: str, token: str) -> str:
        """What the user's browser does: it gives a card to the processor, and the user proves who they are."""
        setup = await self.money.set_up_method(owner)
        intent = setup.client_secret.partition("_secret")[0]
        wanted: Any = {"payment_method": token}
        done = await self.processor._setups.confirm_async(intent, wanted)
        if done.status == "requires_action":
            return str(self.double.authenticate(intent)["payment_method"])
        return str(done.to_dict()["payment_method"])

    async def held(self, minutes: int = 15, token: str = "pm_card_visa") -> Hold:  # noqa: S107
        """Money held on the card of a new user."""
        return await self.money.hold(await self.payer(token), new_id("call"), minutes)

    def intents(self) -> list[dict[str, Any]]:
        """Every payment as the processor knows it, oldest first; refunds of what was never taken left out."""
        found: list[dict[str, Any]] = self.double.state()["intents"]
        return found

    async def one_hold(self) -> Hold:
        """The only hold there is."""
        [row] = await self.pool.fetch("select * from holds")
        return Hold.read(row)

    async def balanced(self) -> bool:
        """Whether books, holds and counted days agree."""
        return await self.money.ledger.imbalance() == 0 and await self.money.ledger.differences() == ()


@contextlib.asynccontextmanager
async def payers(pool: Pool, config: Config | None = None, timeout_s: float = 2.0) -> AsyncIterator[Payers]:
    """Users who pay, for the length of the block."""
    async with serving(config) as double:
        told = double.config
        processor = StripeProcessor(told.secret_key, told.publishable_key, api_url=double.url, timeout_s=timeout_s)
        money = Money(pool, processor, Caps(pool), AT_ONCE)
        try:
            yield Payers(money, processor, double, pool)
        finally:
            await money.close()
