"""Passes an accepted media socket from the gateway to the host process that runs its call.

The gateway stops reading, offers the socket with the request's head and every byte it has read past it, and
keeps its own copy until the host has said that it is ready. Three steps on a SEQPACKET socket settle
whose it is:

    gateway → host     Offer, the descriptor, then head and early bytes in as many packets as they need
    host → gateway     Ready, or Refused; the host has not touched the socket
    gateway → host     Go: the gateway will never touch it again, and closes its copy; the host begins

Before Go the socket is the gateway's, so a host that refuses, dies or is late costs a 503. From Go on only
the host holds it, so the peer learns of the host's death at once, by FIN or RST. Without Go the host closes
its copy unused, so two processes never speak on one socket. Nothing calls shutdown(), which would reach the
other's copy.

Bytes behind an upgrade's head belong to the protocol it asks for: they are handed over, never parsed as HTTP.
The gateway's sockets must be plain TCP; TLS ends in front.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

HEAD_LIMIT = 64 * 1024
EARLY_LIMIT = 1024 * 1024
PACKET_LIMIT = 64 * 1024  # below Linux's default socket buffer, which bounds one SEQPACKET packet
OFFER_S = 5.0  # for the gateway's part of an exchange
RETRY_AFTER_S = 1.0
BACKLOG = 128
BUSY_S = 0.005

GRANT: ContextVar[bytes] = ContextVar("grant")
"""Inside a handler of the host's application: the grant that its socket came with."""

_log = structlog.get_logger()


class Offer(msgspec.Struct, frozen=True, tag="offer"):
    """Take this socket; `size` bytes of head and early bytes follow."""

    grant: bytes
    size: int


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The host will take the socket when it is told to go."""


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The host will not take the socket."""

    why: str
    retry_after_s: float


class Go(msgspec.Struct, frozen=True, tag="go"):
    """The socket is the host's."""


_CREDENTIALS = struct.Struct("3i")
_DESCRIPTOR = struct.Struct("i")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Offer | Ready | Refused | Go] = msgspec.msgpack.Decoder(Offer | Ready | Refused | Go)


class Refuse(Exception):
    """Raised by a host's `admit`: this call is not taken now; the peer may come again after a while."""

    def __init__(self, why: str, retry_after_s: float = RETRY_AFTER_S) -> None:
        super().__init__(why)
        self.why = why
        self.retry_after_s = retry_after_s


class HandoffRefused(web.HTTPServiceUnavailable):
    """No host took the socket; it is still ours. Try another host, or answer this: 503 with Retry-After."""

    def __init__(self, why: str, retry_after_s: float = RETRY_AFTER_S) -> None:
        problem = {"type": "about:blank", "title": "No host can take the call", "status": 503, "detail": why}
        super().__init__(
            headers={"Retry-After": str(max(1, math.ceil(retry_after_s)))},
            text=json.dumps(problem),
            content_type="application/problem+json",
        )
        self.why = why
        self.retry_after_s = retry_after_s
        self.force_close()  # bytes of another protocol may follow the head
        self._transport: asyncio.Transport | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Begin the answer."""
        self._transport = request.transport
        return await super().prepare(request)

    async def write_eof(self, data: bytes = b"") -> None:
        """End the answer and the connection, though a stuck host may still hold a copy of the socket."""
        await super().write_eof(data)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()


class HandedOver(web.StreamResponse):
    """What a gateway's handler returns for a socket that is no longer its own: nothing is written."""

    def __init__(self) -> None:
        super().__init__(status=101)

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


async def hand_over(request: web.Request, intake: Path, grant: bytes, *, timeout: float) -> web.StreamResponse:
    """Give the socket of a WebSocket upgrade `request` to the host that listens at `intake`.

    The handler returns the result and does nothing else with the request. `grant` says to the host which call
    this is and why it may come. WebSocket compression is taken out of the head, so that it is never agreed.
    A cancelled hand-over leaves the socket with the gateway.

    Raises:
        HandoffRefused: the host refused, died, or was not ready within `timeout` seconds.
        web.HTTPBadRequest: no WebSocket upgrade, or one with a body; the peer's fault.
        web.HTTPRequestHeaderFieldsTooLarge: the head is over 64 KiB; the peer's fault.
        ConnectionResetError: the peer has gone.
    """
    protocol: Any = request.protocol
    transport = _transport(request)
    if not protocol._upgraded or request.body_exists:
        raise web.HTTPBadRequest(text="This address takes WebSocket upgrades without a body.")
    head = head_of(request)
    if len(head) > HEAD_LIMIT:
        raise web.HTTPRequestHeaderFieldsTooLarge(text=f"The head is over {HEAD_LIMIT} bytes.")
    transport.pause_reading()
    try:
        async with asyncio.timeout(timeout):
            await _flush(request)
            early = bytes(protocol._message_tail)
            if len(early) > EARLY_LIMIT:
                raise HandoffRefused("The peer sent too much before it was answered.")
            await _offer(request, intake, grant, head + early)
    except TimeoutError:
        raise HandoffRefused(f"The host did not answer within {timeout:g} s.") from None
    except OSError as error:
        _transport(request)
        raise HandoffRefused("The host is not there.") from error
    finally:
        if not transport.is_closing() and not protocol._buffer_paused:
            transport.resume_reading()
    return HandedOver()


