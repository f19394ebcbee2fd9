"""A link: one stream socket between two processes that carries frames, and the transport on top of it."""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec
import structlog

from actors.runtime.errors import ActorError, ActorGone, MailboxFull, from_wire, to_wire
from actors.runtime.forked import frames
from actors.runtime.forked.frames import AnyFrame
from actors.runtime.local import LocalTransport, Switchboard, expire
from actors.runtime.messages import Message
from actors.runtime.parcels import Parcel
from actors.runtime.ports import Cancel, OnDown, Transport

log = structlog.get_logger()

UNSENT_BYTES_MAX: Final = 4 << 20


class Link(asyncio.Protocol):
    """Frames in both directions. `on_frame` gets each one; `on_lost` is called once, when the other end is gone."""

    def __init__(self, on_frame: Callable[[AnyFrame], None], on_lost: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self.lost = False

    @classmethod
    async def open(cls, sock: socket.socket, on_frame: Callable[[AnyFrame], None], on_lost: Callable[[], None]) -> Link:
        """Take over a connected unix stream socket."""
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: cls(on_frame, on_lost), sock=sock)
        return link

    def send(self, frame: AnyFrame) -> None:
        """Write a frame. `ActorGone` when the other end is gone, `MailboxFull` when it does not keep up."""
        transport = self._transport
        if self.lost or transport is None or transport.is_closing():
            raise ActorGone("the link has ended")
        if transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            raise MailboxFull("the link is congested")
        transport.write(frames.pack(frame))

    def close(self) -> None:
        """End the link from this side; what was written is still sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the link at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            self._buffer += data
            taken = self._take(self._buffer)
            del self._buffer[:taken]
        else:  # nearly always whole frames: nothing to keep
            taken = self._take(data)
            if taken < len(data):
                self._buffer += data[taken:]

    def _take(self, data: bytes | bytearray) -> int:
        """Pass on every whole frame; how many bytes they were."""
        at = 0
        while len(data) - at >= 4:
            size = int.from_bytes(data[at : at + 4], "big")
            if size > frames.FRAME_BYTES_MAX:
                self._fail(f"a frame of {size} bytes")
                return len(data)
            if len(data) - at - 4 < size:
                break
            body = bytes(data[at + 4 : at + 4 + size])
            at += 4 + size
            try:
                frame = frames.unpack(body)
            except msgspec.MsgspecError as error:
                self._fail(str(error))
                return len(data)
            self._on_frame(frame)
        return at

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self._on_lost()

    def _fail(self, why: str) -> None:
        log.error("link.garbled", why=why)
        self.abort()


class _WireReply:
    """The answer to an ask from the other end: written the moment it is given, without a turn of the loop.

    It counts as done once its deadline has passed, since nobody waits for it any more.
    """

    __slots__ = ("_done", "_id", "_link", "_then", "_until")

    def __init__(self, link: LinkTransport, request_id: int, timeout_s: float) -> None:
        self._link, self._id, self._until = link, request_id, time.monotonic() + timeout_s
        self._done = False
        self._then: list[Callable[[Any], object]] = []

    def done(self) -> bool:
        return self._done or time.monotonic() > self._until

    def set_result(self, answer: Message | None) -> None:
        self._settle()
        self._link.answer(self._id, None if answer is None else Parcel.of(answer))

    def set_exception(self, error: BaseException) -> None:
        self._settle()
        self._link.answer_failure(self._id, error)

    def add_done_callback(self, then: Callable[[Any], object]) -> None:
        self._then.append(then)

    def _settle(self) -> None:
        self._done = True
        for then in self._then:
            then(self)


class LinkTransport:
    """The other end of a link as a transport, and this end's `served` transport for the other.

    With a `switchboard`, the other end may see its names and, if it `may_claim`, take some. `gone` makes the error
    for what was under way when the link ended. Frames that are not about messages go to `on_other`.
    """

    def __init__(
        self,
        served: Transport | None = None,
        *,
        switchboard: Switchboard | None = None,
        may_claim: bool = True,
        on_other: Callable[[AnyFrame], None] | None = None,
        on_lost: Callable[[], None] | None = None,
        gone: Callable[[str], ActorError] = ActorGone,
    ) -> None:
        self.served = served
        self._switchboard = switchboard
        self._may_claim = may_claim
        self._on_other = on_other
        self._on_lost = on_lost
        self._gone = gone
        self._link: Link | None = None
        self._ids = itertools.count(1)
        self._pending: dict[int, tuple[asyncio.Future[Any], asyncio.TimerHandle]] = {}
        self._watches: dict[int, OnDown] = {}
        self._observed: dict[int, Cancel] = {}
        self.why_lost = "the link ended"

    async def open(self, sock: socket.socket) -> None:
        """Begin on a connected socket, which now belongs to the link."""
        self._link = await Link.open(sock, self._take, self._lose)

    def send(self, frame: AnyFrame) -> None:
        """Write a frame, or raise what `Link.send` raises."""
        if self._link is None:
            raise self._gone("the link is not open")
        self._link.send(frame)

    def close(self, *, at_once: bool = False) -> None:
        if self._link is not None:
            if at_once:
                self._link.abort()
            else:
                self._link.close()

    @property
    def is_lost(self) -> bool:
        return self._link is None or self._link.lost

    # Towards the other end

    def tell(self, address: str, parcel: Parcel, timeout_s: float) -> asyncio.Future[None]:
        return self._request(address, timeout_s, lambda id_: frames.Tell(id_, address, *parcel.wire(), timeout_s))

    def ask(self, address: str, parcel: Parcel, timeout_s: float) -> asyncio.Future[Parcel | None]:
        return self._request(address, timeout_s, lambda id_: frames.Ask(id_, address, *parcel.wire(), timeout_s))

    def claim(self, name: str, timeout_s: float) -> asyncio.Future[None]:
        return self._request(name, timeout_s, lambda id_: frames.Claim(id_, name))

    def names(self, prefix: str, timeout_s: float) -> asyncio.Future[Parcel | None]:
        return self._request("names", timeout_s, lambda id_: frames.Names(id_, prefix))

    def ping(self, timeout_s: float) -> asyncio.Future[frames.Pong]:
        return self._request("ping", timeout_s, frames.Ping)

    def watch(self, address: str, on_down: OnDown) -> Cancel:
        watch_id = next(self._ids)
        try:
            self.send(frames.Watch(watch_id, address))
        except ActorError:
            return asyncio.get_running_loop().call_soon(on_down, self.why_lost, True).cancel
        self._watches[watch_id] = on_down

        def cancel() -> None:
            if self._watches.pop(watch_id, None) is not None:
                self._try_send(frames.Unwatch(watch_id))

        return cancel

    def _request(self, about: str, timeout_s: float, make: Callable[[int], AnyFrame]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        request_id = next(self._ids)
        try:
            self.send(make(request_id))
        except ActorGone:
            future.set_exception(self._gone(f"{about} ({self.why_lost})"))
            return future
        except Exception as error:
            future.set_exception(error)
            return future
        timer = loop.call_later(timeout_s, self._expire, request_id, about, timeout_s)
        self._pending[request_id] = future, timer
        return future

    def _expire(self, request_id: int, about: str, timeout_s: float) -> None:
        future, _ = self._pending.pop(request_id)
        expire(future, about, timeout_s)

    def _awaited(self, request_id: int) -> asyncio.Future[Any] | None:
        """Whoever still waits for this answer, which is about to be given."""
        future, timer = self._pending.pop(request_id, (None, None))
        if timer is not None:
            timer.cancel()
        return None if future is None or future.done() else future

    # From the other end

    def _take(self, frame: AnyFrame) -> None:
        match frame:
            case frames.Tell() | frames.Ask() | frames.Watch() | frames.Unwatch() if self.served is not None:
                self._serve(self.served, frame)
            case frames.Answer():
                self._settle(frame.id, Parcel.from_wire(frame.tag, frame.body) if frame.tag else None)
            case frames.Pong():
                self._settle(frame.id, frame)
            case frames.Failure():
                if (future := self._awaited(frame.id)) is not None:
                    future.set_exception(from_wire(frame.error, frame.detail))
            case frames.Fell():
                on_down = self._watches.pop(frame.id, None)
                if on_down is not None:
                    on_down(frame.reason, frame.crashed)
            case frames.Claim() | frames.Release() | frames.Names():
                self._take_name(frame)
            case _ if self._on_other is not None:
                self._on_other(frame)

    def _serve(self, served: Transport, frame: frames.Tell | frames.Ask | frames.Watch | frames.Unwatch) -> None:
        if isinstance(frame, frames.Tell):
            parcel = Parcel.from_wire(frame.tag, frame.body)
            self._reply(frame.id, served.tell(frame.address, parcel, frame.timeout_s))
        elif isinstance(frame, frames.Ask):
            parcel = Parcel.from_wire(frame.tag, frame.body)
            if isinstance(served, LocalTransport):
                served.serve(frame.address, parcel, _WireReply(self, frame.id, frame.timeout_s))
            else:
                self._reply(frame.id, served.ask(frame.address, parcel, frame.timeout_s))
        elif isinstance(frame, frames.Watch):
            self._observe(served, frame)
        else:
            cancel = self._observed.pop(frame.id, None)
            if cancel is not None:
                cancel()

    def _take_name(self, frame: frames.Claim | frames.Release | frames.Names) -> None:
        switchboard = self._switchboard
        if switchboard is None or (isinstance(frame, frames.Claim) and not self._may_claim):
            if not isinstance(frame, frames.Release):
                self._try_send(frames.Failure(frame.id, "Refused", "names are not given here"))
        elif isinstance(frame, frames.Claim):
            try:
                switchboard.connect(frame.name, self)
            except ActorError as error:
                self._try_send(frames.Failure(frame.id, *to_wire(error)))
            else:
                self._try_send(frames.Answer(frame.id))
        elif isinstance(frame, frames.Release):
            switchboard.disconnect(frame.name, self)
        else:
            found = msgspec.msgpack.encode(switchboard.find_names(frame.prefix))
            self._try_send(frames.Answer(frame.id, "names", found))

    def _observe(self, served: Transport, frame: frames.Watch) -> None:
        fallen = False

        def on_down(reason: str, crashed: bool) -> None:
            nonlocal fallen
            fallen = True
            self._observed.pop(frame.id, None)
            self._try_send(frames.Fell(frame.id, reason, crashed))

        cancel = served.watch(frame.address, on_down)
        if not fallen:
            self._observed[frame.id] = cancel

    def _reply(self, request_id: int, future: asyncio.Future[Any]) -> None:
        def settled(done: asyncio.Future[Any]) -> None:
            if done.cancelled():
                self._try_send(frames.Failure(request_id, "ActorGone", "withdrawn"))
            elif (error := done.exception()) is not None:
                self.answer_failure(request_id, error)
            else:
                self.answer(request_id, done.result())

        if future.done():
            settled(future)
        else:
            future.add_done_callback(settled)

    def answer(self, request_id: int, parcel: Parcel | None) -> None:
        """Answer a request of the other end, if it is still there."""
        try:
            tag, body = parcel.wire() if parcel is not None else ("", b"")
        except ActorError as error:
            self.answer_failure(request_id, error)
        else:
            self._try_send(frames.Answer(request_id, tag, body))

    def answer_failure(self, request_id: int, error: BaseException) -> None:
        """Let a request of the other end fail."""
        self._try_send(frames.Failure(request_id, *to_wire(error)))

    def _settle(self, request_id: int, result: Any) -> None:
        if (future := self._awaited(request_id)) is not None:
            future.set_result(result)

    def _try_send(self, frame: AnyFrame) -> None:
        try:
            self.send(frame)
        except MailboxFull:
            # The other end cannot take even answers; without them it would wait or miss a Down.
            log.error("link.congested", why="cannot answer, so the link ends")
            self.close(at_once=True)
        except ActorError:
            pass  # nobody is left to hear it

    def lose(self, why: str) -> None:
        """Treat the link as ended, for a reason that is known before the socket shows it."""
        if self._link is not None and not self._link.lost:
            self.why_lost = why
            self._link.lost = True
            self._link.abort()
            self._lose()

    def _lose(self) -> None:
        if self._switchboard is not None:
            self._switchboard.drop(self)
        for cancel in list(self._observed.values()):
            cancel()
        self._observed.clear()
        for request_id in list(self._pending):
            if (future := self._awaited(request_id)) is not None:
                future.set_exception(self._gone(self.why_lost))
        watches = list(self._watches.values())
        self._watches.clear()
        for on_down in watches:
            on_down(self.why_lost, True)
        if self._on_lost is not None:
            self._on_lost()


class LinkRegistry:
    """A child's hand on the names of the node."""

    def __init__(self, transport: LinkTransport, *, timeout_s: float = 5.0) -> None:
        self._transport = transport
        self._timeout_s = timeout_s

    async def claim(self, name: str) -> None:
        await self._transport.claim(name, self._timeout_s)

    def release(self, name: str) -> None:
        if not self._transport.is_lost:
            self._transport.send(frames.Release(name))

    async def names(self, prefix: str = "") -> tuple[str, ...]:
        answer = await self._transport.names(prefix, self._timeout_s)
        return read_names(answer)


def read_names(answer: Parcel | None) -> tuple[str, ...]:
    """The names in the answer to a `Names` frame."""
    assert answer is not None
    return tuple(msgspec.msgpack.decode(answer.wire()[1], type=list[str]))
