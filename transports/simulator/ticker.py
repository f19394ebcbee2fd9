"""One clock for every line of the network: 20 ms each, without drift, the lines spread over the 20 ms."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Protocol

from .codec import FRAME_S
from .measures import Distribution

_SLOTS = 4
_STEP_S = FRAME_S / _SLOTS
_GIVE_UP_S = 1.0  # a clock that is later than this (a stopped machine) starts anew rather than race


class Ticked(Protocol):
    """What the clock moves on."""

    def tick(self, now: float) -> None:
        """Do one frame's work."""


class Ticker:
    """Ticks lines. Behind by several frames, it makes up for them at once, as a network's jitter buffer would."""

    def __init__(self) -> None:
        self._slots: tuple[list[Ticked], ...] = tuple([] for _ in range(_SLOTS))
        self._handle: asyncio.TimerHandle | None = None
        self._zero = 0.0
        self._step = 0
        self.lag = Distribution()  # how late the ticks were, in ms: whether this simulator itself kept time

    def start(self) -> None:
        """Begin; needs a running loop."""
        self._zero, self._step = time.monotonic(), 0
        self._handle = asyncio.get_running_loop().call_later(_STEP_S, self._run)

    def stop(self) -> None:
        """End."""
        if self._handle:
            self._handle.cancel()

    def add(self, line: Ticked) -> None:
        """Tick a line from now on, in the emptiest slot."""
        min(self._slots, key=len).append(line)

    def remove(self, line: Ticked) -> None:
        """Tick it no more."""
        for slot in self._slots:
            if line in slot:
                slot.remove(line)

    def _run(self) -> None:
        now = time.monotonic()
        due = self._zero + (self._step + 1) * _STEP_S
        if now - due > _GIVE_UP_S:
            self._zero += now - due
            due = now
        if any(self._slots):
            self.lag.add(max(0.0, now - due) * 1000)
        while due <= now:
            self._step += 1
            for line in tuple(self._slots[self._step % _SLOTS]):
                line.tick(now)
            due += _STEP_S
        # Event loops count whole milliseconds; rounding down would make them spin until the moment has come.
        delay_ms = max(1, math.ceil((due - time.monotonic()) * 1000))
        self._handle = asyncio.get_running_loop().call_later(delay_ms / 1000, self._run)
