"""A card processor in memory, with everything that can go wrong between it and us, and a count of what it did.

Like the real one it does a thing once per idempotency key and keeps its answer, an error of its own included; it takes
from a payment once and never gives back more than it took. Faults and crashes are set for one task at a time.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, TypeVar

from asyncpg import Pool

from infra.money.processor import (
    Card,
    Declined,
    NeedsAction,
    Order,
    OutcomeUnknown,
    Payment,
    ProcessorDown,
    ProcessorRefused,
    Repayment,
    Standing,
)

T = TypeVar("T")
FAULTS = ("down", "lost", "unsent", "broken", "broken_done", "late", "busy")
"""down: no connection. lost: done, no answer. unsent: not done, no answer. broken: an error of its own, not done, and
broken_done: done; both kept under the key. late: no answer, and done when nobody expects it any more. busy: 429."""


class Crash(BaseException):
    """The process died here."""


class Fuse:
    """Kills whoever runs under it at the n-th boundary: before or after a statement, before or after a request."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def burn(self) -> None:
        if self.left == 0:
            self.left = -1
            raise Crash
        self.left -= 1


_fuse: ContextVar[Fuse | None] = ContextVar("fuse", default=None)
_faults: ContextVar[list[str] | None] = ContextVar("faults", default=None)


@contextlib.contextmanager
def troubled(faults: list[str], fuse: Fuse | None) -> Iterator[None]:
    """In the block, requests meet these faults, one each, and the fuse burns."""
    restore = _faults.set(list(faults)), _fuse.set(fuse)
    try:
        yield
    finally:
        _faults.reset(restore[0])
        _fuse.reset(restore[1])


def burn() -> None:
    """A boundary at which the process may die."""
    fuse = _fuse.get()
    if fuse is not None:
        fuse.burn()


@dataclass
class Held:
    """A payment, as the processor keeps it."""

    ref: str
    order: Order
    standing: Standing = "held"
    captured: int = 0
    captures: int = 0
    why: str | None = None
    created_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    refunds: list[Repayment] = field(default_factory=list)

    @property
    def refunded(self) -> int:
        return sum(one.usd_micros for one in self.refunds if one.state != "failed")


