"""SetupIntents: a card is saved for later. https://docs.stripe.com/api/setup_intents"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from . import lifecycle
from .customers import METHOD_DATA, attached, customer_of, method_from, method_of, used_up
from .errors import ApiError, Thing, as_payment_error, declined, invalid, unexpected_state
from .params import PAGE, TYPES_GONE, Choice, Group, Metadata, Shape, Span, Text, Truth, Words, merged, refused
from .store import Store

_CANCELABLE: Final = ("requires_payment_method", "requires_confirmation", "requires_action")
_UPDATE: Final[Shape] = {
    "allowed_payment_method_types": Words(),
    "customer": Text(most=255),
    "description": Text(most=1000, clearable=True),
    "metadata": Metadata(),
    "payment_method": Text(most=255),
    "payment_method_data": Group(METHOD_DATA),
    **TYPES_GONE,
    **refused(
        "attach_to_self",
        "customer_account",
        "excluded_payment_method_types",
        "flow_directions",
        "payment_method_configuration",
        "payment_method_options",
    ),
}
UPDATE: Final[Shape] = _UPDATE
CREATE: Final[Shape] = {
    **_UPDATE,
    "automatic_payment_methods": Group(
        {"allow_redirects": Choice(("always", "never")), "enabled": Truth(required=True)}
    ),
    "confirm": Truth(),
    "return_url": Text(),
    "usage": Choice(("off_session", "on_session")),
    "use_stripe_sdk": Truth(),
    **refused("confirmation_token", "mandate_data", "on_behalf_of", "single_use"),
}
CONFIRM: Final[Shape] = {
    "allowed_payment_method_types": Words(),
    "client_secret": Text(most=255),
    "payment_method": Text(most=255),
    "payment_method_data": Group(METHOD_DATA),
    "return_url": Text(),
    "use_stripe_sdk": Truth(),
    **refused("confirmation_token", "mandate_data", "payment_method_options"),
}
CANCEL: Final[Shape] = {"cancellation_reason": Choice(("abandoned", "duplicate", "requested_by_customer"))}
LIST: Final[Shape] = {
    **PAGE,
    "created": Span(),
    "customer": Text(most=255),
    "payment_method": Text(most=255),
    **refused("attach_to_self", "customer_account"),
}


def create(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/setup_intents`"""
    customer = customer_of(store, params["customer"])["id"] if "customer" in params else None
    method = _method(store, params, customer)
    automatic = lifecycle.automatic_methods(params)
    if params.get("confirm"):
        if method is None:
            raise _no_method(None)
        lifecycle.check_return(automatic, params)
    elif "return_url" in params:
        raise invalid("The parameter `return_url` can only be used with `confirm=true`.", "return_url")
    intent = store.new(
        "setup_intent",
        {
            "allowed_payment_method_types": params.get("allowed_payment_method_types"),
            "application": None,
            "automatic_payment_methods": automatic,
            "cancellation_reason": None,
            "client_secret": None,
            "customer": customer,
            "customer_account": None,
            "description": params.get("description"),
            "excluded_payment_method_types": None,
            "flow_directions": None,
            "last_setup_error": None,
            "latest_attempt": None,
            "mandate": None,
            "metadata": merged({}, params.get("metadata", {})),
            "next_action": None,
            "on_behalf_of": None,
            "payment_method": method["id"] if method else None,
            "payment_method_configuration_details": None,
            "payment_method_options": {"card": {"mandate_options": None, "request_three_d_secure": "automatic"}},
            "payment_method_types": ["card"],
            "single_use_mandate": None,
            "status": "requires_confirmation" if method else "requires_payment_method",
            "usage": params.get("usage", "off_session"),
        },
    )
    intent["client_secret"] = f"{intent['id']}_{store.identity('secret')}"
    store.emit("setup_intent.created", intent)
    return _go(store, intent, params) if params.get("confirm") else intent


def _method(store: Store, params: dict[str, Any], customer: str | None) -> Thing | None:
    if "card" not in params.get("allowed_payment_method_types", ["card"]):
        raise invalid("The payments double takes cards only.", "allowed_payment_method_types")
    if "payment_method" in params:
        method = method_of(store, params["payment_method"])
    elif "payment_method_data" in params:
        method = method_from(store, params["payment_method_data"])
    else:
        return None
    if method["customer"] not in (None, customer):
        raise invalid(
            f"The customer does not have a payment method with the ID {method['id']}. "
            "The payment method must be attached to the customer.",
            "payment_method",
            "resource_missing",
        )
    if method["id"] in store.spent:
        raise used_up()
    return method


