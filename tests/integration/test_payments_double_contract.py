"""The card processor in a box against the typed resources and parameters of the `stripe` SDK: every name exists."""

from __future__ import annotations

import importlib
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest
import stripe

from tests.doubles.stripe_shop import Shop, shop_at
from transports.simulator.payments.double import Config, Double, serving
from transports.simulator.payments.errors import DECLINES
from transports.simulator.payments.params import Gone
from transports.simulator.payments.rest import OPERATIONS, Operation

RESOURCES = {
    "balance": stripe.Balance,
    "balance_transaction": stripe.BalanceTransaction,
    "charge": stripe.Charge,
    "customer": stripe.Customer,
    "dispute": stripe.Dispute,
    "event": stripe.Event,
    "payment_intent": stripe.PaymentIntent,
    "payment_method": stripe.PaymentMethod,
    "refund": stripe.Refund,
    "setup_intent": stripe.SetupIntent,
}
# Payment methods other than cards are refused by their type, not parameter by parameter.
CARDS_ONLY = {"POST /v1/payment_methods"}
# What a browser sends with the publishable key; the SDK of a server never does.
BROWSER = {"client_secret"}


@pytest.fixture
async def double() -> AsyncIterator[Double]:
    async with serving(Config()) as served:
        yield served


@pytest.fixture
async def shop(double: Double) -> AsyncIterator[Shop]:
    async with shop_at(double.url, double.config.secret_key) as opened:
        yield opened


def strange(document: dict[str, Any], kind: type[Any], path: str) -> Iterator[str]:
    """Fields that the SDK's class has not, and fields it promises that are not there."""
    known = {name: hint for name, hint in kind.__annotations__.items() if "ClassVar" not in str(hint)}
    inner = getattr(kind, "_inner_class_types", {})
    for name, value in document.items():
        if name not in known:
            yield f"{path}.{name} is unknown to the SDK"
        elif name in inner:
            for place, each in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(each, dict):
                    yield from strange(each, inner[name], f"{path}.{name}[{place}]")
    for name, hint in known.items():
        if name not in document and type(None) not in typing.get_args(hint) and name != "deleted":
            yield f"{path}.{name} is missing"


async def everything(shop: Shop, double: Double) -> AsyncIterator[dict[str, Any]]:
    """Resources in as many states as there are."""
    customer = await shop.customer(name="Mia", metadata={"a": "b"})
    card = await shop.card(customer)
    held = await shop.charge(customer, card, off_session=True)
    await shop.hold("pm_card_authenticationRequired")
    with pytest.raises(stripe.CardError):
        await shop.hold("pm_card_chargeCustomerFail")
    taken = await shop.charge(customer, card, 1000, description="a call")
    await shop.sdk.v1.payment_intents.capture_async(taken.id, {"amount_to_capture": 800})
    await shop.sdk.v1.refunds.create_async({"payment_intent": taken.id, "amount": 100})
    failing = await shop.hold("pm_card_refundFail", amount=500, capture_method="automatic")
    await shop.sdk.v1.refunds.create_async({"payment_intent": failing.id})
    double.advance(61)
    disputed = await shop.hold(amount=500, capture_method="automatic")
    double.close_dispute(double.dispute(disputed.id)["id"], "won")
    await shop.sdk.v1.setup_intents.create_async({"customer": customer, "payment_method": card})
    asked = await shop.sdk.v1.setup_intents.create_async(
        {
            "payment_method": "pm_card_authenticationRequired",
            "confirm": True,
            "return_url": "https://shop.example",
        }
    )
    double.authenticate(asked.id, "fail")
    await shop.sdk.v1.payment_intents.cancel_async(held.id)
    for table in double.store.tables.values():
        for thing in table.values():
            yield thing
    yield (await shop.sdk.v1.balance.retrieve_async()).to_dict()


async def test_every_field_of_every_answer_is_one_the_sdk_knows(shop: Shop, double: Double) -> None:
    """COM-65: names exist, inner ones too, and nothing that the SDK promises is missing."""
    seen: set[str] = set()
    wrong: set[str] = set()
    async for thing in everything(shop, double):
        seen.add(thing["object"])
        wrong.update(strange(thing, RESOURCES[thing["object"]], thing["object"]))
    assert seen == set(RESOURCES)
    assert not wrong, "\n".join(sorted(wrong))


async def test_every_event_and_error_code_is_one_the_sdk_knows(shop: Shop, double: Double) -> None:
    """COM-65: types of events, codes of declines, kinds of errors."""
    kinds = set(typing.get_args(stripe.Event.__annotations__["type"]))
    async for thing in everything(shop, double):
        if thing["object"] == "event":
            assert thing["type"] in kinds
    hints = str(stripe.PaymentIntent.LastPaymentError.__annotations__["code"])
    for code, _ in DECLINES.values():
        assert f"'{code}'" in hints, code


async def test_an_error_document_has_the_sdks_fields(shop: Shop, double: Double) -> None:
    """COM-65: type, code, decline_code, payment_intent, param, message."""
    with pytest.raises(stripe.CardError) as caught:
        await shop.hold("pm_card_chargeCustomerFail")
    error = caught.value.json_body["error"]  # type: ignore[index]
    assert set(error) <= set(stripe.ErrorObject.__annotations__)
    assert {"type", "code", "decline_code", "payment_intent", "payment_method", "message", "charge"} <= set(error)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
def test_every_parameter_of_the_sdk_is_known_and_no_other(operation: Operation) -> None:
    """COM-65: what the SDK can send is carried out or refused by name; nothing is taken that Stripe has not."""
    ours = {name for name, field in operation.shape.items() if not isinstance(field, Gone)} - BROWSER
    theirs = set(params_of(operation)) - {"expand"} - BROWSER
    assert ours <= theirs, ours - theirs
    if f"{operation.method} {operation.path}" not in CARDS_ONLY:
        assert theirs <= ours, theirs - ours


def params_of(operation: Operation) -> dict[str, Any]:
    """The SDK's parameters of an operation."""
    parts = operation.path.split("/")[2:]
    noun = parts[0] if parts[0] == "balance" else parts[0].removesuffix("s")
    if parts[0] == "balance":
        verb = "retrieve"
    elif len(parts) == 1:
        verb = {"POST": "create", "GET": "list"}[operation.method]
    elif len(parts) == 2:
        verb = {"POST": "update", "GET": "retrieve", "DELETE": "delete"}[operation.method]
    elif parts[2] == "payment_methods":
        verb = "list_payment_methods" if len(parts) == 3 else "retrieve_payment_method"
    else:
        verb = "list_refunds" if parts[2] == "refunds" else parts[2]
    name = f"{noun}_{verb}_params"
    module = importlib.import_module(f"stripe.params._{name}")
    found = getattr(module, "".join(word.capitalize() for word in name.split("_")))
    own: dict[str, Any] = dict(found.__annotations__)
    for option in stripe.RequestOptions.__annotations__:
        own.pop(option, None)
    return own


async def test_every_path_of_the_sdk_that_we_have_is_served(double: Double) -> None:
    """COM-65: no operation of the table is hidden by another."""
    headers = {"Authorization": f"Bearer {double.config.secret_key}"}
    async with aiohttp.ClientSession(double.url, headers=headers) as http:
        places = ("customer", "method", "intent", "charge", "refund", "dispute", "transaction", "event")
        for operation in OPERATIONS:
            path = operation.path.format_map(dict.fromkeys(places, "nobody"))
            async with http.request(operation.method, path) as response:
                body = await response.json()
            assert "Unrecognized request URL" not in body.get("error", {}).get("message", ""), operation
            assert response.status < 500
