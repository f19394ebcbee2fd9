"""`Actor`, the class one writes, and `Context`, what it may do with the world."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

from actors.runtime.messages import Message
from actors.runtime.ports import Reply
from actors.runtime.refs import Ref
from actors.runtime.specs import ActorSpec

if TYPE_CHECKING:
    from actors.runtime.cell import Cell
    from actors.runtime.clock import Clock, Timer


class Actor:
    """One task, one bounded mailbox, private state. docs/actors.md has the promises."""

    context: Context

    async def start(self) -> None:
        """Called before the first message. Raising means that the actor does not exist."""

    async def receive(self, message: Message) -> Message | None:
        """Handle one message; what it returns answers an ask. Raising crashes, except `Refused`."""
        return None

    async def stop(self, reason: str) -> None:
        """Called once at the end, crashes included, if `start` returned."""

    def snapshot(self) -> dict[str, Any]:
        """A few plain values for `status()`; must be quick and must fit msgpack."""
        return {}


class Later:
    """An answer that will be given after `receive` has returned. See `Context.defer`."""

    def __init__(self, reply: Reply | None) -> None:
        self._reply = reply

    def answer(self, message: Message | None = None) -> None:
        """Answer the asker, if it still waits."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(message)

    def fail(self, error: Exception) -> None:
        """Let the ask fail with this error."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)


class Ticker:
    """A timer of one actor. At most one of its ticks waits in the mailbox."""

    def __init__(self, cell: Cell, message: Message, delay_s: float, *, repeats: bool) -> None:
        self._cell: Final = cell
        self._message: Final = message
        self._delay_s: Final = delay_s
        self._repeats: Final = repeats
        self._waiting = False
        self._cancelled = False
        self._timer: Timer = cell.system.clock.call_later(delay_s, self._fire)

    def cancel(self) -> None:
        """No further tick, except one that is already in the mailbox."""
        self._cancelled = True
        self._timer.cancel()
        self._cell.tickers.discard(self)

    def _fire(self) -> None:
        if self._cancelled:
            return
        if not self._waiting:
            self._waiting = True
            self._cell.signal(self._message, self._taken)
        if self._repeats:
            self._timer = self._cell.system.clock.call_later(self._delay_s, self._fire)
        else:
            self._cell.tickers.discard(self)

    def _taken(self) -> None:
        self._waiting = False


class Context:
    """An actor's view of its system. Valid while the actor lives."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    @property
    def name(self) -> str:
        return self._cell.name

    @property
    def address(self) -> str:
        return self._cell.name

    @property
    def clock(self) -> Clock:
        return self._cell.system.clock

    @property
    def me(self) -> Ref:
        """A reference to this actor."""
        return self._cell.system.ref(self._cell.name)

    def ref(self, name: str) -> Ref:
        """A reference by name; costs nothing and says nothing about life."""
        return self._cell.system.ref(name)

    async def spawn(self, spec: ActorSpec) -> Ref:
        """Start a child that this actor supervises. `ActorFailed` when it does not start, `NameTaken`."""
        return await self._cell.children.spawn(spec)

    async def stop_child(self, name: str, reason: str = "stopped by its parent") -> None:
        """Stop a child of this actor for good and wait until it is gone."""
        await self._cell.children.stop(name, reason)

    def child_names(self) -> tuple[str, ...]:
        """This actor's children, those that wait for a restart included, in the order of their start."""
        return tuple(child.spec.name for child in self._cell.children.places())

    def watch(self, ref: Ref | str) -> None:
        """One `Down` will come for the actor that has this name now."""
        self._cell.watch(ref if isinstance(ref, str) else ref.address)

    def unwatch(self, ref: Ref | str) -> None:
        """Forget a watch."""
        self._cell.unwatch(ref if isinstance(ref, str) else ref.address)

    def after(self, delay_s: float, message: Message) -> Ticker:
        """Send a message to oneself, once."""
        return self._cell.tick(message, delay_s, repeats=False)

    def every(self, period_s: float, message: Message) -> Ticker:
        """Send a message to oneself again and again; ticks that would pile up are skipped."""
        return self._cell.tick(message, period_s, repeats=True)

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine beside the mailbox. It dies with the actor; its exception crashes the actor."""
        return self._cell.run(work)

    def defer(self) -> Later:
        """Answer the ask that is being handled later, whatever `receive` returns."""
        return self._cell.defer()

    def stop(self, reason: str = "finished") -> None:
        """End this actor normally once the present handler returns."""
        self._cell.request_stop(reason, ordered=False)
