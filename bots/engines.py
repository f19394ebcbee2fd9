"""The engine room of a host: builds what listens, thinks and speaks for each call, from what all calls share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bots.conversation import Engines
from bots.house import Facts, House
from bots.models.chain import build_model
from bots.models.port import Model
from bots.personas.guard import denies
from bots.personas.persona import Persona, available, load, with_model
from bots.record import Record
from bots.scripted import ScriptedBrain
from bots.speech import build_listener, build_voice, prepare_speech
from bots.turns.taker import Judge, TurnTaker
from bots.turns.vad import Silero, VoiceActivity
from infra.settings import Settings


def preload(settings: Settings) -> None:
    """Load into this process, the template, what every host forked from it will share."""
    Silero.shared()
    denies("")  # compiles what the house listens for in a model's words
    lines: dict[str, list[str]] = {}
    for name in available():
        persona = load(name)
        opening = ScriptedBrain(persona).opening()
        flow = persona.flow
        lines[name] = [*opening.clauses, *flow.bridge, *flow.again, *flow.apology, *flow.time_up, *flow.farewell]
    prepare_speech(settings, {name: (load(name).voice, texts) for name, texts in lines.items()})


class EngineRoom:
    """Engines for the calls of one host.

    Args:
        settings: which engines.
        turns: who judges whether a caller has finished, in a host the line to the node's turn server.
    """

    def __init__(self, settings: Settings, turns: Judge) -> None:
        self._settings, self._turns = settings, turns
        self._model: Model | None = None

    async def start(self) -> None:
        """Open what needs a running loop."""
        if self._settings.engines[2] in {"model", "double"}:
            self._model = build_model(self._settings)

    async def close(self) -> None:
        if self._model is not None:
            await self._model.aclose()

    def engines(
        self,
        call_id: str,
        persona: str | Persona,
        options: Mapping[str, Any],
        record: Record,
        facts: Facts | None = None,
    ) -> Engines:
        """New engines for one call, standing where its record stands; `facts` are what the house knows of it.

        Raises:
            PersonaError: the call's persona cannot be used.
        """
        persona = load(persona) if isinstance(persona, str) else persona
        persona = persona if self._model is None else with_model(persona)
        brain = ScriptedBrain(persona, options, record.flow)
        house = House(brain, facts)
        return Engines(
            taker=TurnTaker(call_id, self._turns, VoiceActivity()),
            listener=build_listener(self._settings, expects=[*brain.expects(), *house.expects()]),
            voice=build_voice(self._settings, voice=persona.voice),
            brain=brain,
            model=self._model,
            words_decide=self._settings.engines[0] == "offline",
            house=house,
        )
