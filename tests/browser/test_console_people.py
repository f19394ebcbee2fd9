"""Accounts, personas, bookings, cards and settings on the console, as somebody uses them."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, expect

from tests.doubles.console_api import CODE, PASSWORD, ConsoleApi, console
from tests.doubles.inspection import look
from tests.doubles.visitor import DESK, PHONE, Visitor, visiting

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_signing_up_leads_through_three_steps_to_a_call(browser: Browser) -> None:
    """CMB-13, CMB-01, CMB-06: account, consents, number by code, card; at 360 px."""
    api = ConsoleApi(signed_in=False, settled=False)
    async with console(api) as url, visiting(browser, url, PHONE) as visitor:
        await visitor.open("/#/sign-up")
        page = visitor.page
        await page.get_by_label("First name").fill("Ada")
        await page.get_by_label("E-mail").fill("ada@example.com")
        await page.get_by_label("New password").fill(PASSWORD)
        for words in ("I am 18 or older", "Ringdown may keep", "Ringdown may call", "What is said"):
            await page.get_by_label(re.compile(f"^{words}")).check()
        await visitor.button("Create account").click()
        await expect(page.locator("h1")).to_have_text("Three steps to your first call")
        [sent] = api.asked("POST", "/v1/accounts")
        assert sent["adult"] is True
        assert sent["consents"] == {"service": True, "calls": True, "transcripts": True, "recording": False}
        assert (sent["zone"], sent["language"]) == ("Europe/Istanbul", "en")
        await page.get_by_label("Your phone number").fill("+1 (202) 555-0143")
        await visitor.button("Send me a code").click()
        assert api.asked("POST", "/v1/numbers") == [{"number": "+12025550143"}]
        await page.get_by_label("Code").fill("999999")
        await visitor.button("Confirm").click()
        await expect(page.locator(".field-error:visible")).to_have_text("That is not the code. Look at it again.")
        await page.get_by_label("Code").fill(CODE)
        await visitor.button("Confirm").click()
        await page.get_by_role("link", name="Add a card").click()
        await visitor.button("Add a card").click()
        await visitor.button("Save card").click()
        await expect(page.locator("h1")).to_have_text("You are ready")
        await page.get_by_role("link", name="To my first call").click()
        await page.locator("button.call").click()
        await expect(page.locator(".state")).to_have_text("Dialling your number")


async def test_nobody_signs_up_without_the_consents_that_are_needed(browser: Browser) -> None:
    """CMB-06, COM-49: the form says which box it needs, and sends nothing before."""
    api = ConsoleApi(signed_in=False, settled=False)
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/sign-up")
        await visitor.page.get_by_label("E-mail").fill("ada@example.com")
        await visitor.page.get_by_label("New password").fill("short")
        await visitor.button("Create account").click()
        wrong = await visitor.page.locator(".field-error:visible").all_inner_texts()
        assert wrong == ["Use at least 10 characters.", *["This must be ticked to go on."] * 3]
        assert "New password" in await visitor.focused()
        assert api.asked("POST", "/v1/accounts") == []


async def test_a_wrong_password_is_said_and_the_right_one_leads_on(browser: Browser) -> None:
    """CMB-10: and back to where one was going."""
    api = ConsoleApi(signed_in=False)
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/usage")
        assert await visitor.heading() == "Sign in"
        await visitor.page.get_by_label("E-mail").fill("ada@example.com")
        await visitor.page.get_by_label("Password").fill("wrong")
        await visitor.press("Enter")
        await expect(visitor.page.get_by_role("alert")).to_contain_text("is wrong")
        await visitor.page.get_by_label("Password").fill(PASSWORD)
        await visitor.press("Enter")
        await expect(visitor.page.locator("h1")).to_have_text("Usage")


async def test_the_second_factor_is_asked_for_when_it_is_needed(browser: Browser) -> None:
    """COM-24: the field appears with the server's word, and has the focus."""
    api = ConsoleApi(signed_in=False)
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/sign-in")
        api.refuse("POST", "/v1/sessions", 401, "second-factor-needed", "Type the code of your app, too.")
        await visitor.page.get_by_label("E-mail").fill("ada@example.com")
        await visitor.page.get_by_label("Password").fill(PASSWORD)
        await visitor.press("Enter")
        await expect(visitor.page.get_by_label("Second factor")).to_be_focused()
        await visitor.page.get_by_label("Second factor").fill("123456")
        await visitor.press("Enter")
        await visitor.page.locator("button.call").wait_for()
        assert api.asked("POST", "/v1/sessions")[1]["code"] == "123456"


