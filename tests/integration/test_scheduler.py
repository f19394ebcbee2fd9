"""The scheduler over a real database and a phone network that a test writes the lines for."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from actors.placing import NotPlaced
from actors.runtime import ActorSpec, System, SystemClock
from infra.database.call_records import UnknownCall
from infra.database.due import DueStore
from infra.database.leases import Lease, LeaseStore
from infra.database.pool import pool
from infra.database.schedule_records import Due, Told
from infra.database.schedules import ScheduleStore
from infra.mail import Mail
from infra.settings import Mail as MailSettings
from infra.telephony.carrier import CarrierBusy, CarrierDown, CarrierRefused, OutcomeUnknown
from infra.vault import Vault
from scheduler import clock as clock_module
from scheduler.clock import SchedulerActor
from scheduler.dialer import Dialer
from scheduler.due import Sweeps
from scheduler.notices import Notices
from tests.doubles.customer import MASTER, Customer, booking, customer
from tests.doubles.dialing import Standing

AHEAD = dt.timedelta(minutes=5)
MISSED = dt.timedelta(minutes=5)
SETTLE = dt.timedelta(milliseconds=100)
PATIENCE_S = 20.0
DIALED = Standing("ringing", "CA1")


class Phones:
    """Whoever places calls: does what the next line of the script says, else what is ordinary."""

    def __init__(self) -> None:
        self.script: list[Exception | Standing] = []
        self.holds: list[Exception | Standing] = []
        self.gone: list[Exception | Standing] = []
        self.dials: list[tuple[str, bool, dt.datetime]] = []
        self.prepared: list[str] = []
        self.abandoned: list[str] = []
        self.slow_s = 0.0

    async def prepare(
        self,
        owner: str,
        persona_id: str | None,
        number_id: str | None,
        max_minutes: int,
        *,
        scheduled_id: str | None = None,
        key: str,
        outside_hours: bool = False,
    ) -> Standing:
        self.prepared.append(key)
        return self._say(self.holds, Standing("authorising"))

    async def dial(self, call_id: str, *, again: bool = False) -> Standing:
        self.dials.append((call_id, again, dt.datetime.now(dt.UTC)))
        if self.slow_s:
            await asyncio.sleep(self.slow_s)
        return self._say(self.script, DIALED)

    async def abandon(self, call_id: str, reason: str = "canceled") -> Standing:
        self.abandoned.append(call_id)
        return self._say(self.gone, Standing("canceled", over=True))

    def _say(self, script: list[Exception | Standing], ordinary: Standing) -> Standing:
        line = script.pop(0) if script else ordinary
        if isinstance(line, Exception):
            raise line
        return line


class World:
    """One customer, one phone network, and as many schedulers as a test starts."""

    def __init__(self, connections: asyncpg.Pool, one: Customer, stack: contextlib.AsyncExitStack) -> None:
        self.connections, self.one, self._stack = connections, one, stack
        self.phones, self.told = Phones(), list[Told]()
        self.schedules = ScheduleStore(connections)

    def store(self, name: str = "n1", lease_s: float = 30.0) -> DueStore:
        return DueStore(self.connections, name, lease=dt.timedelta(seconds=lease_s), missed=MISSED)

    def dialer(self, name: str = "n1", lease_s: float = 30.0) -> Dialer:
        return Dialer(self.store(name, lease_s), self.phones, missed=MISSED, settle=SETTLE)

    async def start(self, name: str = "n1", lease_s: float = 30.0, **more: Any) -> tuple[System, SchedulerActor]:
        """A scheduler, which runs until the end of the test."""
        dialer, store = self.dialer(name, lease_s), self.store(name, lease_s)
        notices = Notices(Mail(self.connections, Vault(self.connections, MASTER), MailSettings()))

        async def tell(told: Told, connection: Any) -> None:
            self.told.append(told)
            await notices.tell(told, connection)

        sweeps = Sweeps(store, dialer, hold_ahead=AHEAD, tell=tell)
        actor = SchedulerActor(sweeps, dialer, LeaseStore(self.connections), **more)
        system = await self._stack.enter_async_context(System(name, clock=SystemClock()))
        await system.spawn(ActorSpec(lambda: actor, name="scheduler"))
        return system, actor

    async def book(self, in_s: float = 0.0, **more: Any) -> str:
        row = booking(self.one, dt.datetime.now(dt.UTC) + dt.timedelta(seconds=in_s), **more)
        await self.schedules.insert(self.one.user, [row])
        return row.id

    async def row(self, scheduled: str) -> asyncpg.Record:
        row = await self.connections.fetchrow("select * from scheduled_calls where id = $1", scheduled)
        assert row is not None
        return row

    async def until(self, scheduled: str, *states: str) -> asyncpg.Record:
        """Wait until the booked call is in one of these states."""
        async with asyncio.timeout(PATIENCE_S):
            while (row := await self.row(scheduled))["state"] not in states:  # noqa: ASYNC110 - in the database
                await asyncio.sleep(0.02)
        return row

    async def wait(self, met: Callable[[], bool | Awaitable[bool]]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not (found if isinstance(found := met(), bool) else await found):  # noqa: ASYNC110 - elsewhere
                await asyncio.sleep(0.02)

    async def claimed(self, lease_s: float = 30.0, in_s: float = 0.0) -> Due:
        """A call that this node has claimed for dialling."""
        store = self.store(lease_s=lease_s)
        await self.book(in_s)
        (due,) = await store.claim_holds(1, AHEAD)
        await store.held(due)
        (due,) = await store.claim_due(1, dt.timedelta(seconds=in_s + 1))
        return due

    async def finish(self, dialer: Dialer) -> None:
        await self.wait(lambda: dialer.told()["under_way"] == 0)


@pytest_asyncio.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with pool(database_url) as connections, contextlib.AsyncExitStack() as stack:
        yield World(connections, await customer(connections), stack)


async def test_a_booked_call_is_prepared_and_dialled_at_its_time_and_not_before(world: World) -> None:
    """CMB-34, CMB-36: executed automatically; one hold, one dial."""
    await world.start()
    scheduled = await world.book(in_s=2.0)
    row = await world.until(scheduled, "dialed")
    ((call, again, at),) = world.phones.dials
    assert (call, again) == (row["call_id"], False)
    assert world.phones.prepared == [call]
    late = at - row["due_at"]
    assert dt.timedelta() <= late < dt.timedelta(seconds=1)


async def test_three_schedulers_dial_each_call_once(world: World) -> None:
    """COM-21, COM-76: whoever of them is there."""
    for name in ("n1", "n2", "n3"):
        await world.start(name)
    booked = [await world.book(in_s=1.0 + place / 100) for place in range(60)]
    for scheduled in booked:
        await world.until(scheduled, "dialed")
    calls = [call for call, _, _ in world.phones.dials]
    assert len(calls) == len(set(calls)) == 60


async def test_an_answer_that_was_lost_is_looked_up_before_another_dial(world: World) -> None:
    """COM-21: reconciled, in the same attempt."""
    await world.start()
    world.phones.script = [OutcomeUnknown("the answer was lost")]
    row = await world.until(await world.book(), "dialed")
    assert [(call, again) for call, again, _ in world.phones.dials] == [(row["call_id"], False), (row["call_id"], True)]
    assert row["attempt"] == 1
    assert await world.connections.fetchval("select reconciled from scheduled_attempts")


async def test_a_call_whose_row_shows_no_answer_is_looked_up_too(world: World) -> None:
    """COM-21: the placing of a call tells a lost answer by the call that is dialing without the carrier's id."""
    await world.start()
    world.phones.script = [Standing("dialing"), DIALED]
    await world.until(await world.book(), "dialed")
    assert [again for _, again, _ in world.phones.dials] == [False, True]


