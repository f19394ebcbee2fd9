"""The turn taker: the first processor of a call, which decides who has the floor.

It runs voice activity on every frame in line, without queue or thread, and asks the node's turn server at
each pause whether the caller has finished. All its deadlines are counted in samples of the caller's audio,
so that a late frame never shortens a pause; only a line that goes dead in mid-turn is noticed by the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup

from bots.turns.client import Verdict
from bots.turns.messages import PCM_MAX
from bots.turns.vad import RATE_HZ, Change, VoiceActivity

Decided = Literal["model", "words", "limit", "fallback", "brief", "stalled", "muted"]
PRE_ROLL = RATE_HZ * 2 * 6 // 10  # bytes kept from before the onset: the model was trained with half a second
STALL_S = 1.0


class Judge(Protocol):
    """Says whether a call's pause is the end of its turn; `None` when it cannot. `TurnClient` is one."""

    async def judge(self, call: str, pcm: bytes) -> Verdict | None: ...


@dataclass(frozen=True, slots=True)
class TurnParams:
    """How long a pause may last, in ms since the caller's voice ended.

    `limit_ms` ends a turn the model thinks unfinished, `fallback_ms` one it gave no opinion on. A sound
    shorter than `brief_ms` that stopped the bot is a false start.
    """

    limit_ms: int = 1300
    fallback_ms: int = 700
    brief_ms: int = 240


@dataclass(slots=True)
class TurnTiming:
    """When a turn began, paused and was decided, in seconds of the taker's clock.

    `onset` and `voice_end` are where the voice was; `started` and `vad_stop` when that was certain.
    `decided_by` tells what ended it; `probability`, `queued_ms` and `service_ms` are the server's last
    word, if it gave one. `interrupted` means the bot was speaking or about to when the turn began.
    """

    onset: float
    started: float
    interrupted: bool
    voice_end: float = 0.0
    vad_stop: float = 0.0
    decided: float = 0.0
    decided_by: Decided = "model"
    pauses: int = 0
    voiced_ms: float = 0.0
    probability: float | None = None
    queued_ms: float | None = None
    service_ms: float | None = None

    @property
    def decision_ms(self) -> float:
        """From the end of voice activity to the decision."""
        return (self.decided - self.vad_stop) * 1000

    def figures(self) -> dict[str, float]:
        """The turn in numbers, for the journal."""
        figures = {
            "onset_to_start_ms": (self.started - self.onset) * 1000,
            "voiced_ms": self.voiced_ms,
            "decision_ms": self.decision_ms,
            "voice_end_to_decision_ms": (self.decided - self.voice_end) * 1000,
            "pauses": float(self.pauses),
        }
        optional = {"probability": self.probability, "queued_ms": self.queued_ms, "service_ms": self.service_ms}
        figures |= {name: value for name, value in optional.items() if value is not None}
        return {name: round(value, 3) for name, value in figures.items()}


@dataclass
class TurnEnded(UserStoppedSpeakingFrame):
    """The caller's turn is over; what they said may still be on its way from the recogniser."""

    timing: TurnTiming = field(default_factory=lambda: TurnTiming(0.0, 0.0, False))


@dataclass
class FalseStart(TurnEnded):
    """A sound too short for a word stopped the bot: it may resume, unless a transcript comes after all."""


@dataclass(slots=True)
class _Turn:
    timing: TurnTiming
    onset: int
    voiced: bool = True
    verdict: Verdict | None = None