async def test_what_moderation_says_stands_at_the_field(browser: Browser) -> None:
    """CMB-44, CMB-41: and the field has the focus, described by the words."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/personas/new")
        detail = "A persona may not pretend to be an official. Describe somebody of your own."
        api.refuse("POST", "/v1/personas", 422, "persona-refused", detail, field="prompt")
        await visitor.page.get_by_label("Name").fill("Officer")
        await visitor.page.get_by_label("Who is it").fill("You are a police officer.")
        await visitor.page.get_by_label("Voice").select_option("house:bright")
        await visitor.button("Create persona").click()
        prompt = visitor.page.get_by_label("Who is it")
        await expect(prompt).to_be_focused()
        await expect(prompt).to_have_attribute("aria-invalid", "true")
        await expect(prompt).to_have_accessible_description(re.compile(re.escape(detail)))
        await prompt.fill("You are a lighthouse keeper.")
        await visitor.button("Create persona").click()
        await expect(visitor.page.locator("h1")).to_have_text("Personas")
        await expect(visitor.page.locator("#said")).to_contain_text("Officer is saved")
        assert api.asked("POST", "/v1/personas")[1]["voice"] == "house:bright"


async def test_favourites_are_chosen_and_put_in_order(browser: Browser) -> None:
    """CMB-45: the first one is the big button of the home screen."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/personas")
        await visitor.page.get_by_text("Order of your favourites").click()
        second = api.personas[1]["name"]
        await visitor.button(f"Move {second} up").click()
        await expect(visitor.page.locator(".ranking li").first).to_contain_text(second)
        assert api.contacts[0] == api.personas[1]["id"]
        await visitor.go("/")
        await expect(visitor.page.locator("#first")).to_have_text(second)


async def test_a_persona_is_copied_edited_and_deleted(browser: Browser) -> None:
    """CMB-41, CMB-43: system personas can be copied, one's own be changed."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/personas")
        await visitor.button("Make a copy of Samir").click()
        await expect(visitor.page.locator("h1")).to_have_text("Edit Samir")
        await visitor.page.get_by_label("Name").fill("My Samir")
        await visitor.button("Save").click()
        await visitor.page.get_by_role("link", name="Edit My Samir").click()
        await visitor.button("Delete persona").click()
        dialog = visitor.page.get_by_role("dialog")
        await dialog.get_by_role("button", name="Delete persona").click()
        await expect(visitor.page.locator("#said")).to_contain_text("My Samir is deleted")


async def test_a_call_is_booked_again_and_again_and_cancelled(browser: Browser) -> None:
    """CMB-34, CMB-35, CMB-38: once, weekly on days, with another try; one of a series or all of it is cancelled."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url, PHONE) as visitor:
        await visitor.open("/#/schedule/new")
        page = visitor.page
        await page.get_by_label("Who calls").select_option(label="Aunt June")
        await page.get_by_label("Day and time").fill("2027-03-28T09:00")
        await page.get_by_label("Time zone").select_option("Europe/Istanbul")
        await page.get_by_label("How often").select_option("week")
        await page.get_by_role("checkbox", name="Sun").check()
        await page.get_by_label("Try again").select_option("1")
        await visitor.button("Book call").click()
        await expect(page.locator("h1")).to_have_text("Schedule")
        [sent] = api.asked("POST", "/v1/scheduled-calls")
        assert (sent["at"], sent["zone"]) == ("2027-03-28T09:00", "Europe/Istanbul")
        assert sent["repeat"] == {"every": "week", "days": ["sun"]}
        assert sent["retries"] == {"busy": 1, "no_answer": 1, "voicemail": 0, "spacing_minutes": 10}
        await page.get_by_role("button", name=re.compile("^Cancel the call by Aunt June")).click()
        await page.get_by_role("dialog").get_by_role("button", name="This and all that follow").click()
        await expect(page.locator("#said")).to_contain_text("cancelled")
        assert [method for method, _, _ in api.requests].count("DELETE") == 1


