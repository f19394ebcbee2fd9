"""Telephone audio: μ-law (ITU-T G.711) and 8 ⇄ 16 kHz conversion, cheap enough for every frame of every call.

Audio is 16-bit little-endian mono PCM in `bytes`. The two converters exist because a general resampler holds
audio back for tens of milliseconds; theirs is a short half-band filter that delays by `FILTER_DELAY_MS`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PHONE_HZ = 8000
SAMPLE_BYTES = 2
FILTER_TAPS = 63  # odd, with an odd centre: all odd taps but the centre are then zero
FILTER_DELAY_MS = (FILTER_TAPS - 1) / 2 / 16
MULAW_SILENCE = b"\xff"

_BIAS = 0x84
_CLIP = 8191
_INT16_MIN, _INT16_MAX = -32768, 32767


def _decoding_table() -> NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.uint8)
    exponent = ((code >> 4) & 0x07).astype(np.int32)
    mantissa = (code & 0x0F).astype(np.int32)
    magnitude = (((mantissa << 3) + _BIAS) << exponent) - _BIAS
    table: NDArray[np.int16] = np.where(code & 0x80, -magnitude, magnitude).astype("<i2")
    return table


def _encoding_table() -> NDArray[np.uint8]:
    """The μ-law byte of each sample, indexed by the sample's bits as an unsigned number."""
    sample = np.arange(65536, dtype=np.uint16).astype(np.int16).astype(np.int32) >> 2  # G.711 codes 14 bits
    magnitude = np.minimum(np.abs(sample) + (_BIAS >> 2), _CLIP)
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 5
    mantissa = (magnitude >> (exponent + 1)) & 0x0F
    sign = np.where(sample < 0, 0x80, 0)
    table: NDArray[np.uint8] = (~(sign | (exponent << 4) | mantissa) & 0xFF).astype(np.uint8)
    return table


_DECODE = _decoding_table()
_ENCODE = _encoding_table()


def mulaw_decode(mulaw: bytes) -> bytes:
    """μ-law bytes to PCM; twice as long as its input."""
    return _DECODE.take(np.frombuffer(mulaw, np.uint8)).tobytes()


def mulaw_encode(pcm: bytes) -> bytes:
    """PCM to μ-law bytes; half as long as its input. A trailing odd byte is dropped."""
    if len(pcm) % SAMPLE_BYTES:
        pcm = pcm[:-1]
    return _ENCODE.take(np.frombuffer(pcm, "<u2")).tobytes()


def _half_band() -> NDArray[np.float32]:
    centre = (FILTER_TAPS - 1) // 2
    n = np.arange(FILTER_TAPS) - centre
    taps = np.sinc(n / 2) / 2 * np.kaiser(FILTER_TAPS, 6.0)
    scaled: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return scaled


_TAPS = _half_band()
_EVEN = np.ascontiguousarray(_TAPS[0::2])
_CENTRE = float(_TAPS[(FILTER_TAPS - 1) // 2])


class Upsampler:
    """Turns a stream of 8 kHz PCM into 16 kHz PCM, `FILTER_DELAY_MS` late. One per stream; not shared."""

    def __init__(self) -> None:
        self._past = np.zeros(len(_EVEN) - 1, np.float32)

    def process(self, pcm: bytes) -> bytes:
        """The next piece; twice as long as its input."""
        if not pcm:
            return b""
        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        stream = np.concatenate((self._past, samples))
        self._past = stream[len(samples) :]
        out = np.empty(2 * len(samples), np.float32)
        out[0::2] = np.convolve(stream, 2 * _EVEN, "valid")
        delay = FILTER_TAPS // 4
        out[1::2] = 2 * _CENTRE * stream[len(_EVEN) - 1 - delay : len(stream) - delay]
        return _pcm(out)


class Downsampler:
    """Turns a stream of 16 kHz PCM into 8 kHz PCM, `FILTER_DELAY_MS` late. One per stream; not shared."""

    def __init__(self) -> None:
        self._evens = np.zeros(len(_EVEN) - 1, np.float32)
        self._odds = np.zeros(len(_EVEN) // 2, np.float32)
        self._rest = b""

    def process(self, pcm: bytes) -> bytes:
        """The next piece; half as long as its input, an odd sample being kept for the next."""
        pcm = self._rest + pcm
        whole = len(pcm) // (2 * SAMPLE_BYTES) * 2 * SAMPLE_BYTES
        self._rest = pcm[whole:]
        if not whole:
            return b""
        samples = np.frombuffer(pcm[:whole], "<i2").astype(np.float32)
        evens = np.concatenate((self._evens, samples[0::2]))
        odds = np.concatenate((self._odds, samples[1::2]))
        count = len(samples) // 2
        self._evens, self._odds = evens[count:], odds[count:]
        return _pcm(np.convolve(evens, _EVEN, "valid") + _CENTRE * odds[:count])


def _pcm(samples: NDArray[np.float32]) -> bytes:
    return np.clip(np.rint(samples), _INT16_MIN, _INT16_MAX).astype("<i2").tobytes()
