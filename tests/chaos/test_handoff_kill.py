"""Real gateways and hosts are killed and stopped around the moment in which a socket changes hands."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.doubles.raw_phone import PATIENCE_S, Phone, dial, frame, upgrade

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.heavy


class Part:
    """A gateway or a host."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.port = 0

    @classmethod
    async def open(cls, role: str, path: Path, loop: str) -> Part:
        part = cls(
            await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.doubles.handoff_process", role, str(path), loop,
                stdout=asyncio.subprocess.PIPE, cwd=ROOT,
            )
        )  # fmt: skip
        _, _, port = (await part.line()).partition(" ")
        part.port = int(port or 0)
        return part

    async def line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            return (await self.process.stdout.readline()).decode().strip()

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()


class Parts:
    """One gateway and the hosts that follow one another at its intake."""

    def __init__(self, path: Path, loop: str) -> None:
        self.path = path
        self.loop = loop
        self.opened: list[Part] = []

    async def open(self, role: str) -> Part:
        part = await Part.open(role, self.path, self.loop)
        self.opened.append(part)
        return part


@pytest_asyncio.fixture(params=["asyncio", "uvloop"])
async def parts(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Parts]:
    parts = Parts(tmp_path / "intake", request.param)
    yield parts
    for part in parts.opened:
        await part.kill()


async def talking(gateway: Part, path: str) -> Phone:
    phone = await dial(gateway.port, upgrade(path), frame("early"))
    assert (await phone.head()).startswith(b"HTTP/1.1 101")
    assert [await phone.text(), await phone.text()] == [path, "echo early"]
    return phone


async def test_the_peer_learns_at_once_that_its_host_died(parts: Parts) -> None:
    """Nobody else holds the descriptor; the gateway lives on and passes the next call to the next host."""
    host, gateway = await parts.open("host"), await parts.open("gateway")
    phones = [await talking(gateway, f"/{n}") for n in range(3)]
    await host.kill()
    for phone in phones:
        assert await phone.end() == b""
        await phone.hang_up()
    refused = await dial(gateway.port, upgrade())
    assert (await refused.end()).startswith(b"HTTP/1.1 503")
    await refused.hang_up()
    await parts.open("host")
    await (await talking(gateway, "/again")).hang_up()


async def test_a_call_goes_on_without_the_gateway_that_took_it(parts: Parts) -> None:
    _, gateway = await parts.open("host"), await parts.open("gateway")
    phone = await talking(gateway, "/on")
    await gateway.kill()
    phone.say("still there?")
    assert await phone.text() == "echo still there?"
    await (await talking(await parts.open("gateway"), "/next")).hang_up()
    phone.say("and now?")
    assert await phone.text() == "echo and now?"
    await phone.hang_up()


async def test_a_host_that_dies_before_it_agreed_costs_a_503(parts: Parts) -> None:
    host, gateway = await parts.open("host"), await parts.open("gateway")
    phone = await dial(gateway.port, upgrade("/hold"), frame("early"))
    assert await host.line() == "asked /hold"
    await host.kill()
    answer = await phone.end()
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"Retry-After: 1" in answer
    await phone.hang_up()


async def test_a_gateway_that_dies_before_the_host_agreed_ends_the_connection(parts: Parts) -> None:
    """The host closes its copy and takes the next socket."""
    host, gateway = await parts.open("host"), await parts.open("gateway")
    phone = await dial(gateway.port, upgrade("/hold"))
    assert await host.line() == "asked /hold"
    await gateway.kill()
    assert await phone.end() == b""
    await phone.hang_up()
    await (await talking(await parts.open("gateway"), "/next")).hang_up()


async def test_a_stopped_host_costs_a_503_and_speaks_on_nothing_afterwards(parts: Parts) -> None:
    host, gateway = await parts.open("host"), await parts.open("gateway")
    host.process.send_signal(signal.SIGSTOP)
    phone = await dial(gateway.port, upgrade("/late"))
    answer = await phone.end()
    assert answer.startswith(b"HTTP/1.1 503")
    await phone.hang_up()
    host.process.send_signal(signal.SIGCONT)
    await (await talking(gateway, "/next")).hang_up()
    assert answer.count(b"HTTP/1.1") == 1
