"""How the card processor in a box takes requests: keys, parameters, idempotency, pages, expansion, faults."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import stripe

from tests.doubles.stripe_shop import Shop, shop_at
from transports.simulator.payments.double import Config, Double, serving

DAY_S = 86_400
HOLD = {
    "amount": "625",
    "currency": "usd",
    "payment_method": "pm_card_visa",
    "capture_method": "manual",
    "confirm": "true",
    "automatic_payment_methods[enabled]": "true",
    "automatic_payment_methods[allow_redirects]": "never",
}


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    async with serving(Config(seed=5)) as served:
        yield served


@pytest.fixture
async def shop(double: Double) -> AsyncIterator[Shop]:
    async with shop_at(double.url, double.config.secret_key) as opened:
        yield opened


@pytest.fixture
async def http(double: Double) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {double.config.secret_key}"}
    async with aiohttp.ClientSession(double.url, headers=headers) as session:
        yield session


async def post(
    http: aiohttp.ClientSession, path: str, form: dict[str, str], key: str | None = None
) -> tuple[int, Any, aiohttp.ClientResponse]:
    async with http.post(path, data=form, headers={"Idempotency-Key": key} if key else {}) as response:
        return response.status, await response.json(), response


def held(double: Double) -> list[str]:
    return [intent["id"] for intent in double.state()["intents"]]


async def test_the_same_key_with_the_same_parameters_replays_the_answer(
    http: aiohttp.ClientSession, double: Double
) -> None:
    """COM-65: one hold, two equal answers, and a header that tells."""
    status, first, answer = await post(http, "/v1/payment_intents", HOLD, "hold-1")
    again, second, replay = await post(http, "/v1/payment_intents", HOLD, "hold-1")
    assert (status, again, first == second) == (200, 200, True)
    assert "Idempotent-Replayed" not in answer.headers
    assert replay.headers["Idempotent-Replayed"] == "true"
    assert replay.headers["Original-Request"] == answer.headers["Request-Id"] != replay.headers["Request-Id"]
    assert replay.headers["Idempotency-Key"] == "hold-1"
    assert held(double) == [first["id"]]
    assert [request["replayed"] for request in double.requests] == [False, True]


async def test_a_key_serves_one_purpose(shop: Shop, double: Double) -> None:
    """COM-65: other parameters or another endpoint are an idempotency_error, 400."""
    customer = await shop.customer()
    card = await shop.card(customer)
    intent = await shop.charge(customer, card, 625, "key-1")
    with pytest.raises(stripe.IdempotencyError, match="same parameters"):
        await shop.charge(customer, card, 626, "key-1")
    with pytest.raises(stripe.IdempotencyError, match="same endpoint"):
        await shop.sdk.v1.payment_intents.capture_async(intent.id, None, {"idempotency_key": "key-1"})
    assert held(double) == [intent.id]


async def test_a_second_request_while_the_first_is_under_way_is_a_conflict(
    http: aiohttp.ClientSession, double: Double
) -> None:
    """COM-65: 409, nothing done twice, and the answer is there afterwards."""
    double.inflict({"kind": "rest_slow", "ms": 1000, "times": 1})
    first = asyncio.create_task(post(http, "/v1/payment_intents", HOLD, "hold-1"))
    async with asyncio.timeout(5):
        while not double.faults.status()[0]["struck"]:  # noqa: ASYNC110  # a state of the server under test
            await asyncio.sleep(0.01)
    status, refused, answer = await post(http, "/v1/payment_intents", HOLD, "hold-1")
    assert (status, refused["error"]["type"]) == (409, "idempotency_error")
    assert refused["error"]["code"] == "idempotency_key_in_use"
    assert answer.headers["Stripe-Should-Retry"] == "true"
    _, done, _ = await first
    assert (await post(http, "/v1/payment_intents", HOLD, "hold-1"))[1] == done
    assert len(held(double)) == 1


async def test_a_key_is_forgotten_after_a_day_of_the_doubles_clock(http: aiohttp.ClientSession, double: Double) -> None:
    """COM-65: a late repetition is a new request."""
    await post(http, "/v1/payment_intents", HOLD, "hold-1")
    double.advance(DAY_S - 60)
    await post(http, "/v1/payment_intents", HOLD, "hold-1")
    assert len(held(double)) == 1
    double.advance(61)
    await post(http, "/v1/payment_intents", HOLD, "hold-1")
    assert len(held(double)) == 2


async def test_what_was_not_carried_out_leaves_the_key_free(http: aiohttp.ClientSession, double: Double) -> None:
    """COM-65: parameters that make no sense, limits, and faults in front of the endpoint are not kept."""
    assert (await post(http, "/v1/payment_intents", HOLD | {"amount": "x"}, "hold-1"))[0] == 400
    double.inflict({"kind": "rest_too_many", "times": 1}, {"kind": "rest_error", "status": 503, "times": 1})
    assert (await post(http, "/v1/payment_intents", HOLD, "hold-1"))[0] == 429
    status, _, answer = await post(http, "/v1/payment_intents", HOLD, "hold-1")
    assert (status, answer.headers["Stripe-Should-Retry"]) == (503, "true")
    status, _, answer = await post(http, "/v1/payment_intents", HOLD, "hold-1")
    assert (status, "Idempotent-Replayed" in answer.headers, len(held(double))) == (200, False, 1)


async def test_a_decline_is_an_answer_and_is_kept(shop: Shop, double: Double) -> None:
    """COM-65: the same key never tries the card twice, even when it would be taken now."""
    customer = await shop.customer()
    card = await shop.card(customer)
    double.card({"payment_method": card, "hold": "insufficient_funds"})
    with pytest.raises(stripe.CardError):
        await shop.charge(customer, card, 625, "try-1")
    double.card({"payment_method": card, "hold": "ok"})
    with pytest.raises(stripe.CardError) as caught:
        await shop.charge(customer, card, 625, "try-1")
    assert caught.value.headers is not None
    assert caught.value.headers["Idempotent-Replayed"] == "true"
    assert (await shop.charge(customer, card, 625, "try-2")).status == "requires_capture"


async def test_a_500_after_the_work_was_done_is_kept_too(shop: Shop, double: Double) -> None:
    """COM-65: as at Stripe; only looking it up tells that the money is held."""
    customer = await shop.customer()
    card = await shop.card(customer)
    double.inflict({"kind": "rest_error", "done": True, "path": "/v1/payment_intents", "times": 1})
    for _ in range(2):
        with pytest.raises(stripe.APIError) as caught:
            await shop.charge(customer, card, 625, "hold-1")
        assert caught.value.http_status == 500
    (found,) = (await shop.sdk.v1.payment_intents.list_async({"customer": customer})).data
    assert (found.status, found.amount_capturable) == ("requires_capture", 625)


async def test_a_lost_reply_is_healed_by_the_same_key(shop: Shop, double: Double) -> None:
    """COM-65, CMB-54: the capture was carried out, and is not carried out again."""
    intent = await shop.hold()
    double.inflict({"kind": "rest_lost_reply", "method": "POST", "path": "*/capture", "times": 1})
    with pytest.raises(stripe.APIConnectionError):
        await shop.sdk.v1.payment_intents.capture_async(intent.id, None, {"idempotency_key": "capture-1"})
    assert double.state()["totals"]["captured"] == 625
    healed = await shop.sdk.v1.payment_intents.capture_async(intent.id, None, {"idempotency_key": "capture-1"})
    assert healed.amount_received == 625
    assert [request["fault"] for request in double.requests[-2:]] == ["rest_lost_reply", None]


async def test_the_sdks_own_retries_charge_once(double: Double) -> None:
    """COM-65: it makes a key of its own when it may retry."""
    double.inflict({"kind": "rest_lost_reply", "path": "/v1/payment_intents", "times": 1})
    async with shop_at(double.url, double.config.secret_key, retries=2) as shop:
        assert (await shop.hold()).status == "requires_capture"
    assert len(held(double)) == 1
    assert double.requests[-1]["replayed"] is True


async def test_a_request_that_hangs_may_have_been_carried_out_or_not(shop: Shop, double: Double) -> None:
    """COM-65: the caller's patience ends, not ours."""
    intent = await shop.hold()
    for done, captured in ((False, 0), (True, 625)):
        double.lift()
        double.inflict({"kind": "rest_hang", "path": "*/capture", "done": done, "times": 1})
        asked = len(double.requests)
        hanging = asyncio.create_task(shop.sdk.v1.payment_intents.capture_async(intent.id))
        async with asyncio.timeout(5):
            while len(double.requests) == asked:  # noqa: ASYNC110  # a state of the server under test
                await asyncio.sleep(0.01)
        assert double.state()["totals"]["captured"] == captured
        assert double.requests[-1] | {"fault": "rest_hang", "status": 0} == double.requests[-1]
        assert not hanging.done()
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)


