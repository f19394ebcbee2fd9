"""Hold an embedded server: it runs while somebody does, and two nodes on one machine share it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from infra.embedded.ground import EmbeddedError, make_private, short
from infra.embedded.server import EmbeddedServer, EmbeddedStatus

HOLD_SECONDS = 150.0
GRACE_SECONDS = 2.0
ELECTION_POLL_SECONDS = 0.05
ROOT = Path(__file__).parents[2]


class Holding:
    """One holder's view of an embedded server. Get one from `hold`."""

    def __init__(
        self, server: EmbeddedServer, on_change: Callable[[EmbeddedStatus], None] | None, grace_s: float
    ) -> None:
        self.server = server
        self._on_change = on_change
        self._grace_s = grace_s
        self._settled = asyncio.Event()
        self._changed = asyncio.Event()
        self._status = EmbeddedStatus(server.kind, "starting", datetime.now(UTC))

    @property
    def url(self) -> str:
        """The server's address. It stays the same over restarts."""
        return self.server.url

    def status(self) -> EmbeddedStatus:
        """What the keeper said last."""
        return self._status

    async def wait_ready(self) -> None:
        """Wait until the server accepts clients.

        Raises:
            EmbeddedError: it cannot be started.
        """
        await self._settled.wait()
        if self._status.state == "failed":
            raise EmbeddedError(f"The embedded {self.server.kind} cannot start: {self._status.reason}")

    async def wait_change(self, seen: EmbeddedStatus) -> EmbeddedStatus:
        """Wait until the status is another than `seen`, and return it."""
        while self._status == seen:
            self._changed.clear()
            await self._changed.wait()
        return self._status

    async def keep(self) -> None:
        """Stay connected to the keeper, electing who starts a new one when there is none; ends by
        cancellation.
        """
        while True:
            try:
                await self._follow(*await self._connect())
            except (EmbeddedError, OSError) as error:
                failed = EmbeddedStatus(self.server.kind, "failed", datetime.now(UTC), reason=str(error))
                self._note(failed)
            if self._status.state == "failed":
                await asyncio.sleep(self._grace_s)
            else:
                reason = "the keeper is gone"
                self._note(EmbeddedStatus(self.server.kind, "lost", datetime.now(UTC), reason=reason))

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note what the keeper says, to its end."""
        try:
            while line := await reader.readline():
                self._note(msgspec.json.decode(line, type=EmbeddedStatus))
        except (ConnectionError, msgspec.DecodeError):
            pass  # killed, perhaps in the middle of a line
        finally:
            writer.close()

    def _note(self, status: EmbeddedStatus) -> None:
        self._status = status
        self._changed.set()
        if status.state in {"ready", "failed"}:
            self._settled.set()
        else:
            self._settled.clear()
        if self._on_change is not None:
            self._on_change(status)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the keeper; where there is none, whoever gets its lock starts one."""
        address = short(self.server.folder) / "keeper.sock"
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return await asyncio.open_unix_connection(address)
            lock = os.open(self.server.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                await self._start_keeper(lock)
            except BlockingIOError:
                pass  # another holder is starting it, or the last keeper is still stopping its server
            finally:
                os.close(lock)
            await asyncio.sleep(ELECTION_POLL_SECONDS)

    async def _start_keeper(self, lock: int) -> None:
        argv = (sys.executable, "-m", "infra.embedded.keeper", self.server.kind, str(self.server.folder))
        with (self.server.folder / "keeper.log").open("wb") as log:
            starter = await asyncio.create_subprocess_exec(
                *argv,
                str(lock),
                str(self._grace_s),
                cwd=ROOT,
                pass_fds=(lock,),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if await starter.wait() != 0:
            said = (self.server.folder / "keeper.log").read_text(errors="replace").strip()
            raise EmbeddedError(f"The keeper of {self.server.kind} did not start: {said[-600:]}")


@contextlib.asynccontextmanager
async def hold(
    server: EmbeddedServer,
    on_change: Callable[[EmbeddedStatus], None] | None = None,
    *,
    grace_s: float = GRACE_SECONDS,
    timeout_s: float = HOLD_SECONDS,
) -> AsyncIterator[Holding]:
    """Hold `server` for the length of the block, starting it if nobody else has.

    `on_change` is called with every change of state. A holder that is killed lets go like one that leaves. A
    process forked during the block, without exec, inherits the hold and must close it or end.

    Raises:
        EmbeddedError: the server cannot be started; nothing is left running.

    """
    make_private(server.folder)
    holding = Holding(server, on_change, grace_s)
    keep = asyncio.create_task(holding.keep(), name=f"hold {server.kind}")
    try:
        try:
            async with asyncio.timeout(timeout_s):
                await holding.wait_ready()
        except TimeoutError:
            raise EmbeddedError(f"The embedded {server.kind} was not ready within {timeout_s:.0f} s.") from None
        yield holding
    finally:
        keep.cancel()
        await asyncio.gather(keep, return_exceptions=True)


@dataclass(frozen=True)
class Backing:
    """Where a database or cache is: `url`, and the hold on it if it is ours (None where a setting names
    another).
    """

    url: str
    embedded: Holding | None


@contextlib.asynccontextmanager
async def backing(
    url: str, server: EmbeddedServer, on_change: Callable[[EmbeddedStatus], None] | None = None
) -> AsyncIterator[Backing]:
    """`url` if it names a server, else `server`, held for the length of the block."""
    if url:
        yield Backing(url, None)
        return
    async with hold(server, on_change) as holding:
        yield Backing(holding.url, holding)
