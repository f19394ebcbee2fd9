"""One media stream over a real socket: a pipeline behind our transport, and a Twilio that the test drives by hand."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from pipecat.frames.frames import CancelFrame, EndFrame, Frame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.asyncio.task_manager import TaskManager
from pipecat.workers.base_worker import WorkerParams

from transports.twilio.errors import MalformedStream
from transports.twilio.messages import media_socket, read_start
from transports.twilio.stream import MediaStreamParams, MediaStreamTransport

STREAM = "MZ00000000000000000000000000000001"
START = {
    "event": "start",
    "sequenceNumber": "1",
    "streamSid": STREAM,
    "start": {
        "accountSid": "AC0",
        "streamSid": STREAM,
        "callSid": "CA0",
        "tracks": ["inbound"],
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"ticket": "t"},
    },
}
PATIENCE_SECONDS = 10.0


class Tap(FrameProcessor):
    """Keeps every frame that passes, and with it how the output stood at that moment."""

    def __init__(self, call: MediaCall, absorbs: bool = False) -> None:
        super().__init__()
        self._call = call
        self._absorbs = absorbs
        self.frames: list[Frame] = []

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.frames.append(frame)
        self._call.happened()
        await self.push_frame(frame, direction)

    def of(self, *kinds: type[Frame]) -> list[Frame]:
        return [frame for frame in self.frames if isinstance(frame, kinds)]


class MediaCall:
    """Everything a test can see of one stream."""

    def __init__(self, params: MediaStreamParams | None) -> None:
        self.params = params
        self.transport: MediaStreamTransport
        self.worker: PipelineWorker
        self.running: asyncio.Task[None]
        self.ws: aiohttp.ClientWebSocketResponse
        self.server_connection: asyncio.Transport
        self.heard = Tap(self)
        self.spoken = Tap(self)
        self.reasons: list[str] = []
        self.marks: list[str] = []
        self.digits: list[str] = []
        self.refusal: MalformedStream | None = None
        self.ready = asyncio.Event()
        self._pulse = asyncio.Event()

    def happened(self) -> None:
        self._pulse.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something that is recorded here makes `condition` true."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._pulse.clear()
                await self._pulse.wait()

    async def queue(self, *frames: Frame) -> None:
        await self.worker.queue_frames(list(frames))

    async def send(self, message: dict[str, Any]) -> None:
        await self.ws.send_str(json.dumps(message))

    async def send_audio(self, mulaw: bytes, **media: str) -> None:
        payload = base64.b64encode(mulaw).decode()
        await self.send({"event": "media", "streamSid": STREAM, "media": {"payload": payload, **media}})

    async def echo(self, name: str) -> None:
        await self.send({"event": "mark", "streamSid": STREAM, "mark": {"name": name}})

    async def receive(self) -> dict[str, Any] | None:
        """The next message we sent; None once the socket is closed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            message = await self.ws.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            return None
        received: dict[str, Any] = json.loads(message.data)
        return received

    async def receive_until(self, event: str) -> list[dict[str, Any]]:
        """What we sent up to and with the next `event`."""
        received: list[dict[str, Any]] = []
        while message := await self.receive():
            received.append(message)
            if message["event"] == event:
                return received
        raise AssertionError(f"the socket closed before '{event}'")

    async def serve(self, request: web.Request) -> web.StreamResponse:
        connection = request.transport
        assert connection is not None
        self.server_connection = connection
        ws = media_socket()
        await ws.prepare(request)
        try:
            start = await read_start(ws, 1.0)
        except MalformedStream as refusal:
            self.refusal = refusal
            self.ready.set()
            return ws
        self._run(ws, start)
        # The test server cancels handlers whose connection is lost; the call must see that for itself.
        await asyncio.shield(self.running)
        return ws

    def _run(self, ws: web.WebSocketResponse[Any], start: Any) -> None:
        self.transport = transport = MediaStreamTransport(ws, start, self.params)
        transport.add_event_handler("on_client_connected", lambda _: self.ready.set())
        for event, kept in (
            ("on_client_disconnected", self.reasons),
            ("on_mark", self.marks),
            ("on_dtmf", self.digits),
        ):
            transport.add_event_handler(event, self._keeper(kept))
        self.worker = PipelineWorker(
            Pipeline([transport.input(), self.heard, transport.output(), self.spoken]),
            params=PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000),
            enable_rtvi=False,
            enable_turn_tracking=False,
            idle_timeout_secs=None,
            cancel_runner_on_idle_timeout=False,
        )
        self.running = asyncio.create_task(self.worker.run(WorkerParams(task_manager=TaskManager())))

    def _keeper(self, kept: list[str]) -> Callable[[Any, str], None]:
        def keep(_: Any, value: str) -> None:
            kept.append(value)
            self.happened()

        return keep


@asynccontextmanager
async def media_server(params: MediaStreamParams | None = None) -> AsyncIterator[tuple[MediaCall, Any]]:
    """A server for one stream, and its address; whoever connects speaks first."""
    call = MediaCall(params)
    app = web.Application()
    app.router.add_get("/media", call.serve)
    async with TestServer(app) as server:
        try:
            yield call, server.make_url("/media")
        finally:
            if hasattr(call, "running"):
                await call.queue(CancelFrame())
                await asyncio.wait((call.running,), timeout=PATIENCE_SECONDS)
                assert call.running.done()


@asynccontextmanager
async def media_call(params: MediaStreamParams | None = None) -> AsyncIterator[MediaCall]:
    """A stream that has started and whose pipeline runs."""
    async with media_server(params) as (call, url), aiohttp.ClientSession() as session, session.ws_connect(url) as ws:
        call.ws = ws
        await call.send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        await call.send(START)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await call.ready.wait()
        yield call


async def ended(call: MediaCall) -> None:
    """End the call from our side and wait for the pipeline to be over."""
    await call.queue(EndFrame())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.wait((call.running,))