async def test_a_call_that_was_promised_on_the_phone_is_confirmed(browser: Browser) -> None:
    """CMB-39: the home screen asks, the schedule books it."""
    api = ConsoleApi()
    api.scheduled[0]["state"] = "proposed"
    async with console(api) as url, visiting(browser, url, PHONE) as visitor:
        await visitor.open()
        await expect(visitor.page.locator(".notice")).to_contain_text("Nadia promised to call you")
        await visitor.page.get_by_role("link", name="Is that right?").click()
        await visitor.button("Yes, book it").click()
        await expect(visitor.page.locator("#said")).to_contain_text("The call is booked")
        assert api.scheduled[0]["state"] == "pending"


async def test_cards_are_added_preferred_and_removed_with_a_warning(browser: Browser) -> None:
    """CMB-56: no card number is ever typed here; removing one that booked calls need warns first."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/payments")
        page = visitor.page
        await visitor.button("Add a card").click()
        assert await page.locator("input").count() == 0
        await page.get_by_label("Test card").select_option("pm_card_chargeDeclined")
        await visitor.button("Save card").click()
        await expect(page.get_by_role("alert")).to_contain_text("The card was declined")
        await page.get_by_label("Test card").select_option("pm_card_visa")
        await visitor.button("Save card").click()
        await expect(page.locator("#said")).to_contain_text("The card is added")
        assert api.asked("POST", "/v1/payment-methods")[1] == {"payment_method": "pm_card_visa"}
        await visitor.button("Pay with Mastercard ending in 4444").click()
        await expect(page.locator("#said")).to_contain_text("Mastercard ending in 4444 pays from now on")
        await visitor.button("Remove Mastercard ending in 4444").click()
        dialog = page.get_by_role("dialog")
        await expect(dialog).to_contain_text("1 booked calls may need it")
        await dialog.get_by_role("button", name="Remove").click()
        await expect(page.locator("#said")).to_contain_text("can no longer be paid")


async def test_usage_is_a_picture_and_a_table_of_the_same_figures(browser: Browser) -> None:
    """CMB-50: by day and by persona, in money, minutes and calls."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url, DESK) as visitor:
        await visitor.open("/#/usage")
        page = visitor.page
        await expect(page.locator(".totals")).to_contain_text("$5.95")
        assert await page.locator("svg.plot rect.bar").count() == 30
        assert await page.locator("svg.plot").get_attribute("aria-label") == "Spent over time"
        await page.get_by_text("The same as a table").first.click()
        cells = await page.locator("table").first.locator("td").all_inner_texts()
        assert "$1.05" in cells
        await page.get_by_label("Show").select_option("minutes")
        await expect(page.locator("svg.plot .peak")).to_have_text("9 minutes")


async def test_consents_are_withdrawn_in_one_click(browser: Browser) -> None:
    """COM-49: effective at once; those that calls need ask first."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/settings")
        switch = visitor.page.get_by_role("switch", name=re.compile("^What is said in my calls"))
        await expect(switch).to_be_checked()
        await switch.click()
        await expect(switch).not_to_be_checked()
        assert api.asked("POST", "/v1/me/consents") == [{"purpose": "transcripts", "granted": False}]


async def test_the_language_changes_everything_at_once(browser: Browser) -> None:
    """COM-69: menu, headings and the document's own language; kept with the account."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/settings")
        await visitor.page.get_by_label("Language").select_option("tr")
        await visitor.button("Save").first.click()
        await expect(visitor.page.locator("h1")).to_have_text("Ayarlar")
        await expect(visitor.page.locator("nav")).to_contain_text("Geçmiş")
        assert await visitor.page.get_attribute("html", "lang") == "tr"
        assert api.me["language"] == "tr"


