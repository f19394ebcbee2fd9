"""What voice activity promises: to hear speech at once, to hear nothing else, to cost nothing in silence."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import numpy as np
import pytest

from bots.turns.vad import RATE_HZ, WINDOW, Change, Silero, VoiceActivity, VoiceParams
from transports.simulator import codec
from transports.simulator.speech import Speech
from transports.simulator.voice import VoiceStyle

PHRASES = (
    "Stop.",
    "Wait a moment please.",
    "Yes.",
    "Sorry, what was that?",
    "No.",
    "Hello there",
    "For four people",
)
FRAME = RATE_HZ * 40 // 1000


@pytest.fixture(scope="module")
def spoken() -> dict[str, codec.Pcm]:
    """The phrases in two voices, with no silence at their ends."""

    async def speak() -> dict[str, codec.Pcm]:
        speech = Speech()
        try:
            styles = (VoiceStyle(), VoiceStyle("en-us+f3"))
            clips = {f"{style.name} {text}": await speech.say(text, style) for style in styles for text in PHRASES}
        finally:
            await speech.close()
        return {name: codec.trim(codec.decode(b"".join(clip.frames))) for name, clip in clips.items()}

    return asyncio.run(speak())


def changes(pcm: codec.Pcm, voice: VoiceActivity | None = None) -> list[tuple[Change, int]]:
    """Every change, with the sample after the frame in which it was told."""
    voice = voice or VoiceActivity()
    told = []
    for at in range(0, len(pcm) - FRAME + 1, FRAME):
        told += [(change, at + FRAME) for change in voice.feed(pcm[at : at + FRAME].tobytes())]
    return told


def framed(speech: codec.Pcm, lead: int, tail: int = RATE_HZ) -> codec.Pcm:
    return np.concatenate([np.zeros(lead, np.int16), speech, np.zeros(tail, np.int16)])


def test_speech_is_noticed_soon_enough_to_stop_the_bot_within_200_ms(spoken: dict[str, codec.Pcm]) -> None:
    """COM-14: measured in audio time from the first audible sample to the 40 ms frame that tells."""
    delays = []
    for number, speech in enumerate(spoken.values()):
        lead = RATE_HZ + 37 * number
        started = [told for change, told in changes(framed(speech, lead)) if change.kind == "started"]
        delays.append((started[0] - lead) * 1000 / RATE_HZ)
    assert np.percentile(delays, 95) <= 190
    assert np.median(delays) <= 130


def test_the_end_of_speech_is_told_once_with_the_place_where_it_was(spoken: dict[str, codec.Pcm]) -> None:
    for name, speech in spoken.items():
        told = [change for change, _ in changes(framed(speech, RATE_HZ))]
        assert [change.kind for change in told] in (["started", "stopped"], ["started", "stopped"] * 2), name
        end = RATE_HZ + len(speech)
        assert abs(told[-1].edge - end) < RATE_HZ * 0.2, name
        assert told[-1].at - told[-1].edge >= RATE_HZ * VoiceParams().stop_ms // 1000


@pytest.mark.parametrize("hertz", [150, 440, 1000])
def test_tones_clicks_and_hiss_are_no_speech(hertz: int) -> None:
    """COM-14: a noise interrupts nobody."""
    time = np.arange(RATE_HZ // 2) / RATE_HZ
    tone = (6000 * np.sin(2 * np.pi * hertz * time)).astype(np.int16)
    hiss = np.random.default_rng(hertz).normal(0, 1000, RATE_HZ).astype(np.int16)
    click = np.zeros(RATE_HZ, np.int16)
    click[:: RATE_HZ // 4] = 20000
    assert changes(np.concatenate([framed(tone, RATE_HZ), framed(hiss, 0), framed(click, 0)])) == []


def test_silence_costs_no_inference_and_speech_after_a_minute_of_it_is_heard(
    spoken: dict[str, codec.Pcm],
) -> None:
    voice = VoiceActivity()
    assert changes(np.zeros(60 * RATE_HZ, np.int16), voice) == []
    assert voice.scored == 0
    (first, _), *_ = changes(framed(spoken["en-us Stop."], 0), voice)
    assert first.kind == "started"


def test_any_size_of_frame_gives_the_same_changes(spoken: dict[str, codec.Pcm]) -> None:
    pcm = framed(spoken["en-us Wait a moment please."], 5000).tobytes()
    whole = list(VoiceActivity().feed(pcm))
    voice = VoiceActivity()
    pieces = [change for at in range(0, len(pcm), 331) for change in voice.feed(pcm[at : at + 331])]
    assert whole
    assert pieces == whole


def test_a_reset_forgets_speech_under_way_and_keeps_count(spoken: dict[str, codec.Pcm]) -> None:
    voice = VoiceActivity()
    pcm = spoken["en-us Wait a moment please."].tobytes()[: 6 * WINDOW * 2 + 100]
    voice.feed(pcm)
    voice.reset()
    assert not voice.speaking
    assert voice.position == len(pcm) // 2
    assert voice.feed(bytes(RATE_HZ * 2)) == ()


def test_two_calls_share_the_network_and_nothing_else(spoken: dict[str, codec.Pcm]) -> None:
    """COM-14: a detector model is shared per process, its memory of a call is not."""
    pcm = framed(spoken["en-us Sorry, what was that?"], RATE_HZ)
    alone = changes(pcm)
    one, other = VoiceActivity(), VoiceActivity()
    told = []
    for at in range(0, len(pcm) - FRAME + 1, FRAME):
        told += [(change, at + FRAME) for change in one.feed(pcm[at : at + FRAME].tobytes())]
        other.feed(np.random.default_rng(at).normal(0, 2000, FRAME).astype(np.int16).tobytes())
    assert told == alone
    assert not other.speaking


def test_a_network_loaded_before_a_fork_serves_the_child(spoken: dict[str, codec.Pcm]) -> None:
    """Hosts are forked from a template that has loaded it; a session with threads would hang here."""
    pcm = framed(spoken["en-us Yes."], 1000)
    Silero.shared()
    expected = len(changes(pcm))
    assert forked(lambda: len(changes(pcm))) == expected


def forked(work: Callable[[], int]) -> int:
    """What `work` gives in a forked child, 255 if it raised there."""
    child = os.fork()
    if not child:
        try:
            os._exit(work())
        finally:
            os._exit(255)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
