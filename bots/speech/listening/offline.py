"""The offline listener: the recogniser in a call, fed while the caller speaks.

Decoding takes some 2 % of real time and holds the interpreter lock, so it is done in line, in slices far below
the 5 ms a loop can bear; a thread would only add hops. Nothing is decoded while nobody speaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

import structlog
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import STTService
from pipecat.transcriptions.language import Language
from pipecat.utils.time import time_now_iso8601

from bots.speech.frames import NotUnderstoodFrame
from bots.speech.listening.preroll import BYTES_PER_S, RATE_HZ, PreRoll
from bots.speech.listening.recogniser import (
    FRESH_CALLER,
    Decoder,
    Decoders,
    Heard,
    decoders,
    grammar,
    sayable,
)

log = structlog.get_logger()
SLICE = BYTES_PER_S * 6 // 100  # decoded at a time when there is a backlog: 60 ms of audio, 1 to 2 ms of work
TURN_LIMIT = 12 * BYTES_PER_S  # of audio kept to be heard again as a whole


class OfflineListener(STTService):
    """PocketSphinx with a grammar as a Pipecat service. Pushes one `TranscriptionFrame` or
    `NotUnderstoodFrame` for every stretch of voice; audio frames end here.

    A phrase broken by a pause is heard twice: as its parts, and as a whole if the last part by itself made no
    sense.

    Raises:
        UnpronounceableError: a phrase of `expects` cannot be said.
    """

    def __init__(self, expects: Sequence[str] = (), pool: Decoders | None = None) -> None:
        super().__init__(
            name="offline-listener",
            sample_rate=RATE_HZ,
            audio_passthrough=False,
            ttfs_p99_latency=0.1,
            enable_direct_mode=True,
            settings=STTSettings(model="pocketsphinx", language=Language.EN_US),
        )
        self._phrases = grammar(tuple(expects))
        self._pool = pool or decoders()
        self._caller = FRESH_CALLER
        self._decoder: Decoder | None = None
        self._before = PreRoll()
        self._segment = bytearray()
        self._unclear = bytearray()  # voice of this turn that has made no sense so far
        self._backlog = bytearray()

    def expect(self, phrases: Sequence[str]) -> None:
        """From the next utterance on, listen for these. What cannot be said is left out and logged."""
        try:
            self._phrases = grammar(tuple(phrases))
        except Exception as error:
            self._phrases = sayable(phrases)
            log.warning("phrase_left_out", error=str(error))

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, InputAudioRawFrame) and direction is FrameDirection.DOWNSTREAM:
            self._hear(frame.audio)
            return
        if isinstance(frame, VADUserStartedSpeakingFrame):
            self._begin(frame.start_secs)
            await self.push_frame(frame, direction)
            return
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            await self.push_frame(frame, direction)
            await self._close()
            return
        await super().process_frame(frame, direction)
        if isinstance(frame, (UserStartedSpeakingFrame, UserStoppedSpeakingFrame)):
            self._unclear.clear()
        elif isinstance(frame, (EndFrame, CancelFrame)):
            self._let_go()

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Pipecat's way in: audio is fed, results are pushed when the voice stops."""
        self._hear(audio)
        yield None

    async def cleanup(self) -> None:
        self._let_go()
        await super().cleanup()  # type: ignore[no-untyped-call]

    def _hear(self, pcm: bytes) -> None:
        if self._decoder is None:
            self._before.hear(pcm)
            return
        self._segment += pcm
        self._backlog += pcm
        self._decode_slice()

    def _begin(self, since_onset_s: float) -> None:
        if self._decoder is not None:
            return
        self._segment[:] = self._before.take(since_onset_s)
        self._backlog[:] = self._segment
        self._decoder = self._pool.take()
        self._decoder.start(self._phrases, self._caller)

    def _decode_slice(self) -> None:
        """Decode up to a slice; the backlog of an onset is so worked off over the next frames."""
        assert self._decoder is not None
        self._decoder.hear(bytes(self._backlog[:SLICE]))
        del self._backlog[:SLICE]

    async def _drain(self) -> Heard:
        assert self._decoder is not None
        while self._backlog:
            self._decode_slice()
            if self._backlog:
                await asyncio.sleep(0)
        return self._decoder.finish()

    async def _close(self) -> None:
        decoder = self._decoder
        if decoder is None:
            await self.push_frame(NotUnderstoodFrame())
            return
        heard = await self._drain()
        if heard.text:
            self._caller = decoder.caller
        elif self._unclear:
            decoder.start(self._phrases, self._caller)
            self._backlog[:] = self._unclear + self._segment
            heard = await self._drain()
        if heard.text:
            self._unclear.clear()
        else:
            self._unclear += self._segment
            del self._unclear[:-TURN_LIMIT]
        self._segment.clear()
        self._decoder = None
        self._pool.give(decoder)
        if not heard.text:
            await self.push_frame(NotUnderstoodFrame(confidence=heard.confidence))
            return
        frame = TranscriptionFrame(heard.text, self._user_id, time_now_iso8601(), Language.EN_US, finalized=True)
        frame.metadata["confidence"] = heard.confidence
        await self.push_frame(frame)

    def _let_go(self) -> None:
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            decoder.finish()
            self._pool.give(decoder)
