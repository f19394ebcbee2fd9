"""What call hosts and the turn server say to each other: a four-byte big-endian length, then msgpack."""

from __future__ import annotations

import asyncio
from typing import Literal

import msgspec

LONGEST_S = 8  # what the model looks at
PCM_MAX = LONGEST_S * 8000 * 2
MESSAGE_MAX = PCM_MAX + 1024


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    """Has this caller finished? `pcm` is 16-bit mono at 8 kHz, its end the pause in question, 8 s at most.

    A later `Ask` of the same call supersedes one still waiting. After `patience_ms` in the queue nobody
    wants it.
    """

    id: int
    call: str
    pcm: bytes
    patience_ms: float


class Forget(msgspec.Struct, frozen=True, tag="forget"):
    """The caller went on speaking; no answer to `id` is wanted."""

    id: int


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """What became of an `Ask`. Only `judged` carries a probability that the turn is complete."""

    id: int
    outcome: Literal["judged", "busy", "superseded", "late"]
    probability: float = 0.0
    queued_ms: float = 0.0
    service_ms: float = 0.0


Request = Ask | Forget
_encoder = msgspec.msgpack.Encoder()


def packed(message: Request | Answer) -> bytes:
    """The message as it goes over the socket."""
    body = _encoder.encode(message)
    return len(body).to_bytes(4, "big") + body


async def received(reader: asyncio.StreamReader) -> bytes:
    """The body of the next message.

    Raises:
        asyncio.IncompleteReadError: the peer closed.
        ValueError: the peer announces more than any message of ours can hold; drop the connection.
    """
    size = int.from_bytes(await reader.readexactly(4), "big")
    if size > MESSAGE_MAX:
        raise ValueError(f"A message of {size} bytes is none of ours; the connection cannot be trusted further.")
    return await reader.readexactly(size)
