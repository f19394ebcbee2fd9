"""A bounded mailbox with a lane for control messages that overtakes the ordinary one."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Any

from actors.runtime.errors import MailboxFull
from actors.runtime.messages import Message
from actors.runtime.ports import Reply


class Envelope:
    """A message and, if it was asked, the future that waits for its answer."""

    __slots__ = ("message", "on_taken", "reply")

    def __init__(self, message: Message, reply: Reply | None = None, on_taken: Any = None) -> None:
        self.message = message
        self.reply = reply
        self.on_taken = on_taken


@dataclass(frozen=True, slots=True)
class MailboxStatus:
    """How full a mailbox is and how many messages it has refused."""

    waiting: int
    capacity: int
    refused: int


class Mailbox:
    """Holds at most `capacity` messages per lane; one reader."""

    __slots__ = ("_capacity", "_control", "_ordinary", "_refused", "_waiter")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._control: deque[Envelope] = deque()
        self._ordinary: deque[Envelope] = deque()
        self._refused = 0
        self._waiter: asyncio.Future[None] | None = None

    def put_nowait(self, envelope: Envelope) -> None:
        """Add a message, or raise `MailboxFull`."""
        lane = self._control if envelope.message.control else self._ordinary
        if len(lane) >= self._capacity:
            self._refused += 1
            raise MailboxFull(f"{len(lane)} messages wait")
        lane.append(envelope)
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def put_signal_nowait(self, envelope: Envelope) -> None:
        """Add what the runtime itself bounds (a `Down`, a tick): never refused."""
        lane = self._control if envelope.message.control else self._ordinary
        lane.append(envelope)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def take_nowait(self) -> Envelope | None:
        """The next message, or None when empty."""
        if self._control:
            return self._control.popleft()
        if self._ordinary:
            return self._ordinary.popleft()
        return None

    async def wait_message(self) -> None:
        """Wait until `wake` or a message. Cancellable; nothing is lost."""
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            if not self._control and not self._ordinary:
                await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Let the reader look around although no message came."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def drain(self) -> list[Envelope]:
        """Take all that waits."""
        left = [*self._control, *self._ordinary]
        self._control.clear()
        self._ordinary.clear()
        return left

    def status(self) -> MailboxStatus:
        return MailboxStatus(len(self._control) + len(self._ordinary), self._capacity, self._refused)
