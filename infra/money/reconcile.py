"""Reconciliation: whatever was left unfinished, or is known differently to the processor, is brought to one state.

It asks for nothing that is not written down already, so it may run on several nodes at once, and be killed at any time.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from asyncpg import Pool

from infra.money.errors import MoneyError, PaymentsDown
from infra.money.holds import SQL, Holds
from infra.money.processor import Payment, Processor, ProcessorError
from infra.money.records import Hold, HoldState, Reconciled
from infra.money.refunds import Refunds

log = structlog.get_logger()
Settle = Callable[[str, float, bool], Awaitable[Hold]]
Release = Callable[[str, str], Awaitable[Hold]]
LONGEST_HOLD = dt.timedelta(days=8)  # no card network remembers one for longer


@dataclass(frozen=True, slots=True)
class Quiet:
    """How long nothing may have happened before reconciliation looks. All together stay below five minutes."""

    intent: dt.timedelta = dt.timedelta(seconds=90)  # longer than every try to place a hold takes
    step: dt.timedelta = dt.timedelta(seconds=20)
    call: dt.timedelta = dt.timedelta(seconds=120)  # after the end of a call that nobody has settled
    end: dt.timedelta = dt.timedelta(seconds=60)
    overlap: dt.timedelta = dt.timedelta(minutes=10)  # between two looks at what the processor holds


@dataclass
class Tally:
    """What one run has done."""

    looked_at: int = 0
    moved: int = 0
    orphans: int = 0
    waiting: int = 0
    mismatches: list[str] = field(default_factory=list)


class Reconciling:
    """One run after the other; see `Money.reconcile`."""

    def __init__(self, holds: Holds, refunds: Refunds, processor: Processor, pool: Pool, quiet: Quiet) -> None:
        self._holds, self._refunds = holds, refunds
        self._processor, self._pool, self._quiet = processor, pool, quiet
        self._swept: dt.datetime | None = None

    async def run(self, settle: Settle, release: Release) -> Reconciled:
        """Look at everything that is due."""
        tally = Tally()
        await self._unfinished(tally)
        await self._left_over(tally, settle, release)
        await self._pending_refunds(tally)
        await self._strays(tally)
        await self._ends(tally)
        for sentence in tally.mismatches:
            log.error("money_mismatch", what=sentence)
        return Reconciled(
            looked_at=tally.looked_at,
            moved=tally.moved,
            orphans=tally.orphans,
            waiting=tally.waiting,
            mismatches=tuple(tally.mismatches),
        )

    async def payment(self, ref: str) -> None:
        """Move the hold of a payment, and its refunds, to what the processor says now.

        Raises:
            PaymentsDown
        """
        try:
            payment = await self._processor.payment(ref)
        except ProcessorError as error:
            raise PaymentsDown from error
        if payment is None:
            return
        hold = await self._hold_of(payment)
        if hold is None:
            if payment.standing == "held" and payment.hold_id:
                await self._holds.let_go(payment)
            return
        hold = await self._holds.apply(hold, payment)
        if hold.state is HoldState.CAPTURED and hold.provider_ref == ref:
            await self._refunds.follow(hold, ref)

    async def _unfinished(self, tally: Tally) -> None:
        for row in await self._pool.fetch(SQL.unfinished, self._quiet.intent, self._quiet.step):
            hold = Hold.read(row)
            await self._try(tally, hold, self._finish(hold))

    async def _finish(self, hold: Hold) -> Hold:
        if hold.state is not HoldState.INTENT:
            return await self._holds.finish(hold)
        hold = await self._holds.resolve(hold)
        return await self._holds.give_up(hold) if hold.state is HoldState.INTENT else hold

    async def _left_over(self, tally: Tally, settle: Settle, release: Release) -> None:
        for row in await self._pool.fetch(SQL.left_over, self._quiet.call):
            hold, seconds = Hold.read(row), row["connected_seconds"]
            step: Awaitable[Hold]
            if row["stray"]:
                step = release(hold.id, "no_call")
            elif row["ended"]:
                step = settle(hold.id, seconds or 0.0, row["fault"]) if seconds else release(hold.id, "not_answered")
            else:  # its call is on, or has not begun; the card's network may have forgotten the hold
                step = self._holds.resolve(hold)
            await self._try(tally, hold, step)

    async def _pending_refunds(self, tally: Tally) -> None:
        for refund in await self._refunds.pending(self._quiet.step):
            hold = await self._holds.get(refund.hold_id)
            tally.looked_at += 1
            try:
                assert hold.provider_ref is not None
                after = await self._refunds.resume(refund, hold.provider_ref)
                tally.moved += after.state != "pending"
            except PaymentsDown:
                tally.waiting += 1
            except MoneyError as error:
                tally.mismatches.append(f"Refund {refund.id}: {error}")

    async def _strays(self, tally: Tally) -> None:
        """What the processor holds that no hold of ours needs: late answers to requests that were given up."""
        now = dt.datetime.now(dt.UTC)
        since = now - LONGEST_HOLD if self._swept is None else self._swept - self._quiet.overlap
        try:
            held = await self._processor.held(since)
        except ProcessorError:
            tally.waiting += 1
            return
        missed = 0
        for payment in held:
            if payment.hold_id is None:
                continue  # not ours: the account may serve others too
            hold = await self._hold_of(payment)
            if hold is None or hold.state in {HoldState.DECLINED, HoldState.RELEASED}:
                tally.looked_at += 1
                let_go = await self._holds.let_go(payment)
                tally.orphans += let_go
                missed += not let_go
        tally.waiting += missed
        if not missed:
            self._swept = now

    async def _ends(self, tally: Tally) -> None:
        """What we hold for captured is compared once with the processor, refunds made there included."""
        for row in await self._pool.fetch(SQL.unverified, self._quiet.end):
            hold = Hold.read(row)
            tally.looked_at += 1
            assert hold.provider_ref is not None
            try:
                payment = await self._processor.payment(hold.provider_ref)
                if payment is None or payment.captured_usd_micros != hold.captured_usd_micros:
                    told = "nothing" if payment is None else f"{payment.captured_usd_micros}"
                    tally.mismatches.append(f"Hold {hold.id}: took {hold.captured_usd_micros}, the processor {told}.")
                else:
                    await self._refunds.follow(hold, hold.provider_ref)
            except (ProcessorError, PaymentsDown):
                tally.waiting += 1
                continue
            except MoneyError as error:  # a refund of ours may be in the way; the next run sees
                tally.mismatches.append(f"Hold {hold.id}: {error}")
                continue
            await self._pool.execute(SQL.verified, hold.id)

    async def _try(self, tally: Tally, hold: Hold, step: Awaitable[Hold]) -> None:
        tally.looked_at += 1
        try:
            after = await step
        except PaymentsDown:
            tally.waiting += 1
        except MoneyError as error:
            tally.mismatches.append(f"Hold {hold.id}: {error}")
        else:
            tally.moved += after.state is not hold.state

    async def _hold_of(self, payment: Payment) -> Hold | None:
        hold = await self._holds.by_ref(payment.ref)
        if hold is None and payment.hold_id:
            row = await self._pool.fetchrow(SQL.get, payment.hold_id)
            hold = None if row is None else Hold.read(row)
            if hold is not None and hold.provider_ref not in {None, payment.ref}:
                return None  # it has a payment, and this is not it
        return hold
