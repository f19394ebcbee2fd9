"""What becomes of a PaymentIntent: held, captured once, canceled, refused, or waiting for the cardholder.

https://docs.stripe.com/payments/paymentintents/lifecycle
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from . import charges, disputes
from .customers import attached
from .errors import ApiError, Thing, as_payment_error, declined, invalid, unexpected_state
from .params import merged
from .store import Store

_CANCELABLE: Final = ("requires_payment_method", "requires_capture", "requires_confirmation", "requires_action")


def automatic_methods(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Which payment methods an intent offers: what the account's settings say, unless it names some itself.

    Raises:
        ApiError: it names some, and leaves them to the settings too.
    """
    if "allowed_payment_method_types" in params and "automatic_payment_methods" in params:
        raise invalid(
            "You may give allowed_payment_method_types or automatic_payment_methods, not both.",
            "automatic_payment_methods",
        )
    if "allowed_payment_method_types" in params:
        return None
    given: dict[str, Any] = params.get("automatic_payment_methods", {"enabled": True})
    return {"allow_redirects": "always"} | given


def check_return(automatic: Mapping[str, Any] | None, params: dict[str, Any]) -> None:
    """Dynamic payment methods may lead away from the page, and want to know the way back.

    Raises:
        ApiError: it is not told.
    """
    if automatic and automatic["enabled"] and automatic["allow_redirects"] == "always" and "return_url" not in params:
        raise invalid(
            "This intent is configured to accept payment methods enabled in your Dashboard. Because some of these "
            "payment methods might redirect your customer off of your page, you must provide a `return_url`. If you "
            "don't want to accept redirect-based payment methods, set `automatic_payment_methods[enabled]` to `true` "
            "and `automatic_payment_methods[allow_redirects]` to `never` when creating Setup Intents and Payment "
            "Intents.",
            "return_url",
        )


def no_method(intent: Thing | None) -> ApiError:
    """There is no card to confirm with."""
    message = (
        "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update the "
        "PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a payment "
        "method or ConfirmationToken."
    )
    if intent is None:
        return invalid(message, "payment_method", "parameter_missing")
    return unexpected_state(message, copy.deepcopy(intent))


def go(store: Store, intent: Thing, params: dict[str, Any]) -> Thing:
    """Confirm: ask the bank, or first the cardholder.

    Raises:
        ApiError: the bank says no, or wants to see a cardholder who is away.
    """
    method = store.tables["payment_method"][intent["payment_method"]]
    away = bool(params.get("off_session"))
    (store.off_session.add if away else store.off_session.discard)(intent["id"])
    verdict = store.cards[method["id"]].at_hold(away=away, set_up=method["id"] in store.set_up)
    asked = intent["payment_method_options"]["card"]["request_three_d_secure"]
    if verdict == "ok" and not away and asked != "automatic":
        verdict = "action"
    if verdict == "action" and (away or params.get("error_on_requires_action")):
        verdict = "authentication_required"
    if verdict == "action":
        return _ask(store, intent, params.get("return_url"))
    return _finish(store, intent, method, verdict)


def _ask(store: Store, intent: Thing, return_url: str | None) -> Thing:
    intent["status"] = "requires_action"
    intent["next_action"] = next_action(store, intent, return_url)
    store.emit("payment_intent.requires_action", intent)
    return intent


def next_action(store: Store, intent: Thing, return_url: str | None) -> Thing:
    """Where the cardholder proves who they are."""
    if return_url is None:
        return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    url = f"{store.address}/3ds/{intent['id']}"
    return {"type": "redirect_to_url", "redirect_to_url": {"return_url": return_url, "url": url}}


def _finish(store: Store, intent: Thing, method: Thing, verdict: str) -> Thing:
    """What the bank says, and what follows from it."""
    intent["next_action"] = None
    if verdict != "ok":
        raise _failed(store, intent, method, verdict)
    charge = charges.authorise(store, intent, method, away=intent["id"] in store.off_session)
    intent |= {"latest_charge": charge["id"], "last_payment_error": None}
    _keep(store, intent, method)
    if intent["capture_method"] == "manual":
        intent |= {"status": "requires_capture", "amount_capturable": intent["amount"]}
        store.emit("payment_intent.amount_capturable_updated", intent)
    else:
        intent |= {"status": "succeeded", "amount_received": intent["amount"]}
        store.emit("payment_intent.succeeded", intent)
        _dispute(store, charge, method)
    return intent


def _keep(store: Store, intent: Thing, method: Thing) -> None:
    """The card goes to the customer if it was to be kept; a card that is nobody's is used up."""
    if method["customer"] is not None:
        return
    if intent["setup_future_usage"] and intent["customer"]:
        store.set_up.add(method["id"])
        attached(store, method, store.tables["customer"][intent["customer"]])
    elif not intent["setup_future_usage"]:
        store.spent.add(method["id"])


