"""`System`: the actors of one process, their names, and the ways to reach the rest of the node."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import structlog

from actors.runtime.actor import Actor
from actors.runtime.cell import Cell
from actors.runtime.children import Children
from actors.runtime.clock import Clock, SystemClock
from actors.runtime.errors import ActorGone, NameTaken, ProcessFailed
from actors.runtime.local import LocalRegistry, LocalTransport, Switchboard, expire
from actors.runtime.mailbox import Envelope
from actors.runtime.messages import Message
from actors.runtime.parcels import Parcel
from actors.runtime.ports import Cancel, OnDown, Placement, Registry, Reply, Transport
from actors.runtime.refs import Ref
from actors.runtime.specs import ActorSpec, ProcessSpec, Supervision
from actors.runtime.status import Status, SystemStatus
from actors.runtime.watchdog import LoopWatch

log = structlog.get_logger()


class System:
    """Actors on one event loop. Make one per process, use it with `async with`, or `open()` and `stop()` it.

    Systems that share a `switchboard` reach each other by name. A child process gets a `transport` and a
    `registry` instead. `rng` spreads restarts; pass a seeded one to make a test repeat itself.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Clock | None = None,
        switchboard: Switchboard | None = None,
        transport: Transport | None = None,
        registry: Registry | None = None,
        supervision: Supervision | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.name: Final = name
        self.clock: Final = clock or SystemClock()
        self.rng: Final = rng or random.Random()
        self.local: Final = LocalTransport(self, self.clock)
        self.switchboard: Final = switchboard or Switchboard()
        self.transport: Final[Transport] = transport or self.switchboard
        self.registry: Final[Registry] = registry or LocalRegistry(self.switchboard, self.local)
        self.placement: Placement | None = None
        self.loop_watch: Final = LoopWatch(name)
        self._root = Children(self, "", supervision or Supervision(), self._fail)
        self._inner = Children(self, "", Supervision(), self._fail)
        self._is_ready = asyncio.Event()
        self._failed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._opened = False
        self._cells: dict[str, Cell] = {}
        self._reports: list[Callable[[], dict[str, Any]]] = []
        self._closers: list[Callable[[], Any]] = []
        self._failure = ""
        self._born_s = 0.0
        self._stopped: asyncio.Task[None] | None = None

    async def open(self) -> System:
        """Bind to the running loop and start the actor `system/NAME`, which answers `Inspect` and `Halt`."""
        from actors.runtime.inspector import Inspector

        if self._opened:
            return self
        self._opened = True
        self._born_s = self.clock.monotonic()
        await self._inner.spawn(ActorSpec(Inspector, f"system/{self.name}", {"system": self}, "permanent"))
        return self

    async def __aenter__(self) -> System:
        return await self.open()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # Starting and reaching actors

    async def spawn(self, spec: ActorSpec | ProcessSpec) -> Ref:
        """Start an actor (or, with a placement, a process) that the system itself supervises.

        Returns when it has started. `ActorFailed` when it did not, `NameTaken` when its name lives already.
        """
        if isinstance(spec, ProcessSpec):
            if self.placement is None:
                raise ProcessFailed(f"{spec.name}: this system has no placement, so it cannot start processes")
            return await self.placement.start(spec)
        return await self.spawn_actor(spec)

    async def spawn_actor(self, spec: ActorSpec) -> Ref:
        """`spawn` for actors alone."""
        await self.open()
        return await self._root.spawn(spec)

    async def stop_actor(self, name: str, reason: str = "stopped") -> None:
        """End an actor that `spawn` started, for good, and wait for its end. Unknown names are ignored."""
        await self._root.stop(name, reason)

    def ref(self, name: str) -> Ref:
        """A reference by name, wherever on the node the actor lives."""
        return Ref(self, name)

    async def tell(self, address: str, message: Message, timeout_s: float) -> None:
        """What `Ref.tell` does."""
        cell = self._cells.get(address)
        if cell is not None:
            cell.deliver(Envelope(message))
            return
        await self.transport.tell(address, Parcel.of(message), timeout_s)

    async def ask(self, address: str, message: Message, timeout_s: float) -> Message | None:
        """What `Ref.ask` does."""
        cell = self._cells.get(address)
        if cell is None:
            parcel = await self.transport.ask(address, Parcel.of(message), timeout_s)
            return None if parcel is None else parcel.message()
        reply: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        cell.deliver(Envelope(message, reply))
        timer = self.clock.call_later(timeout_s, expire, reply, address, timeout_s)
        try:
            return await reply
        finally:
            timer.cancel()

    async def wait_down(self, name: str) -> str:
        """Wait until the actor that has this name now is gone, and return the reason."""
        gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def on_down(reason: str, crashed: bool) -> None:
            if not gone.done():
                gone.set_result(reason)

        cancel = self.observe_anywhere(name, on_down)
        try:
            return await gone
        finally:
            cancel()

    # Looking

    def status(self) -> SystemStatus:
        lag = self.loop_watch.status()
        return SystemStatus(
            name=self.name,
            actors=len(self._cells),
            age_s=round(self.clock.monotonic() - self._born_s, 3),
            lag_p50_ms=lag.p50_ms,
            lag_p99_ms=lag.p99_ms,
            failed=self._failure,
        )

    def tree(self) -> tuple[Status, ...]:
        """Every actor of this system, parents before their children."""
        found: list[Status] = []

        def visit(children: Children) -> None:
            for child in children.places():
                if child.cell is not None:
                    found.append(child.cell.status())
                    visit(child.cell.children)
                else:
                    found.append(
                        Status(
                            name=child.spec.name,
                            system=self.name,
                            kind="",
                            parent=children.owner,
                            state="waiting",
                            restarts=child.restarts,
                            restart=child.spec.restart,
                        )
                    )

        visit(self._inner)
        visit(self._root)
        return tuple(found)

    def report(self, source: Callable[[], dict[str, Any]]) -> None:
        """Add plain values to what this process's supervisor sees with every ping. Must be quick."""
        self._reports.append(source)

    def read_report(self) -> dict[str, Any]:
        """All that the sources given to `report` say now."""
        merged: dict[str, Any] = {}
        for source in self._reports:
            try:
                merged.update(source())
            except Exception as error:  # a broken source must not look like a stalled loop
                merged["report_error"] = str(error)
        return merged

    def ready(self) -> None:
        """Say that this process now does its work; a `ProcessSpec(ready=True)` waits for it."""
        self._is_ready.set()

    async def wait_ready(self) -> None:
        """Wait until `ready` has been called."""
        await self._is_ready.wait()

    async def wait_failed(self) -> str:
        """Wait until supervision has given up at the top; returns why. The system then stops by itself."""
        await self._failed.wait()
        return self._failure

    async def listen(self, path: str | Path) -> None:
        """Let programs of this user reach the node's actors through a unix socket (mode 0600), until `stop`."""
        from actors.runtime.forked.entrance import Entrance

        await self.open()
        entrance = Entrance(self, Path(path))
        await entrance.open()
        self.on_stop(entrance.close)

    # Ending

    def stop_on(self, *signals: signal.Signals) -> None:
        """Stop in order when one of these signals comes; `wait_stopped` then returns."""
        for number in signals:
            asyncio.get_running_loop().add_signal_handler(number, self._begin_stop, number.name)

    async def wait_stopped(self) -> None:
        """Wait until `stop` has been called, by whomever, and is done."""
        await self._stopping.wait()
        assert self._stopped is not None
        await asyncio.shield(self._stopped)

    def on_stop(self, closer: Callable[[], Any]) -> None:
        """Call (and await, if it is a coroutine function) at the end of `stop`, last added first."""
        self._closers.append(closer)

    async def stop(self, reason: str = "the system stops") -> None:
        """End every process and actor in order. Safe to call more than once; all callers wait."""
        await asyncio.shield(self._begin_stop(reason))

    def _begin_stop(self, reason: str) -> asyncio.Task[None]:
        if self._stopped is None:
            self._stopped = asyncio.get_running_loop().create_task(self._stop(reason), name="system stop")
            self._stopping.set()
        return self._stopped

    async def _stop(self, reason: str) -> None:
        log.debug("system.stopping", system=self.name, reason=reason)
        if self.placement is not None:
            await self.placement.close()
        await self._root.close()
        while self._closers:
            result = self._closers.pop()()
            if asyncio.iscoroutine(result):
                await result
        await self._inner.close()
        self.loop_watch.stop()

    def _fail(self, error: Exception) -> None:
        self._failure = str(error)
        log.error("system.failed", system=self.name, error=self._failure)
        self._failed.set()
        self._begin_stop("supervision failed")

    # For cells and transports

    async def create_cell(self, spec: ActorSpec, supervisor: Children, *, restarts: int) -> Cell:
        """Claim the name and make an incarnation that is not launched yet."""
        if spec.name in self._cells:
            raise NameTaken(spec.name)
        await self.registry.claim(spec.name)
        cell = self._cells[spec.name] = Cell(self, spec, supervisor, restarts=restarts)
        return cell

    def forget(self, cell: Cell) -> None:
        """Free the name of an incarnation that has ended."""
        if self._cells.get(cell.name) is cell:
            del self._cells[cell.name]
            self.registry.release(cell.name)

    def observe_anywhere(self, address: str, on_down: OnDown) -> Cancel:
        """Watch an actor here or elsewhere."""
        return self.observe(address, on_down) if address in self._cells else self.transport.watch(address, on_down)

    async def halt(self, address: str, reason: str) -> None:
        """End an actor of this system for good, whoever supervises it. `ActorGone` if it is not here."""
        cell = self._cells.get(address)
        if cell is None:
            raise ActorGone(address)
        cell.request_stop(reason, ordered=True)
        await asyncio.shield(cell.ended)

    def has(self, address: str) -> bool:
        return address in self._cells

    def deliver(self, address: str, message: Message, reply: Reply | None) -> None:
        cell = self._cells.get(address)
        if cell is None:
            raise ActorGone(address)
        cell.deliver(Envelope(message, reply))

    def observe(self, address: str, on_down: OnDown) -> Cancel:
        cell = self._cells.get(address)
        if cell is not None:
            return cell.observe(on_down)
        return asyncio.get_running_loop().call_soon(on_down, "gone", False).cancel


class Supervisor(Actor):
    """Does nothing but start the given children in order; its spec's `supervision` is their policy."""

    def __init__(self, children: tuple[ActorSpec, ...] = ()) -> None:
        self._specs = tuple(children)

    async def start(self) -> None:
        for spec in self._specs:
            await self.context.spawn(spec)
