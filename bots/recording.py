"""Two-channel recording of a call: the caller left, the bot right. Nothing is written before consent.

Each process that runs a part of the call writes one part file of raw 16-bit PCM at 8 kHz, interleaved and placed
on the wall clock, so a killed process loses at most the last second. `assemble` joins the parts into one WAV.
"""

from __future__ import annotations

import asyncio
import time
import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

RATE_HZ = 8000
FLUSH_SECONDS = 1.0
SLACK = (RATE_HZ // 5, RATE_HZ * 6 // 100)  # lateness that is no gap: a caller's audio never pauses, a bot's does
LAG_SECONDS = 0.5  # what may still arrive for a moment that has passed
Samples = npt.NDArray[np.int16]


class Recorder:
    """Writes one part of one call. `start` is called when, and only when, consent was given.

    Args:
        folder: where the call's parts lie; made on start.
        part: the part's name, unique per holder of the call (its epoch).
        lead_seconds: how far the bot's audio is sent ahead of its playing.
    """

    def __init__(self, folder: Path, part: int, lead_seconds: float = 0.0) -> None:
        self._path = folder / f"{part:04d}-{{at}}.pcm"
        self._lead = lead_seconds
        self._began = 0.0
        self._ends = [0, 0]  # samples written so far, per channel
        self._pending: Samples = np.zeros((0, 2), np.int16)
        self._flushed = 0
        self._writing: asyncio.Task[None] | None = None
        self._file: Path | None = None

    @property
    def recording(self) -> bool:
        return self._writing is not None

    def start(self) -> None:
        """Begin to record; a second call changes nothing."""
        if self._writing is None:
            self._began = time.monotonic()
            self._file = Path(str(self._path).format(at=time.time_ns()))
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._writing = asyncio.create_task(self._write(), name="recording")

    def discard(self) -> None:
        """Consent was withdrawn: stop, and delete what this call's processes have recorded so far."""
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None
        for part in self._path.parent.glob("*.pcm"):
            part.unlink(missing_ok=True)

    def caller(self, audio: bytes) -> None:
        """The caller's audio, as it arrives."""
        self._put(0, audio, 0.0)

    def bot(self, audio: bytes) -> None:
        """The bot's audio, as it is sent."""
        self._put(1, audio, self._lead)

    async def stop(self) -> None:
        """Flush what is left and end the part."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)
            self._writing = None
            await self._flush(len(self._pending))

    def _put(self, channel: int, audio: bytes, ahead: float) -> None:
        if self._writing is None:
            return
        samples = np.frombuffer(audio, np.int16)
        now = int((time.monotonic() - self._began + ahead) * RATE_HZ) - len(samples)
        # Audio of one spurt is contiguous; only a real gap moves the write position to the clock.
        at = self._ends[channel] if now - self._ends[channel] < SLACK[channel] else now
        at = max(at, self._flushed)
        end = at - self._flushed + len(samples)
        if end > len(self._pending):
            grown = np.zeros((max(end, 2 * len(self._pending)), 2), np.int16)
            grown[: len(self._pending)] = self._pending
            self._pending = grown
        self._pending[at - self._flushed : end, channel] = samples
        self._ends[channel] = at + len(samples)

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            ready = int((time.monotonic() - self._began - LAG_SECONDS) * RATE_HZ) - self._flushed
            await self._flush(min(max(ready, 0), len(self._pending)))

    async def _flush(self, count: int) -> None:
        end = max(self._ends) - self._flushed
        count = min(count, max(end, 0))
        if count > 0 and self._file is not None:
            block, self._pending = self._pending[:count].tobytes(), self._pending[count:]
            self._flushed += count
            await asyncio.to_thread(_append, self._file, block)


def _append(path: Path, block: bytes) -> None:
    with path.open("ab") as file:
        file.write(block)


def assemble(folder: Path, target: Path) -> Path | None:
    """Join the parts in `folder` into the WAV file `target` in the order they were begun; None without parts."""
    parts = sorted(folder.glob("*.pcm"), key=lambda path: int(path.stem.split("-")[1]))
    if not parts:
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(target), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        for block in _blocks(parts):
            file.writeframes(block)
    for part in parts:
        part.unlink()
    folder.rmdir()
    return target


def _blocks(parts: Iterable[Path]) -> Iterable[bytes]:
    for part in parts:
        yield part.read_bytes()