@pytest.mark.parametrize(
    "failure",
    [CarrierDown("away"), CarrierBusy("slow down", 0.1), NotPlaced("no-capacity", "full", again=True, after=1)],
)
async def test_a_carrier_that_is_away_is_tried_again_within_the_window(world: World, failure: Exception) -> None:
    """CMB-37: late, within five minutes; one attempt."""
    await world.start()
    world.phones.script = [failure]
    row = await world.until(await world.book(), "dialed")
    assert len(world.phones.dials) == 2
    assert row["attempt"] == 1


async def test_a_node_without_room_leaves_its_calls_to_another(world: World) -> None:
    """CMB-34: a node that is full or draining puts the call back and claims no more for a while."""
    due, full, other = await world.claimed(), world.dialer(), world.dialer("n2")
    world.phones.script = [NotPlaced("no-capacity", "full", again=True, after=5)]
    full.take([due], asyncio.get_running_loop().time())
    await world.finish(full)
    assert full.room == 0
    assert (await world.row(due.id))["state"] == "held"

    async def another() -> bool:
        dues = await world.store("n2").claim_due(other.room, dt.timedelta())
        other.take(dues, asyncio.get_running_loop().time())
        return bool(dues)

    await world.wait(another)
    await world.finish(other)
    assert (await world.row(due.id))["state"] == "dialed"


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (NotPlaced("opted-out", "The number asked not to be called."), "opted-out"),
        (NotPlaced("quiet-hours", "It is late there."), "quiet-hours"),
        (CarrierRefused("unallocated", status=400, code=21211), "carrier-refused"),
    ],
)
async def test_a_refused_dial_is_skipped_and_the_user_is_told_why(world: World, failure: Exception, kind: str) -> None:
    """CMB-02, CMB-36: each with its reason, in a letter, once."""
    await world.start()
    world.phones.script = [failure]
    scheduled = await world.book()
    row = await world.until(scheduled, "skipped")
    assert (row["outcome"], len(world.phones.dials)) == (kind, 1)
    mail = Mail(world.connections, Vault(world.connections, MASTER), MailSettings())

    async def written() -> bool:
        return bool(await mail.letters(world.one.user))

    await world.wait(written)
    ((_, letter),) = await mail.letters(world.one.user)
    assert len(world.told) == 1
    assert row["note"] in letter.text
    assert "did not take place" in letter.subject


