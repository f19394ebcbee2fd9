"""Every view of the console: it fits a small phone, it can be read, heard and used without a mouse."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.async_api import Browser

from tests.doubles.console_api import ConsoleApi, console
from tests.doubles.inspection import complaints, too_wide
from tests.doubles.visitor import DESK, PHONE, Visitor, visiting

pytestmark = pytest.mark.asyncio(loop_scope="session")
OPEN = ("/sign-in", "/sign-up", "/forgot", "/reset/token", "/help", "/erasures/erasure_0")
OWN = (
    "/", "/more", "/welcome", "/schedule", "/schedule/new", "/personas", "/personas/new", "/calls", "/calls/newest",
    "/search?q=sister", "/usage", "/payments", "/settings", "/help", "/calls/unknown",
)  # fmt: skip
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


async def show(visitor: Visitor, api: ConsoleApi, view: str) -> None:
    """Open a view, with the newest call that has words where one is asked for."""
    newest = next((str(call["id"]) for call in api.calls if call["transcript"]), "")
    if view == "/calls/unknown":
        api.refuse("GET", "/v1/calls/unknown", 404, "call-not-found", "There is no such call.")
    await visitor.open("/#" + view.replace("newest", newest))


async def inspect(visitor: Visitor, view: str, size: tuple[int, int]) -> None:
    """Nothing sticks out and nothing is wrong, by day and by night."""
    for scheme in SCHEMES:
        await visitor.page.emulate_media(color_scheme=scheme)
        await keep(visitor, view, size, scheme)
        assert await too_wide(visitor.page) == [], scheme
        assert await complaints(visitor.page) == [], scheme


async def keep(visitor: Visitor, view: str, size: tuple[int, int], scheme: str) -> None:
    name = view.strip("/").replace("/", "-").split("?")[0] or "home"
    await visitor.keep(f"{name}-{size[0]}-{scheme}")


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["360", "1200"])
@pytest.mark.parametrize("view", OWN)
async def test_every_view_of_an_account(browser: Browser, view: str, size: tuple[int, int]) -> None:
    """CMB-13, COM-08: no sideways scroll at 360 px; every control named, one main heading, landmarks, contrast."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url, size) as visitor:
        await show(visitor, api, view)
        await inspect(visitor, view, size)


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["360", "1200"])
@pytest.mark.parametrize("view", OPEN)
async def test_every_view_for_everybody(browser: Browser, view: str, size: tuple[int, int]) -> None:
    """CMB-13, COM-08: also before anybody has signed in."""
    api = ConsoleApi(signed_in=False)
    async with console(api) as url, visiting(browser, url, size) as visitor:
        await show(visitor, api, view)
        await inspect(visitor, view, size)


@pytest.mark.parametrize("language", ["tr", "ko"])
@pytest.mark.parametrize("view", OWN)
async def test_every_view_in_every_language(browser: Browser, view: str, language: str) -> None:
    """COM-69: longer words do not break a small phone, and no key is shown instead of words."""
    api = ConsoleApi()
    api.me["language"] = language
    async with console(api) as url, visiting(browser, url, PHONE) as visitor:
        await show(visitor, api, view)
        await keep(visitor, f"{language}{view}", PHONE, "light")
        assert await visitor.page.get_attribute("html", "lang") == language
        assert await too_wide(visitor.page) == []
        assert await complaints(visitor.page) == []


async def test_a_live_call_at_360_px(browser: Browser) -> None:
    """CMB-13: the card of a live call with its transcript, too."""
    api = ConsoleApi()
    for size in (PHONE, DESK):
        async with console(api) as url, visiting(browser, url, size) as visitor:
            api.calls.insert(0, api._call(api.personas[0], "dialing"))
            await visitor.open()
            await keep(visitor, "live-dialing", size, "light")
            api.answer()
            for turn in api._script(api.calls[0]):
                api.say(turn["who"], turn["text"])
            await visitor.page.get_by_text("Being sorry is a beginning").wait_for()
            await keep(visitor, "live", size, "light")
            assert await too_wide(visitor.page) == []
            assert await complaints(visitor.page) == []
            api.calls.pop(0)


async def test_nothing_moves_for_those_who_asked_for_stillness(browser: Browser) -> None:
    """COM-08: `prefers-reduced-motion` is kept, while a phone rings too."""
    api = ConsoleApi()
    api.calls.insert(0, api._call(api.personas[0], "ringing"))
    async with console(api) as url, visiting(browser, url, reduced_motion="reduce") as visitor:
        await visitor.open()
        assert await visitor.page.evaluate("document.getAnimations().length") == 0
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open()
        assert await visitor.page.evaluate("document.getAnimations().length") > 0


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_dialogs_keep_what_views_keep(browser: Browser, scheme: Scheme) -> None:
    """CMB-13, COM-08: at 360 px; the focus goes into the dialog, Escape leaves it, and comes back to its button."""
    api = ConsoleApi()
    call = next(call for call in api.calls if call["transcript"])
    cases = (
        ("/schedule", "Cancel call", ".booked button.danger"),
        (f"/calls/{call['id']}", "Ask for the money back", ".after button"),
        ("/settings", "Use an authenticator app", "#factor button"),
        ("/settings", "Erase my account", "#erase button"),
    )
    async with console(api) as url, visiting(browser, url, PHONE, color_scheme=scheme) as visitor:
        for view, words, button in cases:
            await visitor.open(f"/#{view}")
            opener = visitor.page.locator(button).first
            assert words in await opener.inner_text()
            await opener.click()
            await visitor.page.get_by_role("dialog").wait_for()
            inside = await visitor.page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
            assert inside, view
            assert await too_wide(visitor.page) == []
            behind = {"there is no banner", "there is no main"}  # out of reach while the dialog is open
            assert set(await complaints(visitor.page)) == behind
            await visitor.press("Escape")
            await visitor.page.get_by_role("dialog").wait_for(state="detached")
            assert words in await visitor.focused()
