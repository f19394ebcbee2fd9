"""What was heard on both sides: what the caller heard, and for the recording what we did.

`Heard` stands behind the output and writes down what really left the line.

Text frames travel in order with the audio they belong to, so a text seen here has been sent; what a barge-in
discarded never arrives. That is why the record, and the model's context built from it, hold only spoken words.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from bots.cues import UtteranceEndFrame, UtteranceStartFrame
from bots.record import Record


class Heard(FrameProcessor):
    """Advances the bot's turn as its words leave the line.

    Args:
        record: the conversation's turns.
        since: monotonic seconds at which the caller's voice stopped and at which the bot was cued.
        finished: called when an utterance has left the line; True if it was the call's last.
        bot_audio: gets every chunk of the bot's audio that was sent, for the recording.
    """

    def __init__(
        self,
        record: Record,
        since: Callable[[], tuple[float, float]],
        finished: Callable[[bool], None],
        bot_audio: Callable[[bytes], None] | None = None,
    ) -> None:
        super().__init__(name="heard", enable_direct_mode=True)
        self._record, self._since, self._finished, self._bot_audio = record, since, finished, bot_audio
        self._aside = False

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case OutputAudioRawFrame():
                if self._bot_audio is not None:
                    self._bot_audio(frame.audio)
                return  # nothing behind us plays audio
            case TTSTextFrame():
                if not self._aside:
                    await self._record.spoke(frame.text)
                return
            case UtteranceStartFrame():
                self._aside = frame.aside
            case BotStartedSpeakingFrame():
                self._time_first_sound()
            case InterruptionFrame():
                self._aside = False
            case UtteranceEndFrame():
                if not self._aside:
                    await self._record.finished()
                self._aside = False
                self._finished(frame.ends_call)
        await self.push_frame(frame, direction)

    def _time_first_sound(self) -> None:
        turn = self._record.speaking
        if turn is None or "cue_to_sound_ms" in turn.timings:
            return
        now, (voice_stopped, cued) = time.monotonic(), self._since()
        if cued:
            turn.timings["cue_to_sound_ms"] = round((now - cued) * 1000, 1)
        if voice_stopped:
            turn.timings["voice_to_voice_ms"] = round((now - voice_stopped) * 1000, 1)


class CallerTap(FrameProcessor):
    """Stands right behind the input and shows every chunk of the caller's audio to the recording."""

    def __init__(self, audio: Callable[[bytes], None]) -> None:
        super().__init__(name="caller_tap", enable_direct_mode=True)
        self._audio = audio

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, InputAudioRawFrame):
            self._audio(frame.audio)
            if self._next is not None:  # no push_frame: its bookkeeping is for observers, and we have none
                await self._next.queue_frame(frame, direction)
            return
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
