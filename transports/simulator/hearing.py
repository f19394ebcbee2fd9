"""What a person hears: whether the bot is speaking, by energy, and which expected phrase it said, by PocketSphinx."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pocketsphinx

from . import codec

_RATE_HZ = 16000  # the recogniser's model; the line is up-sampled to it
_PAUSE_FRAMES = 13  # a silence that parts two sentences; commas are shorter
_HISS = 60  # noise that fills the upper half of the band, which a telephone leaves empty and the model misses
_SHORTEST_FRAMES = 8
LOUD = 160  # mean magnitude of a frame that is sound; a quiet room lies near 60

# Names that no dictionary holds, with how they are said.
_SAID = {"ringdown": "R IH NG D AW N"}


class SpeechDetector:
    """Finds the spurts of sound in frames of 20 ms. Times are those of the frames, in seconds."""

    def __init__(self, hangover_ms: int = 400) -> None:
        self._hangover = hangover_ms / 1000
        self.speaking = False
        self.started_at = 0.0
        self.last_sound_at = 0.0  # when the last loud frame ended
        self._candidate: float | None = None

    def hear(self, frame: bytes, at: float) -> bool:
        """Take the frame that began at `at`; true if it begins a spurt (two loud frames in a row make one)."""
        if frame == codec.SILENCE or codec.loudness(frame) < LOUD:
            self._candidate = None
            self.quiet(at + codec.FRAME_S)
            return False
        self.last_sound_at = at + codec.FRAME_S
        if self.speaking:
            return False
        if self._candidate is None:
            self._candidate = at
            return False
        self.speaking, self.started_at, self._candidate = True, self._candidate, None
        return True

    def quiet(self, now: float) -> bool:
        """Nothing is heard at `now`; true if that ends a spurt."""
        if self.speaking and now - self.last_sound_at >= self._hangover:
            self.speaking = False
            return True
        return False

    def cut(self) -> bool:
        """Playback was cut off; true if that ends a spurt."""
        self._candidate = None
        was, self.speaking = self.speaking, False
        return was


def words(text: str) -> str:
    """Text as the recogniser knows it: lower case words, nothing else."""
    return " ".join(re.findall(r"[a-z']+", text.lower().replace("’", "'")))


def phrases(texts: Sequence[str]) -> list[str]:
    """The sentences of the texts, each once."""
    found: dict[str, None] = {}
    for text in texts:
        for sentence in re.split(r"[.!?;]", text):
            if words(sentence):
                found[words(sentence)] = None
    return list(found)


class Recogniser:
    """Hears only phrases it expects; everything else is not understood. Blocking: keep it off the event loop."""

    def __init__(self) -> None:
        folder = pocketsphinx.get_model_path()
        self._decoder = pocketsphinx.Decoder(
            hmm=f"{folder}/en-us/en-us",
            dict=f"{folder}/en-us/cmudict-en-us.dict",
            lm=None,
            samprate=_RATE_HZ,
            loglevel="FATAL",
        )
        self._grammars: dict[tuple[str, ...], tuple[str, list[str]]] = {}

    def understand(self, mulaw: bytes, expected: Sequence[str]) -> str:
        """The expected phrases that were heard in 8 kHz mu-law audio, in order; empty if none was understood."""
        search, known = self._grammar(tuple(expected))
        if not known:
            return ""
        self._decoder.activate_search(search)
        whole = self._decode(mulaw)
        if whole and _covered(whole, known):
            return whole
        parts = _parts(mulaw)
        heard = (self._decode(part) for part in parts) if len(parts) > 1 else ()
        return " ".join(text for text in heard if text and _covered(text, known))

    def _grammar(self, expected: tuple[str, ...]) -> tuple[str, list[str]]:
        if expected not in self._grammars:
            known = [phrase for phrase in phrases(expected) if self._knows(phrase)]
            search = f"expected-{len(self._grammars)}"
            if known:
                rule = " | ".join(known)
                self._decoder.add_jsgf_string(search, f"#JSGF V1.0;\ngrammar expected;\npublic <heard> = ( {rule} )+ ;")
            self._grammars[expected] = (search, known)
        return self._grammars[expected]

    def _knows(self, phrase: str) -> bool:
        for word in phrase.split():
            if self._decoder.lookup_word(word) is None:
                if word not in _SAID:
                    return False
                self._decoder.add_word(word, _SAID[word], True)
        return True

    def _decode(self, mulaw: bytes) -> str:
        pcm = codec.resample(codec.decode(mulaw), codec.RATE_HZ, _RATE_HZ)
        padded = np.pad(pcm.astype(np.float64), (_RATE_HZ // 5, _RATE_HZ * 3 // 10))
        padded += np.random.default_rng(0).normal(0, _HISS, len(padded))
        samples = np.clip(padded, -32768, 32767).astype(np.int16)
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), full_utt=True)
        self._decoder.end_utt()
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


def _covered(text: str, known: Sequence[str]) -> bool:
    """Whether `text` is made of whole phrases; a half phrase is the decoder's way of saying it was lost."""
    reached = {0}
    while reached:
        at = reached.pop()
        if at >= len(text):
            return bool(text)
        rest = text[at:]
        reached |= {at + len(p) + 1 for p in known if rest == p or rest.startswith(p + " ")}
    return False


def _parts(mulaw: bytes) -> list[bytes]:
    """The audio cut at its pauses."""
    frames = [mulaw[at : at + codec.FRAME_BYTES] for at in range(0, len(mulaw), codec.FRAME_BYTES)]
    parts: list[list[bytes]] = [[]]
    quiet = 0
    for frame in frames:
        quiet = 0 if codec.loudness(frame) >= LOUD else quiet + 1
        if quiet == _PAUSE_FRAMES:
            parts.append([])
        parts[-1].append(frame)
    return [b"".join(part) for part in parts if len(part) >= _SHORTEST_FRAMES]