def _no_method(intent: Thing | None) -> ApiError:
    message = "You cannot confirm this SetupIntent because it's missing a payment method."
    if intent is None:
        return invalid(message, "payment_method", "parameter_missing")
    return unexpected_state(message, copy.deepcopy(intent))


def retrieve(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/setup_intents/{intent}`"""
    return store.find("setup_intent", ids["intent"], "intent", 404)


def list_intents(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/setup_intents`"""
    wanted = {name: params[name] for name in ("customer", "payment_method") if name in params}
    return store.page(
        "setup_intent", "/v1/setup_intents", params, lambda each: all(each[name] == wanted[name] for name in wanted)
    )


def update(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/setup_intents/{intent}`"""
    intent = retrieve(store, ids, {})
    if intent["status"] not in _CANCELABLE and set(params) - {"metadata", "description"}:
        raise unexpected_state(
            f"You cannot update this SetupIntent because it has a status of {intent['status']}.", copy.deepcopy(intent)
        )
    if "customer" in params:
        intent["customer"] = customer_of(store, params["customer"])["id"]
    _take_method(store, intent, params)
    if "description" in params:
        intent["description"] = params["description"]
    intent["metadata"] = merged(intent["metadata"], params.get("metadata", {}))
    return intent


def _take_method(store: Store, intent: Thing, params: dict[str, Any]) -> None:
    if method := _method(store, params, intent["customer"]):
        intent |= {"payment_method": method["id"], "next_action": None, "status": "requires_confirmation"}


def confirm(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/setup_intents/{intent}/confirm`"""
    intent = retrieve(store, ids, {})
    if intent["status"] in ("succeeded", "canceled"):
        raise unexpected_state(
            f"You cannot confirm this SetupIntent because it has a status of {intent['status']}.",
            copy.deepcopy(intent),
        )
    _take_method(store, intent, params)
    if intent["payment_method"] is None:
        raise _no_method(intent)
    lifecycle.check_return(intent["automatic_payment_methods"], params)
    return _go(store, intent, params)


def _go(store: Store, intent: Thing, params: dict[str, Any]) -> Thing:
    method = store.tables["payment_method"][intent["payment_method"]]
    verdict = store.cards[method["id"]].at_setup()
    if verdict == "action":
        intent |= {
            "next_action": lifecycle.next_action(store, intent, params.get("return_url")),
            "status": "requires_action",
        }
        store.emit("setup_intent.requires_action", intent)
        return intent
    return _finish(store, intent, method, verdict)


def _finish(store: Store, intent: Thing, method: Thing, verdict: str) -> Thing:
    intent["next_action"] = None
    if verdict != "ok":
        error = declined(verdict, payment_method=copy.deepcopy(method))
        raise _failed(store, intent, error)
    intent |= {"last_setup_error": None, "status": "succeeded"}
    store.set_up.add(method["id"])
    if intent["customer"]:
        attached(store, method, store.tables["customer"][intent["customer"]])
    store.emit("setup_intent.succeeded", intent)
    return intent


def _failed(store: Store, intent: Thing, error: ApiError) -> ApiError:
    intent |= {
        "last_setup_error": as_payment_error(error),
        "next_action": None,
        "payment_method": None,
        "status": "requires_payment_method",
    }
    store.emit("setup_intent.setup_failed", intent)
    error.more["setup_intent"] = copy.deepcopy(intent)
    return error


def authenticated(store: Store, intent: Thing, *, proven: bool) -> Thing:
    """The cardholder is back: 3-D Secure has succeeded or failed.

    Raises:
        ApiError: nobody waits for them.
    """
    if intent["status"] != "requires_action":
        raise unexpected_state(
            f"This SetupIntent has a status of {intent['status']}; no authentication is due.", copy.deepcopy(intent)
        )
    method = store.tables["payment_method"][intent["payment_method"]]
    if not proven:
        error = invalid(
            "The latest attempt to set up the payment method has failed because authentication failed.",
            None,
            "setup_intent_authentication_failure",
            payment_method=copy.deepcopy(method),
        )
        _failed(store, intent, error)
        return intent
    try:
        return _finish(store, intent, method, store.cards[method["id"]].after_action("setup"))
    except ApiError:
        return intent  # the decline is in its last_setup_error


def cancel(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/setup_intents/{intent}/cancel`"""
    intent = retrieve(store, ids, {})
    if intent["status"] not in _CANCELABLE:
        raise unexpected_state(
            f"You cannot cancel this SetupIntent because it has a status of {intent['status']}.", copy.deepcopy(intent)
        )
    intent |= {
        "cancellation_reason": params.get("cancellation_reason"),
        "next_action": None,
        "status": "canceled",
    }
    store.emit("setup_intent.canceled", intent)
    return intent
