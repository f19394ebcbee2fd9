"""The three ports between actors and where they run; local, forked and cluster implementations fit them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from actors.runtime.messages import Message
from actors.runtime.parcels import Parcel

if TYPE_CHECKING:
    from actors.runtime.refs import Ref
    from actors.runtime.specs import ProcessSpec
    from actors.runtime.status import ProcessStatus

Cancel = Callable[[], None]
OnDown = Callable[[str, bool], None]


class Reply(Protocol):
    """Where the answer to an ask goes: an asyncio future, or whatever passes the answer on."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: Any, /) -> None: ...

    def set_exception(self, exception: Any, /) -> None: ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None: ...


class Endpoint(Protocol):
    """What a system offers to its transport."""

    @property
    def name(self) -> str: ...

    def has(self, address: str) -> bool:
        """Whether this system holds the actor."""

    def deliver(self, address: str, message: Message, reply: Reply | None) -> None:
        """Put the message into a mailbox here, or raise `ActorGone` or `MailboxFull`."""

    def observe(self, address: str, on_down: OnDown) -> Cancel:
        """Call back once, with reason and crashed, when the actor ends; with `gone` if there is none."""


class Transport(Protocol):
    """Carries messages and watches to actors that this system does not hold.

    Sending happens in the order of the calls, before they return; the future is the receiver's word.
    """

    def tell(self, address: str, parcel: Parcel, timeout_s: float) -> asyncio.Future[None]: ...

    def ask(self, address: str, parcel: Parcel, timeout_s: float) -> asyncio.Future[Parcel | None]: ...

    def watch(self, address: str, on_down: OnDown) -> Cancel:
        """`on_down` is called exactly once unless cancelled first."""


class Registry(Protocol):
    """Who holds which name."""

    async def claim(self, name: str) -> None:
        """Take a name for this system, or raise `NameTaken`."""

    def release(self, name: str) -> None:
        """Give it back; unknown names are ignored."""

    async def names(self, prefix: str = "") -> tuple[str, ...]:
        """All names that begin so, sorted."""


class Placement(Protocol):
    """Starts and ends processes."""

    async def start(self, spec: ProcessSpec) -> Ref:
        """Start a process and return the actor that stands for it. `ProcessFailed` or `NameTaken`."""

    async def stop(self, name: str, reason: str = "stopped") -> None:
        """End a process in order, by force after its grace. Unknown names are ignored."""

    async def close(self) -> None:
        """End every process."""

    def status(self) -> tuple[ProcessStatus, ...]: ...
