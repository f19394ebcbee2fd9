"""The life of one incarnation of an actor: its task, mailbox, timers, watches and end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import structlog

from actors.runtime.actor import Actor, Context, Later, Ticker
from actors.runtime.children import Children
from actors.runtime.clock import Timer, finished_within
from actors.runtime.errors import ActorError, ActorFailed, ActorGone, Refused
from actors.runtime.mailbox import Envelope, Mailbox
from actors.runtime.messages import Down, Message
from actors.runtime.ports import Cancel, OnDown, Reply
from actors.runtime.specs import ActorSpec
from actors.runtime.status import Status

if TYPE_CHECKING:
    from actors.runtime.system import System

log = structlog.get_logger()

BURST: Final = 64  # messages handled before the loop gets a turn
AFTER_CANCEL_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Exit:
    """How an incarnation ended. `ordered` means that its supervisor wanted it so."""

    reason: str
    crashed: bool = False
    ordered: bool = False
    error: BaseException | None = None


def crash_of(error: BaseException) -> Exit:
    """The exit of an actor that this exception ended."""
    detail = str(error)
    reason = f"{type(error).__name__}: {detail}" if detail else type(error).__name__
    return Exit(reason, crashed=True, error=error)


class Cell:
    """Runs one actor. Everything here happens on the loop of its system."""

    def __init__(self, system: System, spec: ActorSpec, supervisor: Children, *, restarts: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.system: Final = system
        self.spec: Final = spec
        self.name: Final = spec.name
        self.restarts: Final = restarts
        self.state = "starting"
        self.has_started = False
        self.handled = 0
        self.tickers: set[Ticker] = set()
        self.started: asyncio.Future[None] = loop.create_future()
        self.started.add_done_callback(lambda future: future.cancelled() or future.exception())
        self.ended: asyncio.Future[Exit] = loop.create_future()
        self.children = Children(system, spec.name, spec.supervision, self.crash)
        self.mailbox: Final = Mailbox(spec.mailbox)
        self._supervisor = supervisor
        self._actor: Actor | None = None
        self._born_s = system.clock.monotonic()
        self._verdict: Exit | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._asked: Reply | None = None
        self._deferred: set[Reply] = set()
        self._is_deferred = False
        self._watching: dict[str, Cancel] = {}
        self._observers: dict[int, OnDown] = {}
        self._serial = itertools.count()
        self._task: asyncio.Task[None] | None = None
        self._overdue: Timer | None = None

    def launch(self) -> None:
        """Begin the life of the actor; `started` and `ended` tell the rest."""
        self._task = asyncio.get_running_loop().create_task(self._main(), name=f"actor {self.name}")
        self._task.add_done_callback(self._ran)

    # What others do to it

    def deliver(self, envelope: Envelope) -> None:
        """Put a message into the mailbox, or raise `ActorGone` or `MailboxFull`."""
        if self._verdict is not None or self.state == "ended":
            raise ActorGone(self.name)
        self.mailbox.put_nowait(envelope)

    def signal(self, message: Message, on_taken: Callable[[], None] | None = None) -> None:
        """Put a message that the runtime itself bounds."""
        if self._verdict is None and self.state != "ended":
            self.mailbox.put_signal_nowait(Envelope(message, None, on_taken))

    def observe(self, on_down: OnDown) -> Cancel:
        """Call back once when this incarnation has ended."""
        key = next(self._serial)
        self._observers[key] = on_down
        return lambda: self._observers.pop(key, None) and None

    def request_stop(self, reason: str, *, ordered: bool) -> None:
        """End normally after the present handler, which is cancelled when it takes longer than `stop_s`."""
        if self._verdict is not None:
            if ordered:
                self._verdict = replace(self._verdict, ordered=True)
            return
        self._verdict = Exit(reason, ordered=ordered)
        if self.has_started:
            self.mailbox.wake()
            self._overdue = self.system.clock.call_later(self.spec.stop_s, self._force)
        elif ordered:
            self._force()

    def crash(self, error: BaseException) -> None:
        """End because of an exception that happened beside the mailbox."""
        if self._verdict is not None or self._task is None:
            log.warning("actor.late_failure", actor=self.name, error=str(error))
            return
        self._verdict = crash_of(error)
        self._task.cancel()

    def _force(self) -> None:
        if self.state in ("starting", "running") and self._task is not None:
            self._task.cancel()

    # What its context does

    def watch(self, address: str) -> None:
        if address in self._watching:
            return
        self._watching[address] = lambda: None

        def on_down(reason: str, crashed: bool) -> None:
            if self._watching.pop(address, None) is not None:
                self.signal(Down(address, reason, crashed))

        self._watching[address] = self.system.observe_anywhere(address, on_down)

    def unwatch(self, address: str) -> None:
        cancel = self._watching.pop(address, None)
        if cancel is not None:
            cancel()

    def tick(self, message: Message, delay_s: float, *, repeats: bool) -> Ticker:
        ticker = Ticker(self, message, delay_s, repeats=repeats)
        self.tickers.add(ticker)
        return ticker

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=f"work of {self.name}")
        self._tasks.add(task)
        task.add_done_callback(self._worked)
        return task

    def defer(self) -> Later:
        reply = self._asked
        if reply is not None:
            self._is_deferred = True
            self._deferred.add(reply)
            reply.add_done_callback(self._deferred.discard)
        return Later(reply)

    def status(self) -> Status:
        """The frozen record of this actor now."""
        box = self.mailbox.status()
        snapshot: dict[str, Any] = {}
        if self._actor is not None and self.has_started:
            try:
                snapshot = self._actor.snapshot()
            except Exception as error:  # a broken snapshot must not blind the operator to the rest
                snapshot = {"snapshot_error": str(error)}
        return Status(
            name=self.name,
            system=self.system.name,
            kind=type(self._actor).__name__ if self._actor is not None else "",
            parent=self._supervisor.owner,
            state=self.state,
            age_s=round(self.system.clock.monotonic() - self._born_s, 3),
            restarts=self.restarts,
            restart=self.spec.restart,
            handled=self.handled,
            waiting=box.waiting,
            capacity=box.capacity,
            refused=box.refused,
            snapshot=snapshot,
        )

    # Its life

    async def _main(self) -> None:
        outcome = Exit("cancelled", ordered=True)
        try:
            outcome = await self._live()
            await self._end(outcome)
        finally:
            self._vanish(self._verdict or outcome)

    def _ran(self, task: asyncio.Task[None]) -> None:
        # A task that is cancelled before its first step runs nothing of its coroutine, its `finally` included.
        if self.state != "ended":
            self._vanish(self._verdict or Exit("cancelled", ordered=True))
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("actor.runtime_failed", actor=self.name, exc_info=error)

    async def _live(self) -> Exit:
        try:
            self._actor = actor = self.spec.build()
            actor.context = Context(self)
            await actor.start()
            self.has_started = True
            self.state = "running"
            self.started.set_result(None)
            await self._serve(actor)
        except asyncio.CancelledError:
            if self._verdict is None:
                cancelled = bool(self._task and self._task.cancelling())
                self._verdict = Exit("cancelled", crashed=not cancelled, ordered=cancelled)
        except Exception as error:
            ordered = self._verdict is not None and self._verdict.ordered
            self._verdict = replace(crash_of(error), ordered=ordered)
        await self._absorb_cancellation()
        assert self._verdict is not None
        if self._verdict.crashed:
            expected = isinstance(self._verdict.error, ActorError)  # says all in its message
            log.error(
                "actor.crashed",
                actor=self.name,
                reason=self._verdict.reason,
                exc_info=None if expected else self._verdict.error,
            )
        return self._verdict

    async def _serve(self, actor: Actor) -> None:
        burst = 0
        while self._verdict is None:
            envelope = self.mailbox.take_nowait()
            if envelope is None:
                burst = 0
                await self.mailbox.wait_message()
                continue
            await self._handle(actor, envelope)
            burst += 1
            if burst >= BURST:
                burst = 0
                await asyncio.sleep(0)

    async def _handle(self, actor: Actor, envelope: Envelope) -> None:
        reply = envelope.reply
        if envelope.on_taken is not None:
            envelope.on_taken()
        if reply is not None and reply.done():
            return  # its deadline passed while it waited
        self._asked = reply
        self._is_deferred = False
        try:
            answer = await actor.receive(envelope.message)
        except Refused as error:
            if reply is None:
                log.warning("actor.refused", actor=self.name, error=error.detail)
            elif not reply.done():
                reply.set_exception(error)
        except BaseException as error:
            if reply is not None and not reply.done():
                reply.set_exception(self._failure(error))
            raise
        else:
            if reply is not None and not self._is_deferred and not reply.done():
                reply.set_result(answer)
        finally:
            self.handled += 1
            self._asked = None

    def _failure(self, error: BaseException) -> ActorError:
        if isinstance(error, asyncio.CancelledError) and not (self._verdict and self._verdict.crashed):
            return ActorGone(self.name)
        cause = self._verdict.error if self._verdict is not None and self._verdict.error else error
        failure = ActorFailed(f"{self.name}: {crash_of(cause).reason}")
        failure.__cause__ = cause
        return failure

    async def _absorb_cancellation(self) -> None:
        task = self._task
        while task is not None and task.cancelling():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)
            task.uncancel()

    async def _end(self, outcome: Exit) -> None:
        self.state = "stopping"
        for ticker in list(self.tickers):
            ticker.cancel()
        await self.children.close()
        actor = self._actor
        if self.has_started and actor is not None and type(actor).stop is not Actor.stop:
            hook = asyncio.get_running_loop().create_task(actor.stop(outcome.reason), name=f"stop of {self.name}")
            await self._finish([hook], self.spec.stop_s)
            if hook.done() and not hook.cancelled() and (error := hook.exception()) is not None:
                log.error("actor.stop_failed", actor=self.name, exc_info=error)
        if self._tasks:
            await self._finish(list(self._tasks), 0.0)

    async def _finish(self, tasks: list[asyncio.Task[Any]], patience_s: float) -> None:
        clock = self.system.clock
        together = asyncio.ensure_future(asyncio.wait(tasks))
        try:
            if patience_s > 0 and await finished_within(clock, patience_s, together):
                return
            for task in tasks:
                task.cancel()
            if not await finished_within(clock, AFTER_CANCEL_S, together):
                log.error("actor.task_will_not_end", actor=self.name)
        finally:
            together.cancel()

    def _vanish(self, outcome: Exit) -> None:
        self.state = "ended"
        self._verdict = outcome
        for work in self._tasks:
            work.cancel()
        if self._overdue is not None:
            self._overdue.cancel()
        self.system.forget(self)
        left = self.mailbox.drain()
        for reply in [*(envelope.reply for envelope in left), *list(self._deferred)]:
            if reply is not None and not reply.done():
                reply.set_exception(ActorGone(self.name))
        for cancel in self._watching.values():
            cancel()
        self._watching.clear()
        observers = list(self._observers.values())
        self._observers.clear()
        if not self.started.done():
            failure = ActorFailed(f"{self.name} did not start: {outcome.reason}")
            failure.__cause__ = outcome.error
            self.started.set_exception(failure)
        self.ended.set_result(outcome)
        for on_down in observers:
            on_down(outcome.reason, outcome.crashed)
        self._supervisor.ended(self, outcome)

    def _worked(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and self.state != "ended":
            self.crash(error)
