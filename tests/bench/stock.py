"""The bot we measure ourselves against: Pipecat as its documentation teaches it for Twilio, one process, no changes.

Its FastAPI transport and Twilio serializer, Silero and smart-turn loaded per call, the default aggregators and
observers, uvicorn on uvloop. Both audio rates are 8000 Hz, as its documentation says for telephones. The recogniser,
the model and the voice are doubles without latency, so that what is measured is the server's own work.

    python -m tests.bench.stock --port 9100
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import AsyncGenerator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response, WebSocket
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMRunFrame,
    LLMTextFrame,
    TranscriptionFrame,
    UserStoppedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings
from pipecat.services.stt_service import STTService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner

from bots.speech.double import RATE_HZ, DoubleVoice

OPENING = "Hello, this is an automated test line."
decisions: list[tuple[float, float]] = []  # when (seconds since 1970), and ms since voice activity stopped
app = FastAPI()


class Listener(STTService):
    """Understands at once: the transcript is final the moment the caller's voice stops."""

    def __init__(self) -> None:
        super().__init__(ttfs_p99_latency=0.0, settings=STTSettings(model=None, language=None))
        self._stopped_at = 0.0

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        yield None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStoppedSpeakingFrame):
            self._stopped_at = time.monotonic()
            await self.push_frame(TranscriptionFrame("please go on", "", time_now_iso8601(), finalized=True))
        elif isinstance(frame, UserStoppedSpeakingFrame) and self._stopped_at:
            decisions.append((time.time(), (time.monotonic() - self._stopped_at) * 1000))
            self._stopped_at = 0.0


class Brain(LLMService[Any]):
    """Answers at once, with numbered lines."""

    def __init__(self) -> None:
        super().__init__(settings=_no_model())
        self._line = 0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        text = f"This is line number {self._line} of 10000. Please go on." if self._line else OPENING
        self._line += 1
        await self.push_frame(LLMFullResponseStartFrame())
        for word in text.split():
            await self.push_frame(LLMTextFrame(f"{word} "))
        await self.push_frame(LLMFullResponseEndFrame())


def _no_model() -> LLMSettings:
    unset: dict[str, Any] = dict.fromkeys(
        (
            "model",
            "system_instruction",
            "temperature",
            "max_tokens",
            "top_p",
            "top_k",
            "frequency_penalty",
            "presence_penalty",
            "seed",
            "filter_incomplete_user_turns",
            "user_turn_completion_config",
        )
    )
    return LLMSettings(**unset)


@app.post("/voice")
async def voice(request: Request) -> Response:
    """TwiML that connects the call's audio to `/ws`."""
    url = f"ws://{request.headers['host']}/ws"
    return Response(f'<Response><Connect><Stream url="{url}"/></Connect></Response>', media_type="application/xml")


@app.get("/decisions")
async def told() -> list[tuple[float, float]]:
    """Every turn decision so far."""
    return decisions


@app.websocket("/ws")
async def media(websocket: WebSocket) -> None:
    """One call, as in Pipecat's Twilio example."""
    await websocket.accept()
    _, call = await parse_telephony_websocket(websocket)
    serializer = TwilioFrameSerializer(
        stream_sid=call["stream_id"],
        call_sid=call["call_id"],
        params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
    )
    transport = FastAPIWebsocketTransport(
        websocket=websocket,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True, audio_out_enabled=True, add_wav_header=False, serializer=serializer
        ),
    )
    user, assistant = LLMContextAggregatorPair(
        LLMContext(), user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    pipeline = Pipeline([transport.input(), Listener(), user, Brain(), DoubleVoice(), transport.output(), assistant])
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(
            audio_in_sample_rate=RATE_HZ, audio_out_sample_rate=RATE_HZ, enable_metrics=True, enable_usage_metrics=True
        ),
    )

    @transport.event_handler("on_client_connected")  # type: ignore[untyped-decorator]
    async def connected(_transport: object, _client: object) -> None:
        await worker.queue_frames([LLMRunFrame()])

    @transport.event_handler("on_client_disconnected")  # type: ignore[untyped-decorator]
    async def disconnected(_transport: object, _client: object) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    uvicorn.run(app, host="127.0.0.1", port=parser.parse_args().port, loop="uvloop", log_level="warning")


if __name__ == "__main__":
    main()