async def test_data_is_downloaded_and_the_account_erased_with_a_receipt(browser: Browser) -> None:
    """COM-51, COM-52: by oneself, with the password; the receipt has an address of its own."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/settings")
        async with visitor.page.expect_download() as download:
            await visitor.button("Download my data").click()
        assert (await download.value).suggested_filename == "call-me-back.json"
        await visitor.button("Erase my account…").click()
        dialog = visitor.page.get_by_role("dialog")
        await dialog.get_by_label("Password").fill(PASSWORD)
        await dialog.get_by_label("I know").check()
        await dialog.get_by_role("button", name="Erase everything").click()
        await expect(visitor.page.locator("h1")).to_have_text("Your account is erased")
        assert api.asked("DELETE", "/v1/me") == [{"password": PASSWORD}]


async def test_without_a_network_the_page_says_so_and_comes_back(browser: Browser) -> None:
    """CMB-15: nothing is lost, and trying again works."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open()
        await visitor.page.context.set_offline(True)
        await expect(visitor.page.locator("#link")).to_contain_text("You are offline")
        await visitor.page.evaluate("location.hash = '/personas'")
        await expect(visitor.page.get_by_role("alert")).to_contain_text("The server does not answer")
        await visitor.page.context.set_offline(False)
        await visitor.button("Try again").click()
        await expect(visitor.page.locator("h1")).to_have_text("Personas")


async def walk(visitor: Visitor, *names: str) -> None:
    """Tab to each control in turn and press Enter on it."""
    for name in names:
        await visitor.tab_to(name)
        await visitor.press("Enter")


async def test_the_whole_way_with_the_keyboard_alone(browser: Browser) -> None:
    """COM-08: sign in, call, hang up, look at it, book another: no mouse, and the focus can always be seen."""
    api = ConsoleApi(signed_in=False)
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/sign-in")
        page = visitor.page
        await visitor.tab_to("E-mail")
        await page.keyboard.type("ada@example.com")
        await visitor.tab_to("Password")
        await page.keyboard.type(PASSWORD)
        await visitor.press("Enter")
        await page.locator("button.call").wait_for()
        await visitor.tab_to("Call me")
        assert await look(visitor.page, "ringed")
        await visitor.press("Enter")
        await expect(page.locator(".state")).to_have_text("Dialling your number")
        await api.followed.wait()
        api.answer()
        await expect(page.locator(".state")).to_have_text("On the line")
        await walk(visitor, "Hang up")
        await expect(page.locator(".state")).to_have_text("You talked; the caller hung up.")
        await walk(visitor, "See this call")
        await expect(page.locator("h1")).to_be_focused()
        await walk(visitor, "Book it again")
        await expect(page.locator("h1")).to_have_text("Book a call")
        await walk(visitor, "Book call")
        await expect(page.locator("h1")).to_have_text("Schedule")
        await walk(visitor, "Cancel call")
        await expect(page.get_by_role("dialog")).to_be_visible()
        await visitor.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        assert len(api.asked("POST", "/v1/scheduled-calls")) == 1


async def test_every_control_shows_that_it_has_the_focus(browser: Browser) -> None:
    """COM-08: on each view, each stop of the Tab key has an outline."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        for view in ("/", "/personas", "/schedule/new", "/payments", "/settings"):
            await visitor.open(f"/#{view}")
            unseen = []
            for _ in range(40):
                await visitor.press("Tab")
                if not await look(visitor.page, "ringed"):
                    unseen.append(await visitor.focused())
            assert unseen == [], view


async def test_the_link_over_everything_leads_to_the_content(browser: Browser) -> None:
    """COM-08: the first Tab offers to skip the menu."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open()
        await visitor.press("Tab", "Enter")
        assert await visitor.page.evaluate("document.activeElement.id") == "main"
