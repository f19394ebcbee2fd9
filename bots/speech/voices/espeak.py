"""eSpeak NG, the offline voice: the shared library of `espeakng_loader`, resampled to the telephone's 8 kHz.

A clause takes a few milliseconds to synthesise and is done in a thread, so the loop goes on. Word events of
the library tell where each word ends, so that words leave the line together with their sound.
"""

from __future__ import annotations

import asyncio
import ctypes
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import lru_cache
from typing import Any

import espeakng_loader
import msgspec
import numpy as np
from numpy.typing import NDArray
from pipecat.frames.frames import Frame, TTSAudioRawFrame
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService

from bots.speech.voices.clips import Clip, ClipCache, Word, cut

RATE_HZ = 8000
CHUNK_BYTES = RATE_HZ * 2 * 4 // 10
_SYNCHRONOUS, _CHARACTERS, _UTF8 = 2, 1, 1
_RATE, _VOLUME, _PITCH = 1, 2, 3
_WORD_EVENT = 1
_TAPS = 96  # of the low-pass between eSpeak's rate and ours: 4 ms, flat to 3.4 kHz
_CUTOFF_HZ = 3700
_QUIET = 120  # a sample below this is silence
_TAIL_S = 0.12  # silence kept after a clause


class VoiceError(Exception):
    """eSpeak NG cannot speak. Check `[voice] espeak` of the persona: `voice`, `rate` (80-450), `pitch` (0-99)."""


