"""The person on the line: works through a persona's steps, listens, and keeps the place when the line drops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from . import codec
from .hearing import words
from .line import Line, LineClosed, LineLost
from .persona import ASKS_AGAIN, Persona, Step
from .speech import Speech

_REPEATS = 3  # how often in a row a caller says the same again before going on


@dataclass(frozen=True, slots=True)
class Hands:
    """What a caller can do besides speaking."""

    press: Callable[[str], None]
    hang_up: Callable[[], None]


class Person:
    """Lives one call. `prepare` before the telephone is picked up, `live` once it is."""

    def __init__(self, persona: Persona, line: Line, speech: Speech, hands: Hands) -> None:
        self._persona = persona
        self._line = line
        self._speech = speech
        self._hands = hands
        # Someone whose script is over stays on the line and listens.
        stay = persona.manner.repeat and persona.steps
        self._steps = persona.steps if stay else (*persona.steps, Step("wait", True))
        self._drops = 0
        self._noise = persona.manner.noise_dbfs
        self._last = ""  # the line said last, complete or not
        self._begun = False  # whether the present step's line has begun to sound
        self._consumed = 0.0  # up to when the bot's sound has been taken in
        self._turns: Counter[int] = Counter()  # how often each goto was taken

    async def prepare(self) -> None:
        """Have every line spoken beforehand, so that none is late."""
        for text in self._persona.lines:
            await self._speech.say(text, self._persona.voice, self._noise)
        if self._persona.manner.understands:
            await self._speech.warm()

    async def live(self) -> None:
        """Do the steps, then stay on the line until the call ends."""
        repeat = self._persona.manner.repeat
        at = 0
        self._line.listening = self._persona.manner.understands
        try:
            while True:
                if at >= len(self._steps):
                    at = 0 if repeat else len(self._steps) - 1
                self._begun = False
                try:
                    at = await self._step(at)
                except LineLost:
                    at = await self._recover(at)
        except LineClosed:
            return

    async def _step(self, at: int) -> int:
        step = self._steps[at]
        match step.verb:
            case "wait":
                await self._hear_out()
            case "expect":
                return self._branch(at, await self._hear_out(understand=True))
            case "say":
                await self._pause(self._persona.manner.reply_after_ms)
                while self._line.bot_heard_at > self._consumed:  # the bot had not finished after all
                    await self._hear_out()
                    await self._pause(self._persona.manner.reply_after_ms)
                await self._say(str(step.value))
            case "interrupt":
                await self._interrupt(step)
            case "pause":
                await self._pause(float(step.value))
            case "dtmf":
                self._line.measures.note("dtmf", str(step.value))
                self._hands.press(str(step.value))
            case "noise":
                await self._set_noise(None if step.value is False else float(step.value))
            case "goto":
                self._turns[at] += 1
                if step.times is None or self._turns[at] <= step.times:
                    return self._label(str(step.value))
            case "hang_up":
                self._line.measures.note("hang_up")
                self._hands.hang_up()
                await self._line.until(lambda: False)
        return at + 1

    def _label(self, label: str) -> int:
        return next(at for at, step in enumerate(self._steps) if step.label == label)

    def _branch(self, at: int, heard: str) -> int:
        step = self._steps[at]
        wanted = any(words(phrase) in heard for phrase in step.value)
        self._line.measures.note("expected" if wanted else "unexpected", heard)
        target = step.then if wanted else step.otherwise
        return self._label(target) if target else at + 1

    async def _recover(self, at: int) -> int:
        """The line dropped in step `at`: wait for the bot, say the last line again if asked; the step to go on with.

        What was being said, or had been said without a complete answer, is not said again unless the bot asks.
        """
        step = self._steps[at]
        speaking = step.verb in ("say", "interrupt")
        owed = self._begun or not speaking
        self._line.measures.note("line_lost", step.verb)
        while True:
            self._drops = self._line.drops
            self._consumed = max(self._consumed, self._line.now)
            try:
                heard = await self._hear_out(understand=True, repeat=owed)
                break
            except LineLost:
                continue
        if speaking and not self._begun:
            return at
        if step.verb == "expect":
            return self._branch(at, heard)
        if step.verb == "wait":
            return at + 1
        answered = at + 1 < len(self._steps) and self._steps[at + 1].verb in ("wait", "expect")
        if speaking and answered:  # the bot's words after the drop were the answer waited for
            return self._branch(at + 1, heard) if self._steps[at + 1].verb == "expect" else at + 2
        return at + 1

    async def _hear_out(self, understand: bool = False, repeat: bool = True) -> str:
        """Listen until the bot has said something that wants nothing but the next step."""
        repeats = 0
        while True:
            heard = await self._utterance(understand or self._persona.manner.understands)
            if repeat and self._last and repeats < _REPEATS and _contains(heard, ASKS_AGAIN):
                repeats += 1
                again = self._last
            else:
                again = next((reply.say for reply in self._persona.replies if _contains(heard, reply.when)), "")
                repeats = repeats + 1 if again and again == self._last else 0
                if not again or repeats >= _REPEATS:
                    return heard
            await self._pause(self._persona.manner.reply_after_ms)
            await self._say(again)

    async def _utterance(self, understand: bool) -> str:
        """Wait for the bot to speak and to finish; what was understood of it."""
        line, manner = self._line, self._persona.manner
        line.listening = line.listening or understand
        if not await self._until(lambda: line.bot_heard_at > self._consumed, manner.patience_ms / 1000):
            line.measures.note("no_answer")
            return ""
        done_s = manner.bot_done_ms / 1000
        await self._until(lambda: line.now - line.bot_heard_at >= done_s)
        self._consumed = line.bot_heard_at
        audio = line.take_utterance()
        if not understand:
            return ""
        heard = await self._speech.understand(audio, self._persona.grammar)
        line.listening = manner.understands
        line.measures.note("understood" if heard else "not_understood", heard)
        self._check()
        return heard

    async def _say(self, text: str) -> None:
        clip = await self._speech.say(text, self._persona.voice, self._noise)
        self._check()
        self._last, self._begun = text, True
        await self._line.speak(clip)
        self._consumed = self._line.bot_heard_at
        self._line.take_utterance()

    async def _interrupt(self, step: Step) -> None:
        line = self._line
        after_s = step.after_ms / 1000
        spoken = await self._until(
            lambda: line.bot_speaking and line.bot_heard_at > self._consumed, self._persona.manner.patience_ms / 1000
        )
        if spoken:
            await self._until(lambda: not line.bot_speaking or line.now - line.bot_started_at >= after_s)
        await self._say(str(step.value))

    async def _pause(self, ms: float) -> None:
        if ms > 0:
            await self._until(lambda: False, ms / 1000)

    async def _until(self, true: Callable[[], bool], timeout: float | None = None) -> bool:
        self._check()
        return await self._line.until(true, timeout)

    def _check(self) -> None:
        if self._line.drops != self._drops:
            raise LineLost

    async def _set_noise(self, dbfs: float | None) -> None:
        self._noise = dbfs
        self._line.background(noise_clip(dbfs))


def noise_clip(dbfs: float | None) -> codec.Clip | None:
    """Two seconds of background noise to be repeated, if there is any."""
    return None if dbfs is None else codec.clip("", codec.noise(2.0, dbfs))


def _contains(heard: str, phrases: tuple[str, ...]) -> bool:
    return any(words(phrase) in heard for phrase in phrases)
