"""The meter of a conversation: how long it may last, when that is said, and when the goodbye begins."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meter:
    """What is left of a conversation's time, in seconds from now.

    Args:
        left: until the line is closed, whatever is being said.
        warning: before that, a sentence says so; None for no such sentence.
        goodbye: before that, the goodbye begins, so that its last word is heard in time.
    """

    left: float
    warning: float | None = None
    goodbye: float = 0.0

    @classmethod
    def paid(cls, max_minutes: int, answered_at: dt.datetime | None, now: dt.datetime, warning: float = 30.0) -> Meter:
        """The meter of a paid call: it runs from the answer on, whichever process holds the call by now."""
        spent = (now - answered_at).total_seconds() if answered_at is not None else 0.0
        return cls(max(0.0, max_minutes * 60 - spent), warning, goodbye=8.0)

    @property
    def warns_in(self) -> float | None:
        """Seconds until the warning; None when it is not given, or its moment has passed."""
        wait = None if self.warning is None else self.left - self.warning
        return wait if wait is not None and wait >= 0 else None

    @property
    def parts_in(self) -> float:
        """Seconds until the goodbye."""
        return max(0.0, self.left - self.goodbye)
