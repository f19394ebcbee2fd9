"""Somebody at a browser: opens the console, and minds whatever the browser complains of."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
PHONE, DESK = (360, 740), (1200, 900)
LOOK_MS = 10_000
SHOTS = os.environ.get("RINGDOWN_SCREENSHOTS", "")  # a folder
HARMLESS = (
    "Failed to load resource",  # refusals are what some tests are about; each asserts its own
    "Service Worker registration blocked by Playwright",  # by us, but where it is the subject
)


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The machine's own Chromium, without a window."""
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("There is no Chromium on PATH: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path)
        try:
            yield browser
        finally:
            await browser.close()


class Visitor:
    """A browser's window on the console. Leaving the block fails if the browser had anything to complain of."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url
        self.complaints: list[str] = []
        page.set_default_timeout(LOOK_MS)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._heard)

    def _heard(self, message: Any) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(HARMLESS):
            self.complaints.append(message.text)

    async def open(self, path: str = "/") -> None:
        """Go to an address of the console and wait until its view is there."""
        await self.page.goto(self.url + path)
        await self.settled()

    async def go(self, view: str) -> None:
        """Go to a view by the part of the address behind `#`."""
        await self.page.evaluate("view => { location.hash = view }", view)
        await self.settled()

    async def settled(self) -> None:
        """Wait until the view that was asked for is shown."""
        await self.page.wait_for_selector("main:not([aria-busy]) h1")

    async def press(self, *keys: str) -> None:
        for key in keys:
            await self.page.keyboard.press(key)

    async def tab_to(self, name: str, most: int = 80) -> None:
        """Press Tab until the control of this name has the focus, as somebody without a mouse would."""
        for _ in range(most):
            await self.page.keyboard.press("Tab")
            if name in await self.focused():
                return
        raise AssertionError(f"{name!r} was not reached by {most} Tabs; the focus is on {await self.focused()!r}")

    async def focused(self) -> str:
        """The words of what has the focus."""
        found: str = await self.page.evaluate(
            """() => { const at = document.activeElement;
                const label = at.labels?.[0]?.innerText ?? '';
                return [at.getAttribute('aria-label') ?? '', label, at.innerText ?? ''].join(' ').trim(); }"""
        )
        return found

    async def heading(self) -> str:
        return (await self.page.locator("main h1").first.inner_text()).strip()

    async def text(self) -> str:
        """All that can be read in the view."""
        return await self.page.locator("main").inner_text()

    async def keep(self, name: str) -> None:
        """A picture of what is shown, for people to look at, if a folder is set for them."""
        if SHOTS:
            await self.page.screenshot(path=Path(SHOTS) / f"{name}.png", full_page=True)

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name, exact=True)


@contextlib.asynccontextmanager
async def visiting(browser: Browser, url: str, size: tuple[int, int] = DESK, **options: Any) -> AsyncIterator[Visitor]:
    """A visitor with a fresh browser profile, for the length of the block."""
    options = {"locale": "en-US", "timezone_id": "Europe/Istanbul", "service_workers": "block"} | options
    context: BrowserContext = await browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    try:
        visitor = Visitor(await context.new_page(), url)
        yield visitor
        assert not visitor.complaints, visitor.complaints
    finally:
        await context.close()
