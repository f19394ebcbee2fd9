"""A request with an Idempotency-Key is carried out once, whatever becomes of its answer."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from infra.database import idempotency
from infra.database.idempotency import Answered, Answers, Begun, Reused, Running
from infra.database.pool import pool
from tests.doubles.front import Front, People, front, problem
from tests.doubles.notebook import RUDE, Notebook

WORK = b"POST /v1/notes\n{}"


class Plain:
    """Seals nothing, but says whose it is and where it belongs."""

    async def seal(self, owner: str, text: str, context: str) -> str:
        return f"{owner}|{context}|{text}"

    async def unseal(self, owner: str, sealed: str, context: str) -> str:
        assert sealed.startswith(f"{owner}|{context}|")
        return sealed.removeprefix(f"{owner}|{context}|")


@pytest_asyncio.fixture
async def connections(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with pool(database_url, max_size=8) as opened:
        for owner in ("user_a", "user_b"):
            await opened.execute("insert into users (id) values ($1)", owner)
        yield opened


@pytest.fixture
def answers(connections: asyncpg.Pool) -> Answers:
    return Answers(connections, Plain())


async def begun(answers: Answers, owner: str = "user_a", request: bytes = WORK) -> Begun:
    found = await answers.begin(owner, "key", request)
    assert isinstance(found, Begun), found
    return found


async def test_the_same_request_again_gets_the_answer_of_the_first(answers: Answers) -> None:
    """COM-32: status, headers and body as they were."""
    await answers.finish(await begun(answers), 201, {"Location": "/v1/notes/1"}, b'{"id": "1"}')
    again = await answers.begin("user_a", "key", WORK)
    assert again == Answered(201, {"Location": "/v1/notes/1"}, b'{"id": "1"}')


async def test_a_key_is_its_owners_and_stands_for_one_request(answers: Answers) -> None:
    """COM-32, COM-30: another request of the same key is refused; another user's key is another key."""
    first = await begun(answers)
    assert await answers.begin("user_a", "key", WORK + b" ") == Reused()
    await answers.finish(first, 200, {}, b"{}")
    assert await answers.begin("user_a", "key", WORK + b" ") == Reused()
    assert (await begun(answers, "user_b")).owner == "user_b"


async def test_of_many_at_once_one_is_carried_out(answers: Answers) -> None:
    """COM-32: the row decides, not the order in which processes look."""
    found = await asyncio.gather(*(answers.begin("user_a", "key", WORK) for _ in range(20)))
    assert sum(isinstance(one, Begun) for one in found) == 1
    assert sum(isinstance(one, Running) for one in found) == 19


async def test_a_process_that_died_leaves_its_key_to_be_tried_again_after_the_lease(connections: asyncpg.Pool) -> None:
    """COM-32: and what the first one stores too late is not kept."""
    hasty = Answers(connections, Plain(), lease=dt.timedelta(0))
    first = await begun(hasty)
    second = await begun(hasty)
    assert second.attempt != first.attempt
    await hasty.finish(first, 201, {}, b"first")
    await hasty.forget(first)
    await hasty.finish(second, 201, {}, b"second")
    assert await hasty.begin("user_a", "key", WORK) == Answered(201, {}, b"second")


async def test_a_lease_that_is_not_over_is_waited_for(answers: Answers) -> None:
    """COM-32: 409 meanwhile, with the time to come back."""
    await begun(answers)
    found = await answers.begin("user_a", "key", WORK)
    assert isinstance(found, Running)
    assert 50 < found.seconds <= 60


