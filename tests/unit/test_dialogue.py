"""The dialogue: who has the floor, what is answered, and what happens when nobody or nothing answers."""

from __future__ import annotations

from pathlib import Path

from pipecat.frames.frames import TranscriptionFrame, VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame

from bots.cues import Cue
from bots.dialogue import Patience
from tests.doubles.talk import Writer, talk

QUESTION = "May I record this call for you?"
DAY = "How was your day today?"
APOLOGY = "I am sorry, something went wrong on my side."


async def test_a_turn_is_journalled_before_it_is_answered(tmp_path: Path) -> None:
    """COM-15, CMB-24: heard, then answered, with the time it took."""
    async with talk(tmp_path) as call:
        await call.wait_said(QUESTION)
        await call.says("no thank you")
        await call.wait_said(DAY)
        assert [(turn.who, turn.done) for turn in call.record.turns] == [("bot", True), ("caller", True), ("bot", True)]
        assert call.record.turns[1].text == "no thank you"
        assert "voice_to_voice_ms" in call.record.turns[2].timings


async def test_a_barge_in_stops_the_bot_and_keeps_only_the_words_that_were_heard(tmp_path: Path) -> None:
    """COM-14, CMB-28: the rest is neither played nor remembered as said."""
    async with talk(tmp_path, playing=False) as call:
        call.line.mouth.allowed.release()
        await call.wait(lambda: len(call.played) == 1)
        await call.wait(lambda: call.record.turns[0].spoken)
        call.line.mouth.free = True
        await call.says("no thank you")
        await call.wait_said(DAY)
        assert call.record.turns[0].spoken == "Hi, this is Mia, an AI companion from Ringdown."
        assert call.record.turns[0].done
        assert QUESTION not in call.played


async def test_after_a_false_start_the_bot_says_the_rest(tmp_path: Path) -> None:
    """COM-14: a cough stops it only for a moment, and the turn is one turn."""
    async with talk(tmp_path, playing=False) as call:
        call.line.mouth.allowed.release()
        await call.wait(lambda: call.record.turns and call.record.turns[0].spoken)
        call.line.mouth.free = True
        await call.says("", brief=True)
        await call.wait_said(QUESTION)
        assert call.played == ["Hi, this is Mia, an AI companion from Ringdown.", QUESTION]
        await call.wait(lambda: call.record.turns[0].done)
        assert len(call.record.turns) == 1
        assert call.record.turns[0].spoken == call.record.turns[0].text


async def test_what_is_not_understood_is_asked_again_and_never_invented(tmp_path: Path) -> None:
    """CMB-24: no caller's turn is written for words that nobody understood."""
    async with talk(tmp_path) as call:
        await call.wait_said(QUESTION)
        await call.says(None)
        await call.wait_said("May I record this call, yes or no?")
        assert [turn.who for turn in call.record.turns] == ["bot", "bot"]


async def test_two_stretches_of_one_turn_are_one_text(tmp_path: Path) -> None:
    """CMB-24: a pause for breath does not cut a sentence in two."""
    async with talk(tmp_path) as call:
        await call.wait_said(QUESTION)
        await call.says("no")
        await call.wait_said(DAY)
        await call.starts_speaking()
        await call._push(VADUserStoppedSpeakingFrame())
        await call._push(TranscriptionFrame("it was a long day", "", "", finalized=True))
        await call._push(VADUserStartedSpeakingFrame())
        await call.stops_speaking("at work")
        await call.wait_said("That sounds tiring.")
        assert call.record.turns[3].text == "it was a long day at work"


async def test_a_caller_who_goes_on_before_the_answer_gets_one_answer_to_all(tmp_path: Path) -> None:
    """COM-14: the model is asked once more, with both turns, and the answer to the first is never heard."""
    model = Writer("That is a lot.")
    async with talk(tmp_path, persona="free", model=model) as call:
        await call.wait_said("What is on your mind?")
        await call.says("i am tired")
        await call.wait(lambda: len(model.asked) == 1)
        await call.says("and hungry")
        await call.wait(lambda: len(model.asked) == 2)
        model.go.set()
        await call.wait_said("That is a lot.")
        assert call.played.count("That is a lot.") == 1
        assert [message.content for message in model.asked[1].messages[-2:]] == ["i am tired", "and hungry"]
        assert [turn.who for turn in call.record.turns] == ["bot", "caller", "caller", "bot"]


async def test_a_silent_caller_is_asked_and_then_let_go(tmp_path: Path) -> None:
    """CMB-21: prompts, then a truthful end."""
    patience = Patience(idle=0.05, idle_prompts=2)
    async with talk(tmp_path, patience=patience) as call:
        assert await call.end() in {"idle", "bot_hung_up"}
        assert call.played.count("Are you still there?") == 2


async def test_a_stalled_reply_is_apologised_for_within_the_patience(tmp_path: Path) -> None:
    """CMB-33: no long silence; a stuck model does not hold up the apology for it."""
    patience = Patience(reply=0.1)
    async with talk(tmp_path, persona="free", model=Writer("never"), patience=patience) as call:
        await call.wait_said("What is on your mind?")
        await call.says("hello")
        await call.wait_said(APOLOGY)
        assert [turn.who for turn in call.record.turns] == ["bot", "caller"], "an apology is no turn"


async def test_a_voice_that_stays_silent_ends_the_call_truthfully(tmp_path: Path) -> None:
    """CMB-33, COM-13: when not even the apology is heard, the reason is ours."""
    patience = Patience(reply=0.05, failures=2)
    async with talk(tmp_path, persona="free", model=Writer("never"), patience=patience) as call:
        await call.wait_said("What is on your mind?")
        call.line.mouth.dead = True
        await call.says("hello")
        assert await call.end() == "pipeline_error"


async def test_it_is_quiet_only_while_nobody_speaks_or_is_about_to(tmp_path: Path) -> None:
    """COM-16: a call is moved at such a moment."""
    async with talk(tmp_path, playing=False) as call:
        await call.wait(lambda: call.line.mouth.speaking)
        assert not call.conversation.quiet
        call.line.mouth.free = True
        call.line.mouth.allowed.release()
        await call.wait_said(QUESTION)
        await call.wait(lambda: call.conversation.quiet)
        await call.starts_speaking()
        await call.wait(lambda: not call.conversation.quiet)


async def test_the_end_of_time_is_said_before_it_comes(tmp_path: Path) -> None:
    """CMB-21: the limit ends the call politely and by name."""
    async with talk(tmp_path, cue=Cue.OPENING, limit_seconds=0.2) as call:
        assert await call.end() == "time_limit"
        assert "I am afraid our time is up." in call.played
        assert call.played[-1] == "Goodbye."
