"""Charges, their refunds and what both do to the balance.

https://docs.stripe.com/api/charges, /api/refunds, /api/balance_transactions
"""

from __future__ import annotations

import copy
import zlib
from collections.abc import Mapping
from typing import Any, Final

from .cards import Card
from .errors import Thing, as_payment_error, declined, invalid, no_such
from .params import PAGE, Choice, Metadata, Shape, Span, Text, Whole, merged, refused
from .store import DAY_S, Store

HOLD_S: Final = 7 * DAY_S
AWAY_VISA_HOLD_S: Final = 4 * DAY_S + 18 * 3600  # https://docs.stripe.com/payments/place-a-hold-on-a-payment-method
_FEE_PER_MILLE, _FEE_FIXED = 29, 30  # 2.9 % and 30 cents
_SETTLED_S = 2 * DAY_S
_LATE_REFUND_S = 60

CHARGE_LIST: Final[Shape] = {
    **PAGE,
    "created": Span(),
    "customer": Text(most=255),
    "payment_intent": Text(most=255),
    **refused("transfer_group"),
}
CHARGE_UPDATE: Final[Shape] = {
    "description": Text(clearable=True),
    "metadata": Metadata(),
    "receipt_email": Text(most=800, clearable=True),
    **refused("customer", "fraud_details", "shipping", "transfer_group"),
}
REFUND_CREATE: Final[Shape] = {
    "amount": Whole(least=1),
    "charge": Text(most=255),
    "metadata": Metadata(),
    "payment_intent": Text(most=255),
    "reason": Choice(("duplicate", "fraudulent", "requested_by_customer")),
    **refused(
        "currency",
        "customer",
        "instructions_email",
        "origin",
        "refund_application_fee",
        "reverse_transfer",
    ),
}
REFUND_UPDATE: Final[Shape] = {"metadata": Metadata()}
REFUND_LIST: Final[Shape] = {
    **PAGE,
    "charge": Text(most=255),
    "created": Span(),
    "payment_intent": Text(most=255),
}
BALANCE_LIST: Final[Shape] = {
    **PAGE,
    "created": Span(),
    "currency": Text(most=3),
    "source": Text(most=255),
    "type": Text(most=60),
    **refused("payout"),
}


def authorise(store: Store, intent: Thing, method: Thing, *, away: bool) -> Thing:
    """The bank says yes: a charge that is held, or paid where capture is automatic."""
    card = store.cards[method["id"]]
    manual = intent["capture_method"] == "manual"
    charge = _charge(store, intent, method, card)
    details = charge["payment_method_details"]["card"]
    if manual:
        window = AWAY_VISA_HOLD_S if away and card.brand == "visa" else HOLD_S
        store.holds[charge["id"]] = details["capture_before"] = store.now + window
    charge |= {"captured": False, "paid": True, "status": "succeeded"}
    charge["outcome"] |= {"network_status": "approved_by_network", "type": "authorized"}
    charge["outcome"]["seller_message"] = "Payment complete."
    if not manual:
        take(store, charge, charge["amount"])
    store.emit("charge.succeeded", charge)
    return charge


def refuse(store: Store, intent: Thing, method: Thing, decline: str) -> Thing:
    """The bank says no: a failed charge, which the error will name."""
    charge = _charge(store, intent, method, store.cards[method["id"]])
    error = as_payment_error(declined(decline))
    charge |= {"status": "failed", "failure_code": error["code"], "failure_message": error["message"]}
    charge["outcome"] |= {
        "network_status": "declined_by_network",
        "reason": decline,
        "seller_message": "The bank did not return any further details with this decline.",
        "type": "issuer_declined",
    }
    store.emit("charge.failed", charge)
    return charge