def head_of(request: web.BaseRequest) -> bytes:
    """The request line and header fields of `request` as they came, but for the WebSocket extensions."""
    version = f"HTTP/{request.version.major}.{request.version.minor}"
    line = f"{request.method} {request.raw_path} {version}".encode("utf-8", "surrogateescape")
    fields = (n + b": " + v for n, v in request.raw_headers if n.lower() != b"sec-websocket-extensions")
    return b"\r\n".join((line, *fields, b"", b""))


def _transport(request: web.BaseRequest) -> asyncio.Transport:
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("The peer has gone.")
    if transport.get_extra_info("sslcontext") is not None:
        raise RuntimeError("A TLS socket cannot be handed over; end TLS in front of the gateway.")
    return transport


async def _flush(request: web.BaseRequest) -> None:
    """Wait until answers to earlier requests on this connection have left the process."""
    transport = _transport(request)
    while transport.get_write_buffer_size():  # noqa: ASYNC110  (no event tells of an empty buffer)
        await asyncio.sleep(BUSY_S)


async def _offer(request: web.Request, intake: Path, grant: bytes, opening: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.setblocking(False)
        await _connect(line, intake)
        descriptor = _transport(request).get_extra_info("socket").fileno()
        await _send(line, _ENCODER.encode(Offer(grant, len(opening))), descriptor)
        for start in range(0, len(opening), PACKET_LIMIT):
            await _send(line, opening[start : start + PACKET_LIMIT])
        match await _receive(line):
            case Ready():
                transport = _transport(request)
                line.send(_ENCODER.encode(Go()))
            case Refused(why, retry_after_s):
                raise HandoffRefused(why, retry_after_s)
            case _:
                raise HandoffRefused("The host died.")
        protocol: Any = request.protocol
        protocol._message_tail = b""
        protocol.force_close()  # closes our copy; neither event loop calls shutdown() here
        assert transport.is_closing()


class Intake:
    """Where a host takes sockets from gateways, one connection for each, and serves them with `app`.

    `admit` is asked with each grant before the socket is taken: it returns when the call may come, or raises
    Refuse. If the gateway gives up after that, `abandon` is told, so that what was claimed can be let go.
    Handlers of `app` read `GRANT`. Their WebSockets come without compression.
    """

    def __init__(
        self,
        path: Path,
        app: web.Application,
        admit: Callable[[bytes], Awaitable[None]],
        *,
        abandon: Callable[[bytes], Awaitable[None]] | None = None,
        shutdown_s: float = 5.0,
    ) -> None:
        self._path = path
        self._admit = admit
        self._abandon = abandon
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, keepalive_timeout=5.0, shutdown_timeout=shutdown_s
        )
        self._listener: socket.socket | None = None
        self._offers: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen at the path; only processes of the same user are heard.

        Raises:
            OSError: the path cannot be bound, for example because it is longer than 107 bytes.
        """
        await self._runner.setup()
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            listener.bind(str(self._path))
            self._path.chmod(0o600)
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        self._listener = listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, listener)

    async def close(self) -> None:
        """Take no more sockets, end those that were taken, within the shutdown seconds."""
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener.fileno())
            listener.close()
            self._path.unlink(missing_ok=True)
        for offer in self._offers:
            offer.cancel()
        await asyncio.gather(*self._offers, return_exceptions=True)
        await self._runner.cleanup()

    def _accept(self, listener: socket.socket) -> None:
        try:
            line, _ = listener.accept()
        except OSError:
            return
        line.setblocking(False)
        offer = asyncio.get_running_loop().create_task(self._take(line))
        self._offers.add(offer)
        offer.add_done_callback(self._offers.discard)

    async def _take(self, line: socket.socket) -> None:
        with contextlib.ExitStack() as ours:
            ours.enter_context(line)
            try:
                async with asyncio.timeout(OFFER_S):
                    offer, media, opening = await _receive_offer(line, ours)
                if not await self._admitted(line, media, offer.grant):
                    return
                if await self._told_to_go(line):
                    await self._attach(media, offer.grant, opening)
                elif self._abandon is not None:
                    await self._abandon(offer.grant)
            except (OSError, TimeoutError, ValueError) as error:
                _log.warning("handoff_broken", error=repr(error))
            except Exception:
                _log.exception("handoff_failed")

    async def _admitted(self, line: socket.socket, media: socket.socket, grant: bytes) -> bool:
        loop = asyncio.get_running_loop()
        loop.add_reader(line.fileno(), media.close)  # the gateway says nothing now: it has given up or died
        try:
            await self._admit(grant)
        except Refuse as refusal:
            await _send(line, _ENCODER.encode(Refused(refusal.why, refusal.retry_after_s)))
            return False
        except Exception:
            _log.exception("handoff_admission_failed")
            await _send(line, _ENCODER.encode(Refused("The host failed.", RETRY_AFTER_S)))
            return False
        finally:
            loop.remove_reader(line.fileno())
        return True

    async def _told_to_go(self, line: socket.socket) -> bool:
        try:
            async with asyncio.timeout(OFFER_S):
                await _send(line, _ENCODER.encode(Ready()))
                if isinstance(await _receive(line), Go):
                    return True
        except (OSError, TimeoutError):
            pass
        _log.info("handoff_abandoned")
        return False

    async def _attach(self, media: socket.socket, grant: bytes, opening: bytes) -> None:
        server = self._runner.server
        assert server is not None
        taken = socket.socket(fileno=media.detach())  # the transport's to close from here on
        taken.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: _Opening(server, grant, opening), taken)
        except BaseException:
            taken.close()
            raise


class _Opening(asyncio.Protocol):
    """Puts the server's own protocol in its place, and what was read elsewhere before what is read here."""

    def __init__(self, server: web.Server, grant: bytes, opening: bytes) -> None:
        self._server = server
        self._grant = grant
        self._opening = opening

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        GRANT.set(self._grant)
        handler = self._server()
        transport.set_protocol(handler)
        handler.connection_made(transport)
        handler.data_received(self._opening)


