"""Local engines: their weights are on disk or they do not run. Nothing is ever downloaded."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from infra.settings import Settings


class EngineMissingError(Exception):
    """A local engine was chosen that is not installed. Install what the message names, or choose another one."""


def package(engine: str, module: str, extra: str) -> ModuleType:
    """The Pipecat module of an engine.

    Raises:
        EngineMissingError: the package behind it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EngineMissingError(
            f"The {engine} engine is not installed: pip install 'pipecat-ai[{extra}]', or choose another one "
            "(SPEECH_LISTENER, SPEECH_VOICE)."
        ) from error


def weights(settings: Settings, engine: str, *names: str) -> Path:
    """The folder of an engine's weights, `SPEECH_WEIGHTS/ENGINE`, with these files in it.

    Raises:
        EngineMissingError: the folder or a file is not there.
    """
    folder = (settings.speech.weights or Path("weights")) / engine
    for name in names:
        if not (folder / name).exists():
            raise EngineMissingError(
                f"The {engine} engine needs {folder / name}, which is not there. Put the weights there; they "
                "are never downloaded. Or choose another engine."
            )
    return folder
