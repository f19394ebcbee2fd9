"""`ForkedPlacement`: processes under one supervisor, and the orphans they leave behind."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from actors.runtime.actor import Actor
from actors.runtime.errors import ProcessFailed
from actors.runtime.forked import orphans
from actors.runtime.forked.launcher import Launcher
from actors.runtime.forked.process import Process, Template
from actors.runtime.local import PROCESSES
from actors.runtime.refs import Ref
from actors.runtime.specs import ActorSpec, ProcessSpec
from actors.runtime.status import ProcessStatus
from actors.runtime.system import System

SWEEP_S: Final = 2.0
LOOK_S: Final = 0.01
MARGIN_S: Final = 5.0


class Fleet(Actor):
    """The supervisor of all processes. Sweeps up adopted grandchildren."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher

    async def start(self) -> None:
        self.context.run(self._sweep())

    async def _sweep(self) -> None:
        # A dead leader may still be on its way to the one who waits for it, so it gets until the next round.
        late: set[int] = set()
        while True:
            zombies = [orphan for orphan in self._launcher.find_orphans() if orphan.is_zombie]
            for orphan in zombies:
                if not orphan.leads or orphan.pid in late:
                    orphans.reap(orphan)
            late = {orphan.pid for orphan in zombies if orphan.leads}
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
        if self._launcher is not None:
            async with asyncio.timeout(MARGIN_S):
                await self._end_orphans(self._launcher)

    def status(self) -> tuple[ProcessStatus, ...]:
        """Every process that lives or waits for its restart."""
        names = self._fleet.context.child_names() if self._fleet is not None else ()
        self._processes = {name: self._processes[name] for name in names if name in self._processes}
        return tuple(process.status() for process in self._processes.values())

    async def _end_orphans(self, launcher: Launcher) -> None:
        # A child that was being forked when everything stopped, or what a child had started.
        while found := launcher.find_orphans():
            for orphan in found:
                orphans.end(orphan)
            await asyncio.sleep(LOOK_S)

    def _changed(self, process: Process) -> None:
        self._processes[process.spec.name] = process