async def test_a_reset_forgets_what_is_under_way(http: aiohttp.ClientSession, double: Double) -> None:
    """COM-65: the answer still comes, and its key is free."""
    double.inflict({"kind": "rest_slow", "ms": 150, "times": 1})
    slow = asyncio.create_task(post(http, "/v1/customers", {}, "key-1"))
    async with asyncio.timeout(5):
        while not double.faults.status()[0]["struck"]:  # noqa: ASYNC110  # a state of the server under test
            await asyncio.sleep(0.01)
    double.reset()
    assert (await slow)[0] == 200
    assert (await post(http, "/v1/customers", {"name": "other"}, "key-1"))[0] == 200


async def test_a_slow_answer_is_late_by_what_was_asked_for(shop: Shop, double: Double) -> None:
    """COM-65: latency."""
    double.inflict({"kind": "rest_slow", "ms": 200, "path": "/v1/customers"})
    began = time.monotonic()
    await shop.customer()
    assert time.monotonic() - began >= 0.2


async def test_faults_strike_where_and_how_often_they_were_told(shop: Shop, double: Double) -> None:
    """COM-65: by method, path, count, and after so many."""
    double.inflict({"kind": "rest_error", "method": "GET", "path": "/v1/customers/*", "after": 1, "times": 1})
    customer = await shop.customer()
    assert (await shop.sdk.v1.customers.retrieve_async(customer)).id == customer
    with pytest.raises(stripe.APIError):
        await shop.sdk.v1.customers.retrieve_async(customer)
    assert (await shop.sdk.v1.customers.retrieve_async(customer)).id == customer
    (rule,) = double.faults.status()
    assert (rule["seen"], rule["struck"]) == (2, 1)


