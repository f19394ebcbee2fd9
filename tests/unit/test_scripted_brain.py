"""What the scripted brain promises: Mia's conversation, by a machine that can be put down and taken up."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.personas.persona import load
from bots.scripted import Reply, ScriptedBrain

MIA = load("mia")


@dataclass(frozen=True)
class Turn:
    who: str
    text: str
    spoken: str = ""
    done: bool = True


def _talk(brain: ScriptedBrain, *heard: str) -> Reply:
    reply = brain.opening()
    for words in heard:
        assert words in brain.expects(), f"{words!r} is not in the grammar"
        reply = brain.reply(words)
        assert reply.understood
    return reply


def test_mia_talks_about_the_weekend_and_books_a_call() -> None:
    """CMB-28 and the demo: the whole conversation, word for word."""
    brain = ScriptedBrain(MIA)
    opening = brain.opening()
    assert opening.text == "Hi, this is Mia, an AI companion from Ringdown. May I record this call for you?"
    said = [
        ("yes you may", "Thank you. How was your day today?"),
        (
            "it was a long day at work",
            "That sounds tiring. Would you like to talk about work, or about the weekend?",
        ),
        (
            "let us talk about the weekend",
            "Good idea. What would you like to do, go hiking or stay at home?",
        ),
        ("i would like to go hiking", "Hiking sounds lovely. Shall I call you on Saturday morning?"),
        ("yes please", "Saturday morning it is. Take care. Goodbye."),
    ]
    replies = []
    for heard, answer in said:
        assert heard in brain.expects()
        replies.append(brain.reply(heard))
        assert replies[-1].text == answer
    assert replies[0].action == {"record_consent": True}
    assert replies[-1].action == {"book_call": "saturday morning"}
    assert [reply.end for reply in replies] == [False, False, False, False, True]


@pytest.mark.parametrize(
    "heard",
    [
        (
            "no thank you",
            "it was good",
            "let us talk about work",
            "mostly meetings",
            "i hope so",
            "no thank you",
        ),
        ("please don't", "not so good", "about work", "quiet work", "probably not", "yes please"),
        ("yes", "it was great", "the weekend", "i would rather stay at home", "no thank you"),
    ],
)
def test_every_way_through_mia_comes_to_a_goodbye(heard: tuple[str, ...]) -> None:
    assert _talk(ScriptedBrain(MIA), *heard).end


@pytest.mark.parametrize("state", [0, 1, 2, 3, 4])
def test_asked_whether_she_is_a_machine_mia_tells_the_truth_and_goes_on(state: int) -> None:
    heard = ("yes", "it was good", "the weekend", "hiking")[:state]
    brain = ScriptedBrain(MIA)
    question = _talk(brain, *heard).clauses[-1]
    told = brain.reply("are you a robot")
    assert told.text.startswith("I am an AI, a computer program.")
    assert told.clauses[-1] == question
    assert not told.end


@pytest.mark.parametrize(
    ("heard", "consent"),
    [
        ("Yes, please!", True),
        ("um yes sure go ahead", True),
        ("yes but please don't", False),
        ("no, yes, no", False),
        ("yes I would prefer that you did not", None),
        ("what do you mean by that", None),
        ("no problem", False),
    ],
)
def test_consent_to_recording_is_never_read_into_other_words(heard: str, consent: bool | None) -> None:
    """CMB-28: recording is off unless the caller clearly said yes."""
    brain = ScriptedBrain(MIA)
    brain.opening()
    assert brain.reply(heard).action.get("record_consent") is consent


def test_a_caller_who_is_never_understood_is_asked_twice_and_then_taken_along() -> None:
    brain = ScriptedBrain(MIA)
    brain.opening()
    replies = [brain.reply(None), brain.reply("gibberish"), brain.reply(None)]
    assert [reply.understood for reply in replies] == [False, False, False]
    assert "yes or no" in replies[0].text
    assert replies[2].action == {"record_consent": False}
    assert replies[2].text == "Then nothing will be recorded. How was your day today?"


def test_a_silent_caller_is_asked_and_then_let_go() -> None:
    brain = ScriptedBrain(MIA)
    brain.opening()
    replies = [brain.idle() for _ in range(3)]
    assert [reply.end for reply in replies] == [False, False, True]
    assert replies[0].text == "Are you still there?"


def test_commands_work_everywhere() -> None:
    brain = ScriptedBrain(MIA)
    question = _talk(brain, "yes")
    brain.idle()
    assert brain.reply("say that again").text == question.text
    assert brain.reply("stop recording").action == {"record_consent": False}
    stop = brain.reply("please stop calling me")
    assert stop.action == {"stop_calling": True}
    assert stop.end


def test_a_long_sentence_that_mentions_goodbye_does_not_hang_up() -> None:
    brain = ScriptedBrain(load("sam"))
    _talk(brain, "yes")
    assert brain.reply("i said goodbye to my mother at the airport this morning").hand_over
    assert brain.reply("okay then goodbye").end


def test_what_is_denied_is_not_taken_for_said() -> None:
    brain = ScriptedBrain(MIA)
    _talk(brain, "yes", "it was good", "the weekend")
    assert "home" in brain.reply("not hiking i would rather stay at home").text


def test_a_model_persona_keeps_opening_consent_and_commands_for_itself() -> None:
    brain = ScriptedBrain(load("sam"))
    assert "AI" in brain.opening().clauses[0]
    reply = brain.reply("no thank you")
    assert reply.action == {"record_consent": False}
    assert not reply.hand_over
    assert brain.hands_over
    assert brain.reply("I want to change jobs").hand_over
    assert "AI" in brain.reply("are you a real person").text


def test_the_talker_numbers_its_lines_for_as_long_as_it_is_told() -> None:
    brain = ScriptedBrain(load("talker"), {"rounds": 3})
    lines = [brain.opening().text, *(brain.reply("whatever was heard").text for _ in range(3))]
    assert [f"line number {n} of 3" in lines[n - 1] for n in (1, 2, 3)] == [True, True, True]
    assert brain.reply("more").end


def test_the_brain_never_passes_for_a_language_model() -> None:
    described = ScriptedBrain(MIA).describe()
    assert described.startswith("scripted")
    assert "no language model" in described


PHRASES = [p for state in MIA.flow.states.values() for answer in state.expects for p in answer.phrases]
PHRASES += [p for command in MIA.commands for p in command.phrases if command.does != "end"]
HEARD = st.lists(
    st.one_of(
        st.none(),
        st.just("gibberish"),
        st.just("IDLE"),
        st.sampled_from(PHRASES),
    ),
    max_size=14,
)


def _play(brain: ScriptedBrain, heard: list[str | None]) -> list[dict[str, Any]]:
    told = []
    for words in heard:
        reply = brain.idle() if words == "IDLE" else brain.reply(words)
        told.append({"text": reply.text, "action": reply.action, "end": reply.end, "flow": reply.flow})
    return told


@given(st.sampled_from(["mia", "talker", "sam"]), HEARD, HEARD)
def test_a_brain_put_down_and_taken_up_goes_on_as_if_nothing_had_happened(
    name: str, before: list[str | None], after: list[str | None]
) -> None:
    """COM-15: the flow is the whole memory, and it survives JSON."""
    persona = load(name)
    brain = ScriptedBrain(persona)
    brain.opening()
    _play(brain, before)
    twin = ScriptedBrain(persona, flow=json.loads(json.dumps(brain.flow)))
    assert twin.expects() == brain.expects()
    assert _play(twin, after) == _play(brain, after)


BRIDGE = "Sorry, the line dropped for a moment."


def test_a_line_cut_off_is_taken_up_at_the_clause_that_was_cut() -> None:
    """COM-15: nothing that was heard is said again, nothing is left out."""
    brain = ScriptedBrain(MIA)
    reply = _talk(brain, "yes", "it was long")
    text = reply.text
    cut = Turn("bot", text, spoken="That sounds tiring.", done=False)
    again = ScriptedBrain(MIA).resume(reply.flow, [cut])
    assert again.text == f"{BRIDGE} Would you like to talk about work, or about the weekend?"
    twice = ScriptedBrain(MIA).resume(again.flow, [cut, Turn("bot", again.text, spoken=BRIDGE, done=False)])
    assert twice.text == again.text


def test_words_heard_but_not_answered_are_answered_on_resume() -> None:
    brain = ScriptedBrain(MIA)
    reply = brain.opening()
    resumed = ScriptedBrain(MIA).resume(reply.flow, [Turn("bot", reply.text, reply.text), Turn("caller", "yes")])
    assert resumed.text == f"{BRIDGE} Thank you. How was your day today?"
    assert resumed.action == {"record_consent": True}


def test_a_caller_cut_off_is_asked_to_say_it_again_and_the_flow_stands() -> None:
    brain = ScriptedBrain(MIA)
    reply = _talk(brain, "yes")
    resumed = ScriptedBrain(MIA).resume(reply.flow, [Turn("bot", reply.text, reply.text)])
    assert resumed.text == f"{BRIDGE} Could you say that again?"
    assert resumed.flow == reply.flow


def test_a_call_cut_before_its_first_word_opens_with_the_disclosure() -> None:
    """The disclosure opens every call, resumed ones included."""
    opening = ScriptedBrain(MIA).opening()
    unheard = Turn("bot", opening.text, spoken="", done=False)
    assert ScriptedBrain(MIA).resume(None, []).text == opening.text
    assert ScriptedBrain(MIA).resume(opening.flow, [unheard]).text == opening.text


def test_a_call_cut_in_its_goodbye_finishes_it_and_ends() -> None:
    brain = ScriptedBrain(MIA)
    reply = _talk(brain, "yes", "it was good", "the weekend", "hiking", "no")
    half = Turn("bot", reply.text, spoken="That is fine, I will not call.", done=False)
    resumed = ScriptedBrain(MIA).resume(reply.flow, [half])
    assert resumed.text == f"{BRIDGE} Take care. Goodbye."
    assert resumed.end
    done = ScriptedBrain(MIA).resume(reply.flow, [Turn("bot", reply.text, reply.text)])
    assert done.end
    assert done.clauses == ()


@given(st.integers(0, 12))
def test_however_much_of_a_line_was_heard_the_rest_completes_it(words: int) -> None:
    brain = ScriptedBrain(MIA)
    text = _talk(brain, "yes", "it was long").text
    spoken = " ".join(text.split()[:words])
    rest = ScriptedBrain(MIA).resume(brain.flow, [Turn("bot", text, spoken, done=False)]).text
    assert text.endswith(rest.removeprefix(f"{BRIDGE} "))
    assert len(spoken.split()) + len(rest.removeprefix(BRIDGE).split()) >= len(text.split())
