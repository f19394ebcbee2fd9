"""Disputes: a cardholder wants the money back through their bank. https://docs.stripe.com/api/disputes"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from .charges import book
from .errors import Thing, invalid
from .params import PAGE, Group, Metadata, Shape, Span, Text, Truth, merged, refused
from .store import DAY_S, Store

_FEE: Final = 1500
_EVIDENCE_S: Final = 7 * DAY_S
_OVER: Final = ("won", "lost")
REASONS: Final = ("duplicate", "fraudulent", "general", "product_not_received", "unrecognized")
# Stripe decides a test dispute by these words.
_WORDS: Final = {"winning_evidence": "won", "losing_evidence": "lost"}
_EVIDENCE: Final = (
    "access_activity_log",
    "cancellation_rebuttal",
    "customer_communication",
    "customer_email_address",
    "customer_name",
    "customer_purchase_ip",
    "product_description",
    "refund_policy_disclosure",
    "refund_refusal_explanation",
    "service_date",
    "service_documentation",
    "uncategorized_text",
)
UPDATE: Final[Shape] = {
    "evidence": Group({name: Text(most=20_000, clearable=True) for name in _EVIDENCE}),
    "metadata": Metadata(),
    "submit": Truth(),
    **refused("intended_submission_method"),
}
LIST: Final[Shape] = {
    **PAGE,
    "charge": Text(most=255),
    "created": Span(),
    "payment_intent": Text(most=255),
}


def open_dispute(store: Store, charge: Thing, reason: str, amount: int) -> Thing:
    """The bank takes the money back, and a fee, until it is decided.

    Raises:
        ApiError: nothing was captured, or it is disputed already.
    """
    if not charge["captured"]:
        raise invalid(f"Charge {charge['id']} is not captured; nothing can be disputed.", "charge")
    if charge["disputed"]:
        raise invalid(f"Charge {charge['id']} is disputed already.", "charge", "charge_disputed")
    if not 1 <= amount <= charge["amount_captured"]:
        raise invalid(f"Between 1 and {charge['amount_captured']} can be disputed.", "amount")
    dispute = store.new(
        "dispute",
        {
            "amount": amount,
            "balance_transactions": [],
            "charge": charge["id"],
            "currency": charge["currency"],
            "enhanced_eligibility_types": [],
            "evidence": dict.fromkeys(_EVIDENCE) | {"enhanced_evidence": {}},
            "evidence_details": {
                "due_by": store.now + _EVIDENCE_S,
                "enhanced_eligibility": {},
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
                "submission_method": "not_submitted",
            },
            "is_charge_refundable": False,
            "metadata": {},
            "payment_intent": charge["payment_intent"],
            "payment_method_details": {
                "card": {
                    "brand": charge["payment_method_details"]["card"]["brand"],
                    "case_type": "chargeback",
                    "network": charge["payment_method_details"]["card"]["network"],
                    "network_reason_code": "10.4",
                },
                "type": "card",
            },
            "reason": reason,
            "status": "needs_response",
        },
    )
    dispute["balance_transactions"].append(copy.deepcopy(book(store, dispute, -amount, "adjustment", _FEE)))
    charge["disputed"] = True
    store.emit("charge.dispute.created", dispute)
    store.emit("charge.dispute.funds_withdrawn", dispute)
    return dispute


def end_dispute(store: Store, dispute: Thing, status: str) -> Thing:
    """The bank has decided: won brings the money back.

    Raises:
        ApiError: it is over already.
    """
    if dispute["status"] in _OVER:
        raise invalid(f"This dispute is already closed ({dispute['status']}).", None, "dispute_already_closed")
    dispute["status"] = status
    if status == "won":
        dispute["is_charge_refundable"] = True
        line = book(store, dispute, dispute["amount"], "adjustment")
        dispute["balance_transactions"].append(copy.deepcopy(line))
        store.emit("charge.dispute.funds_reinstated", dispute)
    store.emit("charge.dispute.closed", dispute)
    return dispute


def get_dispute(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/disputes/{dispute}`"""
    return store.find("dispute", ids["dispute"], "dispute", 404)


def update_dispute(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/disputes/{dispute}`: evidence"""
    dispute = get_dispute(store, ids, {})
    if dispute["status"] in _OVER:
        raise invalid(f"This dispute is already closed ({dispute['status']}).", None, "dispute_already_closed")
    dispute["evidence"] |= params.get("evidence", {})
    dispute["metadata"] = merged(dispute["metadata"], params.get("metadata", {}))
    details = dispute["evidence_details"]
    details["has_evidence"] = any(dispute["evidence"].values())
    submitted = "evidence" in params and params.get("submit", True)
    if submitted:
        details |= {"submission_count": details["submission_count"] + 1, "submission_method": "manual"}
        dispute["status"] = "under_review"
    store.emit("charge.dispute.updated", dispute)
    if submitted and (status := _WORDS.get(dispute["evidence"]["uncategorized_text"] or "")):
        end_dispute(store, dispute, status)
    return dispute


def close_dispute(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`POST /v1/disputes/{dispute}/close`: the money is given up"""
    return end_dispute(store, get_dispute(store, ids, {}), "lost")


def list_disputes(store: Store, ids: Mapping[str, str], params: dict[str, Any]) -> Thing:
    """`GET /v1/disputes`"""
    wanted = {name: params[name] for name in ("charge", "payment_intent") if name in params}
    return store.page(
        "dispute", "/v1/disputes", params, lambda each: all(each[name] == wanted[name] for name in wanted)
    )