async def test_the_same_seed_gives_the_same_faults(double: Double) -> None:
    """COM-65: a failure that was found can be found again."""
    drawn = []
    for _ in range(2):
        double.lift()
        double.inflict({"kind": "rest_too_many", "probability": 0.5})
        drawn.append([double.faults.request("GET", "/v1/events") is not None for _ in range(40)])
    assert drawn[0] == drawn[1]
    assert {True, False} == set(drawn[0])


async def test_a_request_needs_the_right_key(double: Double) -> None:
    """COM-65: 401 without it; the publishable one is for browsers."""
    async with shop_at(double.url, "sk_test_somebody_else") as stranger:
        with pytest.raises(stripe.AuthenticationError, match="Invalid API Key"):
            await stranger.customer()
    async with shop_at(double.url, double.config.publishable_key) as browser:
        with pytest.raises(stripe.AuthenticationError, match="publishable"):
            await browser.customer()
    async with aiohttp.ClientSession() as session, session.get(double.url + "/v1/customers") as response:
        assert response.status == 401
        assert response.headers["Request-Id"].startswith("req_")
    basic = {"Authorization": "Basic " + base64.b64encode(f"{double.config.secret_key}:".encode()).decode()}
    async with aiohttp.ClientSession(headers=basic) as session, session.get(double.url + "/v1/customers") as response:
        assert response.status == 200


