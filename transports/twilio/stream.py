"""A phone call's audio as a Pipecat transport: Twilio Media Streams over an accepted aiohttp WebSocket.

8 kHz μ-law both ways. Input arrives as 40 ms frames of 8 kHz PCM. Output is paced by an absolute clock with a
lead, so that a stall of this process shorter than the lead is not heard; a barge-in clears it at once.
The transport never ends the call: it has no access to the carrier's REST API.
"""

from __future__ import annotations

import asyncio
from typing import Any

import structlog
from aiohttp import WSCloseCode, WSMsgType
from aiohttp.web import WebSocketResponse
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    CancelFrame,
    ClientConnectedFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageFrame,
    OutputTransportMessageUrgentFrame,
    OutputTransportReadyFrame,
    StartFrame,
    StopFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from bots.audio import PHONE_HZ, mulaw_decode, mulaw_encode
from transports.twilio.errors import MalformedStream
from transports.twilio.line import Disconnect, Line
from transports.twilio.messages import Encoder, Received, StreamStart, broken_frame, decode
from transports.twilio.playout import Playout
from transports.twilio.sender import Sender, hand_on

BYTES_PER_MS = PHONE_HZ // 1000  # of μ-law
DTMF_DIGITS = frozenset("0123456789*#ABCD")

log = structlog.get_logger()


class MediaStreamParams(TransportParams):
    """A media stream's settings beside Pipecat's own.

    Parameters:
        audio_in_ms: Length of the frames pushed into the pipeline; Twilio's 20 ms are merged into it.
        lead_ms: How much audio may be outstanding at Twilio. 200 ms hide a stall of 100 ms and as much
            network jitter; a barge-in does not suffer, since `clear` empties Twilio's buffer.
        queue_seconds: How much unsent audio is held; a bot that produces more gets an error, not our memory.
        half_open_seconds: Silence after which the peer counts as gone; Twilio sends all the time.
        write_seconds: How long a write may wait for a peer that does not read.
        drain_seconds: How long an `EndFrame` waits for the echo of the last mark beyond its playing time.
        ahead_seconds: How far a peer's audio may run ahead of real time before it counts as a flood.
    """

    audio_in_enabled: bool = True
    audio_out_enabled: bool = True
    audio_in_sample_rate: int | None = PHONE_HZ
    audio_out_sample_rate: int | None = PHONE_HZ
    audio_out_end_silence_secs: int = 0
    audio_in_ms: int = 40
    lead_ms: float = 200.0
    queue_seconds: float = 120.0
    half_open_seconds: float = 5.0
    write_seconds: float = 2.0
    drain_seconds: float = 1.0
    ahead_seconds: float = 15.0


class MediaStreamTransport(BaseTransport):
    """The transport of one call. Build it after `read_start`, inside the running loop.

    Events, each called with the transport first:
        on_client_connected(): the pipeline runs and audio flows.
        on_client_disconnected(reason): once, unless we closed the line ourselves. `stop`: Twilio ended the
            stream; `closed`: a WebSocket close without it; `lost`: the connection broke or takes no data;
            `half_open`: it fell silent; `malformed`: the peer did not speak the protocol and was closed.
        on_mark(name): the audio before this mark was played to its end (never for a cleared one).
        on_dtmf(digit): a key was pressed; 0-9, *, # also enter the pipeline as `InputDTMFFrame`.
    """

    def __init__(self, ws: WebSocketResponse[Any], start: StreamStart, params: MediaStreamParams | None = None) -> None:
        super().__init__()
        self.start = start
        self.params = params or MediaStreamParams()
        self.playout = Playout(self.params.lead_ms, asyncio.get_running_loop().time)
        self.line = Line(
            ws,
            half_open_seconds=self.params.half_open_seconds,
            write_seconds=self.params.write_seconds,
            on_end=self._ended,
        )
        for event in ("on_client_connected", "on_client_disconnected", "on_mark", "on_dtmf"):
            self._register_event_handler(event)
        self._input = MediaStreamInput(self)
        self._output = MediaStreamOutput(self)

    def input(self) -> MediaStreamInput:
        """The pipeline's first processor."""
        return self._input

    def output(self) -> MediaStreamOutput:
        """The processor that plays; what it pushes on downstream has been sent."""
        return self._output

    async def tell(self, event: str, *details: Any) -> None:
        """Call an event's handlers, each in a task of its own."""
        await self._call_event_handler(event, *details)

    async def _ended(self, reason: Disconnect) -> None:
        self._output.wake()
        await self.tell("on_client_disconnected", reason)


