"""The wire of Twilio Media Streams, both ways: typed decoding of what arrives, encoding of what we send.

Messages are JSON text frames (Twilio: "Media Streams - WebSocket Messages"). Unknown events and fields are
ignored, because Twilio adds some without notice; a known event of the wrong shape is `MalformedStream`.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import msgspec
from aiohttp import WebSocketError, WSCloseCode, WSMsgType
from aiohttp.web import WebSocketResponse

from bots.audio import PHONE_HZ
from transports.twilio.errors import MalformedStream

__all__ = [
    "Encoder",
    "MalformedStream",
    "MediaFormat",
    "Received",
    "StreamStart",
    "broken_frame",
    "close",
    "decode",
    "media_socket",
    "read_start",
]

MULAW = "audio/x-mulaw"
MAX_MESSAGE_BYTES = 32 * 1024  # Twilio's own messages have a few hundred; customParameters are the longest
CLOSE_REASON_BYTES = 123  # RFC 6455 §5.5: what a close frame can carry beside its code
CLOSE_SECONDS = 1.0  # how long the peer may take to answer our close frame


class MediaFormat(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What the audio of a stream is; only 8 kHz mono μ-law exists today."""

    encoding: str = MULAW
    sample_rate: int = PHONE_HZ
    channels: int = 1


class StreamStart(msgspec.Struct, frozen=True):
    """What Twilio says about a stream before its first audio: who calls, and the TwiML's `<Parameter>`s."""

    stream_sid: str
    call_sid: str
    account_sid: str
    custom_parameters: dict[str, str] = {}
    media_format: MediaFormat = MediaFormat()


class _Start(msgspec.Struct, rename="camel"):
    stream_sid: str
    call_sid: str
    account_sid: str
    custom_parameters: dict[str, str] = {}
    media_format: MediaFormat = MediaFormat()


class _Media(msgspec.Struct, gc=False):
    payload: bytes  # msgspec decodes base64, strictly
    track: str = "inbound"


class _Mark(msgspec.Struct, gc=False):
    name: str = ""


class _Dtmf(msgspec.Struct, gc=False):
    digit: str


class Received(msgspec.Struct, rename="camel"):
    """One message from Twilio; the field named like its event is set."""

    event: str
    stream_sid: str = ""
    start: _Start | None = None
    media: _Media | None = None
    mark: _Mark | None = None
    dtmf: _Dtmf | None = None


_decoder = msgspec.json.Decoder(Received, strict=False)


class MediaSocket(WebSocketResponse[bool]):
    """Says why it closes also where aiohttp closes by itself: on a frame that breaks the WebSocket protocol."""

    async def close(self, *, code: int = WSCloseCode.OK, message: bytes = b"", drain: bool = True) -> bool:
        if not message and code != WSCloseCode.OK and not self._closing:
            message = b"broken WebSocket frame"
        return await super().close(code=code, message=message, drain=drain)


def media_socket() -> MediaSocket:
    """A WebSocket response set up for a media stream; give it to `prepare` and then to `read_start`.

    Uncompressed (compression costs more than it saves on μ-law), text left as bytes for the typed decoder,
    and the size limit a little above ours, so that an oversized message is closed by us, with a reason.
    """
    return MediaSocket(
        compress=False,
        decode_text=False,
        max_msg_size=2 * MAX_MESSAGE_BYTES,
        timeout=CLOSE_SECONDS,
        writer_limit=4096,
    )


