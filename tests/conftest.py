"""Fixtures that many suites share: one embedded PostgreSQL and one Valkey per session, a fresh database per
test.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
import redis.asyncio

from infra.database import migrate
from infra.embedded.holding import hold
from infra.embedded.postgres import DATABASE, Postgres
from infra.embedded.valkey import Valkey

TEMPLATE = "test_template"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The session's PostgreSQL, holding a template database with every migration applied."""
    async with contextlib.AsyncExitStack() as stack:
        folder = stack.enter_context(memory_folder(tmp_path_factory))
        holding = await stack.enter_async_context(hold(Postgres(folder), grace_s=0.2))
        for name in ("fsync", "full_page_writes", "synchronous_commit"):  # nobody pulls this server's plug
            await _execute(holding.url, f"alter system set {name} = off")
        await _execute(holding.url, "select pg_reload_conf()")
        await _execute(holding.url, f"create database {TEMPLATE}")
        await migrate.up(_other(holding.url, TEMPLATE))
        yield holding.url


@contextlib.contextmanager
def memory_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in memory where there is one: a database a test costs 0.1 s there, and up to seconds on a slow disk."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path_factory.mktemp("postgres")
        return
    with tempfile.TemporaryDirectory(prefix="ringdown-", dir=memory, ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "postgres"


@pytest_asyncio.fixture
async def database_url(postgres_url: str) -> AsyncIterator[str]:
    """A database of this test's own, with every migration applied."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await _execute(postgres_url, f"create database {name} template {TEMPLATE} strategy file_copy")
    yield _other(postgres_url, name)
    await _execute(postgres_url, f"drop database {name} with (force)")


@pytest_asyncio.fixture
async def empty_database_url(postgres_url: str) -> AsyncIterator[str]:
    """A database of this test's own, with nothing in it."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    await _execute(postgres_url, f"create database {name}")
    yield _other(postgres_url, name)
    await _execute(postgres_url, f"drop database {name} with (force)")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The session's Valkey."""
    async with hold(Valkey(tmp_path_factory.mktemp("valkey")), grace_s=0.2) as holding:
        yield holding.url


@pytest_asyncio.fixture
async def redis_url(valkey_url: str) -> str:
    """A Valkey that holds nothing yet."""
    client = redis.asyncio.from_url(valkey_url)
    await client.flushall()
    await client.aclose()
    return valkey_url


def _other(url: str, database: str) -> str:
    return url.replace(f"@/{DATABASE}?", f"@/{database}?")


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
