"""The offline recogniser: PocketSphinx held to the phrases that are expected, on telephone audio.

It never dictates. What it hears is one of the phrases or nothing, and a phrase that fits badly is nothing too:
the model's scores per frame, of the words and of the silence it had to assume, must reach `THRESHOLD`.
Decoders cost some 3 MB each and are made before hosts are forked, which then share what they do not change.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pocketsphinx

from bots.audio import Upsampler
from bots.speech.listening.pronouncing import MODEL, UnpronounceableError, pronunciations

THRESHOLD = -4.9e-3
STEEPNESS = 1500.0  # of the confidence around the threshold
MOST_GRAMMARS = 24  # kept per decoder; a persona has a dozen states
NOISE_LEVEL = 40.0
_SILENCE_FRAMES = 3  # a shorter silence says nothing
_SILENCE_WEIGHT = 0.3
_LEAST = 1e-300

# The mean cepstrum of telephone speech: what a decoder assumes of a caller it has not heard yet.
FRESH_CALLER = "52.4,2.9,-16.9,19.5,-12.3,0.5,1.7,-19.0,5.0,-10.0,-4.0,-6.0,-1.0"


@dataclass(frozen=True, slots=True)
class Heard:
    """What was heard: one of the expected phrases, or nothing (`text` is empty). `confidence` is 0 to 1."""

    text: str
    confidence: float


Grammar = tuple[str, ...]


@lru_cache(maxsize=256)
def grammar(phrases: Grammar) -> Grammar:
    """The phrases in order, each once, as the recogniser takes them.

    Raises:
        UnpronounceableError: one of them cannot be said.
    """
    cleaned = tuple(dict.fromkeys(" ".join(phrase.lower().replace("’", "'").split()) for phrase in phrases))
    for phrase in cleaned:
        for word in phrase.split():
            pronunciations(word)
    return tuple(phrase for phrase in cleaned if phrase)


def sayable(phrases: Iterable[str]) -> Grammar:
    """Those of the phrases that the recogniser can listen for."""
    found: list[str] = []
    for phrase in phrases:
        try:
            found.extend(grammar((phrase,)))
        except UnpronounceableError:
            continue
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=1)
def _noise() -> np.ndarray[Any, np.dtype[np.float32]]:
    """A second of faint noise. The line has nothing above 4 kHz; the model was trained with rooms that do, and
    an empty upper band throws it off (sentence error falls from 8 to 3 % with it)."""
    return np.random.default_rng(1).normal(0, NOISE_LEVEL, 32000).astype(np.float32)


class Decoder:
    """One decoder: hears one utterance at a time. Calls are synchronous and hold the interpreter lock."""

    def __init__(self) -> None:
        self._decoder = pocketsphinx.Decoder(
            hmm=str(MODEL / "en-us"),
            dict=None,
            lm=None,
            samprate=16000,
            loglevel="FATAL",
            bestpath=False,  # the lattice's best path need not be a phrase
            wbeam=1e-40,
            pl_window=0,
        )
        self._words: set[str] = set()
        self._grammars: OrderedDict[Grammar, str] = OrderedDict()
        self._made = 0
        self._upsampler = Upsampler()
        self._phrases: Grammar = ()
        self._at = 0

    def start(self, phrases: Grammar, caller: str = FRESH_CALLER) -> None:
        """Begin an utterance in which one of `phrases` is expected. `caller` is what `finish` left behind."""
        self._phrases = phrases
        self._upsampler = Upsampler()
        if phrases:
            self._decoder.activate_search(self._search(phrases))
            self._decoder.set_cmn(caller)
            self._decoder.start_utt()

    def hear(self, pcm: bytes) -> None:
        """The next piece of 8 kHz PCM; takes some 2 % of its duration."""
        if not self._phrases or not pcm:
            return
        samples = np.frombuffer(self._upsampler.process(pcm), "<i2").astype(np.float32)
        noise = _noise()
        self._at = (self._at + 7919) % (len(noise) - 2 * len(pcm)) if 2 * len(pcm) < len(noise) else 0
        samples[: len(noise)] += noise[self._at : self._at + len(samples)]
        self._decoder.process_raw(np.clip(samples, -32768, 32767).astype("<i2").tobytes())

    def finish(self) -> Heard:
        """The utterance is over: what was it?"""
        if not self._phrases:
            return Heard("", 0.0)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        text = hypothesis.hypstr if hypothesis is not None else ""
        if text not in self._phrases:
            return Heard("", 0.0)
        fit = _fit([(s.word, s.end_frame - s.start_frame + 1, s.ascore) for s in self._decoder.seg()])
        confidence = 1 / (1 + math.exp(min(60.0, (THRESHOLD - fit) * STEEPNESS)))
        return Heard(text if fit >= THRESHOLD else "", round(confidence, 3))

    @property
    def caller(self) -> str:
        """How the caller sounds, for `start` of their next utterance."""
        return str(self._decoder.get_cmn(True))

    def _search(self, phrases: Grammar) -> str:
        if phrases in self._grammars:
            self._grammars.move_to_end(phrases)
            return self._grammars[phrases]
        for word in dict.fromkeys(word for phrase in phrases for word in phrase.split()):
            self._learn(word)
        self._made += 1
        name = f"expected-{self._made}"
        rule = " | ".join(phrases)
        self._decoder.add_jsgf_string(name, f"#JSGF V1.0;\ngrammar expected;\npublic <heard> = {rule} ;")
        self._grammars[phrases] = name
        while len(self._grammars) > MOST_GRAMMARS:
            _, oldest = self._grammars.popitem(last=False)
            self._decoder.remove_search(oldest)
        return name

    def _learn(self, word: str) -> None:
        if word in self._words:
            return
        self._words.add(word)
        for number, phones in enumerate(pronunciations(word), start=1):
            self._decoder.add_word(word if number == 1 else f"{word}({number})", phones, False)


def _fit(segments: Sequence[tuple[str, int, float]]) -> float:
    """How well the model explains what was said, per frame; 0 is best.

    The mean score of the words, plus a share of the worst silence: speech that fits no word hides there.
    """
    words = [(frames, math.log(max(score, _LEAST))) for word, frames, score in segments if word[0] != "<"]
    pauses = [
        math.log(max(score, _LEAST)) / frames
        for word, frames, score in segments
        if word[0] == "<" and frames > _SILENCE_FRAMES
    ]
    mean = sum(score for _, score in words) / max(1, sum(frames for frames, _ in words))
    return mean + _SILENCE_WEIGHT * min(pauses, default=0.0)


class Decoders:
    """The decoders of a process, shared by its calls: one is taken for each utterance and given back after it."""

    def __init__(self) -> None:
        self._free: list[Decoder] = []

    def prepare(self, count: int, grammars: Iterable[Sequence[str]] = ()) -> None:
        """Have `count` decoders ready, warm and with these grammars compiled. Blocks for some 15 ms each."""
        known = [grammar(tuple(phrases)) for phrases in grammars]
        while len(self._free) < count:
            self._free.append(Decoder())
        for decoder in self._free:
            for phrases in known[-MOST_GRAMMARS:]:
                decoder.start(phrases)
                decoder.hear(bytes(3200))
                decoder.finish()

    def take(self) -> Decoder:
        """A free decoder; a new one if there is none, which takes some 15 ms once."""
        return self._free.pop() if self._free else Decoder()

    def give(self, decoder: Decoder) -> None:
        """Done with it."""
        self._free.append(decoder)


@lru_cache(maxsize=1)
def decoders() -> Decoders:
    """The decoders of this process; a forked child inherits them."""
    return Decoders()
