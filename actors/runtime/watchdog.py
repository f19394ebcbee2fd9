"""Watches an event loop from a thread: how late it runs, and the stack of whoever holds it up."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass
from typing import Final

import structlog

log = structlog.get_logger()

BEAT_S: Final = 0.05
SAMPLES: Final = 200  # the last ten seconds


@dataclass(frozen=True, slots=True)
class LagStatus:
    """How late the loop ran, in milliseconds, over the last seconds; and how often it stalled."""

    p50_ms: float = 0.0
    p99_ms: float = 0.0
    stalls: int = 0


class LoopWatch:
    """Measures the lag of a loop and logs the loop thread's stack when it does not turn for `stall_s`."""

    def __init__(self, name: str, *, stall_s: float = 0.5) -> None:
        self._name = name
        self._stall_s = stall_s
        self._lags_ms: deque[float] = deque(maxlen=SAMPLES)
        self._stalls = 0
        self._beat_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch the running loop. Does nothing when it watches already."""
        if self._thread is not None:
            return
        self._beat_s = time.monotonic()
        self._due_s = self._beat_s + BEAT_S
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._turn)
        self._thread = threading.Thread(
            target=self._look, args=(threading.get_ident(),), name="loop watch", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the watch and its thread."""
        if self._timer is not None:
            self._timer.cancel()
        self._ended.set()
        if self._thread is not None:
            self._thread.join(timeout=1.0)

    def status(self) -> LagStatus:
        lags = sorted(self._lags_ms)
        if not lags:
            return LagStatus(stalls=self._stalls)
        return LagStatus(
            p50_ms=round(lags[len(lags) // 2], 3),
            p99_ms=round(lags[min(len(lags) - 1, len(lags) * 99 // 100)], 3),
            stalls=self._stalls,
        )

    def _turn(self) -> None:
        now_s = time.monotonic()
        self._lags_ms.append(max(0.0, (now_s - self._due_s) * 1000))
        self._beat_s = now_s
        self._due_s = now_s + BEAT_S
        self._timer = asyncio.get_running_loop().call_later(BEAT_S, self._turn)

    def _look(self, loop_thread: int) -> None:
        reported_s = 0.0
        while not self._ended.wait(self._stall_s / 2):
            beat_s = self._beat_s
            stalled_s = time.monotonic() - beat_s
            if stalled_s < self._stall_s or reported_s == beat_s:
                continue
            reported_s = beat_s
            self._stalls += 1
            frame = sys._current_frames().get(loop_thread)
            stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
            log.warning("loop.stalled", system=self._name, stalled_s=round(stalled_s, 3), stack=stack)
