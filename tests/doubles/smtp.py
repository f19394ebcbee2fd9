"""A mail server that keeps what it takes, and refuses when told to."""

from __future__ import annotations

import asyncio
import contextlib
import email
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.policy import default


@dataclass
class SmtpDouble:
    """`taken` are the letters; `answers` are the replies to the next recipients, such as `450 later`."""

    taken: list[EmailMessage] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    url: str = ""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection (RFC 5321)."""

        async def say(line: str) -> None:
            writer.write(line.encode() + b"\r\n")
            await writer.drain()

        await say("220 double ESMTP")
        with contextlib.suppress(ConnectionError):
            while line := (await reader.readline()).decode().strip():
                verb = line.partition(" ")[0].upper()
                if verb == "RCPT" and self.answers:
                    await say(self.answers.pop(0))
                elif verb == "DATA":
                    await say("354 go on")
                    raw = (await reader.readuntil(b"\r\n.\r\n"))[:-3].replace(b"\r\n..", b"\r\n.")
                    self.taken.append(email.message_from_bytes(raw, policy=default))
                    self.arrived.set()
                    await say("250 taken")
                elif verb == "QUIT":
                    await say("221 bye")
                    break
                else:
                    await say("250 fine")
        writer.close()


@contextlib.asynccontextmanager
async def smtp() -> AsyncIterator[SmtpDouble]:
    """A server at `double.url` for the length of the block."""
    double = SmtpDouble()
    server = await asyncio.start_server(double.talk, "127.0.0.1", 0)
    double.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield double
    finally:
        server.close()
