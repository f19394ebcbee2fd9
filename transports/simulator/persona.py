"""Who is on the line: personas in TOML, checked when they are read. docs/simulator.md describes the format."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .voice import VoiceStyle

FOLDER = Path(__file__).with_name("personas")
OUTCOMES = ("answer", "busy", "no-answer", "failed")
ANSWERED_BY = ("human", "machine_start", "machine_end_beep", "fax", "unknown")

# What a bot says when it wants the caller's last words once more.
ASKS_AGAIN = (
    "could you say that again",
    "could you repeat that",
    "please say that again",
    "sorry i did not catch that",
    "are you still there",
)
# What else it may say around it.
_AROUND = ("sorry the line dropped for a moment",)

_STEPS = {
    "wait": {"label"},
    "say": {"label"},
    "pause": {"label"},
    "interrupt": {"label", "after"},
    "dtmf": {"label"},
    "noise": {"label"},
    "expect": {"label", "then", "otherwise"},
    "goto": {"label", "times"},
    "hang_up": {"label"},
}


class PersonaError(Exception):
    """The persona cannot be used; the message names the file and what to change in it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing a caller does; `value` is what the TOML says beside the verb."""

    verb: str
    value: Any
    label: str = ""
    after_ms: float = 0.0
    then: str = ""
    otherwise: str = ""
    times: int | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What a responsive caller answers, out of turn, to a bot that said any of these words."""

    when: tuple[str, ...]
    say: str


@dataclass(frozen=True, slots=True)
class Pickup:
    """What happens when this person's telephone rings."""

    outcome: str = "answer"
    after_ms: float = 300.0
    answered_by: str = "human"


@dataclass(frozen=True, slots=True)
class Manner:
    """How somebody listens and answers."""

    reply_after_ms: float = 350.0  # between the end of the bot's utterance and the answer
    bot_done_ms: float = 600.0  # how long the bot must be silent to have finished
    patience_ms: float = 20_000.0  # how long to wait for the bot before going on without it
    understands: bool = False  # listen for words at every utterance, not only after a dropped line
    repeat: bool = False  # begin the steps again after the last one
    noise_dbfs: float | None = None


@dataclass(frozen=True, slots=True)
class Persona:
    """A caller."""

    name: str
    title: str = ""
    voice: VoiceStyle = field(default_factory=VoiceStyle)
    manner: Manner = field(default_factory=Manner)
    pickup: Pickup = field(default_factory=Pickup)
    expects: tuple[str, ...] = ()
    replies: tuple[Reply, ...] = ()
    steps: tuple[Step, ...] = field(default=())

    @property
    def grammar(self) -> tuple[str, ...]:
        """Every phrase this person can make out."""
        wanted = [phrase for step in self.steps if step.verb == "expect" for phrase in step.value]
        return tuple(dict.fromkeys((*self.expects, *wanted, *ASKS_AGAIN, *_AROUND)))

    @property
    def lines(self) -> tuple[str, ...]:
        """Everything this person may say, so that it can be spoken beforehand."""
        said = [str(step.value) for step in self.steps if step.verb in ("say", "interrupt")]
        return tuple(dict.fromkeys((*said, *(reply.say for reply in self.replies))))


def names() -> list[str]:
    """The personas that come with the simulator."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Persona:
    """A persona by its name, or by the path of a TOML file.

    Raises:
        PersonaError: there is none, or it says something that has no meaning.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        raise PersonaError(
            f"There is no persona {name!r}; there are {', '.join(names())}, or give a path to a .toml file."
        )
    try:
        return parse(tomllib.loads(path.read_text("utf-8")), path.stem)
    except (tomllib.TOMLDecodeError, PersonaError, TypeError, ValueError) as error:
        raise PersonaError(f"{path.name}: {error}") from error


def parse(data: dict[str, Any], name: str = "caller") -> Persona:
    """A persona from its TOML document.

    Raises:
        PersonaError: a key or value has no meaning.
    """
    known = {"name", "title", "voice", "manner", "pickup", "expects", "replies", "steps"}
    if strange := set(data) - known:
        raise PersonaError(f"unknown key {', '.join(sorted(strange))}; known: {', '.join(sorted(known))}")
    try:
        persona = Persona(
            name=data.get("name", name),
            title=data.get("title", ""),
            voice=VoiceStyle(**data.get("voice", {})),
            manner=Manner(**data.get("manner", {})),
            pickup=Pickup(**data.get("pickup", {})),
            expects=tuple(data.get("expects", ())),
            replies=tuple(Reply(tuple(each["when"]), each["say"]) for each in data.get("replies", ())),
            steps=tuple(_step(step) for step in data.get("steps", ())),
        )
    except (TypeError, KeyError) as error:
        raise PersonaError(f"a table has a key too many or too few: {error}") from error
    if persona.pickup.outcome not in OUTCOMES:
        raise PersonaError(f"pickup.outcome must be one of {', '.join(OUTCOMES)}")
    if persona.pickup.answered_by not in ANSWERED_BY:
        raise PersonaError(f"pickup.answered_by must be one of {', '.join(ANSWERED_BY)}")
    labels = {step.label for step in persona.steps}
    for step in persona.steps:
        for target in (step.then, step.otherwise, step.value if step.verb == "goto" else ""):
            if target and target not in labels:
                raise PersonaError(f"no step has the label {target!r}")
    return persona


def _step(data: dict[str, Any]) -> Step:
    verbs = set(data) & set(_STEPS)
    if len(verbs) != 1:
        raise PersonaError(f"a step has exactly one of {', '.join(_STEPS)}; this one is {data}")
    verb = verbs.pop()
    if strange := set(data) - {verb} - _STEPS[verb]:
        raise PersonaError(f"a {verb} step knows no {', '.join(sorted(strange))}")
    value = data[verb]
    return Step(
        verb=verb,
        value=tuple(value) if verb == "expect" else value,
        label=data.get("label", ""),
        after_ms=float(data.get("after", 0)),
        then=data.get("then", ""),
        otherwise=data.get("otherwise", ""),
        times=data.get("times"),
    )
