"""Cues: what the dialogue asks of whoever speaks for the bot, and how an utterance is framed.

The dialogue knows *when* something is to be said; the speaker behind it knows *what*.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipecat.frames.frames import DataFrame


class Cue(StrEnum):
    """An occasion to speak."""

    OPENING = "opening"  # the call begins
    RESUME = "resume"  # the line dropped and is back; the record says where we stood
    MOVED = "moved"  # the call was moved to this process on purpose; nobody need notice
    ANSWER = "answer"  # the caller's turn is over
    REPEAT = "repeat"  # the caller spoke and was not understood
    CONTINUE = "continue"  # a false interruption: say the rest
    IDLE = "idle"  # nobody has spoken for a while
    APOLOGY = "apology"  # a stage failed beyond its fallbacks
    NEARLY_OVER = "nearly_over"  # half a minute is left
    TIME_UP = "time_up"  # the call has reached its limit
    STOP = "stop"  # the caller wants no more calls and said so with a key
    GOODBYE = "goodbye"  # the caller wants to end the call and said so with a key


@dataclass
class CueFrame(DataFrame):
    """An occasion to speak, with what the caller said where there is something."""

    cue: Cue = Cue.ANSWER
    heard: str | None = None


@dataclass
class UtteranceStartFrame(DataFrame):
    """The words that follow are one utterance. An `aside` (a bridge, an apology) is no turn of the record."""

    aside: bool = False


@dataclass
class UtteranceEndFrame(DataFrame):
    """The utterance is complete. Seen behind the output, it has left the line."""

    ends_call: bool = False
