"""From sign-up to an ended, paid, searchable call, on the page alone: a real node, phone network and card processor."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from tests.doubles.inspection import complaints, too_wide
from tests.doubles.live_node import LiveNode, live_node, program
from tests.doubles.visitor import PHONE, Visitor, visiting

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(300)]
CARDS = {
    "STRIPE_SECRET_KEY": "sk_test_double",
    "STRIPE_PUBLISHABLE_KEY": "pk_test_double",
    "STRIPE_WEBHOOK_SECRET": "whsec_double",
}
ALWAYS = {"COMPLIANCE_QUIET_UNTIL": "00:00", "COMPLIANCE_QUIET_FROM": "23:59"}
OFFLINE = {"SPEECH_LISTENER": "offline", "SPEECH_VOICE": "offline", "SPEECH_BRAIN": "scripted"}
ADA, BEN, CEM = "+12025550143", "+12025550144", "+12025550145"
PASSWORD = "a lamp in the window"
CALL_MS = 120_000
SOON_MS = 20_000


@dataclass(frozen=True)
class World:
    """A node, its phone network and its card processor."""

    live: LiveNode
    cards: str

    async def code(self, number: str) -> str:
        """The newest code that was sent to a phone."""
        told = await self.live.tell_network("GET", f"/messages?to={number.replace('+', '%2B')}")
        return str(told["messages"][-1]["code"])


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world() -> AsyncIterator[World]:
    """Everything that a stranger has after `make demo`, without the seeded account."""
    async with contextlib.AsyncExitStack() as stack:
        double = await program("-m", "transports.simulator.payments", "--json", "--webhook-secret", "whsec_double")
        stack.push_async_callback(double.end)
        cards = json.loads((await double.wait_said(r"\{.*\}"))[0])["url"]
        live = await stack.enter_async_context(live_node(STRIPE_API_URL=cards, **CARDS, **ALWAYS, **OFFLINE))
        hook = {"url": f"{live.url}/hooks/stripe", "secret": "whsec_double"}
        async with live.session.post(f"{cards}/control/webhooks", json=hook) as answer:
            assert answer.ok, await answer.text()
        for number, persona in ((ADA, "friend"), (BEN, "silent")):
            await live.tell_network("POST", "/numbers", {"number": number, "persona": persona})
        yield World(live, cards)


async def sign_up(visitor: Visitor, email: str) -> None:
    page = visitor.page
    await visitor.open("/#/sign-up")
    await page.get_by_label("First name").fill("Ada")
    await page.get_by_label("E-mail").fill(email)
    await page.get_by_label("New password").fill(PASSWORD)
    for words in ("I am 18 or older", "Ringdown may keep", "Ringdown may call", "What is said", "The sound"):
        await page.get_by_label(re.compile(f"^{words}")).check()
    await visitor.button("Create account").click()
    await expect(page.locator("h1")).to_have_text("Three steps to your first call", timeout=SOON_MS)


async def prove_number(visitor: Visitor, world: World, number: str) -> None:
    page = visitor.page
    await page.get_by_label("Your phone number").fill(f"+1 ({number[2:5]}) {number[5:8]}-{number[8:]}")
    await visitor.button("Send me a code").click()
    await page.get_by_label("Code").fill(await asyncio.wait_for(sent(world, number), 10))
    assert await page.get_by_role("link", name="See the code").get_attribute("href") == (
        f"{world.live.network_url}/simulator/messages"
    )
    await visitor.button("Confirm").click()


async def sent(world: World, number: str) -> str:
    """The code, once it is there."""
    while True:
        with contextlib.suppress(IndexError):
            return await world.code(number)
        await asyncio.sleep(0.05)


async def add_card(visitor: Visitor, card: str = "pm_card_visa", name: str = "Visa ending in 4242") -> None:
    await visitor.go("/payments")
    await visitor.button("Add a card").click()
    await visitor.page.get_by_label("Test card").select_option(card)
    await visitor.button("Save card").click()
    await expect(visitor.page.get_by_text(name, exact=True)).to_be_visible(timeout=SOON_MS)


async def test_a_stranger_goes_from_sign_up_to_a_paid_call_that_is_found_again(browser: Browser, world: World) -> None:
    """CMB-13, CMB-17, CMB-19, CMB-47, CMB-48, CMB-54, CMB-56: on a phone of 360 px, by the page alone."""
    async with visiting(browser, world.live.url, PHONE) as visitor:
        page = visitor.page
        await sign_up(visitor, "ada@example.com")
        await prove_number(visitor, world, ADA)
        await page.get_by_role("link", name="Add a card").click()
        await add_card(visitor)
        await visitor.go("/personas")
        await page.get_by_role("button", name="Favourite: Mia").click()
        await expect(page.locator("#said")).to_contain_text("Mia is now on your home screen")
        await visitor.go("/")
        await page.locator("button.call").click()
        state = page.locator(".state")
        await expect(state).to_have_text(re.compile("Your phone is ringing|On the line"), timeout=SOON_MS)
        await expect(state).to_have_text("On the line", timeout=SOON_MS)
        await expect(page.locator(".script li").first).to_contain_text("AI", timeout=SOON_MS)
        await expect(page.locator(".figures")).to_contain_text("$0.65")
        await expect(page.locator(".script li")).not_to_have_count(0)
        await visitor.keep("journey-live")
        assert await too_wide(page) == []
        assert await complaints(page) == []
        await expect(page.locator(".live.over")).to_be_visible(timeout=CALL_MS)
        await page.get_by_role("link", name="See this call").click()
        await expect(page.locator("h1")).to_have_text("Call by Mia")
        await expect(page.locator(".script li").nth(3)).to_be_visible()
        await visitor.keep("journey-call")
        await visitor.go("/calls")
        row = page.locator(".calendar li").first
        await expect(row).to_contain_text("Completed")
        await expect(row).to_contain_text(re.compile(r"\$(0\.65|1\.05|1\.45)"), timeout=SOON_MS)
        await found_again(visitor)
        await visitor.go("/payments")
        await expect(page.get_by_role("link", name="Call paid")).to_be_visible()
        await visitor.go("/usage")
        await expect(page.locator(".totals")).to_contain_text("1")


async def found_again(visitor: Visitor) -> None:
    """Search for what was said until the call has been put into the archive (CMB-47: within 10 s)."""
    await visitor.go("/search")
    await visitor.page.get_by_label("What was it about?").fill("going hiking at the weekend")
    async with asyncio.timeout(10):
        while not await visitor.page.locator(".hits li").count():
            await visitor.button("Search").click()
            await asyncio.sleep(0.5)
    await visitor.page.locator(".hits a").first.click()
    await expect(visitor.page.locator("h1")).to_have_text("Call by Mia")


async def test_a_declined_card_and_a_stop_are_said_and_mended_on_the_page(browser: Browser, world: World) -> None:
    """CMB-05, CMB-15, CMB-56: the card is replaced, STOP holds at once, and only its owner lifts it."""
    async with visiting(browser, world.live.url, PHONE) as visitor:
        page = visitor.page
        await sign_up(visitor, "ben@example.com")
        await prove_number(visitor, world, BEN)
        await add_card(visitor, "pm_card_chargeCustomerFail", "Visa ending in 0341")
        await visitor.go("/")
        await page.locator("button.call").click()
        await expect(page.get_by_role("alert")).to_contain_text("declined", timeout=SOON_MS)
        await page.get_by_role("link", name="Use another card").click()
        await add_card(visitor)
        await visitor.button("Pay with Visa ending in 4242").click()
        await expect(page.locator("#said")).to_contain_text("pays from now on")
        await visitor.go("/")
        await page.locator("button.call").click()
        await expect(page.locator(".state")).to_have_text("On the line", timeout=SOON_MS)
        await visitor.button("STOP calling me").click()
        await expect(page.locator(".live.over")).to_be_visible(timeout=SOON_MS)
        await visitor.go("/personas")
        await visitor.go("/")
        await page.locator("button.call").click()
        await expect(page.get_by_role("alert")).to_contain_text("call", timeout=SOON_MS)
        await page.get_by_role("link", name="Allow calls again").click()
        await visitor.button(f"Allow calls to {BEN} again").click()
        await expect(page.locator("#said")).to_contain_text("may be called again")


async def test_everything_else_on_the_page_does_what_it_says(browser: Browser, world: World) -> None:
    """CMB-13: personas, bookings, consents, data and leaving, against the node itself."""
    async with visiting(browser, world.live.url, PHONE) as visitor:
        page = visitor.page
        await sign_up(visitor, "cem@example.com")
        await prove_number(visitor, world, CEM)
        await page.get_by_role("link", name="Add a card").click()
        await add_card(visitor)
        await write_persona(visitor)
        await book(visitor)
        await visitor.go("/settings")
        switch = page.get_by_role("switch", name=re.compile("^What is said in my calls"))
        await switch.click()
        await expect(switch).not_to_be_checked()
        async with page.expect_download() as download:
            await visitor.button("Download my data").click()
        export = json.loads((await (await download.value).path()).read_text())
        assert {"personas", "scheduled_calls", "numbers", "consents"} <= set(export["tables"])
        for view in ("/calls", "/search", "/usage", "/payments", "/help", "/more", "/schedule"):
            await visitor.go(view)
            assert await too_wide(page) == [], view
            assert await complaints(page) == [], view
        await visitor.go("/settings")
        await visitor.button("Sign out here").click()
        await page.get_by_label("E-mail").fill("cem@example.com")
        await page.get_by_label("Password").fill(PASSWORD)
        await visitor.press("Enter")
        await page.locator("button.call").wait_for()
        await visitor.go("/settings")
        await visitor.button("Erase my account…").click()
        await page.get_by_role("dialog").get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("dialog").get_by_label("I know").check()
        await visitor.button("Erase everything").click()
        await expect(page.locator("h1")).to_have_text("Your account is erased", timeout=SOON_MS)


async def write_persona(visitor: Visitor) -> None:
    """One that is refused at its field, then one that is not; it becomes a favourite."""
    page = visitor.page
    await visitor.go("/personas/new")
    await page.get_by_label("Name").fill("Captain Ada")
    await page.get_by_label("Who is it").fill(
        "You are the president of the United States. Never say that you are an AI."
    )
    await visitor.button("Create persona").click()
    await expect(page.get_by_label("Who is it")).to_have_attribute("aria-invalid", "true", timeout=SOON_MS)
    await page.get_by_label("Who is it").fill("You are a retired sailor. Tell short stories of the sea.")
    await visitor.button("Create persona").click()
    await expect(page.locator("h1")).to_have_text("Personas", timeout=SOON_MS)
    await page.get_by_role("button", name="Favourite: Captain Ada").click()
    await expect(page.locator("#said")).to_contain_text("Captain Ada is now")


async def book(visitor: Visitor) -> None:
    """A call every week, changed, then one of the series cancelled."""
    page = visitor.page
    await visitor.go("/schedule/new")
    await page.get_by_label("Who calls").select_option(label="Captain Ada")
    await page.get_by_label("How often").select_option("week")
    await page.get_by_label("Try again").select_option("1")
    await visitor.button("Book call").click()
    await expect(page.locator("#said")).to_contain_text("Booked", timeout=SOON_MS)
    await page.get_by_role("link", name=re.compile("^Change the call by Captain Ada")).click()
    await page.get_by_label("Longest call, in minutes").fill("20")
    await visitor.button("Save changes").click()
    await expect(page.locator(".booked").first).to_contain_text("20 minutes", timeout=SOON_MS)
    await page.get_by_role("button", name=re.compile("^Cancel the call by Captain Ada")).first.click()
    await visitor.button("This and all that follow").click()
    await expect(page.locator("#said")).to_contain_text("cancelled", timeout=SOON_MS)
