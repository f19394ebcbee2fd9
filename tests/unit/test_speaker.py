"""The speaker: words for every cue, a decision in the record first, and a call taken up wherever it stood."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bots.cues import Cue
from bots.dialogue import Patience
from bots.models.port import Delta, Request, Text, Unreachable
from bots.personas.persona import load
from bots.record import Turn
from bots.scripted import ScriptedBrain
from tests.doubles.talk import Talk, Writer, talk

DISCLOSURE = "Hi, this is Mia, an AI companion from Ringdown."
QUESTION = "May I record this call for you?"
DAY = "How was your day today?"
BRIDGE = "Sorry, the line dropped for a moment."
AGAIN = "Could you say that again?"
STILL_THERE = "Are you still there?"


def opened() -> ScriptedBrain:
    brain = ScriptedBrain(load("mia"))
    brain.opening()
    return brain


def asked_for_the_day() -> dict[str, object]:
    brain = opened()
    return brain.reply("no").flow


async def test_every_call_begins_with_the_disclosure(tmp_path: Path) -> None:
    """COM-73, law by default: the first words say that a machine speaks."""
    async with talk(tmp_path) as call:
        await call.wait_said(QUESTION)
        assert call.played == [DISCLOSURE, QUESTION]


async def test_consent_starts_the_recording_and_nothing_is_written_before(tmp_path: Path) -> None:
    """CMB-18, architecture 4: off until the yes."""
    async with talk(tmp_path) as call:
        await call.wait_said(QUESTION)
        assert not call.folder.exists()
        before = call.recorder.recording
        assert not before
        await call.says("yes please")
        await call.wait_said(DAY)
        assert call.recorder.recording
        assert call.journal.consents == [True]


async def test_a_no_is_written_down_and_nothing_else(tmp_path: Path) -> None:
    """Architecture 4: who declines leaves no sound."""
    async with talk(tmp_path) as call:
        await call.wait_said(QUESTION)
        await call.says("no thank you")
        await call.wait_said(DAY)
        assert call.journal.consents == [False]
        assert not call.folder.exists()


async def test_the_last_words_end_the_call(tmp_path: Path) -> None:
    """COM-13: the bot hangs up once its goodbye has left the line, not before."""
    async with talk(tmp_path) as call:
        await call.wait_said(QUESTION)
        await call.says("goodbye")
        assert await call.end() == "bot_hung_up"
        assert call.played[-1] == "Goodbye."
        assert call.record.turns[-1].done
        assert call.record.turns[-1].spoken == call.record.turns[-1].text


async def test_whoever_wants_no_more_calls_is_heard(tmp_path: Path) -> None:
    """Law by default: the reason of the end says so."""
    async with talk(tmp_path) as call:
        await call.wait_said(QUESTION)
        await call.says("stop calling me")
        assert await call.end() == "opted_out"


async def test_a_call_that_dropped_before_a_word_opens_as_if_nothing_had_been(tmp_path: Path) -> None:
    """COM-15: nobody heard the greeting, so it is the same turn, said now."""
    brain = opened()
    turns = [Turn(1, "bot", f"{DISCLOSURE} {QUESTION}")]
    async with talk(tmp_path, Cue.RESUME, turns=turns, flow=brain.flow) as call:
        await call.wait_said(QUESTION)
        assert " ".join(call.played) == f"{DISCLOSURE} {QUESTION}"
        await call.wait(lambda: call.record.turns[0].done)
        assert len(call.record.turns) == 1


async def test_a_greeting_that_was_cut_goes_on_at_the_clause_that_was_cut(tmp_path: Path) -> None:
    """COM-15: a short bridge, then the rest, in the same turn."""
    turns = [Turn(1, "bot", f"{DISCLOSURE} {QUESTION}", DISCLOSURE)]
    async with talk(tmp_path, Cue.RESUME, turns=turns, flow=opened().flow) as call:
        await call.wait_said(QUESTION)
        assert call.played == [BRIDGE, QUESTION]
        await call.wait(lambda: call.record.turns[0].done)
        assert call.record.turns[0].spoken == f"{DISCLOSURE} {QUESTION}"
        assert len(call.record.turns) == 1


async def test_words_that_were_heard_but_not_answered_are_answered(tmp_path: Path) -> None:
    """COM-15, CMB-31: the caller need not say them again."""
    turns = [Turn(1, "bot", QUESTION, QUESTION, True), Turn(2, "caller", "no", done=True)]
    async with talk(tmp_path, Cue.RESUME, turns=turns, flow=opened().flow) as call:
        await call.wait_said(DAY)
        assert call.played == [BRIDGE, "That is fine,", "nothing will be recorded.", DAY] or call.played == [
            BRIDGE,
            "That is fine, nothing will be recorded.",
            DAY,
        ]
        assert [turn.number for turn in call.record.turns] == [1, 2, 3]
        assert BRIDGE not in call.record.turns[2].text
        assert call.journal.consents == [False]


async def test_a_caller_who_was_cut_off_is_asked_again(tmp_path: Path) -> None:
    """COM-15: everything of ours was said, so it was their turn."""
    turns = [Turn(1, "bot", DAY, DAY, True)]
    async with talk(tmp_path, Cue.RESUME, turns=turns, flow=asked_for_the_day()) as call:
        await call.wait_said(AGAIN)
        assert call.played == [BRIDGE, AGAIN]
        assert len(call.record.turns) == 1, "an aside is no turn"
        await call.says("it was good")
        await call.wait_said("I am glad to hear that.")


async def test_a_call_that_was_moved_on_purpose_says_nothing_of_it(tmp_path: Path) -> None:
    """COM-16: no bridge, no question; the caller simply goes on."""
    turns = [Turn(1, "bot", DAY, DAY, True)]
    async with talk(tmp_path, Cue.MOVED, turns=turns, flow=asked_for_the_day()) as call:
        await call.wait(lambda: call.conversation._pipeline_started.is_set())
        await call.says("it was good")
        await call.wait_said("I am glad to hear that.")
        assert BRIDGE not in call.played
        assert AGAIN not in call.played


async def test_a_moved_call_in_which_the_caller_thinks_is_not_apologised_to(tmp_path: Path) -> None:
    """COM-16: that the bot says nothing is right here, and no failure of its own."""
    turns = [Turn(1, "bot", DAY, DAY, True)]
    patience = Patience(reply=0.02, idle=0.3)
    async with talk(tmp_path, Cue.MOVED, turns=turns, flow=asked_for_the_day(), patience=patience) as call:
        await call.wait_said(STILL_THERE)
        assert call.played[0] == STILL_THERE


async def test_a_moved_call_finishes_the_sentence_without_a_bridge(tmp_path: Path) -> None:
    """COM-16: the deadline of a drain may cut a sentence."""
    turns = [Turn(1, "bot", f"{DISCLOSURE} {QUESTION}", DISCLOSURE)]
    async with talk(tmp_path, Cue.MOVED, turns=turns, flow=opened().flow) as call:
        await call.wait_said(QUESTION)
        assert call.played == [QUESTION]


async def test_a_call_that_had_said_its_last_word_just_ends(tmp_path: Path) -> None:
    """COM-13, COM-15: dying after the goodbye does not make it talk again."""
    brain = opened()
    reply = brain.reply("goodbye")
    turns = [Turn(1, "caller", "goodbye", done=True), Turn(2, "bot", reply.text, reply.text, True)]
    async with talk(tmp_path, Cue.RESUME, turns=turns, flow=reply.flow) as call:
        assert await call.end() == "bot_hung_up"
        assert call.played == []


async def test_a_models_reply_is_spoken_clause_by_clause_and_asked_with_what_was_really_said(tmp_path: Path) -> None:
    """CMB-27, CMB-31: the first clause does not wait for the last."""
    model = Writer("I see.", "Tell me more.")
    model.go.set()
    async with talk(tmp_path, persona="free", model=model) as call:
        await call.wait_said("What is on your mind?")
        await call.says("my garden")
        await call.wait_said("Tell me more.")
        assert call.played[-2:] == ["I see.", "Tell me more."]
        roles = [message.role for message in model.asked[0].messages]
        assert roles == ["system", "assistant", "user"]
        await call.wait(lambda: call.record.turns[-1].done)
        assert call.record.turns[-1].text == "I see. Tell me more."


async def test_a_model_that_passes_for_a_human_being_is_corrected_before_it_is_heard(tmp_path: Path) -> None:
    """CMB-44: the truth stands in the call and in its record."""
    model = Writer("I am a real person.", "Tell me more.")
    model.go.set()
    async with talk(tmp_path, persona="free", model=model) as call:
        await call.wait_said("What is on your mind?")
        await call.says("do you dream at night")
        await call.wait_said("Tell me more.")
        assert call.played[-2:] == ["I am an AI, a computer program.", "Tell me more."]
        await call.wait(lambda: call.record.turns[-1].done)
        assert "real person" not in call.record.turns[-1].text


class Broken(Writer):
    """A model whose every provider failed."""

    async def stream(self, request: Request) -> AsyncGenerator[Delta, None]:
        if not self.asked:
            raise Unreachable("nobody there")
        yield Text("never")


async def test_a_model_that_fails_is_apologised_for_at_once(tmp_path: Path) -> None:
    """CMB-33: not silence."""
    async with talk(tmp_path, persona="free", model=Broken()) as call:
        await call.wait_said("What is on your mind?")
        await call.says("hello")
        await call.wait_said("I am sorry, something went wrong on my side.")


@pytest.mark.parametrize(
    ("reason", "end"), [("stop", "caller_hung_up"), ("closed", "stream_lost"), ("lost", "stream_lost")]
)
async def test_only_the_carriers_word_is_a_hang_up(tmp_path: Path, reason: str, end: str) -> None:
    """COM-13, COM-15: whatever else ends a stream is a fault, and the call can come back."""
    async with talk(tmp_path) as call:
        await call.wait_said(QUESTION)
        await call.line.drop(reason)
        assert await call.end() == end


async def test_the_first_reason_of_an_end_stands(tmp_path: Path) -> None:
    """COM-13: exactly one."""
    call: Talk
    async with talk(tmp_path) as call:
        await call.wait_said(QUESTION)
        call.conversation.end("operator")
        call.conversation.end("api")
        assert await call.end() == "operator"