class TurnTaker(FrameProcessor):
    """Put it right behind `transport.input()`. Needs 8 kHz mono; passes all audio on, unchanged.

    Pushes downstream `VADUserStartedSpeakingFrame`, `UserStartedSpeakingFrame`,
    `VADUserStoppedSpeakingFrame` and `TurnEnded` or `FalseStart`; broadcasts Pipecat's interruption at the
    start of a turn. While `muted` the caller takes no turn; while not `interruptible` a turn stops nobody.
    """

    def __init__(
        self,
        call: str,
        judge: Judge,
        voice: VoiceActivity | None = None,
        params: TurnParams | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Direct mode: every frame that passes here is handled in line by who pushed it; we never wait on
        # anything.
        super().__init__(name="TurnTaker", enable_direct_mode=True)
        self.muted = False
        self.interruptible = True
        self.bot_speaking = False
        self._reply_due = True  # the bot speaks first, or is about to answer
        self._call = call
        self._judge = judge
        self._voice = voice or VoiceActivity()
        self._params = params or TurnParams()
        self._clock = clock
        self._heard = 0  # samples given to voice activity
        self._heard_at = clock()
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._turn: _Turn | None = None
        self._asking: asyncio.Task[Any] | None = None
        self._watchdog: asyncio.TimerHandle | None = None

    @property
    def turn_open(self) -> bool:
        """Whether the caller has the floor: speaking, or in a pause that is not decided yet."""
        return self._turn is not None

    async def conclude(self) -> None:
        """End the turn now, unless the caller speaks: the words heard so far are known to be complete."""
        if self._turn is not None and not self._voice.speaking:
            await self._end(self._turn, "words")

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, InputAudioRawFrame) and direction is FrameDirection.DOWNSTREAM:
            await self._hear(frame)
            return
        await super().process_frame(frame, direction)
        if isinstance(frame, BotStartedSpeakingFrame):
            self.bot_speaking = True
        elif isinstance(frame, BotStoppedSpeakingFrame):
            self.bot_speaking = self._reply_due = False
        elif isinstance(frame, (EndFrame, CancelFrame)):
            self._turn = None
            await self._withdraw()
            self._unwatch()
        await self.push_frame(frame, direction)

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]
        if setup.audio_in_sample_rate != RATE_HZ:
            raise ValueError(f"TurnTaker hears {RATE_HZ} Hz only; set audio_in_sample_rate={RATE_HZ}.")
        await super().setup(setup)

    async def cleanup(self) -> None:
        await self._withdraw()
        self._unwatch()
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def _hear(self, frame: InputAudioRawFrame) -> None:
        pcm = frame.audio
        self._heard_at = self._clock()
        if self.muted:
            await self._silence()
            changes: tuple[Change, ...] = ()
        else:
            self._heard += len(pcm) // 2
            self._keep(pcm)
            changes = self._voice.feed(pcm)
        # An onset overtakes its audio, since the bot must stop now; a pause follows it, since the recogniser
        # has to have heard the end of the word first.
        if changes and changes[0].kind == "started":
            await self._voice_started(changes[0])
            changes = changes[1:]
        # Straight into the next queue: per-frame bookkeeping of `push_frame` is for observers, and we have
        # none.
        if self._next is not None:
            await self._next.queue_frame(frame, FrameDirection.DOWNSTREAM)
        for change in changes:
            await (self._voice_started if change.kind == "started" else self._voice_stopped)(change)
        if self._turn is not None and not self._voice.speaking:
            await self._maybe_enough(self._turn)

    async def _voice_started(self, change: Change) -> None:
        await self._withdraw()
        onset = self._time_of(change.edge)
        fresh = self._turn is None
        if self._turn is None:
            interrupted = self.bot_speaking or self._reply_due
            self._turn = _Turn(TurnTiming(onset, self._heard_at, interrupted), change.edge)
            self._watch()
        else:
            self._turn.voiced, self._turn.verdict = True, None
        await self.push_frame(VADUserStartedSpeakingFrame(start_secs=self._heard_at - onset))
        if fresh:
            await self.push_frame(UserStartedSpeakingFrame())
            if self.interruptible:
                await self.broadcast_interruption()  # type: ignore[no-untyped-call]

    async def _voice_stopped(self, change: Change) -> None:
        turn = self._turn
        if turn is None:
            return
        turn.voiced = False
        timing = turn.timing
        timing.voice_end, timing.vad_stop = self._time_of(change.edge), self._heard_at
        timing.voiced_ms = (change.edge - turn.onset) * 1000 / RATE_HZ
        timing.pauses += 1
        await self.push_frame(VADUserStoppedSpeakingFrame(stop_secs=self._heard_at - timing.voice_end))
        if timing.interrupted and self.interruptible and timing.voiced_ms < self._params.brief_ms:
            await self._end(turn, "brief")
            return
        pcm = b"".join(self._kept)[-PCM_MAX:]
        self._asking = self.create_task(self._ask(turn, pcm), "ask")

    async def _ask(self, turn: _Turn, pcm: bytes) -> None:
        verdict = await self._judge.judge(self._call, pcm)
        self._asking = None
        if verdict is None or self._turn is not turn:
            return
        turn.verdict = verdict
        timing = turn.timing
        timing.probability = verdict.probability
        timing.queued_ms, timing.service_ms = verdict.queued_ms, verdict.service_ms
        if verdict.complete:
            await self._end(turn, "model")

    async def _maybe_enough(self, turn: _Turn) -> None:
        silence_ms = self._voice.silence * 1000 / RATE_HZ
        if turn.verdict is None and silence_ms >= self._params.fallback_ms:
            await self._end(turn, "fallback")
        elif silence_ms >= self._params.limit_ms:
            await self._end(turn, "limit")

    async def _end(self, turn: _Turn, decided_by: Decided) -> None:
        self._turn = None
        self._unwatch()
        await self._withdraw()
        self._trim(PRE_ROLL)
        self._reply_due = True
        turn.timing.decided, turn.timing.decided_by = self._clock(), decided_by
        ended = FalseStart if decided_by == "brief" else TurnEnded
        await self.push_frame(ended(timing=turn.timing))

    async def _withdraw(self) -> None:
        task, self._asking = self._asking, None
        if task is not None:
            await self.cancel_task(task)

    async def _silence(self) -> None:
        if self._kept_bytes:
            self._voice.reset()
            self._trim(0)
        if self._turn is not None:
            await self._abandon(self._turn, "muted")

    async def _abandon(self, turn: _Turn, decided_by: Decided) -> None:
        timing = turn.timing
        if turn.voiced:
            timing.voice_end = timing.vad_stop = self._heard_at
            await self.push_frame(VADUserStoppedSpeakingFrame())
        self._voice.reset()
        await self._end(turn, decided_by)

    def _time_of(self, sample: int) -> float:
        return self._heard_at - (self._heard - sample) / RATE_HZ

    def _keep(self, pcm: bytes) -> None:
        self._kept.append(pcm)
        self._kept_bytes += len(pcm)
        self._trim(PRE_ROLL if self._turn is None else PCM_MAX)

    def _trim(self, most: int) -> None:
        while self._kept_bytes - len(self._kept[0] if self._kept else b"") >= most and self._kept:
            self._kept_bytes -= len(self._kept.popleft())

    def _watch(self) -> None:
        self._watchdog = self.get_event_loop().call_later(STALL_S, self._look)

    def _unwatch(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _look(self) -> None:
        if self._turn is None:
            return
        if self._clock() - self._heard_at >= STALL_S:
            self.create_task(self._abandon(self._turn, "stalled"), "stalled")
        else:
            self._watch()
