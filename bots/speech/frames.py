"""Frames that listening adds to Pipecat's."""

from __future__ import annotations

from dataclasses import dataclass

from pipecat.frames.frames import DataFrame


@dataclass
class NotUnderstoodFrame(DataFrame):
    """A stretch of the caller's voice was heard and fits nothing: an honest answer in place of a transcript.

    Every stretch between a `VADUserStartedSpeakingFrame` and its `VADUserStoppedSpeakingFrame` is closed by
    exactly one finalized `TranscriptionFrame` or one of these. `confidence` is the best guess's, from 0 to 1.
    """

    confidence: float = 0.0