async def test_a_declined_card_skips_the_call_before_it_is_due(world: World) -> None:
    """CMB-36: on decline the call is skipped and the user told; nobody is dialled."""
    await world.start()
    world.phones.holds = [NotPlaced("card-declined", "The card was declined. Use another one.")]
    scheduled = await world.book(in_s=200)
    row = await world.until(scheduled, "skipped")
    assert (row["outcome"], row["note"]) == ("card-declined", "The card was declined. Use another one.")
    await world.wait(lambda: [told.id for told in world.told] == [scheduled])
    assert world.phones.dials == []


async def test_payments_that_do_not_answer_are_asked_again_for_the_same_call(world: World) -> None:
    """CMB-36: a hold of which nobody knows is not made twice."""
    await world.start()
    world.phones.holds = [NotPlaced("payments-down", "They do not answer.", again=True, after=1), TimeoutError()]
    row = await world.until(await world.book(in_s=2.0), "dialed")
    assert world.phones.prepared == [row["call_id"]] * 3


async def test_a_cancelled_call_is_let_go_of(world: World) -> None:
    """CMB-35: its money is free again, and nobody is dialled."""
    await world.start()
    scheduled = await world.book(in_s=100)
    row = await world.until(scheduled, "held")
    await world.schedules.cancel(world.one.user, scheduled)
    await world.wait(lambda: world.phones.abandoned == [row["call_id"]])

    async def forgotten() -> bool:
        return not await world.connections.fetch("select from scheduled_leftovers")

    await world.wait(forgotten)
    assert world.phones.dials == []


async def test_a_call_that_was_never_written_down_is_let_go_of_too(world: World) -> None:
    """CMB-35: its node died before it could be."""
    await world.start()
    world.phones.gone = [UnknownCall("call_x")]
    await world.connections.execute(
        "insert into scheduled_leftovers (call_id, owner, scheduled_id, not_before) values ('call_x', $1, 's', now())",
        world.one.user,
    )

    async def forgotten() -> bool:
        return not await world.connections.fetch("select from scheduled_leftovers")

    await world.wait(forgotten)


