"""Lists are read by index: on filled tables no list of personas, contacts, passages or usage reads a whole one."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from infra.database.pool import pool
from infra.database.queries import load

USERS, EACH = 1000, 20
FILL = (
    "insert into users (id) select 'user_' || n from generate_series(1, $1::int) n where $2::int > 0",
    """
    insert into personas (id, owner, name, prompt_sealed, voice)
    select format('persona_%s_%s', u, n), 'user_' || u, 'P', 'v1.', case n % 3 when 0 then 'house:mia' else '' end
    from generate_series(1, $1::int) u, generate_series(1, $2::int) n
    """,
    """
    insert into personas (id, slug, name, prompt)
    select 'persona_s' || n, 's' || n, 'S', 'x' from generate_series(1, 6) n where $1::int + $2::int > 0
    """,
    """
    insert into contacts (owner, persona_id, position)
    select 'user_' || u, format('persona_%s_%s', u, n), n
    from generate_series(1, $1::int) u, generate_series(1, $2::int) n
    """,
    """
    insert into calls (id, direction, state, ended_reason, created_at, dialed_at, answered_at, ended_at, persona,
        from_number, to_number, owner, persona_id, max_minutes)
    select format('call_%s_%s', u, n), 'outbound', 'completed', 'caller_hung_up', now() - n * interval '1 day',
        now(), now(), now(), 'mia', '', '', 'user_' || u, format('persona_%s_%s', u, n), 15
    from generate_series(1, $1::int) u, generate_series(1, $2::int) n
    """,
    """
    insert into passages (call_id, number, owner, who, at, text_sealed, model, embedding, words)
    select c.id, 1, c.owner, 'caller', now(), 'v1.', 'm', array_fill(0.1, array[512])::vector::halfvec,
        array_to_tsvector(array[md5(c.id)])
    from calls c where $1::int + $2::int > 0
    """,
    """
    with booked as (
        insert into ledger_transactions (id, key, kind, party, hold_id, call_id, usd_micros)
        select 'tx_' || c.id, c.id, 'captured', c.owner, 'hold', c.id, 650000
        from calls c where $1::int + $2::int > 0 returning id, party, usd_micros
    )
    insert into ledger_entries (transaction_id, line, party, account, usd_micros)
    select id, line, party, account, sign * usd_micros
    from booked, (values (1, 'processor', 1), (2, 'revenue', -1)) as sides (line, account, sign)
    """,
)
ONE = "user_500"
VECTOR = f"[{','.join(['0.1'] * 512)}]"
LISTS: list[tuple[str, str, tuple[Any, ...]]] = [
    ("personas", "page", (ONE, -1, "", 51)),
    ("personas", "get", (ONE, "persona_500_3")),
    ("personas", "count", (ONE,)),
    ("personas", "voices", ()),
    ("personas", "taken", ("persona_500_3", 1)),
    ("contacts", "all", (ONE,)),
    ("contacts", "ids", (ONE,)),
    ("passages", "near", (ONE, "m", VECTOR, "01" * 256, 600, 60)),
    ("passages", "said", (ONE, "'0cc175b9c0f1b6a8' | 'abc'", 60)),
    ("passages", "read", (ONE, ["call_500_1"], [1])),
    ("usage", "usage", (ONE, "day", dt.date(2020, 1, 1), None)),
    ("usage", "usage", (ONE, "persona", None, None)),
]
BIG = {"personas", "contacts", "calls", "passages", "ledger_transactions", "ledger_entries", "users"}


@pytest_asyncio.fixture
async def filled(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    async with pool(database_url, max_size=2) as connections:
        for statement in FILL:
            await connections.execute(statement, USERS, EACH, timeout=60)
        await connections.execute("analyze")
        yield connections


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


@pytest.mark.timeout(180)
async def test_no_list_query_reads_a_whole_table(filled: asyncpg.Pool) -> None:
    """CMB-67, CMB-45: every list query uses an index; so do the search and the sums."""
    wrong = []
    for noun, name, values in LISTS:
        [plan] = await filled.fetchval(f"explain (format json) {getattr(load(noun), name)}", *values)
        for node in nodes(plan["Plan"]):
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in BIG:
                wrong.append(f"{noun}.{name} reads all of {node['Relation Name']}")
    assert wrong == []
