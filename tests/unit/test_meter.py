"""The meter of a paid call, and the working memory of a long one."""

from __future__ import annotations

import datetime as dt

from bots.memory import recall
from bots.meter import Meter
from bots.record import Turn

NOW = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


def test_the_limit_counts_from_the_answer_whichever_host_holds_the_call() -> None:
    """CMB-53: a call that is taken up after ten minutes has five left of fifteen."""
    fresh = Meter.paid(15, None, NOW)
    assert (fresh.left, fresh.warns_in, fresh.parts_in) == (900, 870, 892)
    later = Meter.paid(15, NOW - dt.timedelta(minutes=10), NOW)
    assert (later.left, later.warns_in, later.parts_in) == (300, 270, 292)


def test_a_call_taken_up_in_its_last_seconds_parts_at_once() -> None:
    """CMB-53: no warning that would come too late, and never a negative wait."""
    late = Meter.paid(1, NOW - dt.timedelta(seconds=55), NOW)
    assert (late.left, late.warns_in, late.parts_in) == (5, None, 0)
    over = Meter.paid(1, NOW - dt.timedelta(seconds=90), NOW)
    assert (over.left, over.warns_in, over.parts_in) == (0, None, 0)


def conversation(*said: str) -> list[Turn]:
    turns = []
    for number, text in enumerate(said, 1):
        who = "caller" if number % 2 else "bot"
        turns.append(Turn(number, who, text, text if who == "bot" else "", True))  # type: ignore[arg-type]
    return turns


def test_a_short_call_is_remembered_whole() -> None:
    """CMB-31: nothing is left out as long as it fits."""
    turns = conversation("hello", "hi", "my cat is called Biscuit", "lovely")
    assert recall(turns).recent == tuple(turns)
    assert recall(turns).found == ()


def test_a_fact_from_the_first_minute_is_found_in_the_tenth() -> None:
    """CMB-31, CMB-32: looked up by what is spoken of now, in the order in which it was said."""
    small = ["and then we went on", "I see"] * 40
    turns = conversation("my cat is called Biscuit", "what a name", *small, "what was my cat called again", "hm")
    recalled = recall(turns, recent=20)
    assert recalled.found[0].text == "my cat is called Biscuit"
    assert len(recalled.found) <= 6
    assert len(recalled.recent) == 20


def test_what_nobody_heard_is_not_remembered() -> None:
    """COM-14: words that were cut off are not looked up."""
    turns = [Turn(1, "bot", "the treasure lies under the bridge", "", True), *conversation(*["so"] * 30)]
    turns.append(Turn(99, "caller", "where is the treasure", "", True))
    assert recall(turns, recent=5).found == ()
