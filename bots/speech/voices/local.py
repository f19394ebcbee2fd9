"""Local voices on weights that are on disk: Pipecat's Kokoro and Piper."""

from __future__ import annotations

from collections.abc import Mapping

from pipecat.processors.frame_processor import FrameProcessor

from bots.speech.voices.espeak import RATE_HZ
from bots.speech.weights import package, weights
from infra.settings import Settings


def kokoro(settings: Settings, table: Mapping[str, str | float]) -> FrameProcessor:
    """Kokoro by ONNX Runtime; `SPEECH_WEIGHTS/kokoro` holds `kokoro-v1.0.onnx` and `voices-v1.0.bin`.

    `table` is the persona's `[voice] local`: `voice` (default `af_heart`) and `speed`.

    Raises:
        EngineMissingError: package or weights are not there.
    """
    module = package("kokoro", "pipecat.services.kokoro.tts", "kokoro")
    folder = weights(settings, "kokoro", "kokoro-v1.0.onnx", "voices-v1.0.bin")
    chosen = module.KokoroTTSService.Settings(
        voice=str(table.get("voice", "af_heart")), speed=float(table.get("speed", 1.0))
    )
    service: FrameProcessor = module.KokoroTTSService(
        name="kokoro",
        sample_rate=RATE_HZ,
        model_path=str(folder / "kokoro-v1.0.onnx"),
        voices_path=str(folder / "voices-v1.0.bin"),
        settings=chosen,
    )
    return service


def piper(settings: Settings, table: Mapping[str, str | float]) -> FrameProcessor:
    """Piper (GPL-3.0); `SPEECH_WEIGHTS/piper` holds `VOICE.onnx` and `VOICE.onnx.json`.

    `table` is the persona's `[voice] local`: `voice` (default `en_US-ryan-high`).

    Raises:
        EngineMissingError: package or weights are not there.
    """
    module = package("piper", "pipecat.services.piper.tts", "piper")
    voice = str(table.get("voice", "en_US-ryan-high"))
    folder = weights(settings, "piper", f"{voice}.onnx", f"{voice}.onnx.json")
    service: FrameProcessor = module.PiperTTSService(
        name="piper",
        sample_rate=RATE_HZ,
        download_dir=folder,
        settings=module.PiperTTSService.Settings(voice=voice),
    )
    return service
