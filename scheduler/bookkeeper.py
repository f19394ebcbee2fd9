"""Keeps the books true: applies what payment providers told us, and reconciles with them.

Every node runs one. Events are taken row by row, and reconciling only brings to an end what is written down already,
so two bookkeepers do no harm.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

import structlog

from actors.journal import AWAY
from actors.runtime import Actor, Message
from infra.database.inbox import Apply, Inbox, WebhookEvent
from infra.money import Money
from infra.money.costs import BAR_USD_MICROS
from infra.money.events import STRIPE, follow

log = structlog.get_logger()
APPLY_SECONDS = 1.0
RECONCILE_SECONDS = 60.0
KEPT = dt.timedelta(days=30)  # of events that were applied
DAY = dt.timedelta(days=1)
ENOUGH, TRIED = 0.95, 20  # payments that must go through, and how many must have been tried to say so


class ApplyEvents(Message, tag="apply_events"):
    """Time to apply what came in."""


class Reconcile(Message, tag="reconcile_money"):
    """Time to reconcile."""


class Bookkeeper(Actor):
    """Applies the inbox every second and reconciles every minute.

    Args:
        money: closed by whoever made it.
    """

    def __init__(self, money: Money, inbox: Inbox) -> None:
        self._money, self._inbox = money, inbox
        self._applied = self._moved = self._mismatches = 0
        self._told = 0.0

    async def start(self) -> None:
        self.context.every(APPLY_SECONDS, ApplyEvents())
        self.context.every(RECONCILE_SECONDS, Reconcile())

    async def receive(self, message: Message) -> None:
        try:
            match message:
                case ApplyEvents():
                    self._applied += await self.apply()
                case Reconcile():
                    await self.reconcile()
        except AWAY as error:
            log.debug("bookkeeper_waits", error=repr(error))

    def snapshot(self) -> dict[str, Any]:
        return {"applied": self._applied, "moved": self._moved, "mismatches": self._mismatches}

    async def apply(self) -> int:
        """Apply the events that are due."""
        appliers: dict[str, Apply] = {STRIPE: self._follow}
        return await self._inbox.apply(appliers)

    async def reconcile(self) -> None:
        """Bring what is unfinished to its end; tell when payments or costs are not as they should be."""
        found = await self._money.reconcile()
        self._moved += found.moved + found.orphans
        self._mismatches += len(found.mismatches)
        await self._inbox.forget(KEPT)
        await self._look()

    async def _follow(self, event: WebhookEvent) -> None:
        await follow(self._money, event)

    async def _look(self) -> None:
        """Alert, once an hour, when too few payments go through or a minute costs too much."""
        if time.monotonic() - self._told < 3600 and self._told:
            return
        now = dt.datetime.now(dt.UTC)
        success = await self._money.success(now - DAY)
        if success.tried >= TRIED and success.share < ENOUGH:
            log.error("payments_fail", share=round(success.share, 3), tried=success.tried, declined=success.declined)
            self._told = time.monotonic()
        minute = await self._money.costs.minute(now - DAY, now)
        if not minute.within_bar:
            log.error("minutes_cost_too_much", usd_micros=minute.usd_micros, bar_usd_micros=BAR_USD_MICROS)
            self._told = time.monotonic()
