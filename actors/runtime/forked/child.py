"""The child's side: a process that runs one entry with a system of its own, linked to its supervisor.

Forked children come here from the template, others by
`python -m actors.runtime.forked.child NAME LINK_FD LIFELINE_FD [FD...]`.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import uvloop

from actors.runtime.errors import ActorError
from actors.runtime.forked import frames, lifeline
from actors.runtime.forked.frames import AnyFrame
from actors.runtime.forked.link import LinkRegistry, LinkTransport
from actors.runtime.specs import resolve
from actors.runtime.system import System

log = structlog.get_logger()

FAILED: Final = 1
GAVE_UP: Final = 70  # EX_SOFTWARE


def serve(name: str, link_fd: int, lifeline_fd: int, fds: list[int]) -> int:
    """Run the child until its entry returns, its supervisor says stop, or its link ends. Returns the exit status."""
    if lifeline.is_cut(lifeline_fd):
        return FAILED
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(name[:15])
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which stops us in order
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(name, fds, socket.socket(fileno=link_fd)))


async def _run(name: str, fds: list[int], sock: socket.socket) -> int:
    return await Child(name, fds).run(sock)


def leave(code: int) -> None:
    """Exit without running what belongs to the process that was forked."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


class Child:
    """One run of one entry."""

    def __init__(self, name: str, fds: list[int]) -> None:
        self._name = name
        self._fds = fds
        self._begun: asyncio.Future[frames.Begin] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._why = ""
        self._transport: LinkTransport | None = None
        self._system: System | None = None

    async def run(self, sock: socket.socket) -> int:
        """The whole life, from the first frame to the exit status."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._end, "SIGTERM")
        self._transport = transport = LinkTransport(on_other=self._take, on_lost=self._lose)
        system = self._system = System(self._name, transport=transport, registry=LinkRegistry(transport))
        transport.served = system.local
        await transport.open(sock)
        over = asyncio.ensure_future(self._over.wait())
        either: list[asyncio.Future[Any]] = [over, self._begun]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not self._begun.done():
            return FAILED
        begin = self._begun.result()
        try:
            return await self._work(system, begin, over)
        finally:
            # Whatever will not end in time ends by the alarm, whose default action is death.
            signal.alarm(int(begin.grace_s) + 2)
            await system.stop(self._why or "the entry returned")
            transport.close()
            over.cancel()

    async def _work(self, system: System, begin: frames.Begin, over: asyncio.Future[Any]) -> int:
        main = resolve(begin.entry)
        await system.open()
        system.loop_watch.start()
        assert self._transport is not None
        self._transport.send(frames.Hello(os.getpid()))
        fds = dict(zip(begin.fds, self._fds, strict=True))
        entry: asyncio.Future[Any] = asyncio.ensure_future(main(system, begin.args, fds))
        ready = asyncio.ensure_future(self._tell_ready(system))
        failed = asyncio.ensure_future(system.wait_failed())
        await asyncio.wait({entry, over, failed}, return_when=asyncio.FIRST_COMPLETED)
        code = GAVE_UP if failed.done() else 0
        for task in (entry, ready, failed):
            task.cancel()
        await asyncio.wait({entry}, timeout=begin.grace_s)
        if entry.done() and not entry.cancelled() and (error := entry.exception()) is not None:
            log.error("process.failed", process=self._name, exc_info=error)
            code = FAILED
        return code

    async def _tell_ready(self, system: System) -> None:
        await system.wait_ready()
        assert self._transport is not None
        self._transport.send(frames.Ready())

    def _take(self, frame: AnyFrame) -> None:
        match frame:
            case frames.Begin() if not self._begun.done():
                self._begun.set_result(frame)
            case frames.Stop():
                self._end(frame.reason)
            case frames.Ping():
                self._pong(frame.id)

    def _pong(self, ping_id: int) -> None:
        system, transport = self._system, self._transport
        if system is None or transport is None:
            return
        try:
            report = msgspec.msgpack.encode(system.read_report())
        except Exception as error:  # whatever an entry reports, its loop is alive
            report = msgspec.msgpack.encode({"report_error": str(error)})
        lag = system.loop_watch.status()
        with contextlib.suppress(ActorError):
            transport.send(frames.Pong(ping_id, lag.p50_ms, lag.p99_ms, report))

    def _lose(self) -> None:
        self._end("the supervisor has closed the link")

    def _end(self, why: str) -> None:
        self._why = self._why or why
        self._over.set()


def main() -> None:
    """Entry of children that were started with a fresh interpreter."""
    name = sys.argv[1]
    link_fd, lifeline_fd, *fds = (int(argument) for argument in sys.argv[2:])
    for fd in (link_fd, lifeline_fd, *fds):
        os.set_inheritable(fd, False)
    leave(serve(name, link_fd, lifeline_fd, fds))


if __name__ == "__main__":
    main()