class MediaStreamInput(BaseInputTransport):
    """Receives: audio, keys and mark echoes."""

    def __init__(self, transport: MediaStreamTransport) -> None:
        super().__init__(transport.params)
        self._stream = transport
        self._frame_bytes = transport.params.audio_in_ms * BYTES_PER_MS
        self._pending = b""
        self._received_bytes = 0
        self._started_at = 0.0
        self._receiver: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        if self._receiver is not None:
            return
        # No audio task of Pipecat's (`set_transport_ready`): its queue and timer per frame would only add a
        # hop between our receiver and the next processor's queue.
        self._started_at = self.get_event_loop().time()
        self._receiver = self.create_task(self._receive())
        self._stream.line.open(self._receiver)
        await self._stream.tell("on_client_connected")
        await self.push_frame(ClientConnectedFrame())

    async def stop(self, frame: EndFrame) -> None:
        # The receiver goes on: the output still waits for the echo of its last mark.
        self._paused = True

    async def pause(self, frame: StopFrame) -> None:
        self._paused = True

    async def cancel(self, frame: CancelFrame) -> None:
        self._paused = True
        self._stream.line.close_nowait()

    async def cleanup(self) -> None:
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self._stream.line.close()

    async def push_audio_frame(self, frame: InputAudioRawFrame) -> None:
        if not self._paused:
            await hand_on(self, frame)

    async def _receive(self) -> None:
        """Read until the line ends. Nothing that a peer sends gets out of here as an exception."""
        line = self._stream.line
        receive = line.ws.receive
        try:
            while not line.ended:
                message = await receive()
                if message.type is WSMsgType.TEXT:
                    line.heard()
                    await self._take(decode(message.data))
                elif message.type is WSMsgType.BINARY:
                    raise MalformedStream("binary frame", WSCloseCode.UNSUPPORTED_DATA)
                elif message.type is WSMsgType.CLOSE:
                    line.end("closed")
                elif message.type is WSMsgType.ERROR:
                    error = broken_frame(message.data)
                    line.end("lost" if error.code == WSCloseCode.ABNORMAL_CLOSURE else "malformed")
                else:  # end of file without a close frame: the peer's process or network died
                    line.end("lost")
        except MalformedStream as error:
            log.warning("media.malformed", code=error.code, reason=error.reason)
            line.end("malformed", error.code, error.reason)
        except Exception:
            log.exception("media.receiver_failed")
            line.end("lost", WSCloseCode.INTERNAL_ERROR, "receiver failed")

    async def _take(self, message: Received) -> None:
        media = message.media
        if message.event == "media" and media is not None:
            if media.track == "inbound":
                await self._take_audio(media.payload)
        elif message.event == "mark" and message.mark is not None:
            if self._stream.playout.echoed(message.mark.name):
                self._stream.output().echoed()
                await self._stream.tell("on_mark", message.mark.name)
        elif message.event == "dtmf" and message.dtmf is not None:
            await self._take_digit(message.dtmf.digit)
        elif message.event == "stop":
            self._stream.line.end("stop")
        elif message.event in ("start", "connected"):
            raise MalformedStream(f"a second '{message.event}' message")

    async def _take_audio(self, mulaw: bytes) -> None:
        self._received_bytes += len(mulaw)
        pending = self._pending + mulaw if self._pending else mulaw
        size = self._frame_bytes
        if len(pending) < size:
            self._pending = pending
            return
        elapsed = self.get_event_loop().time() - self._started_at
        if self._received_bytes / (1000 * BYTES_PER_MS) - elapsed > self._stream.params.ahead_seconds:
            raise MalformedStream("audio far ahead of real time", WSCloseCode.POLICY_VIOLATION)
        while len(pending) >= size:
            audio = mulaw_decode(pending[:size])
            pending = pending[size:]
            if not self._paused:
                await hand_on(self, InputAudioRawFrame(audio, PHONE_HZ, 1))
        self._pending = pending

    async def _take_digit(self, digit: str) -> None:
        if digit not in DTMF_DIGITS:
            raise MalformedStream("an unknown DTMF digit", WSCloseCode.INVALID_TEXT)
        await self._stream.tell("on_dtmf", digit)
        if not digit.isalpha() and not self._paused:  # A-D: Pipecat has no name for them
            await self.push_frame(InputDTMFFrame(KeypadEntry(digit)))


