"""The public record of the service: it does not lie, not even by silence."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator

import pytest_asyncio

from actors.runtime import ActorSpec, ManualClock, Message, System
from infra.database.pool import open_pool
from infra.database.status import StatusStore, share
from scheduler.prober import IN_A_ROW, PART, PERIOD_SECONDS, Prober


class Settle(Message, tag="test.settle"):
    """Means nothing to a prober."""


class Watched(Prober):
    """A prober that is told what it sees."""

    good = True

    async def ready(self) -> bool:
        return self.good


class Scene:
    """A node that is looked at when the test says so."""

    def __init__(self, system: System, clock: ManualClock, store: StatusStore) -> None:
        self.system, self.clock, self.store = system, clock, store
        self.prober = Watched("http://127.0.0.1:9", "n1", store)

    async def open(self) -> None:
        await self.system.spawn(ActorSpec(lambda: self.prober, name="prober"))

    async def look(self, *seen: bool) -> None:
        """So many probes, one a period."""
        for good in seen:
            self.prober.good = good
            await self.clock.advance(PERIOD_SECONDS)  # its own clock lets it look
            await self.system.ref("prober").ask(Settle(), timeout=5.0)  # answered once that is done

    @property
    def now(self) -> dt.datetime:
        return self.clock.now()


@pytest_asyncio.fixture
async def scene(database_url: str) -> AsyncIterator[Scene]:
    clock, pool = ManualClock(), await open_pool(database_url)
    async with System("status", clock=clock) as system:
        made = Scene(system, clock, StatusStore(pool))
        await made.open()
        yield made
    await pool.close()


async def test_a_node_that_is_ready_is_up_all_day(scene: Scene) -> None:
    """COM-57: probes are counted by day."""
    await scene.look(*[True] * 4)
    days = await scene.store.days(PART, scene.now.date())
    assert sum(day.bad for day in days) == 0
    assert share(days) == 1.0
    assert await scene.store.incidents(PART, scene.now) == ()


async def test_what_lasts_is_an_incident_from_its_first_failed_probe_to_its_first_good_one(scene: Scene) -> None:
    """COM-57: three probes of a kind in a row open and close it; one bad probe is only counted."""
    await scene.look(True, True, True, False, True, True, True)
    assert await scene.store.incidents(PART, scene.now) == ()
    await scene.look(False)
    began = scene.now
    await scene.look(*[False] * (IN_A_ROW - 1))
    [incident] = await scene.store.incidents(PART, scene.now)
    assert (incident.opened_at, incident.closed_at) == (began, None)
    await scene.look(True)
    ended = scene.now
    await scene.look(*[True] * (IN_A_ROW - 1))
    [incident] = await scene.store.incidents(PART, scene.now)
    assert (incident.opened_at, incident.closed_at) == (began, ended)


async def test_the_time_in_which_nobody_ran_is_counted_against_us(scene: Scene) -> None:
    """COM-57: a dead node probes nothing, which must not look like a good day."""
    await scene.look(True)
    await scene.system.stop_actor("prober")
    stopped = scene.now
    await scene.clock.advance(3600.0)
    scene.prober = Watched("http://127.0.0.1:9", "n1", scene.store)
    await scene.open()
    await scene.look(True)
    [incident] = await scene.store.incidents(PART, scene.now)
    assert incident.cause == "No node was running."
    assert incident.closed_at is not None
    assert incident.closed_at - incident.opened_at >= dt.timedelta(hours=1)
    assert abs(incident.opened_at - stopped) <= dt.timedelta(seconds=2 * PERIOD_SECONDS)
    found = share(await scene.store.days(PART, scene.now.date()))
    assert found is not None
    assert found < 0.02


async def test_probes_made_while_the_database_was_away_are_written_when_it_is_back(scene: Scene) -> None:
    """COM-57, COM-05: an outage is not forgotten because it was total."""
    await scene.look(True)
    store, broken = scene.prober._store, Broken()
    scene.prober._store = broken  # type: ignore[assignment]
    await scene.look(*[False] * 5)
    scene.prober._store = store
    await scene.look(False)
    [incident] = await scene.store.incidents(PART, scene.now)
    assert incident.closed_at is None
    assert sum(day.bad for day in await scene.store.days(PART, scene.now.date())) == 6


class Broken:
    """A database that is away."""

    def __getattr__(self, name: str) -> object:
        raise ConnectionRefusedError(name)
