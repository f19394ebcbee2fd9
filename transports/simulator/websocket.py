"""The network's end of a media WebSocket (RFC 6455), on a bare protocol.

Our own, because a caller's frame is ready-made bytes, and because faults need what a library hides: sockets that
end in FIN or RST, that neither read nor write, upgrades that are refused.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from typing import cast
from urllib.parse import urlsplit

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_LARGEST = 1 << 20
_FAREWELL_S = 0.5  # for the server to answer a close frame
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10


class UpgradeRefused(Exception):
    """The server did not take the media socket: no connection, or an answer other than 101."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class MediaSocket(asyncio.Protocol):
    """A WebSocket client. `on_text(data, at)` gets messages, `on_end(how)` is called once: close, fin, rst or error."""

    def __init__(self, on_text: Callable[[bytes, float], None], on_end: Callable[[str], None]) -> None:
        self._on_text = on_text
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._message = bytearray()
        self._head: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._upgraded = False
        self._ended = False
        self._how = ""  # how the end came about, where we know before the connection is lost
        self._full = False
        self._mute = False
        self.gone = asyncio.Event()  # the connection is closed on our side too
        self.skipped = 0  # messages not sent because the server did not read

    @classmethod
    async def connect(
        cls,
        url: str,
        headers: Mapping[str, str],
        on_text: Callable[[bytes, float], None],
        on_end: Callable[[str], None],
    ) -> MediaSocket:
        """Open the socket.

        Raises:
            UpgradeRefused: nobody listens, or the server answered something else than 101.
        """
        parts = urlsplit(url)
        secure = parts.scheme == "wss"
        port = parts.port or (443 if secure else 80)
        loop = asyncio.get_running_loop()
        try:
            _, protocol = await loop.create_connection(
                lambda: cls(on_text, on_end),
                parts.hostname or "",
                port,
                ssl=ssl.create_default_context() if secure else None,
            )
        except OSError as error:
            raise UpgradeRefused(f"{url} cannot be reached: {error}") from error
        try:
            await protocol._upgrade(parts.netloc, parts.path or "/", headers)
        except BaseException:
            protocol._ended = True
            protocol.abort()
            raise
        return protocol

    async def _upgrade(self, host: str, path: str, headers: Mapping[str, str]) -> None:
        key = base64.b64encode(os.urandom(16))
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key.decode()}",
            "Sec-WebSocket-Version: 13",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        assert self._transport
        self._transport.write("\r\n".join([*lines, "", ""]).encode())
        head = (await self._head).decode("latin-1").split("\r\n")
        status = int(head[0].split()[1]) if head[0].startswith("HTTP/1.") else 0
        if status != 101:
            raise UpgradeRefused(f"The server answered the upgrade with {head[0]!r}.", status)
        expected = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest()).decode()
        given = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in head[1:]}
        if given.get("sec-websocket-accept") != expected:
            raise UpgradeRefused("The server's Sec-WebSocket-Accept is wrong.", status)
        if self._buffer:
            self._read_frames(time.monotonic())

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; small frames must not wait for one another."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Bytes from the server: first the answer's head, then frames."""
        now = time.monotonic()
        self._buffer += data
        if self._upgraded:
            self._read_frames(now)
            return
        head, found, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if found and not self._head.done():
            self._upgraded = True
            self._buffer = bytearray(rest)
            self._head.set_result(head)

    def eof_received(self) -> bool:
        """The server has gone, or its process was killed: FIN without a close frame."""
        self._how = self._how or "fin"
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is over."""
        self.gone.set()
        if not self._head.done():
            self._head.set_exception(UpgradeRefused(f"The server dropped the upgrade: {error or 'closed'}."))
        self._end(self._how or ("rst" if error else "fin"))

    def pause_writing(self) -> None:
        """The server does not keep up."""
        self._full = True

    def resume_writing(self) -> None:
        """The server has caught up."""
        self._full = False

    # what the stream calls

    def send(self, text: bytes) -> None:
        """Send one text message; skipped, and counted, if the server has stopped reading."""
        if self._full or self._mute or self._ended:
            self.skipped += 1
            return
        self._write(_TEXT, text)

    def close(self, code: int = 1000) -> None:
        """Say goodbye with a close frame; the connection goes when the server has answered, or shortly after."""
        if self._ended or self._transport is None:
            return
        self._how = self._how or "local"
        if not self._mute:
            self._write(_CLOSE, struct.pack("!H", code))
        asyncio.get_running_loop().call_later(_FAREWELL_S, self._transport.abort)

    def drop(self, mode: str) -> None:
        """Lose the connection: `close` with a close frame, `fin` and `rst` without."""
        if self._ended or self._transport is None:
            return
        self._how = mode
        if mode == "close":
            self._write(_CLOSE, struct.pack("!H", 1011))
        if mode == "rst":
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self._transport.abort()
        else:
            self._transport.close()
            asyncio.get_running_loop().call_later(_FAREWELL_S, self._transport.abort)
        self._end(mode)

    def freeze(self) -> None:
        """Neither read nor write any more, without closing: a half-open connection."""
        self._mute = True
        if self._transport:
            self._transport.pause_reading()

    def abort(self) -> None:
        """Let go at once."""
        if self._transport:
            self._transport.abort()

    def _end(self, how: str) -> None:
        if not self._ended:
            self._ended = True
            self._on_end(how)

    def _write(self, opcode: int, payload: bytes) -> None:
        assert self._transport
        length = len(payload)
        if length < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
        elif length < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0xFE, length)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, length)
        key = random.randbytes(4)
        mask = (key * (length // 4 + 1))[:length]
        masked = int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")
        self._transport.write(head + key + masked.to_bytes(length, "little"))

    def _read_frames(self, now: float) -> None:
        buffer = self._buffer
        at = 0
        while not self._ended and len(buffer) - at >= 2:
            first, length = buffer[at], buffer[at + 1]
            start = at + 2
            if length >= 128:
                self._fail("a masked frame")
                return
            if length == 126:
                if len(buffer) < start + 2:
                    break
                length = int.from_bytes(buffer[start : start + 2], "big")
                start += 2
            elif length == 127:
                if len(buffer) < start + 8:
                    break
                length = int.from_bytes(buffer[start : start + 8], "big")
                start += 8
            if length > _LARGEST:
                self._fail("a frame larger than a mebibyte")
                return
            if len(buffer) < start + length:
                break
            payload = bytes(buffer[start : start + length])
            at = start + length
            self._frame(first, payload, now)
        del buffer[:at]

    def _frame(self, first: int, payload: bytes, now: float) -> None:
        opcode = first & 0x0F
        if opcode == _PING:
            if not self._mute:
                self._write(_PONG, payload)
        elif opcode == _CLOSE:
            self._how = self._how or "close"
            if self._how == "close":
                self._write(_CLOSE, payload[:2])
            assert self._transport
            self._transport.close()
            self._end(self._how)
        elif opcode in (0, _TEXT, _BINARY):
            if first & 0x80 and not self._message:
                self._on_text(payload, now)
                return
            self._message += payload
            if first & 0x80:
                whole, self._message = bytes(self._message), bytearray()
                self._on_text(whole, now)

    def _fail(self, what: str) -> None:
        self._how = f"error: the server sent {what}"
        self.abort()
        self._end(self._how)
