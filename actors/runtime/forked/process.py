"""The actors that stand for processes in their supervisor: they bear their names, and their ends are theirs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog

from actors.runtime.actor import Actor
from actors.runtime.errors import ActorError, AskTimeout, ProcessFailed
from actors.runtime.forked import frames
from actors.runtime.forked.frames import AnyFrame
from actors.runtime.forked.launcher import Launched, Launcher, describe
from actors.runtime.forked.link import LinkTransport
from actors.runtime.local import Switchboard
from actors.runtime.memory import read_pss_mb
from actors.runtime.specs import ProcessSpec
from actors.runtime.status import ProcessStatus

log = structlog.get_logger()

MEMORY_PERIOD_S: Final = 2.0
DUMP_S: Final = 0.3  # for the stack dump to reach stderr
INPUT_S: Final = 0.1  # for answers that came while this loop was late


class Process(Actor):
    """One child process. Its crash is the actor's crash, with the exit or the verdict as the reason."""

    def __init__(
        self, spec: ProcessSpec, launcher: Launcher, switchboard: Switchboard, on_change: Callable[[Process], None]
    ) -> None:
        self.spec: Final = spec
        self._launcher = launcher
        self._switchboard = switchboard
        self._on_change = on_change
        self._launched: Launched | None = None
        self._transport: LinkTransport | None = None
        self._hello = asyncio.Event()
        self._ready = asyncio.Event()
        self._stopping = False
        self._verdict = ""
        self._born_s = 0.0
        self._pong_s = 0.0
        self._pss_mb = 0.0
        self._pings = 0
        self._pong: frames.Pong | None = None

    async def start(self) -> None:
        self._on_change(self)
        self._born_s = self._pong_s = self.context.clock.monotonic()
        try:
            await self._launch()
            assert self._launched is not None
            await self._wait_up(self._launched)
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self._abandon()))
            raise
        self.context.run(self._wait_exit(self._launched))
        self.context.run(self._ping())
        self.context.run(self._weigh(self._launched.pid))

    async def _launch(self) -> None:
        spec = self.spec
        ours, theirs = socket.socketpair()
        transport = LinkTransport(
            self._switchboard, switchboard=self._switchboard, on_other=self._take, on_lost=self._link_lost
        )
        start = self._launcher.start_fork if spec.start == "fork" else self._launcher.start_exec
        with theirs:
            await transport.open(ours)
            self._transport = transport
            transport.why_lost = f"process {spec.name} is gone"
            try:
                async with asyncio.timeout(spec.start_s):
                    self._launched = await start(spec.name, theirs, list(spec.fds.values()))
            except TimeoutError:
                raise ProcessFailed(f"{spec.name}: no template within {spec.start_s:g} s") from None
        transport.send(frames.Begin(spec.name, spec.entry, spec.args, list(spec.fds), spec.grace_s))

    async def _wait_up(self, launched: Launched) -> None:
        spec = self.spec
        up = asyncio.ensure_future((self._ready if spec.ready else self._hello).wait())
        died = asyncio.ensure_future(launched.exited.wait())
        await asyncio.wait({up, died}, timeout=spec.start_s, return_when=asyncio.FIRST_COMPLETED)
        came_up = up.done()
        up.cancel()
        died.cancel()
        if came_up:
            return
        if launched.exited.is_set():
            raise ProcessFailed(f"{spec.name} {describe(launched.code)} before it was up")
        launched.signal(signal.SIGUSR1)
        await asyncio.sleep(DUMP_S)
        raise ProcessFailed(f"{spec.name} was not up within {spec.start_s:g} s")

    async def _abandon(self) -> None:
        if self._launched is not None:
            await self._launched.kill()
            self._launcher.reaped(self._launched)
        if self._transport is not None:
            self._transport.lose(f"{self.spec.name} did not start")

    async def _wait_exit(self, launched: Launched) -> None:
        await launched.exited.wait()
        self._launcher.reaped(launched)
        reason = self._verdict or describe(launched.code)
        assert self._transport is not None
        self._transport.lose(f"process {self.spec.name} {reason}")
        if self._stopping:
            return
        if launched.code == 0 and not self._verdict:
            self.context.stop(reason)
        else:
            raise ProcessFailed(f"{self.spec.name} {reason}")

    async def _ping(self) -> None:
        spec, transport = self.spec, self._transport
        assert transport is not None
        while not transport.is_lost:
            self._pings += 1
            pong = transport.ping(spec.stall_s)
            try:
                self._pong = await pong
                self._pong_s = self.context.clock.monotonic()
            except AskTimeout:
                # If it was this loop that stood still, the answer lies in the socket by now.
                before = self._pong
                retry = transport.ping(INPUT_S)
                with contextlib.suppress(ActorError):
                    self._pong = await retry
                if self._pong is before and not self._stopping:
                    await self._condemn(f"stalled: no answer to a ping for {spec.stall_s:g} s", dump=True)
                    return
            except ActorError:
                return  # the link ended; the exit follows
            await asyncio.sleep(spec.ping_s)

    async def _weigh(self, pid: int) -> None:
        while not self._verdict:
            pss_mb = await asyncio.to_thread(read_pss_mb, pid)
            if pss_mb is None:
                return
            self._pss_mb = pss_mb
            cap_mb = self.spec.memory_mb
            if 0 < cap_mb < pss_mb:
                await self._condemn(f"memory: {pss_mb:.0f} MB are over its cap of {cap_mb} MB", dump=False)
                return
            await asyncio.sleep(MEMORY_PERIOD_S)

    async def _condemn(self, verdict: str, *, dump: bool) -> None:
        launched = self._launched
        if launched is None or launched.exited.is_set() or self._verdict:
            return
        self._verdict = f"was killed ({verdict})"
        log.error("process.condemned", process=self.spec.name, pid=launched.pid, verdict=verdict)
        if dump:
            launched.signal(signal.SIGUSR1)
            await asyncio.sleep(DUMP_S)
        launched.signal(signal.SIGKILL)

    def _link_lost(self) -> None:
        if self._launched is not None and not self._launched.exited.is_set() and not self._stopping:
            self.context.run(self._bury(self._launched))

    async def _bury(self, launched: Launched) -> None:
        # A child without a link ends by itself; one that does not is helped.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.spec.grace_s):
                await launched.exited.wait()
        launched.signal(signal.SIGKILL)

    def _take(self, frame: AnyFrame) -> None:
        if isinstance(frame, frames.Hello):
            self._hello.set()
        elif isinstance(frame, frames.Ready):
            self._ready.set()

    async def stop(self, reason: str) -> None:
        launched, transport = self._launched, self._transport
        if launched is None or transport is None:
            return
        self._stopping = True
        if not launched.exited.is_set() and not self._verdict:
            with contextlib.suppress(ActorError):
                transport.send(frames.Stop(reason))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.spec.grace_s):
                    await launched.exited.wait()
        await launched.kill()
        self._launcher.reaped(launched)
        transport.lose(f"process {self.spec.name} {describe(launched.code)}")

    def status(self) -> ProcessStatus:
        """The frozen record of this process now."""
        pong, launched = self._pong, self._launched
        now_s = self.context.clock.monotonic()
        alive = launched is not None and not launched.exited.is_set()
        return ProcessStatus(
            name=self.spec.name,
            state=("stopping" if self._stopping or self._verdict else "running") if alive else "down",
            pid=launched.pid if launched is not None else 0,
            start=self.spec.start,
            age_s=round(now_s - self._born_s, 3),
            pss_mb=round(self._pss_mb, 1),
            pings=self._pings,
            lag_p50_ms=pong.lag_p50_ms if pong is not None else 0.0,
            lag_p99_ms=pong.lag_p99_ms if pong is not None else 0.0,
            silent_s=round(now_s - self._pong_s, 3),
            report=msgspec.msgpack.decode(pong.report) if pong is not None else {},
        )

    def snapshot(self) -> dict[str, Any]:
        found: dict[str, Any] = msgspec.to_builtins(self.status())
        return found


class Template(Actor):
    """Stands for the template process, so that its death is a crash and its return a restart."""

    def __init__(self, launcher: Launcher, preload: tuple[str, ...], prepare: str, told: dict[str, Any]) -> None:
        self._launcher = launcher
        self._preload = preload
        self._prepare = prepare
        self._told = told
        self._launched: Launched | None = None
        self._stopping = False

    async def start(self) -> None:
        self._launched = await self._launcher.start_template(self._preload, self._prepare, self._told)
        self.context.run(self._wait_exit(self._launched))

    async def _wait_exit(self, launched: Launched) -> None:
        await launched.exited.wait()
        if not self._stopping:
            raise ProcessFailed(f"the template {describe(launched.code)}")

    async def stop(self, reason: str) -> None:
        self._stopping = True
        self._launcher.lose_template()
        if self._launched is not None:
            await self._launched.kill()

    def snapshot(self) -> dict[str, Any]:
        return {"pid": self._launched.pid if self._launched else 0, "supervisor_pid": os.getpid()}
