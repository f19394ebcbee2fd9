"""After the call: one capture or one release, by the minutes that were talked, and the words kept as agreed."""

from __future__ import annotations

import asyncio
import datetime as dt
import wave
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from actors.runtime import ActorSpec, System
from actors.words import SPOKEN, TEXT, Words
from infra.database.call_records import StaleEpoch
from infra.ids import new_id
from scheduler.settler import Settler
from scheduler.settling import billable_seconds, play
from tests.doubles.payer import PaidCalls, Payer, paid_calls
from tests.doubles.processor import troubled

SECRET = "my sister lives in the red house"


@pytest_asyncio.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[PaidCalls]:
    async with paid_calls(database_url, tmp_path) as made:
        yield made


async def talked(world: PaidCalls, one: Payer, call_id: str) -> None:
    """Let something be said in the call, by a host that holds it."""
    ticket = await world.store.issue_ticket(call_id)
    claim = await world.store.claim(call_id, ticket, "n1", "host-1")
    words, epoch = Words(world.vault, one.user), claim.call.epoch
    await world.store.replying(call_id, epoch, 1, await words.seal("Where does your sister live?", TEXT))
    await world.store.spoke(call_id, epoch, 1, await words.seal("Where does your sister live?", SPOKEN), True)
    await world.store.heard(call_id, epoch, 2, await words.seal(SECRET, TEXT))


PRICES = {1: 65, 59: 65, 60: 65, 61: 105, 120: 105, 121: 145, 899: 625, 900: 625}
FAULTY = {20: 0, 59: 0, 61: 65, 130: 105, 299: 185}


async def test_a_call_costs_a_quarter_and_forty_cents_for_each_started_minute(world: PaidCalls) -> None:
    """CMB-51, CMB-54: 59 s are 0.65 and 61 s are 1.05; the rest of the hold is let go."""
    one = await world.payer()
    for seconds, cents in PRICES.items():
        call = await world.dialled(one)
        await world.lasted(call, seconds)
        await world.settle()
        assert await world.cents(call) == (625, cents, 0), seconds
    assert not await world.held_now()


async def test_no_call_is_billed_above_its_hold(world: PaidCalls) -> None:
    """CMB-53: not even one that went on after its time by a fault of ours."""
    call = await world.dialled(await world.payer(), 2)
    await world.lasted(call, 500, "time_limit")
    await world.settle()
    assert await world.cents(call) == (105, 105, 0)


async def test_whoever_is_not_reached_costs_nothing(world: PaidCalls) -> None:
    """CMB-54: unanswered cancels the hold."""
    one = await world.payer()
    ends = {"busy": "busy", "no-answer": "no_answer", "failed": "failed", "canceled": "canceled"}
    for status, state in ends.items():
        call = await world.dialled(one)
        await world.store.carrier_event(call, f"s:{status}", status)
        await world.settle()
        assert (await world.store.get(call)).state == state
        assert await world.cents(call) == (625, 0, 0)
    assert not await world.held_now()


async def test_a_mailbox_that_answers_costs_nothing(world: PaidCalls) -> None:
    """CMB-20: whom we reached decides what is charged."""
    call = await world.dialled(await world.payer())
    await world.store.advance(call, "in_progress")
    await world.store.advance(call, "voicemail", reason="voicemail")
    await world.settle()
    assert await world.cents(call) == (625, 0, 0)


async def test_the_minute_in_which_we_failed_is_not_charged(world: PaidCalls) -> None:
    """CMB-33, CMB-55: and where that was the first one, the call is free."""
    one = await world.payer()
    for seconds, cents in FAULTY.items():
        call = await world.dialled(one)
        await world.lasted(call, seconds, "pipeline_error")
        await world.settle()
        assert await world.cents(call) == (625, cents, 0), seconds


def test_what_is_charged_follows_from_how_a_call_ended() -> None:
    """CMB-33, CMB-54: every way to end, as a table."""
    assert billable_seconds("completed", "caller_hung_up", 59.0) == (59.0, False)
    assert billable_seconds("completed", "opted_out", 10.0) == (10.0, False)
    assert billable_seconds("failed", "host_lost", 59.9) == (59.9, True)
    assert billable_seconds("failed", "host_lost", 185.0) == (180.0, True)
    assert billable_seconds("voicemail", "voicemail", 12.0) == (0.0, False)
    assert billable_seconds("no_answer", "no_answer", None) == (0.0, False)
    assert billable_seconds("failed", "carrier_error", None) == (0.0, False)


async def test_the_carriers_own_measure_counts_where_it_is_shorter(world: PaidCalls) -> None:
    """CMB-60: that we heard of the end late costs the caller nothing."""
    call = await world.dialled(await world.payer())
    await world.lasted(call, 64)
    await world.store.carrier_event(call, "late", "completed", {"seconds": 58})
    await world.settle()
    assert await world.cents(call) == (625, 65, 0)


async def test_late_and_repeated_events_capture_once(world: PaidCalls) -> None:
    """CMB-54: whatever the carrier repeats, and however often it is settled."""
    call = await world.dialled(await world.payer())
    await world.lasted(call, 61)
    for number in range(3):
        await world.settle()
        await world.store.carrier_event(call, f"again:{number}", "completed", {"seconds": 500})
    assert await world.cents(call) == (625, 105, 0)
    assert not world.processor.double_captures()


async def test_many_settlers_at_once_capture_once(world: PaidCalls) -> None:
    """CMB-54, CMB-64: every node has one."""
    calls = [await world.dialled(await world.payer()) for _ in range(3)]
    for call in calls:
        await world.lasted(call, 61)
    await asyncio.gather(*(world.settle() for _ in range(4)))
    assert [await world.cents(call) for call in calls] == [(625, 105, 0)] * 3
    assert not world.processor.double_captures()


