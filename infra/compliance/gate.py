"""The one gate in front of every dial: whose number it is, what they agreed to, when it is there, what it may cost.

Facts are read in one statement, the decision is a pure function of them, and every decision is written down before
anybody acts on it. What cannot be read or written down is not dialled.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import structlog
from asyncpg import Pool

from infra.compliance.phones import NotANumber, Phone, read_phone
from infra.compliance.quiet import ORDINARY, Hours, hours_for, may_ring, next_ring
from infra.database.pool import Database
from infra.database.queries import load
from infra.ids import new_id
from infra.settings import Settings
from infra.zones import UnknownZone, wall, zone_of

_SQL = load("gate", "sealed", "one_at_a_time", "facts", "decided")
log = structlog.get_logger()
Stage = Literal["book", "hold", "dial"]
MICROS = 1_000_000
SECONDS = 3.0  # for reading and writing; a gate that takes longer is down
UNSET_ZONE = "UTC"  # of an account whose owner has not told us where they are
CONTEXT = "numbers.sealed"  # as `infra.database.numbers` seals them
DOWN = "gate-down"
# What is only asked when the phone would ring, or money would be held for it.
NOT_AT_BOOKING = frozenset({"attempt-cap", "already-on-call", "spend-cap"})
MESSAGES: Mapping[str, str] = {
    "not-adult": "Calls are for adults. Confirm under Account that you are 18 or older.",
    "no-consent": "Calls need your consent. Give it under Account, Privacy.",
    "number-not-yours": "This is none of your numbers. Add it under Numbers and prove it by the code we send.",
    "number-not-verified": "This number is not proven yet. Enter the code we sent to it under Numbers.",
    "opted-out": "This number asked not to be called. Allow calls to it again under Numbers.",
    "premium-number": "We do not dial premium, shared-cost or forwarding numbers. Use an ordinary number.",
    "country-blocked": "We do not dial numbers of this country yet.",
    "caller-not-ours": "Calls can only come from a number of ours. Tell support about this.",
    "quiet-hours": "It is {local} there, and calls are made from {hours}. Tick 'outside these hours' if you want it.",
    "attempt-cap": "This number was called {attempts} times in 24 hours, which is the most we do. Try again tomorrow.",
    "already-on-call": "You are on a call already. Hang up first.",
    "spend-cap": "Today's spending limit is reached. Try again tomorrow or ask support to raise it.",
    "no-payment-method": "There is no card on file. Add one under Payments.",
    DOWN: "We cannot check just now whether this call is allowed, so it was not made. Try again in a minute.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A dial that somebody wants.

    Args:
        stage: `hold` minutes before a scheduled call, `dial` when the phone is to ring now: only this is an attempt.
        call_id: of the call's row; it does not count as another live call, and is counted once however often it asks.
        outside_hours: the user ticked that the call may fall into the quiet hours.
        from_number: the caller id; empty for ours.
    """

    owner: str
    number_id: str
    max_minutes: int
    stage: Stage = "dial"
    call_id: str | None = None
    scheduled_id: str | None = None
    outside_hours: bool = False
    from_number: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything that a decision depends on. `phone` is None when the number cannot be read."""

    now: dt.datetime
    stage: Stage = "dial"
    adult: bool = False
    consent: bool = False
    owned: bool = False
    verified: bool = False
    stopped: bool = False
    phone: Phone | None = None
    countries: frozenset[str] = frozenset()
    caller_ours: bool = True
    zones: tuple[str, ...] = ()
    hours: Hours = ORDINARY
    outside_hours: bool = False
    attempts: int = 0
    attempts_cap: int = 3
    on_call: bool = False
    card: bool = False
    price: int = 0
    spent: int = 0
    cap: int = 0
    system_spent: int = 0
    system_cap: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a dial may be made. `code` is the first condition that refuses it, `failing` are all of them.

    `message` is for the user; `next_at` the next moment outside the quiet hours, when those are the reason.
    """

    allowed: bool
    code: str | None = None
    message: str = ""
    failing: tuple[str, ...] = ()
    next_at: dt.datetime | None = field(default=None, compare=False)


class Unsealer(Protocol):
    """Reads what was sealed; `infra.vault.Vault`."""

    async def unseal(self, owner: str, sealed: str, context: str) -> str: ...


def decide(facts: Facts) -> Decision:
    """What these facts allow. Each condition has its own code, and none hides behind another in `failing`."""
    phone = facts.phone
    fails = {
        "not-adult": not facts.adult,
        "no-consent": not facts.consent,
        "number-not-yours": not facts.owned,
        "number-not-verified": facts.owned and not facts.verified,
        "opted-out": facts.stopped,
        "premium-number": phone is not None and phone.premium,
        "country-blocked": facts.owned and (phone is None or phone.country not in facts.countries),
        "caller-not-ours": not facts.caller_ours,
        "quiet-hours": facts.owned and not facts.outside_hours and not may_ring(facts.now, facts.zones, facts.hours),
        "attempt-cap": facts.attempts >= facts.attempts_cap,
        "already-on-call": facts.on_call,
        "spend-cap": facts.spent + facts.price > facts.cap or facts.system_spent + facts.price > facts.system_cap,
        "no-payment-method": not facts.card,
    }
    if facts.stage == "hold":
        fails["already-on-call"] = False  # the call that is going on will be over by then, or refuse the dial
    if facts.stage == "book":
        fails |= dict.fromkeys(NOT_AT_BOOKING, False)
    failing = tuple(code for code, failed in fails.items() if failed)
    if not failing:
        return Decision(True)
    return Decision(False, failing[0], _message(failing[0], facts), failing, _next(failing[0], facts))


