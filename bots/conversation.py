"""A conversation: the pipeline of one call, from the first word to a truthful end.

    line in → tap → turn taker → listener → dialogue → speaker → voice → line out → heard

The caller's audio ends at the dialogue; words flow on as frames. Nothing here knows which carrier, which provider
or which process: the line, the engines and the record are handed in.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from pipecat.frames.frames import CancelFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.utils.asyncio.task_manager import TaskManager
from pipecat.workers.base_worker import WorkerParams

from bots.cues import Cue
from bots.dialogue import Dialogue, Patience
from bots.heard import CallerTap, Heard
from bots.house import House
from bots.meter import Meter
from bots.models.port import Model
from bots.record import Record
from bots.recording import Recorder
from bots.scripted import ScriptedBrain
from bots.speaker import Decisions, Speaker
from bots.turns.taker import TurnTaker

log = structlog.get_logger()
RATE_HZ = 8000
DRAIN_SECONDS = 4.0  # for the last words to leave the line
FORCE_SECONDS = 2.0  # for a cancelled pipeline to let go
TIME_UP_SECONDS = 8.0  # for the sentence that says so
WARNING_WITHIN_SECONDS = 4.0  # for a pause in the talk to come


class Line(Protocol):
    """The caller's line: a Pipecat transport that says why it ended."""

    def input(self) -> FrameProcessor: ...

    def output(self) -> FrameProcessor: ...

    def event_handler(self, event_name: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Engines:
    """What listens, thinks and speaks in one call.

    `words_decide`: the listener hears whole expected phrases or nothing, so a phrase of the script ends the turn.
    """

    taker: TurnTaker
    listener: FrameProcessor
    voice: FrameProcessor
    brain: ScriptedBrain
    model: Model | None = None
    words_decide: bool = False
    house: House | None = None


@dataclass(frozen=True, slots=True)
class Outside:
    """What the conversation sets in motion beyond itself, at the moment in which it is said.

    Args:
        opted_out: the caller wants no more calls; told by `voice` or `keypad`.
        crisis: somebody in danger was given a helpline; told once a call.
        book: have the caller called at a wall time of theirs; whether that is certain.
    """

    opted_out: Callable[[str], None] = lambda _channel: None
    crisis: Callable[[], None] = lambda: None
    book: Callable[[dt.datetime], Awaitable[bool]] | None = None


@dataclass(slots=True)
class Ending:
    """Why a conversation is over, set once; the first reason stands."""

    reason: str = ""
    graceful: bool = False
    event: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self, reason: str, graceful: bool) -> None:
        if not self.reason:
            self.reason, self.graceful = reason, graceful
            self.event.set()


