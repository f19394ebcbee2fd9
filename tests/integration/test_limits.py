"""Counting requests over all nodes in Valkey, and what happens when it is away."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from redis.exceptions import RedisError

from infra import limits, redis
from infra.embedded.holding import hold
from infra.embedded.valkey import Valkey
from infra.limits import LOCAL_SHARE, Limiter, Verdict, limiting
from infra.settings import Limits
from tests.doubles.front import Front, People, front, problem
from tests.doubles.live_node import wait_for
from tests.doubles.notebook import Notebook

HERE = "192.0.2.1"
SOON_SECONDS = 10.0


async def is_gone(url: str) -> bool:
    """Whether no server answers there."""
    try:
        client = await redis.connect(url)
    except RedisError:
        return True
    await client.aclose()
    return False


async def exactly(limiter: Limiter) -> Verdict:
    """The first verdict that was found together with the other nodes."""

    async def look() -> Verdict | None:
        verdict = await limiter.take("read", "another", None, HERE)
        return verdict if verdict.exact else None

    return await wait_for(look, SOON_SECONDS)


@pytest_asyncio.fixture
async def two_nodes(redis_url: str) -> AsyncIterator[tuple[Limiter, Limiter]]:
    async with limiting(Limits(read=30), redis_url) as one, limiting(Limits(read=30), redis_url) as two:
        yield one, two


async def test_counting_is_exact_over_two_nodes_however_they_hurry(
    two_nodes: tuple[Limiter, Limiter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """COM-33: 30 a minute are 30, of 200 that came at once by two nodes."""
    monkeypatch.setattr(limits, "ANSWER_SECONDS", SOON_SECONDS)
    asked = [two_nodes[number % 2].take("read", "GET /v1/x", f"user_{number % 3}", HERE) for number in range(200)]
    verdicts = await asyncio.gather(*asked)
    assert all(verdict.exact for verdict in verdicts)
    assert sum(verdict.allowed for verdict in verdicts) == 30
    assert sorted(verdict.left for verdict in verdicts if verdict.allowed) == list(range(30))


async def test_a_user_is_the_same_from_every_address_and_an_address_the_same_for_every_user(
    two_nodes: tuple[Limiter, Limiter],
) -> None:
    """CMB-14: each of the two windows alone can stop a request, and none counts what the other refused."""
    one, two = two_nodes
    for number in range(30):
        assert (await one.take("read", "r", "ada", f"192.0.2.{number}")).allowed
    assert not (await two.take("read", "r", "ada", "198.51.100.1")).allowed
    for left in range(29, -1, -1):
        verdict = await two.take("read", "r", f"user_{left}", "198.51.100.1")
        assert (verdict.allowed, verdict.left) == (True, left)
    assert not (await one.take("read", "r", "bob", "198.51.100.1")).allowed
    assert (await one.take("read", "other", "bob", "198.51.100.1")).allowed


async def test_the_window_slides_by_the_clock_of_valkey(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """COM-33: a place gets free when the window's length has passed since it was taken."""
    monkeypatch.setattr(limits, "WINDOW_SECONDS", 1)
    async with limiting(Limits(read=2), redis_url) as limiter:
        assert (await limiter.take("read", "r", None, HERE)).allowed
        assert (await limiter.take("read", "r", None, HERE)).allowed
        refused = await limiter.take("read", "r", None, HERE)
        assert (refused.allowed, refused.reset_seconds) == (False, 1)

        async def passes() -> Verdict | None:
            verdict = await limiter.take("read", "r", None, HERE)
            return verdict if verdict.allowed else None

        assert (await wait_for(passes, SOON_SECONDS)).exact
    client = await redis.connect(redis_url)
    assert 0 < await client.pttl(f"limit:r:ip:{HERE}") <= 1000, "what nobody asks about is not kept"
    await client.aclose()


async def test_while_valkey_is_away_a_strict_limit_holds_and_afterwards_the_common_one(tmp_path: Path) -> None:
    """COM-33: nothing fails, nothing waits, and the count is stricter, not absent."""
    async with hold(Valkey(tmp_path / "server"), grace_s=0.1) as holding, limiting(Limits(read=40), holding.url) as one:
        assert (await one.take("read", "r", None, HERE)).exact
        pid = holding.status().server_pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            verdicts = [await one.take("read", "r", None, HERE) for _ in range(20)]
            assert time.monotonic() - began < 3 * limits.ANSWER_SECONDS
        finally:
            os.kill(pid, signal.SIGCONT)
        assert not any(verdict.exact for verdict in verdicts)
        assert sum(verdict.allowed for verdict in verdicts) == 40 // LOCAL_SHARE
        assert (await exactly(one)).limit == 40


async def test_a_valkey_that_comes_up_after_us_is_found(tmp_path: Path) -> None:
    """COM-33: the order in which things start does not matter."""
    folder = tmp_path / "server"
    async with hold(Valkey(folder), grace_s=0.1) as holding:
        url = holding.url
    await wait_for(lambda: is_gone(url), SOON_SECONDS)  # its keeper lets it live for a moment more
    async with limiting(Limits(), url) as limiter:
        assert not (await limiter.take("read", "r", None, HERE)).exact
        async with hold(Valkey(folder), grace_s=0.1) as holding:
            assert holding.url == url
            assert (await exactly(limiter)).allowed


@pytest_asyncio.fixture
async def gateway(database_url: str, redis_url: str) -> AsyncIterator[Front]:
    operations = Notebook().operations()
    settings: dict[str, Any] = {"limits_read": 3, "limits_write": 2, "limits_auth": 2}
    async with front(database_url, cache=redis_url, people=People(), operations=operations, **settings) as opened:
        yield opened


async def test_one_more_than_the_limit_is_told_to_wait(gateway: Front) -> None:
    """COM-33, CMB-14: 429 with Retry-After; thresholds are settings; what is left stands on every answer."""
    _, ada = await gateway.join()
    for left in ("2", "1", "0"):
        async with gateway.client.get("/v1/notes", headers=ada) as answer:
            assert answer.status == 200
            assert (answer.headers["RateLimit-Limit"], answer.headers["RateLimit-Remaining"]) == ("3", left)
    async with gateway.client.get("/v1/notes", headers=ada) as answer:
        assert await problem(answer) == (429, "too-many-requests")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert answer.headers["RateLimit-Remaining"] == "0"


async def test_strangers_are_counted_too_and_before_they_are_turned_away(gateway: Front) -> None:
    """COM-33: guessing tokens is limited by address."""
    for _ in range(3):
        async with gateway.client.get("/v1/notes", headers={"Authorization": "Bearer guess"}) as answer:
            assert await problem(answer) == (401, "not-authorised")
    async with gateway.client.get("/v1/notes", headers={"Authorization": "Bearer guess"}) as answer:
        assert await problem(answer) == (429, "too-many-requests")


async def test_each_kind_of_route_has_its_own_limit(gateway: Front) -> None:
    """CMB-14: signing in is limited lower than reading."""
    statuses = []
    for _ in range(3):
        async with gateway.client.post("/v1/cookies") as answer:
            statuses.append(answer.status)
    assert statuses == [204, 204, 429]
