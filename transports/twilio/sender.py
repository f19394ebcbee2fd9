"""Pipecat's media sender without what costs: no task per frame, and a truthful end of speech.

Stock Pipecat 1.14 wraps the queue read and the write of every chunk in `asyncio.wait_for`, on Python 3.11 a
task each, and reports the bot silent when its last chunk is written rather than when it was played.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog
from pipecat.frames.frames import (
    DataFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputAudioRawFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.transports.base_output import BOT_VAD_STOP_FALLBACK_SECS, BaseOutputTransport
from pipecat.utils.errors import ErrorCategory

if TYPE_CHECKING:
    from transports.twilio.stream import MediaStreamOutput

BOT_SPEAKING_SECONDS = 1.0  # each BotSpeakingFrame crosses the whole pipeline twice; only idle timers read it

log = structlog.get_logger()


async def hand_on(processor: FrameProcessor, frame: Frame) -> None:
    """Give an audio frame to the next processor without `push_frame`'s trace line, hooks and observer record.

    They are a quarter of what a frame costs on its way through a transport, and nobody watches single frames of
    audio at the line; every later hop is Pipecat's own.
    """
    if processor.next is not None:
        await processor.next.queue_frame(frame, FrameDirection.DOWNSTREAM)


class Sender(BaseOutputTransport.MediaSender):
    """Cuts audio into chunks, writes them through the output, and says when the bot speaks."""

    def __init__(self, output: MediaStreamOutput, queue_seconds: float) -> None:
        super().__init__(
            output,
            destination=None,
            sample_rate=output.sample_rate,
            audio_chunk_size=output.audio_chunk_size,
            params=output.params,
        )
        self._bot_speaking_frame_period = BOT_SPEAKING_SECONDS
        self._output = output
        self._max_chunks = int(queue_seconds * output.sample_rate * 2 / output.audio_chunk_size)
        self._overflowed = False
        self._silence: asyncio.TimerHandle | None = None

    async def handle_audio_frame(self, frame: OutputAudioRawFrame) -> None:
        """Queue audio in chunks. Beyond the queue's bound it is dropped and reported once."""
        if self._output.interrupting and frame.interruptible:
            return
        self._still_speaking()
        if self._audio_queue.qsize() >= self._max_chunks:
            if not self._overflowed:
                self._overflowed = True
                await self._output.push_error("the output queue is full; speech was dropped")
            return
        self._overflowed = False
        protected = not frame.interruptible
        runs = self._audio_runs
        if frame.sample_rate != self._sample_rate or len(runs) > 1 or (runs and runs[0][1] != protected):
            await super().handle_audio_frame(frame)
            return
        audio = bytes(runs.popleft()[0]) + frame.audio if runs else frame.audio
        self._audio_buffer_cls = type(frame)
        size = self._audio_chunk_size
        whole = len(audio) - len(audio) % size
        for at in range(0, whole, size):
            await self._enqueue_audio_chunk(audio[at : at + size], protected)
        self._buffer_audio(audio[whole:], uninterruptible=protected)

    async def handle_interruptions(self, frame: InterruptionFrame) -> None:
        self._still_speaking()
        await super().handle_interruptions(frame)

    async def finish(self) -> None:
        """Nothing more will be played."""
        self._still_speaking()
        await self._bot_stopped_speaking()  # type: ignore[no-untyped-call]

    async def cleanup(self) -> None:
        self._still_speaking()
        await super().cleanup()  # type: ignore[no-untyped-call]

    async def _audio_task_handler(self) -> None:
        while True:
            frame = await self._next()
            if isinstance(frame, EndFrame):
                return
            try:
                if (self._output.interrupting and frame.interruptible) or not await self._play(frame):
                    continue
                if isinstance(frame, OutputAudioRawFrame):
                    await hand_on(self._transport, frame)
                else:
                    await self._transport.push_frame(frame)
            except Exception as error:
                # One frame that cannot be handled must not silence the rest of the call.
                log.exception("media.frame_not_played", frame=frame.name)
                await self._transport.push_error(
                    f"a frame could not be played: {error}", exception=error, category=ErrorCategory.UNKNOWN
                )
            finally:
                self._audio_queue.task_done()

    async def _next(self) -> Frame:
        queue = self._audio_queue
        while queue.empty() and self._bot_speaking and self._silence is None:
            try:
                async with asyncio.timeout(BOT_VAD_STOP_FALLBACK_SECS):
                    waited: Frame = await queue.get()
                    return waited
            except TimeoutError:
                await self._bot_stopped_speaking()  # type: ignore[no-untyped-call]
        frame: Frame = await queue.get()
        return frame

    async def _play(self, frame: Frame) -> bool:
        """Handle a frame whose turn has come; returns whether it goes on downstream, as played."""
        if isinstance(frame, OutputAudioRawFrame):
            if self._filter:
                await self._filter_audio(frame)
            if not frame.audio:
                return False
            self._apply_volume(frame)
            await self._handle_bot_speech(frame)
            return await self._output.write_audio_frame(frame)
        if isinstance(frame, TTSStoppedFrame):
            if self._tts_audio_received:
                await self._output.mark(frame.context_id)
                self._silent_at(self._output.playout.ends_at)
            return True
        await self._handle_frame(frame)
        # What is behind the output takes a frame for spoken; on a dead line nothing is.
        return not (self._output.line.ended and isinstance(frame, DataFrame) and frame.interruptible)

    def _silent_at(self, when: float) -> None:
        self._still_speaking()
        self._silence = asyncio.get_running_loop().call_at(when, self._fell_silent)

    def _still_speaking(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None

    def _fell_silent(self) -> None:
        self._silence = None
        self._transport.create_task(self._bot_stopped_speaking())  # type: ignore[no-untyped-call]
