"""Every list, page by page over real rows: whole, in order, nothing twice, whatever comes in meanwhile."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest_asyncio

from infra.ids import new_id
from tests.doubles.belongings import Belongings, belongings
from tests.doubles.front import Front
from tests.doubles.whole import whole
from transports.http.api import PageQuery
from transports.http.routes import operations

COPIES = 6
TABLES = {
    "call": "calls",
    "persona": "personas",
    "number": "numbers",
    "session": "sessions",
    "device": "devices",
    "method": "payment_methods",
    "scheduled": "scheduled_calls",
}
LISTS = sorted(
    made.path
    for made in operations()
    if made.who == "user"
    and not made.variables
    and isinstance(made.query, type)
    and issubclass(made.query, PageQuery)
    and not made.path.endswith("/search")
)
Owner = tuple[Front, Belongings, dict[str, str]]


async def copy(connections: asyncpg.Pool, kind: str, source: str) -> str:
    """Another row like this one, of the same moment, so that only its id tells them apart."""
    made = new_id(kind)
    differs: dict[str, Any] = {
        "number": {"digest": "\\x" + secrets.token_hex(32)},
        "device": {"public_key": "\\x" + secrets.token_hex(32)},
        "method": {"provider_ref": f"pm_{made}", "is_default": False},
        "scheduled": {"series": made},
    }
    table = TABLES[kind]
    columns = await connections.fetch(
        "select column_name from information_schema.columns where table_name = $1 and is_generated = 'NEVER'", table
    )
    names = ", ".join(row["column_name"] for row in columns)
    await connections.execute(
        f"insert into {table} ({names}) select {names} from ("  # noqa: S608 - names from the catalogue
        f"select (jsonb_populate_record(t, $2::jsonb)).* from {table} t where id = $1) as copied",
        source,
        {"id": made} | differs.get(kind, {}),
    )
    return made


@pytest_asyncio.fixture
async def owner(database_url: str) -> AsyncIterator[Owner]:
    async with whole(database_url) as gateway:
        user, headers = await gateway.join()
        owned = await belongings(gateway.connections, gateway.services.vault, user)
        for kind in TABLES:
            for _ in range(COPIES):
                await copy(gateway.connections, kind, owned.ids[kind][0])
        yield gateway, owned, headers


async def walk(gateway: Front, path: str, headers: dict[str, str], limit: int, meanwhile: Any = None) -> list[Any]:
    """All items of a list, by pages."""
    found: list[Any] = []
    after: str | None = None
    while True:
        query = {"limit": str(limit)} | ({"after": after} if after else {})
        async with gateway.client.get(path, params=query, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            told = await answer.json()
        assert len(told["items"]) <= limit
        found += told["items"]
        after = told["next"]
        if after is None:
            return found
        assert told["items"], "a page that is not the last one holds something"
        if meanwhile is not None:
            await meanwhile()


async def test_small_pages_hold_what_a_large_one_does(owner: Owner) -> None:
    """COM-32, CMB-46: every list of the API, by one, by three and by a hundred."""
    gateway, _, headers = owner
    assert len(LISTS) > 8
    several = []
    for path in LISTS:
        whole_list = await walk(gateway, path, headers, 100)
        for limit in (1, 3):
            assert await walk(gateway, path, headers, limit) == whole_list, f"{path} by {limit}"
        several += [path] if len(whole_list) > COPIES else []
    assert len(several) >= len(TABLES) - 1, several


async def test_calls_that_come_meanwhile_are_neither_skipped_over_nor_shown_twice(owner: Owner) -> None:
    """COM-32, CMB-46: what was there when one began to read is read once."""
    gateway, owned, headers = owner
    before = [call["id"] for call in await walk(gateway, "/v1/calls", headers, 100)]

    async def another() -> None:
        made = await copy(gateway.connections, "call", owned.ids["call"][0])
        await gateway.connections.execute("update calls set created_at = now() where id = $1", made)

    seen = [call["id"] for call in await walk(gateway, "/v1/calls", headers, 2, another)]
    assert seen == before
    assert len(await walk(gateway, "/v1/calls", headers, 100)) > len(before)
