"""Voice activity on telephone audio: Silero, one network a process, a few kilobytes a call, no thread.

`Silero.shared()` belongs in whatever process forks the call hosts: its session starts no thread (one for
intra-op, one for inter-op means the caller's), so children go on using it copy-on-write. Everything that
differs between calls is in `VoiceActivity`, which is fed PCM as it arrives and answers with the changes it
made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import onnxruntime

RATE_HZ = 8000
WINDOW = 256  # samples the network takes at 8 kHz: 32 ms
CONTEXT = 32  # samples of the window before that it wants in front
WINDOW_MS = WINDOW * 1000 // RATE_HZ

# Non-speech leaves the recurrent state slow to hear what follows (strongly so at 8 kHz), so it is cleared
# every two seconds of quiet, and only after a run of windows that are surely no speech: a reset inside a
# word costs the word.
_RESET_WINDOWS = 2 * RATE_HZ // WINDOW
_RESET_RUN = 5
_RESET_BELOW = 0.1


class Silero:
    """The network with its weights. Holds nothing of any call; not bound to a thread or an event loop."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        path = files("pipecat.audio.vad.data") / "silero_vad.onnx"
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._rate = np.array(RATE_HZ, dtype=np.int64)

    @classmethod
    @cache
    def shared(cls) -> Self:
        """The process's one network, loaded (50 ms) at the first call."""
        return cls()

    def score(self, samples: npt.NDArray[np.float32], state: Any) -> tuple[float, Any]:
        """The probability of speech in `samples` (1 x 288, context first) and the next window's state."""
        out, state = self._session.run(None, {"input": samples, "state": state, "sr": self._rate})
        return float(out[0, 0]), state


@dataclass(frozen=True, slots=True)
class VoiceParams:
    """When speech begins and ends. Times are rounded to windows of 32 ms.

    `start_ms` is short because a caller who barges in must be obeyed within 200 ms of opening their mouth;
    what it lets through in error is reported as a false start. Below `gate_peak` (of 32767) a quiet line is
    not scored.
    """

    confidence: float = 0.5
    sure: float = 0.85  # one window like this is enough to begin
    release: float = 0.35  # speech goes on down to this
    start_ms: int = 64
    stop_ms: int = 192
    gate_peak: int = 100


@dataclass(frozen=True, slots=True)
class Change:
    """Speech began or ended.

    `at` is the sample at which it was certain, `edge` the one at which it happened: the start of the first
    voiced window, or the end of the last. Both count from the first sample the call ever heard.
    """

    kind: Literal["started", "stopped"]
    at: int
    edge: int


class VoiceActivity:
    """One call's voice activity. Feed it audio; about 70 us of CPU per 32 ms of sound, 5 us of silence."""

    def __init__(self, params: VoiceParams | None = None, network: Silero | None = None) -> None:
        self.params = params or VoiceParams()
        self.speaking = False
        self.probability = 0.0
        self.position = 0  # samples scored
        self.scored = 0  # windows that took the network
        self._network = network or Silero.shared()
        self._start_windows = max(1, round(self.params.start_ms / WINDOW_MS))
        self._stop_windows = max(1, round(self.params.stop_ms / WINDOW_MS))
        self._samples = np.zeros((1, CONTEXT + WINDOW), dtype=np.float32)
        self._rest = b""
        self._run = 0  # windows in a row that speak against the present state
        self._forget()

    @property
    def silence(self) -> int:
        """Samples of the present silence, as far as scored; 0 while the caller speaks."""
        return 0 if self.speaking and not self._run else self.position - self._voice_end

    def feed(self, pcm: bytes) -> tuple[Change, ...]:
        """Take 16-bit mono PCM at 8 kHz of any length; returns what changed, most often nothing."""
        if self._rest:
            pcm = self._rest + pcm
        samples = np.frombuffer(pcm, dtype=np.int16, count=len(pcm) // 2)
        changes: tuple[Change, ...] = ()
        start = 0
        while start + WINDOW <= len(samples):
            change = self._window(samples[start : start + WINDOW])
            if change is not None:
                changes += (change,)
            start += WINDOW
        self._rest = pcm[start * 2 :]
        return changes

    def reset(self) -> None:
        """Forget any speech under way, as when the caller is muted. The count of samples goes on."""
        self.speaking = False
        self._run = 0
        self.position += len(self._rest) // 2
        self._rest = b""
        self._forget()

    def _forget(self) -> None:
        self._state = np.zeros((2, 1, 128), dtype=np.float32)
        self._samples[:] = 0.0
        self._since_reset = 0
        self._low_run = _RESET_RUN
        self._onset = self._voice_end = self.position
        self.probability = 0.0

    def _window(self, window: npt.NDArray[np.int16]) -> Change | None:
        self.position += WINDOW
        self._score(window)
        if self.speaking:
            return self._maybe_stopped()
        return self._maybe_started()

    def _score(self, window: npt.NDArray[np.int16]) -> None:
        buffer = self._samples
        buffer[0, :CONTEXT] = buffer[0, WINDOW:]
        np.multiply(window, np.float32(1 / 32768), out=buffer[0, CONTEXT:])
        quiet = not self.speaking and self._low_run >= _RESET_RUN
        if quiet and -self.params.gate_peak < window.min() and window.max() < self.params.gate_peak:
            if self._since_reset:  # what follows a silence is heard best with a fresh memory
                self._state = np.zeros((2, 1, 128), dtype=np.float32)
                self._since_reset = 0
            self.probability = 0.0
            return
        self.probability, self._state = self._network.score(buffer, self._state)
        self.scored += 1
        self._since_reset += 1
        self._low_run = self._low_run + 1 if self.probability < _RESET_BELOW else 0
        if not self.speaking and self._since_reset >= _RESET_WINDOWS and self._low_run >= _RESET_RUN:
            self._state = np.zeros((2, 1, 128), dtype=np.float32)
            self._since_reset = 0

    def _maybe_started(self) -> Change | None:
        if self.probability < self.params.confidence:
            self._run = 0
            return None
        if not self._run:
            self._onset = self.position - WINDOW
        self._run += 1
        if self._run < self._start_windows and self.probability < self.params.sure:
            return None
        self._run = 0
        self._voice_end = self.position
        self.speaking = True
        return Change("started", self.position, self._onset)

    def _maybe_stopped(self) -> Change | None:
        if self.probability >= self.params.release:
            self._run = 0
            self._voice_end = self.position
            return None
        self._run += 1
        if self._run < self._stop_windows:
            return None
        self._run = 0
        self.speaking = False
        return Change("stopped", self.position, self._voice_end)
