"""`Ref`: the only way to reach an actor."""

from __future__ import annotations

from typing import Protocol, TypeVar, overload

from actors.runtime.errors import BadReply
from actors.runtime.messages import Message

R = TypeVar("R", bound=Message)

TELL_TIMEOUT_S = 5.0


class Post(Protocol):
    """Who carries what a reference sends: a system, here or remote."""

    async def tell(self, address: str, message: Message, timeout_s: float) -> None: ...

    async def ask(self, address: str, message: Message, timeout_s: float) -> Message | None: ...


class Ref:
    """A string address with verbs. Holds no actor alive, survives restarts, works across processes."""

    __slots__ = ("_post", "address")

    def __init__(self, post: Post, address: str) -> None:
        self._post = post
        self.address = address

    async def tell(self, message: Message, *, timeout: float = TELL_TIMEOUT_S) -> None:
        """Put a message into the actor's mailbox. `ActorGone`, `MailboxFull`, `UnknownMessage`."""
        await self._post.tell(self.address, message, timeout)

    @overload
    async def ask(self, message: Message, *, timeout: float, expect: type[R]) -> R: ...

    @overload
    async def ask(self, message: Message, *, timeout: float, expect: None = None) -> Message | None: ...

    async def ask(self, message: Message, *, timeout: float, expect: type[R] | None = None) -> R | Message | None:
        """Put a message into the mailbox and wait for its answer, at most `timeout` seconds.

        With `expect`, the answer is of that type, else `BadReply`. Cancelling an ask withdraws it while it
        is queued in this process.
        """
        answer = await self._post.ask(self.address, message, timeout)
        if expect is not None and not isinstance(answer, expect):
            raise BadReply(f"{self.address} answered {type(answer).__name__} instead of {expect.__name__}")
        return answer

    def __repr__(self) -> str:
        return f"Ref({self.address!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other.address == self.address

    def __hash__(self) -> int:
        return hash(self.address)
