"""Everything that listens and speaks. Settings choose; providers with a key come first, offline engines last.

listener = build_listener(settings, expects=["yes", "no"])   # listener.expect([...]) as the talk moves on
voice = build_voice(settings, voice=persona.voice)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from pipecat.processors.frame_processor import FrameProcessor

from bots.personas.persona import Voice, load
from bots.speech.failover import breaker
from bots.speech.listening.chain import ListenerChain
from bots.speech.listening.offline import OfflineListener
from bots.speech.listening.pronouncing import pronunciations
from bots.speech.listening.recogniser import decoders, sayable
from bots.speech.mount import Mount
from bots.speech.voices.chain import VoiceChain
from bots.speech.voices.clips import ClipCache
from bots.speech.voices.espeak import EspeakVoice, Style, espeak
from infra.settings import Settings

__all__ = ["build_listener", "build_voice", "clips", "prepare_speech"]

DECODERS = 6  # of a process's calls, this many callers can talk at a time without a decoder being made


def build_listener(settings: Settings, *, expects: Sequence[str] = ()) -> FrameProcessor:
    """The listener of one call. It has `expect(phrases)`; offline engines hear nothing else.

    Raises:
        UnpronounceableError: a phrase cannot be listened for offline.
        EngineMissingError: a local engine's package or weights are not there.
    """
    choice = settings.engines[0]
    if choice == "double":
        from bots.speech.double import DoubleListener

        return DoubleListener(expects)
    if choice == "offline":
        return OfflineListener(expects)
    if choice == "deepgram":
        from bots.speech.listening.deepgram import DeepgramListener

        first = Mount(DeepgramListener(settings.deepgram), breaker("Deepgram"))
    else:
        from bots.speech.listening import local

        first = Mount(getattr(local, choice)(settings), breaker(choice))
    return ListenerChain([first, Mount(OfflineListener(sayable(expects)), breaker("PocketSphinx"))])


def build_voice(settings: Settings, *, voice: Voice) -> FrameProcessor:
    """The voice of one call, sounding as the persona's `voice` says.

    Raises:
        VoiceError: the persona's eSpeak NG table is wrong.
        EngineMissingError: a local engine's package or weights are not there.
    """
    choice = settings.engines[1]
    if choice == "double":
        from bots.speech.double import DoubleVoice

        return VoiceChain([Mount(DoubleVoice(), breaker("double voice"))])
    offline = Mount(EspeakVoice(Style.of(voice.espeak), clips(settings.node.var)), breaker("eSpeak NG"))
    if choice == "offline":
        return VoiceChain([offline])
    if choice == "elevenlabs":
        from bots.speech.voices.elevenlabs import ElevenlabsVoice

        first = Mount(ElevenlabsVoice(settings.elevenlabs, voice.elevenlabs), breaker("ElevenLabs"))
    else:
        from bots.speech.voices import local

        first = Mount(getattr(local, choice)(settings, voice.local), breaker(choice))
    return VoiceChain([first, offline])


def prepare_speech(settings: Settings, personas: Mapping[str, tuple[Voice, Iterable[str]]]) -> None:
    """Load into this process what the offline engines need, before it forks: decoders, the words that personas
    listen for, and the sound of the sentences given with each persona's voice. Blocks for about a second."""
    for name in personas:
        persona = load(name)
        phrases = [phrase for command in persona.commands for phrase in command.phrases]
        for state in persona.flow.states.values():
            phrases += [phrase for answer in state.expects for phrase in answer.phrases]
        for phrase in sayable(phrases):
            for word in phrase.split():
                pronunciations(word)
    decoders().prepare(DECODERS, [("yes", "no")])
    cache = clips(settings.node.var)
    for voice, texts in personas.values():
        cache.prepare(texts, Style.of(voice.espeak), espeak().speak)


@lru_cache(maxsize=4)
def clips(var: Path) -> ClipCache:
    """The clips of this process, kept under `var`; a forked child inherits them."""
    return ClipCache(var / "clips")
