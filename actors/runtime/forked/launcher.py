"""The supervisor's hands: starts the template and children, knows when they died and how, and reaps them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import structlog

from actors.runtime.errors import ProcessFailed
from actors.runtime.forked import lifeline, packets
from actors.runtime.forked.orphans import Orphan, find_orphans

log = structlog.get_logger()

ROOT: Final = Path(__file__).resolve().parents[3]  # the directory that contains actors/
STATUS_WAIT_S: Final = 1.0
THREAD_VARIABLES: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


class Launched:
    """A running process: its pidfd, its ends of link and lifeline, and its exit when that has come.

    `code` is as in `subprocess` (negative for signals), or None when nobody could tell.
    """

    def __init__(self, pid: int, pidfd: int, lifeline_fd: int, popen: subprocess.Popen[bytes] | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.pid: Final = pid
        self.code: int | None = None
        self.exited = asyncio.Event()
        self.told_code: asyncio.Future[int] = loop.create_future()  # by the template
        self._pidfd = pidfd
        self._lifeline_fd = lifeline_fd
        self._popen = popen
        self._reaping: asyncio.Task[None] | None = None
        loop.add_reader(pidfd, self._died)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to exactly this process, or to nobody."""
        if self._pidfd >= 0 and not self.exited.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def kill(self) -> None:
        """Kill it and wait until it is reaped."""
        self.signal(signal.SIGKILL)
        await self.exited.wait()

    def _died(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        self._reaping = asyncio.get_running_loop().create_task(self._reap(), name=f"reaping of {self.pid}")

    async def _reap(self) -> None:
        try:
            if self._popen is None:
                await self._reap_forked()
            else:
                self._end_group()
                self.code = self._popen.poll()
        finally:
            os.close(self._lifeline_fd)
            os.close(self._pidfd)
            self._pidfd = -1
            self.exited.set()

    async def _reap_forked(self) -> None:
        # The template is its parent and reaps it; once the template is dead, we are and do.
        attempts = 20
        for _ in range(attempts):
            if self.told_code.done():
                self.code = self.told_code.result()
                return
            if self._reap_adopted():
                return
            await asyncio.wait([self.told_code], timeout=STATUS_WAIT_S / attempts)

    def _reap_adopted(self) -> bool:
        try:
            found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        if found is None:
            return False
        self._end_group()
        os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        self.code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        return True

    def _end_group(self) -> None:
        # It is not reaped yet, so its number, which is its group's too, belongs to nobody else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)


class TemplateLost(Exception):
    """The template died before it answered. What it may have forked dies of its cut lifeline; ask the next one."""


def describe(code: int | None) -> str:
    """An exit status in words."""
    if code is None:
        return "ended, how is not known"
    if code >= 0:
        return f"exited with status {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Launcher:
    """Starts processes. One per supervisor process; `adopt_orphans` makes it inherit what a template leaves."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._command: socket.socket | None = None
        self._has_template = asyncio.Event()
        self._prepared: asyncio.Future[packets.Prepared] | None = None
        self._forks: dict[int, asyncio.Future[tuple[int, int]]] = {}
        self._forked: dict[int, Launched] = {}
        self._sessions: set[int] = set()
        lifeline.adopt_orphans()

    async def start_exec(self, name: str, link: socket.socket, fds: list[int]) -> Launched:
        """Start a child with a fresh interpreter. It gets `link` and copies of `fds`."""
        return self._exec("child", [name], [link.fileno()], fds)

    async def start_fork(self, name: str, link: socket.socket, fds: list[int]) -> Launched:
        """Let the template fork a child, waiting for a template if there is none now. `ProcessFailed`."""
        while True:
            await self._has_template.wait()
            try:
                return await self._fork(name, link, fds)
            except TemplateLost:
                log.info("template.lost_while_forking", process=name)

    async def _fork(self, name: str, link: socket.socket, fds: list[int]) -> Launched:
        assert self._command is not None
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        request_id = next(self._ids)
        future: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        self._forks[request_id] = future
        try:
            packets.send(self._command, packets.Fork(request_id, name), [link.fileno(), read_fd, *fds])
            pid, pidfd = await asyncio.shield(future)
        except BaseException as error:
            os.close(write_fd)  # a child that came to be nevertheless dies of this
            future.add_done_callback(_discard)
            if isinstance(error, BlockingIOError):
                raise ProcessFailed(f"{name}: the template is behind with forking") from error
            if isinstance(error, OSError):
                self._has_template.clear()
                raise TemplateLost(name) from error
            raise
        finally:
            os.close(read_fd)
            self._forks.pop(request_id, None)
        launched = Launched(pid, pidfd, write_fd)
        self._forked[pid] = launched
        return launched

    async def start_template(self, modules: tuple[str, ...], prepare: str, told: dict[str, Any]) -> Launched:
        """Start a template and wait until it has imported and prepared everything."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._prepared = loop.create_future()
        with theirs:
            launched = self._exec("template", [], [theirs.fileno()], [])
        ours.setblocking(False)
        loop.add_reader(ours, self._take, ours)
        try:
            packets.send(ours, packets.Preload(list(modules), prepare, told), [])
            died = asyncio.ensure_future(launched.exited.wait())
            either: list[asyncio.Future[Any]] = [died, self._prepared]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            died.cancel()
            prepared = self._prepared.result() if self._prepared.done() else None
            if prepared is None or prepared.error:
                why = prepared.error if prepared is not None else describe(launched.code)
                raise ProcessFailed(f"the template is not ready: {why}")
        except BaseException:
            self._close_command(ours)
            await launched.kill()
            raise
        if prepared.threads > 1:
            # A library may keep a thread that its children can do without, as onnxruntime does on import.
            log.info("template.threads", threads=prepared.threads)
        self._command = ours
        self._has_template.set()
        return launched

    def lose_template(self) -> None:
        """The template is gone: forks under way have failed, the next ones wait for its successor."""
        self._has_template.clear()
        if self._command is not None:
            self._take_all(self._command)
            self._close_command(self._command)
            self._command = None
        for future in self._forks.values():
            if not future.done():
                future.set_exception(TemplateLost)

    def reaped(self, launched: Launched) -> None:
        """Forget a process whose exit has been seen."""
        if self._forked.get(launched.pid) is launched:
            del self._forked[launched.pid]

    def find_orphans(self) -> list[Orphan]:
        """What came down to us from processes that we started and nobody else waits for."""
        return find_orphans(self._sessions, set(self._forked))

    def _exec(self, module: str, words: list[str], own: list[int], fds: list[int]) -> Launched:
        read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        passed = [*own, read_fd, *fds]
        command = [sys.executable, "-m", f"actors.runtime.forked.{module}", *words, *map(str, passed)]
        env = dict(os.environ)
        if module == "template":
            env.update({variable: env.get(variable, "1") for variable in THREAD_VARIABLES})
        try:
            popen = subprocess.Popen(
                command,
                cwd=ROOT,
                env=env,
                stdin=subprocess.DEVNULL,
                pass_fds=passed,
                start_new_session=True,
            )
        except BaseException:
            os.close(write_fd)
            raise
        else:
            lifeline.arm(read_fd, popen.pid)
        finally:
            os.close(read_fd)
        self._sessions.add(popen.pid)
        return Launched(popen.pid, os.pidfd_open(popen.pid), write_fd, popen)

    def _take_all(self, sock: socket.socket) -> None:
        while self._take(sock):
            pass

    def _take(self, sock: socket.socket) -> bool:
        try:
            packet, fds = packets.receive(sock)
        except BlockingIOError:
            return False
        except OSError:
            packet, fds = None, []
        match packet:
            case packets.Prepared():
                if self._prepared is not None and not self._prepared.done():
                    self._prepared.set_result(packet)
            case packets.Forked():
                self._take_forked(packet, fds)
            case packets.Exited():
                launched = self._forked.get(packet.pid)
                if launched is not None and not launched.told_code.done():
                    launched.told_code.set_result(packet.code)
            case _:
                asyncio.get_running_loop().remove_reader(sock)
                return False
        return True

    def _take_forked(self, packet: packets.Forked, fds: list[int]) -> None:
        future = self._forks.get(packet.id)
        if future is None or future.done() or not fds:
            for fd in fds:
                os.close(fd)
            if future is not None and not future.done():
                future.set_exception(ProcessFailed(f"the template could not fork ({packet.error})"))
            return
        future.set_result((packet.pid, fds[0]))

    def _close_command(self, sock: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(sock)
        sock.close()


def _discard(future: asyncio.Future[tuple[int, int]]) -> None:
    if not future.cancelled() and future.exception() is None:
        os.close(future.result()[1])
