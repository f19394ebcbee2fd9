"""What the doubles of speech providers share: sound that carries words, and faults to order.

A word here is a tone of 60 ms whose level is its number, with 20 ms of silence after it: a double can read the
words back from the samples, so that a lost or doubled word shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

import numpy as np
from aiohttp import web
from pipecat.clocks.system_clock import SystemClock
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    StartFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import PipelineSink, PipelineSource
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup
from pipecat.utils.asyncio.task_manager import TaskManager

RATE_HZ = 8000
FRAME_BYTES = 320
_STEP = 200
_TONE, _GAP = 480, 160  # samples

FaultKind = Literal["status", "drop", "hang", "hang_upgrade", "late", "quota"]


@dataclass(slots=True)
class Fault:
    """One fault: `status` at the upgrade or request, `drop` the socket after `after` messages or bytes, `hang`
    without a word, be `late` by `seconds`, or report that the `quota` is used up. It strikes `times` times.
    """

    kind: FaultKind
    status: int = 503
    after: int = 0
    seconds: float = 0.0
    times: int = 1


@dataclass
class Double:
    """An HTTP server on a free port of this machine. `async with Double() as double: double.url`."""

    faults: list[Fault] = field(default_factory=list)
    connections: int = 0
    refusing: bool = False
    _runner: web.AppRunner | None = None
    _port: int = 0
    _sockets: set[web.WebSocketResponse] = field(default_factory=set)
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        raise NotImplementedError

    @property
    def url(self) -> str:
        """The address for sockets."""
        return f"ws://127.0.0.1:{self._port}"

    @property
    def api_url(self) -> str:
        """The address for requests."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._gate])
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._released.set()
        self.drop()
        assert self._runner is not None
        await self._runner.cleanup()

    def drop(self) -> None:
        """Cut every connection, as a network does: no close frame."""
        for socket in list(self._sockets):
            self.abort(socket)

    def abort(self, socket: web.WebSocketResponse) -> None:
        """Cut one connection."""
        transport = socket._req.transport if socket._req is not None else None
        if transport is not None:
            transport.abort()

    def struck(self, kind: FaultKind) -> Fault | None:
        """The next fault of this kind, used up by asking."""
        for fault in self.faults:
            if fault.kind == kind and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    async def hang(self) -> None:
        """Say nothing until the double is taken down."""
        await self._released.wait()

    @web.middleware
    async def _gate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.connections += 1
        if self.refusing and request.transport is not None:
            request.transport.abort()
            raise web.HTTPServiceUnavailable
        if self.struck("hang_upgrade"):
            await self.hang()
        if fault := self.struck("status"):
            return web.json_response(
                {"detail": {"status": "fault", "message": f"status {fault.status}"}}, status=fault.status
            )
        response: web.StreamResponse = await handler(request)
        return response


async def until(look: Callable[[], bool], seconds: float = 8.0) -> None:
    """Wait until `look` is true of something that tells nobody when it changes."""
    async with asyncio.timeout(seconds):
        while True:
            if look():
                return
            await asyncio.sleep(0.01)


def sound_of(words: Sequence[int]) -> bytes:
    """8 kHz PCM that says these words, numbers from 1 to 100."""
    pieces = [np.r_[np.full(_TONE, word * _STEP), np.zeros(_GAP)] for word in words]
    return np.concatenate(pieces).astype("<i2").tobytes() if pieces else b""


def words_in(pcm: bytes) -> list[int]:
    """The words in sound made by `sound_of`, whole ones only."""
    samples = np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2")
    edges = np.flatnonzero(np.diff(np.r_[0, samples != 0, 0]))
    starts, ends = edges[0::2], edges[1::2]
    return [round(float(samples[a]) / _STEP) for a, b in zip(starts, ends, strict=True) if b - a > _TONE // 2]


def frames_of(pcm: bytes) -> list[bytes]:
    """The sound in frames of 20 ms, as a telephone line brings it."""
    return [pcm[at : at + FRAME_BYTES] for at in range(0, len(pcm), FRAME_BYTES)]


class Stage:
    """A processor by itself, between a source and a sink: `async with Stage(processor) as stage`."""

    def __init__(self, processor: FrameProcessor) -> None:
        self.processor = processor
        self.down: list[Frame] = []
        self.up: list[Frame] = []
        self._tasks = TaskManager()
        self._grown = asyncio.Condition()
        self._source = PipelineSource(self._pushed_up)
        self._sink = PipelineSink(self._pushed_down)
        self._source.link(processor)
        processor.link(self._sink)

    async def __aenter__(self) -> Self:
        setup = FrameProcessorSetup(
            clock=SystemClock(),  # type: ignore[no-untyped-call]
            task_manager=self._tasks,
            pipeline_worker=cast(Any, None),
            audio_in_sample_rate=RATE_HZ,
            audio_out_sample_rate=RATE_HZ,
        )
        setup.clock.start()  # type: ignore[no-untyped-call]
        for processor in (self._source, self._sink, self.processor):
            await processor.setup(setup)
        await self.give(StartFrame(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ))
        await self.wait(StartFrame)
        return self

    async def __aexit__(self, *_: object) -> None:
        for processor in (self._source, self.processor, self._sink):
            await processor.cleanup()  # type: ignore[no-untyped-call]

    async def give(self, *frames: Frame) -> None:
        """Push frames into the processor."""
        for frame in frames:
            await self._source.queue_frame(frame, FrameDirection.DOWNSTREAM)

    async def say(self, pcm: bytes, *, pace: float = 0.0) -> None:
        """A stretch of the caller's voice, as turn taking announces it; `pace` is seconds between frames."""
        await self.give(VADUserStartedSpeakingFrame(start_secs=0.1))
        for piece in frames_of(pcm):
            await self.give(InputAudioRawFrame(piece, RATE_HZ, 1))
            await asyncio.sleep(pace)
        await self.give(VADUserStoppedSpeakingFrame(stop_secs=0.2))

    async def speak(self, *clauses: str) -> None:
        """A reply of the bot, clause by clause."""
        await self.give(LLMFullResponseStartFrame())
        for clause in clauses:
            await self.give(LLMTextFrame(clause + " "))
        await self.give(LLMFullResponseEndFrame())

    async def wait(self, *kinds: type[Frame], count: int = 1, seconds: float = 8.0) -> list[Any]:
        """The frames of these kinds that came out so far, once there are `count` of them."""
        async with self._grown:
            try:
                async with asyncio.timeout(seconds):
                    await self._grown.wait_for(lambda: len(self.out(*kinds)) >= count)
            except TimeoutError:
                came = [type(frame).__name__ for frame in self.down]
                raise AssertionError(f"{count} of {kinds} expected; came: {came}") from None
        return self.out(*kinds)

    async def complaint(self, seconds: float = 8.0) -> str:
        """The first error that went upstream."""
        async with asyncio.timeout(seconds), self._grown:
            await self._grown.wait_for(lambda: any(isinstance(frame, ErrorFrame) for frame in self.up))
        return next(frame.error for frame in self.up if isinstance(frame, ErrorFrame))

    def out(self, *kinds: type[Frame]) -> list[Any]:
        """The frames of these kinds that came out so far."""
        return [frame for frame in self.down if isinstance(frame, kinds)]

    async def _pushed_down(self, frame: Frame, _direction: FrameDirection) -> None:
        async with self._grown:
            self.down.append(frame)
            self._grown.notify_all()

    async def _pushed_up(self, frame: Frame, _direction: FrameDirection) -> None:
        async with self._grown:
            self.up.append(frame)
            self._grown.notify_all()
