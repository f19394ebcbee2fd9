"""How `bench survive` judges calls whose hosts were killed."""

from __future__ import annotations

from typing import Any

from tests.bench.survive import continuity, hits, phase_of
from tests.bench.turn import breaks


def turns(*said: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"number": at, "who": who, "text": text, "done": True} for at, (who, text) in enumerate(said, 1)]


def line(number: int, total: int = 3) -> tuple[str, str]:
    return "bot", f"This is line number {number} of {total}. Please go on."


GO_ON = ("caller", "please go on")
END = ("bot", "That was the last line. Goodbye.")


def test_a_call_with_every_line_once_is_whole() -> None:
    assert continuity(turns(("bot", "Hello."), GO_ON, line(1), GO_ON, line(2), GO_ON, line(3), GO_ON, END)) == []


def test_a_line_said_twice_is_found() -> None:
    wrong = continuity(turns(line(1), GO_ON, line(2), GO_ON, line(2), GO_ON, line(3)))
    assert wrong == ["line 2 was said 2 times"]


def test_a_missing_line_is_found() -> None:
    assert continuity(turns(line(1), GO_ON, line(3))) == ["line 2 is missing"]


def test_a_lost_turn_of_the_caller_is_found() -> None:
    assert continuity(turns(line(1), line(2), GO_ON, line(3))) == ["nothing of the caller stands after line 1"]


def test_lines_out_of_order_are_found() -> None:
    assert "lines are out of order" in continuity(turns(line(1), GO_ON, line(3), GO_ON, line(2)))


def test_asking_again_is_not_the_line_again() -> None:
    again = ("bot", "I did not hear you after line number 1. Please go on.")
    assert continuity(turns(line(1), GO_ON, again, GO_ON, line(2), GO_ON, line(3))) == []


def test_a_call_that_never_got_to_a_line_is_not_whole() -> None:
    assert continuity(turns(("bot", "Hello."))) == ["no numbered line was said"]


def record(drops: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "epoch_ms": 1_000_000.0,
        "drops": [{"at_epoch_ms": 1_000_000.0 + drop["at_ms"], **drop} for drop in drops],
        "utterances": [
            {"start_ms": 4000.0, "end_ms": 5000.0, "cut": False},
            {"start_ms": 9000.0, "end_ms": 10_000.0, "cut": False},
        ],
        "bot_spurts": [{"start_ms": 500.0, "end_ms": 3000.0}, {"start_ms": 5500.0, "end_ms": 8000.0}],
    }


def test_the_phase_of_a_drop_is_what_the_call_was_doing() -> None:
    call = record([])
    found = [phase_of(call, at, ()) for at in (300.0, 6000.0, 8500.0, 9500.0)]
    assert found == ["before_first_turn", "bot_speaking", "between", "caller_speaking"]


def test_a_drop_before_the_bot_is_heard_again_hits_the_return() -> None:
    assert phase_of(record([]), 7000.0, [{"at_ms": 6500.0, "sound_after_ms": 900.0}]) == "resuming"


def test_resume_counts_from_the_kill_and_not_from_the_drop() -> None:
    call = record([{"at_ms": 6000.0, "sound_after_ms": 800.0}])
    (hit,) = hits(call, [1_005_990.0])
    assert hit.resume_ms == 810.0
    assert hit.phase == "bot_speaking"


def test_of_two_kills_before_the_next_sound_only_the_last_is_timed() -> None:
    call = record([{"at_ms": 6000.0, "sound_after_ms": 1500.0}, {"at_ms": 6700.0, "sound_after_ms": 800.0}])
    first, second = hits(call, [1_006_000.0 - 10, 1_006_700.0 - 10])
    assert first.resume_ms is None
    assert second.resume_ms == 810.0


def test_a_drop_that_no_kill_explains_is_not_counted() -> None:
    assert hits(record([{"at_ms": 6000.0, "sound_after_ms": 800.0}]), [900_000.0]) == []


def test_a_bot_that_breaks_off_for_nobody_made_a_false_start() -> None:
    call = {
        "bot_spurts": [{"start_ms": 0.0}, {"start_ms": 3000.0}, {"start_ms": 9000.0}],
        "utterances": [{"start_ms": 5000.0}],
    }
    assert breaks(call) == 1
