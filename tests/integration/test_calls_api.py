"""Calls over REST: placed, listed, followed, ended, read again; each by its owner only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from actors.words import SPOKEN, TEXT, Words
from infra.database.call_states import Reason
from infra.ids import new_id
from tests.doubles.payer import PaidCalls, Payer, paid_calls
from transports.http.call_messages import REASONS


@pytest_asyncio.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[PaidCalls]:
    async with paid_calls(database_url, tmp_path) as made:
        yield made


async def placed(world: PaidCalls, one: Payer, **body: Any) -> dict[str, Any]:
    status, told = await world.ask(one, "POST", "/v1/calls", json={"persona": one.persona} | body)
    assert status == 201, told
    return dict(told)


async def test_a_call_is_placed_and_read_by_its_owner(world: PaidCalls) -> None:
    """CMB-16, CMB-19: 201 with the call, its hold and a sentence that says how it stands."""
    one = await world.payer()
    call = await placed(world, one, max_minutes=2)
    assert call["state"] == "dialing"
    assert call["persona"] == {"id": one.persona, "name": "Ada"}
    assert (call["number"], call["hold_usd_micros"], call["max_minutes"]) == (one.number, 1_050_000, 2)
    assert (call["cost_usd_micros"], call["message"]) == (None, "We are dialling.")
    status, again = await world.ask(one, "GET", f"/v1/calls/{call['id']}")
    assert (status, again) == (200, call)


async def test_the_same_key_is_the_same_call(world: PaidCalls) -> None:
    """CMB-16, COM-32: a lost answer is asked for again without a second dial."""
    one = await world.payer()
    headers = {"Idempotency-Key": "k1"}
    first = await world.ask(one, "POST", "/v1/calls", json={"persona": one.persona}, headers=headers)
    second = await world.ask(one, "POST", "/v1/calls", json={"persona": one.persona}, headers=headers)
    assert first[0] == 201
    assert first == second
    assert len(world.carrier.placed) == 1


async def test_each_refusal_has_its_own_status_and_name(world: PaidCalls) -> None:
    """CMB-15, CMB-22: a second call is 409, a declined card 402, a stranger's persona 422, a full node 503."""
    one, poor, declined = await world.payer(), await world.payer(card=False), await world.payer()
    world.processor.manners[declined.card] = "expired_card"
    await placed(world, one)

    async def kind(who: Payer, **body: Any) -> tuple[int, str]:
        status, told = await world.ask(who, "POST", "/v1/calls", json=body)
        return status, told["type"].rpartition("/")[2]

    assert await kind(one, persona=one.persona) == (409, "already-on-call")
    assert await kind(poor, persona=poor.persona) == (402, "no-payment-method")
    assert await kind(declined, persona=declined.persona) == (402, "card-declined")
    assert await kind(declined, persona=one.persona) == (422, "unknown-persona")
    assert await kind(declined, persona=declined.persona, number=one.number_id) == (403, "number-not-yours")
    world.keeper.full = True
    assert await kind(declined, persona=declined.persona) == (503, "no-capacity")


async def test_a_stranger_sees_nothing_and_ends_nothing(world: PaidCalls) -> None:
    """CMB-47, COM-27: another's id answers as one that does not exist."""
    one, other = await world.payer(), await world.payer()
    call = (await placed(world, one))["id"]
    for wanted in (call, new_id("call")):
        for method, path in (
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/transcript"),
            ("GET", "/recording"),
            ("GET", "/events"),
        ):
            status, told = await world.ask(other, method, f"/v1/calls/{wanted}{path}")
            assert (status, told["type"].rpartition("/")[2]) == (404, "call-not-found"), path
    assert not world.carrier.ended


async def test_a_call_that_rings_is_hung_up_and_costs_nothing(world: PaidCalls) -> None:
    """CMB-21: by the API, at once at the carrier."""
    one = await world.payer()
    call = (await placed(world, one))["id"]
    status, _ = await world.ask(one, "DELETE", f"/v1/calls/{call}")
    assert status == 202
    assert len(world.carrier.ended) == 1
    await world.store.carrier_event(call, "end", "canceled")
    await world.settle()
    _, told = await world.ask(one, "GET", f"/v1/calls/{call}")
    assert (told["state"], told["cost_usd_micros"]) == ("canceled", 0)


async def test_a_call_that_is_still_prepared_is_called_off(world: PaidCalls) -> None:
    """CMB-21, CMB-35: nobody is dialled any more and the hold is gone."""
    one = await world.payer()
    key = new_id("call")
    await world.placing.prepare(one.user, one.persona, one.number_id, 5, scheduled_id="s1", key=key)
    status, listed = await world.ask(one, "GET", "/v1/calls")
    assert (status, listed["items"]) == (200, []), "it is a booking until it is dialled"
    assert (await world.ask(one, "DELETE", f"/v1/calls/{key}"))[0] == 202
    assert (await world.store.get(key)).state == "canceled"
    assert not await world.held_now()


