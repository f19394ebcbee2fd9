"""PaymentIntents: how they are asked for. What becomes of them is in `lifecycle`.

https://docs.stripe.com/api/payment_intents
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from . import lifecycle
from .customers import METHOD_DATA, customer_of, method_from, method_of, used_up
from .errors import Thing, invalid, unexpected_state
from .params import (
    PAGE,
    TYPES_GONE,
    Anything,
    Away,
    Choice,
    Group,
    Metadata,
    Shape,
    Span,
    Text,
    Truth,
    Whole,
    Words,
    merged,
    refused,
)
from .store import Store

# https://docs.stripe.com/currencies#minimum-and-maximum-charge-amounts
_LEAST: Final = {"usd": 50, "eur": 50, "gbp": 30, "cad": 50, "aud": 50, "chf": 50, "jpy": 50, "sek": 300, "try": 2000}
_OPEN: Final = ("requires_payment_method", "requires_confirmation", "requires_action")
_METHODS: Final = ("automatic", "automatic_async", "manual")
_AHEAD: Final = ("off_session", "on_session")
_THREE_DS: Final = ("any", "automatic", "challenge")
_OPTIONS: Final = Group(
    {
        "card": Group(
            {
                "request_three_d_secure": Choice(_THREE_DS),
                **refused(
                    "capture_method",
                    "installments",
                    "mandate_options",
                    "network",
                    "request_extended_authorization",
                    "request_incremental_authorization",
                    "request_multicapture",
                    "request_overcapture",
                    "setup_future_usage",
                ),
            }
        )
    }
)
_ABSENT: Final = refused(
    "amount_details",
    "application_fee_amount",
    "customer_account",
    "excluded_payment_method_types",
    "hooks",
    "payment_details",
    "statement_descriptor",
)
_UPDATE: Final[Shape] = {
    "allowed_payment_method_types": Words(),
    "capture_method": Choice(_METHODS),
    "customer": Text(most=255),
    "description": Text(most=1000, clearable=True),
    "metadata": Metadata(),
    "payment_method": Text(most=255),
    "payment_method_data": Group(METHOD_DATA),
    "payment_method_options": _OPTIONS,
    "receipt_email": Text(most=800, clearable=True),
    "setup_future_usage": Choice(_AHEAD, clearable=True),
    "shipping": Anything(),
    "statement_descriptor_suffix": Text(most=22, clearable=True),
    "transfer_group": Text(most=255, clearable=True),
    **_ABSENT,
    **TYPES_GONE,
    **refused("payment_method_configuration", "transfer_data"),
}
_CONFIRM: Final[Shape] = {
    "error_on_requires_action": Truth(),
    "off_session": Away(),
    "return_url": Text(),
    "use_stripe_sdk": Truth(),
    **refused("confirmation_token", "mandate", "mandate_data", "radar_options"),
}
CREATE: Final[Shape] = {
    **_UPDATE,
    **_CONFIRM,
    "amount": Whole(required=True, least=1),
    "automatic_payment_methods": Group(
        {"allow_redirects": Choice(("always", "never")), "enabled": Truth(required=True)}
    ),
    "confirm": Truth(),
    "confirmation_method": Choice(("automatic", "manual")),
    "currency": Text(required=True, most=3),
    **refused("on_behalf_of"),
}
UPDATE: Final[Shape] = {**_UPDATE, "amount": Whole(least=1), "currency": Text(most=3)}
CONFIRM: Final[Shape] = {
    **_CONFIRM,
    **{
        name: _UPDATE[name]
        for name in _UPDATE
        if name
        in (
            "allowed_payment_method_types",
            "capture_method",
            "payment_method",
            "payment_method_data",
            "payment_method_options",
            "receipt_email",
            "setup_future_usage",
            "shipping",
        )
    },
    **refused("amount_details", "amount_to_confirm", "excluded_payment_method_types", "hooks", "payment_details"),
    **TYPES_GONE,
    "client_secret": Text(most=255),
}
CAPTURE: Final[Shape] = {
    "amount_to_capture": Whole(least=1),
    "final_capture": Truth(),
    "metadata": Metadata(),
    "statement_descriptor_suffix": Text(most=22),
    **refused(
        "amount_details",
        "application_fee_amount",
        "hooks",
        "payment_details",
        "statement_descriptor",
        "transfer_data",
    ),
}
CANCEL: Final[Shape] = {
    "cancellation_reason": Choice(("duplicate", "fraudulent", "requested_by_customer", "abandoned")),
}
LIST: Final[Shape] = {
    **PAGE,
    "created": Span(),
    "customer": Text(most=255),
    **refused("customer_account"),
}
RETRIEVE: Final[Shape] = {"client_secret": Text(most=255)}


def create(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/payment_intents`"""
    amount, currency = params["amount"], params["currency"].lower()
    _check_amount(amount, currency)
    _check_together(params)
    customer = customer_of(store, params["customer"])["id"] if "customer" in params else None
    method = _method(store, params, customer)
    automatic = lifecycle.automatic_methods(params)
    if params.get("confirm"):
        if method is None:
            raise lifecycle.no_method(None)
        lifecycle.check_return(automatic, params)
    intent = store.new(
        "payment_intent",
        {
            "allowed_payment_method_types": params.get("allowed_payment_method_types"),
            "amount": amount,
            "amount_capturable": 0,
            "amount_details": {"tip": {}},
            "amount_received": 0,
            "application": None,
            "application_fee_amount": None,
            "automatic_payment_methods": automatic,
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": params.get("capture_method", "automatic_async"),
            "client_secret": None,
            "confirmation_method": params.get("confirmation_method", "automatic"),
            "currency": currency,
            "customer": customer,
            "customer_account": None,
            "description": params.get("description"),
            "excluded_payment_method_types": None,
            "last_payment_error": None,
            "latest_charge": None,
            "metadata": merged({}, params.get("metadata", {})),
            "next_action": None,
            "on_behalf_of": None,
            "payment_method": method["id"] if method else None,
            "payment_method_configuration_details": None,
            "payment_method_options": _options({}, params),
            "payment_method_types": ["card"],
            "processing": None,
            "receipt_email": params.get("receipt_email"),
            "review": None,
            "setup_future_usage": params.get("setup_future_usage"),
            "shipping": params.get("shipping"),
            "source": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": params.get("statement_descriptor_suffix"),
            "status": "requires_confirmation" if method else "requires_payment_method",
            "transfer_data": None,
            "transfer_group": params.get("transfer_group"),
        },
    )
    intent["client_secret"] = f"{intent['id']}_{store.identity('secret')}"
    store.emit("payment_intent.created", intent)
    return lifecycle.go(store, intent, params) if params.get("confirm") else intent


