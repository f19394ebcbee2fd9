"""The scripted brain: a persona's flow run as a pure state machine.

It listens for the phrases that the persona expects, answers with the lines that the persona holds, and knows
nothing else. There is no language model in it, and it never lets anybody believe so: logs and pages show
`describe()`.

It does no input or output and reads no clock. Everything it remembers is in `flow`, a small dictionary of
JSON values that is journalled with every turn; a brain built from that dictionary goes on exactly as this one
would have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import structlog

from bots.models.clauses import split
from bots.personas.persona import Answer, Command, Persona, State, choose, normal

log = structlog.get_logger()

_FILLERS = frozenset(["a", "ah", "and", "er", "hm", "hmm", "oh", "please", "so", "um", "uh", "well", "yeah"])
_DENIALS = frozenset(["not", "never", "no", "don't", "isn't", "wasn't", "doesn't", "won't", "wouldn't"])
_COMMAND_SLACK_WORDS = 3  # "I said goodbye to my mother at the airport" does not hang up


class Turn(Protocol):
    """What the journal keeps of one turn, as far as resuming needs it."""

    @property
    def who(self) -> str:
        """`"caller"` or `"bot"`."""

    @property
    def text(self) -> str:
        """What was understood, or what was to be said."""

    @property
    def spoken(self) -> str:
        """How much of a bot's text was heard by the caller."""

    @property
    def done(self) -> bool:
        """Whether the turn is over."""


class Reply(msgspec.Struct, frozen=True):
    """What to do next.

    Say `clauses` in order, unless empty. `action` is what the caller decided, such as `{"record_consent":
    True}`. `end`: hang up once the clauses are out. `hand_over`: after the clauses, a language model answers
    what was heard. `understood` is false when the words fitted nothing. `flow` is the brain's memory after
    this reply.
    """

    clauses: tuple[str, ...]
    flow: dict[str, Any]
    action: dict[str, bool | str] = {}
    end: bool = False
    hand_over: bool = False
    understood: bool = True

    @property
    def text(self) -> str:
        """The clauses as one text."""
        return " ".join(self.clauses)


class _Memory(msgspec.Struct):
    state: str
    last: tuple[str, ...] = ()
    misheard: int = 0
    silences: int = 0
    round: int = 0
    ended: bool = False