async def test_the_history_is_filtered_and_paged(world: PaidCalls) -> None:
    """CMB-46: by persona, state, time and kind; each call once over the pages, the newest first."""
    one, other = await world.payer(), await world.payer()
    made: list[str] = []
    for number in range(5):
        key = new_id("call")
        scheduled = f"scheduled_{number}" if number % 2 else None
        await world.placing.prepare(one.user, one.persona, one.number_id, 5, scheduled_id=scheduled, key=key)
        await world.placing.dial(key)
        await world.lasted(key, 30) if number < 3 else await world.store.carrier_event(key, "b", "busy")
        made.append(key)
    await world.call(other)

    async def ids(**query: Any) -> list[str]:
        status, told = await world.ask(one, "GET", "/v1/calls", params=query)
        assert status == 200, told
        return [item["id"] for item in told["items"]]

    assert await ids() == made[::-1]
    assert await ids(state="busy") == [made[4], made[3]]
    assert await ids(scheduled="true") == [made[3], made[1]]
    assert await ids(scheduled="false", state="completed") == [made[2], made[0]]
    assert await ids(persona=other.persona) == []
    times = [(await world.store.get(call)).created_at.isoformat() for call in made]
    assert await ids(**{"from": times[1], "to": times[3]}) == [made[2], made[1]]
    found: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        _, told = await world.ask(one, "GET", "/v1/calls", params=query)
        found += [item["id"] for item in told["items"]]
        if told["next"] is None:
            break
        query["after"] = told["next"]
    assert found == made[::-1]


async def test_a_transcript_has_speakers_times_and_only_what_was_heard(world: PaidCalls) -> None:
    """CMB-47: with consent it stays, without it is gone with the call."""
    for agreed in (True, False):
        one = await world.payer(transcripts=agreed)
        call = await world.dialled(one)
        ticket = await world.store.issue_ticket(call)
        epoch = (await world.store.claim(call, ticket, "n1", "host-1")).call.epoch
        words = Words(world.vault, one.user)
        await world.store.replying(call, epoch, 1, await words.seal("Hello there. How are you?", TEXT))
        await world.store.spoke(call, epoch, 1, await words.seal("Hello there.", SPOKEN), True)
        await world.store.heard(call, epoch, 2, await words.seal("Fine, thank you.", TEXT))
        path = f"/v1/calls/{call}/transcript"
        status, told = await world.ask(one, "GET", path)
        assert [(turn["who"], turn["text"]) for turn in told["items"]] == [
            ("bot", "Hello there."),
            ("caller", "Fine, thank you."),
        ]
        assert all(turn["at"] for turn in told["items"])
        await world.lasted(call, 20)
        await world.settle()
        status, told = await world.ask(one, "GET", path)
        assert status == (200 if agreed else 404)
        _, shown = await world.ask(one, "GET", f"/v1/calls/{call}")
        assert shown["transcript"] is agreed
        assert shown["cost_usd_micros"] == 650_000


async def test_a_call_is_followed_while_it_lasts(world: PaidCalls) -> None:
    """CMB-19, CMB-53: state, turns and the meter reach the page as they happen; the stream ends with the call."""
    one = await world.payer()
    call = await world.dialled(one)
    events: list[tuple[str, dict[str, Any]]] = []
    seen = asyncio.Condition()

    async def follow() -> None:
        async with world.client.get(f"/v1/calls/{call}/events", headers=one.headers) as answer:
            assert answer.status == 200
            name = ""
            async for raw in answer.content:
                line = raw.decode().strip()
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    async with seen:
                        events.append((name, json.loads(line.removeprefix("data: "))))
                        seen.notify_all()

    async def until(kind: str, **wanted: Any) -> dict[str, Any]:
        def found() -> list[dict[str, Any]]:
            return [told for name, told in events if name == kind and wanted.items() <= told.items()]

        async with asyncio.timeout(20), seen:
            await seen.wait_for(found)
        return found()[-1]

    task = asyncio.create_task(follow())
    await until("state", state="dialing")
    await world.store.carrier_event(call, "1", "ringing")
    await until("state", state="ringing")
    ticket = await world.store.issue_ticket(call)
    epoch = (await world.store.claim(call, ticket, "n1", "host-1")).call.epoch
    await world.store.advance(call, "in_progress")
    meter = await until("meter")
    assert (meter["cost_usd_micros"], meter["hold_usd_micros"]) == (650_000, 6_250_000)
    assert 890 <= meter["seconds_left"] <= 900
    await world.store.heard(call, epoch, 1, await Words(world.vault, one.user).seal("Hello?", TEXT))
    await until("turn", number=1, who="caller", text="Hello?")
    await world.store.carrier_event(call, "2", "completed", {"seconds": 3})
    await until("state", state="completed")
    await world.settle()
    await asyncio.wait_for(task, 30)
    assert events[-1][1]["cost_usd_micros"] == 650_000


def test_every_end_has_a_sentence_that_says_what_to_do() -> None:
    """CMB-15: none is missing, and the ones that a user can act on differ."""
    assert set(REASONS) == set(Reason)
    acted = (Reason.BUSY, Reason.NO_ANSWER, Reason.REJECTED_FUNDS, Reason.REJECTED_NUMBER, Reason.CARRIER_ERROR)
    assert len({REASONS[reason] for reason in acted}) == len(acted)