@pytest.mark.parametrize(("standing", "state"), [(Standing("canceled", over=True), "missed"), (DIALED, "dialed")])
async def test_a_dial_found_out_too_late_is_not_repeated(world: World, standing: Standing, state: str) -> None:
    """CMB-37: after the window it is missed, unless the carrier has it."""
    due = await world.claimed()
    await world.connections.execute(
        "update scheduled_calls set lease_until = now(), dial_at = dial_at - interval '6 minutes'"
    )
    world.phones.gone = [standing]
    await world.start("n2")
    await world.until(due.id, state)
    assert world.phones.dials == []


async def test_nobody_dials_with_a_lease_that_is_used_up(world: World) -> None:
    """COM-21: a process that was stopped between its claim and its dial leaves the call to others."""
    due, dialer = await world.claimed(), world.dialer()
    long_ago = asyncio.get_running_loop().time() - 16
    dialer.take([due], long_ago)
    await world.finish(dialer)
    assert world.phones.dials == []
    assert (await world.row(due.id))["state"] == "dialing"
    dialer.take([due], asyncio.get_running_loop().time())
    await world.finish(dialer)
    assert len(world.phones.dials) == 1


async def test_a_dial_that_takes_too_long_is_given_up_and_looked_up(world: World) -> None:
    """COM-21: within half of the lease, so that nobody else can be at it."""
    due, dialer = await world.claimed(lease_s=0.6), world.dialer(lease_s=0.6)
    world.phones.slow_s = 5.0
    began = asyncio.get_running_loop().time()
    dialer.take([due], began)
    await world.finish(dialer)
    assert asyncio.get_running_loop().time() - began < 2
    row = await world.row(due.id)
    assert (row["state"], dialer.told()["unknown"]) == ("dialing", 1)


async def test_a_scheduler_that_stops_hands_back_what_it_has_not_begun(world: World) -> None:
    """COM-76: another one dials it on time."""
    due, dialer = await world.claimed(in_s=30), world.dialer()
    dialer.take([due], asyncio.get_running_loop().time())
    await dialer.close()
    assert (await world.row(due.id))["state"] == "held"
    assert world.phones.dials == []


async def test_a_broken_sweep_stops_no_other(world: World) -> None:
    """COM-76: the clock goes on, and says that something failed."""
    system, actor = await world.start()
    await world.connections.execute("alter table scheduled_leftovers rename to elsewhere")
    await world.until(await world.book(in_s=1.0), "dialed")
    await world.wait(lambda: actor.snapshot()["failures"] > 0)
    assert [status.state for status in system.tree() if status.name == "scheduler"] == ["running"]


async def test_what_one_node_does_alone_moves_when_it_is_gone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """COM-76: one holder; a dead one's lease is taken within ten seconds, and its work done at once."""
    assert clock_module.LEASE_LENGTH.total_seconds() + clock_module.RENEW_S <= 10
    monkeypatch.setattr(clock_module, "LEASE_LENGTH", dt.timedelta(seconds=4))
    monkeypatch.setattr(clock_module, "RENEW_S", 0.5)
    done: list[Lease] = []

    async def upkeep(lease: Lease) -> None:
        done.append(lease)

    _, first = await world.start("n1", upkeep=upkeep)
    await world.wait(lambda: first.leads and len(done) == 1)
    _, second = await world.start("n2", upkeep=upkeep)
    await asyncio.sleep(1.0)
    assert (first.leads, second.leads) == (True, False)
    first._clock.shutdown(wait=False)  # it is as good as dead: it renews nothing any more
    await world.wait(lambda: second.leads)
    assert not first.leads
    await world.wait(lambda: [lease.epoch for lease in done] == [1, 2])


async def test_hosts_are_told_of_calls_that_begin_soon(world: World) -> None:
    """CMB-40: pipelines are warm before due calls."""
    told: list[int] = []

    async def warm(count: int) -> None:
        told.append(count)

    for _ in range(3):
        await world.until(await world.book(in_s=20), "pending")
    await world.book(in_s=200)
    store = world.store()
    await asyncio.gather(*(store.held(due) for due in await store.claim_holds(10, AHEAD)))
    await world.start(soon=store.soon, warm=warm)
    await world.wait(lambda: told == [3])
