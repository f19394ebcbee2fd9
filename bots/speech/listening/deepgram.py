"""Deepgram, the default listener: Pipecat's service, which rides `deepgram-sdk`, made to lose nothing.

Only speech is streamed, each stretch of voice closed by `Finalize`, so every stretch gets exactly one answer.
What the provider has not confirmed by a final result is kept, and sent again after a reconnect from the very
sample up to which it had confirmed: nothing is lost, nothing doubled.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import structlog
from deepgram.core.events import EventType
from deepgram.listen.v1.types import ListenV1CloseStream, ListenV1Finalize, ListenV1KeepAlive, ListenV1Results
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.deepgram.stt import DeepgramSTTService
from pipecat.transcriptions.language import Language
from pipecat.utils.time import time_now_iso8601

from bots.speech.frames import NotUnderstoodFrame
from bots.speech.listening.preroll import BYTES_PER_S, RATE_HZ, PreRoll
from infra.settings import Deepgram

log = structlog.get_logger()
CONNECT_S = 2.0
KEEP_ALIVE_S = 4.0  # Deepgram hangs up after ten seconds without a word from us
ANSWER_S = 0.4  # a finalize that found nothing left to transcribe is not always answered
BACKOFF_S = (0.0, 0.1, 0.3, 1.0, 2.0, 5.0)
UNCONFIRMED_LIMIT = 60 * BYTES_PER_S


@dataclass(slots=True)
class _Finalize:
    """In the stream of audio: here a stretch of voice ends."""


@dataclass(slots=True)
class _Unconfirmed:
    """What was heard and has no final result yet, in order; `sent` counts the entries sent on this connection."""

    entries: deque[bytes | _Finalize] = field(default_factory=deque)
    sent: int = 0
    dropped: int = 0  # bytes confirmed on this connection
    size: int = 0

    def add(self, entry: bytes | _Finalize) -> None:
        self.entries.append(entry)
        if isinstance(entry, bytes):
            self.size += len(entry)
        while self.size > UNCONFIRMED_LIMIT:
            self._drop()

    def confirm(self, stream_bytes: int) -> None:
        """The connection's audio up to `stream_bytes` has a final result."""
        while self.entries and isinstance(head := self.entries[0], bytes) and self.sent:
            left = stream_bytes - self.dropped
            if left < len(head):
                if left > 0:
                    self.entries[0] = head[left:]
                    self.dropped += left
                    self.size -= left
                return
            self.dropped += len(head)
            self._drop()

    def finalized(self) -> None:
        """Everything up to the first finalize that was sent has been answered."""
        while self.sent and not isinstance(head := self.entries[0], _Finalize):
            self.dropped += len(head)
            self._drop()
        if self.sent:
            self._drop()

    def clear(self) -> None:
        self.entries.clear()
        self.sent = self.dropped = self.size = 0

    def _drop(self) -> None:
        entry = self.entries.popleft()
        self.sent = max(0, self.sent - 1)
        if isinstance(entry, bytes):
            self.size -= len(entry)


