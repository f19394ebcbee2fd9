"""The voice of a call: clause by clause through the first provider that answers in time.

A clause whose first sound is late, or that breaks off, is gone on with by the next provider, from the first
word that was not passed on yet. Words travel in order with their sound, so what is behind the output was heard.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from typing import Any

import structlog
from pipecat.frames.frames import (
    AggregatedTextFrame,
    CancelFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    StartFrame,
    TextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup

from bots.models.port import ModelError, fault
from bots.speech.failover import bench, in_order
from bots.speech.mount import Mount

log = structlog.get_logger()
FIRST_SOUND_S = 1.0
STALL_S = 1.5  # below the 3 s after which Pipecat takes silence for the end and all words for spoken


class VoiceChain(FrameProcessor):
    """Speaks every text frame as one clause. Pushes `TTSStartedFrame`, sound and words, `TTSStoppedFrame`.

    Args:
        mounts: the providers, best first.
        first_sound_s: how long a clause may take to begin.
        stall_s: how long it may fall silent.
    """

    def __init__(self, mounts: Sequence[Mount], first_sound_s: float = FIRST_SOUND_S, stall_s: float = STALL_S) -> None:
        super().__init__(name="voice")
        self._mounts = tuple(mounts)
        self._first_sound_s, self._stall_s = first_sound_s, stall_s
        self._setup_with: FrameProcessorSetup | None = None
        self._utterance = ""
        self._speaking = False
        self._active: Mount | None = None
        self._inbox: asyncio.Queue[Frame] = asyncio.Queue()
        self.characters: Counter[str] = Counter()  # given to each provider, as it will bill them

    def status(self) -> dict[str, Any]:
        """The providers as this process sees them, and the characters they were given in this call."""
        now = time.monotonic()
        return {m.name: (m.breaker.state(now), self.characters[m.name]) for m in self._mounts}

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]  # Pipecat's own processors narrow it the same way
        await super().setup(setup)
        self._setup_with = setup

    async def cleanup(self) -> None:
        await super().cleanup()  # type: ignore[no-untyped-call]
        await asyncio.gather(*(mount.close() for mount in self._mounts))

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
            return
        match frame:
            case StartFrame():
                assert self._setup_with is not None
                for mount in self._mounts:
                    await mount.open(self._setup_with, frame, self._returned)
            case LLMFullResponseStartFrame():
                self._utterance = str(uuid.uuid4())
            case TTSSpeakFrame():
                await self._speak(frame.text)
                await self._fall_silent()
                return
            case TranscriptionFrame() | InterimTranscriptionFrame() | TTSTextFrame():
                pass
            case TextFrame() if not frame.skip_tts:
                await self._speak(frame.text)
                return
            case LLMFullResponseEndFrame() | EndFrame():
                await self._fall_silent()
            case InterruptionFrame():
                self._speaking = False
                await self._hush()
            case CancelFrame():
                self._active = None
        await self.push_frame(frame, direction)

    async def _speak(self, text: str) -> None:
        rest = text.split()
        order = in_order(self._mounts, time.monotonic()) if rest else []
        for tried, mount in enumerate(order):
            try:
                rest = await self._say(mount, rest)
            except _BrokenOffError as broken:
                rest = broken.rest
                error = broken.error
                log.warning("voice_failed", provider=mount.name, error=f"{error.kind}: {error}", words_left=len(rest))
                bench(mount, error, time.monotonic())
                await self._hush()
            if not rest:
                if tried:
                    log.warning("voice_fallback", provider=mount.name)
                return
        if rest:
            await self.push_error("no voice provider could speak")

    async def _say(self, mount: Mount, words: list[str]) -> list[str]:
        """Say it with one provider; returns the words left, none if all went well."""
        breaker, begun = mount.breaker, time.monotonic()
        if breaker.state(begun) == "due":
            breaker.begin_probe()
        deadline = begun + self._first_sound_s
        said = 0
        heard = False
        try:
            await self._await_ready(mount, deadline - time.monotonic())
            self._inbox = asyncio.Queue()
            self._active = mount
            text = " ".join(words)
            self.characters[mount.name] += len(text)
            await mount.give(TTSSpeakFrame(text, append_to_context=False))
            while True:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                    frame = await self._inbox.get()
                if isinstance(frame, ErrorFrame):
                    raise _BrokenOffError(fault(mount.name, frame.error), words[said:])
                if isinstance(frame, TTSStoppedFrame):
                    if not heard:
                        raise _BrokenOffError(fault(mount.name, "no sound came"), words)
                    self._active = None
                    return []
                if isinstance(frame, TTSAudioRawFrame):
                    if not heard:
                        heard = True
                        breaker.answered(time.monotonic() - begun)
                    deadline = time.monotonic() + self._stall_s
                elif isinstance(frame, TTSTextFrame):
                    said += len(frame.text.split())
                await self._pass_on(frame)
        except TimeoutError:
            what = "fell silent" if heard else "the first sound is late"
            raise _BrokenOffError(fault(mount.name, what, late=True), words[said:]) from None
        finally:
            breaker.end_probe()

    async def _await_ready(self, mount: Mount, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            await mount.ready.wait()
            await mount.quiet.wait()
        if not mount.service.is_usable:  # Pipecat wrote it off; the bench has decided that it gets a chance
            await mount.service.set_usable(True)

    async def _pass_on(self, frame: Frame) -> None:
        frame.pts = None  # its place among the sound says when it is heard
        if isinstance(frame, (TTSAudioRawFrame, TTSTextFrame)):
            frame.context_id = self._utterance
        if isinstance(frame, TTSAudioRawFrame) and not self._speaking:
            self._speaking = True
            await self.push_frame(TTSStartedFrame(context_id=self._utterance))
        await self.push_frame(frame)

    async def _fall_silent(self) -> None:
        if self._speaking:
            self._speaking = False
            await self.push_frame(TTSStoppedFrame(context_id=self._utterance))

    async def _hush(self) -> None:
        """Have the active provider drop what it is saying; until it has, nothing of its sound is passed on."""
        mount, self._active = self._active, None
        if mount is not None and mount.ready.is_set():
            mount.quiet.clear()
            await mount.give(InterruptionFrame())

    async def _returned(self, mount: Mount, frame: Frame) -> None:
        if isinstance(frame, InterruptionFrame):
            mount.quiet.set()
        elif isinstance(frame, ErrorFrame) and (mount is not self._active or not mount.quiet.is_set()):
            log.info("voice_engine_complains", provider=mount.name, error=frame.error)
        elif mount is self._active and mount.quiet.is_set() and _counts(frame):
            self._inbox.put_nowait(frame)


class _BrokenOffError(Exception):
    """A provider stopped in mid-clause."""

    def __init__(self, error: ModelError, rest: list[str]) -> None:
        super().__init__(str(error))
        self.error, self.rest = error, rest


def _counts(frame: Frame) -> bool:
    if isinstance(frame, AggregatedTextFrame) and not isinstance(frame, TTSTextFrame):
        return False  # an announcement of what will be spoken
    return isinstance(frame, (ErrorFrame, TTSAudioRawFrame, TTSTextFrame, TTSStoppedFrame))
