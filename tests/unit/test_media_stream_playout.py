"""The account of what the caller has heard, on a clock of the test's own."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transports.twilio.playout import CLEAR_MARGIN_MS, MAX_MARKS, Playout

LEAD_MS = 200.0
CHUNK_MS = 40.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def playout(clock: Clock) -> Playout:
    return Playout(LEAD_MS, clock)


def play(playout: Playout, clock: Clock, ms: float) -> list[float]:
    """Send as the transport does: each chunk as soon as it may go. Returns when each went, in seconds."""
    times = []
    for _ in range(round(ms / CHUNK_MS)):
        clock.now += max(0.0, playout.wait_seconds())
        times.append(clock.now)
        playout.sent(CHUNK_MS)
    return times


def test_the_first_chunk_goes_at_once_and_the_lead_is_built_evenly(playout: Playout, clock: Clock) -> None:
    start = clock.now
    times = play(playout, clock, 4000)
    assert times[0] == start
    gaps = [(b - a) * 1000 for a, b in pairwise(times)]
    assert min(gaps) == pytest.approx(30)  # three quarters of a chunk's length: even enough to be no jitter
    assert max(gaps) == pytest.approx(40)
    assert playout.status().outstanding_ms == pytest.approx(LEAD_MS + CHUNK_MS)


def test_a_stall_shorter_than_the_lead_is_no_underrun_and_the_lead_comes_back(playout: Playout, clock: Clock) -> None:
    play(playout, clock, 2000)
    clock.now += 0.1
    times = play(playout, clock, 2000)
    assert playout.status().underruns == 0
    assert playout.status().outstanding_ms == pytest.approx(LEAD_MS + CHUNK_MS)
    assert all(b - a > 0.029 for a, b in pairwise(times))


def test_a_stall_longer_than_the_lead_is_counted_once(playout: Playout, clock: Clock) -> None:
    play(playout, clock, 2000)
    clock.now += 0.5
    play(playout, clock, 400)
    assert playout.status().underruns == 1


def test_silence_after_an_utterance_is_no_underrun(playout: Playout, clock: Clock) -> None:
    play(playout, clock, 400)
    playout.marked("a")
    clock.now += 5
    play(playout, clock, 400)
    assert playout.status().underruns == 0


def test_an_echo_confirms_everything_up_to_its_mark(playout: Playout, clock: Clock) -> None:
    play(playout, clock, 400)
    playout.marked("a")
    play(playout, clock, 400)
    playout.marked("b")
    assert playout.echoed("b")
    assert playout.status().confirmed_ms == 800
    assert not playout.awaiting_echo
    assert not playout.echoed("a")  # late or invented: nothing new
    assert playout.status().confirmed_ms == 800


def test_a_clear_is_sent_for_outstanding_audio_only_once(playout: Playout, clock: Clock) -> None:
    assert not playout.clear()
    play(playout, clock, 400)
    assert playout.clear()
    assert not playout.clear()
    assert playout.status().outstanding_ms == 0


def test_audio_that_should_be_over_is_still_cleared_within_the_margin(playout: Playout, clock: Clock) -> None:
    """It plays later than we think, by the way to Twilio."""
    play(playout, clock, 400)
    clock.now = playout.ends_at + CLEAR_MARGIN_MS / 1000 - 0.01
    assert playout.clear()
    play(playout, clock, 400)
    clock.now = playout.ends_at + CLEAR_MARGIN_MS / 1000 + 0.01
    assert not playout.clear()


def test_confirmed_audio_is_not_cleared(playout: Playout, clock: Clock) -> None:
    play(playout, clock, 400)
    playout.marked("a")
    playout.echoed("a")
    assert not playout.clear()


def test_marks_that_a_clear_overtook_prove_nothing(playout: Playout, clock: Clock) -> None:
    play(playout, clock, 40)
    playout.marked("played")
    clock.now = playout.ends_at
    play(playout, clock, 400)
    playout.marked("cut")
    assert playout.clear()
    assert playout.echoed("played")
    assert not playout.echoed("cut")
    assert playout.status().confirmed_ms == 40


def test_after_a_clear_new_speech_goes_at_once(playout: Playout, clock: Clock) -> None:
    play(playout, clock, 4000)
    playout.clear()
    assert playout.wait_seconds() <= 0


def test_protected_audio_is_not_cleared(playout: Playout, clock: Clock) -> None:
    playout.sent(CHUNK_MS, protected=True)
    assert not playout.clear()
    clock.now = playout.ends_at
    assert playout.clear()


def test_a_peer_that_never_echoes_costs_no_memory(playout: Playout, clock: Clock) -> None:
    for number in range(3 * MAX_MARKS):
        playout.sent(CHUNK_MS)
        playout.marked(str(number))
        clock.now += CHUNK_MS / 1000
    assert playout.status().pending_marks == MAX_MARKS


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.floats(0.1, 100)),
        st.tuples(st.just("mark"), st.integers(0, 5).map(str)),
        st.tuples(st.just("echo"), st.integers(0, 5).map(str)),
        st.tuples(st.just("clear"), st.none()),
        st.tuples(st.just("wait"), st.floats(0, 1)),
    ),
    max_size=60,
)


@given(STEPS)
def test_the_account_always_adds_up(steps: list[tuple[str, object]]) -> None:
    """Whatever a peer echoes: nothing is confirmed that was not sent, and positions never go back."""
    clock = Clock()
    playout = Playout(LEAD_MS, clock)
    confirmed = 0.0
    for kind, value in steps:
        if kind == "send":
            assert isinstance(value, float)
            playout.sent(value)
        elif kind == "mark":
            playout.marked(str(value))
        elif kind == "echo":
            playout.echoed(str(value))
        elif kind == "clear":
            playout.clear()
        else:
            assert isinstance(value, float)
            clock.now += value
        status = playout.status()
        assert confirmed <= status.confirmed_ms <= status.sent_ms + 0.001
        assert status.cleared_ms <= status.sent_ms + 0.001
        assert 0 <= status.outstanding_ms <= status.sent_ms - status.cleared_ms + 0.01
        confirmed = status.confirmed_ms
