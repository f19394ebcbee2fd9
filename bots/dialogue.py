"""The dialogue: collects what the caller says into turns, journals them, and cues the bot.

It stands behind the recogniser. Turn signals come from the turn taker before it; the two race (a transcript may
arrive before or after the decision), so a turn is complete when it is decided *and* its transcripts are in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    TranscriptionFrame,
    UserStartedSpeakingFrame,
    VADUserStartedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from bots.cues import Cue, CueFrame
from bots.record import Record
from bots.speech.frames import NotUnderstoodFrame
from bots.turns.taker import FalseStart, TurnEnded

log = structlog.get_logger()
PAUSE_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the dialogue waits, in seconds, before it acts by itself."""

    transcript: float = 1.0  # for the recogniser, after the turn was decided
    idle: float = 12.0  # for anybody to speak
    idle_prompts: int = 2  # prompts before the call is given up
    reply: float = 3.0  # for the first sound of a reply, before an apology
    failures: int = 2  # apologies in a row before the call is given up


class Dialogue(FrameProcessor):
    """Turns out of transcripts, cues out of turns.

    Args:
        record: the conversation's turns; written before the bot is cued.
        give_up: called once with a reason (`idle`, `pipeline_error`) when going on makes no sense.
        patience: the waiting times.
        heard: told of each transcript, which may show that the caller has finished before the turn taker knows.
    """

    def __init__(
        self,
        record: Record,
        give_up: Callable[[str], None],
        patience: Patience | None = None,
        heard: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(name="dialogue")
        self._on_heard = heard
        self._record = record
        self._give_up = give_up
        self._patience = patience or Patience()
        self._heard: list[str] = []
        self._misheard = False
        self._unanswered: list[str] = []  # heard, but the caller went on before we could answer
        self._segments_open = 0  # voice segments whose transcript is still to come
        self._settled = asyncio.Event()  # no segment is open
        self._settled.set()
        self._answering: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._idle_prompts = 0
        self._failures = 0
        self._caller_speaking = False
        self.stopped_by_key = False
        self.cued_at = 0.0  # monotonic seconds of the newest cue, for the timings of the reply
        self.voice_stopped_at = 0.0  # the same of the caller's last word

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        match frame:
            case InputAudioRawFrame():
                return  # audio ends here; nothing behind the dialogue listens to the caller
            case VADUserStartedSpeakingFrame():
                self._segments_open += 1
                self._settled.clear()
            case TranscriptionFrame():
                if frame.text.strip():
                    self._heard.append(frame.text.strip())
                self._segment_closed(frame.finalized)
                if self._on_heard is not None and self._settled.is_set():
                    await self._on_heard(" ".join(self._heard))
                return
            case NotUnderstoodFrame():
                self._misheard = True
                self._segment_closed(True)
                return
            case UserStartedSpeakingFrame():
                self._caller_speaking = True
                self._stop_waiting()
                if self._answering is not None:
                    await self.cancel_task(self._answering)
                    self._answering = None
            case TurnEnded():
                self._caller_speaking = False
                self._answering = self.create_task(self._answer(frame), name="answer")
            case InputDTMFFrame(button=KeypadEntry.POUND):  # `#` ends the call politely
                await self.say(Cue.GOODBYE)
            case InputDTMFFrame(button=KeypadEntry.NINE):  # `9` means: no more calls
                self.stopped_by_key = True
                await self.say(Cue.STOP)
            case BotStartedSpeakingFrame():
                self._stop_waiting()
                self._failures = 0
            case BotStoppedSpeakingFrame():
                if not self._caller_speaking:
                    self._wait(self._patience.idle, self._idle)
            case CancelFrame() | EndFrame():
                self._stop_waiting()
        await self.push_frame(frame, direction)

    @property
    def quiet(self) -> bool:
        """Whether the caller is silent and no answer of ours is on its way."""
        return not self._caller_speaking and self._answering is None

    async def begin(self, cue: Cue) -> None:
        """Speak first: the opening of a call, or the bridge of a resumed one."""
        last = self._record.last
        await self._cue(cue)
        if cue is Cue.MOVED and last is not None and last.who == "bot" and last.done:
            self._wait(self._patience.idle, self._idle)  # it is the caller's turn; silence of ours is no failure

    async def mention(self, cue: Cue, within_s: float) -> None:
        """Say something beside the conversation: in the next pause, at the latest after `within_s` into the talk."""
        deadline = time.monotonic() + within_s
        while not (self.quiet and self._record.speaking is None) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_POLL_SECONDS)
        cut = self._record.speaking is not None
        await (self.say(cue) if cut or not self.quiet else self._cue(cue))
        if cut:
            await self._cue(Cue.CONTINUE)

    async def say(self, cue: Cue) -> None:
        """Speak out of turn, for example when the time is up."""
        self._stop_waiting()
        await self.broadcast_interruption()  # type: ignore[no-untyped-call]
        await self._cue(cue)

    async def cleanup(self) -> None:
        self._stop_waiting()
        if self._answering is not None:
            await self.cancel_task(self._answering)
            self._answering = None
        await super().cleanup()  # type: ignore[no-untyped-call]

    def _segment_closed(self, finalized: bool) -> None:
        if finalized:
            self._segments_open = max(0, self._segments_open - 1)
        if self._segments_open == 0:
            self._settled.set()

    async def _answer(self, ended: TurnEnded) -> None:
        try:
            await asyncio.wait_for(self._settled.wait(), self._patience.transcript)
        except TimeoutError:
            log.warning("transcript_late", segments=self._segments_open)
        self._segments_open = 0
        self._settled.set()
        text = " ".join(self._heard)
        misheard, self._misheard = self._misheard, False
        self._heard.clear()
        self._idle_prompts = 0
        self.voice_stopped_at = ended.timing.voice_end
        if text:
            self._unanswered.append(text)
            await self._record.heard(text, ended.timing.figures())
            await self._cue(Cue.ANSWER, " ".join(self._unanswered))
            self._unanswered.clear()
        elif self._record.speaking is not None and (isinstance(ended, FalseStart) or not misheard):
            await self._cue(Cue.CONTINUE)  # a noise broke into our sentence
        elif misheard:
            await self._cue(Cue.REPEAT)
        else:
            self._wait(self._patience.idle, self._idle)
        self._answering = None

    async def _cue(self, cue: Cue, heard: str | None = None) -> None:
        self.cued_at = time.monotonic()
        self._wait(self._patience.reply, self._apologise)
        await self.push_frame(CueFrame(cue=cue, heard=heard))

    async def _idle(self) -> None:
        self._idle_prompts += 1
        if self._idle_prompts > self._patience.idle_prompts:
            self._give_up("idle")
        else:
            await self._cue(Cue.IDLE)

    async def _apologise(self) -> None:
        self._failures += 1
        if self._failures > self._patience.failures:
            self._give_up("pipeline_error")
        else:
            log.warning("apologising", failures=self._failures)
            # Whatever is stuck behind us would hold up the apology, too.
            await self.broadcast_interruption()  # type: ignore[no-untyped-call]
            await self._cue(Cue.APOLOGY)

    def _wait(self, seconds: float, then: Callable[[], object]) -> None:
        self._stop_waiting()
        self._waiting = self.create_task(self._after(seconds, then), name="wait")

    async def _after(self, seconds: float, then: Callable[[], object]) -> None:
        await asyncio.sleep(seconds)
        self._waiting = None
        await then()  # type: ignore[misc]

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
