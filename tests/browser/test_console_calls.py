"""Calls on the console: one tap rings, the page follows within a second, ends and stops; and it survives bad news."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, expect

from tests.doubles.console_api import ConsoleApi, console
from tests.doubles.inspection import look
from tests.doubles.visitor import PHONE, visiting

pytestmark = pytest.mark.asyncio(loop_scope="session")
SOON_MS = 1000  # CMB-19


async def test_one_tap_and_no_typing_rings_the_phone(browser: Browser) -> None:
    """CMB-17: from the home screen; the favourite that is first is the big button."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url, PHONE) as visitor:
        await visitor.open()
        await visitor.page.locator("button.call").click()
        await expect(visitor.page.locator(".state")).to_have_text("Dialling your number")
        assert api.asked("POST", "/v1/calls") == [{"persona": api.contacts[0], "max_minutes": 15}]
        keys = [headers.get("Idempotency-Key", "") for headers in api.headers]
        assert len([key for key in keys if len(key) >= 16]) == 1


async def test_a_second_tap_on_a_slow_line_is_not_a_second_call(browser: Browser) -> None:
    """CMB-17, COM-32: whoever taps twice is called once."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url, PHONE) as visitor:
        await visitor.open()
        await visitor.page.locator("button.call").dblclick()
        await visitor.page.locator(".live").wait_for()
        assert len(api.asked("POST", "/v1/calls")) == 1


async def test_another_number_and_length_can_be_chosen(browser: Browser) -> None:
    """CMB-16: persona, number and the longest time; what is not touched stays as it is."""
    api = ConsoleApi()
    api.numbers.append(api._number("+90 555 010 01 23", proven=True) | {"primary": False})
    async with console(api) as url, visiting(browser, url, PHONE) as visitor:
        await visitor.open()
        await visitor.page.get_by_text("Other number, other length").click()
        await visitor.page.get_by_label("Longest call, in minutes").fill("5")
        await visitor.page.get_by_label("Number", exact=True).select_option(label="+90 555 010 01 23")
        await visitor.page.locator("button.call").click()
        await visitor.page.locator(".live").wait_for()
        [sent] = api.asked("POST", "/v1/calls")
        assert (sent["max_minutes"], sent["number"]) == (5, api.numbers[1]["id"])


async def test_the_shortcut_of_the_installed_app_rings_at_once_and_once(browser: Browser) -> None:
    """CMB-17: opened from the home screen of the phone; loading the page again does not ring again."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url, PHONE) as visitor:
        await visitor.open("/call-me")
        await visitor.page.locator(".live").wait_for()
        assert visitor.page.url == f"{url}/#/"
        await visitor.page.reload()
        await visitor.page.locator(".live").wait_for()
        assert len(api.asked("POST", "/v1/calls")) == 1


async def test_another_page_cannot_make_the_phone_ring(browser: Browser) -> None:
    """CMB-17, COM-34: a link elsewhere to the shortcut, or to the view behind it, shows the home screen."""
    api, foreign = ConsoleApi(), ConsoleApi()
    async with console(api) as url, console(foreign) as other, visiting(browser, url) as visitor:
        elsewhere = other.replace("127.0.0.1", "localhost")
        await visitor.page.goto(f"{elsewhere}/#/help")
        for target in ("/call-me", "/#/ringing"):
            await visitor.page.evaluate("to => { location.href = to }", url + target)
            await visitor.page.wait_for_url(url + "/**")
            await visitor.page.locator("button.call").wait_for()
            await visitor.page.goto(f"{elsewhere}/#/help")
        assert api.asked("POST", "/v1/calls") == []