def _check_amount(amount: int, currency: str) -> None:
    if currency not in _LEAST:
        raise invalid(f"Invalid currency: {currency[:10]}. The payments double knows {', '.join(_LEAST)}.", "currency")
    if amount < _LEAST[currency]:
        raise invalid(f"Amount must be at least {_LEAST[currency] / 100:.2f} {currency}", "amount", "amount_too_small")


def _check_together(params: dict[str, Any]) -> None:
    """Parameters that exclude or need each other."""
    _check_types(params)
    if params.get("confirm"):
        return
    for name in ("off_session", "return_url", "error_on_requires_action"):
        if params.get(name):
            raise invalid(f"The parameter `{name}` can only be used with `confirm=true`.", name)


def _check_types(params: dict[str, Any]) -> None:
    if "card" not in params.get("allowed_payment_method_types", ["card"]):
        raise invalid("The payments double takes cards only.", "allowed_payment_method_types")


def _options(kept: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    blank = {"installments": None, "mandate_options": None, "network": None, "request_three_d_secure": "automatic"}
    given = params.get("payment_method_options", {}).get("card", {})
    return {"card": blank | kept.get("card", {}) | given}


def _method(store: Store, params: dict[str, Any], customer: str | None) -> Thing | None:
    """The card of a request, if it names one; it must be free, or the customer's."""
    if "payment_method" in params:
        method = method_of(store, params["payment_method"])
    elif "payment_method_data" in params:
        method = method_from(store, params["payment_method_data"])
    else:
        return None
    owner = method["customer"]
    if owner and customer is None:
        raise invalid(
            f"The provided PaymentMethod cannot be used: {method['id']} belongs to a customer. "
            "Please include the Customer in the `customer` parameter on the PaymentIntent.",
            "payment_method",
        )
    if owner and owner != customer:
        raise invalid(
            f"The customer does not have a payment method with the ID {method['id']}. "
            "The payment method must be attached to the customer.",
            "payment_method",
            "resource_missing",
        )
    if method["id"] in store.spent:
        raise used_up()
    return method


def retrieve(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/payment_intents/{intent}`"""
    return store.find("payment_intent", ids["intent"], "intent", 404)


def list_intents(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/payment_intents`"""
    if "customer" in params:
        customer_of(store, params["customer"])
    wanted = params.get("customer")
    return store.page(
        "payment_intent", "/v1/payment_intents", params, lambda each: wanted is None or each["customer"] == wanted
    )


def update(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/payment_intents/{intent}`"""
    intent = retrieve(store, ids, {})
    for name in params:
        if name not in ("metadata", "description", "receipt_email") and intent["status"] not in _OPEN:
            raise unexpected_state(
                f"This PaymentIntent's {name} could not be updated because it has a status of {intent['status']}. You "
                f"may only update the {name} of a PaymentIntent with one of the following statuses: "
                f"{', '.join(_OPEN)}.",
                copy.deepcopy(intent),
            )
    currency = str(params.get("currency", intent["currency"])).lower()
    _check_amount(params["amount"] if "amount" in params else intent["amount"], currency)
    _check_types(params)
    if "customer" in params:
        customer_of(store, params["customer"])
    method = _method(store, params, params.get("customer", intent["customer"]))
    _change(intent, params | ({"currency": currency} if "currency" in params else {}), method)
    return intent


def _change(intent: Thing, params: dict[str, Any], method: Thing | None) -> None:
    plain = ("amount", "capture_method", "currency", "customer", "description", "receipt_email")
    more = ("allowed_payment_method_types", "setup_future_usage", "shipping")
    last = ("statement_descriptor_suffix", "transfer_group")
    for name in (*plain, *more, *last):
        if name in params:
            intent[name] = params[name]
    if "metadata" in params:
        intent["metadata"] = merged(intent["metadata"], params["metadata"])
    intent["payment_method_options"] = _options(intent["payment_method_options"], params)
    if method:
        intent["payment_method"] = method["id"]
        intent["next_action"] = None
        intent["status"] = "requires_confirmation"


def confirm(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/payment_intents/{intent}/confirm`"""
    intent = retrieve(store, ids, {})
    if intent["status"] in ("succeeded", "requires_capture"):
        raise unexpected_state(
            "You cannot confirm this PaymentIntent because it has already succeeded after being previously confirmed.",
            copy.deepcopy(intent),
        )
    if intent["status"] == "canceled":
        raise unexpected_state(
            "You cannot confirm this PaymentIntent because it has a status of canceled.", copy.deepcopy(intent)
        )
    _check_types(params)
    method = _method(store, params, intent["customer"])
    _change(intent, params, method)
    if intent["payment_method"] is None:
        raise lifecycle.no_method(intent)
    if intent["payment_method"] in store.spent:
        raise used_up()
    lifecycle.check_return(intent["automatic_payment_methods"], params)
    return lifecycle.go(store, intent, params)
