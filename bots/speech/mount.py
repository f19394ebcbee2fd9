"""A Pipecat service run inside another processor: frames are given to it, what it pushes comes back to us.

A chain mounts each of its engines this way, so that an engine's failure, hang or slow connection is the chain's
business and never the call's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from pipecat.frames.frames import Frame, StartFrame
from pipecat.pipeline.pipeline import PipelineSink, PipelineSource
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup

from bots.models.breaker import Breaker

log = structlog.get_logger()
OPEN_SECONDS = 0.02
CLOSE_SECONDS = 1.0  # a provider that does not answer may not hold up the end of a call

Handler = Callable[["Mount", Frame], Awaitable[None]]


class Mount:
    """One engine of a chain: the service, its name for people, and its record with this process.

    Args:
        service: the Pipecat service.
        breaker: whether it is asked at all; shared by the calls of a process.
    """

    def __init__(self, service: FrameProcessor, breaker: Breaker) -> None:
        self.service = service
        self.breaker = breaker
        self.ready = asyncio.Event()
        self.quiet = asyncio.Event()  # not set: told to drop what it was saying, and still doing so
        self.quiet.set()
        self._inlet = PipelineSource(self._pushed, name=f"{service.name}::in")
        self._outlet = PipelineSink(self._pushed, name=f"{service.name}::out")
        self._inlet.link(service)
        service.link(self._outlet)
        self._handler: Handler | None = None
        self._raising: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        return self.breaker.provider

    async def open(self, setup: FrameProcessorSetup, start: StartFrame, handler: Handler) -> None:
        """Set the service up, in the background if it takes time; `ready` is set once it can work."""
        self._handler = handler
        self._raising = setup.task_manager.create_task(self._raise(setup, start), f"{self.name}::open")
        await asyncio.wait({self._raising}, timeout=OPEN_SECONDS)

    async def give(self, frame: Frame) -> None:
        """Hand the service a frame."""
        await self._inlet.queue_frame(frame, FrameDirection.DOWNSTREAM)

    async def close(self) -> None:
        """Take the service down, within a deadline."""
        self._handler = None
        raising, self._raising = self._raising, None
        if raising is not None and not raising.done():
            raising.cancel()
            await asyncio.wait({raising}, timeout=CLOSE_SECONDS)
        for processor in (self._inlet, self.service, self._outlet):
            try:
                async with asyncio.timeout(CLOSE_SECONDS):
                    await processor.cleanup()  # type: ignore[no-untyped-call]
            except Exception as error:
                log.warning("engine_not_closed", engine=self.name, error=repr(error))

    async def _raise(self, setup: FrameProcessorSetup, start: StartFrame) -> None:
        try:
            for processor in (self._inlet, self._outlet, self.service):
                await processor.setup(setup)
            await self.give(start)
        except Exception as error:
            log.warning("engine_not_set_up", engine=self.name, error=repr(error))
            return
        self.ready.set()

    async def _pushed(self, frame: Frame, _direction: FrameDirection) -> None:
        if self._handler is not None:
            await self._handler(self, frame)
