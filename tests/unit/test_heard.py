"""Heard: what left the line is what was spoken, and the recording hears both sides."""

from __future__ import annotations

import asyncio
from typing import Any

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection

from bots.cues import UtteranceEndFrame, UtteranceStartFrame
from bots.heard import CallerTap, Heard
from bots.record import Record
from tests.doubles.talk import Entries


class Bench:
    """A `Heard` on its own, with frames put in by hand."""

    def __init__(self) -> None:
        self.record = Record(Entries())
        self.ended: list[bool] = []
        self.audio: list[bytes] = []
        self.heard = Heard(self.record, lambda: (0.0, 1.0), self.ended.append, self.audio.append)
        self.passed: list[Frame] = []
        self.heard.push_frame = self._passed  # type: ignore[method-assign]

    async def _passed(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        self.passed.append(frame)

    async def hear(self, *frames: Frame) -> None:
        for frame in frames:
            await self.heard.process_frame(frame, FrameDirection.DOWNSTREAM)


async def test_a_turn_advances_as_its_words_leave_the_line() -> None:
    """COM-14: word for word, and done at the end of the utterance."""
    bench = Bench()
    turn = await bench.record.replying("One. Two.", {})
    await bench.hear(UtteranceStartFrame(), BotStartedSpeakingFrame(), TTSTextFrame("One.", "sentence"))
    assert (turn.spoken, turn.done) == ("One.", False)
    assert turn.timings["cue_to_sound_ms"] > 0
    await bench.hear(TTSTextFrame("Two.", "sentence"), UtteranceEndFrame(ends_call=True))
    assert (turn.spoken, turn.done) == ("One. Two.", True)
    assert bench.ended == [True]


async def test_an_aside_belongs_to_no_turn() -> None:
    """COM-15: a bridge is neither journalled nor does it finish the turn that it interrupted."""
    bench = Bench()
    turn = await bench.record.replying("One. Two.", {})
    await bench.hear(UtteranceStartFrame(aside=True), TTSTextFrame("Sorry.", "sentence"), UtteranceEndFrame())
    assert (turn.spoken, turn.done) == ("", False)
    await bench.hear(UtteranceStartFrame(), TTSTextFrame("One.", "sentence"))
    assert turn.spoken == "One."


async def test_what_follows_a_cut_aside_is_heard_again() -> None:
    """COM-14: an interruption ends the aside, too."""
    bench = Bench()
    turn = await bench.record.replying("One.", {})
    await bench.hear(UtteranceStartFrame(aside=True), InterruptionFrame(), TTSTextFrame("One.", "sentence"))
    assert turn.spoken == "One."


async def test_the_first_sound_of_a_turn_is_timed_once() -> None:
    """CMB-29: a pause within a reply does not make the reply late."""
    bench = Bench()
    turn = await bench.record.replying("One. Two.", {})
    await bench.hear(BotStartedSpeakingFrame())
    first: dict[str, Any] = dict(turn.timings)
    await asyncio.sleep(0)
    await bench.hear(BotStartedSpeakingFrame())
    assert turn.timings == first


async def test_sent_audio_goes_to_the_recording_and_no_further() -> None:
    """COM-12: nothing behind the output plays."""
    bench = Bench()
    await bench.hear(OutputAudioRawFrame(b"\x01\x00", 8000, 1))
    assert bench.audio == [b"\x01\x00"]
    assert bench.passed == []


async def test_the_callers_audio_goes_to_the_recording_and_on() -> None:
    """COM-12: the recording has both sides, and the recogniser misses nothing."""
    taken: list[bytes] = []
    tap = CallerTap(taken.append)
    bench = Bench()
    seen: list[Frame] = []

    async def queue(frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM, callback: Any = None) -> None:
        seen.append(frame)

    bench.heard.queue_frame = queue  # type: ignore[method-assign]
    tap.link(bench.heard)
    frame = InputAudioRawFrame(b"\x02\x00", 8000, 1)
    await tap.process_frame(frame, FrameDirection.DOWNSTREAM)
    assert taken == [b"\x02\x00"]
    assert seen == [frame]
