"""What the handlers of the API work with: one field a store, built once in the gateway."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from asyncpg import Pool

from actors.answering import Answering
from actors.placing import Placing
from bots.voices import VoiceBook, book_of
from infra.compliance.gate import Gate
from infra.database.calls import CallStore
from infra.database.consents import Consents
from infra.database.contacts import ContactStore
from infra.database.idempotency import Answers
from infra.database.numbers import Numbers
from infra.database.opt_outs import OptOuts
from infra.database.owned_calls import OwnedCalls
from infra.database.passages import Passages
from infra.database.personas import PersonaStore
from infra.database.schedules import ScheduleStore
from infra.database.users import Users
from infra.embeddings import embedder_of
from infra.identity.house import Identity
from infra.identity.principal import Principal
from infra.limits import Limiter
from infra.money import Money
from infra.money.stripe import money_of
from infra.settings import Settings
from infra.vault import Vault, master_key
from transports.http.events import Announcements
from transports.parts import Part
from transports.switchboard import Switchboard


class Sessions(Protocol):
    """Verifies access tokens."""

    async def authenticate(self, access_token: str) -> Principal | None:
        """Whom the token proves; None when it is malformed, expired or revoked."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that a handler may ask, as `ask.services.NAME`.

    To add a store: a field here and its line in `of`.
    """

    settings: Settings
    pool: Pool
    switchboard: Switchboard
    store: CallStore
    announcements: Announcements
    limiter: Limiter
    parts: tuple[Part, ...]
    vault: Vault
    answers: Answers
    gate: Gate
    schedules: ScheduleStore
    opt_outs: OptOuts
    identity: Identity
    users: Users
    sessions: Sessions
    numbers: Numbers
    consents: Consents
    money: Money
    personas: PersonaStore
    contacts: ContactStore
    passages: Passages
    voices: VoiceBook
    history: OwnedCalls
    placing: Placing
    answering: Answering

    @classmethod
    def of(
        cls,
        settings: Settings,
        pool: Pool,
        board: Switchboard,
        announcements: Announcements,
        limiter: Limiter,
        parts: Iterable[Part] = (),
    ) -> Self:
        """The services of a gateway.

        Raises:
            SettingsError: there is no master key.
        """
        vault = Vault(pool, master_key(settings))
        identity = Identity.of(settings, pool, vault)
        personas, history = PersonaStore(pool, vault), OwnedCalls(pool)
        gate, money, opt_outs = Gate(pool, settings, vault), money_of(settings, pool), OptOuts(pool)
        return cls(
            settings=settings,
            pool=pool,
            switchboard=board,
            store=board.store,
            announcements=announcements,
            limiter=limiter,
            parts=tuple(parts),
            vault=vault,
            answers=Answers(pool, vault),
            gate=gate,
            schedules=ScheduleStore(pool),
            opt_outs=opt_outs,
            identity=identity,
            users=identity.users,
            sessions=identity.sessions,
            numbers=identity.numbers,
            consents=identity.consents,
            money=money,
            personas=personas,
            contacts=ContactStore(pool, personas),
            passages=Passages(pool, vault, embedder_of(settings.embeddings)),
            voices=book_of(settings),
            history=history,
            placing=Placing(settings, history, board.carrier, board.keeper, gate, money, personas, vault),
            answering=Answering(settings, history, money, personas, vault, opt_outs),
        )
