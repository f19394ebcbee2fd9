"""What a node does by the clock, beside its calls: booked calls, payments, archives, retention, the public record.

Every node does all of it; the claim of a row, or a lease, decides which one does what.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

from asyncpg import Pool

from actors.hosts import Expect
from actors.placing import Placing
from actors.runtime import ActorError, ActorSpec, Ref
from bots.personas.keeping import review_voices
from bots.voices import book_of
from infra.compliance.gate import Gate
from infra.database.calls import CallStore
from infra.database.due import DueStore
from infra.database.inbox import Inbox
from infra.database.leases import Lease, LeaseStore
from infra.database.owned_calls import OwnedCalls
from infra.database.passages import Passages
from infra.database.personas import PersonaStore
from infra.database.retention import Retention
from infra.database.status import StatusStore
from infra.embeddings import embedder_of
from infra.mail import Mail
from infra.money.meter import Meter, Rates
from infra.money.stripe import money_of
from infra.settings import Settings
from infra.vault import Vault, master_key
from scheduler.bookkeeper import Bookkeeper
from scheduler.clock import SchedulerActor
from scheduler.dialer import Dialer
from scheduler.due import Sweeps
from scheduler.notices import Notices
from scheduler.prober import Prober
from scheduler.reconciler import Reconciler
from scheduler.settler import Settler
from scheduler.settling import Archive, Settling
from transports.switchboard import Switchboard


@contextlib.asynccontextmanager
async def clockwork(
    settings: Settings, database: str, pool: Pool, board: Switchboard
) -> AsyncIterator[list[ActorSpec]]:
    """The actors that work by the clock; what they share is released at the end of the block."""
    vault = Vault(pool, master_key(settings))
    personas = PersonaStore(pool, vault)
    money = money_of(settings, pool)
    calls = OwnedCalls(pool)
    passages = Passages(pool, vault, embedder_of(settings.embeddings))
    placing = Placing(
        settings, calls, board.carrier, board.keeper, Gate(pool, settings, vault), money, personas, vault
    )  # fmt: skip
    name, recordings = settings.node.name, Path(settings.node.var) / "recordings"
    here = f"http://{settings.node.bind}:{settings.node.port}"

    def scheduler() -> SchedulerActor:
        mail = Mail(pool, vault, settings.mail)
        return booked_calls(settings, pool, placing, Notices(mail), Upkeep(settings, pool, personas), board.keeper)

    def settler() -> Settler:
        archive = Archive(calls, vault, passages, recordings, Meter(pool, Rates.of(settings)))
        return Settler(name, database, calls, Settling(calls, money), archive)

    try:
        yield [
            ActorSpec(lambda: Reconciler(settings, CallStore(pool), vault), "reconciler", restart="permanent"),
            ActorSpec(scheduler, "scheduler", restart="permanent"),
            ActorSpec(settler, "settler", restart="permanent"),
            ActorSpec(lambda: Bookkeeper(money, Inbox(pool)), "bookkeeper", restart="permanent"),
            ActorSpec(lambda: Prober(here, name, StatusStore(pool)), "prober", restart="permanent"),
        ]
    finally:
        await money.close()


def booked_calls(
    settings: Settings, pool: Pool, placing: Placing, notices: Notices, upkeep: Upkeep, keeper: Ref
) -> SchedulerActor:
    """The scheduler of a node."""
    told = settings.schedule
    missed = dt.timedelta(minutes=told.missed_minutes)
    store = DueStore(pool, settings.node.name, lease=dt.timedelta(seconds=told.lease_seconds), missed=missed)
    dialer = Dialer(store, placing, missed=missed)
    sweeps = Sweeps(store, dialer, hold_ahead=dt.timedelta(minutes=told.hold_minutes), tell=notices.tell)

    async def warm(calls: int) -> None:
        with contextlib.suppress(ActorError):
            await keeper.tell(Expect(calls))

    return SchedulerActor(
        sweeps, dialer, LeaseStore(pool), upkeep=upkeep.once, here=upkeep.here, soon=store.soon, warm=warm
    )


class Upkeep:
    """What is done every hour: by one node for all, and by each for its own files."""

    def __init__(self, settings: Settings, pool: Pool, personas: PersonaStore) -> None:
        self._retention = Retention(pool, personas)
        self._personas, self._voices = personas, book_of(settings)

    async def once(self, lease: Lease) -> None:
        """Delete rows whose time is over, and look after the voices of people's personas.

        Raises:
            LeaseLost
        """
        await self._retention.delete_rows(dt.datetime.now(dt.UTC), lease)
        await review_voices(self._personas, self._voices)

    async def here(self) -> None:
        """Delete this node's recordings whose time is over."""
        await self._retention.delete_recordings(dt.datetime.now(dt.UTC))
