"""eSpeak NG through the library of `espeakng_loader`. One process may speak one line at a time."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass

import espeakng_loader
import numpy as np

from . import codec

_SYNCHRONOUS = 2
_CHARACTERS = 1
_UTF8 = 1
_RATE, _VOLUME, _PITCH = 1, 2, 3

_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class VoiceError(Exception):
    """eSpeak NG cannot speak. Its message names the voice; `espeak-ng --voices` lists those there are."""


@dataclass(frozen=True, slots=True)
class VoiceStyle:
    """How a caller sounds: an eSpeak NG voice, words a minute, pitch from 0 to 99."""

    name: str = "en-us"
    rate: int = 165
    pitch: int = 50


class Espeak:
    """The engine. Its library keeps global state: build one a process; `speak` may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path().encode()
        self._rate_hz: int = self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0)
        if self._rate_hz <= 0:
            raise VoiceError("eSpeak NG does not start; reinstall espeakng-loader.")
        self._parts: list[bytes] = []
        self._callback: Callable[..., int] = _CALLBACK(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: object) -> int:
        if count > 0 and samples:
            self._parts.append(ctypes.string_at(samples, count * 2))
        return 0

    def speak(self, text: str, style: VoiceStyle) -> codec.Pcm:
        """`text` as 8 kHz samples without silence at its ends. Takes a few milliseconds; call it off the event loop.

        Raises:
            VoiceError: there is no such voice, or the library failed.
        """
        with self._lock:
            if self._library.espeak_SetVoiceByName(style.name.encode()) != 0:
                raise VoiceError(f"eSpeak NG has no voice {style.name!r}; try 'en-us' or 'en-us+f3'.")
            self._library.espeak_SetParameter(_RATE, style.rate, 0)
            self._library.espeak_SetParameter(_PITCH, style.pitch, 0)
            self._library.espeak_SetParameter(_VOLUME, 100, 0)
            self._parts.clear()
            line = text.encode() + b"\0"
            failed = self._library.espeak_Synth(line, len(line), 0, _CHARACTERS, 0, _UTF8, None, None)
            pcm = np.frombuffer(b"".join(self._parts), dtype=np.int16)
            if failed:
                raise VoiceError(f"eSpeak NG could not say {text!r}.")
        return codec.trim(codec.resample(pcm, self._rate_hz, codec.RATE_HZ))
