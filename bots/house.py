"""The house: what holds on every call, whoever the persona is.

It hears the caller before the persona does. Somebody in danger, somebody who wants no more calls and somebody who asks
what is speaking are answered by it, never by a script or a language model; so is the wish to be called back, which is
proposed, confirmed aloud and booked. What it must remember is in `memory`, which is journalled with the flow.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from bots.callbacks import Callback, asked_back
from bots.crisis import GRAMMAR, Detector, Phrases, fold
from bots.house_lines import lines_of
from bots.personas.guard import denies
from bots.scripted import Reply, ScriptedBrain
from bots.wishes import asks_what_we_are, stops
from infra.compliance.helplines import Helpline, helpline_for

log = structlog.get_logger()
FLOW_KEY = "house"
YES = frozenset(("yes", "yeah", "yep", "sure", "okay", "ok", "please", "evet", "tamam", "olur", "네", "예", "좋아요"))
NO = frozenset(("no", "nope", "not", "don't", "never", "hayir", "istemem", "아니요", "아니", "괜찮아요"))
MOST_WORDS = 6  # of a yes or a no


Understands = Callable[[str, dt.datetime, str], Callback | None]
"""What time is meant, by the words, the moment and the zone, when somebody asks to be called back."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What of a call the house needs to know.

    Args:
        country: of the caller's number, for the helpline.
        zone: the caller's time zone; None where no callback can be booked.
    """

    country: str = ""
    zone: str | None = None


class Memory(msgspec.Struct, omit_defaults=True):
    """What must outlive this process."""

    crisis: bool = False
    supports: int = 0
    local: str = ""  # of a proposed callback, ISO
    spoken: str = ""


class House:
    """The rules of one call.

    Args:
        brain: the persona's script, which obeys the commands that every persona has.
        facts: of this call.
        detector: hears danger.
        understands: reads the time of a wish to be called back.
    """

    def __init__(
        self,
        brain: ScriptedBrain,
        facts: Facts | None = None,
        detector: Detector | None = None,
        understands: Understands = asked_back,
    ) -> None:
        self._brain, self._facts = brain, facts or Facts()
        self._understands = understands
        self._detector: Detector = detector or Phrases()
        self._lines = lines_of(brain.persona.language)
        self._memory = Memory()

    def restore(self, flow: Mapping[str, Any]) -> None:
        """Stand where the flow of the record stands."""
        self._memory = msgspec.convert(flow.get(FLOW_KEY, {}), Memory)

    def remember(self, flow: Mapping[str, Any]) -> dict[str, Any]:
        """The flow with what the house must remember."""
        memory = msgspec.to_builtins(self._memory)
        return {**flow, FLOW_KEY: memory} if memory else dict(flow)

    def expects(self) -> list[str]:
        """What a recogniser that knows only whole phrases must know beyond the persona's."""
        return list(GRAMMAR) if self._lines is lines_of("en") else []

    @property
    def in_crisis(self) -> bool:
        """Whether the persona has been left."""
        return self._memory.crisis

    def answer(self, heard: str) -> Reply | None:
        """The house's answer; None: the persona's turn. An action `book` is to be carried out, then `booked` said."""
        try:
            alarmed = self._detector.hears(heard)
        except Exception as error:  # its message could hold what was said
            log.error("crisis_detector_failed", error=type(error).__name__)
            return self._say(self._lines.careful)
        if alarmed:
            return self._help()
        if stops(heard):
            return self.stop()
        if asks_what_we_are(heard):
            return self._tell_truth()
        if self._memory.crisis:
            return self._brain.parting(heard) or self._support()
        return self._callback(heard)

    def truthful(self, clause: str) -> str:
        """A model's words, or the truth in place of words by which it would pass for a human being."""
        if not denies(clause):
            return clause
        log.warning("model_denied_being_an_ai", persona=self._brain.persona.name)
        return self._lines.truth[0]

    def misheard(self) -> Reply | None:
        """Somebody spoke and was not understood. After a crisis the persona's questions are not asked again."""
        return self._support() if self._memory.crisis else None

    def stop(self) -> Reply:
        """The caller wants no more calls: a polite goodbye, and `stop_calling` for whoever keeps the list."""
        reply = self._brain.leave()
        if self._lines is not lines_of("en"):
            return msgspec.structs.replace(reply, clauses=self._lines.stopped)
        return reply

    def nearly_over(self) -> tuple[str, ...]:
        """Half a minute is left."""
        return self._lines.nearly

    def last_words(self) -> tuple[str, ...]:
        """What must be said before a call is ended from outside: nobody in danger is left without a number."""
        return self._fill(("{helpline}",)) if self._memory.crisis else ()

    def moment(self, words: str) -> dt.datetime | None:
        """The time of a callback that a script offered and the caller took: `saturday morning`."""
        promise = self._meant(f"call me {words}")
        if promise is None:
            return None
        self._memory.spoken = promise.spoken
        return promise.local

    def booked(self, done: bool) -> tuple[str, ...]:
        """What is said once a callback was booked, or could not be."""
        lines = self._lines.promised if done else self._lines.unpromised
        said = tuple(line.format(when=self._memory.spoken) for line in lines)
        self._memory.local = self._memory.spoken = ""
        return said

    def _help(self) -> Reply:
        first, self._memory.crisis = not self._memory.crisis, True
        self._memory.local = self._memory.spoken = ""
        return self._say(self._fill(self._lines.crisis), {"crisis": True} if first else {})

    def _support(self) -> Reply:
        lines = self._lines.support[self._memory.supports % len(self._lines.support)]
        self._memory.supports += 1
        return self._say(self._fill(lines))

    def _tell_truth(self) -> Reply:
        if self._lines is lines_of("en") and not self._memory.crisis:
            return self._brain.reply("are you a machine")  # with the question that was open
        return self._say(self._lines.truth)

    def _callback(self, heard: str) -> Reply | None:
        if self._memory.local and (decided := decision(heard)) is not None:
            if decided:
                return self._say((), {"book": self._memory.local})
            self._memory.local = self._memory.spoken = ""
            return self._say(self._lines.dropped)
        promise = self._meant(heard)
        if promise is None:
            self._memory.local = self._memory.spoken = ""
            return None
        self._memory.local, self._memory.spoken = promise.local.isoformat(), promise.spoken
        return self._say(tuple(line.format(when=promise.spoken) for line in self._lines.promise))

    def _meant(self, heard: str) -> Callback | None:
        zone = self._facts.zone
        return None if zone is None else self._understands(heard, dt.datetime.now(dt.UTC), zone)

    def _say(self, clauses: tuple[str, ...], action: dict[str, bool | str] | None = None) -> Reply:
        return Reply(clauses, self._brain.flow, action or {})

    def _fill(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        found: Helpline = helpline_for(self._facts.country)
        line = self._lines.line.format(name=found.name, number=found.number, say=found.say)
        emergency = " ".join(found.emergency)  # digit by digit: a voice would read a number
        return tuple(text.format(helpline=line, emergency=emergency) for text in lines)


def decision(heard: str) -> bool | None:
    """Whether a short answer is a yes or a no; None when it is neither, or both."""
    words = fold(heard).split()
    if len(words) > MOST_WORDS:
        return None
    yes, no = bool(YES & set(words)), bool(NO & set(words))
    return None if yes == no else yes
