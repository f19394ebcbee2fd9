"""Cuts a reply into clauses while it is still being written, so that speech starts on the first.

The first clause may be short, since somebody is waiting for a sound. Later ones are longer, since speech that
is synthesised in scraps loses its melody. A mark such as a comma ends a clause only when white space follows,
so
"3.5", "10:30" and "1,000" stay whole.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing

from bots.models.port import Done, Model, Request, Text

FIRST_WORDS = 3  # a comma may end the first clause from here on
LATER_WORDS = 8  # and any later clause from here on
FIRST_LIMIT = 12  # a first clause without any mark is cut here
LATER_LIMIT = 30

_BOUNDARY = re.compile(r"""([,;:.!?…—])["'”’)\]]*\s+""")
_ABBREVIATION = re.compile(r"\b(?:mr|mrs|ms|dr|st|prof|vs|no|e\.g|i\.e|[a-z])\.$", re.IGNORECASE)
_STRONG = ".!?…"


class ClauseSplitter:
    """Splits one reply: feed it text as it arrives, take complete clauses back, `flush` the rest."""

    def __init__(self) -> None:
        self._held = ""
        self._first = True

    def feed(self, text: str) -> list[str]:
        """Take `text` in; return the clauses that it completed, stripped of outer white space."""
        self._held += text
        done: list[str] = []
        while (cut := self._cut()) is not None:
            clause, self._held = self._held[:cut].strip(), self._held[cut:]
            if clause:
                done.append(clause)
                self._first = False
        return done

    def flush(self) -> list[str]:
        """The reply is over: return what is left (no clause or one) and be ready for another reply."""
        rest, self._held, self._first = self._held.strip(), "", True
        return [rest] if rest else []

    def _cut(self) -> int | None:
        least, most = (FIRST_WORDS, FIRST_LIMIT) if self._first else (LATER_WORDS, LATER_LIMIT)
        for mark in _BOUNDARY.finditer(self._held):
            before = self._held[: mark.start(1) + 1]
            words = len(before.split())
            if words > most:
                break
            strong = mark[1] in _STRONG and not _ABBREVIATION.search(before)
            if strong or (mark[1] not in _STRONG and words >= least):
                return mark.end()
        words_seen = list(re.finditer(r"\S+\s+", self._held))
        return words_seen[most - 1].end() if len(words_seen) >= most else None


def split(text: str) -> tuple[str, ...]:
    """The clauses of a complete text; joined by single spaces they are the text again, white space aside."""
    splitter = ClauseSplitter()
    return (*splitter.feed(text), *splitter.flush())


async def speak(model: Model, request: Request) -> AsyncGenerator[str | Done, None]:
    """A model's reply clause by clause, each as soon as it is complete, then its `Done`.

    Closing the generator stops the model at once.

    Raises:
        ModelError: as `Model.stream` does.
    """
    splitter = ClauseSplitter()
    async with aclosing(model.stream(request)) as deltas:
        async for delta in deltas:
            if isinstance(delta, Text):
                for clause in splitter.feed(delta.text):
                    yield clause
            elif isinstance(delta, Done):
                for clause in splitter.flush():
                    yield clause
                yield delta