def _failed(store: Store, intent: Thing, method: Thing, decline: str) -> ApiError:
    charge = charges.refuse(store, intent, method, decline)
    error = declined(decline, charge=charge["id"], payment_method=copy.deepcopy(method))
    intent |= {
        "latest_charge": charge["id"],
        "last_payment_error": as_payment_error(error),
        "payment_method": None,
        "status": "requires_payment_method",
    }
    store.emit("payment_intent.payment_failed", intent)
    error.more["payment_intent"] = copy.deepcopy(intent)
    return error


def _dispute(store: Store, charge: Thing, method: Thing) -> None:
    if reason := store.cards[method["id"]].dispute:
        disputes.open_dispute(store, charge, reason, charge["amount_captured"])


def authenticated(store: Store, intent: Thing, *, proven: bool) -> Thing:
    """The cardholder is back: 3-D Secure has succeeded or failed.

    Raises:
        ApiError: nobody waits for them.
    """
    if intent["status"] != "requires_action":
        raise unexpected_state(
            f"This PaymentIntent has a status of {intent['status']}; no authentication is due.", copy.deepcopy(intent)
        )
    method = store.tables["payment_method"][intent["payment_method"]]
    if proven:
        try:
            return _finish(store, intent, method, store.cards[method["id"]].after_action("hold"))
        except ApiError:
            return intent  # the decline is in its last_payment_error
    error = invalid(
        "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new "
        "PaymentMethod to attempt to fulfill this PaymentIntent again.",
        None,
        "payment_intent_authentication_failure",
        payment_method=copy.deepcopy(method),
    )
    intent |= {
        "last_payment_error": as_payment_error(error),
        "next_action": None,
        "payment_method": None,
        "status": "requires_payment_method",
    }
    store.emit("payment_intent.payment_failed", intent)
    return intent


def capture(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/payment_intents/{intent}/capture`"""
    intent = store.find("payment_intent", ids["intent"], "intent", 404)
    if intent["status"] == "succeeded":
        raise unexpected_state(
            "This PaymentIntent could not be captured because it has already been captured.", copy.deepcopy(intent)
        )
    if intent["status"] != "requires_capture":
        raise unexpected_state(
            f"This PaymentIntent could not be captured because it has a status of {intent['status']}. Only a "
            "PaymentIntent with one of the following statuses may be captured: requires_capture.",
            copy.deepcopy(intent),
        )
    if params.get("final_capture") is False:
        raise invalid("This account cannot capture more than once.", "final_capture")
    amount: int = params["amount_to_capture"] if "amount_to_capture" in params else intent["amount_capturable"]
    if amount > intent["amount_capturable"]:
        raise invalid(
            f"The requested capture amount ({amount}) is greater than the authorized amount "
            f"({intent['amount_capturable']}).",
            "amount_to_capture",
            "amount_too_large",
        )
    charge = store.tables["charge"][intent["latest_charge"]]
    charges.take(store, charge, amount)
    intent |= {"amount_capturable": 0, "amount_received": amount, "status": "succeeded"}
    intent["metadata"] = merged(intent["metadata"], params.get("metadata", {}))
    if "statement_descriptor_suffix" in params:
        intent["statement_descriptor_suffix"] = params["statement_descriptor_suffix"]
    store.emit("charge.captured", charge)
    store.emit("payment_intent.succeeded", intent)
    _dispute(store, charge, store.tables["payment_method"][charge["payment_method"]])
    return intent


def cancel(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/payment_intents/{intent}/cancel`"""
    intent = store.find("payment_intent", ids["intent"], "intent", 404)
    if intent["status"] not in _CANCELABLE:
        raise unexpected_state(
            f"You cannot cancel this PaymentIntent because it has a status of {intent['status']}. Only a PaymentIntent "
            f"with one of the following statuses may be canceled: {', '.join(_CANCELABLE)}, processing.",
            copy.deepcopy(intent),
        )
    return _canceled(store, intent, store.now, params.get("cancellation_reason"), expired=False)


def _canceled(store: Store, intent: Thing, at: int, reason: str | None, *, expired: bool) -> Thing:
    if intent["status"] == "requires_capture":
        charges.release(store, store.tables["charge"][intent["latest_charge"]], expired=expired)
    intent |= {
        "amount_capturable": 0,
        "canceled_at": at,
        "cancellation_reason": reason,
        "next_action": None,
        "status": "canceled",
    }
    store.emit("payment_intent.canceled", intent)
    return intent


def expire(store: Store) -> list[str]:
    """Holds whose time is over are released; the ids of their intents, oldest hold first."""
    over = sorted((before, charge) for charge, before in store.holds.items() if before <= store.now)
    expired = []
    for before, charge in over:
        intent = store.tables["payment_intent"][store.tables["charge"][charge]["payment_intent"]]
        expired.append(_canceled(store, intent, before, "automatic", expired=True)["id"])
    return expired
