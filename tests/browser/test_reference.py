"""The API's reference and the operator's page in a browser: drawn, quiet, and asking nobody but us."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.doubles.front import front
from tests.doubles.visitor import DESK, PHONE, visiting
from transports.http.routes import operations

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize("size", [DESK, PHONE])
async def test_the_reference_shows_every_operation_and_finds_one(
    browser: Browser, database_url: str, size: tuple[int, int]
) -> None:
    """COM-31, CMB-11: drawn from the document alone; at 360 px nothing hangs over the edge."""
    async with front(database_url) as gateway:
        url = str(gateway.client.make_url("")).rstrip("/")
        async with visiting(browser, url, size) as visitor:
            page = visitor.page
            asked: list[str] = []
            page.on("request", lambda request: asked.append(request.url))
            await page.goto(f"{url}/reference")
            await expect(page.locator("main section")).to_have_count(len(operations()))
            await page.get_by_label("Find").fill("scheduled")
            await expect(page.locator("main section:visible").first).to_be_visible()
            assert 0 < await page.locator("main section:visible").count() < len(operations())
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert [address for address in asked if not address.startswith(url)] == []
            await visitor.keep(f"reference-{size[0]}")


async def test_the_operators_page_follows_the_calls(browser: Browser, database_url: str) -> None:
    """COM-77: at its new address, with its files and its stream of changes."""
    async with front(database_url) as gateway:
        url = str(gateway.client.make_url("")).rstrip("/")
        async with visiting(browser, url) as visitor:
            await visitor.page.goto(f"{url}/operator")
            await expect(visitor.page.locator("#link")).to_have_text("live")
            async with gateway.client.post("/v1/operator/calls", json={"to": "+15550177001"}) as answer:
                assert answer.status == 201
            await expect(visitor.page.locator("#calls li")).to_have_count(1)
            await expect(visitor.page.locator("#facts")).to_contain_text("dialing")
            await visitor.keep("operator")
