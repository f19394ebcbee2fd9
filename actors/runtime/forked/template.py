"""The template process: imports once what every child needs, then forks children on request and reaps them.

It has no event loop, no thread and no socket but its command socket, so what it forks is clean. It is started as
`python -m actors.runtime.forked.template COMMAND_FD LIFELINE_FD` and ends when its command socket does.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path

from actors.runtime.forked import child, lifeline, packets
from actors.runtime.specs import resolve


def main() -> int:
    """Run the template until its supervisor closes the command socket."""
    command_fd, lifeline_fd = (int(argument) for argument in sys.argv[1:3])
    if lifeline.is_cut(lifeline_fd):
        return 1
    command = socket.socket(fileno=command_fd)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    order, _ = packets.receive(command)
    if not isinstance(order, packets.Preload):
        return 1
    error = _prepare(order)
    packets.send(command, packets.Prepared(error, _count_threads()), [])
    if error:
        return 1
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    private = [lifeline_fd, wake_read, wake_write]
    poll = select.poll()
    poll.register(command, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == wake_read:
                _drain(wake_read)
                _reap(command)
            else:
                packet, fds = packets.receive(command)
                if packet is None:
                    return 0
                if isinstance(packet, packets.Fork):
                    _fork(command, packet, fds, private)


def _prepare(order: packets.Preload) -> str:
    try:
        for module in order.modules:
            importlib.import_module(module)
        if order.prepare:
            resolve(order.prepare)(order.told)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    gc.collect()
    gc.freeze()
    return ""


def _fork(command: socket.socket, order: packets.Fork, fds: list[int], private: list[int]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        pid = os.fork()
    except OSError as error:
        packets.send(command, packets.Forked(order.id, 0, str(error)), [])
    else:
        if pid == 0:
            _become_child(command, order.name, fds, private)
        with contextlib.suppress(OSError):  # the child does the same; whoever is first
            os.setpgid(pid, pid)
        pidfd = os.pidfd_open(pid)
        with contextlib.suppress(OSError):
            packets.send(command, packets.Forked(order.id, pid), [pidfd])
        os.close(pidfd)
    for fd in fds:
        os.close(fd)


def _become_child(command: socket.socket, name: str, fds: list[int], private: list[int]) -> None:
    code = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        link_fd, lifeline_fd, *rest = fds
        lifeline.arm(lifeline_fd, os.getpid())
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        command.close()
        for fd in private:
            os.close(fd)
        code = child.serve(name, link_fd, lifeline_fd, rest)
    except BaseException:
        traceback.print_exc()
    finally:
        child.leave(code)


def _reap(command: socket.socket) -> None:
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None:
            return
        # Until it is reaped, nobody else can have its number: now is the time to end what it started.
        with contextlib.suppress(OSError):
            os.killpg(found.si_pid, signal.SIGKILL)
        _, status = os.waitpid(found.si_pid, 0)
        with contextlib.suppress(OSError):
            packets.send(command, packets.Exited(found.si_pid, os.waitstatus_to_exitcode(status)), [])


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 512):
            pass


def _count_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


if __name__ == "__main__":
    sys.exit(main())
