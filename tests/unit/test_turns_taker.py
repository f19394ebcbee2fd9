"""What the turn taker promises a call, on real speech and in audio time: nothing here waits for a clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
    InterruptionFrame,
    StartFrame,
    UserStartedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.asyncio.task_manager import TaskManager
from pipecat.workers.base_worker import WorkerParams

from bots.turns.client import Verdict
from bots.turns.taker import FalseStart, TurnEnded, TurnTaker
from bots.turns.vad import RATE_HZ
from transports.simulator import codec
from transports.simulator.speech import Speech
from transports.simulator.voice import VoiceStyle

FRAME_BYTES = 2 * RATE_HZ * 40 // 1000
F = TypeVar("F", bound=Frame)


class Judge:
    """Answers when told to. `asked` holds what it was asked, `withdrawn` counts questions taken back."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.withdrawn = 0
        self._questions = asyncio.Semaphore(0)
        self._answers: asyncio.Queue[Verdict | None] = asyncio.Queue()

    async def wait_asked(self) -> None:
        """Return at the next question."""
        async with asyncio.timeout(5):
            await self._questions.acquire()

    async def answer(self, probability: float | None) -> None:
        """Answer the open question; returns when the asker has taken note."""
        self._answers.put_nowait(None if probability is None else Verdict(probability, 1.0, 2.0))
        await self._answers.join()

    async def judge(self, call: str, pcm: bytes) -> Verdict | None:
        assert call == "call_1"
        self.asked.append(pcm)
        self._questions.release()
        try:
            verdict = await self._answers.get()
        except asyncio.CancelledError:
            self.withdrawn += 1
            raise
        self._answers.task_done()
        return verdict


class Sink(FrameProcessor):
    """What reaches the processors behind the taker, audio apart from the rest."""

    def __init__(self) -> None:
        super().__init__(enable_direct_mode=True)
        self.frames: list[Frame] = []
        self.audio = b""
        self.changed = asyncio.Condition()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.audio += frame.audio
        else:
            async with self.changed:
                self.frames.append(frame)
                self.changed.notify_all()
        await self.push_frame(frame, direction)

    def of(self, kind: type[F]) -> list[F]:
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def wait_for(self, kind: type[F], count: int = 1) -> F:
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]


