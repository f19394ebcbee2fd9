"""One telephone line: the caller's mouth and ear, ticked 50 times a second, whatever stream is at the other end."""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Callable
from typing import Protocol

from . import codec
from .codec import FRAME_BYTES, SILENCE, Clip
from .hearing import SpeechDetector
from .measures import Measures

_SILENT_PAYLOAD = base64.b64encode(SILENCE)
_STILL_S = 0.25  # a bot silent for longer than this is not interrupted any more
_UTTERANCE_FRAMES = 1500  # of the bot, kept for the recogniser


class LineLost(Exception):  # an event of the call
    """The media stream dropped in the middle of what the caller was doing."""


class LineClosed(Exception):
    """The call is over."""


class FrameSink(Protocol):
    """Where the caller's frames go: a media stream."""

    def send_frame(self, payload: bytes) -> None:
        """Send 20 ms of the caller, in base64."""


class Line:
    """The caller's end of a call. `tick` moves it on by one frame; everything else only arranges the next ticks."""

    def __init__(self, measures: Measures, noise: Clip | None = None, recording: bool = False) -> None:
        self.measures = measures
        self.drops = 0
        self.closed = False
        self.sink: FrameSink | None = None
        self.now = 0.0
        self.listening = False  # keep the bot's audio for the recogniser
        self._noise = noise
        self._ticks = 0
        self._clip: Clip | None = None
        self._at = 0
        self._ear: deque[tuple[float, bytes]] = deque()  # when each frame is due to be heard, and the frame
        self._rest = b""
        self._playhead = 0.0
        self._played = 0  # bytes heard since the stream began; marks are positions in them
        self._queued = 0
        self._marks: deque[tuple[int, str]] = deque()
        self._on_mark: Callable[[str], None] | None = None
        self._detector = SpeechDetector()
        self._utterance: list[bytes] = []
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self.left = bytearray() if recording else None
        self.right = bytearray() if recording else None

    # what the person does and notices

    @property
    def bot_speaking(self) -> bool:
        """Whether the bot can be heard, short gaps included."""
        return self._detector.speaking

    @property
    def speaking(self) -> bool:
        """Whether the caller is in the middle of an utterance."""
        return self._clip is not None

    @property
    def bot_started_at(self) -> float:
        """When the bot's present or last spurt began."""
        return self._detector.started_at

    @property
    def bot_heard_at(self) -> float:
        """When the bot was last heard."""
        return self._detector.last_sound_at

    def background(self, noise: Clip | None) -> None:
        """What the line carries while the caller is silent."""
        self._noise, self._ticks = noise, 0

    def take_utterance(self) -> bytes:
        """The bot's audio since the last call of this, while `listening`."""
        audio = b"".join(self._utterance)
        self._utterance.clear()
        return audio

    async def until(self, true: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait for a condition, looked at on every tick; false if `timeout` seconds went by first.

        Raises:
            LineLost: the stream dropped meanwhile.
            LineClosed: the call ended meanwhile.
        """
        drops = self.drops
        outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = (lambda: true() or self.closed or self.drops != drops, outcome)
        if not waiting[0]():
            self._waiting.append(waiting)
            try:
                async with asyncio.timeout(timeout):
                    await outcome
            except TimeoutError:
                return true()
            finally:
                if waiting in self._waiting:
                    self._waiting.remove(waiting)
        if self.closed:
            raise LineClosed
        if self.drops != drops:
            raise LineLost
        return True

    async def speak(self, clip: Clip) -> None:
        """Say a clip and wait until its last frame is sent.

        Raises:
            LineLost: the stream dropped under it; the rest is not said.
            LineClosed: the call ended.
        """
        if self.sink is None:
            await self.until(lambda: self.sink is not None)
        self._clip, self._at = clip, 0
        try:
            await self.until(lambda: self._clip is not clip)
        finally:
            if self._clip is clip:
                self._stop_speaking(cut=True)

    # what the network does

    def attach(self, sink: FrameSink, on_mark: Callable[[str], None]) -> None:
        """A media stream begins."""
        self.sink, self._on_mark = sink, on_mark
        self._drop_buffer()
        self._played = self._queued = 0

    def detach(self, dropped: bool) -> None:
        """The stream is over; what it had buffered is lost."""
        self.sink = self._on_mark = None
        self._drop_buffer()
        self._marks.clear()
        self._cut(self.now)
        if dropped:
            self._stop_speaking(cut=True)
            self.drops += 1

    def close(self) -> None:
        """The call is over: everyone who waits is told."""
        if self.closed:
            return
        self._stop_speaking(cut=True)
        self._cut(self.now)
        self.closed = True
        self._wake()

    def arrive(self, audio: bytes, now: float) -> None:
        """Mu-law audio from the bot, of any length."""
        self._playhead = max(self._playhead, now)
        self._queued += len(audio)
        data = self._rest + audio
        due = self._playhead - len(self._rest) / codec.RATE_HZ
        whole = len(data) - len(data) % FRAME_BYTES
        for at in range(0, whole, FRAME_BYTES):
            self._ear.append((due + at / codec.RATE_HZ, data[at : at + FRAME_BYTES]))
        self._rest = data[whole:]
        self._playhead += len(audio) / codec.RATE_HZ

    def mark(self, name: str) -> None:
        """Echo `name` when everything that came before it has been heard."""
        self._marks.append((self._queued, name))
        self._echo()

    def clear(self, now: float) -> None:
        """Drop the bot's buffered audio; every pending mark is echoed at once."""
        self.measures.cleared(now)
        self._drop_buffer()
        self._cut(now)
        self._played = self._queued
        self._echo()

    def tick(self, now: float) -> None:
        """Send and hear one frame."""
        self.now = now
        payload, frame = self._next_frame(now)
        if self.sink is not None:
            self.sink.send_frame(payload)
        heard = self._hear(now)
        if self.left is not None and self.right is not None:
            self.left += frame
            self.right += heard
        if self._waiting:
            self._wake()

    def _next_frame(self, now: float) -> tuple[bytes, bytes]:
        clip = self._clip
        if clip is None:
            if self._noise is None:
                return _SILENT_PAYLOAD, SILENCE
            self._ticks = (self._ticks + 1) % len(self._noise.frames)
            return self._noise.payloads[self._ticks], self._noise.frames[self._ticks]
        at = self._at
        if at == 0:
            over = self.bot_speaking and now - self.bot_heard_at < _STILL_S
            self.measures.caller_starts(clip.text, now, over)
        self._at = at + 1
        if self._at >= len(clip.frames):
            self._stop_speaking(cut=False)
        return clip.payloads[at], clip.frames[at]

    def _stop_speaking(self, cut: bool) -> None:
        clip, self._clip = self._clip, None
        if clip is not None and self._at:
            self.measures.caller_ends(self.now, cut)

    def _hear(self, now: float) -> bytes:
        detector = self._detector
        if not self._ear and self._rest and now > self._playhead:
            self._ear.append((self._playhead - len(self._rest) / codec.RATE_HZ, self._rest.ljust(FRAME_BYTES, b"\xff")))
            self._played -= FRAME_BYTES - len(self._rest)
            self._rest = b""
        if not self._ear:
            if detector.quiet(now):
                self.measures.bot_ends(detector.last_sound_at)
            if self.listening and self._utterance:
                self._keep(SILENCE)
            return SILENCE
        due, frame = self._ear.popleft()
        self._played += FRAME_BYTES
        spoke = detector.speaking
        if detector.hear(frame, due):
            self.measures.bot_starts(detector.started_at, self.speaking)
        elif spoke and not detector.speaking:
            self.measures.bot_ends(detector.last_sound_at)
        if self.listening:
            self._keep(frame)
        if self._marks:
            self._echo()
        return frame

    def _keep(self, frame: bytes) -> None:
        if len(self._utterance) < _UTTERANCE_FRAMES:
            self._utterance.append(frame)

    def _echo(self) -> None:
        while self._marks and self._marks[0][0] <= self._played:
            name = self._marks.popleft()[1]
            if self._on_mark:
                self._on_mark(name)

    def _drop_buffer(self) -> None:
        self._ear.clear()
        self._rest = b""
        self._playhead = self.now

    def _cut(self, now: float) -> None:
        if self._detector.cut():
            self.measures.bot_ends(min(now, self._detector.last_sound_at))

    def _wake(self) -> None:
        for waiting in [each for each in self._waiting if each[0]()]:
            self._waiting.remove(waiting)
            if not waiting[1].done():
                waiting[1].set_result(None)
