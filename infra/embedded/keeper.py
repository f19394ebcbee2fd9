"""The keeper: a small process, the parent of one embedded server, that lives as long as somebody holds it.

Holders (node supervisors, commands, tests) keep a connection to `keeper.sock` open and read one line of
status for every change. A server that dies is started again; when the last holder is gone the server is
stopped and the keeper ends. The keeper inherits the locked descriptor of `lock`, so there is one per folder,
and the kernel ends the server when the keeper is killed.

Started by `infra.embedded.holding`: `python -m infra.embedded.keeper KIND FOLDER LOCK_FD GRACE_SECONDS`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from infra.embedded.ground import EmbeddedError, die_with_parent, short, sweep
from infra.embedded.postgres import Postgres
from infra.embedded.server import SERVER_ENVIRONMENT, EmbeddedServer, EmbeddedStatus
from infra.embedded.valkey import Valkey

SERVERS: dict[str, type[EmbeddedServer]] = {"postgres": Postgres, "valkey": Valkey}
START_SECONDS = 120.0
STOP_SECONDS = 20.0
STEADY_SECONDS = 5.0  # a server that ran this long starts again without a pause
PAUSES_SECONDS = (0.0, 0.2, 0.5, 1.0, 2.0)
READY_POLL_SECONDS = 0.02
LOG_BYTES_MAX = 4_000_000
REASON_BYTES = 600


class Keeper:
    """Runs `server` until nobody has held it for `grace_s` seconds, or until it cannot be started."""

    def __init__(self, server: EmbeddedServer, grace_s: float) -> None:
        self._server = server
        self._grace_s = grace_s
        self._holders: set[asyncio.StreamWriter] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._stop = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._status = EmbeddedStatus(server.kind, "starting", datetime.now(UTC), os.getpid())

    async def run(self) -> None:
        """Serve holders and keep the server alive; returns when both have ended."""
        address = short(self._server.folder) / "keeper.sock"
        address.unlink(missing_ok=True)
        previous = os.umask(0o177)
        listener = await asyncio.start_unix_server(self._hold, address)
        os.umask(previous)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        keep = asyncio.create_task(self._keep_alive())
        try:
            await self._until_unwanted(keep)
        finally:
            listener.close()
            address.unlink(missing_ok=True)
            keep.cancel()
            outcome = (await asyncio.gather(keep, return_exceptions=True))[0]
            if isinstance(outcome, Exception):
                self._tell(state="failed", reason=f"{type(outcome).__name__}: {outcome}")
            await self._end_server()
            for writer in self._holders:
                writer.close()

    async def _until_unwanted(self, keep: asyncio.Task[None]) -> None:
        stop = asyncio.create_task(self._stop.wait())
        while not keep.done() and not self._stop.is_set():
            idle = asyncio.create_task(self._unheld())
            await asyncio.wait((keep, stop, idle), return_when=asyncio.FIRST_COMPLETED)
            if idle.done() and self._idle.is_set() and self._status.state != "starting":
                break
            idle.cancel()
        stop.cancel()

    async def _unheld(self) -> None:
        """Return when nobody has held the server for the whole grace period."""
        while True:
            await self._idle.wait()
            await asyncio.sleep(self._grace_s)
            if self._idle.is_set():
                return

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._holders.add(writer)
        self._idle.clear()
        writer.write(msgspec.json.encode(self._status) + b"\n")
        try:
            await reader.read()  # a holder says nothing; the end of its stream is the end of its hold
        except ConnectionError:
            pass
        finally:
            self._holders.discard(writer)
            writer.close()
            if not self._holders:
                self._idle.set()

    def _tell(self, **changes: object) -> None:
        self._status = msgspec.structs.replace(self._status, since=datetime.now(UTC), **changes)
        for writer in self._holders:
            writer.write(msgspec.json.encode(self._status) + b"\n")

    async def _keep_alive(self) -> None:
        """Start the server, and start it again whenever it dies; returns when it cannot be started.

        A server that has run before is tried for `START_SECONDS`, one that never did a few times only.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_SECONDS
        attempt = 0
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    await self._server.prepare()
                    process = await self._start()
            except (EmbeddedError, OSError, TimeoutError) as error:
                reason = str(error) or f"it was not ready within {START_SECONDS:.0f} s: {self._last_words()}"
                await self._end_server()
                hopeless = isinstance(error, EmbeddedError) or attempt == len(PAUSES_SECONDS)
                if loop.time() >= deadline or (hopeless and not self._status.restarts):
                    return self._tell(state="failed", reason=reason)
            else:
                ready_at = loop.time()
                self._tell(state="ready", server_pid=process.pid, reason="")
                code = await process.wait()
                if loop.time() - ready_at > STEADY_SECONDS:
                    attempt = 0
                deadline = loop.time() + START_SECONDS
                restarts, reason = self._status.restarts + 1, f"the server ended with {code}"
                self._tell(state="restarting", server_pid=None, restarts=restarts, reason=reason)
            await asyncio.sleep(PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS) - 1)])
            attempt += 1

    async def _start(self) -> asyncio.subprocess.Process:
        """Start the server and return when it accepts clients."""
        server = self._server
        sweep(server.data, server.process_name)
        log = server.folder / "server.log"
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        with log.open("ab") as output:
            log.chmod(0o600)
            process = await asyncio.create_subprocess_exec(
                *server.command(),
                cwd=server.data,
                env=SERVER_ENVIRONMENT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent(server.orphan_signal),
                **server.account.popen(),  # type: ignore[arg-type]
            )
        self._process = process
        while not await server.is_ready(process.pid):
            if process.returncode is not None:
                raise OSError(f"the server ended with {process.returncode}: {self._last_words()}")
            await asyncio.sleep(READY_POLL_SECONDS)
        return process

    async def _end_server(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for number, wait_s in ((self._server.stop_signal, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError, TimeoutError):
                    process.send_signal(number)
                    await asyncio.wait_for(process.wait(), wait_s)
        sweep(self._server.data, self._server.process_name)

    def _last_words(self) -> str:
        log = self._server.folder / "server.log"
        return log.read_bytes()[-REASON_BYTES:].decode(errors="replace").strip() if log.exists() else "it said nothing"


def main(argv: list[str]) -> None:
    """Become a process of its own, whose death and signals are nobody else's, and run the keeper."""
    kind, folder, lock, grace_s = argv
    if os.fork():
        os._exit(0)  # the one who started us waits for this end
    os.setsid()
    os.set_inheritable(int(lock), False)
    asyncio.run(Keeper(SERVERS[kind](Path(folder)), float(grace_s)).run())


if __name__ == "__main__":
    main(sys.argv[1:])
