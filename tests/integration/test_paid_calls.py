"""Whole paid calls: a node, a phone network, a card processor, real audio. Each rule of trust on a call of its own."""

from __future__ import annotations

import datetime as dt
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.doubles.live_node import NUMBER, LiveNode, wait_for
from tests.doubles.live_payer import Person, paying_node, person

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]
LISTENER = "Supportive listener"
STOP = """
steps = [ { wait = true }, { say = "Please stop calling me." }, { wait = true }, { pause = 4000 }, { hang_up = true } ]
"""
NINE = """
steps = [ { wait = true }, { dtmf = "9" }, { wait = true }, { pause = 4000 }, { hang_up = true } ]
"""
DANGER = """
steps = [ { wait = true }, { say = "I want to die." }, { wait = true }, { pause = 1500 }, { hang_up = true } ]
"""
PATIENT = """
manner = { repeat = true }
steps = [ { wait = true }, { say = "I am listening." } ]
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node() -> AsyncIterator[LiveNode]:
    async with paying_node() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def one(node: LiveNode) -> Person:
    return await person(node)


def phone(folder: Path, text: str) -> Path:
    path = folder / "phone.toml"
    path.write_text(f'title = "Somebody"\n{text}')
    return path


async def blocked(one: Person) -> str:
    """How another call is refused."""
    wanted = {"persona": one.personas[LISTENER], "outside_hours": True}
    status, told = await one.ask("POST", "/v1/calls", wanted)
    assert status != 201, told
    return str(told["type"]).rpartition("/")[2]


async def test_stop_by_voice_ends_the_call_blocks_the_next_and_is_paid_once(one: Person, tmp_path: Path) -> None:
    """CMB-05, CMB-21, CMB-03, CMB-54: disclosure first, a polite end, one capture, and no dial after it."""
    call = await one.rings(phone(tmp_path, STOP), LISTENER)
    told = await one.paid(call)
    assert (told["state"], told["ended_reason"]) == ("completed", "opted_out"), await one.said(call)
    said = await one.said(call)
    assert said[0][0] == "bot"
    assert "AI companion" in said[0][1]
    assert said[-1] == ("bot", "I will not call you again. Goodbye.")
    assert await blocked(one) == "opted-out"
    assert told["cost_usd_micros"] in (650_000, 1_050_000)
    assert [kind for kind, _ in await one.ledger(call)].count("captured") == 1


async def test_stop_by_key_nine_ends_the_call_and_blocks_the_next(one: Person, tmp_path: Path) -> None:
    """CMB-05, CMB-21: without a word."""
    call = await one.rings(phone(tmp_path, NINE), LISTENER)
    told = await one.paid(call)
    assert (told["state"], told["ended_reason"]) == ("completed", "opted_out"), await one.said(call)
    assert await blocked(one) == "opted-out"


async def test_danger_leaves_the_persona_and_names_the_helpline(one: Person, tmp_path: Path) -> None:
    """CMB-07: heard on the line, answered in the next turn, counted; the logs hold no word of it."""
    call = await one.rings(phone(tmp_path, DANGER), LISTENER)
    await one.until(call, lambda call: call["ended_at"])
    said = await one.said(call)
    at = next(number for number, (who, text) in enumerate(said) if who == "caller" and "die" in text)
    assert "nine eight eight" in said[at + 1][1], said
    told = await one.node.read(call)
    assert [event["kind"] for event in told["events"]].count("crisis") == 1
    assert "want to die" not in one.node.node.output


async def test_a_call_that_nobody_answers_costs_nothing(one: Person) -> None:
    """CMB-54, CMB-20: the hold is released."""
    call = await one.rings("busy", LISTENER)
    told = await one.paid(call)
    assert (told["state"], told["cost_usd_micros"]) == ("busy", 0)
    assert [kind for kind, _ in await one.ledger(call)] == ["released", "held"]


@pytest.mark.heavy
async def test_a_call_of_one_minute_is_warned_and_ends_within_it(one: Person, tmp_path: Path) -> None:
    """CMB-53, COM-39: a warning half a minute before, a goodbye, never more than the hold."""
    call = await one.rings(phone(tmp_path, PATIENT), LISTENER, minutes=1)
    told = await one.paid(call)
    assert (told["state"], told["ended_reason"]) == ("completed", "time_limit"), told
    assert told["hold_usd_micros"] == told["cost_usd_micros"] == 650_000
    assert 50 <= told["duration_seconds"] <= 62


@pytest.mark.heavy
async def test_a_host_that_is_killed_in_the_call_keeps_one_settlement_and_the_same_limit(
    one: Person, tmp_path: Path
) -> None:
    """CMB-31, CMB-53, CMB-54, CMB-60: kill -9; the limit still counts from the answer, and it is paid once."""
    call = await one.rings(phone(tmp_path, PATIENT), LISTENER, minutes=1)

    async def heard() -> bool:
        return any(turn["done"] for turn in (await one.node.read(call))["turns"])

    await wait_for(heard)
    held = (await one.node.read(call))["call"]["host"]
    os.kill(next(host["pid"] for host in await one.node.hosts() if host["host"] == held), signal.SIGKILL)
    told = await one.paid(call)
    assert (told["state"], told["ended_reason"]) == ("completed", "time_limit"), told
    assert (await one.node.read(call))["call"]["epoch"] >= 2
    assert told["duration_seconds"] <= 64
    assert told["cost_usd_micros"] == 650_000
    assert sorted(kind for kind, _ in await one.ledger(call)).count("captured") == 1


@pytest.mark.heavy
async def test_a_booked_call_is_held_before_its_time_dialled_at_it_and_paid(one: Person, tmp_path: Path) -> None:
    """CMB-34, CMB-36, CMB-54: from the booking to the settlement, on one hold and one dial."""
    await one.node.tell_network("POST", "/numbers", {"number": one.number, "persona": str(phone(tmp_path, NINE))})
    due = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=70)
    wanted = {"persona": one.personas[LISTENER], "due_at": due.isoformat(), "max_minutes": 2, "outside_hours": True}
    status, booked = await one.ask("POST", "/v1/scheduled-calls", wanted)
    assert status == 201, booked

    async def dialled() -> str | None:
        _, told = await one.ask("GET", f"/v1/scheduled-calls/{booked['id']}")
        return str(told["call"]) if told["call"] and told["state"] in ("dialed", "done") else None

    call = await wait_for(dialled, 120)
    told = await one.paid(call)
    assert (told["scheduled_id"], told["ended_reason"]) == (booked["id"], "opted_out")
    assert told["hold_usd_micros"] == 1_050_000
    assert told["cost_usd_micros"] == 650_000
    calls = (await one.node.tell_network("GET", "/calls"))["calls"]
    assert sum(made["to"] == one.number for made in calls) == 1


async def test_a_caller_with_an_account_reaches_their_persona_and_pays_for_it(one: Person, tmp_path: Path) -> None:
    """COM-73: answered, disclosed, talked, one terminal state, one settlement; the history shows who called."""
    status, _ = await one.ask("PUT", f"/v1/contacts/{one.personas[LISTENER]}")
    assert status in (200, 201, 204)
    told = {
        "to": NUMBER,
        "from": one.number,
        "persona": str(phone(tmp_path, NINE)),
        "voice_url": f"{one.node.url}/twilio/voice",
    }
    await one.node.tell_network("POST", "/dial", told)

    async def mine() -> str | None:
        _, listed = await one.ask("GET", "/v1/calls")
        return next((str(call["id"]) for call in listed["items"]), None)

    call = await wait_for(mine)
    paid = await one.paid(call)
    assert (paid["direction"], paid["number"]) == ("inbound", one.number)
    assert paid["persona"]["name"] == LISTENER
    assert "AI companion" in (await one.said(call))[0][1]
    assert paid["ended_reason"] == "opted_out"
    assert paid["cost_usd_micros"] == 650_000
    assert [kind for kind, _ in await one.ledger(call)].count("captured") == 1
