"""The state machine of holds in a world of bad luck, against a real database: whatever happens in whatever order,
the books balance, nothing is taken twice, and in the end everybody agrees.

Hypothesis chooses what happens and shrinks what goes wrong; `main.py bench money` does a million operations more.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import asyncpg
import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from infra.database.pool import open_pool
from tests.doubles.money_world import BOUNDARIES, World
from tests.doubles.processor import FAULTS

T = TypeVar("T")
LUCK = st.fixed_dictionaries(
    {
        "faults": st.lists(st.sampled_from(("", *FAULTS)), max_size=3),
        "steps": st.none() | st.integers(0, BOUNDARIES),
    }
)
WHICH = st.integers(0, 3)
# Each example begins with empty books, which the triggers that guard them would not allow.
EMPTY = """
set session_replication_role = replica;
delete from refunds; delete from holds; delete from ledger_entries; delete from ledger_transactions;
delete from spend_days; delete from payment_methods; delete from customers;
set session_replication_role = origin;
"""
Luck = dict[str, Any]


class Payments(RuleBasedStateMachine):
    """Up to four calls of two users, to which everything happens."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.pool: asyncpg.Pool = self.run(open_pool(f"{self.url}&synchronous_commit=off", min_size=1, max_size=2))
        self.run(self.pool.execute(EMPTY))
        self.world = World(self.pool, users=2, window=4)
        self.run(self.world.open())

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)

    def call(self, which: int) -> tuple[str, str]:
        return self.world.calls[which % len(self.world.calls)]

    @initialize(minutes=st.sampled_from((1, 15)))
    def first_call(self, minutes: int) -> None:
        """A call that is held without trouble."""
        self.run(self.world.hold(self.world.new_call(random.Random(0)), minutes))

    @precondition(lambda self: len(self.world.calls) < 4)
    @rule(luck=LUCK, minutes=st.sampled_from((1, 15, 60)), seed=st.integers(0, 20))
    def another_call(self, luck: Luck, minutes: int, seed: int) -> None:
        """Somebody else is called, with whatever card they have by now."""
        self.run(self.world.hold(self.world.new_call(random.Random(seed)), minutes, **luck))

    @rule(which=WHICH, luck=LUCK)
    def hold_again(self, which: int, luck: Luck) -> None:
        """Whoever did not learn whether it is held asks again."""
        self.run(self.world.hold(self.call(which), 15, **luck))

    @rule(which=WHICH, seconds=st.sampled_from((0.0, 10.0, 60.0, 61.0, 4000.0)), fault=st.booleans(), luck=LUCK)
    def settle(self, which: int, seconds: float, fault: bool, luck: Luck) -> None:
        """The call is over; whoever settles it may differ about how long it was."""
        self.run(self.world.settle(self.call(which), seconds, fault, **luck))

    @rule(which=WHICH, luck=LUCK)
    def release(self, which: int, luck: Luck) -> None:
        """The call came to nothing."""
        self.run(self.world.release(self.call(which), **luck))

    @rule(which=WHICH, cents=st.none() | st.integers(1, 120), key=st.sampled_from("ab"), luck=LUCK)
    def refund(self, which: int, cents: int | None, key: str, luck: Luck) -> None:
        """Support gives some of it back."""
        self.run(self.world.refund(self.call(which), cents, key, **luck))

    @rule(seed=st.integers(0, 1000), count=st.integers(1, 4), luck=LUCK)
    def webhooks(self, seed: int, count: int, luck: Luck) -> None:
        """Some events come, each three times, in any order, old ones too."""
        self.run(self.world.deliver(random.Random(seed), count, **luck))

    @rule(which=WHICH, what=st.sampled_from(("expire", "cancel", "refund", "bounce")), cents=st.integers(1, 65))
    def elsewhere(self, which: int, what: str, cents: int) -> None:
        """The network forgets the hold, or a person acts at the processor."""
        self.world.elsewhere(self.call(which), what, cents)

    @rule(count=st.none() | st.integers(1, 2))
    def late_requests_arrive(self, count: int | None) -> None:
        """What was sent long ago is done now."""
        self.world.arrive(count)

    @rule(luck=LUCK)
    def reconcile(self, luck: Luck) -> None:
        """Somebody looks after what is unfinished."""
        self.run(self.world.reconcile(**luck))

    @invariant()
    def the_books_balance(self) -> None:
        """COM-38: and say what the holds say, at every moment."""
        assert self.run(self.world.imbalance()) == 0

    @invariant()
    def nothing_is_taken_twice(self) -> None:
        """CMB-54, CMB-55: nor more than was held, nor more given back than taken."""
        assert self.world.model.double_captures() == []
        assert self.world.model.overpaid() == []

    def teardown(self) -> None:
        """COM-39, CMB-60: luck is good at last, and everything comes to one state."""
        try:
            assert self.run(self.world.finish()) == []
        finally:
            self.run(self.pool.close())
            self.runner.close()


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Bad luck is logged, and there is a lot of it."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.configure(**before)


@pytest.mark.timeout(300)
def test_money_survives_everything(database_url: str) -> None:
    """COM-38, COM-39, CMB-54, CMB-60: crashes at any boundary, lost and late answers, repeated and shuffled events."""
    machine = type("PaymentsHere", (Payments,), {"url": database_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=80,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


async def test_a_thousand_operations_of_many_at_a_time_agree(database_url: str) -> None:
    """COM-38, CMB-54: tasks that race for the same calls."""
    pool = await open_pool(database_url, min_size=4, max_size=6)
    try:
        world = World(pool, users=3, window=5)
        await world.open()

        async def live(seed: int) -> None:
            order = random.Random(seed)
            while world.operations < 1000:
                await world.step(order)

        await asyncio.gather(*(live(seed) for seed in range(5)))
        assert await world.finish() == []
        assert world.errors["crash"] > 0
        assert world.operations >= 1000
    finally:
        await pool.close()