async def test_a_browser_confirms_the_setup_whose_secret_it_was_given(shop: Shop, double: Double) -> None:
    """COM-65: as Stripe.js does with a typed card; another secret opens nothing."""
    customer = await shop.customer()
    setup = await shop.sdk.v1.setup_intents.create_async(
        {"customer": customer, "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"}}
    )
    card = {"number": "4242 4242 4242 4242", "exp_month": "12", "exp_year": "34", "cvc": "123"}
    form = {f"payment_method_data[card][{name}]": value for name, value in card.items()}
    form |= {"payment_method_data[type]": "card", "client_secret": "wrong"}
    async with aiohttp.ClientSession(
        double.url, headers={"Authorization": f"Bearer {double.config.publishable_key}"}
    ) as browser:
        assert (await post(browser, f"/v1/setup_intents/{setup.id}/confirm", form))[0] == 404
        form["client_secret"] = str(setup.client_secret)
        status, done, answer = await post(browser, f"/v1/setup_intents/{setup.id}/confirm", form)
        assert (status, done["status"]) == (200, "succeeded")
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        form["payment_method_data[card][number]"] = "4242424242424241"
        setup = await shop.sdk.v1.setup_intents.create_async({"customer": customer})
        form["client_secret"] = str(setup.client_secret)
        status, refused, _ = await post(browser, f"/v1/setup_intents/{setup.id}/confirm", form)
        assert (status, refused["error"]["code"]) == (402, "incorrect_number")
    assert [
        each.card.last4
        for each in (await shop.sdk.v1.payment_methods.list_async({"customer": customer})).data
        if each.card
    ] == ["4242"]


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"amount": "12.5"}, "parameter_invalid_integer", "amount"),
        ({"amount": "0"}, "parameter_invalid_integer", "amount"),
        ({"amount": "49"}, "amount_too_small", "amount"),
        ({"amount": "100000000"}, "parameter_invalid_integer", "amount"),
        ({"currency": ""}, "parameter_invalid_empty", "currency"),
        ({"currency": "xyz"}, None, "currency"),
        ({"confirm": "yes"}, None, "confirm"),
        ({"capture_method": "later"}, None, "capture_method"),
        ({"colour": "red"}, "parameter_unknown", "colour"),
        ({"payment_method_types[0]": "card"}, "payment_method_types_no_longer_supported", "payment_method_types"),
        ({"payment_method": "pm_nobody"}, "resource_missing", "payment_method"),
        ({"customer": "cus_nobody"}, "resource_missing", "customer"),
        ({"metadata[k]": "v" * 501}, None, "metadata"),
        ({"metadata": "text"}, None, "metadata"),
        ({"automatic_payment_methods[allow_redirects]": "always"}, None, "return_url"),
        ({"statement_descriptor": "RINGDOWN"}, None, "statement_descriptor"),
        ({"allowed_payment_method_types[0]": "card"}, None, "automatic_payment_methods"),
        ({"expand[0]": "latest_charge.nothing"}, None, None),
    ],
)
async def test_wrong_parameters_are_named_and_nothing_is_done(
    http: aiohttp.ClientSession, double: Double, change: dict[str, str], code: str | None, param: str | None
) -> None:
    """COM-65: type, code, param and message as Stripe has them."""
    status, body, _ = await post(http, "/v1/payment_intents", HOLD | change)
    error = body["error"]
    assert (status, error["type"], error.get("code"), error.get("param")) == (400, "invalid_request_error", code, param)
    assert error["message"]
    assert held(double) == []


async def test_what_is_missing_is_named(http: aiohttp.ClientSession) -> None:
    """COM-65: Missing required param."""
    status, body, _ = await post(http, "/v1/payment_intents", {"amount": "625"})
    assert (status, body["error"]["code"], body["error"]["param"]) == (400, "parameter_missing", "currency")


