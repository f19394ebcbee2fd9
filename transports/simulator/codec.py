"""Telephone audio: G.711 mu-law at 8 kHz in frames of 20 ms, loudness by table, resampling, two-channel WAV."""

from __future__ import annotations

import base64
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.int16]

RATE_HZ = 8000
FRAME_MS = 20
FRAME_S = FRAME_MS / 1000
FRAME_BYTES = RATE_HZ * FRAME_MS // 1000
SILENCE = b"\xff" * FRAME_BYTES


def _decode_table() -> Pcm:
    """G.711 expansion of each of the 256 codes."""
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


_DECODED = _decode_table()


def _encode_table() -> NDArray[np.uint8]:
    """The nearest code for each 16-bit sample, looked up by the sample's upper 14 bits."""
    order = np.argsort(_DECODED, kind="stable")
    levels = _DECODED[order].astype(np.int32)
    samples = np.arange(-32768, 32768, 4, dtype=np.int32) + 2
    right = np.clip(np.searchsorted(levels, samples), 1, 255)
    left = right - 1
    nearest = np.where(samples - levels[left] <= levels[right] - samples, left, right)
    return order[nearest].astype(np.uint8)


_ENCODED = _encode_table()
# One byte a sample: magnitude in steps of 16, saturated. Their mean tells speech from silence in a microsecond.
_LOUDNESS = bytes(np.minimum(255, np.abs(_DECODED.astype(np.int32)) >> 4).astype(np.uint8))


def decode(mulaw: bytes) -> Pcm:
    """Mu-law to 16-bit samples."""
    return _DECODED[np.frombuffer(mulaw, dtype=np.uint8)]


def encode(pcm: Pcm) -> bytes:
    """16-bit samples to mu-law."""
    codes: NDArray[np.uint8] = _ENCODED[(pcm.astype(np.int32) + 32768) >> 2]
    return codes.tobytes()


def loudness(frame: bytes) -> int:
    """Mean magnitude of a mu-law frame on the 16-bit scale, saturated at about 4000."""
    return sum(frame.translate(_LOUDNESS)) * 16 // max(1, len(frame))


def resample(pcm: NDArray[np.generic], rate_hz: int, to_hz: int) -> Pcm:
    """Band-limited resampling of a whole clip."""
    if rate_hz == to_hz or not len(pcm):
        return pcm.astype(np.int16)
    count = max(1, round(len(pcm) * to_hz / rate_hz))
    spectrum = np.fft.rfft(pcm.astype(np.float64))
    bins = count // 2 + 1
    spectrum = np.pad(spectrum[:bins], (0, max(0, bins - len(spectrum))))
    out = np.fft.irfft(spectrum, count) * (count / len(pcm))
    return np.clip(np.round(out), -32768, 32767).astype(np.int16)


def trim(pcm: Pcm, threshold: int = 200) -> Pcm:
    """The clip without the silence before and after it, so that its bounds are those of the speech."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > threshold)
    return pcm[loud[0] : loud[-1] + 1] if len(loud) else pcm[:0]


def noise(seconds: float, dbfs: float, seed: int = 1) -> Pcm:
    """Speech-shaped noise (falling towards high frequencies) at a level relative to full scale."""
    count = int(seconds * RATE_HZ)
    white = np.random.default_rng(seed).standard_normal(count)
    spectrum = np.fft.rfft(white)
    hertz = np.fft.rfftfreq(count, 1 / RATE_HZ)
    spectrum *= 1 / np.sqrt(1 + (hertz / 500) ** 2)
    shaped = np.fft.irfft(spectrum, count)
    shaped *= 32768 * 10 ** (dbfs / 20) / max(1e-9, float(np.sqrt(np.mean(shaped**2))))
    samples: Pcm = np.clip(shaped, -32768, 32767).astype(np.int16)
    return samples


def mix(clip: Pcm, under: Pcm) -> Pcm:
    """`clip` with `under` repeated beneath it."""
    bed = np.resize(under, len(clip)).astype(np.int32)
    mixed: Pcm = np.clip(clip.astype(np.int32) + bed, -32768, 32767).astype(np.int16)
    return mixed


@dataclass(frozen=True, slots=True)
class Clip:
    """Something to be said, cut into frames and encoded for the wire once, however often it is said."""

    text: str
    frames: tuple[bytes, ...]  # mu-law, FRAME_BYTES each
    payloads: tuple[bytes, ...]  # the same in base64

    @property
    def seconds(self) -> float:
        """How long it takes to say."""
        return len(self.frames) * FRAME_S


def clip(text: str, pcm: Pcm) -> Clip:
    """Cut samples into whole frames, the last one padded with silence."""
    data = encode(pcm)
    data += b"\xff" * (-len(data) % FRAME_BYTES)
    frames = tuple(data[at : at + FRAME_BYTES] for at in range(0, len(data), FRAME_BYTES))
    return Clip(text, frames, tuple(base64.b64encode(frame) for frame in frames))


def write_wav(path: Path, left: bytes, right: bytes) -> None:
    """Two mu-law channels as a 16-bit stereo WAV; the shorter one is padded with silence."""
    length = max(len(left), len(right))
    stereo = np.zeros((length, 2), dtype="<i2")
    stereo[: len(left), 0] = decode(left)
    stereo[: len(right), 1] = decode(right)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(stereo.tobytes())
