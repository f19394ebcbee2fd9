"""The card processor in a box as a program: its command line and its control API."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import aiohttp.web
import pytest

from tests.doubles.stripe_shop import Shop, shop_at
from transports.simulator.payments.cli import main
from transports.simulator.payments.double import DOUBLE, Config, Double, payments_app, serving

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    async with serving(Config()) as served:
        yield served


@pytest.fixture
async def shop(double: Double) -> AsyncIterator[Shop]:
    async with shop_at(double.url, double.config.secret_key) as opened:
        yield opened


@pytest.fixture
async def http(double: Double) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(double.url) as session:
        yield session


async def ask(http: aiohttp.ClientSession, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with http.request(method, path, json=body) as response:
        return response.status, await response.json(content_type=None)


async def test_everything_a_test_does_can_be_done_over_http(
    shop: Shop, double: Double, http: aiohttp.ClientSession
) -> None:
    """COM-65: faults, clock, cards, 3-D Secure, disputes, state, requests, reset."""
    status, card = await ask(http, "POST", "/control/cards", {"token": "pm_card_ours", "hold": "action"})
    assert (status, card["token"], card["hold"]) == (201, "pm_card_ours", "action")
    asked = await shop.hold("pm_card_ours", capture_method="automatic")
    status, intent = await ask(http, "POST", "/control/authenticate", {"intent": asked.id})
    assert (status, intent["status"]) == (200, "succeeded")
    status, dispute = await ask(http, "POST", "/control/disputes", {"payment": asked.id, "amount": 100})
    assert (status, dispute["amount"], dispute["status"]) == (201, 100, "needs_response")
    status, won = await ask(http, "POST", f"/control/disputes/{dispute['id']}", {"status": "won"})
    assert (status, won["status"]) == (200, "won")
    held = await shop.hold()
    status, clock = await ask(http, "POST", "/control/clock", {"advance": 7 * 86_400})
    assert (status, clock["expired"]) == (200, [held.id])
    assert (await ask(http, "GET", "/control/clock"))[1]["now"] >= clock["now"]
    status, state = await ask(http, "GET", "/control/state")
    assert [each["status"] for each in state["intents"]] == ["succeeded", "canceled"]
    rules = [{"kind": "rest_slow", "ms": 1}, {"kind": "webhook_drop", "event": "charge.*"}]
    status, faults = await ask(http, "POST", "/control/faults", {"faults": rules})
    assert (status, [fault["kind"] for fault in faults["faults"]]) == (201, ["rest_slow", "webhook_drop"])
    assert (await ask(http, "DELETE", "/control/faults"))[1] == {"faults": []}
    _, requests = await ask(http, "GET", "/control/requests")
    assert requests[0]["path"] == "/v1/customers"
    assert len((await ask(http, "GET", "/control/cards"))[1]["cards"]) > 20
    await ask(http, "POST", "/control/reset")
    assert (await ask(http, "GET", "/control/state"))[1]["intents"] == []
    assert abs(double.now - state["now"]) > 6 * 86_400


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/control/faults", {"kind": "rest_nothing"}, "Unknown fault"),
        ("/control/faults", {"kind": "rest_error", "status": 404}, "status lies between"),
        ("/control/faults", {"kind": "rest_error", "colour": 1}, "knows no colour"),
        ("/control/faults", {"kind": "rest_error", "probability": 2}, "probability lies"),
        ("/control/faults", {"kind": "rest_error", "times": "2"}, "times is a whole number"),
        ("/control/faults", [1], "JSON object"),
        ("/control/clock", {}, "advance is missing"),
        ("/control/clock", {"advance": -1}, "advance lies between"),
        ("/control/clock", {"advance": "day"}, "advance is a number"),
        ("/control/cards", {"hold": "ok"}, "either token or payment_method"),
        ("/control/cards", {"token": "pm_x", "hold": "bankrupt"}, "hold is one of"),
        ("/control/cards", {"payment_method": "pm_nobody", "hold": "ok"}, "no payment method"),
        ("/control/authenticate", {"intent": "pi_nobody"}, "No such payment_intent"),
        ("/control/disputes", {"payment": "pi_nobody"}, "No such payment_intent"),
        ("/control/disputes", {"payment": "ch_x", "reason": "bored"}, "reason is one of"),
        ("/control/webhooks/resend", {"event": "evt_nobody"}, "evt_nobody"),
    ],
)
async def test_a_control_call_that_makes_no_sense_is_told_why(
    http: aiohttp.ClientSession, path: str, body: Any, says: str
) -> None:
    """COM-65: a problem document, not a silent nothing."""
    status, problem = await ask(http, "POST", path, body)
    assert status in (400, 404)
    assert says in problem["detail"]


async def test_a_cardholder_may_prove_who_they_are_on_a_page(
    shop: Shop, double: Double, http: aiohttp.ClientSession
) -> None:
    """COM-65: the redirect of 3-D Secure leads there and back."""
    intent = await shop.hold(
        "pm_card_authenticationRequired",
        automatic_payment_methods={"enabled": True},
        return_url="https://shop.example/back?order=1",
    )
    assert intent.next_action is not None
    assert intent.next_action.redirect_to_url is not None
    url = str(intent.next_action.redirect_to_url.url)
    async with http.get(url) as response:
        assert "stands in for the cardholder's bank" in await response.text()
    async with http.post(url, data={"outcome": "succeed"}, allow_redirects=False) as response:
        assert response.status == 303
        assert response.headers["Location"].startswith(f"https://shop.example/back?order=1&payment_intent={intent.id}")
    assert double.state()["totals"]["held"] == 625


async def test_the_application_serves_inside_another_program() -> None:
    """COM-65: payments_app and its state."""
    app = payments_app(Config(secret_key="sk_test_mine"))
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    try:
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        async with shop_at(f"http://127.0.0.1:{runner.addresses[0][1]}", "sk_test_mine") as shop:
            intent = await shop.hold()
        assert [each["id"] for each in app[DOUBLE].state()["intents"]] == [intent.id]
    finally:
        await runner.cleanup()


async def test_the_program_says_where_it_is_and_ends_with_its_input() -> None:
    """COM-65: `python -m transports.simulator.payments --json --until-eof`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "transports.simulator.payments", "--json", "--until-eof"),
        *("--secret-key", "sk_test_cli", "--fault", '{"kind": "rest_too_many", "path": "/v1/customers", "times": 1}'),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    try:
        async with asyncio.timeout(20):
            told = json.loads(await process.stdout.readline())
            assert told["control"] == told["url"] + "/control"
            async with aiohttp.ClientSession(headers={"Authorization": "Bearer sk_test_cli"}) as session:
                statuses = []
                for _ in range(2):
                    async with session.post(told["url"] + "/v1/customers") as response:
                        statuses.append(response.status)
            assert statuses == [429, 200]
            process.stdin.close()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.mark.parametrize(
    "switches", [["--fault", "[]"], ["--fault", '{"kind": "x"}'], ["--fault", "{"], ["--webhook-url", "there"]]
)
def test_switches_that_make_no_sense_end_with_2(switches: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """COM-65: and a sentence on standard error."""
    assert main(switches) == 2
    assert capsys.readouterr().err.startswith("payments: ")


def test_the_help_shows_examples_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    """COM-65: --help."""
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "exit codes:" in text
    assert "--webhook-secret" in text