class DeepgramListener(DeepgramSTTService):
    """Deepgram's streaming recogniser. Pushes partial words as `InterimTranscriptionFrame`s, then exactly one
    `TranscriptionFrame` (or `NotUnderstoodFrame`) for each stretch of voice, language and confidence with it.

    Reconnects by itself. An `ErrorFrame` goes upstream when it cannot; it goes on trying.
    """

    def __init__(self, settings: Deepgram, language: str = "en-US") -> None:
        super().__init__(
            name="deepgram",
            api_key=settings.api_key.get_secret_value(),
            base_url=settings.url,
            sample_rate=RATE_HZ,
            audio_passthrough=False,
            enable_direct_mode=True,
            settings=DeepgramSTTService.Settings(model=settings.model, language=language),
        )
        self._spoken_language = language
        self._before = PreRoll()
        self._voice = False
        self._unconfirmed = _Unconfirmed()
        self._texts: list[Any] = []  # final alternatives of the stretch of voice that is being closed
        self._closing: deque[asyncio.TimerHandle] = deque()
        self._news = asyncio.Event()
        self._socket: Any = None
        self._streaming: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        if isinstance(frame, InputAudioRawFrame) and direction is FrameDirection.DOWNSTREAM:
            self._hear(frame.audio)
            return
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStartedSpeakingFrame) and not self._voice:
            self._voice = True
            self._hear(self._before.take(frame.start_secs))
        elif isinstance(frame, VADUserStoppedSpeakingFrame) and self._voice:
            self._voice = False
            self._add(_Finalize())
            loop = asyncio.get_running_loop()
            self._closing.append(loop.call_later(ANSWER_S, self._unanswered))

    def abandon(self) -> None:
        """Somebody else answers for what was heard so far: forget it, and begin afresh."""
        self._unconfirmed.clear()
        self._texts.clear()
        while self._closing:
            self._closing.popleft().cancel()
        streaming, self._socket = self._streaming, None
        if streaming is not None:
            self._streaming = self.create_task(self._keep_connected(), "connection")
            self.create_task(self.cancel_task(streaming), "abandon")

    def _hear(self, pcm: bytes) -> None:
        if not self._voice:
            self._before.hear(pcm)
        elif pcm:
            self._record_stt_audio_usage(pcm)
            self._add(pcm)

    def _add(self, entry: bytes | _Finalize) -> None:
        self._unconfirmed.add(entry)
        self._news.set()

    async def _connect(self) -> None:
        # In the background: a provider that hangs must not hold up the call. Audio waits in `_unconfirmed`.
        self._streaming = self.create_task(self._keep_connected(), "connection")

    async def _disconnect(self) -> None:
        task, self._streaming = self._streaming, None
        while self._closing:
            self._closing.popleft().cancel()
        if task is None:
            return
        if self._socket is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(ANSWER_S):
                    await self._socket.send_close_stream(ListenV1CloseStream(type="CloseStream"))
        await self.cancel_task(task)

    async def _keep_connected(self) -> None:
        failures = 0
        while True:
            try:
                async with contextlib.AsyncExitStack() as stack:
                    async with asyncio.timeout(CONNECT_S):
                        connecting = self._client.listen.v1.connect(**self._build_connect_kwargs())
                        connection = await stack.enter_async_context(connecting)
                    failures = 0
                    await self._stream(connection)
                log.info("deepgram_disconnected", unconfirmed_bytes=self._unconfirmed.size)
            except Exception as error:
                failures += 1
                said = f"status {error.status_code}" if hasattr(error, "status_code") else repr(error)
                failure = ErrorFrame(error=f"Deepgram cannot be reached: {said}", processor=self)
                await self.push_frame(failure, FrameDirection.UPSTREAM)
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])

    async def _stream(self, connection: Any) -> None:
        """Send all that is unconfirmed and all that comes; returns when the connection is gone."""
        self._socket = connection
        connection._websocket.close_timeout = ANSWER_S  # a hung provider must not hold up the end of a call
        self._unconfirmed.sent = self._unconfirmed.dropped = 0
        self._news.set()
        connection.on(EventType.MESSAGE, lambda message: self._received(connection, message))
        sending = self.create_task(self._send(connection), "send")
        try:
            await connection.start_listening()
        finally:
            if self._socket is connection:
                self._socket = None
            await self.cancel_task(sending)

    async def _send(self, connection: Any) -> None:
        unconfirmed = self._unconfirmed
        try:
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_S):
                        await self._news.wait()
                except TimeoutError:
                    await connection.send_keep_alive(ListenV1KeepAlive(type="KeepAlive"))
                self._news.clear()
                while unconfirmed.sent < len(unconfirmed.entries) and connection is self._socket:
                    entry = unconfirmed.entries[unconfirmed.sent]
                    unconfirmed.sent += 1
                    if isinstance(entry, _Finalize):
                        await connection.send_finalize(ListenV1Finalize(type="Finalize"))
                    else:
                        await connection.send_media(entry)
        except Exception as error:  # the reader sees the end of the connection, too, and reconnects
            log.info("deepgram_send_failed", error=repr(error))

    async def _received(self, connection: Any, message: Any) -> None:
        if not isinstance(message, ListenV1Results) or not message.channel.alternatives:
            return
        if self._socket is not connection:  # abandoned, and on its way out
            return
        best = message.channel.alternatives[0]
        if not message.is_final:
            if best.transcript:
                await self.push_frame(self._transcript(InterimTranscriptionFrame, [best]))
            return
        if best.transcript:
            self._texts.append(best)
        if message.from_finalize:
            self._unconfirmed.finalized()
            await self._close()
        else:
            self._unconfirmed.confirm(round((message.start + message.duration) * RATE_HZ) * 2)

    def _unanswered(self) -> None:
        if self._texts and self._closing:
            self.create_task(self._close(), "close")

    async def _close(self) -> None:
        if not self._closing:
            if self._texts:
                log.warning("transcript_after_its_time", words=len(self._texts))
            self._texts.clear()
            return
        self._closing.popleft().cancel()
        texts, self._texts = self._texts, []
        await self.emit_stt_usage_metrics()  # type: ignore[no-untyped-call]
        if not texts:
            await self.push_frame(NotUnderstoodFrame())
            return
        frame = self._transcript(TranscriptionFrame, texts)
        frame.finalized = True
        await self.push_frame(frame)

    def _transcript(self, kind: Any, alternatives: list[Any]) -> Any:
        text = " ".join(best.transcript.strip() for best in alternatives)
        languages = [spoken for best in alternatives for spoken in best.languages or ()]
        language = _language(languages[0] if languages else self._spoken_language)
        frame = kind(text, self._user_id, time_now_iso8601(), language)
        frame.metadata["confidence"] = min(best.confidence for best in alternatives)
        return frame


def _language(code: str) -> Language | None:
    try:
        return Language(code)
    except ValueError:
        return None
