"""Consents: one row each time, never changed, the newest counts; and the audit beside them, which nobody rewrites."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from infra.database.consents import PURPOSES, Purpose, texts
from infra.database.users import Users
from infra.identity.accounts import Where
from tests.doubles.household import HERE, Household, household


@pytest_asyncio.fixture
async def home(database_url: str) -> AsyncIterator[Household]:
    async with household(database_url) as opened:
        yield opened


async def test_only_what_was_agreed_to_is_held(home: Household) -> None:
    """COM-49, CMB-08: recording and transcripts are off until somebody turns them on."""
    user, _ = await home.person(agreed={"service": True})
    held = await home.identity.consents.holding(user.id)
    assert held == dict.fromkeys(PURPOSES, False) | {"service": True}
    assert not await home.identity.consents.allowed(user.id, "recording")
    await home.identity.accounts.consent(user.id, "recording", True, HERE)
    assert await home.identity.consents.allowed(user.id, "recording")
    await home.identity.accounts.consent(user.id, "recording", False, HERE)
    assert not await home.identity.consents.allowed(user.id, "recording")


async def test_each_consent_says_when_from_where_and_to_which_text(home: Household) -> None:
    """COM-49: version, time, address and channel; the audit has it, too."""
    user, _ = await home.person()
    given = await home.identity.accounts.consent(user.id, "transcripts", True, Where("voice", "2001:db8::7"))
    assert (given.purpose, given.granted, given.channel, given.ip) == ("transcripts", True, "voice", "2001:db8::7")
    assert given.text_version == texts()["transcripts"].version
    assert [one.purpose for one in await home.identity.consents.history(user.id)] == ["transcripts", "service"]
    assert (await home.actions(user))[-1] == "consent.given"


@pytest.mark.parametrize(
    "act",
    [
        "update consents set granted = not granted",
        "delete from consents",
        "update audit set actor = 'nobody'",
        "delete from audit",
        "update erasures set owner = owner",
        "delete from erasures",
    ],
)
async def test_no_consent_audit_row_or_receipt_is_ever_changed(home: Household, act: str) -> None:
    """COM-49, COM-51, COM-54: whichever program asks, the table refuses."""
    user, _ = await home.person()
    gone, _ = await home.person()
    await home.identity.accounts.erase(gone.id)
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await home.pool.execute(act)
    async with home.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("select set_config('ringdown.erasing', $1, true)", gone.id)
        with pytest.raises(asyncpg.RaiseError, match="append-only"):  # nor in the name of somebody else's erasure
            await connection.execute(act)
        await transaction.rollback()
    assert await home.identity.consents.allowed(user.id, "service")


def test_every_purpose_has_a_text_in_every_language() -> None:
    """COM-49, COM-69."""
    for text in texts().values():
        assert set(text.text) == {"en", "tr", "ko"}
        assert all(len(words) > 15 for words in text.text.values())
    assert len({text.version for text in texts().values()}) == len(PURPOSES)


async def test_a_changed_audit_row_is_found_out(home: Household) -> None:
    """COM-54: by the chain, even when the table's own guard was switched off."""
    for _ in range(4):
        await home.person()
    assert await home.identity.audit.broken() is None
    for act, broken in (
        ("update audit set action = 'nothing' where seq = 2", 2),
        ("update audit set context = '{\"adult\": true}' where seq = 3", 3),
        ("update audit set at = at + interval '1 microsecond' where seq = 1", 1),
        ("delete from audit where seq = 2", 3),
        ("update audit set hash = sha256('x') where seq = 4", 4),
    ):
        async with home.pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await connection.execute("alter table audit disable trigger audit_stands")
            await connection.execute(act)
            found = await connection.fetchval(broken_query())
            await transaction.rollback()
        assert found == broken, act
    assert await home.identity.audit.broken() is None


def broken_query() -> str:
    """The statement that checks the chain, to be run inside the tampering transaction."""
    from infra.database import audit

    return audit._SQL.broken


async def test_audit_rows_written_at_once_make_one_chain(home: Household) -> None:
    """COM-54: no gap, no fork."""
    await asyncio.gather(*(home.identity.audit.note("server", "test", None, {"n": n}) for n in range(40)))
    rows = await home.pool.fetch("select seq, previous, hash from audit order by seq")
    assert [row["seq"] for row in rows] == list(range(1, 41))
    assert all(row["previous"] == before["hash"] for before, row in itertools.pairwise(rows))
    assert await home.identity.audit.broken() is None


async def test_the_oldest_audit_rows_may_go_when_their_time_is_over(home: Household) -> None:
    """COM-54: 400 days; what is left still proves itself."""
    for _ in range(3):
        await home.person()
    async with home.pool.acquire() as connection, connection.transaction():
        await connection.execute("select set_config('ringdown.retention', 'audit', true)")
        await connection.execute("delete from audit where seq < 3")
    assert await home.identity.audit.broken() is None


class Consenting(RuleBasedStateMachine):
    """Two people who change their minds, beside a plain account of what each agrees to."""

    def __init__(self, runner: asyncio.Runner, home: Household) -> None:
        super().__init__()
        self.runner, self.home = runner, home
        self.held: dict[str, dict[Purpose, bool]] = {}
        self.said = 0

    def wait(self, doing: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(doing)

    @initialize()
    def arrive(self) -> None:
        for _ in range(2):
            user = self.wait(Users(self.home.pool).create(None, None))
            self.held[user.id] = dict.fromkeys(PURPOSES, False)

    @rule(who=st.integers(0, 1), purpose=st.sampled_from(PURPOSES), granted=st.booleans())
    def say(self, who: int, purpose: Purpose, granted: bool) -> None:
        owner = list(self.held)[who]
        self.wait(self.home.identity.accounts.consent(owner, purpose, granted, HERE))
        self.held[owner][purpose] = granted
        self.said += 1

    @rule(who=st.integers(0, 1), said=st.lists(st.tuples(st.sampled_from(PURPOSES), st.booleans()), max_size=3))
    def say_and_take_it_back_in_one_breath(self, who: int, said: list[tuple[Purpose, bool]]) -> None:
        owner = list(self.held)[who]

        async def all_in_one_transaction() -> None:
            async with self.home.pool.acquire() as connection, connection.transaction():
                for purpose, granted in said:
                    await self.home.identity.consents.give(owner, purpose, granted, channel="api", database=connection)

        self.wait(all_in_one_transaction())
        self.held[owner].update(said)
        self.said += len(said)

    @invariant()
    def what_holds_is_what_was_said_last(self) -> None:
        for owner, held in self.held.items():
            assert self.wait(self.home.identity.consents.holding(owner)) == held

    def teardown(self) -> None:
        kept = sum(len(self.wait(self.home.identity.consents.history(owner))) for owner in self.held)
        assert kept == self.said
        assert self.wait(self.home.identity.audit.broken()) is None


@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=pytest.mark.heavy)])
def test_whatever_people_say_the_last_word_of_each_counts(database_url: str, examples: int) -> None:
    """COM-49: in any order, many times over, and nothing of it is lost."""
    with asyncio.Runner() as runner:
        opened = household(database_url)
        home = runner.run(opened.__aenter__())

        class Here(Consenting):
            def __init__(self) -> None:
                super().__init__(runner, home)

        histories = settings(
            max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        )
        try:
            run_state_machine_as_test(Here, settings=histories)
        finally:
            runner.run(opened.__aexit__(None, None, None))
