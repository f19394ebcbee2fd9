"""The Valkey client gives up in time and lets go when it is told to."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from infra import redis
from infra.embedded.holding import hold
from infra.embedded.valkey import Valkey


async def test_a_cancelled_task_ends_wherever_its_command_stands(redis_url: str) -> None:
    """COM-05: a node that stops is never kept alive by a command to Valkey."""
    client = await redis.connect(redis_url)

    async def count() -> None:
        while True:
            await client.incr("counter")

    for _ in range(200):
        task = asyncio.create_task(count())
        await asyncio.sleep(0.001)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=2)
        assert done
        assert task.cancelled()
    assert int(await client.get("counter") or 0) > 0
    await client.aclose()


async def test_a_server_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RedisError):
        await redis.connect(f"unix://{tmp_path}/nobody.sock")


async def test_a_server_that_hangs_is_an_error_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """COM-05: a stopped Valkey fails its callers instead of holding them."""
    monkeypatch.setattr(redis, "COMMAND_SECONDS", 0.2)
    async with hold(Valkey(tmp_path / "server"), grace_s=0.1) as holding:
        client = await redis.connect(holding.url)
        pid = holding.status().server_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(RedisError):
                await client.get("key")
        finally:
            os.kill(pid, signal.SIGCONT)
        assert await client.get("key") is None
        await client.aclose()
