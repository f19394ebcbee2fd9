"""ElevenLabs in calls and beside them, against a double of its wire: speech never stops, words are true."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from pipecat.frames.frames import (
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pydantic import SecretStr

from bots.elevenlabs import Voices
from bots.models.breaker import Breaker
from bots.models.port import Denied, ModelError, RateLimited, TimedOut, Unreachable
from bots.speech.mount import Mount
from bots.speech.voices.chain import VoiceChain
from bots.speech.voices.clips import ClipCache
from bots.speech.voices.elevenlabs import ElevenlabsVoice
from bots.speech.voices.espeak import EspeakVoice, Style
from bots.voices import UnknownVoiceError
from infra.settings import Elevenlabs
from tests.doubles.elevenlabs import MS_PER_CHARACTER, ElevenlabsDouble
from tests.doubles.speech import Fault, FaultKind, Stage, until

RACHEL = "21m00Tcm4TlvDq8ikWAM"
CLAUSES = ("Hello, this is Mia.", "How was your day, and what did you do with all of it?")
WORDS = " ".join(CLAUSES)


def settings(double: ElevenlabsDouble, key: str = "elevenlabs-test-key") -> Elevenlabs:
    return Elevenlabs(api_key=SecretStr(key), url=double.url, api_url=double.api_url)


def chain(double: ElevenlabsDouble, cooldown: float = 5.0) -> tuple[VoiceChain, Breaker]:
    first = Breaker("ElevenLabs", cooldown=cooldown)
    offline = Mount(EspeakVoice(Style(), ClipCache()), Breaker("eSpeak NG"))
    engines = [Mount(ElevenlabsVoice(settings(double), {"voice": RACHEL, "speed": 1.1}), first), offline]
    return VoiceChain(engines, first_sound_s=0.5, stall_s=0.5), first


def spoken(stage: Stage) -> str:
    return " ".join(frame.text.strip() for frame in stage.out(TTSTextFrame))


async def test_a_reply_is_streamed_with_each_word_behind_its_sound() -> None:
    """COM-81, CMB-26."""
    async with ElevenlabsDouble() as double:
        voice, _ = chain(double)
        async with Stage(voice) as stage:
            await stage.speak(*CLAUSES)
            await stage.wait(LLMFullResponseEndFrame)

    sound = b"".join(frame.audio for frame in stage.out(TTSAudioRawFrame))
    assert spoken(stage) == WORDS
    assert len(sound) == sum(len(clause) for clause in CLAUSES) * MS_PER_CHARACTER * 16
    assert [len(stage.out(kind)) for kind in (TTSStartedFrame, TTSStoppedFrame)] == [1, 1]
    kinds = [type(f) for f in stage.down if isinstance(f, (TTSAudioRawFrame, TTSTextFrame))]
    assert kinds[0] is TTSAudioRawFrame
    assert kinds[1] is TTSTextFrame
    assert all(frame.pts is None for frame in stage.out(TTSTextFrame, TTSStoppedFrame))
    assert double.queries[0]["output_format"] == "pcm_8000"
    assert voice.characters["ElevenLabs"] == sum(len(clause) for clause in CLAUSES)


async def test_speech_begins_before_the_reply_is_complete() -> None:
    """CMB-27: synthesis starts before the model has finished."""
    async with ElevenlabsDouble() as double:
        voice, _ = chain(double)
        async with Stage(voice) as stage:
            await stage.give(LLMFullResponseStartFrame(), LLMTextFrame(CLAUSES[0]))
            await stage.wait(TTSAudioRawFrame)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("status", 503),
        ("status", 429),
        ("status", 401),
        ("hang", 0),
        ("hang_upgrade", 0),
        ("late", 0),
        ("quota", 0),
    ],
)
async def test_whatever_ails_the_first_voice_the_caller_hears_the_whole_reply(kind: FaultKind, status: int) -> None:
    """COM-17, COM-81: injected 503, 429, refusal, hang and quota error."""
    fault = Fault(kind, status=status, seconds=3.0, times=100)
    async with ElevenlabsDouble(faults=[fault]) as double:
        voice, _ = chain(double)
        async with Stage(voice) as stage:
            await stage.speak(*CLAUSES)
            await stage.wait(LLMFullResponseEndFrame)

    assert spoken(stage) == WORDS
    assert stage.out(TTSAudioRawFrame)


@pytest.mark.parametrize("after", [0, 1, 2])
async def test_a_socket_that_drops_in_mid_clause_repeats_no_word_and_skips_none(after: int) -> None:
    """COM-17: the next provider goes on where the caller stopped hearing."""
    async with ElevenlabsDouble(faults=[Fault("drop", after=after)]) as double:
        voice, _ = chain(double)
        async with Stage(voice) as stage:
            await stage.speak(*CLAUSES)
            await stage.wait(LLMFullResponseEndFrame)

    assert spoken(stage) == WORDS
    assert voice.characters["eSpeak NG"] > 0


async def test_the_first_voice_is_used_again_once_it_is_well() -> None:
    """COM-17: primary is used again after recovery."""
    async with ElevenlabsDouble(faults=[Fault("drop")]) as double:
        voice, breaker = chain(double, cooldown=0.1)
        async with Stage(voice) as stage:
            await stage.speak(CLAUSES[0])
            await stage.wait(LLMFullResponseEndFrame)
            await until(lambda: breaker.state(time.monotonic()) == "due")
            await stage.speak(CLAUSES[1])
            await stage.wait(LLMFullResponseEndFrame, count=2)

    assert spoken(stage) == WORDS
    assert double.spoken[-1] == CLAUSES[1]
    assert breaker.state(time.monotonic()) == "closed"


async def test_an_interruption_closes_the_context_and_nothing_of_it_is_heard_later() -> None:
    async with ElevenlabsDouble(faults=[Fault("late", seconds=0.3)]) as double:
        voice, _ = chain(double)
        async with Stage(voice) as stage:
            await stage.give(LLMFullResponseStartFrame(), LLMTextFrame(CLAUSES[0]))
            await until(lambda: voice.characters["ElevenLabs"] > 0)
            await stage.give(InterruptionFrame())
            await stage.wait(InterruptionFrame)
            await stage.speak(CLAUSES[1])
            await stage.wait(LLMFullResponseEndFrame)

    assert spoken(stage) == CLAUSES[1]


async def test_voices_are_listed_checked_previewed_and_made_into_files() -> None:
    """COM-81, CMB-26: voice picker, check, preview and file; characters are metered."""
    async with ElevenlabsDouble() as double:
        voices = Voices(settings(double))
        try:
            assert {card.name for card in await voices.available()} == {"Rachel", "Domi"}
            assert (await voices.check(RACHEL)).language == "en"
            with pytest.raises(UnknownVoiceError, match="nobody"):
                await voices.check("nobody")
            assert await voices.preview(RACHEL)
            metered = voices.characters
            assert await voices.synthesise("Good morning.", RACHEL, "pcm_8000")
            assert voices.characters - metered == len("Good morning.")
        finally:
            await voices.close()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("status", status=503), Unreachable),
        (Fault("status", status=429), RateLimited),
        (Fault("status", status=401), Denied),
        (Fault("quota"), RateLimited),
        (Fault("hang_upgrade"), TimedOut),
    ],
)
async def test_a_provider_that_fails_beside_a_call_says_how(fault: Fault, error: type[ModelError]) -> None:
    async with ElevenlabsDouble(faults=[fault]) as double:
        voices = Voices(settings(double), timeout_s=0.5)
        try:
            with pytest.raises(error):
                await voices.synthesise("Good morning.", RACHEL)
            assert voices.characters == 0
            assert await voices.synthesise("Good morning.", RACHEL)
        finally:
            await voices.close()


async def test_prepared_sentences_are_spoken_without_synthesis(tmp_path: Path) -> None:
    """Greeting and bridges follow the answer at once, in every process that finds them on disk."""
    made: list[str] = []

    def speak(text: str, style: Style):  # type: ignore[no-untyped-def]
        made.append(text)
        from bots.speech.voices.espeak import espeak

        return espeak().speak(text, style)

    assert ClipCache(tmp_path).prepare(CLAUSES, Style(), speak) == 2
    again = ClipCache(tmp_path)
    assert again.prepare(CLAUSES, Style(), speak) == 0
    assert made == list(CLAUSES)
    voice = VoiceChain([Mount(EspeakVoice(Style(), again), Breaker("eSpeak NG"))])
    async with Stage(voice) as stage:
        await stage.speak(*CLAUSES)
        await asyncio.wait_for(stage.wait(LLMFullResponseEndFrame), 5)
    assert spoken(stage) == WORDS