@dataclass
class ProcessorModel:
    """The processor. `payments` and the counts survive whatever happens to us."""

    publishable_key: str = "pk_test_model"
    name: str = field(default_factory=lambda: os.urandom(4).hex())
    payments: dict[str, Held] = field(default_factory=dict)
    open: dict[str, Held] = field(default_factory=dict)  # those that hold money
    manners: dict[str, str] = field(default_factory=dict)  # of cards: a decline code, or "action"
    saved: dict[str, dict[str, Card]] = field(default_factory=dict)
    events: list[str] = field(default_factory=list)  # payments that something happened to, in order
    wrong: list[str] = field(default_factory=list)  # what must never be asked for

    def __post_init__(self) -> None:
        self._answers: dict[str, tuple[object, Callable[[], Any] | None]] = {}
        self._late: list[Callable[[], object]] = []
        self._numbers = itertools.count(1)
        self._by_hold: dict[str, list[Held]] = {}
        self._by_call: dict[str, list[Held]] = {}

    async def open_customer(self, owner: str, key: str) -> str:
        return await self._do(key, (owner,), lambda: f"cus_{owner}")

    async def set_up(self, customer: str, key: str) -> str:
        return await self._do(key, (customer,), lambda: f"seti_{next(self._numbers)}_secret")

    async def save_card(self, customer: str, ref: str) -> Card:
        def save() -> Card:
            if self.manners.get(ref) == "unknown":
                raise ProcessorRefused("no such card", "resource_missing")
            card = Card(ref, "visa", "4242", 12, 2040, customer)
            return self.saved.setdefault(customer, {}).setdefault(ref, card)

        return await self._do(f"{customer}:{ref}", (), save)

    async def forget_card(self, ref: str) -> None:
        def forget() -> None:
            for cards in self.saved.values():
                cards.pop(ref, None)

        await self._do(f"forget:{ref}:{next(self._numbers)}", (), forget)

    async def cards(self, customer: str) -> tuple[Card, ...]:
        return await self._read(lambda: tuple(self.saved.get(customer, {}).values()))

    async def hold(self, order: Order, key: str) -> Payment:
        def place() -> Payment:
            manner = self.manners.get(order.method)
            if manner == "action":
                raise NeedsAction("Your bank wants you to confirm this card yourself.", "authentication_required")
            if manner:
                raise Declined("The card was declined.", manner)
            made = Held(f"pi_{self.name}_{next(self._numbers)}", order)
            self.payments[made.ref] = self.open[made.ref] = made
            self._by_hold.setdefault(order.hold_id, []).append(made)
            self._by_call.setdefault(order.call_id, []).append(made)
            return self._tell(made)

        return await self._do(key, (order,), place)

    async def capture(self, ref: str, usd_micros: int, key: str) -> Payment:
        def take() -> Payment:
            payment = self._known(ref)
            if usd_micros > payment.order.usd_micros:
                self.wrong.append(f"{ref}: {usd_micros} of {payment.order.usd_micros} asked for")
            if payment.standing != "held":
                raise ProcessorRefused(f"it is {payment.standing}", "payment_intent_unexpected_state")
            payment.standing, payment.captured = "captured", usd_micros
            payment.captures += 1
            self.open.pop(ref, None)
            return self._tell(payment)

        return await self._do(key, (ref, usd_micros), take)

    async def cancel(self, ref: str, key: str) -> Payment:
        return await self._do(key, (ref,), lambda: self.let_go(ref, "requested"))

    async def refund(self, ref: str, refund_id: str, usd_micros: int, key: str) -> Repayment:
        return await self._do(key, (ref, refund_id, usd_micros), lambda: self.give_back(ref, usd_micros, refund_id))

    async def payment(self, ref: str) -> Payment | None:
        return await self._read(lambda: self._shown(self.payments[ref]) if ref in self.payments else None)

    async def find(self, customer: str, hold_id: str, since: dt.datetime) -> Payment | None:
        def look() -> Payment | None:
            found = self._by_hold.get(hold_id, [])
            return self._shown(found[0]) if found else None

        return await self._read(look)

    async def refunds(self, ref: str) -> tuple[Repayment, ...]:
        return await self._read(lambda: tuple(self._known(ref).refunds))

    async def held(self, since: dt.datetime) -> tuple[Payment, ...]:
        return await self._read(
            lambda: tuple(self._shown(one) for one in self.open.values() if one.created_at >= since)
        )

    async def close(self) -> None:
        return None

    # What happens there without us.

    def let_go(self, ref: str, why: str) -> Payment:
        """A hold ends: canceled, or forgotten by the card's network (`expired`)."""
        payment = self._known(ref)
        if payment.standing != "held":
            raise ProcessorRefused(f"it is {payment.standing}", "payment_intent_unexpected_state")
        payment.standing, payment.why = "canceled", why
        self.open.pop(ref, None)
        return self._tell(payment)

    def give_back(self, ref: str, usd_micros: int, refund_id: str | None = None) -> Repayment:
        """A refund; without an id it was made by a person at the processor."""
        payment = self._known(ref)
        if not 0 < usd_micros <= payment.captured - payment.refunded:
            raise ProcessorRefused("more than is left", "charge_already_refunded")
        made = Repayment(f"re_{self.name}_{next(self._numbers)}", usd_micros, "succeeded", refund_id)
        payment.refunds.append(made)
        self.events.append(ref)
        return made

    def bounce(self, ref: str) -> None:
        """The newest refund that was done comes back."""
        payment = self._known(ref)
        for index in reversed(range(len(payment.refunds))):
            one = payment.refunds[index]
            if one.state == "succeeded":
                payment.refunds[index] = Repayment(one.ref, one.usd_micros, "failed", one.refund_id)
                self.events.append(ref)
                return

    def arrive(self, count: int | None = None) -> int:
        """Requests that were under way arrive after all; returns how many."""
        arriving, self._late = self._late[:count], self._late[count:] if count is not None else []
        for request in arriving:
            with contextlib.suppress(ProcessorRefused, Declined, OutcomeUnknown):
                request()
        return len(arriving)

    # What it says about itself.

    def of_call(self, call_id: str) -> list[Held]:
        """The payments made for a call."""
        return self._by_call.get(call_id, [])

    def double_captures(self) -> list[str]:
        """Holds and calls of which more was taken than once, or than was held."""
        found = [one.ref for one in self.payments.values() if one.captures > 1 or one.captured > one.order.usd_micros]
        taken: dict[str, int] = {}
        for one in self.payments.values():
            if one.captured:
                taken[one.order.call_id] = taken.get(one.order.call_id, 0) + 1
        return [*found, *(call for call, times in taken.items() if times > 1), *self.wrong]

    def overpaid(self) -> list[str]:
        """Payments of which more was given back than taken."""
        return [one.ref for one in self.payments.values() if one.refunded > one.captured]

    def _tell(self, payment: Held) -> Payment:
        self.events.append(payment.ref)
        return self._shown(payment)

    def _shown(self, one: Held) -> Payment:
        order = one.order
        return Payment(
            one.ref, one.standing, order.usd_micros, one.captured, order.hold_id, order.customer, why=one.why
        )

    def _known(self, ref: str) -> Held:
        if ref not in self.payments:
            raise ProcessorRefused("no such payment", "resource_missing")
        return self.payments[ref]

    def _once(self, key: str, what: object, act: Callable[[], T]) -> T:
        """Do it, or give the answer that was given before under this key."""
        if key in self._answers:
            asked, answer = self._answers[key]
            if asked != what:
                raise OutcomeUnknown("asked for otherwise before", answered=True)
            if answer is None:
                raise OutcomeUnknown("the processor failed (500)", answered=True)
            return answer()  # type: ignore[no-any-return]
        try:
            result = act()
        except (Declined, ProcessorRefused) as error:
            self._answers[key] = what, _raiser(error)
            raise
        self._answers[key] = what, lambda: result
        return result

    async def _do(self, key: str, what: object, act: Callable[[], T]) -> T:
        burn()
        fault = _next_fault()
        if fault in {"down", "busy"}:
            raise ProcessorDown(f"no connection ({fault})")
        if fault == "unsent":
            raise OutcomeUnknown("no answer")
        if fault == "late":
            self._late.append(lambda: self._once(key, what, act))
            raise OutcomeUnknown("no answer")
        if fault in {"broken", "broken_done"} and key not in self._answers:
            if fault == "broken_done":
                with contextlib.suppress(ProcessorRefused, Declined):
                    act()
            self._answers[key] = what, None
        try:
            result = self._once(key, what, act)
        finally:
            burn()
        if fault == "lost":
            raise OutcomeUnknown("no answer")
        return result

    async def _read(self, look: Callable[[], T]) -> T:
        burn()
        if _next_fault() is not None:
            raise ProcessorDown("no connection")
        found = look()
        burn()
        return found


