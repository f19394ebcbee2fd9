"""The speaker: answers each cue with words, from the persona's script or from a language model.

It stands between the dialogue and the voice. It runs in the pipeline's cancellable task, so a barge-in stops it
wherever it is; what was decided is in the record before the first word leaves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from pipecat.frames.frames import (
    AggregatedTextFrame,
    Frame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.text.base_text_aggregator import TextType

from bots.cues import Cue, CueFrame, UtteranceEndFrame, UtteranceStartFrame
from bots.models.clauses import speak
from bots.models.port import Message, Model, ModelError, Request
from bots.personas.persona import instructions
from bots.record import Record, Turn
from bots.scripted import Reply, ScriptedBrain

log = structlog.get_logger()


class Listens(Protocol):
    """A recogniser that can be told what to expect."""

    def expect(self, phrases: Sequence[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the caller's words set in motion outside the pipeline: called with the action's value."""

    consent: Callable[[bool], None]
    opt_out: Callable[[], None]


class Speaker(FrameProcessor):
    """Words for every cue.

    Args:
        brain: the persona's script; it hands over to the model where the persona says so.
        record: the conversation's turns; a reply is written there before it is spoken.
        decisions: told what the caller has decided.
        model: answers in the persona's model states; None for personas without one.
        listener: is told the phrases that fit the state of the script.
        options: facts of this call for the model's instructions.
    """

    def __init__(
        self,
        brain: ScriptedBrain,
        record: Record,
        decisions: Decisions,
        model: Model | None = None,
        listener: Listens | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(name="speaker")
        self._brain, self._record, self._decisions = brain, record, decisions
        self._model, self._listener, self._options = model, listener, options

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, CueFrame):
            await self._speak(frame)
        else:
            await self.push_frame(frame, direction)

    async def _speak(self, frame: CueFrame) -> None:
        try:
            await self._follow(frame)
        finally:  # also when a barge-in ends it: the script may have moved
            if self._listener is not None:
                self._listener.expect(self._brain.expects())

    async def _follow(self, frame: CueFrame) -> None:
        match frame.cue:
            case Cue.OPENING:
                await self._turn(self._brain.opening())
            case Cue.RESUME | Cue.MOVED:
                await self._resume(bridge=frame.cue is Cue.RESUME)
            case Cue.ANSWER:
                await self._answer(frame.heard or "")
            case Cue.REPEAT:
                await self._turn(self._brain.reply(None))
            case Cue.IDLE:
                await self._turn(self._brain.idle())
            case Cue.CONTINUE:
                await self._continue()
            case Cue.APOLOGY:
                await self._say(self._brain.apology().clauses, aside=True)
            case Cue.GOODBYE:
                await self._turn(self._brain.farewell())
            case Cue.TIME_UP:
                await self._say(self._brain.farewell(time_up=True).clauses, aside=True, ends_call=True)

    async def _answer(self, heard: str) -> None:
        """Answer the caller. If they spoke over our last answer before its first sound, answer both in one."""
        if (missed := self._record.missed) is not None:
            earlier, flow = missed
            self._brain.restore(flow)
            heard = f"{earlier} {heard}".strip()
        reply = self._brain.reply(heard)
        await (self._answer_freely() if reply.hand_over else self._turn(reply))

    async def _turn(self, reply: Reply) -> None:
        """Say a scripted reply as a turn of its own."""
        self._act(reply.action)
        if reply.clauses:
            await self._record.replying(reply.text, reply.flow)
        if "record_consent" in reply.action:
            await self._record.consent(bool(reply.action["record_consent"]))
        await self._say(reply.clauses, ends_call=reply.end)

    async def _resume(self, bridge: bool) -> None:
        """Go on where the record says we stood; with `bridge`, a short sentence covers the gap."""
        unfinished, last = self._record.speaking, self._record.last
        reply = self._brain.resume(self._record.flow, self._record.turns)
        lead = self._brain.persona.flow.bridge
        bridged = reply.clauses[: len(lead)] == lead
        rest = reply.clauses[len(lead) :] if bridged else reply.clauses
        if bridge and bridged:
            await self._say(lead, aside=True)
        if reply.hand_over:
            await self._answer_freely()
        elif unfinished is not None:
            await self._say(rest, ends_call=reply.end)
        elif last is None or last.who == "caller":
            await self._turn(Reply(rest, reply.flow, reply.action, end=reply.end))
        elif bridge or reply.end:
            await self._say(rest, aside=True, ends_call=reply.end)

    async def _continue(self) -> None:
        """Say what a false interruption broke off."""
        turn = self._record.speaking
        if turn is not None and turn.rest:
            await self._say((turn.rest,), ends_call=bool(self._record.flow.get("ended")))

    async def _answer_freely(self) -> None:
        """Let the model answer; clause by clause, so that speech starts on the first."""
        if self._model is None:
            raise RuntimeError(
                f"persona {self._brain.persona.name} needs a language model; set CEREBRAS_API_KEY or OPENAI_API_KEY"
            )
        request = Request(prompt(instructions(self._brain.persona, self._options), self._record.turns))
        await self._open(aside=False)
        try:
            async with contextlib.aclosing(speak(self._model, request)) as reply:
                async for part in reply:
                    if isinstance(part, str):
                        await self._record.extend(part)
                        await self._clause(part)
                    else:
                        log.debug("reply_written", provider=part.provider, first_token_ms=part.first_token_ms)
        except ModelError as error:
            log.warning("reply_failed", error=str(error))
            if self._record.speaking is None:
                await self._close()
                await self._say(self._brain.apology().clauses, aside=True)
                return
        await self._close()

    async def _clause(self, text: str) -> None:
        # Pipecat's voices speak such a frame at once; an LLMTextFrame would wait for the sentence after it.
        await self.push_frame(AggregatedTextFrame(text, TextType.SENTENCE))

    async def _say(self, words: Sequence[str], *, aside: bool = False, ends_call: bool = False) -> None:
        if not words and not ends_call:
            return
        await self._open(aside)
        for clause in words:
            await self._clause(clause)
        await self._close(ends_call)

    async def _open(self, aside: bool) -> None:
        await self.push_frame(UtteranceStartFrame(aside=aside))
        await self.push_frame(LLMFullResponseStartFrame())

    async def _close(self, ends_call: bool = False) -> None:
        await self.push_frame(LLMFullResponseEndFrame())
        await self.push_frame(UtteranceEndFrame(ends_call=ends_call))

    def _act(self, action: dict[str, Any]) -> None:
        if "record_consent" in action:
            self._decisions.consent(bool(action["record_consent"]))
        if action.get("stop_calling"):
            self._decisions.opt_out()


def prompt(system: str, turns: Sequence[Turn]) -> tuple[Message, ...]:
    """The conversation as a model is asked to continue it: of the bot's turns only what was really spoken."""
    said = (
        Message("user", turn.text) if turn.who == "caller" else Message("assistant", turn.spoken)
        for turn in turns
        if turn.who == "caller" or turn.spoken
    )
    return (Message("system", system), *said)
