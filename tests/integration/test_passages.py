"""Past conversations are found again by what they were about: by their owner only, until their time is over."""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from infra.database.passages import Passages, Said, delete_expired
from infra.database.pool import pool
from infra.embeddings import EmbeddingError, HashedWords, Vector
from infra.ids import new_id
from infra.vault import Vault

PAST_CALLS = Path(__file__).parents[1] / "doubles/past_calls.toml"
NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
CALL = """
    insert into calls (id, direction, state, ended_reason, created_at, answered_at, ended_at, persona, from_number,
        to_number, owner, persona_id, max_minutes, turns, flow)
    values ($1, 'outbound', 'completed', 'caller_hung_up', $3, $3, $3, 'mia', '', '', $2, 'persona_x', 15, 2,
        '{"state": "day", "last": ["How was your day?"]}')
"""
TURN = "insert into call_turns (call_id, number, epoch, who, text, done) values ($1, $2, 1, 'caller', $3, true)"


class Broken(HashedWords):
    """A provider of vectors that is away."""

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        raise EmbeddingError("away")


class Other(HashedWords):
    """Another model: its vectors mean something else."""

    name = "other"


@pytest_asyncio.fixture
async def connections(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with pool(database_url, max_size=4) as opened:
        yield opened


@pytest.fixture
def vault(connections: asyncpg.Pool) -> Vault:
    return Vault(connections, bytes(32))


@pytest.fixture
def passages(connections: asyncpg.Pool, vault: Vault) -> Passages:
    return Passages(connections, vault, HashedWords())


async def person(connections: asyncpg.Pool, vault: Vault, days: int = 90) -> str:
    owner = new_id("user")
    await connections.execute("insert into users (id, transcript_days) values ($1, $2)", owner, days)
    await vault.open_user(owner)
    return owner


async def ended(connections: asyncpg.Pool, owner: str | None, at: dt.datetime = NOW) -> str:
    call = new_id("call")
    if owner is None:
        await connections.execute(CALL.replace("$2, 'persona_x', 15", "$2, null, null"), call, owner, at)
    else:
        await connections.execute(CALL, call, owner, at)
    return call


def said(text: str, number: int = 1, who: str = "caller") -> Said:
    return Said(number=number, who=who, at=NOW, text=text)


async def test_a_question_in_other_words_finds_its_call_among_the_first_three_of_two_hundred(
    connections: asyncpg.Pool, vault: Vault, passages: Passages
) -> None:
    """CMB-48, COM-07: 200 calls, 80 questions that are none of their sentences, no provider: at least 19 of 20 hit."""
    past = tomllib.loads(PAST_CALLS.read_text())["calls"]
    owner, stranger = await person(connections, vault), await person(connections, vault)
    ids = {}
    for call in past:
        ids[call["said"]] = await ended(connections, owner)
        await passages.add(owner, ids[call["said"]], [said(call["said"])])
        await passages.add(stranger, await ended(connections, stranger), [said(call["said"])])
    asked = {call["asked"]: ids[call["said"]] for call in past if "asked" in call}
    assert (len(past), len(asked)) == (200, 80)
    missed = []
    for question, call_id in asked.items():
        found = await passages.find(owner, question, 3)
        assert {one.call_id for one in found} <= set(ids.values()), "another user's call"
        if call_id not in [one.call_id for one in found]:
            missed.append(question)
    assert len(missed) <= len(asked) // 20, missed


async def test_only_ones_own_calls_are_found_and_kept(
    connections: asyncpg.Pool, vault: Vault, passages: Passages
) -> None:
    """COM-07: a query never returns another user's row, and nobody writes into another user's call."""
    mine, theirs = await person(connections, vault), await person(connections, vault)
    call = await ended(connections, mine)
    assert await passages.add(mine, call, [said("My tooth has been aching since Tuesday.")]) == 1
    assert await passages.find(theirs, "toothache") == ()
    assert await passages.add(theirs, call, [said("Overwritten by a stranger.", 1)]) == 0
    await passages.forget(theirs, call)
    [found] = await passages.find(mine, "toothache")
    assert (found.call_id, found.passage) == (call, "My tooth has been aching since Tuesday.")


async def test_what_is_kept_is_unreadable_without_its_owners_key(
    connections: asyncpg.Pool, vault: Vault, passages: Passages
) -> None:
    """CMB-47, CMB-65: neither the text nor its words stand in the table."""
    owner = await person(connections, vault)
    await passages.add(owner, await ended(connections, owner), [said("The orchid has two new buds.")])
    row = await connections.fetchrow("select p.*, embedding::text as vector from passages p")
    assert row is not None
    assert "orchid" not in str({name: row[name] for name in row.keys() if name != "embedding"})  # noqa: SIM118
    assert row["text_sealed"].startswith("v1.")


async def test_several_passages_of_a_call_speak_for_it_and_the_best_is_shown(
    connections: asyncpg.Pool, vault: Vault, passages: Passages
) -> None:
    owner = await person(connections, vault)
    both, one = await ended(connections, owner), await ended(connections, owner)
    turns = [
        said("Hello, how was your day?", 1, "bot"),
        said("Yes.", 2),
        said("I went to the dentist with my daughter.", 3),
        said("The dentist found a cavity in her tooth.", 5),
    ]
    assert await passages.add(owner, both, turns) == 3 - 1
    await passages.add(owner, one, [said("We painted the door of the dentist green.")])
    found = await passages.find(owner, "dentist tooth")
    assert [hit.call_id for hit in found] == [both, one]
    assert (found[0].number, found[0].who) == (5, "caller")
    assert found[0].score > found[1].score


async def test_keeping_a_call_twice_keeps_it_once(connections: asyncpg.Pool, vault: Vault, passages: Passages) -> None:
    """The settler may repeat itself after a crash."""
    owner = await person(connections, vault)
    call = await ended(connections, owner)
    for _ in range(2):
        assert await passages.add(owner, call, [said("The orchid has two new buds.")]) == 1
    assert await connections.fetchval("select count(*) from passages") == 1
    assert await passages.add(owner, call, []) == 0


async def test_while_the_provider_is_away_or_was_changed_the_words_still_find_the_call(
    connections: asyncpg.Pool, vault: Vault, passages: Passages
) -> None:
    """COM-07: full-text beside vectors."""
    owner = await person(connections, vault)
    call = await ended(connections, owner)
    await passages.add(owner, call, [said("Ludwig repaired the telescope.")])
    for embedder in (Broken(), Other()):
        [found] = await Passages(connections, vault, embedder).find(owner, "telescopes of Ludwig")
        assert found.call_id == call
    with pytest.raises(EmbeddingError):
        await Passages(connections, vault, Broken()).add(owner, call, [said("Ludwig repaired the telescope.")])


@pytest.mark.parametrize("query", ["", "   ", "and the of", "?!", "\u200b", "' | !a & (b", "x" * 200])
async def test_a_query_without_meaning_finds_nothing_and_breaks_nothing(
    connections: asyncpg.Pool, vault: Vault, passages: Passages, query: str
) -> None:
    owner = await person(connections, vault)
    await passages.add(owner, await ended(connections, owner), [said("The orchid has two new buds.")])
    assert await passages.find(owner, query) == ()


async def test_what_was_said_is_deleted_on_its_day_and_not_before(
    connections: asyncpg.Pool, vault: Vault, passages: Passages
) -> None:
    """CMB-49, COM-50: 90 days, fewer where the user said so; calls of nobody after 90."""
    ordinary, hasty = await person(connections, vault), await person(connections, vault, days=7)
    calls = {}
    for name, owner in (("ordinary", ordinary), ("hasty", hasty), ("nobody", None)):
        calls[name] = await ended(connections, owner)
        await connections.execute(TURN, calls[name], 1, "The orchid has two new buds.")
        if owner is not None:
            await passages.add(owner, calls[name], [said("The orchid has two new buds.")])

    async def left() -> set[str]:
        turns = {row["call_id"] for row in await connections.fetch("select call_id from call_turns")}
        kept = {row["call_id"] for row in await connections.fetch("select call_id from passages")}
        assert kept == turns - {calls["nobody"]}
        return {name for name, call in calls.items() if call in turns}

    day, moment = dt.timedelta(days=1), dt.timedelta(seconds=1)
    assert await delete_expired(connections, NOW + 7 * day - moment) == 0
    assert await left() == {"ordinary", "hasty", "nobody"}
    assert await delete_expired(connections, NOW + 7 * day + moment) == 1
    assert await left() == {"ordinary", "nobody"}
    assert await delete_expired(connections, NOW + 90 * day - moment) == 0
    assert await delete_expired(connections, NOW + 90 * day + moment) == 2
    assert await left() == set()
    assert await connections.fetchval("select count(*) from calls where flow = '{}'") == 3
    assert await connections.fetchval("select count(*) from calls") == 3
