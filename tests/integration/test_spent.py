"""What proved somebody once is kept for thirty days more, and not a day longer."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from infra.database.sessions import RefreshReused
from infra.database.spent import KEPT, delete_spent
from tests.doubles.household import HERE, Household, household

DAY = dt.timedelta(days=1)


@pytest_asyncio.fixture
async def home(database_url: str) -> AsyncIterator[Household]:
    async with household(database_url) as opened:
        yield opened


async def counts(home: Household) -> dict[str, int]:
    tables = ("one_time_codes", "refresh_tokens", "sessions", "outbox", "numbers", "devices")
    query = "select count(*) from "
    return {table: await home.pool.fetchval(query + table) for table in tables}


async def test_each_goes_on_its_day_and_not_before(home: Household) -> None:
    """COM-50: by a clock that is moved; what still proves somebody stays."""
    user, opened = await home.person()
    await home.identity.accounts.settled()
    number = await home.identity.numbers.add(user.id, "+15550177001")
    kept_number = await home.identity.numbers.add(user.id, "+15550177002")
    await home.identity.numbers.remove(user.id, number.id)
    await home.pool.execute("update outbox set sent_at = now(), letter_sealed = ''")
    await home.pool.execute(
        "insert into devices (id, public_key, revoked_at) values ('device_1', sha256('1'), now()),"
        " ('device_2', sha256('2'), null)"
    )
    await home.identity.sessions.end(user.id, opened.session.id)
    _, alive = await home.identity.accounts.sign_in(user.email or "", "correct horse battery", None, where=HERE)
    now = dt.datetime.now(dt.UTC)
    before = await counts(home)
    assert await delete_spent(home.pool, now + KEPT - DAY) == 0
    assert await counts(home) == before
    # A code lasts half an hour, so its thirty days are over a little later; the live session is idle for seven days.
    assert await delete_spent(home.pool, now + KEPT + DAY) == 6
    left = {"one_time_codes": 0, "refresh_tokens": 1, "sessions": 1, "outbox": 0, "numbers": 1, "devices": 1}
    assert await counts(home) == left
    assert await home.identity.numbers.get(user.id, kept_number.id)
    assert await home.identity.sessions.authenticate(alive.access_token)
    assert await delete_spent(home.pool, now + 8 * DAY + KEPT) == 2


async def test_a_stolen_token_is_noticed_for_as_long_as_its_session_may_live(home: Household) -> None:
    """COM-26: used tokens are kept for it."""
    _, opened = await home.person()
    await home.identity.sessions.refresh(opened.refresh_token)
    await delete_spent(home.pool, dt.datetime.now(dt.UTC) + KEPT)
    with pytest.raises(RefreshReused):
        await home.identity.sessions.refresh(opened.refresh_token)
