"""The last second of audio: where a voice's onset lies by the time it is noticed."""

from __future__ import annotations

from collections import deque

RATE_HZ = 8000
BYTES_PER_S = RATE_HZ * 2
KEPT_S = 1.0
LEAD_S = 0.3  # before the onset, since soft first consonants begin before the voice does


class PreRoll:
    """Keeps the newest second of 8 kHz PCM."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0

    def hear(self, pcm: bytes) -> None:
        """Take the next piece."""
        self._pieces.append(pcm)
        self._size += len(pcm)
        while self._size - len(self._pieces[0]) >= KEPT_S * BYTES_PER_S:
            self._size -= len(self._pieces.popleft())

    def take(self, since_onset_s: float) -> bytes:
        """The audio from a little before an onset that was `since_onset_s` ago; the rest is forgotten."""
        lead = int((since_onset_s + LEAD_S) * RATE_HZ) * 2
        audio = b"".join(self._pieces)[-lead:]
        self._pieces.clear()
        self._size = 0
        return audio
