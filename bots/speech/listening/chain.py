"""Listening with more than one provider: a stretch of voice that one does not answer for, the next one does.

The audio of each stretch is kept until it is answered, so a failover loses no word, and each stretch is
answered exactly once whatever late results still come in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    StartFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup

from bots.models.port import ModelError, fault
from bots.speech.failover import bench, in_order
from bots.speech.frames import NotUnderstoodFrame
from bots.speech.listening.preroll import LEAD_S, RATE_HZ, PreRoll
from bots.speech.mount import Mount

log = structlog.get_logger()
ANSWER_S = 0.6  # after the voice stopped; the dialogue itself waits a second


@dataclass(eq=False, slots=True)
class _Stretch:
    """One stretch of the caller's voice and who answers for it."""

    started: VADUserStartedSpeakingFrame
    audio: list[bytes]
    mount: Mount
    tried: list[Mount] = field(default_factory=list)
    stopped: VADUserStoppedSpeakingFrame | None = None
    stopped_at: float = 0.0
    timer: asyncio.TimerHandle | None = None


class ListenerChain(FrameProcessor):
    """Pushes one finalized `TranscriptionFrame` or `NotUnderstoodFrame` for each stretch of voice.

    Args:
        mounts: the providers, best first.
        answer_s: how long after the voice stopped a provider has for its transcript.
    """

    def __init__(self, mounts: Sequence[Mount], answer_s: float = ANSWER_S) -> None:
        super().__init__(name="listener", enable_direct_mode=True)
        self._mounts = tuple(mounts)
        self._answer_s = answer_s
        self._setup_with: FrameProcessorSetup | None = None
        self._before = PreRoll()
        self._current = self._mounts[0]
        self._open: list[_Stretch] = []
        self._voice: _Stretch | None = None

    def expect(self, phrases: Sequence[str]) -> None:
        """Tell the engines that care what is likely to be said next."""
        for mount in self._mounts:
            if hasattr(mount.service, "expect"):
                mount.service.expect(phrases)

    def status(self) -> dict[str, Any]:
        """The providers as this process sees them."""
        return {mount.name: mount.breaker.state(time.monotonic()) for mount in self._mounts}

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        await super().setup(setup)
        self._setup_with = setup

    async def cleanup(self) -> None:
        self._forget()
        await super().cleanup()  # type: ignore[no-untyped-call]
        await asyncio.gather(*(mount.close() for mount in self._mounts))

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, InputAudioRawFrame) and direction is FrameDirection.DOWNSTREAM:
            await self._hear(frame)
            return
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        match frame:
            case StartFrame():
                assert self._setup_with is not None
                for mount in self._mounts:
                    await mount.open(self._setup_with, frame, self._returned)
            case VADUserStartedSpeakingFrame():
                await self._begin(frame)
            case VADUserStoppedSpeakingFrame():
                await self._finish(frame)
            case UserStartedSpeakingFrame() | UserStoppedSpeakingFrame():
                for mount in self._mounts:
                    if mount.ready.is_set():
                        await mount.give(frame)
            case EndFrame() | CancelFrame():
                self._forget()

    async def _hear(self, frame: InputAudioRawFrame) -> None:
        if self._voice is None:
            self._before.hear(frame.audio)
        else:
            self._voice.audio.append(frame.audio)
        if self._current.ready.is_set():
            await self._current.give(frame)

    async def _begin(self, frame: VADUserStartedSpeakingFrame) -> None:
        if self._voice is not None:
            return
        now = time.monotonic()
        best = next((m for m in in_order(self._mounts, now) if m.ready.is_set()), self._mounts[-1])
        if best.breaker.state(now) == "due":
            best.breaker.begin_probe()
        self._voice = stretch = _Stretch(frame, [self._before.take(frame.start_secs)], best)
        self._open.append(stretch)
        if best is self._current:
            stretch.tried.append(best)
            await best.give(frame)
        else:
            await self._replay(stretch, best)

    async def _finish(self, frame: VADUserStoppedSpeakingFrame) -> None:
        stretch, self._voice = self._voice, None
        if stretch is None:
            await self.push_frame(NotUnderstoodFrame())
            return
        stretch.stopped, stretch.stopped_at = frame, time.monotonic()
        self._arm(stretch)
        await stretch.mount.give(frame)

    async def _replay(self, stretch: _Stretch, mount: Mount) -> None:
        """Have another provider hear the stretch from its beginning, and go on with it."""
        stretch.mount = mount
        stretch.tried.append(mount)
        if stretch is self._voice:
            self._current = mount
        # The engine takes what comes before the onset for its own lead.
        lead, rest = b"".join(stretch.audio), b""
        cut = int((stretch.started.start_secs + LEAD_S) * RATE_HZ) * 2
        lead, rest = lead[:cut], lead[cut:]
        await mount.give(InputAudioRawFrame(lead, RATE_HZ, 1))
        await mount.give(VADUserStartedSpeakingFrame(start_secs=stretch.started.start_secs))
        if rest:
            await mount.give(InputAudioRawFrame(rest, RATE_HZ, 1))
        if stretch.stopped is not None:
            self._arm(stretch)
            await mount.give(VADUserStoppedSpeakingFrame(stop_secs=stretch.stopped.stop_secs))

    def _arm(self, stretch: _Stretch) -> None:
        if stretch.timer is not None:
            stretch.timer.cancel()
        stretch.timer = asyncio.get_running_loop().call_later(self._answer_s, self._late, stretch)

    def _late(self, stretch: _Stretch) -> None:
        self.create_task(self._failed(stretch.mount, fault(stretch.mount.name, "no transcript", late=True)))

    async def _failed(self, mount: Mount, error: ModelError) -> None:
        mine = [stretch for stretch in self._open if stretch.mount is mount]
        if not mine:
            log.info("listener_complains", provider=mount.name, error=str(error))
            return
        log.warning("listener_failed", provider=mount.name, error=f"{error.kind}: {error}")
        bench(mount, error, time.monotonic())
        if hasattr(mount.service, "abandon"):
            mount.service.abandon()
        for stretch in mine:
            others = (
                m for m in in_order(self._mounts, time.monotonic()) if m not in stretch.tried and m.ready.is_set()
            )
            other = next(others, None)
            if other is not None:
                await self._replay(stretch, other)
            elif stretch.stopped is not None:
                await self._answer(stretch, NotUnderstoodFrame())

    async def _returned(self, mount: Mount, frame: Frame) -> None:
        match frame:
            case ErrorFrame():
                await self._failed(mount, fault(mount.name, frame.error))
            case InterimTranscriptionFrame() if mount is self._current:
                await self.push_frame(frame)
            case TranscriptionFrame() | NotUnderstoodFrame():
                stretch = next((s for s in self._open if s.mount is mount), None)
                if stretch is None or stretch.stopped is None:
                    log.info("transcript_of_nothing", provider=mount.name)
                    return
                mount.breaker.answered(time.monotonic() - stretch.stopped_at)
                await self._answer(stretch, frame)

    async def _answer(self, stretch: _Stretch, frame: Frame) -> None:
        self._open.remove(stretch)
        if stretch.timer is not None:
            stretch.timer.cancel()
        stretch.mount.breaker.end_probe()
        if isinstance(frame, TranscriptionFrame):
            frame.finalized = True
        await self.push_frame(frame)

    def _forget(self) -> None:
        for stretch in self._open:
            stretch.mount.breaker.end_probe()
            if stretch.timer is not None:
                stretch.timer.cancel()
        self._open.clear()
        self._voice = None
