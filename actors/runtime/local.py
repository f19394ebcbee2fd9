"""The in-process implementation of the ports: systems side by side on one loop, joined by a switchboard."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from actors.runtime.actor import Actor
from actors.runtime.clock import Clock
from actors.runtime.errors import ActorGone, AskTimeout, NameTaken, ProcessFailed
from actors.runtime.messages import Message
from actors.runtime.parcels import Parcel
from actors.runtime.ports import Cancel, Endpoint, OnDown, Reply, Transport
from actors.runtime.refs import Ref
from actors.runtime.specs import ActorSpec, Backoff, ProcessSpec, Supervision, resolve
from actors.runtime.status import ProcessStatus

if TYPE_CHECKING:
    from actors.runtime.system import System


class LocalTransport:
    """Delivers to the actors of one system in this process."""

    def __init__(self, endpoint: Endpoint, clock: Clock) -> None:
        self._endpoint = endpoint
        self._clock = clock

    def tell(self, address: str, parcel: Parcel, timeout_s: float) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        try:
            self._endpoint.deliver(address, parcel.message(), None)
        except Exception as error:
            future.set_exception(error)
        else:
            future.set_result(None)
        return future

    def ask(self, address: str, parcel: Parcel, timeout_s: float) -> asyncio.Future[Parcel | None]:
        loop = asyncio.get_running_loop()
        outer: asyncio.Future[Parcel | None] = loop.create_future()
        inner: asyncio.Future[Message | None] = loop.create_future()
        try:
            self._endpoint.deliver(address, parcel.message(), inner)
        except Exception as error:
            inner.cancel()
            outer.set_exception(error)
            return outer
        timer = self._clock.call_later(timeout_s, expire, outer, address, timeout_s)

        def answered(done: asyncio.Future[Message | None]) -> None:
            timer.cancel()
            if done.cancelled() or outer.done():
                _ = done.cancelled() or done.exception()
            elif (error := done.exception()) is not None:
                outer.set_exception(error)
            else:
                answer = done.result()
                outer.set_result(None if answer is None else Parcel.of(answer))

        inner.add_done_callback(answered)
        outer.add_done_callback(lambda _: inner.cancel())
        return outer

    def serve(self, address: str, parcel: Parcel, reply: Reply) -> None:
        """An ask from elsewhere whose asker keeps the deadline: the answer goes straight to `reply`."""
        try:
            self._endpoint.deliver(address, parcel.message(), reply)
        except Exception as error:
            reply.set_exception(error)

    def watch(self, address: str, on_down: OnDown) -> Cancel:
        return self._endpoint.observe(address, on_down)


def expire(future: asyncio.Future[Any], address: str, timeout_s: float) -> None:
    """Fail an ask whose deadline has come."""
    if not future.done():
        future.set_exception(AskTimeout(f"{address} within {timeout_s:g} s"))


class Switchboard:
    """Routes by name between the systems that joined it: their transport and their common registry."""

    def __init__(self) -> None:
        self._holders: dict[str, Transport] = {}

    def connect(self, name: str, holder: Transport) -> None:
        """Give a name to whoever holds the actor. `NameTaken`."""
        if name in self._holders:
            raise NameTaken(name)
        self._holders[name] = holder

    def disconnect(self, name: str, holder: Transport) -> None:
        """Take the name back from its holder; anyone else's is left alone."""
        if self._holders.get(name) is holder:
            del self._holders[name]

    def drop(self, holder: Transport) -> None:
        """Forget every name of a holder that has gone."""
        for name in [name for name, other in self._holders.items() if other is holder]:
            del self._holders[name]

    def find_names(self, prefix: str = "") -> tuple[str, ...]:
        return tuple(sorted(name for name in self._holders if name.startswith(prefix)))

    def tell(self, address: str, parcel: Parcel, timeout_s: float) -> asyncio.Future[None]:
        holder = self._holders.get(address)
        return _gone(address) if holder is None else holder.tell(address, parcel, timeout_s)

    def ask(self, address: str, parcel: Parcel, timeout_s: float) -> asyncio.Future[Parcel | None]:
        holder = self._holders.get(address)
        return _gone(address) if holder is None else holder.ask(address, parcel, timeout_s)

    def watch(self, address: str, on_down: OnDown) -> Cancel:
        holder = self._holders.get(address)
        if holder is not None:
            return holder.watch(address, on_down)
        return asyncio.get_running_loop().call_soon(on_down, "gone", False).cancel


