"""A model in a pipeline: clauses reach speech before the reply is complete, failures are told once."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from pipecat.frames.frames import (
    AggregatedTextFrame,
    EndFrame,
    ErrorFrame,
    Frame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.settings import TTSSettings
from pipecat.utils.errors import ErrorCategory
from pipecat.workers.runner import WorkerRunner

from bots.models.port import Delta, Done, NoReply, RateLimited, Request, Text, Unreachable
from bots.models.service import ModelService, ReplyFailed, messages

with warnings.catch_warnings():  # importing Pipecat's module warns about classes of its own
    warnings.simplefilter("ignore", DeprecationWarning)
    from pipecat.services.tts_service import TTSService


class Steps:
    """A model whose every token waits to be let out."""

    name = "steps"

    def __init__(self, *tokens: str | Exception) -> None:
        self.tokens = tokens
        self.go = asyncio.Semaphore(0)
        self.requests: list[Request] = []
        self.closed = asyncio.Event()

    def describe(self) -> str:
        return self.name

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        self.requests.append(request)
        try:
            for token in self.tokens:
                await self.go.acquire()
                if isinstance(token, Exception):
                    raise token
                yield Text(token)
            yield Done("stop")
        finally:
            self.closed.set()

    def let(self, count: int) -> None:
        for _ in range(count):
            self.go.release()

    async def aclose(self) -> None:
        return None


class Tap(FrameProcessor):
    """Keeps what passes, per direction, and tells whoever waits."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.down: list[Frame] = []
        self.up: list[Frame] = []
        self.seen = asyncio.Condition()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        (self.down if direction is FrameDirection.DOWNSTREAM else self.up).append(frame)
        async with self.seen:
            self.seen.notify_all()
        await self.push_frame(frame, direction)

    async def wait(self, kind: type[Frame], count: int = 1) -> list[Frame]:
        def found() -> list[Frame]:
            return [frame for frame in (*self.down, *self.up) if isinstance(frame, kind)]

        async with asyncio.timeout(5), self.seen:
            await self.seen.wait_for(lambda: len(found()) >= count)
        return found()


class Voice(TTSService):
    """Says one short piece of silence per text it is given, at once."""

    def __init__(self) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            sample_rate=8000,
            settings=TTSSettings(model=None, voice=None, language=None),
        )
        self.texts: list[str] = []

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        self.texts.append(text)
        yield TTSAudioRawFrame(b"\0" * 320, 8000, 1, context_id=context_id)


@asynccontextmanager
async def _line(*parts: FrameProcessor) -> AsyncIterator[PipelineWorker]:
    worker = PipelineWorker(
        Pipeline(list(parts)),
        params=PipelineParams(audio_in_sample_rate=8000, audio_out_sample_rate=8000),
        enable_rtvi=False,
        enable_turn_tracking=False,
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        yield worker
    finally:
        await worker.queue_frame(EndFrame())
        async with asyncio.timeout(5):
            await running


def _ask() -> LLMContextFrame:
    return LLMContextFrame(LLMContext([{"role": "user", "content": "hello"}]))


async def test_speech_has_the_first_clause_before_the_model_has_written_the_rest() -> None:
    """CMB-27: first audio precedes the last token."""
    model = Steps("Well, ", "that is ", "fine. ", "And ", "more.")
    done: list[Done] = []
    voice, tap = Voice(), Tap("behind")
    async with _line(ModelService(model, "Be brief.", done.append), voice, tap) as worker:
        await worker.queue_frame(_ask())
        model.let(4)
        await tap.wait(TTSAudioRawFrame)
        assert voice.texts == ["Well, that is fine."]
        model.let(1)
        await tap.wait(TTSAudioRawFrame, 2)
        assert voice.texts == ["Well, that is fine.", "And more."]
    assert [done_.finish for done_ in done] == ["stop"]
    assert model.requests[0].messages[0].content == "Be brief."


async def test_an_interruption_closes_the_models_stream_and_ends_the_response() -> None:
    """CMB-28: barge-in."""
    model = Steps("One, two, three, ", "four, five.")
    tap = Tap("behind")
    async with _line(ModelService(model), tap) as worker:
        await worker.queue_frame(_ask())
        model.let(1)
        await tap.wait(AggregatedTextFrame)
        await worker.queue_frame(InterruptionFrame())
        async with asyncio.timeout(5):
            await model.closed.wait()
        await tap.wait(InterruptionFrame)
        kinds = [type(frame) for frame in tap.down]
        assert kinds.count(AggregatedTextFrame) == 1
        assert kinds.count(LLMFullResponseStartFrame) == 1


async def test_when_every_provider_failed_the_dialogue_is_told_once_that_nothing_was_said() -> None:
    """CMB-33: whoever listens upstream has the caller hear an apology."""
    model = Steps(NoReply((RateLimited("full", provider="a"),)))
    ahead, behind = Tap("ahead"), Tap("behind")
    async with _line(ahead, ModelService(model), behind) as worker:
        await worker.queue_frame(_ask())
        model.let(1)
        failed = (await ahead.wait(ReplyFailed))[0]
        assert isinstance(failed, ReplyFailed)
        assert failed.category is ErrorCategory.RATE_LIMIT
        assert len([f for f in ahead.up if isinstance(f, ErrorFrame)]) == 1
        assert not [f for f in behind.down if isinstance(f, AggregatedTextFrame | LLMFullResponseStartFrame)]
        assert [f for f in ahead.up if isinstance(f, ReplyFailed)] == [failed]


async def test_when_a_reply_dies_after_words_the_words_stand_and_nobody_apologises() -> None:
    model = Steps("Here we go. ", "And ", Unreachable("gone", provider="a"))
    ahead, behind = Tap("ahead"), Tap("behind")
    async with _line(ahead, ModelService(model), behind) as worker:
        await worker.queue_frame(_ask())
        model.let(3)
        await behind.wait(LLMFullResponseEndFrame)
        assert [f.text for f in behind.down if isinstance(f, AggregatedTextFrame)] == ["Here we go."]
    assert [f.category for f in ahead.up if isinstance(f, ErrorFrame)] == [ErrorCategory.CONNECTIVITY]
    assert not [f for f in ahead.up if isinstance(f, ReplyFailed)]


def test_only_text_of_the_context_reaches_the_model() -> None:
    told = messages(
        [
            {"role": "developer", "content": "be kind"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {}}],
            },
            {"role": "assistant", "content": None},
            object(),
        ]
    )
    assert [(message.role, message.content.strip()) for message in told] == [
        ("system", "be kind"),
        ("user", "look"),
    ]