async def test_a_settlement_that_fails_is_made_up_for(world: PaidCalls, database_url: str) -> None:
    """CMB-60, CMB-66: with payments down calls end; they are paid when payments are back, and told by the database."""
    one = await world.payer()
    call = await world.dialled(one)
    settler = Settler("n1", database_url, world.store, world.settling, world.archive)
    async with System("node") as system:
        with troubled(["down"], None):
            await system.spawn(ActorSpec(lambda: settler, "settler"))
            await world.lasted(call, 61)
            await until(lambda: world.processor.of_call(call)[0].captured)
    assert await world.cents(call) == (625, 105, 0)


async def until(true: object) -> None:
    async with asyncio.timeout(20):
        while not true():  # type: ignore[operator]  # noqa: ASYNC110 - the processor sets no event
            await asyncio.sleep(0.02)


async def test_a_call_that_nobody_dialled_after_its_hold_is_let_go(world: PaidCalls) -> None:
    """COM-39: a crash between hold and dial leaves no unreleased hold."""
    one = await world.payer()
    key = new_id("call")
    await world.placing.prepare(one.user, one.persona, one.number_id, 5, key=key)
    await world.store.advance(key, "failed", reason="host_lost")  # what the reconciler makes of it
    await world.settle()
    assert not await world.held_now()
    assert await world.cents(key) == (225, 0, 0)


async def test_with_consent_the_words_stay_sealed_and_can_be_searched(world: PaidCalls) -> None:
    """CMB-47, CMB-48, CMB-65: nobody reads them in the table, their owner finds them."""
    one = await world.payer(transcripts=True)
    call = await world.dialled(one)
    await talked(world, one, call)
    await world.lasted(call, 30)
    await world.settle()
    rows = await world.pool.fetch("select * from call_turns where call_id = $1", call)
    assert len(rows) == 2
    assert "sister" not in str(rows)
    assert [found.call_id for found in await world.services.passages.find(one.user, "sister red house")] == [call]
    assert (await world.store.get(call)).archived_at is not None


async def test_without_consent_every_word_is_gone_when_the_call_is_over(world: PaidCalls) -> None:
    """CMB-08, CMB-32: the memory of the call ends with it."""
    one = await world.payer(transcripts=False)
    call = await world.dialled(one)
    await talked(world, one, call)
    assert len(await world.store.turns(call)) == 2
    await world.lasted(call, 30)
    await world.settle()
    assert not await world.store.turns(call)
    assert not await world.services.passages.find(one.user, "sister red house")
    assert (await world.store.get(call)).flow == {}


async def test_a_host_that_comes_late_writes_nothing_into_an_archive(world: PaidCalls) -> None:
    """CMB-08: what was deleted does not come back with the journal of a host that was cut off."""
    one = await world.payer(transcripts=False)
    call = await world.dialled(one)
    await talked(world, one, call)
    epoch = (await world.store.get(call)).epoch
    await world.lasted(call, 30)
    await world.settle()
    with pytest.raises(StaleEpoch):
        await world.store.heard(call, epoch, 3, "late")
    assert not await world.store.turns(call)


async def test_a_recording_is_sealed_and_the_readable_file_is_gone(world: PaidCalls) -> None:
    """CMB-08, CMB-65: only its owner's key opens it."""
    one, other = await world.payer(), await world.payer()
    call = await world.dialled(one)
    ticket = await world.store.issue_ticket(call)
    epoch = (await world.store.claim(call, ticket, "n1", "host-1")).call.epoch
    await world.store.consent(call, epoch, True)
    path = world.folder / f"{call}.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(b"\1\2\3\4" * 8000)
    plain = path.read_bytes()
    await world.store.recording(call, str(path))
    assert await world.archive.seal_recordings() == 0, "the call is not over"
    await world.lasted(call, 30)
    assert await world.archive.seal_recordings() == 1
    assert not path.exists()
    sealed = Path(str((await world.store.get(call)).recording_path))
    assert plain[44:] not in sealed.read_bytes()
    assert await play(world.vault, one.user, sealed) == plain
    status, _ = await world.ask(other, "GET", f"/v1/calls/{call}/recording")
    assert status == 404
    async with world.client.get(f"/v1/calls/{call}/recording", headers=one.headers) as answer:
        assert answer.status == 200
        assert await answer.read() == plain


async def test_the_node_that_had_the_call_settles_it_and_others_only_what_it_left(world: PaidCalls) -> None:
    """CMB-64: nodes do not all run at the same call."""
    call = await world.dialled(await world.payer())
    await world.lasted(call, 30, ago_s=5)
    await world.pool.execute("update calls set node = 'n2' where id = $1", call)
    others = dt.timedelta(seconds=10)
    assert not await world.store.unsettled("n1", others, 10)
    assert [one.id for one in await world.store.unsettled("n2", others, 10)] == [call]
    await world.pool.execute("update calls set ended_at = now() - interval '11 seconds' where id = $1", call)
    assert [one.id for one in await world.store.unsettled("n1", others, 10)] == [call]


async def test_a_prepared_call_is_not_taken_for_a_lost_one(world: PaidCalls) -> None:
    """CMB-36: it waits for its time; one that nobody was to dial later is given up."""
    one, other = await world.payer(), await world.payer()
    booked, now = new_id("call"), new_id("call")
    await world.placing.prepare(one.user, one.persona, one.number_id, 5, scheduled_id="s1", key=booked)
    await world.placing.prepare(other.user, other.persona, other.number_id, 5, key=now)
    await world.pool.execute("update calls set changed_at = now() - interval '5 minutes'")
    assert [call.id for call in await world.store.orphans(dt.timedelta(seconds=10))] == [now]
