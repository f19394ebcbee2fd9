"""`kill -9` of an embedded server, its keeper or its holders: service returns, nothing committed is lost,
nothing is left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from infra import redis
from infra.database.pool import SERVER_AWAY, pool
from infra.embedded.ground import leftovers
from infra.embedded.holding import Holding, hold
from infra.embedded.postgres import Postgres
from infra.embedded.server import EmbeddedServer
from infra.embedded.valkey import Valkey

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
GRACE_SECONDS = 0.2
RETURN_SECONDS = 5.0  # the bar of COM-05
KINDS = [Postgres, Valkey]
AWAY: tuple[type[Exception], ...] = (*SERVER_AWAY, RedisError)
HOLDER = """
import asyncio, sys
from pathlib import Path
from infra.embedded.holding import hold
from infra.embedded.postgres import Postgres
from infra.embedded.valkey import Valkey

async def main():
    server = {"postgres": Postgres, "valkey": Valkey}[sys.argv[1]](Path(sys.argv[2]))
    async with hold(server, grace_s=float(sys.argv[3])) as holding:
        print("ready", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


class Recorder:
    """Writes numbers as fast as the server takes them, and remembers those that it acknowledged."""

    def __init__(self, write: Callable[[int], Awaitable[object]]) -> None:
        self._write = write
        self._changed = asyncio.Condition()
        self.acknowledged: list[int] = []

    async def run(self) -> None:
        number = 0
        while True:
            number += 1
            try:
                await self._write(number)
            except AWAY:
                await asyncio.sleep(0.01)
                continue
            async with self._changed:
                self.acknowledged.append(number)
                self._changed.notify_all()

    async def wait_more(self, count: int) -> None:
        """Wait until `count` more writes are acknowledged, within the time in which service must return."""
        goal = len(self.acknowledged) + count
        async with asyncio.timeout(RETURN_SECONDS), self._changed:
            await self._changed.wait_for(lambda: len(self.acknowledged) >= goal)


@contextlib.asynccontextmanager
async def recording(holding: Holding) -> AsyncIterator[tuple[Recorder, Callable[[], Awaitable[set[int]]]]]:
    """A recorder at work on the server, and what the server knows of its numbers."""
    async with contextlib.AsyncExitStack() as stack:
        if isinstance(holding.server, Postgres):
            connections = await stack.enter_async_context(pool(holding.url, max_size=3))
            await connections.execute("create table if not exists numbers (number bigint primary key)")

            async def write(number: int) -> None:
                await connections.execute("insert into numbers values ($1) on conflict do nothing", number)

            async def stored() -> set[int]:
                return {row["number"] for row in await connections.fetch("select number from numbers")}
        else:
            client = await redis.connect(holding.url)
            stack.push_async_callback(client.aclose)

            async def write(number: int) -> None:
                await client.sadd("numbers", number)

            async def stored() -> set[int]:
                return {int(number) for number in await client.smembers("numbers")}

        recorder = Recorder(write)
        task = asyncio.create_task(recorder.run())
        try:
            await recorder.wait_more(20)
            yield recorder, stored
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until_gone(pid: int | None) -> None:
    """Wait until a process that is not our child has ended."""
    assert pid is not None
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        loop, gone = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(handle, gone.set)
        try:
            async with asyncio.timeout(20):
                await gone.wait()
        finally:
            loop.remove_reader(handle)
            os.close(handle)


async def until_left_alone(server: EmbeddedServer) -> None:
    """Wait until no process of the server is left."""
    for pid in leftovers(server.data, server.process_name):
        await until_gone(pid)
    assert leftovers(server.data, server.process_name) == []


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("victim", ["server", "keeper", "both"])
@pytest.mark.parametrize("kind", KINDS)
async def test_service_returns_and_keeps_what_it_acknowledged(
    kind: type[EmbeddedServer], victim: str, tmp_path: Path
) -> None:
    """COM-05: `kill -9` under load: service is back in < 5 s and no committed row is lost."""
    states: list[str] = []
    server = kind(tmp_path / "server")
    async with hold(server, lambda status: states.append(status.state), grace_s=GRACE_SECONDS) as holding:
        async with recording(holding) as (recorder, stored):
            for _ in range(3):
                await holding.wait_ready()  # it serves a moment before its holder knows its keeper
                before = holding.status()
                if victim != "server":
                    kill(before.keeper_pid)
                if victim != "keeper":
                    kill(before.server_pid)
                await until_gone(before.server_pid)
                await recorder.wait_more(20)
            await holding.wait_ready()
            assert set(recorder.acknowledged) <= await stored()
            assert holding.status().server_pid != before.server_pid
            assert ("restarting" if victim == "server" else "lost") in states
        keeper = holding.status().keeper_pid
    await until_gone(keeper)
    assert leftovers(server.data, server.process_name) == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_killed_holder_lets_go(kind: type[EmbeddedServer], tmp_path: Path) -> None:
    """COM-05: the server outlives one of two holders that is killed, and does not outlive the last."""
    folder = tmp_path / "server"
    server = kind(folder)
    holder = await start_holder(server)
    async with hold(kind(folder), grace_s=GRACE_SECONDS) as holding:
        before = holding.status()
        holder.kill()
        await holder.wait()
        async with recording(holding):
            assert holding.status() == before
    await until_gone(before.keeper_pid)
    holder = await start_holder(server)
    assert leftovers(server.data, server.process_name)
    holder.kill()
    await holder.wait()
    await until_left_alone(server)


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_is_left_when_holder_and_keeper_are_killed_at_once(
    kind: type[EmbeddedServer], tmp_path: Path
) -> None:
    """COM-05: a server never outlives its keeper, even when nobody is there to start another."""
    server = kind(tmp_path / "server")
    holder = await start_holder(server)
    async with hold(server, grace_s=GRACE_SECONDS) as holding:
        keeper = holding.status().keeper_pid
    holder.send_signal(signal.SIGSTOP)
    kill(keeper)
    holder.kill()
    await holder.wait()
    await until_left_alone(server)
    async with hold(server, grace_s=GRACE_SECONDS) as holding, recording(holding):
        keeper = holding.status().keeper_pid
    await until_gone(keeper)


async def test_of_many_holders_one_starts_the_next_keeper(tmp_path: Path) -> None:
    """COM-05: the holders of a killed keeper elect who starts another, and come back to one server."""
    async with contextlib.AsyncExitStack() as stack:
        holdings = [
            await stack.enter_async_context(hold(Valkey(tmp_path / "server"), grace_s=GRACE_SECONDS)) for _ in range(8)
        ]
        for _ in range(5):
            before = holdings[0].status()
            kill(before.keeper_pid)
            async with asyncio.timeout(RETURN_SECONDS):
                for holding in holdings:
                    await holding.wait_change(before)
                    await holding.wait_ready()
            assert len({holding.status().server_pid for holding in holdings}) == 1
            assert holdings[0].status().keeper_pid != before.keeper_pid
            assert len(leftovers(holdings[0].server.data, "valkey-server")) == 1
        keeper = holdings[0].status().keeper_pid
    await until_gone(keeper)


async def test_a_kill_during_the_very_first_start_leaves_no_half_made_data(tmp_path: Path) -> None:
    """COM-05: data is whole or absent; the next start makes it."""
    server = Postgres(tmp_path / "server")
    holder = await start_holder(server, ready=False)
    async with asyncio.timeout(20):
        while not (server.folder / "data.new" / "base").exists():  # noqa: ASYNC110 - initdb tells nobody
            await asyncio.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        holder.kill()
    await holder.wait()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if os.fsencode(server.folder) in (words := entry.read_bytes()) and b"infra.embedded.keeper" in words:
                kill(int(entry.parent.name))
    async with hold(server, grace_s=GRACE_SECONDS) as holding, recording(holding):
        keeper = holding.status().keeper_pid
    await until_gone(keeper)


async def start_holder(server: EmbeddedServer, *, ready: bool = True) -> asyncio.subprocess.Process:
    """A process of its own that holds the server."""
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, server.kind, str(server.folder), str(GRACE_SECONDS)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdout is not None
    if ready:
        async with asyncio.timeout(60):
            assert await holder.stdout.readline() == b"ready\n"
    return holder
