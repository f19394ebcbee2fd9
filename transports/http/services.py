"""What the handlers of the API work with: one field a store, built once in the gateway."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, Self

from asyncpg import Pool

from infra.compliance.gate import Gate
from infra.database.calls import CallStore
from infra.database.idempotency import Answers
from infra.database.opt_outs import OptOuts
from infra.database.schedules import ScheduleStore
from infra.identity.principal import Principal
from infra.limits import Limiter
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


class Strangers:
    """Knows nobody: stands where no accounts are."""

    async def authenticate(self, access_token: str) -> Principal | None:
        return None


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
    sessions: Sessions

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
            gate=Gate(pool, settings, vault),
            schedules=ScheduleStore(pool),
            opt_outs=OptOuts(pool),
            sessions=Strangers(),
        )
