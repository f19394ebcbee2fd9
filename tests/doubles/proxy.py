"""A TCP proxy before several nodes, as operators have one: a connection goes to a node that says it is ready."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence

PROBE_SECONDS = 3.0
PAUSE_SECONDS = 0.1
PATIENCE_SECONDS = 12.0  # less than the carrier's 15 s for a webhook
PROBE = b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"


class Proxy:
    """Joins each connection with the first node that is ready, and waits a little for one."""

    def __init__(self, ports: Sequence[int]) -> None:
        self.ports = tuple(ports)
        self.port = 0
        self._joined: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._joined.add(task)
        task.add_done_callback(self._joined.discard)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                node_reader, node_writer = await self._ready_node()
        except TimeoutError:
            writer.close()
            return
        ways = [asyncio.create_task(pass_on(reader, node_writer)), asyncio.create_task(pass_on(node_reader, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in (writer, node_writer):
                end.close()

    async def _ready_node(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while True:
            for port in self.ports:
                if await ready(port):
                    with contextlib.suppress(OSError):
                        return await asyncio.open_connection("127.0.0.1", port)
            await asyncio.sleep(PAUSE_SECONDS)

    async def close(self) -> None:
        for task in self._joined:
            task.cancel()
        await asyncio.gather(*self._joined, return_exceptions=True)


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write what is read, to its end."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def ready(port: int) -> bool:
    """Whether a node at this port takes calls."""
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(PROBE)
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.asynccontextmanager
async def proxy(ports: Sequence[int]) -> AsyncIterator[Proxy]:
    """A proxy before these ports of this machine."""
    made = Proxy(ports)
    server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()
