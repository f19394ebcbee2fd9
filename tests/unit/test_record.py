"""The record: turns numbered without gap, spoken only as far as heard, over as soon as the next begins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.record import Record, Turn, clauses, join, unspoken


class Entries:
    """A journal that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    async def heard(self, turn: Turn, flow: dict[str, Any]) -> None:
        self.told.append(("heard", turn.number, turn.text, dict(flow)))

    async def replying(self, turn: Turn, flow: dict[str, Any]) -> None:
        self.told.append(("replying", turn.number, turn.text, dict(flow)))

    async def spoke(self, turn: Turn) -> None:
        self.told.append(("spoke", turn.number, turn.spoken, turn.done))

    async def consent(self, granted: bool) -> None:
        self.told.append(("consent", granted))


async def test_turns_are_numbered_over_both_sides_and_go_on_where_the_last_holder_stood() -> None:
    """COM-15: epoch two writes turn three after two."""
    journal = Entries()
    record = Record(journal, [Turn(1, "bot", "Hi.", "Hi.", True), Turn(2, "caller", "hi", done=True)], {"state": "x"})
    assert record.flow == {"state": "x"}
    assert (await record.replying("How are you?", {"state": "y"})).number == 3
    assert journal.told == [("replying", 3, "How are you?", {"state": "y"})]


async def test_only_what_left_the_line_counts_as_spoken() -> None:
    """COM-14, CMB-28: a barge-in leaves the words that were heard, and the journal knows that the turn is over."""
    journal = Entries()
    record = Record(journal)
    await record.replying("One. Two. Three.", {})
    await record.spoke("One.")
    await record.heard("wait", {})
    assert (record.turns[0].spoken, record.turns[0].done, record.turns[0].rest) == ("One.", True, "Two. Three.")
    assert journal.told[1:] == [("spoke", 1, "One.", False), ("spoke", 1, "One.", True), ("heard", 2, "wait", {})]
    await record.spoke("Two.")
    assert record.turns[0].spoken == "One.", "late words belong to no turn"


async def test_a_streamed_reply_is_one_turn_that_grows() -> None:
    """CMB-27: the first clause opens it."""
    journal = Entries()
    record = Record(journal, flow={"state": "free"})
    await record.extend("Well,")
    await record.extend("let me think.")
    assert [turn.text for turn in record.turns] == ["Well, let me think."]
    await record.spoke("Well,")
    await record.finished()
    assert journal.told == [
        ("replying", 1, "Well,", {"state": "free"}),
        ("spoke", 1, "Well,", False),
        ("spoke", 1, "Well,", True),
    ]


async def test_nothing_is_finished_when_nobody_speaks() -> None:
    """COM-02: an aside or a late end touches no turn."""
    record = Record(Entries())
    assert await record.finished() is None
    await record.spoke("words of nobody")
    assert record.turns == []


@pytest.mark.parametrize(
    ("spoken", "rest"),
    [
        ("", "Hi, this is Mia. How are you?"),
        ("Hi,", "this is Mia. How are you?"),
        ("Hi, this", "this is Mia. How are you?"),
        ("Hi, this is Mia.", "How are you?"),
        ("Hi, this is Mia. How are you?", ""),
    ],
)
def test_a_clause_that_was_cut_is_said_again_whole(spoken: str, rest: str) -> None:
    """COM-14: half a clause makes no sense by itself."""
    assert unspoken("Hi, this is Mia. How are you?", spoken) == rest


@given(st.lists(st.sampled_from(["Hi,", "yes.", "so it is", "3.5 miles;", "why?", "a b c"]), max_size=8), st.data())
def test_what_was_spoken_and_the_rest_cover_every_word(pieces: list[str], data: st.DataObject) -> None:
    """COM-15: whatever the cut, nothing is left out, and at most one clause is heard twice."""
    text = " ".join(pieces)
    words = text.split()
    cut = data.draw(st.integers(0, len(words)))
    rest = unspoken(text, " ".join(words[:cut])).split()
    assert words[len(words) - len(rest) :] == rest
    assert len(rest) >= len(words) - cut
    longest = max((len(clause.split()) for clause in clauses(text)), default=0)
    assert len(rest) - (len(words) - cut) < max(longest, 1)


def test_pieces_of_speech_are_joined_by_one_space() -> None:
    """COM-15: so that a count of words stays a count of words."""
    assert join("", " One. ") == "One."
    assert join("One. ", "  two.") == "One. two."


async def test_an_answer_that_nobody_heard_is_known_as_missed() -> None:
    """COM-14: who talks over an answer before its first sound is answered from where the script stood before it."""
    record = Record(Entries(), flow={"state": "question"})
    await record.heard("yes", {})
    await record.replying("Thank you.", {"state": "next"})
    await record.heard("I mean no", {})
    assert record.missed == ("yes", {"state": "question"})
    await record.replying("That is fine.", {"state": "next"})
    await record.spoke("That")
    await record.heard("good", {})
    assert record.missed is None
