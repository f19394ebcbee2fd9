"""A model in a call's pipeline: a context comes in, clauses to be spoken go out.

A plain `FrameProcessor`, not Pipecat's `LLMService`: that one adds provider adapters, a function-call
runner, a speculation gate that every pushed frame passes, and failures that write the service off for good,
while our chain does its own failover and comes back by itself.

Text leaves as one `AggregatedTextFrame` per clause. Pipecat's speech services hand such a frame straight to
synthesis, whatever their aggregation mode; `LLMTextFrame`s would be held back until the sentence after them
begins (200 to 300 ms). The clauses of one reply stand between `LLMFullResponseStartFrame` and
`LLMFullResponseEndFrame`, which makes them one audio context, so that an engine which keeps its melody over
pieces can do so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import structlog
from pipecat.frames.frames import (
    AggregatedTextFrame,
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    SystemFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.errors import ErrorCategory
from pipecat.utils.text.base_text_aggregator import TextType

from bots.models.clauses import ClauseSplitter
from bots.models.port import Done, Message, Model, ModelError, NoReply, Request, Text

log = structlog.get_logger()

# Never one of Pipecat's permanent categories: they write the service off, and our chain heals by itself.
_CATEGORIES = {
    "unreachable": ErrorCategory.CONNECTIVITY,
    "timed_out": ErrorCategory.CONNECTIVITY,
    "overloaded": ErrorCategory.SERVER,
    "bad_reply": ErrorCategory.SERVER,
    "rate_limited": ErrorCategory.RATE_LIMIT,
    "rejected": ErrorCategory.APPLICATION,
    "denied": ErrorCategory.UNKNOWN,
}


@dataclass
class ReplyFailed(SystemFrame):
    """No model answered and nothing was said: the caller must hear an apology. Travels upstream."""

    category: ErrorCategory = ErrorCategory.UNKNOWN
    error: str = ""


def category(error: ModelError) -> ErrorCategory:
    """Pipecat's word for what went wrong; of several providers the last one's."""
    if isinstance(error, NoReply):
        return category(error.errors[-1]) if error.errors else ErrorCategory.UNKNOWN
    return _CATEGORIES.get(error.kind, ErrorCategory.UNKNOWN)


def messages(context: Iterable[Any], instructions: str = "") -> tuple[Message, ...]:
    """The messages of a Pipecat context, text only, behind the system prompt."""
    told = [Message("system", instructions)] if instructions else []
    for message in context:
        content = message.get("content") or "" if isinstance(message, dict) else ""
        if not isinstance(content, str):
            content = " ".join(part.get("text", "") for part in content if isinstance(part, dict))
        if content and message["role"] in {"system", "developer", "user", "assistant"}:
            told.append(Message("system" if message["role"] == "developer" else message["role"], content))
    return tuple(told)


async def speak(model: Model, request: Request) -> AsyncGenerator[str | Done, None]:
    """The reply clause by clause, each as soon as it is complete, then the `Done`.

    Closing the generator stops the model at once.

    Raises:
        ModelError: as `Model.stream` does.
    """
    splitter = ClauseSplitter()
    async with aclosing(model.stream(request)) as deltas:
        async for delta in deltas:
            if isinstance(delta, Text):
                for clause in splitter.feed(delta.text):
                    yield clause
            elif isinstance(delta, Done):
                for clause in splitter.flush():
                    yield clause
                yield delta


class ModelService(FrameProcessor):
    """Answers every `LLMContextFrame` with one spoken reply; an interruption closes the stream at once.

    Args:
        model: who writes, usually the process's chain.
        instructions: the system prompt, put before the context's messages.
        done: called with the `Done` of every reply that came to an end, for usage and first-token times.
    """

    def __init__(
        self, model: Model, instructions: str = "", done: Callable[[Done], None] | None = None, **base: Any
    ) -> None:
        super().__init__(name="model", **base)
        self._model = model
        self._instructions = instructions
        self._done = done

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame) and direction is FrameDirection.DOWNSTREAM:
            await self._answer(Request(messages(frame.context.get_messages(), self._instructions)))
        else:
            await self.push_frame(frame, direction)

    async def _answer(self, request: Request) -> None:
        spoken = False
        try:
            async with aclosing(speak(self._model, request)) as reply:
                async for part in reply:
                    if isinstance(part, Done):
                        await self._ended(part)
                        continue
                    if not spoken:
                        spoken = True
                        await self.push_frame(LLMFullResponseStartFrame())
                    await self.push_frame(AggregatedTextFrame(part, TextType.SENTENCE))
        except ModelError as error:
            kind = category(error)
            log.error("reply_failed", kind=error.kind, error=str(error))
            await self.push_error(str(error), exception=error, category=kind)
            if not spoken:
                await self.push_frame(ReplyFailed(kind, str(error)), FrameDirection.UPSTREAM)
        finally:
            if spoken:
                await self.push_frame(LLMFullResponseEndFrame())

    async def _ended(self, done: Done) -> None:
        if self._done is not None:
            self._done(done)
        if done.error:
            await self.push_error(f"Reply cut short: {done.error}", category=ErrorCategory.SERVER)