class MediaStreamOutput(BaseOutputTransport):
    """Sends: audio, marks and `clear`."""

    def __init__(self, transport: MediaStreamTransport) -> None:
        super().__init__(transport.params)
        self.params = transport.params
        self.line = transport.line
        self.playout = transport.playout
        self._encode = Encoder(transport.start.stream_sid)
        self._sleeper: asyncio.Future[None] | None = None
        self._generation = 0  # of speech; a barge-in starts the next
        self.interrupting = False
        self._marked = True
        self._marks = 0
        self._echo = asyncio.Event()

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        if not self._media_senders:
            await self.set_transport_ready(frame)

    async def set_transport_ready(self, frame: StartFrame) -> None:
        sender = Sender(self, self.params.queue_seconds)
        self._media_senders[None] = sender
        await sender.start(frame)
        await self.push_frame(OutputTransportReadyFrame(), FrameDirection.UPSTREAM)

    async def stop(self, frame: EndFrame) -> None:
        """Play out what is queued, wait (bounded) for the proof of it, close normally."""
        await super().stop(frame)
        if not self._marked:
            await self.mark()
        playout, line = self.playout, self.line
        left = playout.status().outstanding_ms / 1000 + self.params.drain_seconds
        try:
            async with asyncio.timeout(left):
                while playout.awaiting_echo and not line.ended:
                    self._echo.clear()
                    await self._echo.wait()
        except TimeoutError:
            log.info("media.last_mark_unconfirmed", waited_s=round(left, 2))
        await self._finish()
        await line.close()

    async def cancel(self, frame: CancelFrame) -> None:
        self._interrupt()
        self.line.close_nowait()
        await super().cancel(frame)

    async def cleanup(self) -> None:
        self._interrupt()
        await super().cleanup()  # type: ignore[no-untyped-call]
        await self.line.close()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, InterruptionFrame):
            await self._barge_in(frame, direction)
        else:
            await super().process_frame(frame, direction)

    async def _barge_in(self, frame: InterruptionFrame, direction: FrameDirection) -> None:
        # `clear` first: every millisecond is one that the bot talks over the caller. Pipecat empties its queues
        # only further on, and until then nothing of the old speech may slip out behind the `clear`.
        self.interrupting = True
        try:
            self._interrupt()
            if self.playout.clear():
                await self.line.send(self._encode.clear)
            await super().process_frame(frame, direction)
        finally:
            self.interrupting = False

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Send when its time has come; False if the line has ended or a barge-in overtook the frame."""
        line, playout = self.line, self.playout
        generation = self._generation
        while (wait := playout.wait_seconds()) > 0 and not line.ended:
            await self._sleep(wait)
            if generation != self._generation and frame.interruptible:
                return False
        if self.interrupting and frame.interruptible:
            return False
        mulaw = mulaw_encode(frame.audio)
        # Accounted for before the write, which may wait: a barge-in meanwhile must know of it.
        if line.ended:
            return False
        self._marked = False
        playout.sent(len(mulaw) / BYTES_PER_MS, protected=not frame.interruptible)
        return await line.send(self._encode.media(mulaw))

    async def mark(self, name: str | None = None) -> None:
        """Ask Twilio to say when everything sent so far has been played."""
        self._marks += 1
        self._marked = True
        name = name or f"mark-{self._marks}"
        self.playout.marked(name)
        await self.line.send(self._encode.mark(name))

    async def send_message(self, frame: OutputTransportMessageFrame | OutputTransportMessageUrgentFrame) -> None:
        """`{"event": "mark", "mark": {"name": ...}}` sets a mark; Twilio knows no other message."""
        match frame.message:
            case {"event": "mark", "mark": {"name": str(name)}}:
                await self.mark(name)
            case _:
                log.warning("media.message_not_sent", kind=type(frame.message).__name__)

    async def _finish(self) -> None:
        for sender in self._media_senders.values():
            if isinstance(sender, Sender):
                await sender.finish()

    def echoed(self) -> None:
        """A mark came back."""
        self._echo.set()

    def wake(self) -> None:
        """The line ended: let nothing wait for it."""
        self._echo.set()
        self._release()

    def _interrupt(self) -> None:
        self._generation += 1
        self._release()

    def _release(self) -> None:
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def _sleep(self, seconds: float) -> None:
        loop = self.get_event_loop()
        self._sleeper = sleeper = loop.create_future()
        alarm = loop.call_later(seconds, _wake, sleeper)
        try:
            await sleeper
        finally:
            alarm.cancel()
            self._sleeper = None


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)
