"""Deepgram by its SDK, against a double of its wire: nothing lost, nothing doubled, always an answer."""

from __future__ import annotations

import time

import pytest
from pipecat.frames.frames import InputAudioRawFrame, InterimTranscriptionFrame, TranscriptionFrame
from pydantic import SecretStr

from bots.models.breaker import Breaker
from bots.speech.frames import NotUnderstoodFrame
from bots.speech.listening.chain import ListenerChain
from bots.speech.listening.deepgram import DeepgramListener
from bots.speech.listening.offline import OfflineListener
from bots.speech.mount import Mount
from bots.speech.voices.espeak import Style, espeak
from infra.settings import Deepgram
from tests.doubles.deepgram import DeepgramDouble
from tests.doubles.speech import RATE_HZ, Fault, FaultKind, Stage, sound_of, until

ANSWER = (TranscriptionFrame, NotUnderstoodFrame)


def settings(double: DeepgramDouble, key: str = "deepgram-test-key") -> Deepgram:
    return Deepgram(api_key=SecretStr(key), url=double.url)


def spelled(words: range) -> str:
    return " ".join(f"w{word}" for word in words)


async def test_a_caller_is_heard_in_partials_then_once_for_each_stretch_with_language_and_confidence() -> None:
    """COM-80, CMB-24."""
    async with DeepgramDouble(language="en") as double, Stage(DeepgramListener(settings(double))) as stage:
        await stage.say(sound_of(range(1, 11)))
        await stage.wait(TranscriptionFrame)
        await stage.say(sound_of(range(11, 14)))
        finals = await stage.wait(TranscriptionFrame, count=2)

        assert [frame.text for frame in finals] == [spelled(range(1, 11)), spelled(range(11, 14))]
        assert all(frame.finalized for frame in finals)
        assert finals[0].language == "en"
        assert finals[0].metadata["confidence"] == 0.97
        assert stage.out(InterimTranscriptionFrame)
        assert double.queries[0]["sample_rate"] == str(RATE_HZ)


async def test_audio_outside_a_stretch_of_voice_is_neither_sent_nor_paid() -> None:
    async with DeepgramDouble() as double, Stage(DeepgramListener(settings(double))) as stage:
        for _ in range(100):
            await stage.give(InputAudioRawFrame(bytes(320), RATE_HZ, 1))
        sound = sound_of(range(1, 4))
        await stage.say(sound)
        await stage.wait(TranscriptionFrame)

        assert double.billed_bytes <= len(sound) + RATE_HZ


async def test_a_voice_without_words_is_answered_as_not_understood() -> None:
    async with DeepgramDouble() as double, Stage(DeepgramListener(settings(double))) as stage:
        await stage.say(bytes(8000))
        await stage.wait(NotUnderstoodFrame)


@pytest.mark.parametrize("dropped_after", [4000, 20000, 40000, 60000])
async def test_a_socket_that_drops_in_mid_utterance_loses_and_doubles_no_word(dropped_after: int) -> None:
    """COM-80: a dropped socket mid-call reconnects with no utterance lost or doubled."""
    drop = Fault("drop", after=dropped_after, times=2)
    async with DeepgramDouble(faults=[drop]) as double, Stage(DeepgramListener(settings(double))) as stage:
        await stage.say(sound_of(range(1, 60)), pace=0.002)
        await stage.say(sound_of(range(60, 70)), pace=0.002)
        finals = await stage.wait(*ANSWER, count=2)

    assert [frame.text for frame in finals] == [spelled(range(1, 60)), spelled(range(60, 70))]
    assert double.connections >= 2


async def test_an_idle_connection_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bots.speech.listening.deepgram.KEEP_ALIVE_S", 0.02)
    async with DeepgramDouble() as double, Stage(DeepgramListener(settings(double))):
        await until(lambda: double.keep_alives >= 3)


async def test_a_refused_key_is_reported_with_its_status() -> None:
    async with DeepgramDouble() as double, Stage(DeepgramListener(settings(double, "wrong"))) as stage:
        assert "401" in await stage.complaint()


def chain(double: DeepgramDouble, cooldown: float = 5.0) -> tuple[ListenerChain, Breaker]:
    first = Breaker("Deepgram", cooldown=cooldown)
    offline = OfflineListener(["yes please", "no thank you"])
    mounts = [Mount(DeepgramListener(settings(double)), first), Mount(offline, Breaker("PocketSphinx"))]
    return ListenerChain(mounts), first


def spoken(text: str) -> bytes:
    pcm = espeak().speak(text, Style()).pcm
    return bytes(3200) + pcm + bytes(3200)


@pytest.mark.parametrize(
    ("kind", "status"),
    [("status", 503), ("status", 429), ("status", 401), ("hang", 0), ("hang_upgrade", 0), ("late", 0)],
)
async def test_whatever_ails_the_first_provider_the_caller_is_heard_by_the_next(kind: FaultKind, status: int) -> None:
    """COM-17: injected 503, 429, refusal and hang while listening."""
    fault = Fault(kind, status=status or 503, seconds=3.0, times=100)
    async with DeepgramDouble(hears=lambda pcm: "something else", faults=[fault]) as double:
        listener, _ = chain(double)
        async with Stage(listener) as stage:
            await stage.say(spoken("yes please"), pace=0.005)
            [answer] = await stage.wait(*ANSWER)
            await stage.say(spoken("no thank you"), pace=0.005)
            answers = await stage.wait(*ANSWER, count=2)

    assert [frame.text for frame in answers] == ["yes please", "no thank you"]
    assert answer is answers[0]


async def test_a_provider_that_dies_in_mid_word_is_replaced_from_the_first_word() -> None:
    """COM-17: refusal mid-call."""
    async with DeepgramDouble(hears=lambda pcm: "something else") as double:
        listener, _ = chain(double)
        async with Stage(listener) as stage:
            await stage.say(spoken("no thank you"), pace=0.002)
            await stage.wait(TranscriptionFrame)
            double.refusing = True
            double.drop()
            await stage.say(spoken("yes please"), pace=0.005)
            answers = await stage.wait(*ANSWER, count=2)

    assert [frame.text for frame in answers] == ["something else", "yes please"]


async def test_the_first_provider_is_used_again_once_it_is_well() -> None:
    """COM-17: primary is used again after recovery."""
    fault = Fault("late", seconds=2.0)
    async with DeepgramDouble(hears=lambda pcm: "by deepgram", faults=[fault]) as double:
        listener, breaker = chain(double, cooldown=0.1)
        async with Stage(listener) as stage:
            await stage.say(spoken("yes please"), pace=0.002)
            await stage.wait(*ANSWER)
            await until(lambda: breaker.state(time.monotonic()) == "due")
            await stage.say(spoken("yes please"), pace=0.002)
            answers = await stage.wait(*ANSWER, count=2)

    assert [frame.text for frame in answers] == ["yes please", "by deepgram"]
    assert breaker.state(time.monotonic()) == "closed"
