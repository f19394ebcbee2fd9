"""The entrance of a system for other programs of the same user: a unix socket, and the client that uses it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from actors.runtime.errors import Unreachable
from actors.runtime.forked.link import LinkTransport, read_names
from actors.runtime.messages import Message
from actors.runtime.parcels import Parcel
from actors.runtime.ports import Cancel, OnDown, Transport
from actors.runtime.refs import Ref

if TYPE_CHECKING:
    from actors.runtime.system import System


class Reach:
    """All that a system can reach, its own actors first, as a transport for guests."""

    def __init__(self, system: System) -> None:
        self._system = system

    def tell(self, address: str, parcel: Parcel, timeout_s: float) -> asyncio.Future[None]:
        return self._towards(address).tell(address, parcel, timeout_s)

    def ask(self, address: str, parcel: Parcel, timeout_s: float) -> asyncio.Future[Parcel | None]:
        return self._towards(address).ask(address, parcel, timeout_s)

    def watch(self, address: str, on_down: OnDown) -> Cancel:
        return self._system.observe_anywhere(address, on_down)

    def _towards(self, address: str) -> Transport:
        return self._system.local if self._system.has(address) else self._system.transport


class Entrance:
    """Lets guests in. The socket's file has mode 0600 and goes with the system."""

    def __init__(self, system: System, path: Path) -> None:
        self._system = system
        self._path = path
        self._guests: set[LinkTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket: socket.socket | None = None

    async def open(self) -> None:
        """Listen. A dead socket file is replaced; a living one is OSError (address in use)."""
        path = self._path
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode) and not _answers(path):
            path.unlink()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        mask = os.umask(0o177)
        try:
            sock.bind(str(path))
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(mask)
        sock.listen(16)
        self._socket = sock
        asyncio.get_running_loop().add_reader(sock, self._accept, sock)

    def close(self) -> None:
        """Stop listening and send the guests away."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)
        for task in self._tasks:
            task.cancel()
        for guest in list(self._guests):
            guest.close(at_once=True)

    def _accept(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            guest_socket, _ = sock.accept()
            task = asyncio.get_running_loop().create_task(self._welcome(guest_socket), name="entrance guest")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _welcome(self, sock: socket.socket) -> None:
        guest = LinkTransport(
            Reach(self._system),
            switchboard=self._system.switchboard,
            may_claim=False,
            on_lost=lambda: self._guests.discard(guest),
        )
        self._guests.add(guest)
        await guest.open(sock)


class RemoteSystem:
    """A system seen from another program. Made by `connect`."""

    def __init__(self, transport: LinkTransport) -> None:
        self._transport = transport

    def ref(self, name: str) -> Ref:
        """A reference to an actor there; its asks and tells may raise `Unreachable`."""
        return Ref(self, name)

    async def names(self, prefix: str = "", *, timeout: float = 5.0) -> tuple[str, ...]:
        """The names that the system there knows."""
        return read_names(await self._transport.names(prefix, timeout))

    async def tell(self, address: str, message: Message, timeout_s: float) -> None:
        await self._transport.tell(address, Parcel.of(message), timeout_s)

    async def ask(self, address: str, message: Message, timeout_s: float) -> Message | None:
        parcel = await self._transport.ask(address, Parcel.of(message), timeout_s)
        return None if parcel is None else parcel.message()

    async def close(self) -> None:
        self._transport.close()
        await asyncio.sleep(0)

    async def __aenter__(self) -> RemoteSystem:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def connect(path: str | Path, *, timeout: float = 2.0) -> RemoteSystem:
    """Connect to a system's entrance. `Unreachable` when nobody listens there or answers within `timeout`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().sock_connect(sock, str(path))
    except (OSError, TimeoutError) as error:
        sock.close()
        raise Unreachable(f"{path} ({type(error).__name__})") from error
    transport = LinkTransport(gone=Unreachable)
    await transport.open(sock)
    return RemoteSystem(transport)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