async def test_the_page_follows_a_call_within_a_second(browser: Browser) -> None:
    """CMB-19: every state from dialling to the end, the words as they are said, the meter, what it came to."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open()
        await visitor.page.locator("button.call").click()
        state = visitor.page.locator(".state")
        await expect(state).to_have_text("Dialling your number")
        await api.followed.wait()
        api.move("ringing")
        await expect(state).to_have_text("Your phone is ringing", timeout=SOON_MS)
        api.answer()
        await expect(state).to_have_text("On the line", timeout=SOON_MS)
        await expect(visitor.page.locator(".figures")).to_contain_text("$0.65", timeout=SOON_MS)
        api.say("bot", "Hello, this is Nadia. I am an AI.")
        api.say("caller", "Thank you for calling.")
        await expect(visitor.page.locator(".script li")).to_have_count(2, timeout=SOON_MS)
        log = visitor.page.locator(".script")
        assert await log.get_attribute("aria-live") == "polite"
        assert await log.get_attribute("role") == "log"
        api.tell("meter", {"seconds": 61, "cost_usd_micros": 1_050_000})
        await expect(visitor.page.locator(".figures")).to_contain_text("$1.05", timeout=SOON_MS)
        api.end(seconds=61, settled=False)
        await expect(state).to_have_text("You talked; the caller hung up.", timeout=SOON_MS)
        await expect(visitor.page.locator(".figures")).to_contain_text("1:01")
        api.move("ringing")  # late news of the carrier's
        api.move("completed", cost_usd_micros=900_000)
        await expect(visitor.page.locator(".figures")).to_contain_text("$0.90", timeout=SOON_MS)
        await expect(state).to_have_text("You talked; the caller hung up.")


async def test_words_in_a_transcript_are_words(browser: Browser) -> None:
    """COM-34: what is said never becomes markup."""
    api = ConsoleApi()
    api.calls.insert(0, api._call(api.personas[0], "in_progress"))
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open()
        await api.followed.wait()
        api.say("caller", "<img src=x onerror=\"document.title='broken'\"><b>bold</b>")
        await expect(visitor.page.locator(".script .words")).to_contain_text("<b>bold</b>")
        assert await visitor.page.locator(".script img, .script b").count() == 0


async def test_hanging_up_ends_the_call(browser: Browser) -> None:
    """CMB-21: one button; the page says how it ended."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url, PHONE) as visitor:
        await visitor.open()
        await visitor.page.locator("button.call").click()
        await visitor.button("Hang up").click()
        await expect(visitor.page.locator(".state")).to_have_text("Nobody answered; nothing was charged.")
        await expect(visitor.button("Hang up")).to_have_count(0)


async def test_stop_ends_the_call_and_takes_the_number_off(browser: Browser) -> None:
    """CMB-05: by the page, in one tap, at once."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url, PHONE) as visitor:
        await visitor.open()
        await visitor.page.locator("button.call").click()
        await visitor.button("STOP calling me").click()
        await expect(visitor.page.locator("#said")).to_contain_text("This number is not called")
        assert api.opted_out == [api.numbers[0]["id"]]
        assert api.calls[0]["state"] == "canceled"


@pytest.mark.parametrize(
    ("status", "kind", "detail", "way"),
    [
        (402, "card-declined", "The card was declined. Use another card, or ask your bank why.", "#/payments"),
        (402, "no-payment-method", "There is no card on file. Add one under Payments.", "#/payments"),
        (403, "number-not-verified", "This number is not proven yet.", "#/welcome"),
        (403, "opted-out", "This number asked not to be called.", "#/settings"),
        (503, "no-capacity", "All lines are taken. Try again in a minute.", None),
    ],
)
async def test_a_call_that_cannot_be_made_says_why_and_what_to_do(
    browser: Browser, status: int, kind: str, detail: str, way: str | None
) -> None:
    """CMB-15: the problem's own words, and the way to mend it."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url, PHONE) as visitor:
        await visitor.open()
        api.refuse("POST", "/v1/calls", status, kind, detail)
        await visitor.page.locator("button.call").click()
        notice = visitor.page.get_by_role("alert")
        await expect(notice).to_contain_text(detail)
        links = [await link.get_attribute("href") for link in await notice.locator("a").all()]
        assert links == ([way] if way else [])


async def test_quiet_hours_ask_for_an_explicit_yes(browser: Browser) -> None:
    """CMB-04: a call that was asked for may come in quiet hours, if that is said."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open()
        api.refuse("POST", "/v1/calls", 409, "quiet-hours", "It is 23:10 where you are.")
        await visitor.page.locator("button.call").click()
        await visitor.button("Call me anyway").click()
        await visitor.page.locator(".live").wait_for()
        first, second = api.asked("POST", "/v1/calls")
        assert "outside_hours" not in first
        assert second["outside_hours"] is True


async def test_a_session_that_ran_out_is_renewed_unseen(browser: Browser) -> None:
    """COM-26: the access token lasts a quarter of an hour; nobody notices."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open()
        api.expired = True
        await visitor.go("/personas")
        assert await visitor.heading() == "Personas"
        assert api.renewals == 1


