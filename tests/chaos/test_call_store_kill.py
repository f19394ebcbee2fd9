"""The database is killed under the call store."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from infra.database import migrate
from infra.database.calls import CallStore
from infra.database.changes import RESYNC, follow
from infra.database.pool import SERVER_AWAY, pool
from infra.embedded.holding import hold
from infra.embedded.postgres import Postgres

pytestmark = pytest.mark.heavy


async def test_what_was_acknowledged_outlives_the_database_and_followers_hear_on(tmp_path: Path) -> None:
    """COM-15, CMB-19: turns are repeated until they are acknowledged, and written once each."""
    async with hold(Postgres(tmp_path), grace_s=0.2) as holding:
        await migrate.up(holding.url)
        async with pool(holding.url) as connections:
            store = CallStore(connections)
            call = await store.create("inbound", "mia", "+1", "+2")
            await store.claim(call.id, await store.issue_ticket(call.id), "node", "host")
            changes = follow(holding.url)
            assert (await anext(changes)).kind == RESYNC
            server_pid = holding.status().server_pid
            assert server_pid is not None
            for number in range(1, 41):
                if number == 20:
                    os.kill(server_pid, signal.SIGKILL)
                await until_written(store, call.id, number)
            async with asyncio.timeout(30):
                while (change := await anext(changes)).kind != RESYNC:
                    assert change.kind == "turn"
            assert [turn.number for turn in await store.turns(call.id)] == list(range(1, 41))
            await store.signal(call.id, "hang_up")
            async with asyncio.timeout(30):
                while (change := await anext(changes)).kind != "hang_up":
                    assert change.kind == "turn"
            await changes.aclose()


async def until_written(store: CallStore, call_id: str, number: int) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return await store.heard(call_id, 1, number, f"turn {number}")
            except SERVER_AWAY:
                await asyncio.sleep(0.05)
