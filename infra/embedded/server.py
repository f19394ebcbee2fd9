"""What the keeper asks of an embedded server, and the record it tells its holders."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from abc import ABC, abstractmethod
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Literal

import msgspec

from infra.embedded.ground import Account, EmbeddedError, account_for, die_with_parent

SERVER_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
STEP_SECONDS = 110.0


class EmbeddedStatus(msgspec.Struct, frozen=True):
    """What is known of an embedded server at one moment.

    `lost` means that the keeper is gone and another is being started; `restarts` counts the server processes
    that this keeper had to replace.
    """

    kind: str
    state: Literal["starting", "ready", "restarting", "lost", "failed"]
    since: datetime
    keeper_pid: int | None = None
    server_pid: int | None = None
    restarts: int = 0
    reason: str = ""


class EmbeddedServer(ABC):
    """One kind of server over one folder. Holders read `url`; the keeper does the rest.

    The folder holds `data` (the server's own), `lock` (held by the living keeper), `keeper.sock`, and the
    logs.
    """

    kind: ClassVar[str]
    process_name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    orphan_signal: ClassVar[signal.Signals]  # what the kernel sends the server when its keeper dies

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.data = self.folder / "data"

    @property
    @abstractmethod
    def url(self) -> str:
        """The address clients connect to; known once the server has been ready."""

    @abstractmethod
    async def prepare(self) -> None:
        """Make the data, unless it is there. Either all of it is made or nothing."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server's command line; its working directory is `data`."""

    @abstractmethod
    async def is_ready(self, pid: int) -> bool:
        """Whether the server with this process id accepts clients."""

    @property
    def account(self) -> Account:
        """Who the server runs as."""
        return account_for(self.data)

    async def run_step(self, argv: list[str], account: Account, folder: Path, told: str) -> None:
        """Run a set-up program in `folder` to its end; its standard input is a file in memory that holds
        `told`.

        Raises:
            EmbeddedError: it failed or took too long; the message holds the end of what it said.

        """
        with os.fdopen(os.memfd_create("told"), "w+") as memory:
            memory.write(told)
            memory.seek(0)
            process = await asyncio.create_subprocess_exec(
                *argv,
                cwd=folder,
                env=SERVER_ENVIRONMENT,
                stdin=memory,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                preexec_fn=die_with_parent(signal.SIGKILL),
                **account.popen(),  # type: ignore[arg-type]
            )
        try:
            async with asyncio.timeout(STEP_SECONDS):
                said, _ = await process.communicate()
        except TimeoutError:
            raise EmbeddedError(f"{Path(argv[0]).name} did not end within {STEP_SECONDS:.0f} s.") from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
        if process.returncode != 0:
            raise EmbeddedError(f"{Path(argv[0]).name} failed: {said.decode(errors='replace').strip()[-600:]}")
