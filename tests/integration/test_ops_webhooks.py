"""`main.py ops webhooks`: what providers told us is listed, and applied once more when asked."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.database.inbox import TRIES, Inbox, WebhookEvent
from infra.database.pool import pool
from infra.money import PaymentsDown

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def inbox(database_url: str) -> AsyncIterator[Inbox]:
    """Three events: one done, one given up, one waiting."""
    async with pool(database_url, max_size=2) as connections:
        made = Inbox(connections)

        async def apply(event: WebhookEvent) -> None:
            if event.event_id == "evt_dead":
                raise PaymentsDown("the processor is away")

        for name in ("evt_done", "evt_dead"):
            await made.receive("stripe", name, "charge.updated", {})
        for _ in range(TRIES):
            await made.apply({"stripe": apply})
            await connections.execute("update inbox set next_at = now()")
        await made.receive("polar", "msg_new", "order.paid", {})
        yield made


async def ops(url: str, *words: str) -> tuple[int, str]:
    """The command's exit code and what it said."""
    env = {**os.environ, "DATABASE_URL": url, "REDIS_URL": "redis://127.0.0.1:9"}
    made = await asyncio.create_subprocess_exec(
        *(sys.executable, "main.py", "ops", *words), cwd=ROOT, env=env, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await made.communicate()
    return made.returncode or 0, said.decode()


async def test_events_are_listed_and_the_dead_are_replayed(inbox: Inbox, database_url: str) -> None:
    """COM-46: list by state and provider; replay one or all that were given up."""
    code, said = await ops(database_url, "webhooks", "list", "--json")
    assert code == 0
    listed = {event["event_id"]: event["state"] for event in json.loads(said)["events"]}
    assert listed == {"evt_done": "done", "evt_dead": "dead", "msg_new": "received"}
    code, said = await ops(database_url, "webhooks", "list", "--state", "dead")
    assert code == 0
    assert "evt_dead" in said
    assert "the processor is away" in said
    assert "evt_done" not in said
    assert (await ops(database_url, "webhooks", "replay", "evt_nobody"))[0] == 1
    code, said = await ops(database_url, "webhooks", "replay", "evt_done", "--json")
    assert (code, json.loads(said)) == (0, {"replayed": 1})
    assert (await ops(database_url, "webhooks", "replay", "--dead"))[0] == 0
    assert await inbox.waiting() == 3


async def test_a_replay_names_what_it_replays(database_url: str) -> None:
    """COM-46: exit 2 without an event or --dead."""
    assert (await ops(database_url, "webhooks", "replay"))[0] == 2
    assert (await ops(database_url, "webhooks"))[0] == 2


async def test_a_database_that_is_not_ready_is_told_in_a_sentence(empty_database_url: str) -> None:
    """COM-77."""
    code, said = await ops(empty_database_url, "webhooks", "list")
    assert code == 1
    assert "main.py migrate" in said
