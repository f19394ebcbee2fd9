"""Local recognisers on weights that are on disk: Pipecat's Whisper and Moonshine, fed with telephone audio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipecat.frames.frames import Frame
from pipecat.processors.frame_processor import FrameProcessor

from bots.audio import Upsampler
from bots.speech.weights import package, weights
from infra.settings import Settings


def whisper(settings: Settings) -> FrameProcessor:
    """Whisper by faster-whisper; `SPEECH_WEIGHTS/whisper` holds a CTranslate2 model.

    Raises:
        EngineMissingError: package or weights are not there.
    """
    module = package("whisper", "pipecat.services.whisper.stt", "whisper")
    folder = weights(settings, "whisper", "model.bin")

    class Whisper(module.WhisperSTTService):  # type: ignore[name-defined, misc]
        def _load(self) -> None:
            self._model = _shared_whisper(folder)

        async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
            async for frame in super().run_stt(Upsampler().process(audio)):
                yield frame

    service: FrameProcessor = Whisper(
        name="whisper",
        audio_passthrough=False,
        settings=module.WhisperSTTService.Settings(model=str(folder)),
    )
    return service


def moonshine(settings: Settings, model: str = "small-streaming") -> FrameProcessor:
    """Moonshine by ONNX Runtime; `SPEECH_WEIGHTS/moonshine` holds an English model.

    Raises:
        EngineMissingError: package or weights are not there.
    """
    module = package("moonshine", "pipecat.services.moonshine.stt", "moonshine")
    folder = weights(settings, "moonshine", "tokenizer.bin")

    class Moonshine(module.MoonshineSTTService):  # type: ignore[name-defined, misc]
        def _load(self) -> Any:
            return _shared_moonshine(folder, model)

        async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
            async for frame in super().run_stt(Upsampler().process(audio)):
                yield frame

    service: FrameProcessor = Moonshine(
        name="moonshine",
        audio_passthrough=False,
        settings=module.MoonshineSTTService.Settings(model=model),
    )
    return service


@lru_cache(maxsize=1)
def _shared_whisper(folder: Path) -> Any:
    module = package("whisper", "faster_whisper", "whisper")
    return module.WhisperModel(str(folder), local_files_only=True)


@lru_cache(maxsize=1)
def _shared_moonshine(folder: Path, model: str) -> Any:
    module = package("moonshine", "moonshine_voice", "moonshine")
    return module.Transcriber(str(folder), module.string_to_model_arch(model))