class ScriptedBrain:
    """One caller's place in a persona's conversation. Not a language model.

    For a persona with a model state it speaks the opening, asks for consent and keeps the commands
    ("goodbye", "stop calling me", "are you a machine"), and hands everything else over. Options the persona
    does not declare are ignored.

    Raises:
        PersonaError: an option has the wrong type.
    """

    def __init__(
        self,
        persona: Persona,
        options: Mapping[str, Any] | None = None,
        flow: Mapping[str, Any] | None = None,
    ) -> None:
        self.persona = persona
        self._options = choose(persona, options)
        self._memory = self._recall(flow)

    @property
    def flow(self) -> dict[str, Any]:
        """The brain's memory as JSON values; the constructor and `resume` take it back."""
        memory: dict[str, Any] = msgspec.to_builtins(self._memory)
        return memory

    @property
    def hands_over(self) -> bool:
        """Whether a language model answers what is said now."""
        return self._state.model and not self._memory.ended

    def describe(self) -> str:
        """What this brain is, for logs, pages and the start table."""
        states = self.persona.flow.states.values()
        phrases = {phrase for state in states for answer in state.expects for phrase in answer.phrases}
        return f"scripted ({self.persona.name}: {len(states)} states, {len(phrases)} phrases; no language model)"

    def expects(self) -> list[str]:
        """Every phrase that is understood now, commands included: the grammar of an offline recogniser."""
        answers: tuple[Answer | Command, ...] = (*self._state.expects, *self.persona.commands)
        return [phrase for answer in answers for phrase in answer.phrases]

    def restore(self, flow: Mapping[str, Any]) -> None:
        """Go back to where the script stood: what was said since then, nobody heard."""
        self._memory = self._recall(flow)

    def settles(self, heard: str) -> bool:
        """Whether `heard` is a whole phrase that is expected now, and not the beginning of a longer one.

        Such words need no model to tell that the caller has finished.
        """
        words, expected = normal(heard), self.expects()
        return words in expected and not any(phrase.startswith(f"{words} ") for phrase in expected)

    def opening(self) -> Reply:
        """The first words of a call: the disclosure, then the first state's lines."""
        self._memory = _Memory(state=self.persona.flow.start)
        lines = self._enter(self.persona.flow.start)
        return self._say((self._fill(self.persona.disclosure), *lines))

    def reply(self, heard: str | None) -> Reply:
        """Answer what was heard; None means that somebody spoke and was not understood."""
        if self._memory.ended:
            return self._decided((), end=True)
        self._memory.silences = 0
        words = normal(heard or "")
        match = self._match(words) if words else None
        if isinstance(match, Command):
            return self._obey(match)
        if self._state.model:
            return self._decided((), hand_over=True) if words else self._not_understood()
        return self._follow(match) if match is not None else self._not_understood()

    def idle(self) -> Reply:
        """Nobody has spoken for a while: ask whether somebody is there, in the end say goodbye."""
        flow = self.persona.flow
        self._memory.silences += 1
        if self._memory.silences > flow.patience:
            return self._end(flow.farewell)
        return self._decided(self._render(self._state.idle or flow.idle))

    def apology(self) -> Reply:
        """A stage failed: say so, and ask for the last words again. The place in the conversation stays."""
        flow = self.persona.flow
        return self._decided(self._render((*flow.apology, *flow.again)))

    def farewell(self, *, time_up: bool = False) -> Reply:
        """The call is ended from outside: a polite goodbye."""
        flow = self.persona.flow
        return self._end((*flow.time_up, *flow.farewell) if time_up else flow.farewell)

    def leave(self) -> Reply:
        """The caller wants no more calls: what the command for it says, whichever persona this is."""
        for command in self.persona.commands:
            if command.does == "end" and command.action.get("stop_calling"):
                return self._obey(command)
        return self._end(self.persona.flow.farewell, {"stop_calling": True})

    def parting(self, heard: str) -> Reply | None:
        """Answer a wish to end the call, and nothing else; None when these words are none."""
        words = normal(heard)
        for command in self.persona.commands:
            if words and command.does == "end" and _score(words, command) is not None:
                return self._obey(command)
        return None

    def resume(self, flow: Mapping[str, Any] | None, turns: Sequence[Turn]) -> Reply:
        """Go on after the line dropped: `flow` and `turns` are what the journal holds.

        A line cut off is taken up at the clause that was cut; words that were heard but not yet answered are
        answered; a caller cut off is asked to say it again. A call that had said its last word just ends.
        """
        self._memory = self._recall(flow)
        last = turns[-1] if turns else None
        if last is None or not flow:
            return self.opening()
        bridge = self._render(self.persona.flow.bridge)
        if last.who == "caller":
            answer = self.reply(last.text)
            return msgspec.structs.replace(answer, clauses=(*bridge, *answer.clauses))
        unsaid = () if last.done else _unsaid(last.text, last.spoken, " ".join(bridge))
        if not last.spoken and last.text.startswith(self._fill(self.persona.disclosure)):
            return self._decided(unsaid)
        if unsaid:
            return self._decided((*bridge, *unsaid), end=self._memory.ended)
        if self._memory.ended:
            return self._decided((), end=True)
        return self._decided((*bridge, *self._render(self.persona.flow.again)))

    # -- the machine

    @property
    def _state(self) -> State:
        return self.persona.flow.states[self._memory.state]

    def _recall(self, flow: Mapping[str, Any] | None) -> _Memory:
        if not flow:
            return _Memory(state=self.persona.flow.start)
        memory = msgspec.convert(dict(flow), _Memory)
        if memory.state not in self.persona.flow.states:
            log.warning("flow_of_another_persona", persona=self.persona.name, state=memory.state)
            return _Memory(state=self.persona.flow.start)
        return memory

    def _enter(self, name: str) -> tuple[str, ...]:
        state = self.persona.flow.states[name]
        if state.rounds:
            if self._memory.round >= int(self._options[state.rounds]):
                name, state = state.after, self.persona.flow.states[state.after]
            else:
                self._memory.round += 1
        self._memory.state, self._memory.misheard = name, 0
        self._memory.ended = state.end
        return self._render(state.say)

    def _follow(self, answer: Answer) -> Reply:
        said = self._render(answer.say)
        return self._say((*said, *self._enter(answer.goto)), action=answer.action)

    def _obey(self, command: Command) -> Reply:
        if command.does == "end":
            return self._end(command.say, command.action)
        if command.does == "answer":
            question = () if self._state.model else self._render(self._state.say)
            return self._say((*self._render(command.say), *question), action=command.action)
        if self._state.model:
            return self._decided((), hand_over=True)
        return self._decided(self._memory.last)

    def _not_understood(self) -> Reply:
        state, flow = self._state, self.persona.flow
        self._memory.misheard += 1
        if self._memory.misheard > flow.patience and state.otherwise is not None:
            return msgspec.structs.replace(self._follow(state.otherwise), understood=False)
        question = () if state.model else state.say
        lines = state.retry or (*flow.retry, *question)
        return self._decided(self._render(lines), understood=False)

    def _end(self, lines: tuple[str, ...], action: Mapping[str, bool | str] | None = None) -> Reply:
        self._memory.ended = True
        return self._say(self._render(lines), action=action or {})

    def _say(self, clauses: tuple[str, ...], action: Mapping[str, bool | str] | None = None) -> Reply:
        self._memory.last = clauses
        return self._decided(clauses, action=action, end=self._memory.ended)

    def _decided(
        self,
        clauses: tuple[str, ...],
        *,
        action: Mapping[str, bool | str] | None = None,
        end: bool = False,
        hand_over: bool = False,
        understood: bool = True,
    ) -> Reply:
        return Reply(clauses, self.flow, dict(action or {}), end, hand_over, understood)

    def _render(self, lines: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(self._fill(line) for line in lines)

    def _fill(self, line: str) -> str:
        if "{" in line:
            for name, value in (*self._options.items(), ("round", self._memory.round)):
                line = line.replace(f"{{{name}}}", str(value))
        return line

    # -- understanding

    def _match(self, heard: str) -> Answer | Command | None:
        best: dict[tuple[int, int], list[Answer | Command]] = {}
        answers: tuple[Answer | Command, ...] = (*self._state.expects, *self.persona.commands)
        for answer in answers:
            if (score := _score(heard, answer)) is not None:
                best.setdefault(score, []).append(answer)
        if best:
            fits = best[max(best)]
            return fits[0] if len(fits) == 1 else None
        return next((answer for answer in self._state.expects if answer.anything), None)


def _score(heard: str, answer: Answer | Command) -> tuple[int, int] | None:
    """How well `heard` means `answer`: whole phrase, then nothing but phrases, then a phrase among others.

    Consent to recording is never found among other words: "yes but rather not" must not be taken for a yes.
    """
    if heard in answer.phrases:
        return 3, len(heard.split())
    left = f" {heard} "
    for phrase in sorted(answer.phrases, key=len, reverse=True):
        left = left.replace(f" {phrase} ", "  ")
    if left.strip() != heard and not set(left.split()) - _FILLERS:
        return 2, len(heard.split())
    if answer.action.get("record_consent") is True:
        return None
    found = [len(phrase.split()) for phrase in answer.phrases if _among(heard, phrase)]
    if isinstance(answer, Command) and found and len(heard.split()) > max(found) + _COMMAND_SLACK_WORDS:
        return None
    return (1, max(found)) if found else None


def _among(heard: str, phrase: str) -> bool:
    before, hit, _ = f" {heard} ".partition(f" {phrase} ")
    return bool(hit) and not _DENIALS & set(before.split()[-2:])


def _unsaid(text: str, spoken: str, bridge: str) -> tuple[str, ...]:
    if text.startswith(bridge):
        text, spoken = text[len(bridge) :], spoken[len(bridge) :]
    heard = len(spoken.split())
    rest: list[str] = []
    for clause in split(text):
        heard -= len(clause.split())
        if heard < 0 or rest:
            rest.append(clause)
    return tuple(rest)
