"""All payments in figures, for tests that check what must always be true of money."""

from __future__ import annotations

from typing import Any, Final

from .errors import Thing
from .store import Store

_SUMS: Final = ("held", "captured", "refunded", "released", "disputed", "fees", "net")


def totals(store: Store) -> dict[str, Any]:
    """Every intent, and all of them together. Amounts are cents, whatever their currency."""
    shown = [_intent(store, intent) for intent in store.tables["payment_intent"].values()]
    figures = {name: sum(each[name] for each in shown) for name in _SUMS if name not in ("held", "net")}
    figures["held"] = sum(each["capturable"] for each in shown)
    figures["net"] = sum(line["net"] for line in store.tables["balance_transaction"].values())
    customers = store.tables["customer"].values()
    methods = store.tables["payment_method"].values()
    return {
        "now": store.now,
        "intents": shown,
        "totals": {"intents": len(shown)} | figures,
        "customers": sum(not customer.get("deleted") for customer in customers),
        "payment_methods": sum(method["customer"] is not None for method in methods),
        "events": len(store.tables["event"]),
    }


def _intent(store: Store, intent: Thing) -> dict[str, Any]:
    charges = [each for each in store.tables["charge"].values() if each["payment_intent"] == intent["id"]]
    refunds = [each for each in store.tables["refund"].values() if each["payment_intent"] == intent["id"]]
    disputes = [each for each in store.tables["dispute"].values() if each["payment_intent"] == intent["id"]]
    sources = {each["id"] for each in (*charges, *refunds, *disputes)}
    lines = [line for line in store.tables["balance_transaction"].values() if line["source"] in sources]
    moved = [each for each in refunds if each["balance_transaction"] and each["status"] != "failed"]
    before = [charge["payment_method_details"]["card"].get("capture_before") for charge in charges]
    return {
        "id": intent["id"],
        "status": intent["status"],
        "amount": intent["amount"],
        "capturable": intent["amount_capturable"],
        "received": intent["amount_received"],
        "captured": sum(charge["amount_captured"] for charge in charges),
        "refunded": sum(each["amount"] for each in moved),
        "released": sum(each["amount"] for each in refunds if not each["balance_transaction"]),
        "disputed": sum(each["amount"] for each in disputes if each["status"] != "won"),
        "fees": sum(line["fee"] for line in lines),
        "customer": intent["customer"],
        "payment_method": intent["payment_method"],
        "metadata": dict(intent["metadata"]),
        "capture_before": next((moment for moment in before if moment), None),
        "charges": [charge["id"] for charge in charges],
        "refunds": [each["id"] for each in refunds],
    }
