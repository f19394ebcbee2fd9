"""Booked calls in any order of claims, deaths, lost answers, cancellations and changes: no call is dialled twice.

The model is the carrier: it knows which calls were dialled. Nodes act on claims as the dialer does: only while their
lease lasts, and after a look at the carrier's list where the call was claimed before.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from infra.database.due import DueStore
from infra.database.opt_outs import OptOuts
from infra.database.pool import pool
from infra.database.schedule_records import Due, NotChangeable, Repeat, Retries
from infra.database.schedules import ScheduleStore
from scheduler.calendar import next_call
from tests.doubles.customer import Customer, booking, customer

AHEAD, SOON, NOTHING = dt.timedelta(minutes=5), dt.timedelta(milliseconds=500), dt.timedelta()
LEASE, MISSED = dt.timedelta(seconds=30), dt.timedelta(minutes=5)
RARELY = st.integers(0, 9).map(lambda drawn: drawn == 9)
SOMETIMES = st.integers(0, 2).map(lambda drawn: drawn == 2)
ACTIVE = ("pending", "holding", "held", "dialing")


@dataclass
class Claim:
    """What a node holds in its hands, as long as it lives and its lease lasts."""

    store: DueStore
    due: Due
    seen: bool = False  # in the carrier's list, right after the claim
    lasts: bool = True


class Booked(RuleBasedStateMachine):
    """Two nodes, one customer, one carrier."""

    runner: asyncio.Runner
    connections: asyncpg.Pool
    one: Customer

    def __init__(self) -> None:
        super().__init__()
        self.wait(self.connections.execute(
            "truncate scheduled_calls, scheduled_attempts, scheduled_leftovers, opt_outs, calls cascade"))  # fmt: skip
        self.schedules, self.outs = ScheduleStore(self.connections), OptOuts(self.connections)
        self.nodes = [DueStore(self.connections, name, lease=LEASE, missed=MISSED) for name in ("n1", "n2")]
        self.holding: list[Claim] = []
        self.dialing: list[Claim] = []
        self.dials: Counter[str] = Counter()
        for repeats in (False, True, False):
            self.book(repeats=repeats, times=2)
        self.prepare(node=0)

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def rows(self, *states: str) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = self.wait(self.connections.fetch(
            "select * from scheduled_calls where state = any($1) order by id", list(states)))  # fmt: skip
        return found

    def some(self, rows: list[Any], place: int) -> Any:
        return rows[place % len(rows)] if rows else None

    # -- people

    @rule(repeats=st.booleans(), times=st.integers(0, 2))
    def book(self, repeats: bool, times: int) -> None:
        now = dt.datetime.now(dt.UTC)
        row = booking(
            self.one, now, repeat=Repeat("day") if repeats else None, retries=Retries(busy=times, spacing_minutes=5)
        )
        self.wait(self.schedules.insert(self.one.user, [row]))

    @rule(place=st.integers(0, 9), only_this=st.booleans(), really=SOMETIMES)
    def cancel(self, place: int, only_this: bool, really: bool) -> None:
        row = self.some(self.rows(*ACTIVE, "dialed", "done", "missed"), place)
        if row is None or not really:
            return
        try:
            self.wait(self.schedules.cancel(self.one.user, row["id"], only_this=only_this))
        except NotChangeable:
            assert row["state"] not in ("pending", "holding", "held")
        else:
            assert row["state"] in ("pending", "holding", "held")

    @rule(place=st.integers(0, 9), really=SOMETIMES)
    def change(self, place: int, really: bool) -> None:
        row = self.some(self.rows(*ACTIVE), place)
        if row is None or not really:
            return
        later = booking(self.one, dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1))
        with contextlib.suppress(NotChangeable):
            self.wait(self.schedules.change(self.one.user, row["id"], later))

    @rule(really=RARELY)
    def stop_calls(self, really: bool) -> None:
        if not really:
            return
        self.wait(self.outs.stop(self.one.digest, "voice"))
        assert not self.rows("pending", "holding", "held")

    # -- nodes

    @rule(node=st.integers(0, 1), most=st.integers(1, 3))
    def claim_holds(self, node: int, most: int) -> None:
        store = self.nodes[node]
        self.holding += [Claim(store, due) for due in self.wait(store.claim_holds(most, AHEAD))]

    @precondition(lambda self: self.holding)
    @rule(place=st.integers(0, 9), how=st.sampled_from(["held", "held", "drop", "later", "die"]))
    def end_hold(self, place: int, how: str) -> None:
        claim = self.holding.pop(place % len(self.holding))
        match how:
            case "held":
                self.wait(claim.store.held(claim.due))
            case "drop":
                self.wait(claim.store.drop(claim.due, "card-declined", "The card was declined."))
            case "later":
                self.wait(claim.store.hold_later(claim.due, NOTHING))

    @rule(node=st.integers(0, 1))
    def prepare(self, node: int) -> None:
        store = self.nodes[node]
        for due in self.wait(store.claim_holds(10, AHEAD)):
            self.wait(store.held(due))

    @rule(node=st.integers(0, 1), most=st.integers(1, 3))
    def claim_due(self, node: int, most: int) -> None:
        store = self.nodes[node]
        self.dialing += [self.look(store, due) for due in self.wait(store.claim_due(most, SOON))]

    @rule(node=st.integers(0, 1), how=st.sampled_from(["answer", "lost", "error", "down", "die before", "die after"]))
    def work(self, node: int, how: str) -> None:
        """What a node does in one go; of what it claimed it dials the first, the rest it has in its hands."""
        self.prepare(node)
        self.claim_due(node, 2)
        self.claim_lost(node)
        if self.dialing:
            self.dial(0, how)

    @rule(node=st.integers(0, 1))
    def claim_lost(self, node: int) -> None:
        store = self.nodes[node]
        self.dialing += [self.look(store, due) for due in self.wait(store.claim_lost(3))]

    @precondition(lambda self: self.dialing)
    @rule(
        place=st.integers(0, 9),
        how=st.sampled_from(["answer", "answer", "lost", "error", "down", "refused", "die before", "die after"]),
    )
    def dial(self, place: int, how: str) -> None:
        claim = self.dialing.pop(place % len(self.dialing))
        if claim.lasts:
            self.act(claim, how)
        else:  # it was stopped for longer than its lease: whatever it writes now must not count where others went on
            self.wait(claim.store.put_back(claim.due, NOTHING)) if how == "down" else None

    def look(self, store: DueStore, due: Due) -> Claim:
        return Claim(store, due, seen=due.again and bool(self.dials[due.call_id]))

    def act(self, claim: Claim, how: str) -> None:
        due, store = claim.due, claim.store
        if claim.seen:
            if how != "die before":
                self.wait(store.dialed(due, reconciled=True))
            return
        if how == "refused" and not due.again:
            self.wait(store.drop(due, "carrier-refused", "No such number."))
        elif how == "down":
            self.wait(store.unknown(due, NOTHING) if due.again else store.put_back(due, NOTHING))
        elif how == "error":
            self.wait(store.unknown(due, NOTHING))
        elif how in ("answer", "lost", "die after"):
            self.dials[due.call_id] += 1
            if how == "answer":
                self.wait(store.dialed(due))
            elif how == "lost":
                self.wait(store.unknown(due, NOTHING))

    @rule(seconds=st.sampled_from([31, 31, 31, 31, 361]))
    def time_passes(self, seconds: int) -> None:
        """Every lease runs out; perhaps the window, too."""
        for claim in self.holding + self.dialing:
            claim.lasts = False
        length = dt.timedelta(seconds=seconds)
        self.wait(self.connections.execute(
            "update scheduled_calls set lease_until = lease_until - $1::interval, dial_at = dial_at - $1,"
            " try_at = try_at - $1, due_at = due_at - $1", length))  # fmt: skip

    @rule(node=st.integers(0, 1))
    def sweep(self, node: int) -> None:
        store = self.nodes[node]
        self.wait(store.miss(5))
        self.wait(store.settle(5))
        for one in self.wait(store.to_continue(5)):
            coming = next_call(one.repeat, one.anchor, one.local_time, one.zone, one.at)
            self.wait(store.carry_on(one, *(coming or (None, None))))

    @rule(place=st.integers(0, 9), outcome=st.sampled_from(["busy", "completed"]))
    def call_ends(self, place: int, outcome: str) -> None:
        row = self.some(self.rows("dialed"), place)
        if row is not None:
            reason = {"completed": "bot_hung_up"}.get(outcome, outcome)
            self.wait(self.connections.execute(
                "insert into calls (id, direction, state, ended_reason, ended_at, answered_at, persona, from_number,"
                " to_number) values ($1, 'outbound', $2, $3, now(), now(), 'mia', '+1', '+2') on conflict do nothing",
                row["call_id"], outcome, reason))  # fmt: skip

    # -- what holds always

    @invariant()
    def nobody_is_dialled_twice(self) -> None:
        assert all(count == 1 for count in self.dials.values()), self.dials

    @invariant()
    def what_was_called_off_does_not_ring(self) -> None:
        for row in self.rows("canceled", "missed", "skipped", "pending", "holding"):
            assert not self.dials[row["call_id"]], dict(row)
        for row in self.wait(self.connections.fetch("select call_id from scheduled_leftovers")):
            assert not self.dials[row["call_id"]]

    @invariant()
    def what_is_said_to_be_dialled_was(self) -> None:
        for row in self.rows("dialed", "done"):
            assert self.dials[row["call_id"]] == 1, dict(row)

    def teardown(self) -> None:
        """Left in peace, every call that is still wanted is dialled, once."""
        self.holding, self.dialing = [], []
        wanted = {row["id"] for row in self.rows("holding", "held", "dialing")}
        self.wait(self.connections.execute(
            "update scheduled_calls set lease_until = now() - interval '1 second', dial_at = now(), try_at = now()"
            " where state = any($1)", ["holding", "held", "dialing"]))  # fmt: skip
        store = self.nodes[0]
        for due in self.wait(store.claim_holds(100, NOTHING)):
            self.wait(store.held(due))
        for due in (*self.wait(store.claim_due(100, SOON)), *self.wait(store.claim_lost(100))):
            self.act(self.look(store, due), "answer")
        self.nobody_is_dialled_twice()
        self.what_is_said_to_be_dialled_was()
        assert wanted <= {row["id"] for row in self.rows("dialed")}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("examples", [40, pytest.param(400, marks=pytest.mark.marathon)])
def test_no_order_of_events_dials_a_call_twice_or_loses_one(database_url: str, examples: int) -> None:
    """COM-21, CMB-34, CMB-35: claims, deaths, lost answers, cancellations, changes, retries and series."""
    with asyncio.Runner() as runner:
        opened = pool(database_url, max_size=3)
        connections = runner.run(opened.__aenter__())
        Booked.runner, Booked.connections = runner, connections
        Booked.one = runner.run(customer(connections))
        histories = settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=examples < 100,  # the same histories each time; the marathon looks for new ones
        )
        try:
            run_state_machine_as_test(Booked, settings=histories)
        finally:
            runner.run(opened.__aexit__(None, None, None))
