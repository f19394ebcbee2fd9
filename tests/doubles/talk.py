"""A conversation without sound or network: engines that a test drives by hand, in a real Pipecat pipeline."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import (
    AggregatedTextFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InputDTMFFrame,
    InterruptionFrame,
    TranscriptionFrame,
    TTSTextFrame,
    UserStartedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from bots.conversation import Conversation, Engines, Outside
from bots.cues import Cue, UtteranceEndFrame
from bots.dialogue import Patience
from bots.house import Facts, House
from bots.meter import Meter
from bots.models.port import Delta, Done, Model, Request, Text
from bots.personas.persona import load, parse
from bots.record import Record, Turn
from bots.recording import Recorder
from bots.scripted import ScriptedBrain
from bots.speech.frames import NotUnderstoodFrame
from bots.turns.taker import FalseStart, TurnEnded, TurnTiming

PATIENCE_S = 5.0


class Entries:
    """A journal that keeps what it is told, with the state of mind of a database that is there."""

    def __init__(self) -> None:
        self.consents: list[bool] = []

    async def heard(self, turn: Turn, flow: dict[str, Any]) -> None:
        await asyncio.sleep(0)

    async def replying(self, turn: Turn, flow: dict[str, Any]) -> None:
        await asyncio.sleep(0)

    async def spoke(self, turn: Turn) -> None:
        pass

    async def consent(self, granted: bool) -> None:
        self.consents.append(granted)


class Passing(FrameProcessor):
    """Passes everything on."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class Taker(Passing):
    """A turn taker that leaves every decision to the test; it counts how often it was asked to conclude."""

    def __init__(self) -> None:
        super().__init__(name="taker")
        self.concluded = 0

    async def conclude(self) -> None:
        self.concluded += 1


class Voice(Passing):
    """Turns a clause into a text that is 'spoken' once the mouth plays it."""

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, AggregatedTextFrame) and not isinstance(frame, TTSTextFrame):
            await FrameProcessor.process_frame(self, frame, direction)
            await self.push_frame(TTSTextFrame(frame.text, "sentence"))
        else:
            await super().process_frame(frame, direction)


class Mouth(Passing):
    """The line's output: plays clause by clause, as many as `play` allows; an interruption drops the rest."""

    def __init__(self) -> None:
        super().__init__(name="mouth")
        self.allowed = asyncio.Semaphore(0)
        self.free = True
        self.dead = False  # swallows every word
        self.played: list[str] = []
        self.speaking = False
        self.interrupted = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await FrameProcessor.process_frame(self, frame, direction)
        if isinstance(frame, InterruptionFrame):
            self.interrupted += 1
            await self._silence()
        elif isinstance(frame, TTSTextFrame):
            if self.dead:
                return
            await self._begin()
            if not self.free:
                await self.allowed.acquire()
            self.played.append(frame.text)
        elif isinstance(frame, UtteranceEndFrame):
            await self._silence()
        await self.push_frame(frame, direction)

    async def _begin(self) -> None:
        if not self.speaking:
            self.speaking = True
            await self.broadcast_frame(BotStartedSpeakingFrame)

    async def _silence(self) -> None:
        if self.speaking:
            self.speaking = False
            await self.broadcast_frame(BotStoppedSpeakingFrame)


class Line:
    """A caller's line in memory."""

    def __init__(self) -> None:
        self.ear, self.mouth = Passing(name="ear"), Mouth()
        self._handlers: list[Callable[[object, str], Any]] = []

    def input(self) -> FrameProcessor:
        return self.ear

    def output(self) -> FrameProcessor:
        return self.mouth

    def event_handler(self, event_name: str) -> Any:
        assert event_name == "on_client_disconnected"
        return self._handlers.append

    async def drop(self, reason: str) -> None:
        for handler in self._handlers:
            await handler(self, reason)


class Writer:
    """A language model that a test leads: each reply waits for `go`."""

    name = "writer"

    def __init__(self, *clauses: str) -> None:
        self.clauses = clauses
        self.asked: list[Request] = []
        self.go = asyncio.Event()
        self.started = asyncio.Event()

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.asked.append(request)
        self.started.set()
        await self.go.wait()
        for clause in self.clauses:
            yield Text(clause + " ")
        yield Done("stop")

    def describe(self) -> str:
        return "writer, a double"

    async def aclose(self) -> None:
        pass