def _message(code: str, facts: Facts) -> str:
    local = f"{wall(facts.now, facts.zones[0]):%H:%M}" if facts.zones else "a time nobody knows"
    return MESSAGES[code].format(local=local, hours=facts.hours, attempts=facts.attempts)


def _next(code: str, facts: Facts) -> dt.datetime | None:
    return next_ring(facts.now, facts.zones, facts.hours) if code == "quiet-hours" else None


def down() -> Decision:
    """The decision when there are no facts."""
    return Decision(False, DOWN, MESSAGES[DOWN], (DOWN,))


def callee_zones(stored: str, phone: Phone | None) -> tuple[str, ...]:
    """Where a person's clock is taken to stand: the zone they told us, else every zone their number may be in."""
    if stored != UNSET_ZONE:
        try:
            return (zone_of(stored).key,)
        except UnknownZone:
            log.warning("gate_zone_unknown", zone=stored)
    if phone is not None and phone.zones:
        return phone.zones
    return (stored,) if stored == UNSET_ZONE else ()


class Gate:
    """Asks the database, decides, and writes the decision down.

    Args:
        vault: reads the number, which its numbering plan judges.
    """

    def __init__(self, pool: Pool, settings: Settings, vault: Unsealer) -> None:
        self._pool, self._vault = pool, vault
        self._rules, self._ours = settings.compliance, frozenset({settings.twilio.number})
        self._countries = frozenset(one.strip().upper() for one in self._rules.countries.split(",") if one.strip())
        self._hours = Hours.of(self._rules.quiet_until, self._rules.quiet_from)

    async def check(self, order: Order) -> Decision:
        """Whether this dial may be made now; written down. Never raises: what cannot be checked is refused."""
        try:
            async with asyncio.timeout(SECONDS):
                phone = await self._phone(order)
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute(_SQL.one_at_a_time, order.owner)
                    facts, digest = await self._read(connection, order, phone)
                    decision = decide(facts)
                    await self._note(connection, order, facts, digest, decision)
        except Exception as error:  # whatever it is, nobody knows that the call is allowed
            log.error("gate_down", owner=order.owner, error=repr(error))
            return down()
        log.info("gate", owner=order.owner, call=order.call_id, stage=order.stage, code=decision.code or "allowed")
        return decision

    async def preview(self, order: Order, *moments: dt.datetime) -> list[Decision]:
        """What would be decided about a booking at each of these moments; nothing is written down. Never raises."""
        try:
            async with asyncio.timeout(SECONDS):
                facts, _ = await self._read(self._pool, replace(order, stage="book"), await self._phone(order))
        except Exception as error:
            log.error("gate_down", owner=order.owner, error=repr(error))
            return [down() for _ in moments]
        return [decide(replace(facts, now=moment)) for moment in moments]

    async def _read(self, database: Database, order: Order, phone: Phone | None) -> tuple[Facts, bytes | None]:
        rules = self._rules
        caps = rules.user_usd_a_day * MICROS, rules.system_usd_a_day * MICROS
        row = await database.fetchrow(_SQL.facts, order.owner, order.number_id, order.call_id, order.max_minutes, *caps)
        assert row is not None
        facts = Facts(
            now=row["now"],
            stage=order.stage,
            adult=row["adult"],
            consent=row["consent"],
            owned=row["owned"],
            verified=row["verified"],
            stopped=row["stopped"],
            phone=phone,
            countries=self._countries,
            caller_ours=not order.from_number or order.from_number in self._ours,
            zones=callee_zones(row["zone"], phone),
            hours=self._hours if phone is None else hours_for(phone.number, self._hours),
            outside_hours=order.outside_hours,
            attempts=row["attempts"],
            attempts_cap=rules.attempts_a_day,
            on_call=row["on_call"],
            card=row["card"],
            price=row["price"],
            spent=row["spent"],
            cap=row["cap"],
            system_spent=row["system_spent"],
            system_cap=row["system_cap"],
        )
        return facts, row["digest"]

    async def _phone(self, order: Order) -> Phone | None:
        """The number as its plan knows it; None when it is not the owner's, or no number any more.

        An id is of one number for ever, so it is read before the facts: unsealing may need a connection of its own,
        and nobody should wait for one while holding another.
        """
        sealed: str | None = await self._pool.fetchval(_SQL.sealed, order.owner, order.number_id)
        if sealed is None:
            return None
        try:
            return read_phone(await self._vault.unseal(order.owner, sealed, CONTEXT))
        except NotANumber:
            return None

    async def _note(
        self,
        connection: Database,
        order: Order,
        facts: Facts,
        digest: bytes | None,
        decision: Decision,
    ) -> None:
        values = (order.owner, order.number_id, digest, order.stage, order.scheduled_id, order.call_id)
        outcome = (decision.allowed, decision.code, list(decision.failing), _told(facts))
        await connection.execute(_SQL.decided, new_id("decision"), *values, *outcome)


def _told(facts: Facts) -> dict[str, Any]:
    """The facts as they are kept: everything but the number itself."""
    phone = facts.phone
    return {
        "adult": facts.adult,
        "consent": facts.consent,
        "owned": facts.owned,
        "verified": facts.verified,
        "stopped": facts.stopped,
        "country": phone and phone.country,
        "kind": phone and phone.kind,
        "zones": list(facts.zones),
        "hours": str(facts.hours),
        "outside_hours": facts.outside_hours,
        "attempts": facts.attempts,
        "on_call": facts.on_call,
        "card": facts.card,
        "price": facts.price,
        "spent": facts.spent,
        "cap": facts.cap,
    }