def _details(intent: Thing, method: Thing, card: Card) -> Thing:
    printed = method["card"]
    return {
        "amount_authorized": intent["amount"],
        "authorization_code": "123456",
        "brand": card.brand,
        "checks": copy.deepcopy(printed["checks"]),
        "country": card.country,
        "exp_month": printed["exp_month"],
        "exp_year": printed["exp_year"],
        "extended_authorization": {"status": "disabled"},
        "fingerprint": printed["fingerprint"],
        "funding": card.funding,
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "last4": card.last4,
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": card.brand,
        "network_token": {"used": False},
        "network_transaction_id": str(zlib.crc32(intent["id"].encode())).zfill(15),
        "overcapture": {"maximum_amount_capturable": intent["amount"], "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": None,
        "wallet": None,
    }


def _charge(store: Store, intent: Thing, method: Thing, card: Card) -> Thing:
    return store.new(
        "charge",
        {
            "amount": intent["amount"],
            "amount_captured": 0,
            "amount_refunded": 0,
            "application": None,
            "application_fee": None,
            "application_fee_amount": None,
            "balance_transaction": None,
            "billing_details": copy.deepcopy(method["billing_details"]),
            "calculated_statement_descriptor": "PAYMENTS DOUBLE",
            "captured": False,
            "currency": intent["currency"],
            "customer": intent["customer"],
            "description": intent["description"],
            "disputed": False,
            "failure_balance_transaction": None,
            "failure_code": None,
            "failure_message": None,
            "fraud_details": {},
            "metadata": dict(intent["metadata"]),
            "on_behalf_of": None,
            "outcome": {
                "advice_code": None,
                "network_advice_code": None,
                "network_decline_code": None,
                "network_status": None,
                "reason": None,
                "risk_level": "normal",
                "risk_score": 20,
                "seller_message": None,
                "type": None,
            },
            "paid": False,
            "payment_intent": intent["id"],
            "payment_method": method["id"],
            "payment_method_details": {"card": _details(intent, method, card), "type": "card"},
            "radar_options": {},
            "receipt_email": intent["receipt_email"],
            "receipt_number": None,
            "receipt_url": None,
            "refunded": False,
            "review": None,
            "shipping": copy.deepcopy(intent["shipping"]),
            "source": None,
            "source_transfer": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": intent["statement_descriptor_suffix"],
            "status": "pending",
            "transfer_data": None,
            "transfer_group": intent["transfer_group"],
        },
    )


def take(store: Store, charge: Thing, amount: int) -> None:
    """Capture a held charge; what is left of it is released."""
    fee = (amount * _FEE_PER_MILLE + 500) // 1000 + _FEE_FIXED
    charge |= {"captured": True, "amount_captured": amount}
    _unhold(store, charge)
    charge["balance_transaction"] = book(store, charge, amount, "charge", fee)["id"]
    if amount < charge["amount"]:
        _release(store, charge, charge["amount"] - amount, None)


def release(store: Store, charge: Thing, *, expired: bool) -> None:
    """Let go of a held charge."""
    _unhold(store, charge)
    _release(store, charge, charge["amount"], "expired_uncaptured_charge" if expired else None)
    charge["refunded"] = True
    store.emit("charge.expired" if expired else "charge.refunded", charge)


def _unhold(store: Store, charge: Thing) -> None:
    charge["payment_method_details"]["card"].pop("capture_before", None)
    store.holds.pop(charge["id"], None)


def _release(store: Store, charge: Thing, amount: int, reason: str | None) -> None:
    charge["amount_refunded"] += amount
    _refund(store, charge, amount, reason, {})  # no money moves: it has no balance transaction


def _refund(store: Store, charge: Thing, amount: int, reason: str | None, metadata: dict[str, str]) -> Thing:
    return store.new(
        "refund",
        {
            "amount": amount,
            "balance_transaction": None,
            "charge": charge["id"],
            "currency": charge["currency"],
            "destination_details": {
                "card": {
                    "reference_status": "pending",
                    "reference_type": "acquirer_reference_number",
                    "type": "refund" if charge["captured"] else "reversal",
                },
                "type": "card",
            },
            "metadata": metadata,
            "payment_intent": charge["payment_intent"],
            "reason": reason,
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": "succeeded",
            "transfer_reversal": None,
        },
    )


def book(store: Store, source: Thing, amount: int, kind: str, fee: int = 0) -> Thing:
    """A line of the balance."""
    details = [
        {
            "amount": fee,
            "application": None,
            "currency": source["currency"],
            "description": "Stripe processing fees" if kind == "charge" else "Dispute fee",
            "type": "stripe_fee",
        }
    ]
    line = store.new(
        "balance_transaction",
        {
            "amount": amount,
            "available_on": store.now + _SETTLED_S,
            "balance_type": "payments",
            "currency": source["currency"],
            "description": source.get("description"),
            "exchange_rate": None,
            "fee": fee,
            "fee_details": details if fee else [],
            "net": amount - fee,
            "reporting_category": "dispute" if kind == "adjustment" else kind,
            "source": source["id"],
            "status": "pending",
            "type": kind,
        },
    )
    store.unsettled.append(line)
    return line


def settle(store: Store) -> None:
    """Let time do its work: pending money becomes available, and late refunds end."""
    while store.unsettled and store.unsettled[0]["available_on"] <= store.now:
        store.unsettled.popleft()["status"] = "available"
    for identity, (when, how) in list(store.due.items()):
        if when <= store.now:
            del store.due[identity]
            _end_refund(store, store.tables["refund"][identity], how)


def _end_refund(store: Store, refund: Thing, how: str) -> None:
    charge = store.tables["charge"][refund["charge"]]
    refund["status"] = how
    if how == "failed":
        charge["amount_refunded"] -= refund["amount"]
        charge["refunded"] = False
        refund["failure_reason"] = "expired_or_canceled_card"
        refund["failure_balance_transaction"] = book(store, refund, refund["amount"], "refund_failure")["id"]
        store.emit("refund.failed", refund)
    store.emit("refund.updated", refund)
    store.emit("charge.refund.updated", refund)


def create_refund(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/refunds`"""
    charge = _refundable(store, params)
    disputes = store.tables["dispute"].values()
    left = charge["amount"] - charge["amount_refunded"]
    amount = params.get("amount", left)
    if left == 0:
        raise invalid(f"Charge {charge['id']} has already been refunded.", None, "charge_already_refunded")
    if any(each["charge"] == charge["id"] and not each["is_charge_refundable"] for each in disputes):
        raise invalid(f"Charge {charge['id']} has been charged back; cannot issue a refund.", None, "charge_disputed")
    if amount > left:
        raise invalid(
            f"Refund amount (${amount / 100:.2f}) is greater than unrefunded amount on charge (${left / 100:.2f})",
            "amount",
        )
    refund = _refund(store, charge, amount, params.get("reason"), merged({}, params.get("metadata", {})))
    refund["balance_transaction"] = book(store, refund, -amount, "refund")["id"]
    charge["amount_refunded"] += amount
    charge["refunded"] = charge["amount_refunded"] == charge["amount"]
    manner = store.cards[charge["payment_method"]].refund
    if manner != "ok":
        refund["status"] = "pending" if manner == "pending" else "succeeded"
        store.due[refund["id"]] = (store.now + _LATE_REFUND_S, "succeeded" if manner == "pending" else "failed")
    store.emit("refund.created", refund)
    store.emit("charge.refunded", charge)
    return refund


def _refundable(store: Store, params: dict[str, Any]) -> Thing:
    if ("charge" in params) == ("payment_intent" in params):
        raise invalid(
            "One of the following params should be provided for this request: payment_intent or charge.",
            None,
            "parameter_missing",
        )
    if "charge" in params:
        charge = store.find("charge", params["charge"], "charge")
    else:
        intent = store.find("payment_intent", params["payment_intent"], "payment_intent")
        latest = store.tables["charge"].get(intent["latest_charge"] or "")
        if latest is None or not latest["captured"]:
            raise invalid(f"This PaymentIntent ({intent['id']}) does not have a successful charge to refund.")
        charge = latest
    if charge["status"] != "succeeded":
        raise invalid(f"Charge {charge['id']} is not successful and cannot be refunded.", "charge")
    if not charge["captured"]:
        raise invalid(
            f"Charge {charge['id']} is not captured: cancel its PaymentIntent {charge['payment_intent']} instead.",
            "charge",
            "charge_not_refundable",
        )
    return charge


def get_refund(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/refunds/{refund}`"""
    return store.find("refund", ids["refund"], "refund", 404)


def update_refund(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/refunds/{refund}`"""
    refund = get_refund(store, ids, {})
    refund["metadata"] = merged(refund["metadata"], params.get("metadata", {}))
    store.emit("refund.updated", refund)
    return refund


def list_refunds(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/refunds` and `GET /v1/charges/{charge}/refunds`"""
    wanted = {name: params[name] for name in ("charge", "payment_intent") if name in params}
    url = "/v1/refunds"
    if "charge" in ids:
        wanted["charge"] = store.find("charge", ids["charge"], "id", 404)["id"]
        url = f"/v1/charges/{ids['charge']}/refunds"
    return store.page("refund", url, params, lambda each: all(each[name] == wanted[name] for name in wanted))


def get_charge(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/charges/{charge}`"""
    return store.find("charge", ids["charge"], "id", 404)


def update_charge(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/charges/{charge}`"""
    charge = get_charge(store, ids, {})
    previous = {name: copy.deepcopy(charge[name]) for name in params}
    if "metadata" in params:
        charge["metadata"] = merged(charge["metadata"], params["metadata"])
    charge |= {name: value for name, value in params.items() if name != "metadata"}
    store.emit("charge.updated", charge, previous)
    return charge


def list_charges(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/charges`"""
    wanted = {name: params[name] for name in ("customer", "payment_intent") if name in params}
    return store.page("charge", "/v1/charges", params, lambda each: all(each[name] == wanted[name] for name in wanted))


def get_balance_transaction(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/balance_transactions/{transaction}`"""
    return store.find("balance_transaction", ids["transaction"], "id", 404)


def list_balance_transactions(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/balance_transactions`"""
    wanted = {name: params[name] for name in ("currency", "source", "type") if name in params}
    if "source" in wanted and not any(wanted["source"] in table for table in store.tables.values()):
        raise no_such("source", wanted["source"], "source")
    return store.page(
        "balance_transaction",
        "/v1/balance_transactions",
        params,
        lambda each: all(each[name] == wanted[name] for name in wanted),
    )


def get_balance(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/balance`"""
    sums: dict[str, dict[str, int]] = {"available": {}, "pending": {}}
    for line in store.tables["balance_transaction"].values():
        of = sums[line["status"]]
        of[line["currency"]] = of.get(line["currency"], 0) + line["net"]
    parts = {
        status: [
            {"amount": amount, "currency": currency, "source_types": {"card": amount}}
            for currency, amount in sorted((amounts or {"usd": 0}).items())
        ]
        for status, amounts in sums.items()
    }
    return {"object": "balance", "livemode": False} | parts