class Line:
    """A taker in a running pipeline, fed as fast as it listens."""

    def __init__(self) -> None:
        self.judge = Judge()
        self.now = 100.0
        self.sink = Sink()
        self.taker = TurnTaker("call_1", self.judge, clock=lambda: self.now)

    async def hear(self, pcm: bytes | codec.Pcm) -> None:
        data = pcm if isinstance(pcm, bytes) else pcm.tobytes()
        data += bytes(-len(data) % FRAME_BYTES)
        for at in range(0, len(data), FRAME_BYTES):
            self.now += 0.04
            frame = InputAudioRawFrame(data[at : at + FRAME_BYTES], RATE_HZ, 1)
            await self.taker.queue_frame(frame, FrameDirection.DOWNSTREAM)

    async def silence(self, milliseconds: int) -> None:
        await self.hear(bytes(2 * RATE_HZ * milliseconds // 1000))

    async def bot(self, speaking: bool) -> None:
        frame = BotStartedSpeakingFrame() if speaking else BotStoppedSpeakingFrame()
        await self.taker.queue_frame(frame, FrameDirection.UPSTREAM)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    line = Line()
    worker = PipelineWorker(
        Pipeline([line.taker, line.sink]),
        params=PipelineParams(audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ),
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,
    )
    running = asyncio.create_task(worker.run(WorkerParams(task_manager=TaskManager())))
    await line.sink.wait_for(StartFrame)
    yield line
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture(scope="module")
def sentence() -> codec.Pcm:
    async def speak() -> codec.Pcm:
        speech = Speech()
        try:
            clip = await speech.say("I would like a table for four people.", VoiceStyle())
        finally:
            await speech.close()
        return codec.trim(codec.decode(b"".join(clip.frames)))

    return asyncio.run(speak())


async def test_a_finished_sentence_ends_the_turn_as_soon_as_the_model_says_so(line: Line, sentence: codec.Pcm) -> None:
    """COM-14: voice activity, then the model, decide; the answer needs no further silence."""
    await line.silence(1000)
    await line.hear(sentence)
    await line.silence(400)
    await line.judge.wait_asked()
    assert not line.sink.of(TurnEnded)
    await line.judge.answer(0.9)
    timing = (await line.sink.wait_for(TurnEnded)).timing
    assert timing.decided_by == "model"
    assert timing.probability == 0.9
    assert timing.service_ms == 2.0
    assert timing.voiced_ms == pytest.approx(len(sentence) * 1000 / RATE_HZ, abs=200)
    assert 0.15 < timing.vad_stop - timing.voice_end < 0.3
    kinds = [type(frame) for frame in line.sink.frames]
    assert kinds == [
        StartFrame,
        VADUserStartedSpeakingFrame,
        UserStartedSpeakingFrame,
        InterruptionFrame,
        VADUserStoppedSpeakingFrame,
        TurnEnded,
    ]


async def test_the_model_sees_the_whole_turn_with_half_a_second_before_it(line: Line, sentence: codec.Pcm) -> None:
    await line.silence(3000)
    await line.hear(sentence)
    await line.silence(400)
    await line.judge.wait_asked()
    asked_ms = len(line.judge.asked[0]) / 2 / RATE_HZ * 1000
    assert asked_ms == pytest.approx(len(sentence) / RATE_HZ * 1000 + 600 + 250, abs=250)
    assert sentence[2000:4000].tobytes() in line.judge.asked[0]


async def test_an_unfinished_sentence_may_pause_and_go_on(line: Line, sentence: codec.Pcm) -> None:
    await line.hear(sentence)
    await line.silence(400)
    await line.judge.wait_asked()
    await line.judge.answer(0.1)
    await line.silence(500)
    await line.hear(sentence)
    await line.silence(400)
    await line.judge.wait_asked()
    await line.judge.answer(0.9)
    timing = (await line.sink.wait_for(TurnEnded)).timing
    assert timing.pauses >= 2
    assert len(line.sink.of(UserStartedSpeakingFrame)) == len(line.sink.of(InterruptionFrame)) == 1


async def test_an_unfinished_sentence_that_never_goes_on_ends_at_the_limit(line: Line, sentence: codec.Pcm) -> None:
    await line.hear(sentence)
    await line.silence(400)
    await line.judge.wait_asked()
    await line.judge.answer(0.1)
    await line.silence(600)
    assert not line.sink.of(TurnEnded)
    await line.silence(600)
    timing = (await line.sink.wait_for(TurnEnded)).timing
    assert timing.decided_by == "limit"


@pytest.mark.parametrize("answer", ["none", "never"])
async def test_without_an_answer_silence_alone_decides(line: Line, sentence: codec.Pcm, answer: str) -> None:
    """COM-14: a dead, busy or hung turn server costs a call half a second, not its turn."""
    await line.hear(sentence)
    await line.silence(400)
    await line.judge.wait_asked()
    if answer == "none":
        await line.judge.answer(None)
    await line.silence(500)
    timing = (await line.sink.wait_for(TurnEnded)).timing
    assert timing.decided_by == "fallback"
    assert timing.probability is None
    assert line.judge.withdrawn == (answer == "never")


async def test_speech_that_goes_on_withdraws_the_question(line: Line, sentence: codec.Pcm) -> None:
    await line.hear(sentence)
    await line.silence(400)
    await line.judge.wait_asked()
    await line.hear(sentence)
    assert line.judge.withdrawn == 1
    assert not line.sink.of(TurnEnded)


async def test_a_sound_too_short_for_a_word_that_stopped_the_bot_is_a_false_start(
    line: Line, sentence: codec.Pcm
) -> None:
    """COM-14: a false interruption resumes; here it is told apart, before any server is asked."""
    await line.bot(speaking=True)
    await line.silence(500)
    await line.hear(sentence[: RATE_HZ * 120 // 1000])
    await line.silence(400)
    false_start = await line.sink.wait_for(FalseStart)
    assert false_start.timing.decided_by == "brief"
    assert false_start.timing.interrupted
    assert line.sink.of(InterruptionFrame)
    assert not line.judge.asked


async def test_a_short_sound_while_nobody_else_speaks_is_judged_like_any_other(line: Line, sentence: codec.Pcm) -> None:
    await line.bot(speaking=True)
    await line.bot(speaking=False)
    await line.hear(sentence[: RATE_HZ * 120 // 1000])
    await line.silence(400)
    await line.judge.wait_asked()
    await line.judge.answer(0.9)
    ended = await line.sink.wait_for(TurnEnded)
    assert not isinstance(ended, FalseStart)
    assert not ended.timing.interrupted


async def test_a_barge_in_interrupts_both_ways_and_overtakes_its_own_audio(line: Line, sentence: codec.Pcm) -> None:
    """COM-14: user speech during playback stops audio."""
    await line.bot(speaking=True)
    for at in range(0, len(sentence), FRAME_BYTES // 2):
        before = len(line.sink.audio)
        await line.hear(sentence[at : at + FRAME_BYTES // 2])
        if line.sink.of(InterruptionFrame):
            break
    assert before < RATE_HZ * 2 * 0.25
    assert line.taker.turn_open


async def test_a_caller_who_may_not_interrupt_still_gets_a_turn(line: Line, sentence: codec.Pcm) -> None:
    line.taker.interruptible = False
    await line.bot(speaking=True)
    await line.hear(sentence)
    await line.silence(400)
    await line.judge.wait_asked()
    await line.judge.answer(0.9)
    await line.sink.wait_for(TurnEnded)
    assert not line.sink.of(InterruptionFrame)


async def test_a_muted_caller_takes_no_turn_and_loses_the_open_one(line: Line, sentence: codec.Pcm) -> None:
    line.taker.muted = True
    await line.hear(sentence)
    assert not line.sink.of(UserStartedSpeakingFrame)
    line.taker.muted = False
    await line.hear(sentence)
    assert line.taker.turn_open
    line.taker.muted = True
    await line.silence(40)
    assert (await line.sink.wait_for(TurnEnded)).timing.decided_by == "muted"
    assert len(line.sink.of(VADUserStoppedSpeakingFrame)) == len(line.sink.of(VADUserStartedSpeakingFrame))


async def test_all_audio_passes_unchanged(line: Line, sentence: codec.Pcm) -> None:
    pcm = sentence[: len(sentence) // 320 * 320].tobytes()
    await line.hear(pcm)
    line.taker.muted = True
    await line.hear(pcm)
    assert line.sink.audio == pcm + pcm


async def test_a_line_that_goes_dead_in_mid_sentence_ends_the_turn(
    line: Line, sentence: codec.Pcm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bots.turns.taker.STALL_S", 0.05)
    await line.hear(sentence[: len(sentence) // 2])
    assert line.taker.turn_open
    line.now += 1.0
    assert (await line.sink.wait_for(TurnEnded)).timing.decided_by == "stalled"
    assert line.sink.of(VADUserStoppedSpeakingFrame)


async def test_figures_of_a_turn_are_plain_numbers_for_the_journal(line: Line, sentence: codec.Pcm) -> None:
    await line.hear(np.concatenate([np.zeros(4000, np.int16), sentence]))
    await line.silence(400)
    await line.judge.wait_asked()
    await line.judge.answer(0.9)
    figures = (await line.sink.wait_for(TurnEnded)).timing.figures()
    assert set(figures) >= {"onset_to_start_ms", "voiced_ms", "decision_ms", "voice_end_to_decision_ms", "probability"}
    assert all(type(value) is float for value in figures.values())
