"""A stand-in for a language model: answers at once, in this process, with numbered lines.

It serves load tests and trials without a key. It says what it is: production refuses it, tables and logs
show it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from bots.models.port import Delta, Done, Request, Text, Usage


class DoubleModel:
    """Answers turn N with line N, so that a lost or repeated turn shows."""

    name = "double"

    def describe(self) -> str:
        return "stand-in (in-process double; no language model)"

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        turns = [message.content for message in request.messages if message.role == "user"]
        words = f"This is reply number {len(turns)}. I heard {len(''.join(turns[-1:]).split())} words.".split(" ")
        for index, word in enumerate(words):
            yield Text(word if index == 0 else f" {word}")
        yield Done("stop", Usage(sum(len(turn.split()) for turn in turns), len(words)))

    async def aclose(self) -> None:
        return None
