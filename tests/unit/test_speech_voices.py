"""Offline speech: words in order with their sound, clips that survive, engines that say what they miss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipecat.frames.frames import (
    InterruptionFrame,
    LLMFullResponseEndFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)

from bots.personas.persona import Voice
from bots.speech import build_listener, build_voice
from bots.speech.listening.deepgram import _Finalize, _Unconfirmed
from bots.speech.voices.clips import Clip, ClipCache, Word, cut
from bots.speech.voices.espeak import Style, VoiceError, espeak, resample
from bots.speech.weights import EngineMissingError
from infra import settings as tree
from tests.doubles.speech import Stage

LINE = "Would you like to talk about work, or about the weekend?"


def configured(tmp_path: Path, **choices: Any) -> tree.Settings:
    return tree.load(environ={}, node_var=str(tmp_path), **choices)


async def test_every_word_leaves_behind_its_own_sound(tmp_path: Path) -> None:
    """CMB-28 needs it: only words whose sound has left count as spoken."""
    voice = build_voice(configured(tmp_path, speech_voice="offline"), voice=Voice())
    async with Stage(voice) as stage:
        await stage.speak(LINE)
        await stage.wait(LLMFullResponseEndFrame)

    speech = stage.out(TTSAudioRawFrame, TTSTextFrame)
    assert " ".join(frame.text for frame in speech if isinstance(frame, TTSTextFrame)) == LINE
    assert isinstance(speech[0], TTSAudioRawFrame)
    runs = [type(frame) for frame in speech]
    assert runs.count(TTSAudioRawFrame) >= len(LINE.split()) - 2
    assert all(len(frame.audio) <= 6400 for frame in stage.out(TTSAudioRawFrame))


async def test_a_single_sentence_can_be_spoken_out_of_turn(tmp_path: Path) -> None:
    voice = build_voice(configured(tmp_path, speech_voice="offline"), voice=Voice())
    async with Stage(voice) as stage:
        await stage.give(TTSSpeakFrame("One moment, please."))
        await stage.wait(TTSStoppedFrame)

    assert [frame.text for frame in stage.out(TTSTextFrame)] == ["One", "moment,", "please."]


async def test_nothing_of_an_interrupted_reply_is_spoken_later(tmp_path: Path) -> None:
    voice = build_voice(configured(tmp_path, speech_voice="offline"), voice=Voice())
    async with Stage(voice) as stage:
        for round_ in range(1, 6):
            before = len(stage.out(TTSTextFrame))
            await stage.speak(*["An old story that nobody wants to hear to its end."] * 6)
            await stage.wait(TTSTextFrame, count=before + 1)
            await stage.give(InterruptionFrame())
            await stage.wait(InterruptionFrame, count=round_)
        stage.down.clear()
        await stage.speak("Something new.")
        await stage.wait(LLMFullResponseEndFrame)

    assert [frame.text for frame in stage.out(TTSTextFrame)] == ["Something", "new."]


def test_voices_differ_by_what_the_persona_says() -> None:
    slow = espeak().speak(LINE, Style("en-us", 120, 40))
    fast = espeak().speak(LINE, Style("en-us+f3", 220, 60))
    assert len(slow.pcm) > 1.3 * len(fast.pcm)


@pytest.mark.parametrize("table", [{"voice": 7}, {"rate": "quick"}])
def test_a_voice_table_that_makes_no_sense_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(VoiceError, match="voice"):
        Style.of(table)


def test_a_voice_that_does_not_exist_is_named() -> None:
    with pytest.raises(VoiceError, match="nobody"):
        espeak().speak("Hello.", Style("nobody"))


def test_resampling_keeps_speech_and_removes_what_the_line_cannot_carry() -> None:
    at = np.arange(22050) / 22050
    for hertz, passes in ((1000, True), (3000, True), (5000, False)):
        out = resample((np.sin(2 * np.pi * hertz * at) * 10000).astype(np.int16), 22050)[800:-800]
        level = float(np.abs(out.astype(float)).max())
        assert (level > 9000) if passes else (level < 100)


@given(
    words=st.lists(st.tuples(st.text("ab", min_size=1, max_size=3), st.integers(0, 40)), max_size=8),
    tail=st.integers(0, 30),
    most=st.integers(1, 16),
)
def test_a_clip_is_cut_without_losing_a_byte_or_a_word(words: list[tuple[str, int]], tail: int, most: int) -> None:
    ends, at = [], 0
    for text, length in words:
        at += 2 * length
        ends.append(Word(text, at))
    clip = Clip(bytes(index % 251 for index in range(at + 2 * tail)), tuple(ends))
    pieces = list(cut(clip, 2 * most))
    assert b"".join(pcm for pcm, _, _ in pieces) == clip.pcm
    assert [word for _, word, _ in pieces if word] == [word.text for word in ends]
    assert all(len(pcm) <= 2 * most for pcm, _, _ in pieces)


def test_a_broken_clip_file_is_made_again(tmp_path: Path) -> None:
    ClipCache(tmp_path).prepare(["Hello."], Style(), espeak().speak)
    for path in tmp_path.glob("*.clip"):
        path.write_bytes(b"rubbish")
    cache = ClipCache(tmp_path)
    assert cache.prepare(["Hello."], Style(), espeak().speak) == 1
    [path] = tmp_path.glob("*.clip")
    assert msgspec.msgpack.decode(path.read_bytes(), type=Clip).pcm


@pytest.mark.parametrize("engine", ["kokoro", "piper"])
def test_a_local_voice_that_is_not_there_says_what_to_do(tmp_path: Path, engine: str) -> None:
    chosen = configured(tmp_path, speech_voice=engine, speech_weights=str(tmp_path))
    with pytest.raises(EngineMissingError, match=engine):
        build_voice(chosen, voice=Voice())


@pytest.mark.parametrize("engine", ["whisper", "moonshine"])
def test_a_local_listener_that_is_not_there_says_what_to_do(tmp_path: Path, engine: str) -> None:
    chosen = configured(tmp_path, speech_listener=engine, speech_weights=str(tmp_path))
    with pytest.raises(EngineMissingError, match=engine):
        build_listener(chosen)


async def test_doubles_speak_and_hear_at_no_cost(tmp_path: Path) -> None:
    chosen = configured(tmp_path, speech_voice="double", speech_listener="double")
    async with Stage(build_voice(chosen, voice=Voice())) as stage:
        await stage.speak("Fourteen chars")
        await stage.wait(LLMFullResponseEndFrame)
    assert sum(len(frame.audio) for frame in stage.out(TTSAudioRawFrame)) == pytest.approx(16000, abs=50)
    async with Stage(build_listener(chosen, expects=["yes please", "no"])) as stage:
        await stage.say(bytes(1600))
        [heard] = await stage.wait(TranscriptionFrame)
    assert heard.text == "yes please"


@settings(max_examples=300)
@given(st.data())
def test_whatever_is_confirmed_and_whenever_the_line_drops_every_sample_is_sent_until_confirmed(
    data: st.DataObject,
) -> None:
    """COM-80: no utterance lost or doubled, on the bookkeeping itself."""
    unconfirmed = _Unconfirmed()
    given_bytes = confirmed = 0
    stream = b""  # what the provider has of this connection
    base = 0  # where in the whole that connection began
    for _ in range(data.draw(st.integers(1, 30))):
        match data.draw(st.sampled_from(["hear", "send", "confirm", "drop"])):
            case "hear":
                size = 2 * data.draw(st.integers(1, 20))
                unconfirmed.add(bytes((given_bytes + n) % 251 for n in range(size)))
                given_bytes += size
            case "send" if unconfirmed.sent < len(unconfirmed.entries):
                entry = unconfirmed.entries[unconfirmed.sent]
                assert not isinstance(entry, _Finalize)
                unconfirmed.sent += 1
                stream += entry
            case "confirm" if stream:
                upto = 2 * data.draw(st.integers(0, len(stream) // 2))
                unconfirmed.confirm(upto)
                confirmed = max(confirmed, base + upto)
            case "drop":
                unconfirmed.sent = unconfirmed.dropped = 0
                stream, base = b"", confirmed
        assert stream == bytes((base + n) % 251 for n in range(len(stream)))
        assert unconfirmed.size == given_bytes - confirmed