class Style(msgspec.Struct, frozen=True):
    """How eSpeak NG sounds: a voice such as `en-us+f3`, words a minute, pitch from 0 to 99."""

    voice: str = "en-us"
    rate: int = 165
    pitch: int = 50

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Style:
        """The style in a persona's `[voice] espeak` table.

        Raises:
            VoiceError: the table holds something else.
        """
        try:
            return msgspec.convert(dict(table), cls)
        except msgspec.ValidationError as error:
            raise VoiceError(f"{VoiceError.__doc__} {error}.") from error


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Espeak:
    """The engine. Its library keeps global state, so there is one a process: `espeak()`. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self.rate_hz: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        if self.rate_hz <= 0:
            raise VoiceError("eSpeak NG does not start; reinstall espeakng-loader.")
        self._style: Style | None = None
        self._parts: list[bytes] = []
        self._words: list[tuple[int, int]] = []  # position in the text, ms into the sound
        self._callback: Callable[..., int] = _CALLBACK(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_TextToPhonemes.restype = ctypes.c_char_p

    def speak(self, text: str, style: Style) -> Clip:
        """`text` as a clip of 8 kHz PCM. Blocks for some 3 ms a second of speech: call it off the event loop.

        Raises:
            VoiceError: there is no such voice, or the library failed.
        """
        with self._lock:
            self._choose(style)
            self._parts, self._words = [], []
            line = text.encode() + b"\0"
            failed = self._library.espeak_Synth(line, len(line), 0, _CHARACTERS, 0, _UTF8, None, None)
            sound = np.frombuffer(b"".join(self._parts), np.int16)
            words = self._words
        if failed:
            raise VoiceError(f"eSpeak NG could not say {text!r}.")
        pcm = resample(sound, self.rate_hz)
        return _clip(text, pcm, [(position, ms * RATE_HZ // 1000) for position, ms in words])

    def phonemes(self, word: str) -> list[str]:
        """How an English `word` is said: IPA symbols, stress marks included."""
        with self._lock:
            self._choose(Style())
            pointer = ctypes.c_char_p(word.encode())
            ipa: bytes = self._library.espeak_TextToPhonemes(ctypes.byref(pointer), _UTF8, ord("_") << 8 | 0x02)
        return ipa.decode().strip().split("_")

    def _choose(self, style: Style) -> None:
        if style == self._style:
            return
        self._style = None
        if self._library.espeak_SetVoiceByName(style.voice.encode()) != 0:
            raise VoiceError(f"eSpeak NG has no voice {style.voice!r}; try 'en-us' or 'en-us+f3'.")
        self._library.espeak_SetParameter(_RATE, style.rate, 0)
        self._library.espeak_SetParameter(_PITCH, style.pitch, 0)
        self._library.espeak_SetParameter(_VOLUME, 90, 0)
        self._style = style

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        if count > 0 and samples:
            self._parts.append(ctypes.string_at(samples, count * 2))
        index = 0
        while events and events[index].type != 0:
            if events[index].type == _WORD_EVENT:
                self._words.append((events[index].text_position - 1, events[index].audio_position))
            index += 1
        return 0


@lru_cache(maxsize=1)
def espeak() -> Espeak:
    """The one engine of this process; a forked child inherits it."""
    return Espeak()


@lru_cache(maxsize=4)
def _bank(rate_hz: int) -> tuple[int, NDArray[np.int64], NDArray[np.float32]]:
    """The polyphase filter to 8 kHz: input step per block, and each phase's first input sample and taps."""
    divisor = int(np.gcd(RATE_HZ, rate_hz))
    up, down = RATE_HZ // divisor, rate_hz // divisor
    at = np.arange(up) * down / up
    first = np.floor(at).astype(np.int64)
    distance = np.arange(_TAPS)[None, :] - (_TAPS // 2 - 1) - (at - first)[:, None]
    cutoff = 2 * _CUTOFF_HZ / rate_hz
    window = np.i0(6.0 * np.sqrt(np.clip(1 - (2 * distance / _TAPS) ** 2, 0, 1)))
    taps = np.sinc(cutoff * distance) * window
    taps /= taps.sum(axis=1, keepdims=True)
    return down, first, taps.astype(np.float32)


def resample(sound: NDArray[np.int16], rate_hz: int) -> NDArray[np.int16]:
    """A whole clip at `rate_hz` as 8 kHz samples, without delay."""
    if not len(sound):
        return sound
    step, first, taps = _bank(rate_hz)
    blocks = -(-len(sound) // step)
    padded = np.zeros(blocks * step + _TAPS + int(first[-1]), np.float32)
    start = _TAPS // 2 - 1
    padded[start : start + len(sound)] = sound
    out = np.empty((blocks, len(first)), np.float32)
    for phase, offset in enumerate(first):
        windows = np.lib.stride_tricks.as_strided(
            padded[offset:], (blocks, _TAPS), (step * padded.strides[0], padded.strides[0])
        )
        out[:, phase] = windows @ taps[phase]
    samples = out.reshape(-1)[: len(sound) * RATE_HZ // rate_hz]
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def _clip(text: str, pcm: NDArray[np.int16], events: list[tuple[int, int]]) -> Clip:
    """The clip without outer silence; a word that eSpeak merged with the next one ends with it."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > _QUIET)
    if not len(loud):
        return Clip(b"", tuple(Word(word, 0) for word in text.split()))
    lead, end = int(loud[0]), min(len(pcm), int(loud[-1]) + int(_TAIL_S * RATE_HZ))
    words: list[Word] = []
    position = 0
    for token in text.split():
        position = text.index(token, position) + len(token)
        later = [sample for where, sample in events if where >= position]
        ends = min(later) - lead if later else end - lead
        words.append(Word(token, 2 * max(0, min(ends, end - lead))))
    return Clip(pcm[lead:end].tobytes(), tuple(words))


class EspeakVoice(TTSService):
    """eSpeak NG as a Pipecat service. Pushes each word right behind its sound.

    Args:
        style: how it sounds.
        clips: keeps what was said before; shared by the calls of a process.
    """

    def __init__(self, style: Style, clips: ClipCache) -> None:
        super().__init__(
            name="espeak",
            sample_rate=RATE_HZ,
            push_text_frames=False,
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model="espeak-ng", voice=style.voice, language=None),
        )
        self._style = style
        self._clips = clips

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Speak `text`, a clause or a sentence.

        Raises:
            VoiceError: the voice does not exist.
        """
        clip = self._clips.find(text, self._style)
        if clip is None:
            clip = await asyncio.to_thread(self._clips.make, text, self._style, espeak().speak)
        for pcm, word, ends in cut(clip, CHUNK_BYTES):
            if pcm:
                yield TTSAudioRawFrame(pcm, RATE_HZ, 1, context_id=context_id)
            if word:
                await self.add_word_timestamps([(word, ends / (2 * RATE_HZ))], context_id)
