"""Payments over REST: cards, prices, the statement, refunds; an operator's refunds and limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest

from infra.database.audit import Audit
from infra.database.pool import pool
from infra.ids import new_id
from infra.money import Hold
from tests.doubles.front import Front, People, front, problem
from tests.doubles.payers import Payers, payers

Headers = dict[str, str]


@dataclass
class Desk:
    """A gateway whose money goes to the double."""

    front: Front
    they: Payers

    async def ask(self, method: str, path: str, who: Headers, **body: Any) -> Any:
        """The JSON of a good answer."""
        async with self.front.client.request(method, path, headers=who, json=body or None) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json() if answer.status != 204 else None

    async def refusal(self, method: str, path: str, who: Headers, **body: Any) -> tuple[int, str]:
        """Status and kind of a problem."""
        async with self.front.client.request(method, path, headers=who, json=body or None) as answer:
            return await problem(answer)

    async def payer(self, token: str = "pm_card_visa") -> tuple[str, Headers]:  # noqa: S107
        """A signed-in user with a card."""
        owner, who = await self.front.join()
        await self.they.card(owner, token)
        return owner, who

    async def paid(self, owner: str, seconds: float = 61) -> Hold:
        """A call that was paid for."""
        hold = await self.they.money.hold(owner, new_id("call"), 15)
        return await self.they.money.settle(hold.id, seconds)


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with pool(database_url, max_size=4) as connections, payers(connections) as they:
        people = People()
        dress = partial(replace, money=they.money)
        async with front(database_url, people=people, dress=dress, node_operator_token="secret") as opened:
            yield Desk(opened, they)


async def test_a_card_is_added_by_the_browser_listed_chosen_and_removed(desk: Desk) -> None:
    """CMB-56: the answers hold brand and last digits; card data goes from the browser to the processor."""
    owner, who = await desk.front.join()
    assert await desk.ask("GET", "/v1/payment-methods", who) == {"items": [], "next": None}
    setup = await desk.ask("POST", "/v1/payment-methods/setup", who)
    assert setup["client_secret"].startswith("seti_")
    assert setup["publishable_key"] == "pk_test_double"
    made = []
    for token in ("pm_card_visa", "pm_card_mastercard"):
        saved = await desk.they.browser(owner, token)
        made.append(await desk.ask("POST", "/v1/payment-methods", who, payment_method=saved))
    assert [(card["brand"], card["last4"], card["default"]) for card in made] == [
        ("visa", "4242", True),
        ("mastercard", "4444", False),
    ]
    assert set(made[0]) == {
        "id", "brand", "last4", "expires_month", "expires_year", "expired", "default", "created_at",
    }  # fmt: skip
    await desk.ask("PUT", f"/v1/payment-methods/{made[1]['id']}/default", who)
    listed = (await desk.ask("GET", "/v1/payment-methods", who))["items"]
    assert [card["last4"] for card in listed] == ["4444", "4242"]
    assert await desk.ask("DELETE", f"/v1/payment-methods/{made[1]['id']}", who) == {}
    assert [card["last4"] for card in (await desk.ask("GET", "/v1/payment-methods", who))["items"]] == ["4242"]
    gone = f"/v1/payment-methods/{made[1]['id']}"
    assert await desk.refusal("DELETE", gone, who) == (404, "payment-method-not-found")
    assert await desk.refusal("PUT", f"{gone}/default", who) == (404, "payment-method-not-found")


async def test_somebody_else_s_card_is_none(desk: Desk) -> None:
    """CMB-56: a stranger's id answers as an unknown one."""
    owner, _ = await desk.payer()
    _, stranger = await desk.front.join()
    [card] = await desk.they.money.methods(owner)
    for method, path in (
        ("DELETE", f"/v1/payment-methods/{card.id}"),
        ("PUT", f"/v1/payment-methods/{card.id}/default"),
    ):
        assert await desk.refusal(method, path, stranger) == (404, "payment-method-not-found")
    for ref in (card.provider_ref, "pm_nobody"):
        told = await desk.refusal("POST", "/v1/payment-methods", stranger, payment_method=ref)
        assert told == (404, "payment-method-not-found")
    for wrong in ("", "card_1", "pm_1; drop", "pm_" + "x" * 200):
        told = await desk.refusal("POST", "/v1/payment-methods", stranger, payment_method=wrong)
        assert told == (422, "invalid-field")
    assert await desk.refusal("GET", "/v1/payment-methods", {}) == (401, "not-authorised")


async def test_prices_are_public_and_dated(desk: Desk) -> None:
    """COM-41, CMB-51."""
    [price] = (await desk.ask("GET", "/v1/prices", {}))["items"]
    assert (price["call_usd_micros"], price["minute_usd_micros"], price["in_force"]) == (250_000, 400_000, True)
    assert price["since"].startswith("2026-01-01T00:00:00")


async def test_the_statement_is_paged_and_only_one_s_own(desk: Desk) -> None:
    """CMB-11: newest first, with the totals over all time."""
    owner, who = await desk.payer()
    holds = [await desk.paid(owner) for _ in range(2)]
    _, stranger = await desk.payer()
    first = await desk.ask("GET", "/v1/ledger?limit=3", who)
    assert [line["kind"] for line in first["items"]] == ["captured", "held", "captured"]
    assert first["items"][0]["call"] == holds[1].call_id
    assert first["totals"] == {"held_usd_micros": 0, "paid_usd_micros": 2_100_000, "refunded_usd_micros": 0}
    second = await desk.ask("GET", f"/v1/ledger?limit=3&after={first['next']}", who)
    assert [line["kind"] for line in second["items"]] == ["held"]
    assert second["next"] is None
    assert (await desk.ask("GET", "/v1/ledger", stranger))["items"] == []
    assert await desk.refusal("GET", "/v1/ledger?after=none", who) == (422, "invalid-cursor")