class LocalRegistry:
    """One system's hand on the switchboard's names."""

    def __init__(self, switchboard: Switchboard, transport: Transport) -> None:
        self._switchboard = switchboard
        self._transport = transport

    async def claim(self, name: str) -> None:
        self._switchboard.connect(name, self._transport)

    def release(self, name: str) -> None:
        self._switchboard.disconnect(name, self._transport)

    async def names(self, prefix: str = "") -> tuple[str, ...]:
        return self._switchboard.find_names(prefix)


class LocalProcess(Actor):
    """Stands for an entry that runs as a task of this process, with a system of its own; no isolation."""

    def __init__(self, spec: ProcessSpec, join: Callable[[str], System]) -> None:
        self._spec = spec
        self._join = join
        self._system: System | None = None
        self._fds: dict[str, int] = {}
        self._main: asyncio.Task[Any] | None = None

    async def start(self) -> None:
        spec = self._spec
        self._system = system = self._join(spec.name)
        self._fds = {name: os.dup(fd) for name, fd in spec.fds.items()}
        try:
            await system.open()
            self._main = self.context.run(self._run(system))
            if spec.ready:
                await self._wait_ready(system, self._main)
        except BaseException:
            await self.stop("did not start")
            raise

    async def _wait_ready(self, system: System, main: asyncio.Task[Any]) -> None:
        ready = asyncio.ensure_future(system.wait_ready())
        timer = self.context.clock.call_later(self._spec.start_s, ready.cancel)
        await asyncio.wait({main, ready}, return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        if not ready.done() or ready.cancelled():
            ready.cancel()
            raise ProcessFailed(f"{self._spec.name} was not ready in time")

    async def _run(self, system: System) -> None:
        await resolve(self._spec.entry)(system, dict(self._spec.args), dict(self._fds))
        self.context.stop("exited")

    async def stop(self, reason: str) -> None:
        if self._main is not None:
            self._main.cancel()
            await asyncio.wait({self._main})
        if self._system is not None:
            await self._system.stop(reason)
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def snapshot(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "report": self._system.read_report() if self._system else {}}


# A node without one of its processes is better than no node: they are restarted for ever, ever more slowly.
PROCESSES: Final = Supervision(intensity=1_000_000, period_s=60.0, backoff=Backoff())
MARGIN_S: Final = 5.0


class LocalPlacement:
    """Runs processes as tasks beside the given system. For tests and for machines that must not fork."""

    def __init__(self, system: System, join: Callable[[str], System]) -> None:
        self._system = system
        self._join = join
        self._fleet = Actor()

    async def open(self) -> LocalPlacement:
        """Become the system's placement."""
        await self._system.spawn_actor(ActorSpec(lambda: self._fleet, "processes", supervision=PROCESSES))
        self._system.placement = self
        return self

    async def start(self, spec: ProcessSpec) -> Ref:
        args = {"spec": spec, "join": self._join}
        stop_s = spec.grace_s + MARGIN_S
        return await self._fleet.context.spawn(ActorSpec(LocalProcess, spec.name, args, spec.restart, stop_s=stop_s))

    async def stop(self, name: str, reason: str = "stopped") -> None:
        await self._fleet.context.stop_child(name, reason)

    async def close(self) -> None:
        await self._system.stop_actor("processes", "the system stops")

    def status(self) -> tuple[ProcessStatus, ...]:
        found = {status.name: status for status in self._system.tree()}
        return tuple(
            ProcessStatus(
                name=name,
                state=found[name].state,
                pid=os.getpid(),
                start="local",
                age_s=found[name].age_s,
                report=found[name].snapshot.get("report", {}),
            )
            for name in self._fleet.context.child_names()
            if name in found
        )


def _gone(address: str) -> asyncio.Future[Any]:
    future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    future.set_exception(ActorGone(address))
    return future
