"""The offline listener hears what is expected on telephone audio, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from pipecat.frames.frames import InputAudioRawFrame, TranscriptionFrame, UserStartedSpeakingFrame

from bots.audio import mulaw_decode, mulaw_encode
from bots.personas import persona
from bots.speech.frames import NotUnderstoodFrame
from bots.speech.listening.offline import OfflineListener
from bots.speech.listening.pronouncing import UnpronounceableError, pronunciations
from bots.speech.listening.recogniser import Decoder, Decoders, grammar, sayable
from bots.speech.voices.espeak import Style, espeak
from tests.doubles.speech import Stage, frames_of

ANSWER = (TranscriptionFrame, NotUnderstoodFrame)
ALIEN = (
    "the quick brown fox jumps over the lazy dog",
    "what is the weather like in paris",
    "i need a taxi to the airport",
    "can you tell me a story",
    "please transfer me to a person",
    "i think the price is too high",
    "my daughter is in school",
    "the meeting starts at nine",
    "could you send me an invoice by email",
    "there is a dog barking outside",
)


def expected(state: str) -> tuple[str, ...]:
    mia = persona.load("mia")
    phrases = [phrase for answer in mia.flow.states[state].expects for phrase in answer.phrases]
    return (*phrases, *(phrase for command in mia.commands for phrase in command.phrases))


def telephone(text: str, style: Style | None = None) -> bytes:
    """`text` as a caller's line brings it: with a little noise, through mu-law."""
    voice = np.frombuffer(espeak().speak(text, style or Style()).pcm, "<i2").astype(float)
    line = np.concatenate([np.zeros(2400), voice, np.zeros(1600)])
    line += np.random.default_rng(7).normal(0, 20, len(line))
    return mulaw_decode(mulaw_encode(np.clip(line, -32768, 32767).astype("<i2").tobytes()))


def hear(decoder: Decoder, pcm: bytes, phrases: tuple[str, ...]) -> str:
    decoder.start(phrases)
    for piece in frames_of(pcm):
        decoder.hear(piece)
    return decoder.finish().text


def test_what_the_persona_expects_is_understood() -> None:
    phrases, decoder = grammar(expected("topic")), Decoder()
    assert len(phrases) >= 30
    wrong = [phrase for phrase in phrases if hear(decoder, telephone(phrase), phrases) != phrase]
    assert len(wrong) <= 2, wrong


def test_what_nobody_expects_is_not_understood_rather_than_invented() -> None:
    phrases, decoder = grammar(expected("topic")), Decoder()
    invented = [text for text in ALIEN if hear(decoder, telephone(text), phrases)]
    assert len(invented) <= 1, invented


@pytest.mark.parametrize("level", [50, 400, 4000])
def test_noise_says_nothing(level: int) -> None:
    noise = np.random.default_rng(level).normal(0, level, 8000)
    pcm = np.clip(noise, -32768, 32767).astype("<i2").tobytes()
    assert hear(Decoder(), pcm, grammar(expected("consent"))) == ""


def test_a_word_in_no_dictionary_is_pronounced_by_rule() -> None:
    assert pronunciations("ringdown") == ("R IH NG D AW N",)
    assert "T UW" in pronunciations("to")
    phrases = grammar(("call ringdown", "call the doctor"))
    assert hear(Decoder(), telephone("call ringdown"), phrases) == "call ringdown"


@pytest.mark.parametrize("phrase", ["call 911", "größe", "a;b"])
def test_a_phrase_that_cannot_be_said_is_refused_with_a_remedy(phrase: str) -> None:
    with pytest.raises(UnpronounceableError, match="Write numbers and signs out"):
        OfflineListener([phrase])
    assert sayable([phrase, "yes"]) == ("yes",)


async def test_each_stretch_of_voice_gets_one_answer() -> None:
    """CMB-24: final text follows the end of speech, offline too."""
    async with Stage(OfflineListener(expected("consent"))) as stage:
        await stage.say(telephone("yes please"))
        await stage.say(telephone("the quick brown fox jumps over the lazy dog"))
        await stage.say(telephone("no thank you"))
        answers = await stage.wait(*ANSWER, count=3)

    assert [getattr(answer, "text", None) for answer in answers] == ["yes please", None, "no thank you"]
    assert answers[0].finalized
    assert answers[0].metadata["confidence"] > 0.5
    assert not stage.out(InputAudioRawFrame)


async def test_expectations_change_from_turn_to_turn() -> None:
    async with Stage(OfflineListener(["yes", "no"])) as stage:
        stage.processor.expect(["about the weekend", "about work"])  # type: ignore[attr-defined]
        await stage.say(telephone("about the weekend"))
        [answer] = await stage.wait(*ANSWER)

    assert answer.text == "about the weekend"


async def test_the_onset_before_voice_activity_is_heard() -> None:
    sound = telephone("go hiking")
    async with Stage(OfflineListener(["go hiking", "stay at home"])) as stage:
        onset = 9600  # bytes: voice activity notices 0.6 s into the line, well into the first word
        await stage.give(*(InputAudioRawFrame(piece, 8000, 1) for piece in frames_of(sound[:onset])))
        await stage.say(sound[onset:])
        [answer] = await stage.wait(*ANSWER)

    assert answer.text == "go hiking"


async def test_a_phrase_broken_by_a_pause_is_understood_as_a_whole() -> None:
    async with Stage(OfflineListener(expected("plan"))) as stage:
        await stage.give(UserStartedSpeakingFrame())
        await stage.say(telephone("i would rather"))
        await stage.say(telephone("stay at home"))
        answers = await stage.wait(*ANSWER, count=2)

    assert isinstance(answers[0], NotUnderstoodFrame)
    assert answers[1].text in {"i would rather stay at home", "stay at home"}


async def test_an_engine_that_ends_in_mid_word_gives_its_decoder_back() -> None:
    pool = Decoders()
    pool.prepare(1)
    listener = OfflineListener(["yes"], pool)
    stage = Stage(listener)
    async with stage:
        sound = telephone("yes")
        await stage.say(sound)
        await stage.wait(*ANSWER)
    assert pool.take() is not None
    assert len(pool._free) == 0
