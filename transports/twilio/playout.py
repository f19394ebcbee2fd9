"""What the caller has heard: the clock that paces our audio, and the marks that confirm it.

Positions are milliseconds of audio since the stream began. `sent` is what was written to the socket; an
absolute clock estimates how much of it is still to be played; `confirmed` is how far mark echoes reach.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

MAX_MARKS = 1024  # a peer that never echoes must not make us remember every mark of a long call
CLEAR_MARGIN_MS = 500.0  # audio plays later than estimated by the way to Twilio; past this it surely is over
RESTART_GAP_MS = 1.0
RAMP = 0.25  # how much faster than real time the lead is built and, after a stall, rebuilt


@dataclass(frozen=True, slots=True)
class PlayoutStatus:
    """How a stream's output stands, in milliseconds of audio.

    `outstanding_ms` estimates what Twilio still holds; it errs low by the time audio takes to get there.
    `underruns` counts the times speech broke off because its next part came too late.
    """

    sent_ms: float
    confirmed_ms: float
    cleared_ms: float
    outstanding_ms: float
    underruns: int
    pending_marks: int


class Playout:
    """Paces one stream and keeps its account. `clock` gives seconds, monotonically."""

    def __init__(self, lead_ms: float, clock: Callable[[], float]) -> None:
        self._lead = lead_ms / 1000
        self._clock = clock
        self._ends_at = clock()  # when all that was sent will have been played
        self._spaced_at = self._ends_at  # the earliest time for the next message
        self._protected_until = self._ends_at
        self._sent_ms = 0.0
        self._confirmed_ms = 0.0
        self._cleared_ms = 0.0
        self._settled_ms = 0.0  # nothing sent before this position is outstanding any more
        self._underruns = 0
        self._in_speech = False
        self._marks: deque[tuple[str, float]] = deque(maxlen=MAX_MARKS)
        self._void: deque[str] = deque(maxlen=MAX_MARKS)  # cleared marks, whose echoes prove nothing

    @property
    def ends_at(self) -> float:
        """When, by our clock, everything sent so far has been played."""
        return self._ends_at

    def wait_seconds(self) -> float:
        """How long to wait before sending more; not positive if it is time.

        Never more than the lead is outstanding. The lead is built up a little faster than real time rather than in
        a burst, so that messages arrive evenly; audio that starts after silence goes out at once.
        """
        now = self._clock()
        if self._ends_at <= now:
            return 0.0
        return max(self._ends_at - self._lead, self._spaced_at) - now

    def sent(self, ms: float, *, protected: bool = False) -> None:
        """`ms` of audio were written to the socket; `protected` audio is not cleared by a barge-in."""
        now = self._clock()
        if self._ends_at < now:
            if self._in_speech and (now - self._ends_at) * 1000 > RESTART_GAP_MS:
                self._underruns += 1
            self._ends_at = now
        self._in_speech = True
        self._ends_at += ms / 1000
        self._spaced_at = now + ms / 1000 * (1 - RAMP)
        self._sent_ms += ms
        if protected:
            self._protected_until = self._ends_at

    def marked(self, name: str) -> None:
        """A mark was sent: the utterance is complete, and silence after it is no underrun."""
        self._in_speech = False
        self._marks.append((name, self._sent_ms))

    def echoed(self, name: str) -> bool:
        """A mark came back; returns whether that proves its audio was played (a cleared one does not).

        Twilio echoes marks in order, and at once for those that a `clear` overtook.
        """
        if name in self._void:
            while self._void.popleft() != name:
                pass
            return False
        if not any(name == known for known, _ in self._marks):
            return False
        while self._marks:
            known, position = self._marks.popleft()
            self._confirmed_ms = max(self._confirmed_ms, position)
            if known == name:
                break
        return True

    def clear(self) -> bool:
        """Forget what is outstanding; returns whether a `clear` must be sent for it to be so at Twilio's."""
        now = self._clock()
        if now < self._protected_until:
            return False
        self._in_speech = False
        settled = max(self._confirmed_ms, self._settled_ms) >= self._sent_ms
        if settled or (now - self._ends_at) * 1000 > CLEAR_MARGIN_MS:
            return False
        outstanding = max(0.0, (self._ends_at - now) * 1000)
        played = self._sent_ms - outstanding
        self._void.extend(name for name, position in self._marks if position > played)
        self._marks = deque(((n, p) for n, p in self._marks if p <= played), maxlen=MAX_MARKS)
        self._settled_ms = self._sent_ms
        self._cleared_ms += outstanding
        self._ends_at = now
        return True

    @property
    def awaiting_echo(self) -> bool:
        """Whether the last mark has not come back yet."""
        return bool(self._marks)

    def status(self) -> PlayoutStatus:
        return PlayoutStatus(
            sent_ms=round(self._sent_ms, 3),
            confirmed_ms=round(self._confirmed_ms, 3),
            cleared_ms=round(self._cleared_ms, 3),
            outstanding_ms=round(max(0.0, (self._ends_at - self._clock()) * 1000), 3),
            underruns=self._underruns,
            pending_marks=len(self._marks),
        )