FAILED = """
insert into calls (id, direction, state, ended_reason, persona, from_number, to_number, answered_at, ended_at)
values ($1, 'outbound', 'failed', 'host_lost', 'mia', '+1', '+2', now() - interval '20 seconds', now())
"""


async def test_a_refund_is_given_where_the_policy_allows_it(desk: Desk) -> None:
    """CMB-55: our fault in the first minute, at once; anything else goes to a person."""
    owner, who = await desk.payer()
    fine, failed = await desk.paid(owner), await desk.paid(owner, 20)
    await desk.they.pool.execute(FAILED, failed.call_id)
    reason = {"reason": "It broke off."}
    assert await desk.refusal("POST", f"/v1/calls/{fine.call_id}/refund", who, **reason) == (409, "refund-refused")
    for _ in range(2):
        told = await desk.ask("POST", f"/v1/calls/{failed.call_id}/refund", who, **reason)
        assert (told["usd_micros"], told["state"], told["rule"], told["actor"]) == (
            650_000,
            "succeeded",
            "our_fault_first_minute",
            "policy",
        )
    _, stranger = await desk.front.join()
    for call in (failed.call_id, new_id("call")):
        told = await desk.refusal("POST", f"/v1/calls/{call}/refund", stranger, **reason)
        assert told == (404, "nothing-charged")
    assert (await desk.refusal("POST", f"/v1/calls/{fine.call_id}/refund", who, reason=""))[0] == 422


async def test_support_refunds_in_part_and_leaves_an_audit_row(desk: Desk) -> None:
    """CMB-55, COM-43: by whom, why, by which rule; the same key gives back once; never more than was taken."""
    owner, who = await desk.payer()
    _, operator = await desk.front.join("operator")
    hold = await desk.paid(owner)
    path = f"/v1/operator/calls/{hold.call_id}/refund"
    for _ in range(2):
        told = await desk.ask("POST", path, operator, reason="Silent line", key="ticket-1", usd_micros=400_000)
        assert (told["usd_micros"], told["rule"]) == (400_000, "support")
        assert told["actor"].startswith("support:user_")
    more = {"reason": "r", "key": "ticket-2", "usd_micros": 700_000}
    assert await desk.refusal("POST", path, operator, **more) == (409, "refund-refused")
    assert (await desk.ask("POST", path, operator, reason="r", key="ticket-3"))["usd_micros"] == 650_000
    assert await desk.refusal("POST", path, who, **more) == (403, "operators-only")
    unknown = f"/v1/operator/calls/{new_id('call')}/refund"
    assert await desk.refusal("POST", unknown, operator, **more) == (404, "nothing-charged")
    actions = [entry.action for entry in await Audit(desk.they.pool).of(owner)]
    assert actions.count("call.refunded") >= 2


async def test_an_operator_sets_limits_that_count_at_once(desk: Desk) -> None:
    """COM-45, CMB-09: at run time, audited; the next hold is refused."""
    owner, _ = await desk.payer()
    _, operator = await desk.front.join("operator")
    told = await desk.ask("PUT", "/v1/operator/spend-caps", operator, owner=owner, usd_micros=1_000_000, reason="fraud")
    assert told["cap_usd_micros"] == 1_000_000
    with pytest.raises(Exception, match="limit"):
        await desk.they.money.hold(owner, new_id("call"), 15)
    told = await desk.ask("PUT", "/v1/operator/spend-caps", operator, owner="system", usd_micros=5, reason="fraud")
    assert told["system_cap_usd_micros"] == 5
    assert [entry.action for entry in await Audit(desk.they.pool).of(owner)] == ["spend_cap.set"]
    wrong = {"owner": "user_1", "usd_micros": 5, "reason": "r"}
    assert await desk.refusal("PUT", "/v1/operator/spend-caps", operator, **wrong) == (422, "invalid-field")


async def test_an_operator_sees_how_payments_go(desk: Desk) -> None:
    """CMB-57, CMB-63: the share without issuers' declines, and what a minute costs."""
    owner, who = await desk.payer()
    _, operator = await desk.front.join("operator")
    await desk.paid(owner)
    told = await desk.ask("GET", "/v1/operator/payments", operator)
    assert (told["tried"], told["done"], told["success"], told["alerts"]) == (2, 2, 1.0, [])
    assert told["minute_bar_usd_micros"] == 250_000
    assert await desk.refusal("GET", "/v1/operator/payments", who) == (403, "operators-only")


async def test_payments_that_are_down_say_so(desk: Desk) -> None:
    """CMB-66, CMB-15: 503 with when to come back; what needs no processor still works."""
    _, who = await desk.front.join()
    desk.they.double.inflict({"kind": "rest_error", "status": 503})
    assert await desk.refusal("POST", "/v1/payment-methods/setup", who) == (503, "payments-down")
    assert (await desk.ask("GET", "/v1/ledger", who))["items"] == []
    assert (await desk.ask("GET", "/v1/payment-methods", who))["items"] == []
