"""What may become of a call, over the plain table of transitions."""

from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from infra.database.call_states import (
    CARRIER_STATUSES,
    FAULTS,
    FITTING,
    ORDER,
    ORDINARY,
    REJECTIONS,
    TERMINAL,
    TRANSITIONS,
    Reason,
    Situation,
    State,
    move,
    moves,
    outcome,
)
from infra.ids import new_id, uuid7

Request = tuple[State, Reason | None]

REQUESTS: list[Request] = [(state, None) for state in ORDER[:-1]] + [
    (state, reason) for state, reasons in FITTING.items() for reason in sorted(reasons)
]
requests = st.sampled_from(REQUESTS)


class CallLife(RuleBasedStateMachine):
    """A call under whatever comes: late, repeated, shuffled and out of nowhere."""

    def __init__(self) -> None:
        super().__init__()
        self.now = Situation()
        self.seen = [self.now]
        self.crashed_alive = False

    def ask(self, to: State, reason: Reason | None) -> None:
        if reason in FAULTS and to is State.FAILED and self.now.state not in TERMINAL:
            self.crashed_alive = True
        then = move(self.now, to, reason)
        if then is not None:
            self.now = then
            self.seen.append(then)

    @rule(request=requests)
    def something_happens(self, request: Request) -> None:
        self.ask(*request)

    @rule(status=st.sampled_from(sorted(CARRIER_STATUSES)))
    def the_carrier_says(self, status: str) -> None:
        self.ask(*CARRIER_STATUSES[status])

    @rule(request=requests, times=st.integers(2, 3))
    def it_is_said_again(self, request: Request, times: int) -> None:
        for _ in range(times):
            self.ask(*request)

    @invariant()
    def it_ends_at_most_once_for_one_reason(self) -> None:
        ends = [situation for situation in self.seen if situation.state in TERMINAL]
        assert len(ends) <= 1
        assert [situation.ended_reason is not None for situation in self.seen] == [
            situation.state in TERMINAL for situation in self.seen
        ]
        if ends:
            assert self.now is ends[0]

    @invariant()
    def the_end_is_true(self) -> None:
        reason = self.now.ended_reason
        if reason is None:
            return
        assert self.now.state is outcome(reason, self.now.answered)
        assert (self.now.state is State.FAILED) == (reason in FAULTS)
        assert not (self.crashed_alive and self.now.state is State.COMPLETED)
        was_answered = any(situation.answered for situation in self.seen[:-1])
        if was_answered:
            assert self.now.state in {State.COMPLETED, State.VOICEMAIL, State.FAILED}

    @invariant()
    def it_only_moves_forward(self) -> None:
        ranks = [ORDER.index(situation.state) for situation in self.seen if situation.state in ORDER]
        assert ranks == sorted(set(ranks))


TestCallLife = CallLife.TestCase
TestCallLife.settings = settings(max_examples=200, stateful_step_count=20, deadline=None)
TestCallLife.__doc__ = "COM-13."


@given(st.lists(requests, max_size=12), requests)
@settings(deadline=None)
def test_any_history_can_be_ended_and_then_stands(history: list[Request], late: Request) -> None:
    """COM-13: whatever was lost before, a fault or a hang-up ends the call."""
    for end in ((State.FAILED, Reason.HOST_LOST), (State.CANCELED, Reason.OPERATOR)):
        now = Situation()
        for request in (*history, end):
            now = move(now, *request) or now
        assert now.state in TERMINAL
        assert move(now, *late) is None


def test_carrier_events_end_alike_in_every_order() -> None:
    """COM-46: and with any of them lost but the last."""
    for last, state in (("completed", State.COMPLETED), ("busy", State.BUSY), ("failed", State.FAILED)):
        before = ("initiated", "ringing") + (("in-progress",) if last == "completed" else ())
        for kept in range(len(before) + 1):
            for order in permutations((*before[:kept], last)):
                now = Situation()
                for status in order * 3:
                    now = move(now, *CARRIER_STATUSES[status]) or now
                assert now.state is state


def test_the_reason_to_end_stands_when_the_carrier_confirms() -> None:
    for answered, state in ((True, State.COMPLETED), (False, State.CANCELED)):
        ending = Situation(State.ENDING, answered, Reason.OPERATOR)
        over = move(ending, State.CANCELED, Reason.CANCELED)
        assert over is not None
        assert (over.state, over.ended_reason) == (state, Reason.OPERATOR)


def test_a_fault_that_began_the_end_is_not_excused_by_the_carrier() -> None:
    over = move(Situation(State.ENDING, True, Reason.PIPELINE_ERROR), State.COMPLETED, Reason.CALLER_HUNG_UP)
    assert over is not None
    assert (over.state, over.ended_reason) == (State.FAILED, Reason.PIPELINE_ERROR)


def test_a_call_that_was_answered_is_never_unanswered() -> None:
    for state in (State.BUSY, State.NO_ANSWER):
        assert move(Situation(State.IN_PROGRESS, True), state, Reason(state)) is None
    assert move(Situation(State.IN_PROGRESS, True), State.REJECTED, Reason.REJECTED_FUNDS) is None


@pytest.mark.parametrize(("to", "reason"), [(State.COMPLETED, Reason.HOST_LOST), (State.ENDING, None)])
def test_a_reason_that_does_not_fit_is_the_caller_s_mistake(to: State, reason: Reason | None) -> None:
    with pytest.raises(ValueError, match="cannot become"):
        move(Situation(), to, reason)
    with pytest.raises(ValueError, match="takes no reason"):
        move(Situation(), State.RINGING, Reason.IDLE)


def test_every_reason_has_one_end_and_every_end_a_reason() -> None:
    own = {Reason.BUSY, Reason.NO_ANSWER, Reason.VOICEMAIL, Reason.CANCELED}
    assert ORDINARY | FAULTS | REJECTIONS | own == frozenset(Reason)
    assert {outcome(reason, answered) for reason in Reason for answered in (True, False)} == TERMINAL
    assert all(not TRANSITIONS[state] for state in TERMINAL)


@given(requests)
@settings(deadline=None)
def test_what_the_database_looks_up_is_what_the_table_says(request: Request) -> None:
    table = moves(*request)
    assert not any(key.split(":")[0] in TERMINAL for key in table)
    for state in ORDER:
        reasons = tuple(Reason) if state is State.ENDING else (None,)
        for answered in (False, True) if state is State.ENDING else (state is State.IN_PROGRESS,):
            for reason in reasons:
                now = Situation(state, answered, reason)
                then = move(now, *request)
                found = table.get(now.key)
                assert (found is None) == (then is None)
                assert then is None or found == {
                    "state": then.state,
                    "answered": then.answered,
                    "ending": then.ending_reason,
                    "ended": then.ended_reason,
                }


def test_ids_are_uuid7_and_sort_by_time() -> None:
    early, late = uuid7(0x0123456789AB), uuid7(0x0123456789AC)
    assert (early.version, early.variant, early.int >> 80) == (7, "specified in RFC 4122", 0x0123456789AB)
    assert early.hex < late.hex
    assert new_id("call").startswith("call_")
    assert len({new_id("call") for _ in range(1000)}) == 1000
