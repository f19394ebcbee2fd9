"""What two processes say to each other on a link: tagged msgpack arrays, each behind a four-byte length."""

from __future__ import annotations

from typing import Any, Final, dataclass_transform

import msgspec

FRAME_BYTES_MAX: Final = 2 << 20


@dataclass_transform(frozen_default=True)
class Frame(msgspec.Struct, array_like=True, frozen=True):
    """Base of all frames."""


class Begin(Frame, tag="begin"):
    """The supervisor's first word to a child: who it is and what it runs."""

    name: str
    entry: str
    args: dict[str, Any]
    fds: list[str]
    grace_s: float


class Hello(Frame, tag="hello"):
    """The child's system is up."""

    pid: int


class Ready(Frame, tag="ready"):
    """The entry says that it does its work."""


class Stop(Frame, tag="stop"):
    """End in order."""

    reason: str


class Tell(Frame, tag="tell"):
    id: int
    address: str
    tag: str
    body: bytes
    timeout_s: float


class Ask(Frame, tag="ask"):
    id: int
    address: str
    tag: str
    body: bytes
    timeout_s: float


class Answer(Frame, tag="answer"):
    """Settles a tell, ask, claim or names; an empty tag is no message."""

    id: int
    tag: str = ""
    body: bytes = b""


class Failure(Frame, tag="failure"):
    id: int
    error: str
    detail: str


class Watch(Frame, tag="watch"):
    id: int
    address: str


class Unwatch(Frame, tag="unwatch"):
    id: int


class Fell(Frame, tag="fell"):
    """The watched actor is down."""

    id: int
    reason: str
    crashed: bool


class Claim(Frame, tag="claim"):
    id: int
    name: str


class Release(Frame, tag="release"):
    name: str


class Names(Frame, tag="names"):
    """Answered with tag `names` and a msgpack list of strings."""

    id: int
    prefix: str


class Ping(Frame, tag="ping"):
    id: int


class Pong(Frame, tag="pong"):
    id: int
    lag_p50_ms: float
    lag_p99_ms: float
    report: bytes


AnyFrame = (
    Begin
    | Hello
    | Ready
    | Stop
    | Tell
    | Ask
    | Answer
    | Failure
    | Watch
    | Unwatch
    | Fell
    | Claim
    | Release
    | Names
    | Ping
    | Pong
)

_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final[msgspec.msgpack.Decoder[AnyFrame]] = msgspec.msgpack.Decoder(AnyFrame)


def pack(frame: AnyFrame) -> bytes:
    """Length and body of a frame. ValueError when it is too large."""
    body = _encoder.encode(frame)
    if len(body) > FRAME_BYTES_MAX:
        raise ValueError(f"a frame of {len(body)} bytes")
    return len(body).to_bytes(4, "big") + body


def unpack(body: bytes | memoryview) -> AnyFrame:
    """The frame in a body; `msgspec.MsgspecError` when it is none."""
    return _decoder.decode(body)
