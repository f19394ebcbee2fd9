"""Reconciliation: what nobody holds is brought to the state it is really in, and nothing stops the sweep."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from infra.database.call_records import Call
from infra.settings import load
from infra.telephony.carrier import CarrierCall, CarrierDown
from scheduler import reconciler as reconciler_module
from scheduler.reconciler import Reconciler, Sweep
from tests.doubles.front import NUMBER, Carrier, Front, front

TO = "+15550177001"
SID = "CA" + "3" * 32


class Watch:
    """A reconciler that sweeps when told, in a database whose calls can be made old."""

    def __init__(self, gateway: Front, carrier: Carrier, var: Path) -> None:
        self.gateway, self.store, self.carrier, self.var = gateway, gateway.store, carrier, var
        self.reconciler = Reconciler(load(environ={}, node_var=str(var)), gateway.store)
        self.reconciler._carrier = carrier  # type: ignore[assignment]

    async def sweep(self) -> None:
        await self.reconciler.receive(Sweep())

    async def dialing(self, sid: str | None = SID) -> Call:
        call = await self.store.create("outbound", "mia", NUMBER, TO)
        call = await self.store.advance(call.id, "dialing")
        return call if sid is None else await self.store.bind_carrier_sid(call.id, sid)

    async def age(self, call: Call, seconds: float) -> None:
        """Let the last event of a call be so long ago."""
        await self.gateway.connections.execute(
            "update calls set changed_at = now() - $2::interval, ended_at = ended_at - $2::interval where id = $1",
            call.id,
            dt.timedelta(seconds=seconds),
        )

    def says(self, status: str, sid: str = SID) -> None:
        self.carrier.calls[sid] = CarrierCall(sid, status, "", TO, NUMBER)


@pytest_asyncio.fixture
async def watch(database_url: str, tmp_path: Path) -> AsyncIterator[Watch]:
    async with front(database_url) as gateway:
        yield Watch(gateway, Carrier(), tmp_path)


@pytest.mark.parametrize(
    ("status", "state"),
    [("completed", "completed"), ("busy", "busy"), ("no-answer", "no_answer"), ("failed", "failed")],
)
async def test_a_call_whose_webhooks_were_lost_becomes_what_the_carrier_says(
    watch: Watch, status: str, state: str
) -> None:
    """COM-13, COM-46: once it has been quiet for a while, not before."""
    call = await watch.dialing()
    watch.says(status)
    await watch.sweep()
    assert (await watch.store.get(call.id)).state == "dialing"
    await watch.age(call, 15)
    await watch.sweep()
    assert (await watch.store.get(call.id)).state == state


async def test_a_dial_whose_reply_was_lost_is_found_in_the_carriers_list(watch: Watch) -> None:
    """COM-79: found, bound, and brought to its end; never dialled again."""
    call = await watch.dialing(sid=None)
    watch.says("no-answer")
    await watch.age(call, 15)
    await watch.sweep()
    after = await watch.store.get(call.id)
    assert (after.carrier_sid, after.state) == (SID, "no_answer")
    assert watch.carrier.placed == []


async def test_a_call_that_was_ending_is_ended_at_the_carrier_too(watch: Watch) -> None:
    """CMB-21: the caller is not left on a dead line."""
    call = await watch.dialing()
    await watch.store.advance(call.id, "in_progress")
    await watch.store.advance(call.id, "ending", reason="bot_hung_up")
    watch.says("in-progress")
    await watch.age(call, 15)
    await watch.sweep()
    assert (await watch.store.get(call.id)).state == "completed"
    assert watch.carrier.ended == [SID]


async def test_a_call_that_nobody_holds_any_more_is_given_up_as_lost(watch: Watch) -> None:
    """COM-02: failed with a reason after a minute, never left for ever."""
    call = await watch.dialing()
    watch.says("in-progress")
    await watch.age(call, 30)
    await watch.sweep()
    assert not (await watch.store.get(call.id)).over
    await watch.age(call, 90)
    await watch.sweep()
    after = await watch.store.get(call.id)
    assert (after.state, after.ended_reason) == ("failed", "media_never_arrived")
    assert watch.carrier.ended == [SID]


async def test_a_carrier_that_is_down_or_a_database_that_is_away_crashes_no_sweep(watch: Watch) -> None:
    """COM-02: crashes would add up until supervision gives the node up."""
    call = await watch.dialing(sid=None)
    await watch.age(call, 15)
    watch.carrier.failure = CarrierDown("no route")
    await watch.sweep()
    watch.gateway.connections.terminate()
    await watch.sweep()


async def test_a_recording_whose_host_died_is_kept_and_one_of_a_strange_call_is_left(watch: Watch) -> None:
    """COM-15: consent was given, so the recording exists."""
    call = await watch.dialing()
    serial = await watch.store.issue_ticket(call.id)
    await watch.store.claim(call.id, serial, "n1", "host-1")
    await watch.store.consent(call.id, 1, True)
    for name in (call.id, "call_" + "0" * 32):
        folder = watch.var / "recordings" / name
        folder.mkdir(parents=True)
        (folder / "0001-1.pcm").write_bytes(np.ones((800, 2), np.int16).tobytes())
    await watch.store.advance(call.id, "completed", reason="caller_hung_up")
    await watch.sweep()
    assert (await watch.store.get(call.id)).recording_path is None, "its host may still be at it"
    await watch.age(call, 15)
    await watch.sweep()
    path = (await watch.store.get(call.id)).recording_path
    assert path is not None
    assert Path(path).is_file()
    assert (watch.var / "recordings" / ("call_" + "0" * 32)).is_dir()


def test_the_sweep_is_slower_than_a_heartbeat_and_faster_than_patience() -> None:
    """COM-15: a call that is alive is never taken for lost."""
    assert dt.timedelta(seconds=3) < reconciler_module.QUIET
    assert reconciler_module.QUIET < reconciler_module.LOST