def _next_fault() -> str | None:
    faults = _faults.get()
    fault = faults.pop(0) if faults else None
    return fault or None


def _raiser(error: Exception) -> Callable[[], Any]:
    def again() -> Any:
        raise error

    return again


class FusedPool:
    """A pool under the fuse: every statement has a boundary before it and one after it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def fetch(self, *values: Any) -> Any:
        return await _fused(self._pool.fetch, *values)

    async def fetchrow(self, *values: Any) -> Any:
        return await _fused(self._pool.fetchrow, *values)

    async def fetchval(self, *values: Any) -> Any:
        return await _fused(self._pool.fetchval, *values)

    async def execute(self, *values: Any) -> Any:
        return await _fused(self._pool.execute, *values)

    @contextlib.asynccontextmanager
    async def acquire(self) -> AsyncIterator[FusedConnection]:
        async with self._pool.acquire() as connection:
            yield FusedConnection(connection)
        burn()


class FusedConnection:
    """A connection of such a pool; who dies in a transaction leaves nothing of it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetchrow(self, *values: Any) -> Any:
        return await _fused(self._connection.fetchrow, *values)

    async def execute(self, *values: Any) -> Any:
        return await _fused(self._connection.execute, *values)

    def transaction(self) -> Any:
        return self._connection.transaction()


async def _fused(run: Any, *values: Any) -> Any:
    burn()
    result = await run(*values)
    burn()
    return result