async def test_a_key_is_free_again_after_a_day_and_its_row_is_removed(
    answers: Answers, connections: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COM-32: a day is how long a client may try again."""
    await answers.finish(await begun(answers), 201, {}, b"{}")
    await answers.finish(await begun(answers, "user_b"), 201, {}, b"{}")
    await connections.execute("update idempotency_keys set created_at = now() - interval '25 hours'")
    monkeypatch.setattr(idempotency, "SWEEP_EVERY", 1)
    assert await begun(answers, request=b"another")
    assert await connections.fetchval("select array_agg(owner) from idempotency_keys") == ["user_a"]


async def test_answers_lie_sealed(answers: Answers, connections: asyncpg.Pool) -> None:
    """CMB-65: an answer shows what only its owner may read."""
    await answers.finish(await begun(answers), 201, {}, b"+15550177001")
    assert (
        await connections.fetchval("select body from idempotency_keys") == "user_a|idempotency_keys.body|+15550177001"
    )


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest_asyncio.fixture
async def gateway(database_url: str, notebook: Notebook) -> AsyncIterator[Front]:
    async with front(database_url, people=People(), operations=notebook.operations()) as opened:
        yield opened


async def write(gateway: Front, headers: dict[str, str], text: str = "buy milk") -> tuple[int, Any, dict[str, str]]:
    async with gateway.client.post("/v1/notes", json={"text": text}, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None), dict(answer.headers)


async def test_the_same_key_twice_gives_one_resource_and_the_same_answer(gateway: Front, notebook: Notebook) -> None:
    """COM-32: over HTTP, with the vault sealing the answer."""
    _, ada = await gateway.join()
    keyed = ada | {"Idempotency-Key": "4711"}
    first, second = await write(gateway, keyed), await write(gateway, keyed)
    assert first[:2] == second[:2]
    assert first[0] == 201
    assert first[2]["Location"] == second[2]["Location"]
    assert "Idempotent-Replayed" not in first[2]
    assert second[2]["Idempotent-Replayed"] == "true"
    assert len(notebook.notes) == 1
    assert notebook.keys == ["4711"], "the handler may name what it makes by the key"
    stored = await gateway.connections.fetchval("select body from idempotency_keys")
    assert "milk" not in stored


async def test_without_a_key_each_request_stands_for_itself(gateway: Front, notebook: Notebook) -> None:
    _, ada = await gateway.join()
    assert (await write(gateway, ada))[1] != (await write(gateway, ada))[1]
    assert len(notebook.notes) == 2


async def test_the_same_key_for_another_body_is_refused(gateway: Front, notebook: Notebook) -> None:
    """COM-32: 422, and nothing is done."""
    _, ada = await gateway.join()
    keyed = ada | {"Idempotency-Key": "k"}
    await write(gateway, keyed)
    async with gateway.client.post("/v1/notes", json={"text": "other"}, headers=keyed) as answer:
        assert await problem(answer) == (422, "idempotency-key-reused")
    assert len(notebook.notes) == 1


async def test_two_users_may_have_the_same_key(gateway: Front, notebook: Notebook) -> None:
    """COM-30: nobody gets another's answer."""
    (_, ada), (bob_id, bob) = await gateway.join(), await gateway.join()
    key = {"Idempotency-Key": "k"}
    await write(gateway, ada | key)
    _, told, _ = await write(gateway, bob | key)
    assert told["owner"] == bob_id
    assert len(notebook.notes) == 2


async def test_while_the_first_runs_the_second_is_told_so(gateway: Front, notebook: Notebook) -> None:
    """COM-32: 409 with Retry-After; afterwards the answer."""
    _, ada = await gateway.join()
    keyed = ada | {"Idempotency-Key": "k"}
    notebook.free.clear()
    running = asyncio.create_task(write(gateway, keyed))
    await notebook.writing.wait()
    async with gateway.client.post("/v1/notes", json={"text": "buy milk"}, headers=keyed) as answer:
        assert await problem(answer) == (409, "idempotency-running")
        assert int(answer.headers["Retry-After"]) >= 1
    notebook.free.set()
    first = await running
    assert (await write(gateway, keyed))[:2] == first[:2]
    assert len(notebook.notes) == 1


async def test_what_was_refused_or_failed_may_be_sent_again(gateway: Front, notebook: Notebook) -> None:
    """COM-32, CMB-15: a declined card does not block the key for a day."""
    _, ada = await gateway.join()
    keyed = ada | {"Idempotency-Key": "k"}
    assert (await write(gateway, keyed, RUDE))[0] == 402
    assert (await write(gateway, keyed, RUDE))[0] == 402
    assert (await write(gateway, keyed))[0] == 201
    notebook.failure = ConnectionResetError("the database went away")
    other = ada | {"Idempotency-Key": "l"}
    assert (await write(gateway, other))[0] == 503
    assert (await write(gateway, other))[0] == 201


@pytest.mark.parametrize("key", ["", "a" * 256, "schlüssel", "tab\there"])
async def test_a_key_that_is_none_is_refused(gateway: Front, key: str) -> None:
    """COM-32, CMB-12: 1 to 255 printable characters."""
    _, ada = await gateway.join()
    async with gateway.client.post("/v1/notes", json={"text": "x"}, headers=ada | {"Idempotency-Key": key}) as answer:
        assert await problem(answer) == (422, "idempotency-key-invalid")