async def test_unknown_ids_and_addresses_are_not_found(shop: Shop, http: aiohttp.ClientSession) -> None:
    """COM-65: 404, with the id in the message."""
    with pytest.raises(stripe.InvalidRequestError, match="No such payment_intent: 'pi_nobody'") as caught:
        await shop.sdk.v1.payment_intents.retrieve_async("pi_nobody")
    assert (caught.value.http_status, caught.value.code) == (404, "resource_missing")
    status, body, _ = await post(http, "/v1/subscriptions", {})
    assert (status, body["error"]["message"]) == (404, "Unrecognized request URL (POST: /v1/subscriptions).")


async def test_lists_are_paged_from_the_newest(shop: Shop, double: Double) -> None:
    """COM-65: has_more, starting_after, ending_before, and the SDK's own paging."""
    made = [await shop.customer(name=str(number)) for number in range(5)]
    first = await shop.sdk.v1.customers.list_async({"limit": 2})
    assert ([each.id for each in first.data], first.has_more) == (made[:2:-1], True)
    last = await shop.sdk.v1.customers.list_async({"limit": 2, "starting_after": made[1]})
    assert ([each.id for each in last.data], last.has_more) == ([made[0]], False)
    before = await shop.sdk.v1.customers.list_async({"limit": 2, "ending_before": made[0]})
    assert [each.id for each in before.data] == [made[2], made[1]]
    assert [each.id async for each in first.auto_paging_iter()] == made[::-1]
    with pytest.raises(stripe.InvalidRequestError):
        await shop.sdk.v1.customers.list_async({"limit": 101})
    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        await shop.sdk.v1.customers.list_async({"starting_after": "cus_nobody"})


async def test_lists_are_bounded_by_time(shop: Shop, double: Double) -> None:
    """COM-65: created[gte] finds what happened since; for reconciling."""
    old = await shop.hold()
    double.advance(3600)
    since = double.now
    new = await shop.hold()
    found = await shop.sdk.v1.payment_intents.list_async({"created": {"gte": since}})
    assert [each.id for each in found.data] == [new.id]
    found = await shop.sdk.v1.payment_intents.list_async({"created": {"lt": since}})
    assert [each.id for each in found.data] == [old.id]


async def test_linked_resources_are_expanded(shop: Shop) -> None:
    """COM-65: over several levels, in lists, and the refunds of a charge."""
    intent = await shop.hold(amount=1000, capture_method="automatic")
    await shop.sdk.v1.refunds.create_async({"payment_intent": intent.id, "amount": 100})
    whole = await shop.sdk.v1.payment_intents.retrieve_async(
        intent.id,
        {
            "expand": [
                "customer.invoice_settings.default_payment_method",
                "latest_charge.balance_transaction",
                "latest_charge.refunds",
                "payment_method",
            ]
        },
    )
    seen = whole.to_dict()
    assert seen["customer"]["object"] == "customer"
    assert seen["payment_method"]["card"]["last4"] == "4242"
    assert seen["latest_charge"]["balance_transaction"]["net"] == 941
    assert [refund["amount"] for refund in seen["latest_charge"]["refunds"]["data"]] == [100]
    listed = await shop.sdk.v1.refunds.list_async({"expand": ["data.charge.payment_intent"]})
    assert listed.to_dict()["data"][0]["charge"]["payment_intent"]["id"] == intent.id


async def test_metadata_is_merged_and_taken_away(shop: Shop) -> None:
    """COM-65: an empty value removes a name, an empty whole removes all."""
    customer = await shop.customer(metadata={"a": "1", "b": "2"})
    changed = await shop.sdk.v1.customers.update_async(customer, {"metadata": {"a": "", "c": "3"}})
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}
    emptied = await shop.sdk.v1.customers.update_async(customer, {"metadata": ""})
    assert emptied.metadata is not None
    assert emptied.metadata.to_dict() == {}
