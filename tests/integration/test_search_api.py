"""Search over the API: the owner's calls with their passages and nobody else's."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infra.database.passages import Said
from infra.database.personas import PersonaText
from infra.ids import new_id
from tests.doubles.front import Front, People, front, problem

CALL = """
    insert into calls (id, direction, state, ended_reason, answered_at, ended_at, persona, from_number, to_number,
        owner, persona_id, max_minutes)
    values ($1, 'outbound', 'completed', 'caller_hung_up', now(), now(), 'x', '', '', $2, $3, 15)
"""


@pytest_asyncio.fixture
async def gateway(database_url: str) -> AsyncIterator[Front]:
    async with front(database_url, people=People()) as opened:
        yield opened


async def talked(gateway: Front, owner: str, *said: str) -> tuple[str, str]:
    """A call with these turns of the caller; its id and its persona's."""
    persona = await gateway.services.personas.create(owner, PersonaText(name="Ada", prompt="x"))
    call = new_id("call")
    await gateway.connections.execute(CALL, call, owner, persona.id)
    at = dt.datetime(2026, 11, 21, 9, tzinfo=dt.UTC)
    turns = [Said(number=n, who="caller", at=at, text=text) for n, text in enumerate(said, 2)]
    await gateway.services.passages.add(owner, call, turns)
    return call, persona.id


async def test_a_search_answers_with_the_call_the_passage_and_who_talked(gateway: Front) -> None:
    """CMB-48."""
    owner, who = await gateway.join()
    call, persona = await talked(gateway, owner, "Yes.", "My tooth has been aching since Tuesday.")
    await talked(gateway, owner, "We painted the nursery yellow.")
    async with gateway.client.get(
        "/v1/search", params={"q": "problems with teeth", "limit": "1"}, headers=who
    ) as answer:
        assert answer.status == 200
        [found] = (await answer.json())["items"]
    assert found.pop("score") > 0
    assert found == {
        "call": {"id": call, "persona": {"id": persona, "name": "Ada"}},
        "turn": 3,
        "passage": "My tooth has been aching since Tuesday.",
        "who": "caller",
        "at": "2026-11-21T09:00:00Z",
    }


async def test_a_persona_that_was_deleted_keeps_its_name_in_what_is_found(gateway: Front) -> None:
    owner, who = await gateway.join()
    _, persona = await talked(gateway, owner, "My tooth has been aching since Tuesday.")
    await gateway.services.personas.remove(owner, persona)
    async with gateway.client.get("/v1/search?q=tooth", headers=who) as answer:
        [found] = (await answer.json())["items"]
    assert found["call"]["persona"] == {"id": persona, "name": "Ada"}


async def test_a_stranger_finds_nothing(gateway: Front) -> None:
    """CMB-48, COM-07: other users' calls never appear."""
    owner, _ = await gateway.join()
    _, stranger = await gateway.join()
    await talked(gateway, owner, "My tooth has been aching since Tuesday.")
    async with gateway.client.get("/v1/search?q=tooth", headers=stranger) as answer:
        assert (await answer.json()) == {"items": [], "next": None}
    async with gateway.client.get("/v1/search?q=tooth") as answer:
        assert await problem(answer) == (401, "not-authorised")


@pytest.mark.parametrize("query", ["", "q=", f"q={'x' * 201}", "q=a&limit=0", "q=a&limit=51", "q=a&owner=b"])
async def test_a_search_that_makes_no_sense_is_told_why(gateway: Front, query: str) -> None:
    _, who = await gateway.join()
    async with gateway.client.get(f"/v1/search?{query}", headers=who) as answer:
        assert await problem(answer) == (422, "invalid-field")


@pytest.mark.parametrize("query", ["'%20or%201=1", "%F0%9F%A6%B7", "a%20%26%20!b%20:*"])
async def test_any_words_may_be_searched_for(gateway: Front, query: str) -> None:
    owner, who = await gateway.join()
    await talked(gateway, owner, "My tooth has been aching since Tuesday.")
    async with gateway.client.get(f"/v1/search?q={query}", headers=who) as answer:
        assert answer.status == 200, await answer.text()
