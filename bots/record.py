"""The record of a conversation: its turns in order, and the journal they are written to before life goes on.

One `Record` belongs to one call and is shared by the processors of its pipeline. It is the only thing that knows
turn numbers. The journal is a port: the call's actor implements it over the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Who = Literal["caller", "bot"]
Flow = dict[str, Any]


@dataclass(slots=True)
class Turn:
    """One turn: what was said, and for the bot how much of it was really spoken."""

    number: int
    who: Who
    text: str
    spoken: str = ""
    done: bool = False
    timings: dict[str, Any] = field(default_factory=dict)  # figures, and what was recalled for a model
    before: Flow | None = None  # the flow state that the bot's turn left behind

    @property
    def rest(self) -> str:
        """What of the bot's text has not left the line yet."""
        return unspoken(self.text, self.spoken)


class Journal(Protocol):
    """Where turns are kept beyond the life of this process.

    Every method returns once its entry is durable, or after the journal's patience when the database is away
    (the entry then follows later, in order). A holder that was superseded is told by cancellation, not here.
    """

    async def heard(self, turn: Turn, flow: Flow) -> None: ...

    async def replying(self, turn: Turn, flow: Flow) -> None: ...

    async def spoke(self, turn: Turn) -> None: ...

    async def consent(self, granted: bool) -> None: ...


class Record:
    """The turns so far and the flow state after the last one."""

    def __init__(self, journal: Journal, turns: Sequence[Turn] = (), flow: Flow | None = None) -> None:
        self.turns = list(turns)
        self.flow: Flow = dict(flow or {})
        self._journal = journal

    @property
    def last(self) -> Turn | None:
        return self.turns[-1] if self.turns else None

    @property
    def speaking(self) -> Turn | None:
        """The bot's turn that is not finished, if there is one."""
        last = self.last
        return last if last and last.who == "bot" and not last.done else None

    @property
    def missed(self) -> tuple[str, Flow] | None:
        """What the caller had said before the newest words, and the flow then, if our answer was never heard."""
        if len(self.turns) < 3:
            return None
        earlier, answer, newest = self.turns[-3:]
        if (earlier.who, answer.who, newest.who) != ("caller", "bot", "caller") or answer.spoken:
            return None
        return None if answer.before is None else (earlier.text, answer.before)

    async def heard(self, text: str, timings: dict[str, float]) -> Turn:
        """Write down what the caller said; returns when it is journalled."""
        await self._interrupted()
        turn = self._append("caller", text, timings)
        turn.done = True
        await self._journal.heard(turn, self.flow)
        return turn

    async def replying(self, text: str, flow: Flow) -> Turn:
        """Write down what the bot decided to say and the flow state after it; returns when it is journalled."""
        await self._interrupted()
        turn = self._append("bot", text, {})
        turn.before, self.flow = self.flow, dict(flow)
        await self._journal.replying(turn, self.flow)
        return turn

    async def extend(self, text: str) -> None:
        """A streamed reply has grown by `text`; opens the bot's turn if there is none."""
        turn = self.speaking
        if turn is None:
            await self.replying(text, self.flow)
        else:
            turn.text = join(turn.text, text)

    async def spoke(self, text: str) -> None:
        """`text` has left the line."""
        turn = self.speaking
        if turn is not None:
            turn.spoken = join(turn.spoken, text)
            await self._journal.spoke(turn)

    async def finished(self) -> Turn | None:
        """The bot's turn is over: said in full, or broken off."""
        turn = self.speaking
        if turn is not None:
            turn.done = True
            await self._journal.spoke(turn)
        return turn

    async def _interrupted(self) -> None:
        """Another turn begins: whatever the bot was saying is over."""
        await self.finished()

    async def consent(self, granted: bool) -> None:
        await self._journal.consent(granted)

    def _append(self, who: Who, text: str, timings: dict[str, float]) -> Turn:
        turn = Turn(len(self.turns) + 1, who, text, timings=timings)
        self.turns.append(turn)
        return turn


def join(left: str, right: str) -> str:
    """Two pieces of speech as one text, with a single space between."""
    return f"{left.rstrip()} {right.lstrip()}".strip()


def unspoken(text: str, spoken: str) -> str:
    """The clauses of `text` that begin at or after the first word `spoken` does not cover.

    A clause of which only a part was heard is said again whole: half a clause makes no sense by itself.
    """
    heard = len(spoken.split())
    rest: list[str] = []
    passed = 0
    for clause in clauses(text):
        passed += len(clause.split())
        if passed > heard:
            rest.append(clause)
    return " ".join(rest)


def clauses(text: str) -> list[str]:
    """`text` cut behind sentence marks and commas, marks kept: the units in which speech begins and resumes."""
    found: list[str] = []
    start = 0
    for position, mark in enumerate(text):
        ends = mark in ".!?;:," and (position + 1 == len(text) or text[position + 1].isspace())
        if ends and text[start : position + 1].strip():
            found.append(text[start : position + 1].strip())
            start = position + 1
    if text[start:].strip():
        found.append(text[start:].strip())
    return found
