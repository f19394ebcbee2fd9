"""Stand-ins for speech at no cost and no latency, for load tests: what is measured is then the server alone.

They say what they are: production refuses them, tables and logs show them. The listener pretends that the caller
said the first thing that was expected; the voice makes sound like speech, as long as the text would take.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

import numpy as np
from numpy.typing import NDArray
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings, TTSSettings
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.utils.time import time_now_iso8601

from bots.speech.frames import NotUnderstoodFrame

RATE_HZ = 8000
BYTES_PER_CHARACTER = RATE_HZ * 2 // 14  # fourteen characters a second, as people speak
CHUNK_BYTES = RATE_HZ * 2 * 4 // 10


class DoubleListener(STTService):
    """Hears the first expected phrase whenever a voice stops."""

    def __init__(self, expects: Sequence[str] = ()) -> None:
        super().__init__(
            name="double-listener",
            audio_passthrough=False,
            ttfs_p99_latency=0.0,
            enable_direct_mode=True,
            settings=STTSettings(model="double", language=None),
        )
        self._phrases = tuple(expects)

    def expect(self, phrases: Sequence[str]) -> None:
        """From now on hear the first of these."""
        self._phrases = tuple(phrases)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, InputAudioRawFrame):
            return
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            await self.push_frame(frame, direction)
            await self.push_frame(self._heard())
            return
        await super().process_frame(frame, direction)

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Takes no notice of audio."""
        yield None

    def _heard(self) -> Frame:
        if not self._phrases:
            return NotUnderstoodFrame()
        return TranscriptionFrame(self._phrases[0], "", time_now_iso8601(), finalized=True)


def _babble() -> bytes:
    """Ten seconds of sound with the pitch, the syllables and the level of a voice."""
    at = np.arange(RATE_HZ * 10) / RATE_HZ
    voice = sum(np.sin(2 * np.pi * 130 * n * at) / n for n in range(1, 12))
    syllables = np.clip(np.sin(2 * np.pi * 2.1 * at) + 0.55, 0, 1)
    sound: NDArray[np.int16] = (voice / np.abs(voice).max() * syllables * 9000).astype("<i2")
    return sound.tobytes()


_BABBLE = _babble()


class DoubleVoice(TTSService):
    """Babbles as long as the text would take."""

    def __init__(self) -> None:
        super().__init__(
            name="double-voice",
            sample_rate=RATE_HZ,
            push_text_frames=True,
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model="double", voice="double", language=None),
        )

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Sound for `text`, all at once."""
        left = max(1, len(text)) * BYTES_PER_CHARACTER // 2 * 2
        while left > 0:
            size = min(left, CHUNK_BYTES)
            yield TTSAudioRawFrame(_BABBLE[:size], RATE_HZ, 1, context_id=context_id)
            left -= size