class Conversation:
    """Runs the pipeline of one call.

    Args:
        line: where the caller is.
        engines: what listens, thinks and speaks.
        record: the turns so far; every new one is journalled through it.
        recorder: records once consent is given.
        patience: the dialogue's waiting times.
        limit: what ends the call politely: so many seconds from now, or the meter of a paid call.
        outside: what the caller's words set in motion.
    """

    def __init__(
        self,
        line: Line,
        engines: Engines,
        record: Record,
        recorder: Recorder,
        patience: Patience | None = None,
        limit: float | Meter = 900.0,
        outside: Outside | None = None,
    ) -> None:
        self._line, self._engines, self._record, self._recorder = line, engines, record, recorder
        self._meter = limit if isinstance(limit, Meter) else Meter(limit + TIME_UP_SECONDS, goodbye=TIME_UP_SECONDS)
        self._outside = outside or Outside()
        self._ending = Ending()
        self._opted_out = False
        self._time_is_up = False
        self._pipeline_started = asyncio.Event()
        self._dialogue = Dialogue(record, self._give_up, patience, self._heard)
        self._worker = self._build()

    @property
    def quiet(self) -> bool:
        """Whether nobody is in the middle of a word, so that the call can be moved unnoticed."""
        return self._dialogue.quiet and self._record.speaking is None

    def end(self, reason: str, *, graceful: bool = False) -> None:
        """End the conversation from outside; `graceful` lets queued words leave the line first."""
        self._ending.set(reason, graceful)

    def status(self) -> dict[str, Any]:
        """The pipeline at a glance: processors in order, turns so far, seconds of recording."""
        return {
            "processors": [processor.name for processor in self._stages],
            "turns": len(self._record.turns),
            "recording": self._recorder.recording,
            "ending": self._ending.reason,
        }

    async def run(self, cue: Cue, closing: Callable[[str], Awaitable[None]]) -> str:
        """Hold the conversation, beginning with `cue`; returns the reason of its end.

        `closing` is awaited with that reason before the line is closed: whoever is asked what to do with a call
        whose stream has ended must find it written down.

        Reasons: `caller_hung_up`, `bot_hung_up`, `opted_out`, `idle`, `time_limit`, `pipeline_error`,
        `stream_lost`, or what was passed to `end`. Cancellation tears the pipeline down and propagates.
        """
        running = asyncio.create_task(self._worker.run(WorkerParams(task_manager=TaskManager())), name="pipeline")
        ending = asyncio.create_task(self._ending.event.wait(), name="ending")
        limit = asyncio.create_task(self._watch_limit(), name="limit")
        starting = asyncio.create_task(self._begin(cue), name="begin")
        try:
            await asyncio.wait({running, ending}, return_when=asyncio.FIRST_COMPLETED)
            if running.done() and not self._ending.reason:
                error = None if running.cancelled() else running.exception()
                log.error("pipeline_ended_by_itself", error=repr(error))
                self._ending.set("pipeline_error", graceful=False)
            await closing(self._ending.reason)
        finally:
            for task in (ending, limit, starting):
                task.cancel()
            await self._stop(running)
            await self._recorder.stop()
        return self._ending.reason

    def _build(self) -> PipelineWorker:
        engines = self._engines
        decisions = Decisions(self._consented, self._opt_out, self._outside.crisis, self._outside.book)
        listens = engines.listener if hasattr(engines.listener, "expect") else None
        speaker = Speaker(engines.brain, self._record, decisions, engines.model, listens, engines.house)
        heard = Heard(self._record, self._since, self._utterance_left, self._recorder.bot)
        line_in, line_out = self._line.input(), self._line.output()
        self._stages: list[FrameProcessor] = [
            line_in,
            CallerTap(self._recorder.caller),
            engines.taker,
            engines.listener,
            self._dialogue,
            speaker,
            engines.voice,
            line_out,
            heard,
        ]
        worker = PipelineWorker(
            Pipeline(self._stages),
            params=PipelineParams(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ),
            idle_timeout_secs=None,
            cancel_on_idle_timeout=False,
            cancel_runner_on_idle_timeout=False,
            enable_rtvi=False,
            enable_turn_tracking=False,
        )
        worker.add_event_handler("on_pipeline_started", self._on_started)
        worker.add_event_handler("on_pipeline_error", self._on_error)
        self._line.event_handler("on_client_disconnected")(self._on_disconnected)
        return worker

    async def _begin(self, cue: Cue) -> None:
        await self._pipeline_started.wait()
        await self._dialogue.begin(cue)

    async def _watch_limit(self) -> None:
        meter, began = self._meter, asyncio.get_running_loop().time()
        if meter.warns_in is not None:
            await asyncio.sleep(meter.warns_in)
            await self._dialogue.mention(Cue.NEARLY_OVER, min(WARNING_WITHIN_SECONDS, meter.left / 4))
        await asyncio.sleep(began + meter.parts_in - asyncio.get_running_loop().time())
        self._time_is_up = True
        await self._dialogue.say(Cue.TIME_UP)
        await asyncio.sleep(began + meter.left - asyncio.get_running_loop().time())
        self._ending.set("time_limit", graceful=False)

    async def _stop(self, running: asyncio.Task[None]) -> None:
        """End the pipeline: politely if asked to, by force when that takes too long."""
        if not running.done() and self._ending.graceful:
            await self._worker.stop_when_done()  # type: ignore[no-untyped-call]
            await asyncio.wait({running}, timeout=DRAIN_SECONDS)
        if not running.done():
            with contextlib.suppress(Exception):
                await self._worker.cancel()
            await asyncio.wait({running}, timeout=FORCE_SECONDS)
        if not running.done():  # an EndFrame that is stuck ignores every cancel but this one
            log.error("pipeline_stuck")
            await self._worker.pipeline.queue_frame(CancelFrame())
            running.cancel()
            await asyncio.wait({running}, timeout=FORCE_SECONDS)

    async def _on_started(self, _worker: PipelineWorker, _frame: object) -> None:
        self._pipeline_started.set()

    async def _on_error(self, _worker: PipelineWorker, frame: Any) -> None:
        processor = frame.processor
        usable = processor is None or processor.is_usable
        log.warning("pipeline_error", processor=str(processor), error=str(frame.error), usable=usable)
        if not usable:
            self._ending.set("pipeline_error", graceful=False)

    async def _on_disconnected(self, _line: object, reason: str) -> None:
        self._ending.set("caller_hung_up" if reason == "stop" else "stream_lost", graceful=False)

    def _give_up(self, reason: str) -> None:
        self._ending.set(reason, graceful=True)

    async def _heard(self, words: str) -> None:
        if self._engines.words_decide and self._engines.brain.settles(words):
            await self._engines.taker.conclude()

    def _utterance_left(self, ends_call: bool) -> None:
        if ends_call:
            reason = "opted_out" if self._opted_out else "time_limit" if self._time_is_up else "bot_hung_up"
            self._ending.set(reason, graceful=True)

    def _consented(self, granted: bool) -> None:
        if granted:
            self._recorder.start()
        else:
            self._recorder.discard()

    def _opt_out(self) -> None:
        self._opted_out = True
        self._outside.opted_out("keypad" if self._dialogue.stopped_by_key else "voice")

    def _since(self) -> tuple[float, float]:
        return self._dialogue.voice_stopped_at, self._dialogue.cued_at
