"""Random histories of a call, played on PostgreSQL and on the plain table side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from infra.database.call_records import Call, IllegalTransition, StaleEpoch, TicketRefused
from infra.database.call_states import CARRIER_STATUSES, FITTING, ORDER, TERMINAL, Reason, Situation, State, move
from infra.database.calls import CallStore
from infra.database.pool import pool

REQUESTS: list[tuple[State, Reason | None]] = [(state, None) for state in ORDER[:-1]] + [
    (state, reason) for state, reasons in FITTING.items() for reason in sorted(reasons)
]


class History(RuleBasedStateMachine):
    """One call; `self.now`, `self.epoch` and the like are what the database must agree with."""

    def __init__(self, runner: asyncio.Runner, store: CallStore) -> None:
        super().__init__()
        self.runner = runner
        self.store = store
        self.now = Situation()
        self.epoch = self.ticket = self.used = self.turns = 0
        self.keys: set[str] = set()
        self.call: Call = self.wait(store.create("inbound", "mia", "+1", "+2"))

    def wait(self, doing: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(doing)

    @rule(request=st.sampled_from(REQUESTS), behind=st.integers(0, 1) | st.none())
    def advance(self, request: tuple[State, Reason | None], behind: int | None) -> None:
        to, reason = request
        epoch = None if behind is None else self.epoch - behind
        then = move(self.now, to, reason)
        doing = self.store.advance(self.call.id, to, reason=reason, epoch=epoch)
        if behind:
            with pytest.raises(StaleEpoch):
                self.wait(doing)
        elif then is None:
            with pytest.raises(IllegalTransition):
                self.wait(doing)
        else:
            self.wait(doing)
            self.now = then

    @rule(status=st.sampled_from(sorted(CARRIER_STATUSES)), key=st.integers(0, 9).map(str))
    def carrier(self, status: str, key: str) -> None:
        self.wait(self.store.carrier_event(self.call.id, key, status))
        if key not in self.keys:
            self.keys.add(key)
            self.now = move(self.now, *CARRIER_STATUSES[status]) or self.now

    @rule()
    def ticket_is_issued(self) -> None:
        if self.now.state in TERMINAL or self.now.state is State.ENDING:
            with pytest.raises(TicketRefused):
                self.wait(self.store.issue_ticket(self.call.id))
        else:
            self.ticket += 1
            assert self.wait(self.store.issue_ticket(self.call.id)) == self.ticket

    @rule(older=st.integers(0, 2))
    def claim(self, older: int) -> None:
        good = older == 0 and self.ticket > self.used
        doing = self.store.claim(self.call.id, self.ticket - older, "node", "host")
        if good and self.now.state not in TERMINAL and self.now.state is not State.ENDING:
            claim = self.wait(doing)
            self.used, self.epoch = self.ticket, self.epoch + 1
            assert claim.call.epoch == self.epoch
            assert len(claim.turns) == self.turns
        else:
            with pytest.raises(TicketRefused):
                self.wait(doing)

    @precondition(lambda self: self.epoch > 0)
    @rule(behind=st.integers(0, 1), bot=st.booleans(), again=st.booleans())
    def turn(self, behind: int, bot: bool, again: bool) -> None:
        number, epoch = self.turns + 1, self.epoch - behind

        def writing() -> Coroutine[Any, Any, None]:
            if bot:
                return self.store.replying(self.call.id, epoch, number, "words")
            return self.store.heard(self.call.id, epoch, number, "words")

        if behind:
            with pytest.raises(StaleEpoch):
                self.wait(writing())
            return
        for _ in range(2 if again else 1):
            self.wait(writing())
        self.turns = number

    @invariant()
    def both_agree(self) -> None:
        before, self.call = self.call, self.wait(self.store.get(self.call.id))
        call = self.call
        assert (call.state, call.ended_reason, call.ending_reason) == (
            self.now.state, self.now.ended_reason, self.now.ending_reason,
        )  # fmt: skip
        assert (call.answered_at is not None) == self.now.answered
        assert (call.epoch, call.ticket, call.turns) == (self.epoch, self.ticket, self.turns)
        if before.over:
            assert (call.state, call.ended_reason, call.ended_at) == (
                before.state, before.ended_reason, before.ended_at,
            )  # fmt: skip

    def teardown(self) -> None:
        events = self.wait(self.store.events(self.call.id))
        assert [event.seq for event in events] == list(range(1, self.call.seq + 1))
        ends = [event for event in events if event.kind == "state" and event.data["state"] in TERMINAL]
        assert len(ends) == (1 if self.call.over else 0)
        assert [turn.number for turn in self.wait(self.store.turns(self.call.id))] == list(range(1, self.turns + 1))


@pytest.mark.heavy
def test_the_database_follows_the_table_through_any_history(database_url: str) -> None:
    """COM-13, COM-15, COM-46."""
    with asyncio.Runner() as runner:
        opened = pool(database_url, max_size=2)
        store = CallStore(runner.run(opened.__aenter__()))

        class Here(History):
            def __init__(self) -> None:
                super().__init__(runner, store)

        histories = settings(
            max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        )
        try:
            run_state_machine_as_test(Here, settings=histories)
        finally:
            runner.run(opened.__aexit__(None, None, None))