async def test_a_session_that_is_over_leads_to_the_door_and_back(browser: Browser) -> None:
    """COM-26: signed out elsewhere; after signing in again one is where one was going."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open()
        api.signed_in = False
        await visitor.page.evaluate("location.hash = '/usage'")
        await visitor.page.get_by_label("E-mail").wait_for()
        assert await visitor.heading() == "Sign in"


async def test_every_change_bears_the_csrf_token(browser: Browser) -> None:
    """COM-34: the cookie's value in the header, on each request that changes something."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open()
        api.expired = True  # renewed: from now on the cookie has a value
        await visitor.go("/personas")
        await visitor.page.get_by_role("button", name="Favourite: Samir").click()
        await expect(visitor.page.locator("#said")).to_contain_text("Samir")
        [sent] = [
            headers
            for (method, path, _), headers in zip(api.requests, api.headers, strict=True)
            if method == "PUT" and path.startswith("/v1/contacts/")
        ]
        assert sent["X-CSRF"] == "csrf-1"


async def test_the_history_is_filtered_paged_and_opened(browser: Browser) -> None:
    """CMB-46, CMB-47: by persona and outcome; older ones on demand; transcript, recording and cost of one."""
    api = ConsoleApi()
    for _ in range(30):
        api.calls.append(api._call(api.personas[1], "no_answer", 20, 0))
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/calls")
        rows = visitor.page.locator(".calendar li")
        await expect(rows).to_have_count(20)
        await visitor.button("Show older ones").click()
        await expect(rows).to_have_count(34)
        await expect(visitor.button("Show older ones")).to_be_hidden()
        await visitor.page.get_by_label("Outcome").select_option("completed")
        await expect(rows).to_have_count(3)
        await rows.first.locator("a").click()
        await expect(visitor.page.locator("h1")).to_have_text(re.compile("^Call by "))
        await expect(visitor.page.locator(".script li")).to_have_count(3)
        await expect(visitor.page.locator(".facts")).to_contain_text("$1.05")
        await expect(visitor.page.locator(".facts")).to_contain_text("0.9 s")
        shown = visitor.page.url.rpartition("/")[2]
        await expect(visitor.page.locator("audio")).to_have_attribute("src", f"/v1/calls/{shown}/recording")


async def test_a_conversation_is_found_and_opened_where_it_was_said(browser: Browser) -> None:
    """CMB-48: the hit leads to the words themselves."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open("/#/search")
        await visitor.page.get_by_label("What was it about?").fill("garden")
        await visitor.press("Enter")
        await visitor.page.locator(".hits a").first.click()
        await expect(visitor.page.locator(".marked")).to_contain_text("the garden again")


async def test_money_comes_back_where_the_policy_allows_it(browser: Browser) -> None:
    """CMB-55: asked for on the call's own page; a refusal says where to turn."""
    api = ConsoleApi()
    call = next(call for call in api.calls if call["transcript"])
    async with console(api) as url, visiting(browser, url) as visitor:
        await visitor.open(f"/#/calls/{call['id']}")
        await visitor.button("Ask for the money back").click()
        reason = visitor.page.get_by_label("What went wrong?")
        await reason.fill("It was too loud.")
        await visitor.button("Ask for it").click()
        await expect(visitor.page.get_by_role("alert")).to_contain_text("outside the policy")
        await reason.fill("It broke off.")
        await visitor.button("Ask for it").click()
        await expect(visitor.page.locator("#said")).to_contain_text("on its way")


async def test_a_view_opens_at_once(browser: Browser) -> None:
    """COM-08: the installed app's shell comes from the device, and the API never does."""
    api = ConsoleApi()
    async with console(api) as url, visiting(browser, url, service_workers="allow") as visitor:
        await visitor.open()
        await visitor.page.evaluate("navigator.serviceWorker.ready.then(() => true)")
        await visitor.page.wait_for_function("() => navigator.serviceWorker.controller")
        kept = await look(visitor.page, "kept")
        assert f"{url}/console/app.js" in kept
        assert [address for address in kept if "/v1/" in address] == []
        answered = len(api.served)
        await visitor.page.reload()
        await visitor.settled()
        assert {path for path in api.served[answered:] if path.startswith("/console/")} <= {"/console/sw.js"}
