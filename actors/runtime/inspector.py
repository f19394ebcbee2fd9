"""The actor that every system has: it shows what lives there and halts it on request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from actors.runtime.actor import Actor, Later
from actors.runtime.errors import ActorError, ActorGone, Refused
from actors.runtime.messages import Done, Halt, Inspect, Message
from actors.runtime.status import Tree

if TYPE_CHECKING:
    from actors.runtime.system import System

PATIENCE_S = 1.0


class Inspector(Actor):
    """Answers `Inspect` with a `Tree` and `Halt` with `Done`. Its name is `system/` and the system's name."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def receive(self, message: Message) -> Message | None:
        match message:
            case Inspect(everywhere=False):
                return Tree(self._system.tree(), (self._system.status(),))
            case Inspect():
                self.context.run(self._inspect_all(self.context.defer()))
            case Halt():
                if not self._system.has(message.address):
                    raise Refused(f"{message.address} does not live in {self._system.name}")
                self.context.run(self._halt(message, self.context.defer()))
        return None

    async def _inspect_all(self, later: Later) -> None:
        names = await self._system.registry.names("system/")
        others = [name for name in names if name != self.context.name]
        answers = await asyncio.gather(*(self._inspect(name) for name in others))
        statuses = list(self._system.tree())
        systems = [self._system.status()]
        for answer in answers:
            if answer is not None:
                statuses.extend(answer.statuses)
                systems.extend(answer.systems)
        later.answer(Tree(tuple(statuses), tuple(systems)))

    async def _inspect(self, name: str) -> Tree | None:
        try:
            return await self.context.ref(name).ask(Inspect(), timeout=PATIENCE_S, expect=Tree)
        except ActorError:
            return None  # it is stuck or has just gone; the process status of its supervisor tells

    async def _halt(self, message: Halt, later: Later) -> None:
        try:
            await self._system.halt(message.address, message.reason)
        except ActorGone as error:
            later.fail(error)
        else:
            later.answer(Done())
