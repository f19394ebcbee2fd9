"""The wish to be called back: whether it was said, what time is meant, and how that is said back."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from bots.crisis import fold
from bots.when import read_when, say_when
from infra.zones import UnknownZone

_WISH = re.compile(r"\b(call|phone|ring) (me|us|back|again)\b|\bgive (me|us) (a|another) (call|ring)\b")
_OF_OTHERS = re.compile(
    r"\b(he|she|they|who|people|everybody|everyone|boss|mother|mom|father|dad|friends?|doctor|did not|didn't|do not"
    r"|don't)"
    r" (will |would |used to |always |never |ever )?(call|phone|ring|give)"
)


@dataclass(frozen=True, slots=True)
class Callback:
    """A time to be called at, on the caller's clock, and as it is said."""

    local: dt.datetime
    spoken: str


def asked_back(heard: str, now: dt.datetime, zone: str) -> Callback | None:
    """When somebody asks to be called back; None when they do not, or name no time that can be understood."""
    text = fold(heard)
    if not _WISH.search(text) or _OF_OTHERS.search(text):
        return None
    try:
        when = read_when(heard, now, zone)
        return None if when is None else Callback(when.local, say_when(when, now, zone))
    except UnknownZone:
        return None
