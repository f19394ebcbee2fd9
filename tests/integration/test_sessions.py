"""Sessions: proven for minutes, refreshed once by each token, and over everywhere within a second."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule, run_state_machine_as_test

from infra.database.sessions import BELIEVED_SECONDS, Opened, RefreshRefused, RefreshReused, SessionStore
from infra.database.users import Users
from infra.identity.tokens import Tokens
from infra.settings import Accounts
from infra.vault import token_secret
from tests.doubles.household import Household, household


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def home(database_url: str) -> AsyncIterator[Household]:
    async with household(database_url) as opened:
        yield opened


def another_node(home: Household, clock: Clock) -> SessionStore:
    """The sessions as another node sees them, which has asked nothing yet."""
    told = home.settings.accounts
    return SessionStore(home.pool, Tokens(token_secret(home.settings), told.access_seconds), told, clock)


async def test_a_refresh_token_works_once_and_brings_the_next(home: Household) -> None:
    """COM-26: rotation; the session goes on, seven days from now, thirty from its start at most."""
    _, first = await home.person()
    second = await home.identity.sessions.refresh(first.refresh_token)
    third = await home.identity.sessions.refresh(second.refresh_token)
    assert third.session.id == first.session.id
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3
    assert third.session.idle_until - third.session.used_at == dt.timedelta(days=7)
    assert third.session.expires_at - third.session.created_at == dt.timedelta(days=30)
    assert await home.identity.sessions.authenticate(third.access_token)


async def test_a_used_refresh_token_ends_the_session_for_whoever_holds_it(home: Household) -> None:
    """COM-26: reuse is found out, both holders are out, and the audit says so."""
    user, first = await home.person()
    second = await home.identity.sessions.refresh(first.refresh_token)
    with pytest.raises(RefreshReused):
        await home.identity.sessions.refresh(first.refresh_token)
    assert await home.identity.sessions.authenticate(second.access_token) is None
    with pytest.raises(RefreshRefused):
        await home.identity.sessions.refresh(second.refresh_token)
    assert "session.reused" in await home.actions(user)


async def test_of_two_who_use_one_refresh_token_at_once_none_keeps_the_session(home: Household) -> None:
    """COM-26: a race is no way around it."""
    _, first = await home.person()
    outcomes = await asyncio.gather(
        *(home.identity.sessions.refresh(first.refresh_token) for _ in range(4)), return_exceptions=True
    )
    good = [one for one in outcomes if isinstance(one, Opened)]
    assert len(good) == 1
    assert await home.pool.fetchval("select ended_why from sessions") == "reused"
    assert await home.identity.sessions.authenticate(good[0].access_token) is None


@pytest.mark.parametrize("token", ["", "refresh_unknown", "x" * 200])
async def test_a_refresh_token_of_nobody_is_refused(home: Household, token: str) -> None:
    """COM-26."""
    with pytest.raises(RefreshRefused):
        await home.identity.sessions.refresh(token)


@pytest.mark.parametrize("column", ["idle_until", "expires_at"])
async def test_a_session_that_was_left_alone_or_is_old_is_over(home: Household, column: str) -> None:
    """COM-26: seven days without use, thirty in all."""
    _, opened = await home.person()
    await home.pool.execute(f"update sessions set {column} = now() - interval '1 second'")  # noqa: S608
    assert await another_node(home, Clock()).authenticate(opened.access_token) is None
    with pytest.raises(RefreshRefused):
        await home.identity.sessions.refresh(opened.refresh_token)
    assert await home.identity.sessions.live(opened.session.owner) == ()


async def test_a_refresh_token_of_more_than_thirty_days_is_refused(home: Household) -> None:
    """COM-26."""
    _, opened = await home.person()
    await home.pool.execute("update refresh_tokens set expires_at = now() - interval '1 second'")
    with pytest.raises(RefreshRefused):
        await home.identity.sessions.refresh(opened.refresh_token)


@pytest.mark.parametrize("end", ["signed out", "everywhere", "reused", "erased"])
async def test_an_end_is_known_on_every_node_within_a_second(home: Household, end: str) -> None:
    """COM-26, CMB-10: whatever a node believed, it asks again before a second has passed."""
    user, opened = await home.person()
    clock = Clock()
    node = another_node(home, clock)
    assert await node.authenticate(opened.access_token)
    match end:
        case "signed out":
            assert await home.identity.sessions.end(user.id, opened.session.id)
        case "everywhere":
            await home.identity.accounts.leave_everywhere(user.id)
        case "reused":
            await home.identity.sessions.refresh(opened.refresh_token)
            with pytest.raises(RefreshReused):
                await home.identity.sessions.refresh(opened.refresh_token)
        case "erased":
            await home.identity.erasures.erase(user.id, dt.datetime.now(dt.UTC))
    assert await home.identity.sessions.authenticate(opened.access_token) is None  # here at once
    clock.now += BELIEVED_SECONDS
    assert BELIEVED_SECONDS < 1
    assert await node.authenticate(opened.access_token) is None
    assert await another_node(home, Clock()).authenticate(opened.access_token) is None  # a node that starts now


async def test_a_node_asks_about_a_session_once_in_that_time(home: Household) -> None:
    """COM-67: no query for each request."""
    _, opened = await home.person()
    clock = Clock()
    node = another_node(home, clock)
    assert await node.authenticate(opened.access_token)
    await home.pool.execute("update sessions set ended_at = now(), ended_why = 'revoked'")
    clock.now += BELIEVED_SECONDS - 0.01
    assert await node.authenticate(opened.access_token)


async def test_nobody_ends_anothers_session(home: Household) -> None:
    """COM-30: the owner stands in the statement."""
    _, opened = await home.person()
    stranger, _ = await home.person()
    assert not await home.identity.sessions.end(stranger.id, opened.session.id)
    assert await home.identity.sessions.authenticate(opened.access_token)
    assert await home.identity.sessions.live(stranger.id) != await home.identity.sessions.live(opened.session.owner)


async def test_a_token_of_another_epoch_or_user_is_refused(home: Household) -> None:
    """COM-26: the epoch of its user, and its own session."""
    user, opened = await home.person()
    stranger, _ = await home.person()
    issuing = Tokens(token_secret(home.settings), 900)
    assert await home.identity.sessions.authenticate(issuing.issue(user.id, opened.session.id, 0))
    for forged in (
        issuing.issue(user.id, opened.session.id, 1),
        issuing.issue(stranger.id, opened.session.id, 0),
        issuing.issue(user.id, "session_unknown", 0),
    ):
        assert await home.identity.sessions.authenticate(forged) is None


class Session(RuleBasedStateMachine):
    """One person's sessions, beside a plain account of which must live and which token is whose newest."""

    spent: Bundle[str] = Bundle("spent")
    fresh: Bundle[str] = Bundle("fresh")

    def __init__(self, runner: asyncio.Runner, home: Household) -> None:
        super().__init__()
        self.runner, self.home = runner, home
        self.clock = Clock()
        self.node = another_node(home, self.clock)
        self.of: dict[str, str] = {}  # refresh token to session
        self.access: dict[str, str] = {}  # session to its newest access token
        self.ended: set[str] = set()

    def wait(self, doing: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(doing)

    @initialize()
    def arrive(self) -> None:
        self.user = self.wait(Users(self.home.pool).create(None, None))

    def keep(self, opened: Opened) -> str:
        self.of[opened.refresh_token] = opened.session.id
        self.access[opened.session.id] = opened.access_token
        return opened.refresh_token

    @rule(target=fresh)
    def sign_in(self) -> str:
        return self.keep(self.wait(self.home.identity.sessions.open(self.user.id, "password")))

    @rule(target=fresh, token=consumes(fresh), node=st.booleans())
    def refresh(self, token: str, node: bool) -> str:
        sessions = self.node if node else self.home.identity.sessions
        if self.of[token] in self.ended:
            with pytest.raises(RefreshRefused):
                self.wait(sessions.refresh(token))
            return token
        renewed = self.keep(self.wait(sessions.refresh(token)))
        self.past.append(token)
        return renewed

    @property
    def past(self) -> list[str]:
        return self.__dict__.setdefault("_past", [])  # type: ignore[no-any-return]

    @rule(data=st.data())
    def use_again(self, data: st.DataObject) -> None:
        if not self.past:
            return
        token = data.draw(st.sampled_from(self.past))
        with pytest.raises(RefreshRefused):
            self.wait(self.home.identity.sessions.refresh(token))
        self.ended.add(self.of[token])

    @rule(token=fresh)
    def sign_out(self, token: str) -> None:
        session = self.of[token]
        assert self.wait(self.home.identity.sessions.end(self.user.id, session)) == (session not in self.ended)
        self.ended.add(session)

    @rule()
    def sign_out_everywhere(self) -> None:
        self.wait(self.home.identity.accounts.leave_everywhere(self.user.id))
        self.ended |= set(self.access)

    @rule()
    def look(self) -> None:
        """After a second, every node agrees with the account kept here."""
        self.clock.now += BELIEVED_SECONDS
        self.home.identity.sessions.forget(self.user.id)
        for session, token in self.access.items():
            for sessions in (self.node, self.home.identity.sessions):
                found = self.wait(sessions.authenticate(token))
                assert (found is None) == (session in self.ended)
        live = {one.id for one in self.wait(self.node.live(self.user.id))}
        assert live == set(self.access) - self.ended

    def teardown(self) -> None:
        if hasattr(self, "user"):
            self.look()
            doubled = "select session from refresh_tokens where used_at is null group by session having count(*) > 1"
            assert self.wait(self.home.pool.fetch(doubled)) == []


@pytest.mark.parametrize("examples", [25, pytest.param(250, marks=pytest.mark.heavy)])
def test_any_history_of_sessions_ends_what_it_must_and_nothing_else(database_url: str, examples: int) -> None:
    """COM-26: sign-ins, refreshes on two nodes, reuse and sign-outs in any order."""
    with asyncio.Runner() as runner:
        opened = household(database_url)
        home = runner.run(opened.__aenter__())

        class Here(Session):
            def __init__(self) -> None:
                super().__init__(runner, home)

        histories = settings(
            max_examples=examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        )
        try:
            run_state_machine_as_test(Here, settings=histories)
        finally:
            runner.run(opened.__aexit__(None, None, None))


def test_the_settings_say_how_long_things_last() -> None:
    """COM-26: 15 minutes, 7 days, 30 days."""
    told = Accounts()
    assert (told.access_seconds, told.session_days, told.refresh_days) == (900, 7, 30)