MODEL_PERSONA = """
name = "free"
title = "Free"
disclosure = "Hello, this is an automated voice."
prompt = "Be brief."
[flow]
start = "free"
[flow.states.free]
model = true
say = ["What is on your mind?"]
"""


class Talk:
    """One conversation with a test as its caller."""

    def __init__(
        self,
        folder: Path,
        *,
        persona: str = "mia",
        turns: Sequence[Turn] = (),
        flow: dict[str, Any] | None = None,
        model: Model | None = None,
        patience: Patience | None = None,
        limit_seconds: float | Meter = 60.0,
        facts: Facts | None = None,
        outside: Outside | None = None,
    ) -> None:
        self.journal = Entries()
        self.record = Record(self.journal, turns, flow)
        self.line, self.listener = Line(), Passing(name="listener")
        loaded = parse(MODEL_PERSONA) if persona == "free" else load(persona)
        self.brain = ScriptedBrain(loaded, {}, self.record.flow)
        taker: Any = Taker()
        house = House(self.brain, facts)
        engines = Engines(taker, self.listener, Voice(name="voice"), self.brain, model, house=house)
        self.recorder = Recorder(folder, 1)
        self.folder = folder
        limits = (patience, limit_seconds, outside)
        self.conversation = Conversation(self.line, engines, self.record, self.recorder, *limits)
        self.running: asyncio.Task[str]
        self.closing: list[str] = []

    @property
    def played(self) -> list[str]:
        return self.line.mouth.played

    async def close(self, reason: str) -> None:
        """What the call's actor does before the line is let go."""
        self.closing.append(reason)

    async def wait(self, true: Callable[[], Any]) -> None:
        """Wait until the conversation has got somewhere."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not true():  # noqa: ASYNC110 - frames set no event
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"played {self.played}; record {self.record.turns}") from None

    async def wait_said(self, clause: str, times: int = 1) -> None:
        """Wait until the caller has heard a clause and the bot is silent again."""
        await self.wait(lambda: self.played.count(clause) >= times and not self.line.mouth.speaking)
        await self.settle()

    async def settle(self) -> None:
        """Let the frames that are on their way arrive."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def starts_speaking(self) -> None:
        """The caller begins: voice, floor, interruption - as the turn taker says it."""
        await self._push(VADUserStartedSpeakingFrame())
        await self._push(UserStartedSpeakingFrame())
        taker = self.listener
        await taker.broadcast_interruption()  # type: ignore[no-untyped-call]

    async def stops_speaking(self, text: str | None, *, brief: bool = False) -> None:
        """The caller's turn is over; `text` None is a noise that nobody understood, "" no voice at all."""
        await self._push(VADUserStoppedSpeakingFrame())
        if text is None:
            await self._push(NotUnderstoodFrame())
        else:
            await self._push(TranscriptionFrame(text, "", "", finalized=True))
        now = time.monotonic()
        timing = TurnTiming(now, now, True, now, now, now)
        await self._push(FalseStart(timing=timing) if brief else TurnEnded(timing=timing))

    async def presses(self, key: KeypadEntry) -> None:
        """The caller presses a key."""
        await self._push(InputDTMFFrame(button=key))

    async def says(self, text: str | None, *, brief: bool = False) -> None:
        await self.starts_speaking()
        await self.stops_speaking(text, brief=brief)

    async def end(self) -> str:
        """The reason of the conversation's end."""
        return await asyncio.wait_for(asyncio.shield(self.running), 10.0)

    async def _push(self, frame: Frame) -> None:
        await self.listener.push_frame(frame, FrameDirection.DOWNSTREAM)


@contextlib.asynccontextmanager
async def talk(folder: Path, cue: Cue = Cue.OPENING, *, playing: bool = True, **options: Any) -> AsyncIterator[Talk]:
    """A conversation that has begun; with `playing` false the mouth plays only what the test allows."""
    held = Talk(folder / "call_1", **options)
    held.line.mouth.free = playing
    held.running = asyncio.create_task(held.conversation.run(cue, held.close))
    try:
        yield held
    finally:
        held.line.mouth.free = True
        held.line.mouth.allowed.release()
        held.conversation.end("api")
        await asyncio.wait_for(held.running, 10.0)
