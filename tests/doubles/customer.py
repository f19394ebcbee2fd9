"""A customer whom the gate lets through: grown up, consenting, with a proven number, a card and a persona."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import asyncpg

from infra.database.numbers import CONTEXT
from infra.database.schedule_records import NO_RETRIES, Booked, Repeat, Retries
from infra.ids import new_id
from infra.vault import Vault

MASTER = b"m" * 32
ZONE = "UTC"


@dataclass(frozen=True, slots=True)
class Customer:
    """Ids of a customer's things."""

    user: str
    number_id: str
    number: str
    persona: str
    digest: bytes


async def customer(
    pool: asyncpg.Pool, number: str = "+15550177001", zone: str = "Etc/UTC", vault: Vault | None = None
) -> Customer:
    """Write one down."""
    vault = vault or Vault(pool, MASTER)
    one = Customer(new_id("user"), new_id("number"), number, new_id("persona"), vault.digest("number", number))
    await pool.execute(
        "insert into users (id, email, zone, adult_at) values ($1, $2, $3, now())", one.user, f"{one.user}@x.test", zone
    )
    await vault.open_user(one.user)
    sealed = await vault.seal(one.user, number, CONTEXT)
    await pool.execute(
        "insert into numbers (id, owner, sealed, digest, country, masked, verified_at)"
        " values ($1, $2, $3, $4, 'US', '+1 •••01', now())",
        one.number_id, one.user, sealed, one.digest,
    )  # fmt: skip
    await consent(pool, one.user, "service", granted=True)
    await pool.execute(
        "insert into payment_methods (id, owner, provider_ref, brand, last4, expires_month, expires_year, is_default)"
        " values ($1, $2, $1, 'visa', '4242', 12, 2099, true)", new_id("card"), one.user,
    )  # fmt: skip
    await pool.execute(
        "insert into personas (id, slug, name, prompt) values ($1, $1, 'Mia', 'You are Mia.')", one.persona
    )
    return one


async def consent(pool: asyncpg.Pool, user: str, purpose: str, *, granted: bool) -> None:
    """Somebody agrees to something, or withdraws it."""
    await pool.execute(
        "insert into consents (id, owner, purpose, granted, text_version, channel) values ($1, $2, $3, $4, '1', 'web')",
        new_id("consent"), user, purpose, granted,
    )  # fmt: skip


def booking(
    one: Customer,
    at: dt.datetime,
    *,
    repeat: Repeat | None = None,
    retries: Retries = NO_RETRIES,
    proposed: bool = False,
) -> Booked:
    """A row for `ScheduleStore.insert`, as if it had been booked long ago."""
    local = at.astimezone(dt.UTC).replace(tzinfo=None)
    scheduled = new_id("scheduled")
    return Booked(
        id=scheduled,
        state="proposed" if proposed else "pending",
        persona_id=one.persona,
        number_id=one.number_id,
        max_minutes=5,
        outside_hours=True,
        zone=ZONE,
        anchor=local,
        local_time=local,
        due_at=at,
        repeat=repeat,
        retries=retries,
        series=scheduled,
    )
