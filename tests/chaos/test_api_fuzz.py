"""Thousands of requests, half of them nonsense, to every operation: none fails on our side, none surprises."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.doubles.belongings import belongings
from tests.doubles.front import Front
from tests.doubles.fuzz import Found, fuzz
from tests.doubles.whole import OPERATOR_TOKEN, whole
from transports.http.routes import operations

SORTS = 2  # that every operation has: fitting and not


async def fuzzed(gateway: Front, cases: int, seed: int | None = None) -> Found:
    """Fuzz the gateway as a user who owns one of everything."""
    user, headers = await gateway.join()
    owned = await belongings(gateway.connections, gateway.services.vault, user)
    url = str(gateway.client.make_url("")).rstrip("/")
    async with gateway.client.get("/v1/openapi.json") as answer:
        document: dict[str, Any] = await answer.json()
    proofs = {"bearer": headers, "operator": {"Authorization": f"Bearer {OPERATOR_TOKEN}"}}
    return await asyncio.to_thread(fuzz, url, document, proofs, owned.ids, cases, seed)


def judge(found: Found) -> None:
    """Nothing failed, and nothing was left out."""
    assert not found.failures, found.report
    assert not [status for status in found.statuses if status.startswith("5")]
    assert set(found.operations) == {f"{made.method} {made.path}" for made in operations()}
    assert found.statuses["200"], "some of what was asked could be answered"


async def test_a_few_requests_of_each_sort_find_nothing(database_url: str) -> None:
    """COM-31, CMB-12: every operation, fitting and unfitting; the long run is the next test."""
    async with whole(database_url) as gateway:
        judge(await fuzzed(gateway, 3))


async def run(database_url: str, requests: int, seed: int) -> None:
    """At least so many requests, spread over all operations."""
    cases = -(-requests // (SORTS * len(operations())))  # what some lack, those with things of somebody's have more
    async with whole(database_url) as gateway:
        found = await fuzzed(gateway, cases, seed)
    judge(found)
    assert found.cases >= requests


@pytest.mark.heavy
@pytest.mark.timeout(1800)
async def test_six_thousand_requests_find_nothing(database_url: str) -> None:
    """COM-31, CMB-12: 0 server errors and 0 undocumented answers, as far as CI has time for it."""
    await run(database_url, 6_000, seed=20261121)


@pytest.mark.marathon
@pytest.mark.timeout(7200)
async def test_a_hundred_thousand_requests_find_nothing(database_url: str) -> None:
    """COM-31, CMB-12: 0 server errors and 0 undocumented answers in at least 100,000 requests."""
    await run(database_url, 100_000, seed=20261122)
