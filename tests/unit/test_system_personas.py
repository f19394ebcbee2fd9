"""The personas that everybody has: complete talks without a key, and a model's where there is one."""

from __future__ import annotations

import datetime as dt

import pytest

from bots.personas.keeping import system_personas
from bots.personas.of_user import persona_of, voice_of
from bots.personas.persona import Persona, load, with_model
from bots.scripted import Reply, ScriptedBrain
from bots.speech.listening.recogniser import sayable
from bots.voices import house_voices
from infra.database.personas import PersonaRow

FOUR = ("worried-friend", "urgent-manager", "family-member", "supportive-listener")
TALKS = {
    "worried-friend": ["i am fine", "yes please", "i am on my way", "yes", "i am outside now"],
    "urgent-manager": ["go ahead", "i am on my way", "in ten minutes", "yes please"],
    "family-member": ["no not yet", "i slept well", "nothing new", "not today", "i have to work"],
    "supportive-listener": ["it was hard", "being alone", "nobody", "just listen", "that is all", "i hope so"],
}


NOW = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
USERS = persona_of(
    PersonaRow(
        id="persona_1", owner="user_1", slug=None, version=1, name="Ada", description="A sailor.", voice="", prompt="x",
        voice_withdrawn_at=None, language="en", max_minutes=15, created_at=NOW, changed_at=NOW,
    )
)  # fmt: skip


def played(persona: Persona, words: list[str]) -> list[Reply]:
    brain = ScriptedBrain(persona)
    return [brain.opening(), *(brain.reply(heard) for heard in words)]


def test_at_least_four_common_uses_have_a_persona() -> None:
    """CMB-43."""
    offered = dict(system_personas())
    assert set(FOUR) <= set(offered)
    for slug in FOUR:
        assert offered[slug].prompt
        assert offered[slug].description.endswith((".", "?"))


@pytest.mark.parametrize("name", FOUR)
def test_each_opens_as_an_ai_talks_to_the_end_and_asks_for_nothing_to_be_recorded(name: str) -> None:
    """CMB-43: a complete talk without a key."""
    replies = played(load(name), TALKS[name])
    assert "AI" in replies[0].clauses[0]
    assert all(reply.understood for reply in replies)
    assert [reply.end for reply in replies] == [False] * (len(replies) - 1) + [True]
    assert not any(reply.action for reply in replies)


@pytest.mark.parametrize("name", FOUR)
def test_each_talk_ends_even_with_somebody_who_is_never_understood(name: str) -> None:
    replies = played(load(name), ["mumble"] * 40)
    assert replies[-1].end


@pytest.mark.parametrize("name", FOUR)
def test_each_obeys_what_a_caller_may_say_at_any_time(name: str) -> None:
    """CMB-44: whatever the persona, whatever the state."""
    for words in range(len(TALKS[name])):
        brain = ScriptedBrain(load(name))
        brain.opening()
        for heard in TALKS[name][:words]:
            brain.reply(heard)
        assert "AI" in brain.reply("are you a robot").text
        stop = brain.reply("please stop calling me")
        assert (stop.end, stop.action) == (True, {"stop_calling": True})


@pytest.mark.parametrize("name", FOUR)
def test_each_is_the_models_where_there_is_one(name: str) -> None:
    brain = ScriptedBrain(with_model(load(name)))
    assert "AI" in brain.opening().clauses[0]
    assert brain.hands_over
    assert brain.reply("let me tell you something").hand_over


@pytest.mark.parametrize("name", [*FOUR, "of a user"])
def test_whatever_each_expects_can_be_heard_offline(name: str) -> None:
    """CMB-43: keyless, a phrase that the recogniser cannot know would never be understood."""
    persona = USERS if name == "of a user" else load(name)
    phrases = [
        phrase for state in persona.flow.states.values() for answer in state.expects for phrase in answer.phrases
    ]
    assert phrases
    assert [phrase for phrase in phrases if phrase not in sayable(phrases)] == []


def test_a_persona_that_is_complete_without_a_model_stays_as_it_is() -> None:
    assert with_model(load("mia")) is load("mia")


def test_every_system_persona_has_a_voice_of_the_house() -> None:
    """CMB-42: such a voice sounds on every engine, so a copy of a persona is always valid."""
    cards = {card.id for card in house_voices()}
    for slug, text in system_personas():
        assert text.voice in cards
        assert voice_of(text.voice) == load(slug).voice
        assert load(slug).voice.espeak
        assert load(slug).voice.elevenlabs
