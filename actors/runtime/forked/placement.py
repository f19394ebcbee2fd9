"""`ForkedPlacement`: processes under one supervisor, and the orphans they leave behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any, Final

from actors.runtime.actor import Actor
from actors.runtime.errors import ProcessFailed
from actors.runtime.forked.launcher import Launcher
from actors.runtime.forked.process import Process, Template
from actors.runtime.local import PROCESSES
from actors.runtime.refs import Ref
from actors.runtime.specs import ActorSpec, ProcessSpec
from actors.runtime.status import ProcessStatus
from actors.runtime.system import System

SWEEP_S: Final = 5.0
MARGIN_S: Final = 5.0


class Fleet(Actor):
    """The supervisor of all processes. Sweeps up adopted grandchildren."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    async def start(self) -> None:
        self.context.run(self._sweep())

    async def _sweep(self) -> None:
        # What a dead process had started becomes our child; nobody else waits for it.
        seen: set[int] = set()
        while True:
            found = set(_find_adopted_zombies(self._launcher))
            for pid in seen & found:
                _reap(pid)
            seen = found - seen
            await asyncio.sleep(SWEEP_S)


class ForkedPlacement:
    """Starts processes for a system, which becomes their hub; `system.spawn(ProcessSpec(...))` ends here.

    `preload` are the modules that the template imports, `prepare` a `"module:function"` that it calls afterwards
    with the dict `told`, which must fit msgpack. Without them the template is still there and forks bare
    interpreters. Open it in the main thread of a process that itself never forks without exec.
    """

    def __init__(
        self,
        system: System,
        *,
        preload: tuple[str, ...] = (),
        prepare: str = "",
        told: dict[str, Any] | None = None,
    ) -> None:
        self._system = system
        self._preload = tuple(preload)
        self._prepare = prepare
        self._told = told or {}
        self._launcher: Launcher | None = None
        self._fleet: Fleet | None = None
        self._processes: dict[str, Process] = {}

    async def open(self) -> ForkedPlacement:
        """Start the template and become the system's placement. `ActorFailed` when the template does not start."""
        launcher = self._launcher = Launcher()
        fleet = self._fleet = Fleet(launcher)
        await self._system.open()
        self._system.loop_watch.start()
        await self._system.spawn_actor(ActorSpec(lambda: fleet, "processes", supervision=PROCESSES, stop_s=MARGIN_S))
        self._system.placement = self
        await fleet.context.spawn(
            ActorSpec(
                Template,
                "template",
                {"launcher": launcher, "preload": self._preload, "prepare": self._prepare, "told": self._told},
                restart="permanent",
            )
        )
        return self

    async def start(self, spec: ProcessSpec) -> Ref:
        if self._fleet is None or self._launcher is None:
            raise ProcessFailed(f"{spec.name}: the placement is not open")
        args = {
            "spec": spec,
            "launcher": self._launcher,
            "switchboard": self._system.switchboard,
            "on_change": self._changed,
        }
        return await self._fleet.context.spawn(
            ActorSpec(Process, spec.name, args, restart=spec.restart, stop_s=spec.grace_s + MARGIN_S)
        )

    async def stop(self, name: str, reason: str = "stopped") -> None:
        if self._fleet is not None:
            await self._fleet.context.stop_child(name, reason)
        self._processes.pop(name, None)

    async def close(self) -> None:
        await self._system.stop_actor("processes", "the system stops")

    def status(self) -> tuple[ProcessStatus, ...]:
        """Every process that lives or waits for its restart."""
        names = self._fleet.context.child_names() if self._fleet is not None else ()
        self._processes = {name: self._processes[name] for name in names if name in self._processes}
        return tuple(process.status() for process in self._processes.values())

    def _changed(self, process: Process) -> None:
        self._processes[process.spec.name] = process


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)


def _find_adopted_zombies(launcher: Launcher) -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            for word in (task / "children").read_text().split():
                if _is_adopted_zombie(int(word), launcher):
                    found.append(int(word))
    return found


def _is_adopted_zombie(pid: int, launcher: Launcher) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    state, session = fields[0], int(fields[3])
    return state == "Z" and session in launcher.sessions and pid not in launcher.sessions
