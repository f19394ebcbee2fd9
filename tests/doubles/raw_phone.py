"""A WebSocket peer that writes bytes as it likes and sees every byte, and how its connection ends."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import struct

PATIENCE_S = 10.0


class Phone:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def text(self) -> str:
        async with asyncio.timeout(PATIENCE_S):
            first, size = await self.reader.readexactly(2)
            assert first == 0x81
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            return (await self.reader.readexactly(size)).decode()

    async def end(self) -> bytes:
        """What comes before the end of the connection."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def say(self, text: str) -> None:
        self.writer.write(frame(text))

    async def hang_up(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


def upgrade(path: str = "/media", *fields: str) -> bytes:
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        f"GET {path} HTTP/1.1", "Host: phone", "Upgrade: websocket", "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Extensions: permessage-deflate", *fields,
    )  # fmt: skip
    return "\r\n".join((*lines, "", "")).encode()


def frame(text: str) -> bytes:
    """A masked text frame; the mask is zero."""
    data = text.encode()
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + struct.pack("!H", len(data))
    return b"\x81" + size + bytes(4) + data


async def dial(port: int, *opening: bytes) -> Phone:
    """A connection to a local server that begins with these bytes."""
    phone = Phone(*await asyncio.open_connection("127.0.0.1", port))
    phone.writer.write(b"".join(opening))
    return phone