async def _receive_offer(line: socket.socket, ours: contextlib.ExitStack) -> tuple[Offer, socket.socket, bytes]:
    credentials = line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    if _CREDENTIALS.unpack(credentials)[1] != os.getuid():
        raise PermissionError("A process of another user offered a socket.")
    await _ready(line, writing=False)
    # Not socket.recv_fds: it ignores the flag, and the descriptor would be inherited.
    room = socket.CMSG_LEN(_DESCRIPTOR.size)
    packet, ancillary, _, _ = line.recvmsg(PACKET_LIMIT, room, socket.MSG_CMSG_CLOEXEC)
    descriptors = [_DESCRIPTOR.unpack_from(data)[0] for _, _, data in ancillary]
    if not descriptors:
        raise ValueError("An offer came without a descriptor.")
    media = ours.enter_context(socket.socket(fileno=descriptors[0]))
    offer = _decode(packet)
    if not isinstance(offer, Offer) or not 0 < offer.size <= HEAD_LIMIT + EARLY_LIMIT:
        raise ValueError("What came is no offer.")
    opening = bytearray()
    while len(opening) < offer.size:
        await _ready(line, writing=False)
        part = line.recv(PACKET_LIMIT)
        if not part:
            raise ConnectionResetError("The gateway died.")
        opening += part
    return offer, media, bytes(opening)


async def _connect(line: socket.socket, intake: Path) -> None:
    while True:
        try:
            return line.connect(str(intake))
        except BlockingIOError:  # the host's backlog is full, of which no event tells the end
            await asyncio.sleep(BUSY_S)


async def _send(line: socket.socket, packet: bytes, *descriptors: int) -> None:
    while True:
        try:
            if descriptors:
                socket.send_fds(line, [packet], descriptors)
            else:
                line.send(packet)
            return
        except BlockingIOError:
            await _ready(line, writing=True)


async def _receive(line: socket.socket) -> Offer | Ready | Refused | Go | None:
    """The next packet, or None if the other side has closed."""
    await _ready(line, writing=False)
    packet = line.recv(PACKET_LIMIT)
    return _decode(packet) if packet else None


def _decode(packet: bytes) -> Offer | Ready | Refused | Go:
    try:
        return _DECODER.decode(packet)
    except msgspec.MsgspecError as error:
        raise ConnectionError("The other side does not speak this protocol.") from error


async def _ready(line: socket.socket, *, writing: bool) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    watch, forget = (loop.add_writer, loop.remove_writer) if writing else (loop.add_reader, loop.remove_reader)

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    watch(line.fileno(), wake)
    try:
        await ready
    finally:
        forget(line.fileno())
