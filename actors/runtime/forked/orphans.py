"""Orphans: processes that became our children because their own parent died, and for which nobody else waits."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Orphan:
    """A child of this process that it did not start itself. `leads` is whether it is (or was) one of our processes."""

    pid: int
    is_zombie: bool
    leads: bool


def find_orphans(sessions: set[int], known: set[int]) -> list[Orphan]:
    """Our children in these sessions, except the sessions' leaders and the `known` ones, which others look after."""
    found: list[Orphan] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            for word in (task / "children").read_text().split():
                orphan = _look(int(word), sessions)
                if orphan is not None and orphan.pid not in known:
                    found.append(orphan)
    return found


def reap(orphan: Orphan) -> None:
    """Collect a zombie; does nothing if it was collected already."""
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOHANG)


def end(orphan: Orphan) -> None:
    """Kill it, and collect it if it is dead. It is our child, so its number is its own until then."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(orphan.pid, signal.SIGKILL)
    reap(orphan)


def _look(pid: int, sessions: set[int]) -> Orphan | None:
    if pid in sessions:
        return None
    try:
        # proc(5): after the name in parentheses come state, parent, group, session.
        state, _, group, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    if int(session) not in sessions:
        return None
    return Orphan(pid, is_zombie=state == "Z", leads=int(group) == pid)