def decode(data: str | bytes) -> Received:
    """Parse one text frame.

    Raises:
        MalformedStream: it is too long, no JSON, or a known event of the wrong shape; the peer's fault.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise MalformedStream(f"message over {MAX_MESSAGE_BYTES} bytes", WSCloseCode.MESSAGE_TOO_BIG)
    try:
        message = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise MalformedStream(f"not a media stream message: {error}", WSCloseCode.INVALID_TEXT) from error
    if message.event in _BODIES and getattr(message, message.event) is None:
        raise MalformedStream(f"'{message.event}' without its body", WSCloseCode.INVALID_TEXT)
    return message


_BODIES = frozenset({"start", "media", "mark", "dtmf"})


class Encoder:
    """Builds what we send on one stream; the parts that never change are built once."""

    def __init__(self, stream_sid: str) -> None:
        sid = msgspec.json.encode(stream_sid)
        self._media = b'{"event":"media","streamSid":' + sid + b',"media":{"payload":"'
        self._mark = b'{"event":"mark","streamSid":' + sid + b',"mark":{"name":'
        self.clear = b'{"event":"clear","streamSid":' + sid + b"}"

    def media(self, mulaw: bytes) -> bytes:
        """Audio to play after what was sent before."""
        return self._media + base64.b64encode(mulaw) + b'"}}'

    def mark(self, name: str) -> bytes:
        """A mark that Twilio echoes when everything sent before it has been played or cleared."""
        return self._mark + msgspec.json.encode(name) + b"}}"


async def read_start(ws: WebSocketResponse[Any], timeout: float = 10.0) -> StreamStart:
    """Read an accepted WebSocket up to its `start` message; nothing after it is consumed.

    Raises:
        MalformedStream: the peer sent something else, went away, or was silent for `timeout` seconds; the
            socket has been closed with the error's code and reason.
    """
    try:
        async with asyncio.timeout(timeout):
            return await _read_start(ws)
    except TimeoutError:
        error = MalformedStream(f"no start message within {timeout:g} s", WSCloseCode.POLICY_VIOLATION)
    except MalformedStream as malformed:
        error = malformed
    await close(ws, error.code, error.reason)
    raise error


async def _read_start(ws: WebSocketResponse[Any]) -> StreamStart:
    while True:
        message = await ws.receive()
        if message.type is WSMsgType.BINARY:
            raise MalformedStream("binary frame", WSCloseCode.UNSUPPORTED_DATA)
        if message.type is WSMsgType.ERROR:
            raise broken_frame(message.data)
        if message.type is not WSMsgType.TEXT:
            raise MalformedStream("closed before its start message")
        received = decode(message.data)
        if received.event == "connected":
            continue
        body = received.start
        if received.event != "start" or body is None:
            raise MalformedStream(f"'{received.event}' before the start message")
        if body.media_format != MediaFormat():
            raise MalformedStream("only 8 kHz mono μ-law is spoken here", WSCloseCode.UNSUPPORTED_DATA)
        if not (body.stream_sid and body.call_sid):
            raise MalformedStream("a start message without streamSid or callSid")
        return StreamStart(
            stream_sid=body.stream_sid,
            call_sid=body.call_sid,
            account_sid=body.account_sid,
            custom_parameters=body.custom_parameters,
            media_format=body.media_format,
        )


def broken_frame(cause: object) -> MalformedStream:
    """The error for a frame that broke the WebSocket protocol itself; aiohttp has closed the socket."""
    if isinstance(cause, WebSocketError):
        return MalformedStream(f"broken WebSocket frame: {cause}", cause.code)
    return MalformedStream(f"connection failed: {cause}", WSCloseCode.ABNORMAL_CLOSURE)


async def close(ws: WebSocketResponse[Any], code: int, reason: str) -> None:
    """Close with a code and a reason, wait `CLOSE_SECONDS` for the peer's answer, then drop the connection.

    Must not run while another task sits in `ws.receive()`: aiohttp would then close the TCP connection
    without waiting, and audio still arriving would turn that into a reset that destroys our close frame.
    """
    request = ws._req  # the only way to the connection; aiohttp's minor version is pinned for such reasons
    connection = request.transport if request is not None else None
    message = reason.encode()[:CLOSE_REASON_BYTES].decode(errors="ignore").encode()
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await ws.close(code=code, message=message)
    except (TimeoutError, ConnectionError, RuntimeError):
        pass
    finally:
        # A peer that stopped reading would keep a closing connection open until TCP itself gives up.
        if connection is not None and (not connection.is_closing() or connection.get_write_buffer_size()):
            connection.abort()
