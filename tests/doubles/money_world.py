"""Calls that are paid for in a world where everything goes wrong, for the state machine's tests and `bench money`."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, cast

from asyncpg import Pool

from infra.ids import new_id
from infra.money import HoldState, Money, MoneyError
from infra.money.caps import Caps
from infra.money.ledger import Ledger
from infra.money.processor import ProcessorRefused
from infra.money.reconcile import Quiet
from infra.money.records import OVER, Hold
from tests.doubles.processor import FAULTS, Crash, Fuse, FusedPool, ProcessorModel, troubled

NOW = dt.timedelta(0)
AN_HOUR = dt.timedelta(hours=1)
BOUNDARIES = 26  # as many as the longest operation has
A_MOMENT = dt.timedelta(seconds=2)
STUCK = 8  # rounds in which nothing moves
MANNERS = ("", "", "", "", "", "insufficient_funds", "action", "expired_card")
UNFINISHED = """
select (select count(*) from holds where owner = any($1) and state not in ('declined', 'captured', 'released'))
    + (select count(*) from refunds where owner = any($1) and state = 'pending')
"""
REFUNDS = """
select refunds.* from refunds join holds on holds.id = hold_id where holds.provider_ref = $1 order by refunds.created_at
"""
Act = Callable[[], Awaitable[object]]


class World:
    """Users with cards, calls that are held and settled, a processor, and bad luck.

    Args:
        window: how many of the newest calls things happen to.
    """

    def __init__(self, pool: Pool, users: int = 20, window: int = 40) -> None:
        self.model, self.pool, self.window = ProcessorModel(), pool, window
        fused = cast(Pool, FusedPool(pool))
        caps = Caps(fused, 10**7, 10**9)
        self.money = Money(fused, self.model, caps, Quiet(NOW, NOW, AN_HOUR, NOW, A_MOMENT))
        self.last = Money(pool, self.model, Caps(pool, 10**7, 10**9), Quiet(NOW, NOW, NOW, NOW))
        self.users = [new_id("user") for _ in range(users)]
        self.calls: list[tuple[str, str]] = []
        self.mail: list[str] = []
        self.done: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()

    @property
    def operations(self) -> int:
        """How many things were asked for so far."""
        return self.done.total()

    async def open(self) -> None:
        """Give every user a card."""
        for user in self.users:
            await self.last.add_method(user, f"pm_{user}")

    async def attempt(self, name: str, act: Act, faults: list[str] | None = None, steps: int | None = None) -> Any:
        """Do something under bad luck; None when it failed in a way that may happen."""
        self.done[name] += 1
        with troubled(faults or [], None if steps is None else Fuse(steps)):
            try:
                return await act()
            except MoneyError as error:
                self.errors[error.code] += 1
            except Crash:
                self.errors["crash"] += 1
        return None

    async def hold(self, call: tuple[str, str], minutes: int, **luck: Any) -> Hold | None:
        """Somebody is about to be called."""
        return cast(
            "Hold | None", await self.attempt("hold", lambda: self.money.hold(call[0], call[1], minutes), **luck)
        )

    async def settle(self, call: tuple[str, str], seconds: float, fault: bool, **luck: Any) -> None:
        """A call is over."""
        if (hold := await self.money.hold_of(call[1])) is not None:
            await self.attempt("settle", lambda: self.money.settle(hold.id, seconds, fault), **luck)

    async def release(self, call: tuple[str, str], **luck: Any) -> None:
        """A call came to nothing."""
        if (hold := await self.money.hold_of(call[1])) is not None:
            await self.attempt("release", lambda: self.money.release(hold.id, "no_answer"), **luck)

    async def refund(self, call: tuple[str, str], cents: int | None, key: str, **luck: Any) -> None:
        """Support gives money back."""
        hold = await self.money.hold_of(call[1])
        if hold is None:
            return
        amount = None if cents is None else cents * 10_000
        await self.attempt(
            "refund", lambda: self.money.refund(hold.id, amount, reason="as asked", actor="support", key=key), **luck
        )

    async def deliver(self, order: random.Random, count: int, **luck: Any) -> None:
        """Some webhooks arrive: each three times, in any order, old ones among them."""
        self.mail += self.model.events
        self.model.events.clear()
        chosen = [self.mail.pop(order.randrange(len(self.mail))) for _ in range(min(count, len(self.mail)))]
        arriving = chosen * 3
        order.shuffle(arriving)
        kept = [ref for ref in arriving if not await self.told(self.money, ref, **luck)]
        self.mail += dict.fromkeys(kept)  # whoever could not be told is told again

    async def told(self, money: Money, ref: str, **luck: Any) -> bool:
        """An event of a payment's arrives; whether it was applied."""

        async def follow() -> bool:
            await money.follow_payment(ref)
            return True

        return bool(await self.attempt("webhook", follow, **luck))

    async def reconcile(self, **luck: Any) -> None:
        """Somebody looks after what is unfinished."""
        await self.attempt("reconcile", self.money.reconcile, **luck)

    def elsewhere(self, call: tuple[str, str], what: str, cents: int = 1) -> None:
        """Something happens at the processor without us: expire, cancel, refund, bounce."""
        self.done[what] += 1
        for payment in self.model.of_call(call[1])[-2:]:
            try:
                if what in {"expire", "cancel"}:
                    self.model.let_go(payment.ref, "expired" if what == "expire" else "requested")
                elif what == "refund":
                    self.model.give_back(payment.ref, min(cents * 10_000, payment.captured))
                else:
                    self.model.bounce(payment.ref)
            except ProcessorRefused:
                self.errors["refused"] += 1

    def arrive(self, count: int | None = None) -> None:
        """Requests that nobody expects any more arrive at the processor."""
        self.done["arrive"] += 1
        self.model.arrive(count)

    def new_call(self, order: random.Random) -> tuple[str, str]:
        """A call of somebody's, whose card may be of any kind by now."""
        user = order.choice(self.users)
        self.model.manners[f"pm_{user}"] = order.choice(MANNERS)
        call = (user, new_id("call"))
        self.calls.append(call)
        del self.calls[: -self.window]
        return call

    async def step(self, order: random.Random) -> None:
        """One thing or another, to a call of the last few."""
        luck: dict[str, Any] = {}
        if order.random() < 0.2:
            luck["faults"] = [order.choice(("", *FAULTS)) for _ in range(order.randint(1, 3))]
        if order.random() < 0.12:
            luck["steps"] = order.randrange(BOUNDARIES)
        dice = order.random()
        if dice < 0.22 or not self.calls:
            await self.hold(self.new_call(order), order.choice((1, 2, 15, 60)), **luck)
            return
        call = order.choice(self.calls)
        if dice < 0.32:
            await self.hold(call, 15, **luck)
        elif dice < 0.56:
            seconds = order.choice((0.0, 0.4, 59.0, 60.0, 61.0, 300.0, 4000.0))
            await self.settle(call, seconds, order.random() < 0.15, **luck)
        elif dice < 0.62:
            await self.release(call, **luck)
        elif dice < 0.70:
            cents = order.choice((None, 1, 25, 65, 500))
            await self.refund(call, cents, f"key-{order.randrange(3)}", **luck)
        elif dice < 0.94:
            await self.deliver(order, 2, **luck)
        elif dice < 0.97:
            self.elsewhere(call, order.choice(("expire", "cancel", "refund", "bounce")), order.randint(1, 100))
        elif dice < 0.985:
            self.arrive(1)
        else:
            await self.reconcile(**luck)

    async def imbalance(self) -> int:
        """What the books are off by, in micro-dollars, wherever one can look."""
        ledger = Ledger(self.pool)
        return await ledger.imbalance() + len(await ledger.differences())

    async def finish(self) -> list[str]:
        """Good luck at last: everything comes to its end. Returns what does not agree then."""
        self.arrive()
        best, stuck = -1, 0
        while stuck < STUCK:
            found = await self.last.reconcile()
            self.done["reconcile"] += 1
            self.mail += self.model.events
            self.model.events.clear()
            self.mail = [ref for ref in dict.fromkeys(self.mail) if not await self.told(self.last, ref)]
            left = (
                found.waiting + len(self.mail) + len(self.model.open) + await self.pool.fetchval(UNFINISHED, self.users)
            )
            if not left and not self.model.events:
                break
            stuck, best = (stuck + 1, best) if 0 <= best <= left else (0, left)
        return [*await self.disagreements(), *self.model.overpaid(), *self.model.double_captures()]

    async def disagreements(self) -> list[str]:
        """Holds and refunds whose end is not the processor's."""
        wrong: list[str] = []
        mine: dict[str, Hold] = {}
        for row in await self.pool.fetch("select * from holds where owner = any($1)", self.users):
            hold = Hold.read(row)
            if hold.state not in OVER:
                wrong.append(f"{hold.id} is {hold.state}")
            if hold.provider_ref:
                mine[hold.provider_ref] = hold
        for payment in self.model.payments.values():
            owner = mine.get(payment.ref)
            state = HoldState.RELEASED if owner is None or owner.state is HoldState.DECLINED else owner.state
            taken, back = (0, 0) if owner is None else (owner.captured_usd_micros, owner.refunded_usd_micros)
            expected = HoldState.CAPTURED if payment.standing == "captured" else HoldState.RELEASED
            if payment.standing == "held" or state is not expected:
                wrong.append(f"{payment.ref} is {payment.standing} there, {state} here")
            if (taken, back) != (payment.captured, payment.refunded):
                rows = await self.pool.fetch(REFUNDS, payment.ref)
                here = [(row["id"], row["key"], row["state"], row["usd_micros"], row["provider_ref"]) for row in rows]
                wrong.append(f"{payment.ref}: {taken} - {back} here: {here}; there: {payment}")
        if await self.imbalance():
            wrong.append("the books do not balance")
        return wrong
