"""What a host does for the owner of a call: their persona as it was, their words sealed, their wishes carried out."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from actors.journal import CallJournal
from actors.owners import Owners
from actors.words import Words
from bots.record import Record
from infra.booking import Booking
from infra.database.call_records import Call, Claim
from infra.database.personas import PersonaChange
from infra.money.processor import ProcessorDown
from infra.vault import KeyDestroyed, Unreadable
from tests.doubles.payer import PaidCalls, paid_calls


@pytest_asyncio.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[PaidCalls]:
    async with paid_calls(database_url, tmp_path) as made:
        yield made


def owners(world: PaidCalls) -> Owners:
    services = world.services
    booking = Booking(services.schedules, services.gate)
    return Owners(world.store, world.vault, services.personas, services.opt_outs, booking)


async def held(world: PaidCalls, call: Call) -> Claim:
    """The call as the host has it that took its media."""
    return await world.store.claim(call.id, await world.store.issue_ticket(call.id), "n1", "host-1")


async def test_a_persona_that_is_edited_or_deleted_stays_as_it_was_in_its_calls(world: PaidCalls) -> None:
    """CMB-41: edits do not alter running calls, and whoever takes one up finds the same persona."""
    one = await world.payer()
    claim = await held(world, await world.call(one))
    await world.services.personas.change(one.user, one.persona, PersonaChange(name="Eve", prompt="Be rude."))
    await world.services.personas.remove(one.user, one.persona)
    persona = await owners(world).persona(claim.call)
    assert "Ada" in persona.disclosure
    assert "Be kind." in persona.prompt
    assert "rude" not in persona.prompt


async def test_the_words_of_a_call_are_read_by_nobody_but_its_hosts_and_its_owner(world: PaidCalls) -> None:
    """CMB-65, COM-15: sealed for owner and place, and whole for the host that takes the call up."""
    one, other = await world.payer(), await world.payer()
    claim = await held(world, await world.call(one))
    words = owners(world).words(claim.call)
    journal = CallJournal(world.store, claim.call.id, claim.call.epoch, lambda: None, patience=10.0, words=words)
    record = Record(journal)
    async with journalling(journal):
        await record.replying("How is your mother?", {})
        await record.spoke("How is your mother?")
        await record.heard("She is in hospital.", {})
        await journal.flush(10)
    rows = await world.store.turns(claim.call.id)
    assert len(rows) == 2
    assert "hospital" not in str(rows)
    again = await held(world, claim.call)
    assert [turn.text for turn in await words.read(again.turns)] == ["How is your mother?", "She is in hospital."]
    with pytest.raises(Unreadable):
        await Words(world.vault, other.user).unseal(rows[1].text, "call_turns.text")
    await world.vault.destroy(one.user)
    assert await words.read(rows) == ()
    with pytest.raises(KeyDestroyed):
        await words.seal("anything", "call_turns.text")


@contextlib.asynccontextmanager
async def journalling(journal: CallJournal) -> AsyncIterator[None]:
    task = asyncio.create_task(journal.run())
    try:
        yield
    finally:
        task.cancel()


async def test_a_stop_in_a_call_blocks_the_number_at_once(world: PaidCalls) -> None:
    """CMB-05: for whoever owns it, by the channel it was said on, with the call it was said in."""
    one = await world.payer()
    call = await world.call(one)
    await owners(world).opted_out(call, "keypad")
    row = await world.pool.fetchrow("select * from opt_outs")
    assert row is not None
    assert (row["stopped"], row["channel"], row["call_id"]) == (True, "keypad", call.id)
    assert await world.services.opt_outs.stopped(world.vault.digest("number", one.number))
    await world.lasted(call.id, 5)
    status, told = await world.ask(one, "POST", "/v1/calls", json={"persona": one.persona})
    assert (status, told["type"].rpartition("/")[2]) == (403, "opted-out")


async def test_an_anonymous_caller_may_stop_calls_too(world: PaidCalls) -> None:
    """CMB-05: the number of a caller without an account is theirs all the same."""
    call = await world.store.create("inbound", "mia", "+15550199001", "+15550100000", carrier_sid="CA1")
    await owners(world).opted_out(call, "voice")
    assert await world.services.opt_outs.stopped(world.vault.digest("number", "+15550199001"))


async def test_a_referral_is_an_event_and_a_count_without_a_word(world: PaidCalls) -> None:
    """CMB-07, CMB-06: what can be reported for a year, and by which nobody can be known."""
    one = await world.payer()
    call = await world.call(one)
    await owners(world).referred(call, "en")
    await owners(world).referred(call, "en")
    today = dt.datetime.now(dt.UTC).date()
    assert await world.store.referrals(today, today + dt.timedelta(days=1)) == {("US", "en"): 2}
    crises = [event for event in await world.store.events(call.id) if event.kind == "crisis"]
    assert [event.data for event in crises] == [{}, {}]
    assert one.user not in str(await world.pool.fetch("select * from referrals"))


async def test_a_promised_call_is_a_booking_like_any_other(world: PaidCalls) -> None:
    """CMB-39: to the same number, with the same persona, at the caller's own clock; in the past it is refused."""
    one = await world.payer()
    call = await world.call(one)
    tomorrow = dt.datetime.now(dt.UTC).replace(tzinfo=None, second=0, microsecond=0) + dt.timedelta(days=1)
    assert await owners(world).book(call, tomorrow)
    [booked] = await world.services.schedules.page(one.user, ("pending",), 10)
    assert (booked.state, booked.promised_in) == ("pending", call.id)
    assert (booked.persona_id, booked.number_id) == (one.persona, one.number_id)
    assert booked.local_time == tomorrow
    assert not await owners(world).book(call, tomorrow - dt.timedelta(days=2))


async def test_history_still_loads_while_payments_are_away(world: PaidCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    """CMB-66: running calls go on, new ones are refused clearly, and everything can be read."""
    one, other = await world.payer(), await world.payer()
    live = await world.call(one)

    async def away(*_: object) -> None:
        raise ProcessorDown("no connection")

    monkeypatch.setattr(world.processor, "hold", away)
    status, told = await world.ask(other, "POST", "/v1/calls", json={"persona": other.persona})
    assert (status, told["type"].rpartition("/")[2]) == (503, "payments-down")
    status, told = await world.ask(one, "GET", "/v1/calls")
    assert [item["id"] for item in told["items"]] == [live.id]
    assert (await world.store.get(live.id)).state == "dialing"
