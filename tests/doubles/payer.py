"""Users who can be called and pay for it, behind a gateway whose card processor is a model of one."""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg

from actors.answering import Answering
from actors.placing import Placing
from infra.compliance.gate import Gate
from infra.database.call_records import Call
from infra.database.numbers import CONTEXT, DIGEST
from infra.database.owned_calls import OwnedCalls
from infra.database.personas import PersonaText
from infra.ids import new_id
from infra.money import Money
from infra.money.caps import Caps
from infra.money.reconcile import Quiet
from scheduler.settling import Archive, Settling
from tests.doubles.front import Front, People, front
from tests.doubles.processor import ProcessorModel
from transports.http.services import Services

ALWAYS: dict[str, Any] = {
    "compliance_quiet_until": "00:00",
    "compliance_quiet_from": "23:59",
    "compliance_attempts_a_day": 100,
}
SOON = dt.timedelta(0)
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Payer:
    """A user: grown up, agreeing, with a proven number, a persona and a card."""

    user: str
    headers: dict[str, str]
    number_id: str
    number: str
    persona: str

    @property
    def card(self) -> str:
        return f"pm_{self.user}"


class PaidCalls:
    """A gateway and what works beside it, with a processor that a test looks into."""

    def __init__(self, face: Front, processor: ProcessorModel, services: Services, folder: Path) -> None:
        self.face, self.processor, self.services = face, processor, services
        self.client, self.carrier, self.keeper = face.client, face.carrier, face.keeper
        self.pool: asyncpg.Pool = face.connections
        self.store, self.money, self.vault = services.history, services.money, services.vault
        self.placing, self.answering = services.placing, services.answering
        self.folder = folder
        self.settling = Settling(self.store, self.money)
        self.archive = Archive(self.store, self.vault, services.passages, folder)

    async def payer(self, *, transcripts: bool = True, card: bool = True) -> Payer:
        """A new user."""
        user, headers = await self.face.join()
        await self.pool.execute("update users set adult_at = now(), zone = 'Etc/UTC' where id = $1", user)
        await self.services.consents.give(user, "service", True, channel="api")
        await self.services.consents.give(user, "transcripts", transcripts, channel="api")
        number_id, number = new_id("number"), f"+1555{next(_numbers):07d}"
        await self.pool.execute(
            "insert into numbers (id, owner, sealed, digest, country, masked, verified_at)"
            " values ($1, $2, $3, $4, 'US', '+1 •••', now())",
            number_id,
            user,
            await self.vault.seal(user, number, CONTEXT),
            self.vault.digest(DIGEST, number),
        )
        persona = await self.services.personas.create(user, PersonaText(name="Ada", prompt="Be kind.", max_minutes=60))
        one = Payer(user, headers, number_id, number, persona.id)
        if card:
            await self.money.add_method(user, one.card)
        return one

    async def call(self, one: Payer, minutes: int = 15) -> Call:
        """Have somebody called."""
        return await self.placing.now(one.user, one.persona, one.number_id, minutes)

    async def dialled(self, one: Payer, minutes: int = 15) -> str:
        """The id of a call that is dialing."""
        return (await self.call(one, minutes)).id

    async def lasted(self, call_id: str, seconds: float, reason: str = "caller_hung_up", ago_s: float = 60.0) -> None:
        """Let a call be answered and over: by the database's clock, without anybody waiting for it."""
        await self.store.advance(call_id, "in_progress")
        await self.store.advance(call_id, "ending", reason=reason)
        await self.store.advance(call_id, "failed" if reason in FAULTS else "completed", reason=reason)
        await self.pool.execute(
            "update calls set answered_at = now() - make_interval(secs => $2::float + $3::float),"
            " ended_at = now() - make_interval(secs => $3::float) where id = $1",
            call_id,
            seconds,
            ago_s,
        )

    async def settle(self) -> None:
        """Settle and archive what is over, as a node does."""
        for call in await self.store.unsettled("n1", SOON, 100):
            await self.settling.settle(call)
        for done in await self.store.unarchived(SOON, 100):
            await self.archive.archive(done)

    async def cents(self, call_id: str) -> tuple[int, int, int]:
        """What was held, taken and given back for a call, in cents."""
        made = self.processor.of_call(call_id)
        return (
            sum(one.order.usd_micros for one in made) // 10_000,
            sum(one.captured for one in made) // 10_000,
            sum(one.refunded for one in made) // 10_000,
        )

    async def held_now(self) -> list[str]:
        """The calls that hold money at the processor."""
        return [one.order.call_id for one in self.processor.open.values()]

    async def ask(self, one: Payer, method: str, path: str, **told: Any) -> tuple[int, Any]:
        """A request of somebody's: status and document."""
        headers = one.headers | told.pop("headers", {})
        async with self.client.request(method, path, headers=headers, **told) as answer:
            body = await answer.read()
            return answer.status, (await answer.json(content_type=None)) if body else None


FAULTS = frozenset({"pipeline_error", "host_lost", "stream_lost", "carrier_error"})


@contextlib.asynccontextmanager
async def paid_calls(database_url: str, folder: Path, **overrides: Any) -> AsyncIterator[PaidCalls]:
    """The world for the length of the block."""
    processor = ProcessorModel()
    dressed: list[Services] = []

    def dress(services: Services) -> Services:
        pool, settings, vault = services.pool, services.settings, services.vault
        money = Money(pool, processor, Caps(pool, 10_000, 1_000_000), Quiet(SOON, SOON, SOON, SOON))
        history, board, personas = OwnedCalls(pool), services.switchboard, services.personas
        gate = Gate(pool, settings, vault)
        placing = Placing(settings, history, board.carrier, board.keeper, gate, money, personas, vault)
        answering = Answering(settings, history, money, personas, vault, services.opt_outs)
        dressed.append(replace(services, money=money, gate=gate, history=history, placing=placing, answering=answering))
        return dressed[-1]

    async with front(database_url, people=People(), dress=dress, **ALWAYS | overrides) as face:
        yield PaidCalls(face, processor, dressed[-1], folder)
