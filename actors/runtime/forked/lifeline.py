"""The lifeline: a pipe that lets the kernel kill a process group when its supervisor is gone.

The supervisor holds the only write end. The read end is in signal-driven mode with SIGKILL as its signal and the
child's process group as its owner, so the hang-up of the pipe ends the group whatever it is doing, stopped
(SIGSTOP) and spinning processes included. See fcntl(2), F_SETOWN and F_SETSIG.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
import signal
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36


def arm(read_fd: int, group: int) -> None:
    """Let the hang-up of the pipe kill the process group. Each process needs a pipe of its own."""
    fcntl.fcntl(read_fd, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(read_fd, fcntl.F_SETOWN, -group)
    flags = fcntl.fcntl(read_fd, fcntl.F_GETFL)
    fcntl.fcntl(read_fd, fcntl.F_SETFL, flags | os.O_ASYNC | os.O_NONBLOCK)


def is_cut(read_fd: int) -> bool:
    """Whether the supervisor is gone already, so that no signal will come."""
    poll = select.poll()
    poll.register(read_fd, 0)
    return bool(poll.poll(0))


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent dies (PR_SET_CHILD_SUBREAPER)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
