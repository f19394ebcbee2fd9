"""Contacts: the personas kept at hand, always in the order their owner gave them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from bots.personas.keeping import seed
from infra.database.contacts import LIMIT, ContactLimit, NoContact, OrderDiffers
from infra.database.personas import PersonaText, UnknownPersona
from tests.doubles.front import Front, People, front, problem

STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["add", "drop", "delete"]), st.integers(0, 7)),
        st.tuples(st.just("order"), st.permutations(range(8))),
        st.tuples(st.just("short order"), st.integers(0, 7)),
    ),
    max_size=25,
)


@pytest_asyncio.fixture
async def gateway(database_url: str) -> AsyncIterator[Front]:
    async with front(database_url, people=People()) as opened:
        await seed(opened.services.personas)
        yield opened


async def kept(gateway: Front, who: dict[str, str]) -> list[tuple[str, int]]:
    async with gateway.client.get("/v1/contacts", headers=who) as answer:
        return [(one["persona"]["id"], one["position"]) for one in (await answer.json())["items"]]


async def test_personas_are_kept_reordered_and_let_go(gateway: Front) -> None:
    """CMB-45: add, remove, reorder."""
    owner, who = await gateway.join()
    ids = [row.id for row in await gateway.services.personas.page(owner, 3)]
    for persona in (*ids, ids[0]):  # the second time changes nothing
        async with gateway.client.put(f"/v1/contacts/{persona}", headers=who) as answer:
            assert answer.status == 204
    assert await kept(gateway, who) == [(ids[0], 1), (ids[1], 2), (ids[2], 3)]
    async with gateway.client.put("/v1/contacts", json={"order": ids[::-1]}, headers=who) as answer:
        assert answer.status == 204
    async with gateway.client.delete(f"/v1/contacts/{ids[1]}", headers=who) as answer:
        assert answer.status == 204
    assert await kept(gateway, who) == [(ids[2], 1), (ids[0], 2)]
    async with gateway.client.delete(f"/v1/contacts/{ids[1]}", headers=who) as answer:
        assert await problem(answer) == (404, "contact-not-found")


async def test_deleting_a_persona_removes_its_contact(gateway: Front) -> None:
    """CMB-45."""
    owner, who = await gateway.join()
    made = await gateway.services.personas.create(owner, PersonaText(name="Ada", prompt="x"))
    await gateway.services.contacts.add(owner, made.id)
    async with gateway.client.delete(f"/v1/personas/{made.id}", headers=who) as answer:
        assert answer.status == 204
    assert await kept(gateway, who) == []
    assert await gateway.connections.fetchval("select count(*) from contacts") == 0


async def test_nobody_keeps_or_moves_what_is_anothers(gateway: Front) -> None:
    """CMB-45: a stranger's persona cannot be kept, and contacts are each one's own."""
    owner, who = await gateway.join()
    _, stranger = await gateway.join()
    made = await gateway.services.personas.create(owner, PersonaText(name="Ada", prompt="x"))
    await gateway.services.contacts.add(owner, made.id)
    for persona in (made.id, "persona_" + "0" * 32):
        async with gateway.client.put(f"/v1/contacts/{persona}", headers=stranger) as answer:
            assert await problem(answer) == (404, "persona-not-found")
        async with gateway.client.delete(f"/v1/contacts/{persona}", headers=stranger) as answer:
            assert await problem(answer) == (404, "contact-not-found")
    async with gateway.client.put("/v1/contacts", json={"order": [made.id]}, headers=stranger) as answer:
        assert await problem(answer) == (409, "contacts-differ")
    assert await kept(gateway, who) == [(made.id, 1)]
    assert await kept(gateway, stranger) == []


async def test_there_are_no_more_contacts_than_may_be(gateway: Front) -> None:
    owner, who = await gateway.join()
    contacts = gateway.services.contacts
    await gateway.connections.execute(
        """
        with made as (
            insert into personas (id, owner, name, prompt_sealed)
            select 'persona_' || lpad(n::text, 32, '0'), $1, 'P', 'v1.' from generate_series(1, $2) n returning id
        )
        insert into contacts (owner, persona_id, position) select $1, id, right(id, 6)::int from made
        """,
        owner,
        LIMIT,
    )
    system = await gateway.connections.fetchval("select id from personas where owner is null limit 1")
    async with gateway.client.put(f"/v1/contacts/{system}", headers=who) as answer:
        assert await problem(answer) == (409, "contact-limit")
    await contacts.add(owner, "persona_" + "0" * 31 + "1")  # kept already


async def test_whatever_is_done_in_whatever_order_the_contacts_are_those_of_a_list(gateway: Front) -> None:
    """CMB-45: against a model, by any sequence of acts."""
    services, loop = gateway.services, asyncio.get_running_loop()

    async def play(steps: list[tuple[str, int | list[int]]]) -> None:
        owner, _ = await gateway.join()
        ids = [(await services.personas.create(owner, PersonaText(name=f"P{n}", prompt="x"))).id for n in range(8)]
        gone: set[str] = set()
        model: list[str] = []
        for act, what in steps:
            if isinstance(what, int):
                persona = ids[what]
                refused = await attempt(owner, act, persona, model)
                assert refused == (persona in gone if act == "add" else persona not in model) or act in {
                    "delete",
                    "short order",
                }
                if act == "add" and persona not in gone and persona not in model:
                    model.append(persona)
                if act in {"drop", "delete"} and persona in model:
                    model.remove(persona)
                if act == "delete":
                    gone.add(persona)
            else:
                model = [ids[n] for n in what if ids[n] in model]
                await services.contacts.reorder(owner, model)
            assert [row.id for row in await services.contacts.all(owner)] == model

    async def attempt(owner: str, act: str, persona: str, model: list[str]) -> bool:
        try:
            match act:
                case "add":
                    await services.contacts.add(owner, persona)
                case "drop":
                    await services.contacts.remove(owner, persona)
                case "delete":
                    await services.personas.remove(owner, persona)
                case _:
                    await services.contacts.reorder(owner, [persona, *model])
        except (UnknownPersona, NoContact, OrderDiffers, ContactLimit):
            return True
        return False

    @settings(max_examples=25, deadline=None)
    @given(STEPS)
    def any_sequence(steps: list[tuple[str, int | list[int]]]) -> None:
        asyncio.run_coroutine_threadsafe(play(steps), loop).result(timeout=30)

    await asyncio.to_thread(any_sequence)
